"""Records in a real PostgreSQL: every kind, replay, names of all sorts, poison, outages, TLS and passwords."""

import asyncio
import contextlib
import subprocess
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from auralink_dataplane.adapters.postgres import (
    DatabaseError,
    Fault,
    RecordStore,
    Target,
    connected,
    load_queries,
)
from auralink_dataplane.rooms.events import Side
from auralink_dataplane.rooms.records import (
    AuditEntry,
    CompressionSample,
    ParticipantJoined,
    ParticipantLeft,
    QosSample,
    Record,
    RoomOpened,
    kind_of,
)

from tests.integration.postgres_bench import TEMPLATE, a_store, a_writer, contents, ended, entries, now_ms, wait_until
from tests.integration.postgres_server import PASSWORD, TLS_ONLY, USER, PostgresServer
from tests.unit.dataplane.rooms_records import ENTRY, PARTICIPANT, ROOM, SESSION, one_of_each


async def test_a_record_of_each_kind_lands_and_sent_again_it_makes_no_second_row(
    postgres: PostgresServer, database: str, record_store: RecordStore
) -> None:
    ms = now_ms()
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    expected = {
        "rooms": [(ROOM, at, "ns/b", "standup", at + timedelta(seconds=9), "empty")],
        "sessions": [
            (SESSION, at, "ns/b", "p-1", ROOM, "in", "video", "VP8", at + timedelta(seconds=8), 9000, 5000, "left")
        ],
        "participants": [
            (PARTICIPANT, at, "ns/b", ROOM, "jitsi", "Ann", "ann@example.com", at + timedelta(seconds=8), "hung up")
        ],
        "qos_history": [(PARTICIPANT, at, "ns/b", 0.5, 12.0, 40.0, 1500.0, 4.25)],
        "compression_statistics": [(SESSION, at, "ns/b", 100, 90, 2, 90_000, 50_000, 7.5)],
        "audit": [(ENTRY, at, "ns/b", "operator", "drain", "pod-1", '{"why": "rollout"}')],
    }
    whole = entries(*one_of_each(ms))
    assert await record_store.write(whole) == []
    assert await contents(postgres, database) == expected
    assert await record_store.write(whole) == []
    for entry in reversed(whole):  # one by one, and ends before beginnings
        assert await record_store.write([entry]) == []
    assert await contents(postgres, database) == expected


async def test_an_end_that_comes_before_its_beginning_is_the_same_row(
    postgres: PostgresServer, database: str, record_store: RecordStore
) -> None:
    ms = now_ms()
    for record in reversed(one_of_each(ms)):
        await record_store.write(entries(record))
    found = await contents(postgres, database)
    assert {table: len(rows) for table, rows in found.items()} == dict.fromkeys(found, 1)
    assert found["participants"][0][3:] == (ROOM, "jitsi", "Ann", "ann@example.com", *found["participants"][0][7:])
    assert found["participants"][0][8] == "hung up"


@pytest.mark.parametrize(
    "name", ["'); DROP TABLE auralink.rooms; --", "$1", "\\", '"', "%s {0} ${X}", "\u202eolleh", "\U0001f600" * 100, ""]
)
async def test_a_name_is_a_value_whatever_it_says(
    postgres: PostgresServer, database: str, record_store: RecordStore, name: str
) -> None:
    assert await record_store.write(entries(RoomOpened(ROOM, now_ms(), name))) == []
    assert await postgres.rows(database, "SELECT name FROM auralink.rooms") == [(name,)]


async def test_a_table_or_partition_that_is_none_of_ours_is_never_made_or_dropped(
    postgres: PostgresServer, database: str
) -> None:
    await postgres.execute("CREATE TABLE auralink.other_20000101 (); CREATE TABLE public.rooms_200001 ()", database)
    async with connected(postgres.target(database)) as connection:
        for name in ("other_20000101", "public.rooms_200001", "rooms", "rooms_200001; DROP TABLE auralink.rooms"):
            assert await connection.fetchval(load_queries()["drop_partition"], name) is False  # type: ignore[index]
    with pytest.raises(DatabaseError, match="P0002"):
        async with connected(postgres.target(database)) as connection:
            await connection.fetchval("SELECT auralink.make_partition('x (); DROP TABLE auralink.rooms', now()::date)")


