"""Partitions of records in a real PostgreSQL: made ahead, dropped after their time, by many pods at once."""

import asyncio
import contextlib
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from auralink_dataplane.adapters.postgres import (
    DatabaseError,
    Fault,
    RecordStore,
    connected,
    load_queries,
    set_retention,
)
from auralink_dataplane.adapters.postgres.store import DAY_NOT_KEPT
from auralink_dataplane.rooms.records import (
    AuditEntry,
    QosSample,
)

from tests.integration.postgres_bench import DAY_MS, a_store, contents, ended, entries, now_ms
from tests.integration.postgres_server import PostgresServer
from tests.unit.dataplane.rooms_records import one_of_each


async def partitions(postgres: PostgresServer, database: str, table: str) -> list[str]:
    sql = "SELECT partition FROM auralink.partitions WHERE parent = $1 ORDER BY 1"
    return [name for (name,) in await postgres.rows(database, sql, table)]


async def test_partitions_are_made_ahead_of_their_days(postgres: PostgresServer, database: str) -> None:
    today = datetime.now(UTC).date()
    days = [f"qos_history_{today + timedelta(days=ahead):%Y%m%d}" for ahead in range(8)]
    assert await partitions(postgres, database, "qos_history") == days
    months = {f"rooms_{today + timedelta(days=ahead):%Y%m}" for ahead in range(8)}
    assert await partitions(postgres, database, "rooms") == sorted(months)


async def test_old_partitions_are_dropped_and_new_rows_stay(
    postgres: PostgresServer, database: str, record_store: RecordStore
) -> None:
    ms, ages = now_ms(), (0, 1, 9, 10, 11, 12, 80)
    samples = [QosSample(UUID(int=age), ms - age * DAY_MS, 0.0) for age in ages]
    audits = [AuditEntry(UUID(int=age), ms - age * DAY_MS, "a", "b") for age in ages]
    assert await record_store.write(entries(*samples, *audits)) == []
    async with connected(postgres.target(database)) as connection:
        await set_retention(connection, load_queries(), days=10, audit_days=None)
    today = datetime.now(UTC).date()
    gone = [f"qos_history_{today - timedelta(days=age):%Y%m%d}" for age in (80, 12, 11)]
    assert [name for name in await record_store.maintain() if name.startswith("qos")] == gone
    left = await postgres.rows(database, "SELECT participant_id FROM auralink.qos_history ORDER BY 1")
    assert [who.int for (who,) in left] == [0, 1, 9, 10]
    assert len(await postgres.rows(database, "SELECT 1 FROM auralink.audit")) == len(ages)
    assert await record_store.maintain() == ()


async def test_a_record_of_a_day_that_is_not_kept_is_set_aside(
    postgres: PostgresServer, database: str, record_store: RecordStore
) -> None:
    ms = now_ms()
    times = {"old": ms - 92 * DAY_MS, "kept": ms - 89 * DAY_MS, "soon": ms + 30 * DAY_MS, "never": ms + 40 * DAY_MS}
    batch = entries(*(QosSample(uuid4(), at, 0.0) for at in times.values()))
    aside = await record_store.write(batch)
    assert [(list(times)[one.entry.number], one.reason) for one in aside] == [
        ("old", DAY_NOT_KEPT), ("never", DAY_NOT_KEPT),
    ]  # fmt: skip
    assert len(await postgres.rows(database, "SELECT 1 FROM auralink.qos_history")) == 2


async def test_a_record_whose_partition_was_dropped_meanwhile_is_set_aside(
    postgres: PostgresServer, database: str, record_store: RecordStore
) -> None:
    old = now_ms() - 50 * DAY_MS
    assert await record_store.write(entries(QosSample(UUID(int=1), old, 0.0))) == []
    async with connected(postgres.target(database)) as connection:
        await set_retention(connection, load_queries(), days=10, audit_days=10)
    await record_store.maintain()
    (aside,) = await record_store.write(
        entries(QosSample(UUID(int=2), old, 0.0), QosSample(UUID(int=3), now_ms(), 0.0))
    )
    assert (aside.entry.number, aside.reason) == (0, "23514")


async def test_many_pods_make_the_same_partitions_and_write_the_same_rows_at_once(
    postgres: PostgresServer, database: str
) -> None:
    ms = now_ms()
    records = [r for age in range(20, 30) for r in one_of_each(ms - age * DAY_MS)]
    async with contextlib.AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(a_store(postgres.target(database))) for _ in range(8)]
        shuffled = [random.Random(number).sample(records, len(records)) for number in range(8)]  # noqa: S311
        results = await asyncio.gather(
            *(store.write(entries(*some)) for store, some in zip(stores, shuffled, strict=True))
        )
    assert results == [[]] * 8
    assert {table: len(rows) for table, rows in (await contents(postgres, database)).items()} == dict.fromkeys(
        ("rooms", "sessions", "participants", "qos_history", "compression_statistics", "audit"), 10
    )


async def test_the_migration_sets_how_long_records_stay(postgres: PostgresServer, database: str) -> None:
    sql = "SELECT parent, retention_days FROM auralink.partitioned"
    assert ended(postgres.migration(database, "--retention-days=7"))[0] == 0
    assert dict(await postgres.rows(database, sql)) == {
        "rooms": 7, "sessions": 7, "participants": 7, "qos_history": 7, "compression_statistics": 7, "audit": 365,
    }  # fmt: skip
    assert ended(postgres.migration(database, "--audit-retention-days=30"))[0] == 0
    assert dict(await postgres.rows(database, sql))["audit"] == 30
    assert ended(postgres.migration(database, "--retention-days=0"))[0] == 2


async def test_a_reader_of_an_old_partition_delays_its_end_and_no_writer(
    postgres: PostgresServer, database: str, record_store: RecordStore
) -> None:
    await record_store.write(entries(QosSample(UUID(int=1), now_ms() - 50 * DAY_MS, 0.0)))
    async with connected(postgres.target(database)) as connection:
        await set_retention(connection, load_queries(), days=10, audit_days=10)
    reader = await postgres.connect(database)
    try:
        async with reader.transaction():
            await reader.fetch("SELECT * FROM auralink.qos_history")
            with pytest.raises(DatabaseError) as caught:
                await record_store.maintain()
            assert (caught.value.fault, caught.value.reason) == (Fault.SERVER, "55P03")
            assert await record_store.write(entries(QosSample(UUID(int=2), now_ms(), 0.0))) == []
    finally:
        await reader.close()
    assert len(await record_store.maintain()) >= 1
