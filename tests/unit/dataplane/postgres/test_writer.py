"""The writer before a database that comes and goes, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest
from auralink_dataplane.adapters.postgres import Aside, DatabaseError, Fault, RecordWriter
from auralink_dataplane.rooms.records import QosSample, Record, RoomOpened
from auralink_dataplane.rooms.spool import Bounds, Entry

from tests.fakes.virtual_time import in_virtual_time
from tests.unit.dataplane.rooms_records import ROOM, audit, qos

AWAY = DatabaseError(Fault.SERVER, "connection", "refused")


@dataclass
class FakeStore:
    down: bool = False
    fails_maintaining: bool = False
    poison: Sequence[Record] = ()
    batches: list[list[Record]] = field(default_factory=list)
    tries: list[float] = field(default_factory=list)
    maintained: int = 0

    async def check(self) -> None:
        self.tries.append(asyncio.get_running_loop().time())
        if self.down:
            raise AWAY

    async def write(self, batch: Sequence[Entry]) -> Sequence[Aside]:
        await asyncio.sleep(0.001)
        if self.down:
            raise AWAY
        self.batches.append([entry.record for entry in batch])
        return [Aside(entry, "23514") for entry in batch if entry.record in self.poison]

    async def maintain(self) -> Sequence[str]:
        self.maintained += 1
        if self.fails_maintaining:
            raise DatabaseError(Fault.SERVER, "55P03", "locked")
        return ()

    @property
    def written(self) -> list[Record]:
        return [record for batch in self.batches for record in batch]


def run(body: Callable[[FakeStore, RecordWriter], Awaitable[None]], store: FakeStore, **bounds: int) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        writer = RecordWriter(store, clock=loop.time, jitter=lambda: 0.5, bounds=Bounds(**bounds))
        task = asyncio.create_task(writer.run())
        try:
            await body(store, writer)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    in_virtual_time(main(), limit_s=24 * 3600)


def test_records_of_a_second_go_together_and_a_full_batch_goes_at_once() -> None:
    async def body(store: FakeStore, writer: RecordWriter) -> None:
        await asyncio.sleep(1)
        for number in range(3):
            writer.put(qos(number))
        await asyncio.sleep(0.9)
        assert store.batches == []
        await asyncio.sleep(0.2)
        assert [len(batch) for batch in store.batches] == [3]
        for number in range(12):
            writer.put(qos(number))
        await asyncio.sleep(0.1)
        assert [len(batch) for batch in store.batches] == [3, 5, 5]
        await asyncio.sleep(1)
        assert [len(batch) for batch in store.batches] == [3, 5, 5, 2]
        assert writer.counts.written == {"qos_sample": 15}

    run(body, FakeStore(), batch_records=5)


def test_what_was_put_while_the_database_was_away_is_written_in_order_afterwards() -> None:
    async def body(store: FakeStore, writer: RecordWriter) -> None:
        put: list[Record] = [audit(number) if number % 3 else qos(number) for number in range(40)]
        for record in put:
            writer.put(record)
            await asyncio.sleep(1)
        assert writer.problem == "connection: refused"
        assert writer.waiting == 40
        store.down = False
        await asyncio.sleep(60)
        assert store.written == put
        assert writer.problem is None

    run(body, FakeStore(down=True), batch_records=7)


def test_beyond_its_bound_the_spool_drops_samples_and_counts_them() -> None:
    async def body(store: FakeStore, writer: RecordWriter) -> None:
        for number in range(8):
            writer.put(qos(number))
        for number in range(8):
            writer.put(audit(number))
        store.down = False
        await asyncio.sleep(60)
        assert writer.dropped == {"qos_sample": 6}
        assert store.written == [qos(6), qos(7), *(audit(number) for number in range(8))]

    run(body, FakeStore(down=True), records=10)


def test_tries_grow_rarer_and_go_on_for_ever_also_with_nothing_to_write() -> None:
    async def body(store: FakeStore, writer: RecordWriter) -> None:
        await asyncio.sleep(1000)
        gaps = [after - before for before, after in zip(store.tries, store.tries[1:], strict=False)]
        assert gaps[:7] == pytest.approx([0.5, 1, 2, 4, 8, 16, 30])
        assert gaps[7:] == pytest.approx([30.0] * len(gaps[7:]))
        store.down = False
        await asyncio.sleep(31)
        assert writer.problem is None

    run(body, FakeStore(down=True))


def test_records_that_come_during_an_outage_cause_no_more_tries() -> None:
    async def body(store: FakeStore, writer: RecordWriter) -> None:
        for number in range(1000):
            writer.put(qos(number))
            await asyncio.sleep(0.1)
        assert len(store.tries) < 12

    run(body, FakeStore(down=True), batch_records=10)


def test_a_poison_record_is_set_aside_with_its_reason_and_the_rest_goes_on() -> None:
    async def body(store: FakeStore, writer: RecordWriter) -> None:
        for number in range(5):
            writer.put(qos(number))
        await asyncio.sleep(2)
        assert writer.counts.set_aside == {("qos_sample", "23514"): 1}
        assert writer.counts.written == {"qos_sample": 4}
        assert list(writer.aside) == [(qos(3), "23514")]
        assert writer.waiting == 0

    run(body, FakeStore(poison=[qos(3)]))


def test_what_cannot_be_stored_is_refused_or_cleaned_before_it_waits() -> None:
    async def body(store: FakeStore, writer: RecordWriter) -> None:
        writer.put(QosSample(ROOM, -1))
        writer.put(RoomOpened(ROOM, 0, "a\0"))
        await asyncio.sleep(2)
        assert writer.counts.refused == {("qos_sample", "time"): 1}
        assert writer.counts.cleaned["room_opened"] == 1
        assert store.written == [RoomOpened(ROOM, 0, "a\ufffd")]

    run(body, FakeStore())


def test_a_flush_waits_for_no_batch_to_fill_and_ends_when_all_is_written() -> None:
    async def body(store: FakeStore, writer: RecordWriter) -> None:
        await asyncio.sleep(1)
        for number in range(12):
            writer.put(qos(number))
        before = asyncio.get_running_loop().time()
        assert await writer.flush(5.0)
        assert asyncio.get_running_loop().time() - before < 0.1
        assert store.written == [qos(number) for number in range(12)]

    run(body, FakeStore(), batch_records=5)


def test_a_flush_gives_up_at_its_deadline_and_tries_often_until_then() -> None:
    async def body(store: FakeStore, writer: RecordWriter) -> None:
        writer.put(qos(1))
        await asyncio.sleep(100)
        tried = len(store.tries)
        before = asyncio.get_running_loop().time()
        assert not await writer.flush(5.0)
        assert asyncio.get_running_loop().time() - before == pytest.approx(5.0)
        assert len(store.tries) - tried >= 9
        assert writer.waiting == 1

    run(body, FakeStore(down=True))


def test_partitions_are_looked_after_once_an_hour_also_when_that_fails() -> None:
    async def body(store: FakeStore, writer: RecordWriter) -> None:
        await asyncio.sleep(3 * 3600 + 10)
        assert store.maintained == 4
        store.fails_maintaining = True
        writer.put(qos(1))
        await asyncio.sleep(3600)
        assert store.maintained == 5
        assert store.written == [qos(1)]

    run(body, FakeStore())


def test_a_cancelled_write_loses_nothing() -> None:
    async def main() -> None:
        store = FakeStore()
        loop = asyncio.get_running_loop()
        writer = RecordWriter(store, clock=loop.time, jitter=lambda: 0.5, bounds=Bounds(batch_wait_s=0.0))
        writer.put(qos(1))
        task = asyncio.create_task(writer.run())
        await asyncio.sleep(0.0005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (writer.waiting, store.written) == (1, [])

    in_virtual_time(main())