async def test_names_that_postgres_cannot_store_are_cleaned_and_counted(
    postgres: PostgresServer, database: str, record_store: RecordStore
) -> None:
    ms = now_ms()
    async with a_writer(record_store) as writer:
        writer.put(ParticipantJoined(PARTICIPANT, ms, ROOM, Side.LIVEKIT, "A\0n\ud800n", "\udfff"))
        writer.put(AuditEntry(ENTRY, ms, "a\0", "b", details={"k\0": "\ud83d", "quote": '"\\u0000'}))
        assert await writer.flush(30)
        assert writer.counts.cleaned == {"participant_joined": 1, "audit_entry": 1}
        assert not writer.counts.set_aside
    assert await postgres.rows(database, "SELECT name, identity FROM auralink.participants") == [
        ("A\ufffdn\ufffdn", "\ufffd")
    ]
    assert await postgres.rows(
        database, "SELECT actor, details->>$1, details->>'quote' FROM auralink.audit", "k\ufffd"
    ) == [("a\ufffd", "\ufffd", '"\\u0000')]


async def test_what_slips_past_the_cleaning_harms_itself_only(
    postgres: PostgresServer, database: str, record_store: RecordStore
) -> None:
    ms = now_ms()
    bad = ("a\0", "\ud800")
    batch = entries(*(RoomOpened(uuid4(), ms, name) for name in ("one", *bad, "two")))
    aside = await record_store.write(batch)
    assert sorted(one.entry.number for one in aside) == [1, 2]
    assert await postgres.rows(database, "SELECT name FROM auralink.rooms ORDER BY 1") == [("one",), ("two",)]


async def test_a_poison_record_is_set_aside_and_the_rest_of_its_batch_lands(
    postgres: PostgresServer, database: str, record_store: RecordStore
) -> None:
    await postgres.execute("ALTER TABLE auralink.participants ADD CHECK (leave_reason <> 'poison')", database)
    ms = now_ms()
    ids = [UUID(int=number) for number in range(100, 150)]
    async with a_writer(record_store) as writer:
        for who in ids:
            writer.put(ParticipantJoined(who, ms, ROOM, Side.JITSI, "x"))
            writer.put(ParticipantLeft(who, ms, ms, "poison" if who.int in (101, 142) else "bye"))
        writer.put(QosSample(ids[0], ms, loss_percent=250.0))
        writer.put(QosSample(ids[1], ms, mos=1e300))
        writer.put(QosSample(ids[2], ms, loss_percent=25.0))
        writer.put(CompressionSample(SESSION, ms, 1, 2, 0, 0, 0))
        assert await writer.flush(30)
        assert writer.counts.set_aside == {
            ("participant_left", "23514"): 2,
            ("qos_sample", "23514"): 1,
            ("compression_sample", "23514"): 1,
        }
        assert writer.counts.refused == {("qos_sample", "number"): 1}
        assert writer.counts.written == {"participant_joined": 50, "participant_left": 48, "qos_sample": 1}
        assert Counter(kind_of(record) for record, _ in writer.aside)["participant_left"] == 2
    still = await postgres.rows(database, "SELECT count(*), count(left_at) FROM auralink.participants")
    assert still == [(50, 48)]


async def test_a_batch_costs_one_statement_per_table(
    postgres: PostgresServer, database: str, record_store: RecordStore
) -> None:
    """As the server counts them in its log, once the connection knows the statements and their types; and to give it
    back costs none."""
    await postgres.execute(f"ALTER DATABASE \"{database}\" SET log_statement = 'all'")
    ms = now_ms()
    log = postgres.folder / "log"
    said = []
    for batch in (entries(*(r for n in range(50) for r in one_of_each(ms - n))) for _ in range(3)):
        before = len(log.read_text())
        assert await record_store.write(batch) == []
        said.append(log.read_text()[before:])
    assert [text.count("auralink.make_partition(parent, day)") for text in said] == [1, 0, 0]
    assert [text.count("INSERT INTO auralink.") for text in said] == [6, 6, 6]
    assert [text.count(" LOG:  ") for text in said[1:]] == [6, 6]


