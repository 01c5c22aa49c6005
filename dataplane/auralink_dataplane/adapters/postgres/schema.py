"""The schema and how it changes: files `migrations/<YYYYMMDDNN>_<pre|post>_<name>.sql`, each run once, in order.

Two versions of the code use one schema for a while. A *pre* migration runs before the roll-out of the version that
brings it, and must leave the older code working: it adds and never takes away. A *post* migration runs after it; since
bridges are rolled out in the operator's own time, it takes away only what the version before did not use any more
either. A database that nothing was applied to has no pods and gets them all.

Whoever migrates holds an advisory lock of the session; who comes second waits, and finds nothing to do. It needs a
connection to the server itself, or to a pooler that keeps sessions. Each migration is a transaction, together with the
row that says that it was applied, with its checksum; so none may end its transaction itself.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, Literal, cast

from auralink_dataplane.adapters.postgres.connections import Connection, DatabaseError, translated
from auralink_dataplane.adapters.postgres.queries import Queries, Query

Phase = Literal["pre", "post"]

_FILE: Final = re.compile(r"^(?P<version>\d{10})_(?P<phase>pre|post)_(?P<name>[a-z0-9_]+)\.sql$")


class MigrationError(Exception):
    """The database and the files do not go together, or a migration failed. The message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    phase: Phase
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.version}_{self.phase}_{self.name}"


@dataclass(frozen=True, slots=True)
class Applied:
    version: int
    name: str
    checksum: str


def load_migrations() -> tuple[Migration, ...]:
    """Raises MigrationError."""
    folder = files(__package__) / "migrations"
    return parse_migrations((one.name, one.read_text(encoding="utf-8")) for one in folder.iterdir())


def parse_migrations(named: Iterable[tuple[str, str]]) -> tuple[Migration, ...]:
    """By version. Raises MigrationError: a name of another form, a version that stands twice."""
    found: dict[int, Migration] = {}
    for file, sql in named:
        match = _FILE.match(file)
        if match is None:
            raise MigrationError(f"{file}: must be named <YYYYMMDDNN>_<pre|post>_<name>.sql")
        one = Migration(int(match["version"]), cast(Phase, match["phase"]), match["name"], sql)
        if other := found.get(one.version):
            raise MigrationError(f"{one} and {other} have the same version: number one of them anew")
        found[one.version] = one
    return tuple(found[version] for version in sorted(found))


def pending(known: Sequence[Migration], applied: Sequence[Applied], phase: Phase) -> tuple[Migration, ...]:
    """What to run now, in order. Raises MigrationError: a schema newer than the code, an applied file that was changed,
    one that follows another of the other phase which has not run."""
    by_version = {one.version: one for one in known}
    for row in applied:
        one = by_version.get(row.version)
        if one is None:
            raise MigrationError(
                f"the schema has migration {row.version} ({row.name}), which this version does not know: "
                "it is of a newer one; use that one's image"
            )
        if one.checksum != row.checksum:
            raise MigrationError(
                f"{one} was changed after it had been applied: restore the file, and write a new migration"
            )
    done = {row.version for row in applied}
    missing = [one for one in known if one.version not in done]
    if not applied:
        return tuple(missing)
    chosen = tuple(one for one in missing if one.phase == phase)
    for one in chosen:
        for earlier in missing:
            if earlier.phase != phase and earlier.version < one.version:
                raise MigrationError(f"{one} follows {earlier}, which has not run: run phase {earlier.phase} first")
    return chosen


async def applied_migrations(connection: Connection, queries: Queries) -> tuple[Applied, ...]:
    """None where there is no schema yet."""
    if not await connection.fetchval(queries[Query.MIGRATIONS_EXIST]):
        return ()
    rows = await connection.fetch(queries[Query.SELECT_MIGRATIONS])
    return tuple(Applied(row["version"], row["name"], row["checksum"]) for row in rows)


async def migrate(
    connection: Connection,
    queries: Queries,
    known: Sequence[Migration],
    phase: Phase,
    tell: Callable[[Migration], None] = lambda _: None,
) -> tuple[Migration, ...]:
    """What it ran. The lock is held until the connection is closed; `tell` hears of each migration before it runs.
    Raises MigrationError; what ran before the one that failed stays, and is not run again. Raises DatabaseError, also
    where the lock does not come within the session's lock_timeout."""
    await connection.fetchval(queries[Query.LOCK_MIGRATIONS])
    todo = pending(known, await applied_migrations(connection, queries), phase)
    if todo:
        await _prepare(connection, queries)
    for one in todo:
        tell(one)
        await _run(connection, queries, one)
    return todo


async def _prepare(connection: Connection, queries: Queries) -> None:
    """The schema may be there already, where a role may not make one in its database."""
    if not await connection.fetchval(queries[Query.SCHEMA_EXISTS]):
        await connection.execute(queries[Query.CREATE_SCHEMA])
    if not await connection.fetchval(queries[Query.MIGRATIONS_EXIST]):
        await connection.execute(queries[Query.CREATE_MIGRATIONS])


async def _run(connection: Connection, queries: Queries, one: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(queries[Query.LIMIT_LOCKS])
            await connection.execute(one.sql)
            _check_transaction(connection, one)
            await connection.execute(queries[Query.INSERT_MIGRATION], one.version, one.phase, one.name, one.checksum)
    except MigrationError:
        raise
    except Exception as error:
        cause = translated(error)
        if not isinstance(cause, DatabaseError):
            raise
        raise MigrationError(f"{one} failed, and nothing of it was kept: {cause}") from error


def _check_transaction(connection: Connection, one: Migration) -> None:
    if not connection.is_in_transaction():
        raise MigrationError(f"{one} ended its transaction: a migration may not")
