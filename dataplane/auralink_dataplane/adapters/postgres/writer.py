"""Takes records from whoever has them and brings them to the database, in the order in which they came.

`put` never waits and never fails. One task, `run`, writes what the spool says is due. While the database is away
records wait, up to the spool's bounds; what one record does wrong costs that record only. Every record that was put is
counted: waiting, written, dropped, refused or set aside.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from auralink_dataplane.adapters.postgres.connections import DatabaseError
from auralink_dataplane.adapters.postgres.store import Aside
from auralink_dataplane.backoff import backoff
from auralink_dataplane.rooms.records import Record, cleaned, kind_of, refusal
from auralink_dataplane.rooms.spool import DEFAULT, Bounds, Entry, Spool

log = logging.getLogger(__name__)

RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 30.0
RETRY_FLUSH_S: Final = 0.5
"""The longest wait while a pod ends."""
MAINTAIN_S: Final = 3600.0
MAX_ASIDE: Final = 100


class Store(Protocol):
    async def check(self) -> None: ...
    async def write(self, batch: Sequence[Entry]) -> Sequence[Aside]: ...
    async def maintain(self) -> Sequence[str]: ...


@dataclass(slots=True)
class Counts:
    """By kind; what is refused or set aside by kind and reason."""

    written: Counter[str] = field(default_factory=Counter)
    cleaned: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    set_aside: Counter[tuple[str, str]] = field(default_factory=Counter)


class RecordWriter:
    def __init__(
        self, store: Store, *, clock: Callable[[], float], jitter: Callable[[], float], bounds: Bounds = DEFAULT
    ) -> None:
        """`jitter`: 0..1, anew for each wait."""
        self._store = store
        self._clock = clock
        self._jitter = jitter
        self._spool = Spool(bounds)
        self.counts = Counts()
        self.aside: deque[tuple[Record, str]] = deque(maxlen=MAX_ASIDE)
        """The last that the database would not take, and why."""
        self._wake = asyncio.Event()
        self._sleeps_until = 0.0  # what comes is of no interest to the task unless it is due before
        self._empty = asyncio.Event()
        self._empty.set()
        self._flushing = False
        self._checked = False
        self._maintained_at: float | None = None
        self._failures = 0
        self.problem: str | None = None
        """Why nothing is written, while nothing is."""

    @property
    def waiting(self) -> int:
        return len(self._spool)

    @property
    def waiting_bytes(self) -> int:
        return self._spool.bytes

    @property
    def dropped(self) -> Counter[str]:
        """By kind: did not fit."""
        return self._spool.dropped

    def put(self, record: Record) -> None:
        kind = kind_of(record)
        if reason := refusal(record):
            self.counts.refused[kind, reason] += 1
            return
        record, changed = cleaned(record)
        self.counts.cleaned[kind] += changed
        self._spool.offer(record, self._clock())
        if len(self._spool):
            self._empty.clear()
        due = self._spool.due_at()
        if due is not None and due < self._sleeps_until:
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wait_due()
            try:
                await self._turn()
            except DatabaseError as error:
                self._failed(error)
                await self._pause()
            else:
                self._succeeded()

    async def flush(self, deadline_s: float) -> bool:
        """Writes what waits, without waiting for more; whether all of it could be written in time. `run` must run."""
        self._flushing = True
        self._wake.set()
        try:
            async with asyncio.timeout(deadline_s):
                await self._empty.wait()
        except TimeoutError:
            log.warning("records were not written before the end", extra={"records": self.waiting})
        finally:
            self._flushing = False
        return not self.waiting

    async def _turn(self) -> None:
        if not self._checked:
            await self._store.check()
            self._checked = True
        await self._maintain()
        batch = self._spool.take()
        if not batch:
            return
        try:
            aside = await self._store.write(batch)
        except BaseException:
            self._spool.give_back(batch)
            raise
        self._spool.done(batch)
        self._written(batch, aside)

    async def _maintain(self) -> None:
        """What it cannot do now, because somebody reads an old partition, it does an hour later."""
        now = self._clock()
        if self._maintained_at is not None and now < self._maintained_at + MAINTAIN_S:
            return
        try:
            dropped = await self._store.maintain()
        except DatabaseError as error:
            log.warning("partitions of records cannot be maintained", extra={"error": str(error)})
        else:
            if dropped:
                log.info("records past their retention were dropped", extra={"partitions": dropped})
        self._maintained_at = now

    def _written(self, batch: Sequence[Entry], aside: Sequence[Aside]) -> None:
        reasons = {one.entry.number: one.reason for one in aside}
        for entry in batch:
            kind = kind_of(entry.record)
            if (reason := reasons.get(entry.number)) is None:
                self.counts.written[kind] += 1
                continue
            if not self.counts.set_aside[kind, reason]:
                log.warning("a record was set aside", extra={"kind": kind, "reason": reason})
            self.counts.set_aside[kind, reason] += 1
            self.aside.append((entry.record, reason))
        if not self.waiting:
            self._empty.set()

    def _succeeded(self) -> None:
        if self.problem is not None:
            log.info("records are written again", extra={"waiting": self.waiting})
        self.problem, self._failures = None, 0

    def _failed(self, error: DatabaseError) -> None:
        if self.problem is None:
            log.warning("records cannot be written", extra={"error": str(error), "waiting": self.waiting})
        self.problem = str(error)
        self._failures += 1
        self._checked = False  # another server may answer next

    async def _wait_due(self) -> None:
        """Until a batch is due, or maintenance, or another try."""
        while (due := self._due_at()) > self._clock():
            await self._sleep(due, wakes=due)

    def _due_at(self) -> float:
        batch = self._spool.due_at()
        if self._maintained_at is None or self.problem is not None or (self._flushing and batch is not None):
            return 0.0
        maintenance = self._maintained_at + MAINTAIN_S
        return maintenance if batch is None else min(batch, maintenance)

    async def _pause(self) -> None:
        until = self._clock() + backoff(self._failures, RETRY_FIRST_S, RETRY_MAX_S, self._jitter())
        while (now := self._clock()) < until:
            if self._flushing:
                until = min(until, now + RETRY_FLUSH_S)
            await self._sleep(until, wakes=0.0)

    async def _sleep(self, until: float, *, wakes: float) -> None:
        """`flush` wakes it, and a record that makes a batch due before `wakes`."""
        self._sleeps_until = wakes
        try:
            async with asyncio.timeout(max(0.0, until - self._clock())):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._sleeps_until = 0.0
            self._wake.clear()
