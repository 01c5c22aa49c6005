"""Which records wait, in which order they go, and which are dropped where not all fit."""

from typing import Any

import pytest
from auralink_dataplane.rooms.records import Importance, Record, importance_of, size_of
from auralink_dataplane.rooms.spool import Bounds, Entry, Spool
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.dataplane.rooms_records import audit, left, qos


def records(batch: tuple[Entry, ...]) -> list[Record]:
    return [entry.record for entry in batch]


def test_records_leave_in_the_order_in_which_they_came_whatever_they_matter() -> None:
    spool = Spool()
    put: list[Record] = [qos(1), audit(2), left(3), qos(4), audit(5)]
    for record in put:
        spool.offer(record, 0.0)
    assert records(spool.take()) == put


def test_what_was_given_back_goes_first_again() -> None:
    spool = Spool(Bounds(batch_records=2))
    for number in range(4):
        spool.offer(qos(number), 0.0)
    first = spool.take()
    spool.give_back(first)
    spool.offer(audit(9), 0.0)
    assert records(spool.take()) == [qos(0), qos(1)]


def test_the_oldest_of_the_least_important_is_dropped_first() -> None:
    spool = Spool(Bounds(records=4))
    for record in (audit(1), qos(2), left(3), qos(4)):
        spool.offer(record, 0.0)
    spool.offer(audit(5), 0.0)
    assert records(spool.take()) == [audit(1), left(3), qos(4), audit(5)]
    assert spool.dropped == {"qos_sample": 1}


def test_a_new_sample_takes_the_place_of_an_older_one_but_of_nothing_that_matters_more() -> None:
    spool = Spool(Bounds(records=2))
    for record in (qos(1), audit(2), qos(3)):
        spool.offer(record, 0.0)
    assert spool.dropped == {"qos_sample": 1}
    spool.offer(audit(4), 0.0)
    spool.offer(qos(5), 0.0)
    assert records(spool.take()) == [audit(2), audit(4)]
    assert spool.dropped == {"qos_sample": 3}


def test_what_is_in_flight_is_not_dropped() -> None:
    spool = Spool(Bounds(records=2))
    spool.offer(qos(1), 0.0)
    spool.offer(qos(2), 0.0)
    batch = spool.take()
    spool.offer(audit(3), 0.0)
    assert spool.dropped == {"audit_entry": 1}
    spool.give_back(batch)
    assert records(spool.take()) == [qos(1), qos(2)]


def test_a_record_larger_than_the_whole_spool_drops_nothing_else() -> None:
    spool = Spool(Bounds(bytes=1500))
    spool.offer(qos(1), 0.0)
    spool.offer(audit(2, subject="x" * 500), 0.0)
    assert spool.dropped == {"audit_entry": 1}
    assert records(spool.take()) == [qos(1)]


@pytest.mark.parametrize(
    ("bounds", "offered", "due"),
    [
        (Bounds(batch_wait_s=2.0), 0, None),
        (Bounds(batch_wait_s=2.0), 1, 12.0),
        (Bounds(batch_wait_s=2.0, batch_records=3), 3, 0.0),
        (Bounds(batch_wait_s=2.0, batch_bytes=size_of(qos(0)) * 2), 2, 0.0),
    ],
)
def test_a_batch_is_due_when_it_is_full_or_its_oldest_has_waited(
    bounds: Bounds, offered: int, due: float | None
) -> None:
    spool = Spool(bounds)
    for number in range(offered):
        spool.offer(qos(number), 10.0 + number / 10)
    assert spool.due_at() == due


def test_a_batch_keeps_to_its_bytes_but_takes_one_record_at_least() -> None:
    spool = Spool(Bounds(batch_bytes=1000))
    large, small = audit(1, subject="x" * 500), qos(2)
    for record in (large, small, small, large):
        spool.offer(record, 0.0)
    assert records(spool.take()) == [large]
    assert records(spool.take()) == [small, small]


class SpoolMachine(RuleBasedStateMachine):
    """Against a plain list: nothing is lost or counted twice, bounds hold, order is kept, and what is dropped is the
    oldest of what matters least."""

    def __init__(self) -> None:
        super().__init__()
        self.spool = Spool(Bounds(records=6, bytes=size_of(audit(0)) * 8, batch_records=3))
        self.numbers = 0
        self.waiting: list[Record] = []
        self.flying: tuple[Entry, ...] = ()
        self.out = 0

    @rule(make=st.sampled_from([qos, left, audit]), length=st.sampled_from([0, 0, 0, 100, 5000]))
    def offer(self, make: Any, length: int) -> None:
        self.numbers += 1
        record: Record = audit(self.numbers, subject="x" * length) if length else make(self.numbers)
        before = sum(self.spool.dropped.values())
        self.spool.offer(record, 0.0)
        gone = sum(self.spool.dropped.values()) - before
        if record in self._waiting_now():
            lesser = [one for one in self.waiting if importance_of(one) <= importance_of(record)]
            victims = sorted(lesser, key=importance_of)[:gone]
            self.waiting = [one for one in self.waiting if one not in victims] + [record]
        else:
            assert gone == 1
        assert self._waiting_now() == self.waiting

    def _waiting_now(self) -> list[Record]:
        queues = self.spool._waiting.values()
        entries = sorted((entry for queue in queues for entry in queue), key=lambda entry: entry.number)
        return [entry.record for entry in entries]

    @precondition(lambda self: not self.flying)
    @rule()
    def take(self) -> None:
        self.flying = self.spool.take()
        assert records(self.flying) == self.waiting[: len(self.flying)]
        assert bool(self.flying) == bool(self.waiting)
        self.waiting = self.waiting[len(self.flying) :]

    @precondition(lambda self: self.flying)
    @rule()
    def done(self) -> None:
        self.spool.done(self.flying)
        self.out += len(self.flying)
        self.flying = ()

    @precondition(lambda self: self.flying)
    @rule()
    def give_back(self) -> None:
        self.spool.give_back(self.flying)
        self.waiting = records(self.flying) + self.waiting
        self.flying = ()

    @invariant()
    def every_record_is_somewhere(self) -> None:
        dropped = sum(self.spool.dropped.values())
        assert self.numbers == self.spool.offered == len(self.spool) + self.out + dropped
        assert len(self.spool) == len(self.waiting) + len(self.flying) == self.spool.waiting + len(self.flying)

    @invariant()
    def bounds_hold(self) -> None:
        held = [*self.waiting, *records(self.flying)]
        assert len(held) <= self.spool.bounds.records
        assert self.spool.bytes == sum(size_of(one) for one in held) <= self.spool.bounds.bytes


TestSpoolMachine = SpoolMachine.TestCase


def test_every_importance_has_a_place() -> None:
    assert sorted(Importance) == [Importance.SAMPLE, Importance.SAVING, Importance.PRESENCE, Importance.AUDIT]