# --- outages --------------------------------------------------------------------------------------------------


def load(number: int, ms: int) -> Record:
    """Nine samples and an audit entry in ten."""
    who = UUID(int=number + 1)
    return AuditEntry(who, ms, "a", "b") if number % 10 == 0 else QosSample(who, ms, 0.0)


async def written(postgres: PostgresServer, database: str) -> dict[str, set[int]]:
    found = {}
    for table, column in (("qos_history", "participant_id"), ("audit", "entry_id")):
        rows = await postgres.rows(database, f"SELECT {column} FROM auralink.{table}")  # noqa: S608
        found[table] = {who.int - 1 for (who,) in rows}
    return found


async def test_an_outage_under_load_loses_nothing_up_to_the_bound(
    postgres: PostgresServer, database: str, record_store: RecordStore
) -> None:
    """The server crashes while batches are on their way, twice; records go on coming all the time."""
    ms, put = now_ms(), 0

    async def pour(seconds: float) -> None:
        nonlocal put
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for _ in range(20):
                writer.put(load(put, ms))
                put += 1
            await asyncio.sleep(0.01)

    async with a_writer(record_store, batch_records=100, batch_wait_s=0.05) as writer:
        for _ in range(2):
            await pour(0.5)
            await asyncio.gather(pour(1.5), asyncio.to_thread(postgres.stop))
            assert writer.waiting > 0
            await asyncio.gather(pour(1.0), asyncio.to_thread(postgres.start))
        assert await writer.flush(30)
        assert not writer.dropped
        assert not writer.counts.set_aside
        assert sum(writer.counts.written.values()) == put > 1000
        assert writer.problem is None
    found = await written(postgres, database)
    assert found["audit"] == set(range(0, put, 10))
    assert found["qos_history"] == set(range(put)) - found["audit"]


async def test_beyond_the_bound_the_oldest_samples_are_dropped_and_the_count_is_exact(
    postgres: PostgresServer, database: str, record_store: RecordStore
) -> None:
    ms = now_ms()
    async with a_writer(record_store, records=200) as writer:
        writer.put(load(1, ms))
        assert await writer.flush(30)
        await asyncio.to_thread(postgres.stop)
        try:
            for number in range(1000, 2000):
                writer.put(load(number, ms))
                if number % 100 == 0:
                    await asyncio.sleep(0.02)
            await wait_until(lambda: writer.problem is not None)
            assert writer.waiting == 200
            assert writer.dropped == {"qos_sample": 800}
        finally:
            await asyncio.to_thread(postgres.start)
        assert await writer.flush(30)
        assert writer.counts.written == {"qos_sample": 101, "audit_entry": 100}
    found = await written(postgres, database)
    assert found["audit"] == set(range(1000, 2000, 10))
    assert len(found["qos_history"]) == 101
    samples = [number for number in range(1000, 2000) if number % 10]
    # A batch that was on its way when the server went is not dropped; all else that is left is the newest.
    assert {1, *samples[-50:]} <= found["qos_history"]


async def test_a_pod_starts_without_its_database_and_writes_when_it_is_there(
    postgres: PostgresServer, database: str, record_store: RecordStore
) -> None:
    await asyncio.to_thread(postgres.stop, "fast")
    try:
        async with a_writer(record_store) as writer:
            writer.put(RoomOpened(ROOM, now_ms(), "early"))
            await wait_until(lambda: writer.problem is not None)
            assert record_store.connections == (0, 0)
            assert not await writer.flush(1.2)
            assert writer.waiting == 1
            await asyncio.to_thread(postgres.start)
            assert await writer.flush(30)
    finally:
        with contextlib.suppress(RuntimeError):
            await asyncio.to_thread(postgres.start)
    assert await postgres.rows(database, "SELECT name FROM auralink.rooms") == [("early",)]


