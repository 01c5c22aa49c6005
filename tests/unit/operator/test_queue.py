"""The queue against a simple model, and its way onto the event loop."""

import asyncio
from collections.abc import Callable

import pytest
from auralink_operator.index import Key
from auralink_operator.queue import BULK, Schedule, WorkQueue
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule


def key(name: str) -> Key:
    return Key("AuraLinkBridge", "ns", name)


A, B, C = key("a"), key("b"), key("c")


def schedule(jitter: float = 0.5) -> Schedule:
    return Schedule(lambda: jitter)


def test_a_key_added_twice_runs_once() -> None:
    queue = schedule()
    queue.add(A, 0.0)
    queue.add(A, 0.0)
    assert queue.pop(0.0) == A
    assert queue.pop(0.0) is None


def test_a_key_at_work_is_not_given_out_again_but_runs_once_more_afterwards() -> None:
    queue = schedule()
    queue.add(A, 0.0)
    assert queue.pop(0.0) == A
    queue.add(A, 1.0)
    queue.add(A, 1.0)
    assert queue.pop(1.0) is None
    queue.done(A, 2.0)
    assert queue.pop(2.0) == A
    queue.done(A, 3.0)
    assert queue.pop(3.0) is None


def test_what_a_user_changed_goes_before_the_first_listing() -> None:
    queue = schedule()
    queue.add(A, 0.0, priority=BULK)
    queue.add(B, 0.1, priority=BULK)
    queue.add(C, 0.2)
    queue.add(B, 0.3)
    assert [queue.pop(1.0) for _ in range(3)] == [B, C, A]


def test_a_later_look_does_not_delay_an_earlier_one() -> None:
    queue = schedule()
    queue.add(A, 0.0)
    queue.add(A, 0.0, after_s=60.0)
    assert queue.pop(0.0) == A


def test_an_event_brings_a_later_look_forward() -> None:
    queue = schedule()
    queue.add(A, 0.0, after_s=60.0)
    assert queue.pop(1.0) is None
    assert queue.next_at() == 60.0
    queue.add(A, 1.0)
    assert queue.pop(1.0) == A
    queue.done(A, 1.0)
    assert queue.pop(100.0) is None


def test_looks_that_were_brought_forward_do_not_pile_up() -> None:
    queue, now = schedule(), 0.0
    for number in range(10_000):
        now += 0.1
        name = key(str(number % 20))
        queue.add(name, now, after_s=3600.0)
        queue.add(name, now)
        while (found := queue.pop(now)) is not None:
            queue.done(found, now)
        assert queue.entries() <= 2 * 20 + 65
    assert queue.depth() == 0


@pytest.mark.parametrize(("jitter", "factor"), [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2)])
def test_failures_back_off_to_five_minutes(jitter: float, factor: float) -> None:
    queue = schedule(jitter)
    waits = [queue.backoff_s(n) for n in (1, 2, 3, 17, 1000)]
    assert waits == pytest.approx([0.005 * factor, 0.01 * factor, 0.02 * factor, 300 * factor, 300 * factor])


def test_a_failed_key_does_not_come_back_before_it_may() -> None:
    queue = schedule()
    queue.add(A, 0.0)
    queue.pop(0.0)
    queue.done(A, 0.0, failed=True, not_before_s=40.0)
    assert queue.next_at() == 40.0


def test_a_success_ends_the_count_of_failures() -> None:
    queue = schedule()
    now = 0.0
    queue.add(A, now)
    for count in (1, 2):
        now += 1.0
        assert queue.pop(now) == A
        queue.done(A, now, failed=True)
        assert queue.failures(A) == count
    now += 1.0
    assert queue.pop(now) == A
    queue.done(A, now)
    assert queue.failures(A) == 0
    assert queue.depth() == 0


def test_the_oldest_is_the_longest_waiting_or_running() -> None:
    queue = schedule()
    queue.add(A, 0.0)
    queue.add(B, 0.0, after_s=100.0)
    assert queue.oldest_s(10.0) == 10.0
    queue.pop(10.0)
    assert queue.oldest_s(13.0) == 3.0
    assert queue.busy(13.0) == 1
    queue.done(A, 13.0)
    assert queue.oldest_s(14.0) == 0.0


def test_a_key_s_wait_begins_when_it_is_due() -> None:
    queue = schedule()
    queue.add(A, 0.0, after_s=2.0)
    assert queue.pop(5.0) == A
    assert queue.waited_s(A) == 3.0


def test_a_long_queue_that_gets_shorter_is_no_standstill() -> None:
    queue = schedule()
    for number in range(100):
        queue.add(key(f"k{number}"), 0.0)
    for second in range(0, 1000, 10):
        found = queue.pop(float(second))
        assert found is not None
        assert queue.stuck_s(second + 9.0) <= 9.0
        queue.done(found, second + 9.0)
    assert queue.oldest_s(1000.0) == 0.0


