"""When a pod writes its status entry, in virtual time."""

import asyncio
from collections.abc import Mapping
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from auralink_dataplane.status_reporter import Entry, Phase, Reporter, Snapshot, StatusReporter, bucket


def snapshot(
    *,
    phase: Phase = "Serving",
    generation: int = 1,
    sessions: int = 0,
    saved: float | None = None,
    problems: Mapping[str, str] | None = None,
) -> Snapshot:
    return Snapshot(phase, generation, 1, sessions, saved, problems or {})


class Clock:
    """A reporter whose every due entry is written."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.reporter = Reporter()
        self.entries: list[tuple[float, Entry]] = []

    def look(self, one: Snapshot, seconds: int = 1) -> list[Entry]:
        """Once a second for so long; what was written."""
        before = len(self.entries)
        for _ in range(seconds):
            if entry := self.reporter.due(one, self.now):
                self.entries.append((self.now, entry))
                self.reporter.written(entry, self.now)
            self.now += 1
        return [entry for _, entry in self.entries[before:]]


@pytest.fixture
def clock() -> Clock:
    one = Clock()
    one.look(snapshot())
    return one


@pytest.mark.parametrize(
    ("count", "lower"), [(0, 0), (1, 1), (2, 2), (4, 2), (5, 5), (9, 5), (10, 10), (49, 20), (128, 100), (99999, 50000)]
)
def test_counts_are_told_in_buckets(count: int, lower: int) -> None:
    assert bucket(count) == lower


def test_the_first_entry_is_written_at_once_and_then_none_while_nothing_changes() -> None:
    clock = Clock()
    assert len(clock.look(snapshot(), 3600)) == 1


@pytest.mark.parametrize("change", [snapshot(phase="Draining"), snapshot(generation=2)])
def test_phase_and_generation_are_told_at_once(clock: Clock, change: Snapshot) -> None:
    assert len(clock.look(change)) == 1


def test_other_changes_wait_for_ten_seconds_since_the_last_write(clock: Clock) -> None:
    assert clock.look(snapshot(sessions=1), 9) == []
    assert [entry.sessions for entry in clock.look(snapshot(sessions=1))] == [1]


def test_the_end_of_the_last_session_is_told_at_once(clock: Clock) -> None:
    clock.look(snapshot(sessions=3), 20)
    assert [entry.sessions for entry in clock.look(snapshot(sessions=0))] == [0]


def test_within_a_bucket_nothing_is_written(clock: Clock) -> None:
    clock.look(snapshot(sessions=5), 20)
    for sessions in (6, 9, 7, 5):
        assert clock.look(snapshot(sessions=sessions), 20) == []


def test_a_count_falls_when_it_has_stayed_low(clock: Clock) -> None:
    clock.look(snapshot(sessions=5), 20)
    for _ in range(20):
        assert clock.look(snapshot(sessions=4), 29) == []
        assert clock.look(snapshot(sessions=5), 5) == []
    assert [entry.sessions for entry in clock.look(snapshot(sessions=4), 32)] == [2]


def test_savings_are_told_in_steps_that_do_not_flap(clock: Clock) -> None:
    clock.look(snapshot(sessions=1), 20)
    assert [entry.saved_percent for entry in clock.look(snapshot(sessions=1, saved=0.38), 20)] == [40]
    for saved in (0.374, 0.376, 0.43, 0.36):
        assert clock.look(snapshot(sessions=1, saved=saved), 120) == []
    assert [entry.saved_percent for entry in clock.look(snapshot(sessions=1, saved=0.2), 180)][-1] == 20


def test_a_saving_that_is_no_longer_measured_is_taken_back(clock: Clock) -> None:
    clock.look(snapshot(sessions=1, saved=0.4), 30)
    assert clock.entries[-1][1].saved_percent == 40
    assert clock.look(snapshot(sessions=1), 59) == [], "a pause of the sender"
    assert [entry.saved_percent for entry in clock.look(snapshot(sessions=1), 10)] == [None]
    clock.look(snapshot(sessions=1, saved=0.2), 30)
    assert clock.entries[-1][1].saved_percent == 20


def test_a_pod_without_sessions_tells_no_saving(clock: Clock) -> None:
    clock.look(snapshot(sessions=1, saved=0.4), 30)
    [entry] = clock.look(snapshot(saved=0.4), 3600)
    assert (entry.sessions, entry.saved_percent) == (0, None)


@pytest.mark.parametrize("around", [0.375, 0.40, 0.425, 0.45])
def test_a_healthy_pod_writes_at_most_once_an_hour(around: float) -> None:
    """Sessions that come and go, savings that jitter about the border of a step: six hours of it."""
    clock, random = Clock(), Random(7)  # noqa: S311 - jitter
    for _ in range(6 * 3600):
        clock.look(snapshot(sessions=random.choice((10, 11, 12)), saved=random.gauss(around, 0.05)))
    settled = [at for at, _ in clock.entries if at > clock.entries[0][0] + 60]
    assert len(settled) <= 1, clock.entries
    assert len(clock.entries) <= 4


def test_a_problem_is_told_after_ten_seconds_and_taken_back_after_thirty(clock: Clock) -> None:
    clock.now += 100
    bad = snapshot(problems={"AICoreUnavailable": "start it"})
    assert clock.look(bad, 10) == []
    [entry] = clock.look(bad)
    assert (entry.problems, entry.message) == (("AICoreUnavailable",), "start it")
    assert clock.look(snapshot(), 29) == []
    assert [entry.problems for entry in clock.look(snapshot(), 2)] == [()]


def test_a_problem_is_told_at_once_when_it_is_one(clock: Clock) -> None:
    bad = snapshot(saved=0.4, problems={"AICoreUnavailable": "start it"})
    clock.look(bad, 10)
    assert [entry.problems for entry in clock.look(bad, 2)] == [("AICoreUnavailable",)]


def test_a_problem_that_comes_and_goes_is_never_told(clock: Clock) -> None:
    for _ in range(20):
        assert clock.look(snapshot(problems={"PacketLoss": "x"}), 5) == []
        assert clock.look(snapshot(), 5) == []


@pytest.mark.parametrize("name", ["ConfigInvalid", "CredentialsMissing"])
def test_what_is_no_measurement_is_told_at_once(clock: Clock, name: str) -> None:
    [entry] = clock.look(snapshot(problems={name: "look"}))
    assert entry.problems == (name,)
    [entry] = clock.look(snapshot())
    assert entry.problems == ()


@pytest.mark.parametrize("name", ["ConfigInvalid", "CredentialsMissing", "LegNotOpen"])
def test_a_problem_that_stays_takes_new_words_at_the_pace_of_other_changes(clock: Clock, name: str) -> None:
    clock.look(snapshot(problems={name: "missing: a, b"}), 30)
    [entry] = clock.look(snapshot(problems={name: "missing: b"}))
    assert (entry.problems, entry.message) == ((name,), "missing: b")
    for number in range(60):
        clock.look(snapshot(problems={name: f"missing: {number}"}))
    moments = [at for at, _ in clock.entries[-6:]]
    assert [later - earlier for earlier, later in pairwise(moments)] == [10.0] * 5


def test_long_messages_are_cut_to_what_the_resource_takes(clock: Clock) -> None:
    [entry] = clock.look(snapshot(problems={"ConfigInvalid": "x" * 1000}))
    assert len(entry.message) == 256


def test_a_failed_write_is_tried_again_with_growing_gaps() -> None:
    reporter, now, tries = Reporter(), 0.0, []
    while now < 100:
        if entry := reporter.due(snapshot(), now):
            tries.append(now)
            reporter.failed(entry, now)
        now += 0.5
    assert tries == [0, 1, 3, 7, 15, 31, 61, 91]


def test_an_api_server_may_be_away_for_days_and_a_pod_goes_on_trying() -> None:
    reporter, now, tries = Reporter(), 0.0, 0
    while tries < 3000:
        if entry := reporter.due(snapshot(), now):
            reporter.failed(entry, now)
            tries += 1
        now += 30
    entry = reporter.due(snapshot(), now)
    assert entry
    reporter.written(entry, now)


def test_pods_whose_writes_failed_together_try_again_one_by_one() -> None:
    pods = [Reporter(number / 10) for number in range(11)]
    for pod in pods:
        entry = pod.due(snapshot(), 0.0)
        assert entry
        pod.failed(entry, 0.0)
    ready = [sum(pod.due(snapshot(), tenths / 100) is not None for pod in pods) for tenths in range(75, 126, 5)]
    assert (ready[0], ready[-1]) == (0, 11)
    assert all(later - earlier <= 2 for earlier, later in pairwise(ready))


def test_a_drain_is_told_at_once_also_while_writes_fail() -> None:
    reporter = Reporter()
    for now in (0.0, 1.0, 3.0, 7.0):
        entry = reporter.due(snapshot(), now)
        assert entry
        reporter.failed(entry, now)
    assert reporter.due(snapshot(), 7.5) is None
    going = reporter.due(snapshot(phase="Draining"), 7.5)
    assert going
    reporter.failed(going, 7.5)
    assert reporter.due(snapshot(phase="Draining"), 8.5)


class Writer:
    def __init__(self) -> None:
        self.entries: list[Mapping[str, Any] | None] = []
        self.down = False

    async def apply_pod_entry(self, entry: Mapping[str, Any] | None) -> None:
        if self.down:
            raise OSError("down")
        self.entries.append(entry)


async def test_the_entry_carries_what_never_changes_too() -> None:
    writer = Writer()
    reporter = StatusReporter(writer, lambda: snapshot(), {"name": "p"}, clock=lambda: 5.0)
    await reporter.report()
    assert writer.entries == [
        {
            "name": "p", "phase": "Serving", "configGeneration": 1, "rooms": 1, "sessions": 0,
            "problems": [], "message": "",
        }
    ]  # fmt: skip


async def test_the_api_server_may_be_away(caplog: pytest.LogCaptureFixture) -> None:
    writer, now = Writer(), [0.0]
    reporter = StatusReporter(writer, lambda: snapshot(), {}, clock=lambda: now[0])
    writer.down = True
    for _ in range(5):
        await reporter.report()
        now[0] += 60
    assert [one.levelname for one in caplog.records if one.name.startswith("auralink")] == ["WARNING"]
    writer.down = False
    await reporter.report()
    assert len(writer.entries) == 1
    writer.down = True
    await reporter.remove()


async def test_a_poke_reports_at_once_and_cancelling_ends_it() -> None:
    writer = Writer()
    generation = [1]
    reporter = StatusReporter(writer, lambda: snapshot(generation=generation[0]), {}, clock=lambda: 0.0)
    task = asyncio.create_task(reporter.run())
    while not writer.entries:  # noqa: ASYNC110 - a few turns of the loop
        await asyncio.sleep(0)
    generation[0] = 2
    reporter.poke()
    async with asyncio.timeout(0.5):
        while len(writer.entries) < 2:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
    reporter.poke()
    task.cancel()
    await asyncio.wait([task], timeout=1)
    assert task.cancelled()
