"""The work queue: each key at most once in it and at most once at work.

`Schedule` decides, with the time as an argument; `WorkQueue` puts it on the event loop. Handlers add, workers get and
say done. A key added while at work runs again afterwards; a failed one comes back later and later. Urgent work first:
the first listing and the resync must not hold up what a user has just changed.
"""

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass

from auralink_operator.index import Key

BULK = -100
_STALE_SPARED = 64
_BACKOFF_FIRST_S, _BACKOFF_LAST_S, _JITTER = 0.005, 300.0, 0.2


@dataclass(slots=True)
class _Due:
    priority: int
    at: float
    since: float
    echo: bool = False


class Schedule:
    """Pure. `jitter` gives numbers from 0 to 1."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._due: dict[Key, _Due] = {}
        self._later: list[tuple[float, Key]] = []  # heap by time; an entry is stale if `_due` has another time
        self._ready: list[tuple[int, float, Key]] = []  # heap by urgency, then time; stale likewise
        self._running: dict[Key, float] = {}
        self._waited: dict[Key, float] = {}  # of the running ones
        self._moved = 0.0
        self._again: dict[Key, _Due] = {}
        self._failures: dict[Key, int] = {}

    def add(self, key: Key, now: float, *, priority: int = 0, after_s: float = 0.0, echo: bool = False) -> None:
        """The earlier and the more urgent of two additions count.

        An `echo`, which only shows what work at the key has written, does not shorten the backoff of one that failed.
        """
        if echo and key in self._failures and key not in self._running:
            return
        pending = self._again if key in self._running else self._due
        new, old = _Due(priority, now + after_s, now, echo), pending.get(key)
        if old is not None:
            new.echo = old.echo = old.echo and echo
            if old.at <= new.at and old.priority >= new.priority:
                return
            new = _Due(max(old.priority, new.priority), min(old.at, new.at), old.since, new.echo)
        pending[key] = new
        if pending is self._due:
            heapq.heappush(self._later, (new.at, key))
            if len(self._later) > 2 * len(self._due) + _STALE_SPARED:
                self._later = [entry for entry in set(self._later) if self._is_due(*entry)]
                heapq.heapify(self._later)

    def _is_due(self, at: float, key: Key) -> bool:
        due = self._due.get(key)
        return due is not None and due.at == at

    def pop(self, now: float) -> Key | None:
        """The most urgent key that is due, now at work; None if there is none."""
        while self._later and self._later[0][0] <= now:
            at, key = heapq.heappop(self._later)
            if self._is_due(at, key):
                heapq.heappush(self._ready, (-self._due[key].priority, at, key))
        while self._ready:
            priority, at, key = heapq.heappop(self._ready)
            if self._is_due(at, key) and -priority == self._due[key].priority:
                del self._due[key]
                self._running[key] = self._moved = now
                self._waited[key] = now - at
                return key
        return None

    def done(self, key: Key, now: float, *, failed: bool = False, not_before_s: float = 0.0) -> None:
        """A failed key comes back after its backoff, and not before so many seconds."""
        del self._running[key], self._waited[key]
        again = self._again.pop(key, None)
        if failed:
            self._failures[key] = self._failures.get(key, 0) + 1
            self.add(key, now, after_s=max(not_before_s, self.backoff_s(self._failures[key])))
        else:
            self._failures.pop(key, None)
        if again is not None and not (failed and again.echo):
            self.add(key, now, priority=again.priority, after_s=max(0.0, again.at - now))

    def backoff_s(self, failures: int) -> float:
        plain = min(_BACKOFF_LAST_S, _BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 40))
        return plain * (1 + _JITTER * (2 * self._jitter() - 1))

    def failures(self, key: Key) -> int:
        return self._failures.get(key, 0)

    def next_at(self) -> float | None:
        """When `pop` can next have something; None while nothing is waiting."""
        if self._ready:
            return self._ready[0][1]
        return self._later[0][0] if self._later else None

    def depth(self) -> int:
        return len(self._due) + len(self._again)

    def entries(self) -> int:
        """How much is kept for the waiting keys; those that were brought forward leave some behind for a while."""
        return len(self._later) + len(self._ready)

    def busy(self, now: float) -> int:
        """Keys that a worker has or could have now; the rest waits for its time."""
        return sum(1 for due in self._due.values() if due.at <= now) + len(self._running)

    def waited_s(self, key: Key) -> float:
        """How long a running key was due before a worker took it."""
        return self._waited[key]

    def oldest_s(self, now: float) -> float:
        """How long the longest due key waits, or the longest reconcile runs."""
        waits = [now - due.at for due in self._due.values() if due.at <= now]
        return max([*waits, *(now - since for since in self._running.values())], default=0.0)

    def stuck_s(self, now: float) -> float:
        """How long nothing has moved that should: what liveness is judged by.

        A long queue behind a slow API server is no standstill: restarting would only make it longer.
        """
        still = now - self._moved
        waits = [min(now - due.at, still) for due in self._due.values() if due.at <= now]
        return max([*waits, *(now - since for since in self._running.values())], default=0.0)


class WorkQueue:
    def __init__(self, clock: Callable[[], float], jitter: Callable[[], float]) -> None:
        self._schedule = Schedule(jitter)
        self._clock = clock
        self._wake: asyncio.TimerHandle | None = None
        self._waiting: list[asyncio.Future[None]] = []

    def add(self, key: Key, *, priority: int = 0, after_s: float = 0.0, echo: bool = False) -> None:
        self._schedule.add(key, self._clock(), priority=priority, after_s=after_s, echo=echo)
        self._arm()

    async def get(self) -> Key:
        while (key := self._schedule.pop(self._clock())) is None:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            self._arm()
            try:
                await turn
            finally:
                if turn in self._waiting:
                    self._waiting.remove(turn)
        self._arm()
        return key

    def done(self, key: Key, *, failed: bool = False, not_before_s: float = 0.0) -> None:
        self._schedule.done(key, self._clock(), failed=failed, not_before_s=not_before_s)
        self._arm()

    def failures(self, key: Key) -> int:
        return self._schedule.failures(key)

    def depth(self) -> int:
        return self._schedule.depth()

    def busy(self) -> int:
        return self._schedule.busy(self._clock())

    def waited_s(self, key: Key) -> float:
        return self._schedule.waited_s(key)

    def oldest_s(self) -> float:
        return self._schedule.oldest_s(self._clock())

    def stuck_s(self) -> float:
        return self._schedule.stuck_s(self._clock())

    def _arm(self) -> None:
        """Wakes one worker if something is due, else sets the alarm for when something is."""
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        at = self._schedule.next_at()
        if at is None or not self._waiting:
            return
        wait_s = at - self._clock()
        if wait_s <= 0:
            turn = self._waiting.pop(0)
            if not turn.done():
                turn.set_result(None)
        else:
            self._wake = asyncio.get_running_loop().call_later(wait_s, self._arm)