def test_a_due_key_that_nobody_takes_and_a_reconcile_that_hangs_are_a_standstill() -> None:
    queue = schedule()
    queue.add(A, 100.0)
    assert queue.stuck_s(300.0) == 200.0
    queue.pop(300.0)
    assert queue.stuck_s(500.0) == 200.0
    queue.add(B, 500.0, after_s=1000.0)
    queue.done(A, 500.0)
    assert queue.stuck_s(1400.0) == 0.0


class QueueModel(RuleBasedStateMachine):
    """No key is lost and none runs twice at once, whatever the order of additions, work and failures."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = schedule()
        self.now = 0.0
        self.owed: dict[Key, float] = {}
        self.running: set[Key] = set()

    @rule(name=st.sampled_from("abcd"), priority=st.sampled_from([0, BULK]), after=st.sampled_from([0.0, 1.0, 30.0]))
    def add(self, name: str, priority: int, after: float) -> None:
        self.queue.add(key(name), self.now, priority=priority, after_s=after)
        due = self.now + after
        self.owed[key(name)] = min(due, self.owed.get(key(name), due))

    @rule(step=st.sampled_from([0.0, 0.5, 2.0, 400.0]))
    def wait(self, step: float) -> None:
        self.now += step

    @rule()
    def pop(self) -> None:
        found = self.queue.pop(self.now)
        due = {name for name, at in self.owed.items() if at <= self.now and name not in self.running}
        if found is None:
            assert not due
            return
        assert found in due
        del self.owed[found]
        self.running.add(found)

    @precondition(lambda self: self.running)
    @rule(failed=st.booleans(), data=st.data())
    def done(self, failed: bool, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.running)))
        self.running.remove(name)
        self.queue.done(name, self.now, failed=failed)
        if failed:
            due = self.now + self.queue.backoff_s(self.queue.failures(name))
            self.owed[name] = min(due, self.owed.get(name, due))

    @invariant()
    def nothing_is_forgotten(self) -> None:
        assert self.queue.depth() == len(self.owed)
        assert self.queue.entries() <= 3 * len(self.owed) + 70


TestQueueModel = QueueModel.TestCase
TestQueueModel.settings = settings(max_examples=100, stateful_step_count=40)


async def test_a_worker_gets_what_is_added_while_it_waits() -> None:
    queue = WorkQueue(asyncio.get_running_loop().time, lambda: 0.5)
    waiting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.add(A)
    assert await asyncio.wait_for(waiting, 5) == A
    assert queue.busy() == 1
    queue.done(A)
    assert queue.depth() == 0


async def test_each_of_two_keys_wakes_a_worker() -> None:
    queue = WorkQueue(asyncio.get_running_loop().time, lambda: 0.5)
    workers = [asyncio.ensure_future(queue.get()) for _ in range(2)]
    await asyncio.sleep(0)
    queue.add(A)
    queue.add(B, after_s=0.001)
    assert set(await asyncio.wait_for(asyncio.gather(*workers), 5)) == {A, B}


async def test_a_failed_key_comes_back_by_itself() -> None:
    clock: Callable[[], float] = asyncio.get_running_loop().time
    queue = WorkQueue(clock, lambda: 0.5)
    queue.add(A)
    assert await queue.get() == A
    queue.done(A, failed=True)
    assert queue.failures(A) == 1
    assert await asyncio.wait_for(queue.get(), 5) == A
    assert queue.oldest_s() >= 0


def test_the_echo_of_a_failed_key_s_own_write_does_not_shorten_its_backoff() -> None:
    queue = schedule()
    queue.add(A, 0.0)
    for failures in range(1, 11):
        assert queue.pop(1000.0 * failures) == A
        queue.add(A, 1000.0 * failures, echo=True)  # while it is at work, and after
        queue.done(A, 1000.0 * failures, failed=True)
        queue.add(A, 1000.0 * failures, echo=True)
        assert queue.next_at() == pytest.approx(1000.0 * failures + 0.005 * 2 ** (failures - 1))
    queue.add(A, 10_000.5)
    assert queue.pop(10_000.5) == A


def test_an_echo_wakes_a_key_that_waits_for_it() -> None:
    queue = schedule()
    queue.add(A, 0.0)
    assert queue.pop(0.0) == A
    queue.add(A, 0.0, echo=True)
    queue.done(A, 0.0)
    assert queue.pop(0.0) == A
    queue.done(A, 0.0)
    queue.add(A, 0.0, after_s=5.0)
    queue.add(A, 1.0, echo=True)
    assert queue.pop(1.0) == A


def test_what_somebody_else_changes_meanwhile_is_no_echo() -> None:
    queue = schedule()
    queue.add(A, 0.0)
    assert queue.pop(0.0) == A
    queue.add(A, 0.0, echo=True)
    queue.add(A, 0.0)
    queue.add(A, 0.0, echo=True)
    queue.done(A, 0.0, failed=True)
    assert queue.pop(0.0) == A
