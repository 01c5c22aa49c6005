"""What tests of records share: a database of a test's own, and what writes to it."""

import asyncio
import contextlib
import random
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from typing import Any

import pytest
from auralink_dataplane.adapters.postgres import (
    RecordStore,
    RecordWriter,
    Target,
)
from auralink_dataplane.rooms.records import (
    Record,
)
from auralink_dataplane.rooms.spool import Bounds, Entry

from tests.integration.postgres_server import PASSWORD, USER, PostgresServer, a_postgres

TEMPLATE = "migrated"
_names = count()
DAY_MS = 86_400_000


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all of them; without PostgreSQL they are skipped by name."""
    with a_postgres() as found:
        asyncio.run(found.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'"))
        asyncio.run(found.create_database(TEMPLATE))
        done = found.migration(TEMPLATE)
        said, complaint = done.communicate(timeout=60)
        assert done.returncode == 0, said + complaint
        yield found


@pytest.fixture
async def database(postgres: PostgresServer) -> str:
    """A migrated one of the test's own."""
    return await postgres.create_database(f"records_{next(_names)}", TEMPLATE)


@pytest.fixture
async def empty_database(postgres: PostgresServer) -> str:
    return await postgres.create_database(f"empty_{next(_names)}")


@pytest.fixture
async def record_store(postgres: PostgresServer, database: str) -> AsyncIterator[RecordStore]:
    async with a_store(postgres.target(database)) as found:
        yield found


@contextlib.asynccontextmanager
async def a_store(target: Target) -> AsyncIterator[RecordStore]:
    found = await RecordStore.open(target, bridge="ns/b", pod="p-1")
    try:
        yield found
    finally:
        found.close()


@contextlib.asynccontextmanager
async def a_writer(store: RecordStore, **bounds: float) -> AsyncIterator[RecordWriter]:
    writer = RecordWriter(store, clock=time.monotonic, jitter=random.random, bounds=Bounds(**bounds))  # type: ignore[arg-type]
    task = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def entries(*records: Record) -> list[Entry]:
    return [Entry(number, record, 0, 0.0) for number, record in enumerate(records)]


def now_ms() -> int:
    return int(time.time() * 1000)


async def wait_until(true: Callable[[], Awaitable[bool] | bool], limit_s: float = 30.0) -> None:
    async with asyncio.timeout(limit_s):
        while True:
            found = true()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.05)


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    said, complaint = process.communicate(timeout=60)
    return process.returncode, said, complaint


async def contents(postgres: PostgresServer, database: str) -> dict[str, list[tuple[Any, ...]]]:
    tables = ("rooms", "sessions", "participants", "qos_history", "compression_statistics", "audit")
    return {table: await postgres.rows(database, f"SELECT * FROM auralink.{table}") for table in tables}  # noqa: S608