async def test_a_server_that_does_not_answer_is_given_up_and_nothing_is_lost(
    postgres: PostgresServer, database: str, record_store: RecordStore
) -> None:
    """A table that somebody locks for long: the server ends the statement, the batch waits."""
    locker = await postgres.connect(database)
    await postgres.execute(f'ALTER DATABASE "{database}" SET lock_timeout = 0')
    async with a_writer(record_store, batch_wait_s=0.0) as writer:
        writer.put(RoomOpened(ROOM, now_ms(), "first"))
        assert await writer.flush(30)
        async with locker.transaction():
            await locker.execute("LOCK TABLE auralink.rooms IN ACCESS EXCLUSIVE MODE")
            writer.put(RoomOpened(ROOM, now_ms(), "second"))
            await wait_until(lambda: writer.problem is not None)
            assert writer.problem is not None
            assert writer.problem.startswith(("55P03", "57014"))
            assert writer.waiting == 1
        assert await writer.flush(30)
    await locker.close()
    assert len(await postgres.rows(database, "SELECT 1 FROM auralink.rooms")) == 2


# --- who may come in -----------------------------------------------------------------------------------------


async def test_with_tls_the_certificate_is_checked_and_the_password_goes_by_scram(postgres: PostgresServer) -> None:
    await postgres.create_database(TLS_ONLY, TEMPLATE)
    ((stored,),) = await postgres.rows("postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = $1", USER)
    assert stored.startswith("SCRAM-SHA-256$")
    async with a_store(postgres.target(TLS_ONLY, tls=True)) as store:
        await store.check()
        assert await store.write(entries(*one_of_each(now_ms()))) == []
        sql = "SELECT s.version FROM pg_stat_ssl s JOIN pg_stat_activity USING (pid) WHERE datname = $1 AND ssl"
        assert await postgres.rows("postgres", sql, TLS_ONLY) == [("TLSv1.3",)]
    ca = postgres.folder / "ca.crt"
    done = postgres.migration(TLS_ONLY, DATABASE_TLS="true", DATABASE_CA_FILE=str(ca))
    assert ended(done) == (0, "nothing to do in phase pre\n", "")


async def test_who_is_not_who_it_says_is_refused_and_said_so(postgres: PostgresServer, database: str) -> None:
    other = postgres.folder / "other"
    other.mkdir(exist_ok=True)
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -keyout key -out crt -subj /CN=other"
    await asyncio.to_thread(subprocess.run, command.split(), cwd=other, check=True, capture_output=True)
    attempts = {
        "tls": postgres.target(database, tls=True, ca=(other / "crt").read_text()),
        "28P01": postgres.target(database, password=f"not {PASSWORD}"),
        "3D000": postgres.target("nowhere"),
    }
    for reason, target in attempts.items():
        async with a_store(target) as store:
            with pytest.raises(DatabaseError) as caught:
                await store.check()
            assert (caught.value.fault, caught.value.reason) == (Fault.SERVER, reason)
            assert PASSWORD not in str(caught.value)


async def test_without_tls_a_database_that_wants_it_lets_nobody_in(postgres: PostgresServer) -> None:
    with pytest.raises(DatabaseError, match="28000"):
        async with connected(postgres.target(TLS_ONLY)):
            pass


async def test_a_new_password_is_taken_without_a_restart(postgres: PostgresServer, database: str) -> None:
    await postgres.execute("CREATE ROLE changing LOGIN PASSWORD 'first' IN ROLE auralink")
    password = ["first"]
    target = Target("127.0.0.1", postgres.port, database, "changing", lambda: password[0])
    async with a_store(target) as store:
        await store.check()
        await postgres.execute("ALTER ROLE changing PASSWORD 'second'")
        await postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'changing'")
        for reason in ("57P01|28P01|connection", "28P01"):  # the end of the session is noticed sooner or later
            with pytest.raises(DatabaseError, match=reason):
                await store.check()
        password[0] = "second"
        await store.check()


async def test_the_pool_is_bounded_and_gives_its_connections_back(postgres: PostgresServer, database: str) -> None:
    async with a_store(postgres.target(database)) as store:
        await asyncio.gather(*(store.check() for _ in range(60)))
        active, idle = store.connections
        assert active == 0
        assert 1 <= idle <= 20
        sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1"
        assert await postgres.rows("postgres", sql, database) == [(idle,)]
