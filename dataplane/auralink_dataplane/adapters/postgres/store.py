"""Records in PostgreSQL: a batch is written, partitions are made and dropped.

Round trips of a batch: one per table that it has rows for, and one more where it is the first with rows of a new day.
Beside that, a few per statement that a connection has not prepared yet, and, for a record that the server refuses, two
per halving of its table's part of the batch, until it stands alone.

No transaction spans the tables of a batch. Each row is found by its natural key, so a batch that was written in part is
written again as a whole.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from auralink_dataplane.adapters.postgres.connections import Connection, DatabaseError, Fault, Pool, Target, translated
from auralink_dataplane.adapters.postgres.queries import Queries, Query, load_queries
from auralink_dataplane.adapters.postgres.rows import TABLES, Table, columns_of, day_of, table_of
from auralink_dataplane.adapters.postgres.schema import load_migrations
from auralink_dataplane.rooms.spool import Entry

log = logging.getLogger(__name__)

DAYS_AHEAD: Final = 7
"""So long records find their partitions without anybody making them."""
MAX_KNOWN_DAYS: Final = 10_000
DAY_NOT_KEPT: Final = "day_not_kept"
"""Older than the table's retention, or further ahead than clocks differ."""


@dataclass(frozen=True, slots=True)
class Aside:
    """A record that the database will never take. `reason`: an SQLSTATE, "encoding" or DAY_NOT_KEPT."""

    entry: Entry
    reason: str


class RecordStore:
    def __init__(self, pool: Pool, queries: Queries, *, bridge: str, pod: str) -> None:
        self._pool = pool
        self._queries = queries
        self._bridge = bridge
        self._pod = pod
        self._days: set[tuple[str, date]] = set()

    @classmethod
    async def open(cls, target: Target, *, bridge: str, pod: str) -> "RecordStore":
        """Connects to nothing yet. `bridge`: "<namespace>/<name>". Raises QueryError, MigrationError."""
        queries = load_queries()
        pool = Pool(target)
        await pool.open()
        return cls(pool, queries, bridge=bridge, pod=pod)

    @property
    def connections(self) -> tuple[int, int]:
        """In use, and not in use."""
        return self._pool.active, self._pool.idle

    def close(self) -> None:
        self._pool.terminate()

    async def check(self) -> None:
        """Whether the schema has what this version needs; more is fine, for the next version's comes before its pods.
        Raises DatabaseError."""
        async with self._pool.connection() as connection:
            if not await connection.fetchval(self._queries[Query.MIGRATIONS_EXIST]):
                raise DatabaseError(
                    Fault.SERVER, "schema", "there is none yet: run python -m auralink_dataplane.migrate"
                )
            applied = await connection.fetch(self._queries[Query.SELECT_MIGRATIONS])
        needed = {one.version for one in load_migrations() if one.phase == "pre"}
        if missing := sorted(needed - {row["version"] for row in applied}):
            raise DatabaseError(
                Fault.SERVER, "schema", f"lacks migration {missing[0]}: run python -m auralink_dataplane.migrate"
            )

    async def write(self, batch: Sequence[Entry]) -> list[Aside]:
        """All of it but for what comes back. Raises DatabaseError where the server is at fault; then any part of the
        batch may be written, and all of it is to be sent again."""
        async with self._pool.connection() as connection:
            aside = await self._make_partitions(connection, batch)
            refused = {one.entry.number for one in aside}
            for table in TABLES:
                part = [one for one in batch if one.number not in refused and table_of(one.record) is table]
                if part:
                    aside += await self._write(connection, table, part)
        return aside

    async def maintain(self) -> tuple[str, ...]:
        """Makes the partitions of the days to come and drops those past their retention, whose names it answers. Every
        pod does so now and then. Raises DatabaseError."""
        async with self._pool.connection() as connection:
            return await maintain(connection, self._queries)

    async def _make_partitions(self, connection: Connection, batch: Sequence[Entry]) -> list[Aside]:
        days = [(table_of(entry.record).name, day_of(entry.record)) for entry in batch]
        new = sorted(set(days) - self._days)
        if not new:
            return []
        parents, dates = [parent for parent, _ in new], [day for _, day in new]
        answer = await connection.fetch(self._queries[Query.MAKE_PARTITIONS], parents, dates)
        not_kept = {(row["parent"], row["day"]) for row in answer}
        if len(self._days) > MAX_KNOWN_DAYS:
            self._days.clear()
        self._days.update(set(new) - not_kept)
        return [Aside(entry, DAY_NOT_KEPT) for entry, day in zip(batch, days, strict=True) if day in not_kept]

    async def _write(self, connection: Connection, table: Table, part: Sequence[Entry]) -> list[Aside]:
        fixed = (self._bridge, self._pod) if table.with_pod else (self._bridge,)
        columns = columns_of(table, (entry.record for entry in part))
        try:
            await connection.execute(self._queries[table.query], *fixed, *columns)
        except Exception as error:
            cause = translated(error)
            if not isinstance(cause, DatabaseError) or cause.fault is Fault.SERVER:
                raise
            if len(part) == 1:
                return [Aside(part[0], cause.reason)]
        else:
            return []
        half = len(part) // 2
        return [*await self._write(connection, table, part[:half]), *await self._write(connection, table, part[half:])]


async def maintain(connection: Connection, queries: Queries) -> tuple[str, ...]:
    """As `RecordStore.maintain`, also for whoever migrates."""
    await connection.execute(queries[Query.MAKE_PARTITIONS_AHEAD], DAYS_AHEAD)
    expired = await connection.fetch(queries[Query.SELECT_EXPIRED_PARTITIONS])
    return tuple(
        [
            row["partition"]
            for row in expired
            if await connection.fetchval(queries[Query.DROP_PARTITION], row["partition"])
        ]
    )


async def set_retention(connection: Connection, queries: Queries, *, days: int | None, audit_days: int | None) -> None:
    """Of the whole database. None leaves it as it is."""
    await connection.execute(queries[Query.SET_RETENTION], audit_days, days)
