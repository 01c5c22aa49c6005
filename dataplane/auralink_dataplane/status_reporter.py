"""This pod's entry in `status.pods[]` of its bridge, written when it has something new to say and never as a heartbeat.

`app` shows a Snapshot once a second; the pure Reporter decides whether an entry is due: counts in buckets that fall
slowly, the saving in steps and once a minute, problems with hysteresis, at most one write in ten seconds, except for
what others wait for (phase, applied configuration, no more sessions, a problem that came or went): that is written at
once. So a pod in steady state writes nothing for hours, and thousands of them leave the API server alone.
`adapters.kubernetes_api` does the writing.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from auralink_dataplane.backoff import backoff

log = logging.getLogger(__name__)

Phase = Literal["Starting", "Serving", "Draining"]

WRITE_INTERVAL_S: Final = 10.0
PROBLEM_ON_S: Final = 10.0
PROBLEM_OFF_S: Final = 30.0
FALL_S: Final = 30.0
"""A count that falls into a lower bucket is told when it has stayed there; nobody scales down for a moment's sake."""
SAVED_STEP: Final = 5
SAVED_STICKS: Final = 5.0
"""The shown step stays until the value is a whole step away from it, against flapping at a border."""
SAVED_EVERY_S: Final = 60.0
"""What is shown is the mean of so long: pictures differ, and with them what can be saved from second to second."""
SAVED_FIRST_S: Final = 10.0
CERTAIN: Final = frozenset({"ConfigInvalid", "CredentialsMissing"})
"""Told and taken back at once: a rejected configuration or a missing Secret does not come and go by itself."""
MESSAGE_LENGTH: Final = 256
MAX_GENERATION: Final = 2**53 - 1
"""Both, and the largest of BUCKETS, are within the bounds of `status.pods[]`: for one value beyond them the whole entry
would be refused."""
LOOK_S: Final = 1.0
REMOVE_S: Final = 5.0
"""So long a pod that ends waits for the API server; the operator removes what is left."""
RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`saved`: share of bytes, None where nothing is measured. `problems`: name -> what is wrong and what to do, in
    words that change only when there is something else to do: each change is written."""

    phase: Phase
    generation: int
    rooms: int
    sessions: int
    saved: float | None
    problems: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    phase: Phase
    config_generation: int
    rooms: int
    sessions: int
    saved_percent: int | None = None
    problems: tuple[str, ...] = ()
    message: str = ""


BUCKETS: Final[tuple[int, ...]] = (0, *(factor * 10**power for power in range(5) for factor in (1, 2, 5)))


def bucket(count: int) -> int:
    """The largest of 0 1 2 5 10 20 50 100 .. that is not above `count`."""
    return max(step for step in BUCKETS if step <= max(0, count))


@dataclass(slots=True)
class _Count:
    """A bucket that rises, and empties, at once and falls slowly."""

    shown: int = 0
    _lower_since: float | None = None

    def take(self, count: int, now: float) -> int:
        step = bucket(count)
        if step >= self.shown or step == 0:
            self.shown, self._lower_since = step, None
        elif self._lower_since is None:
            self._lower_since = now
        elif now - self._lower_since >= FALL_S:
            self.shown, self._lower_since = step, None
        return self.shown


@dataclass(slots=True)
class _Saved:
    """Mean percentage of a minute, in steps that stick. The first is told sooner, and none where none is measured."""

    shown: int | None = None
    _sum: float = 0.0
    _values: int = 0
    _due: float | None = None
    _measured_at: float = 0.0

    def take(self, share: float | None, sessions: int, now: float) -> int | None:
        """`share` None: nothing is measured. Without sessions none can be."""
        if share is None or not sessions:
            if not sessions or now - self._measured_at >= SAVED_EVERY_S:
                self.shown, self._sum, self._values, self._due = None, 0.0, 0, None
            return self.shown
        self._measured_at = now
        if self._due is None:
            self._due = now + SAVED_FIRST_S
        self._sum += share * 100
        self._values += 1
        if now >= self._due:
            mean = self._sum / self._values
            if self.shown is None or abs(mean - self.shown) >= SAVED_STICKS:
                self.shown = min(100, max(0, round(mean / SAVED_STEP) * SAVED_STEP))
            self._sum, self._values, self._due = 0.0, 0, now + SAVED_EVERY_S
        return self.shown


@dataclass(slots=True)
class _Problem:
    message: str
    since: float
    last_seen: float
    shown: bool = False


@dataclass(slots=True)
class Reporter:
    jitter: float = 0.5
    """0..1, of this pod, so that not all of them try again together."""
    _written: Entry | None = None
    _written_at: float = 0.0
    _failed: Entry | None = None
    _retry_at: float = 0.0
    _retries: int = 0
    _problems: dict[str, _Problem] = field(default_factory=dict)
    _rooms: _Count = field(default_factory=_Count)
    _sessions: _Count = field(default_factory=_Count)
    _saved: _Saved = field(default_factory=_Saved)

    def due(self, snapshot: Snapshot, now: float) -> Entry | None:
        """The entry to write now, if any."""
        entry = self._entry(snapshot, now)
        last = self._written
        if entry == last:
            return None
        if now < self._retry_at and self._failed and entry.phase == self._failed.phase:
            return None
        at_once = (
            last is None
            or entry.phase != last.phase
            or entry.config_generation != last.config_generation
            or (entry.sessions == 0 and last.sessions != 0)
            or entry.problems != last.problems  # their own hysteresis keeps these rare
        )
        return entry if at_once or now >= self._written_at + WRITE_INTERVAL_S else None

    def written(self, entry: Entry, now: float) -> None:
        self._written, self._written_at = entry, now
        self._failed, self._retry_at, self._retries = None, 0.0, 0

    def failed(self, entry: Entry, now: float) -> None:
        """Tried again with growing gaps; a new phase is tried at once."""
        if self._failed and entry.phase != self._failed.phase:
            self._retries = 0
        self._failed = entry
        self._retries += 1
        self._retry_at = now + backoff(self._retries, RETRY_FIRST_S, RETRY_MAX_S, self.jitter)

    def _entry(self, snapshot: Snapshot, now: float) -> Entry:
        problems = self._settle(snapshot.problems, now)
        names = tuple(sorted(problems))
        message = "; ".join(problems[name] for name in names)
        return Entry(
            phase=snapshot.phase,
            config_generation=min(max(0, snapshot.generation), MAX_GENERATION),
            rooms=self._rooms.take(snapshot.rooms, now),
            sessions=self._sessions.take(snapshot.sessions, now),
            saved_percent=self._saved.take(snapshot.saved, snapshot.sessions, now),
            problems=names,
            message=message if len(message) <= MESSAGE_LENGTH else message[: MESSAGE_LENGTH - 1] + "…",
        )

    def _settle(self, problems: Mapping[str, str], now: float) -> dict[str, str]:
        """What is no measurement needs no second look."""
        for name, message in problems.items():
            problem = self._problems.setdefault(name, _Problem(message, now, now))
            problem.last_seen, problem.message = now, message
            problem.shown = problem.shown or name in CERTAIN or now - problem.since >= PROBLEM_ON_S
        for name, problem in list(self._problems.items()):
            gone_for = now - problem.last_seen
            if name not in problems and (not problem.shown or name in CERTAIN or gone_for >= PROBLEM_OFF_S):
                del self._problems[name]
        return {name: problem.message for name, problem in self._problems.items() if problem.shown}


class StatusWriter(Protocol):
    async def apply_pod_entry(self, entry: Mapping[str, Any] | None) -> None:
        """None removes it. Raises OSError where the API cannot be reached or refuses."""


class StatusReporter:
    """Runs the Reporter: looks every second, and at once when `poke`d."""

    def __init__(
        self,
        writer: StatusWriter,
        look: Callable[[], Snapshot],
        fixed: Mapping[str, Any],
        *,
        clock: Callable[[], float],
        jitter: float = 0.5,
    ) -> None:
        """`fixed`: what never changes of the entry (name, uid, node, version, since)."""
        self._writer = writer
        self._look = look
        self._fixed = fixed
        self._clock = clock
        self._reporter = Reporter(jitter)
        self._poked = asyncio.Event()
        self._bad = False

    def poke(self) -> None:
        self._poked.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.report()
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._poked.wait()
            except TimeoutError:
                continue
            finally:
                self._poked.clear()

    async def report(self) -> None:
        entry = self._reporter.due(self._look(), self._clock())
        if entry is None:
            return
        try:
            await self._writer.apply_pod_entry({**self._fixed, **_json(entry)})
        except OSError as error:
            self._reporter.failed(entry, self._clock())
            if not self._bad:
                log.warning("status entry cannot be written", extra={"error": str(error)})
            self._bad = True
            return
        if self._bad:
            log.info("status entry is written again")
        self._bad = False
        self._reporter.written(entry, self._clock())

    async def remove(self) -> None:
        try:
            async with asyncio.timeout(REMOVE_S):
                await self._writer.apply_pod_entry(None)
        except OSError as error:  # also TimeoutError
            log.warning("status entry could not be removed; the operator will", extra={"error": str(error)})


def _json(entry: Entry) -> dict[str, Any]:
    saved = {} if entry.saved_percent is None else {"savedPercent": entry.saved_percent}
    return {
        "phase": entry.phase,
        "configGeneration": entry.config_generation,
        "rooms": entry.rooms,
        "sessions": entry.sessions,
        **saved,
        "problems": list(entry.problems),
        "message": entry.message,
    }
