"""The SQL of this package, by name: `queries.sql` has each statement under a line `-- name: <name>`.

What the code asks for and what the file has are compared when it is read, so that a misspelt name fails at the start
and not with the first record.
"""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from importlib.resources import files
from typing import Final

_HEADER: Final = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


class Query(StrEnum):
    WRITE_ROOMS = "write_rooms"
    WRITE_SESSIONS = "write_sessions"
    WRITE_PARTICIPANTS = "write_participants"
    WRITE_QOS_HISTORY = "write_qos_history"
    WRITE_COMPRESSION_STATISTICS = "write_compression_statistics"
    WRITE_AUDIT = "write_audit"
    MAKE_PARTITIONS = "make_partitions"
    MAKE_PARTITIONS_AHEAD = "make_partitions_ahead"
    SELECT_EXPIRED_PARTITIONS = "select_expired_partitions"
    DROP_PARTITION = "drop_partition"
    SET_RETENTION = "set_retention"
    LOCK_MIGRATIONS = "lock_migrations"
    LIMIT_LOCKS = "limit_locks"
    SCHEMA_EXISTS = "schema_exists"
    CREATE_SCHEMA = "create_schema"
    MIGRATIONS_EXIST = "migrations_exist"
    CREATE_MIGRATIONS = "create_migrations"
    SELECT_MIGRATIONS = "select_migrations"
    INSERT_MIGRATION = "insert_migration"


Queries = Mapping[Query, str]


class QueryError(Exception):
    """The file and the code do not fit together: our fault."""


def load_queries() -> Queries:
    """Raises QueryError."""
    return parse_queries((files(__package__) / "queries.sql").read_text(encoding="utf-8"))


def parse_queries(text: str) -> Queries:
    """Raises QueryError: a name that stands twice, is missing, empty, or that nobody asks for."""
    found: dict[str, str] = {}
    for name, sql in _statements(text):
        if name in found:
            raise QueryError(f"query {name} stands twice")
        if not re.sub(r"--[^\n]*", "", sql).strip():
            raise QueryError(f"query {name} is empty")
        found[name] = sql
    if missing := sorted(set(Query) - set(found)):
        raise QueryError(f"query {missing[0]} is missing")
    if unknown := sorted(set(found) - set(Query)):
        raise QueryError(f"nobody asks for query {unknown[0]}")
    return {query: found[query] for query in Query}


def _statements(text: str) -> Iterator[tuple[str, str]]:
    headers = [*_HEADER.finditer(text)]
    ends = [*(header.start() for header in headers[1:]), len(text)]
    for header, end in zip(headers, ends, strict=True):
        yield header[1], text[header.end() : end].strip()
