"""Which records wait for the database, and which are let go when it stays away.

    offer --> waiting --take--> in flight --done--> out
                 ^                  |
                 +----give_back-----+

Waiting and in flight together never exceed the bounds. Where a new record does not fit, the oldest of the least
important that wait are dropped for it, but none that matters more than the new one; then the new one is dropped itself.
What is in flight may be in the database already and is not dropped. Every record that is offered is waiting, in flight,
out or counted as dropped.

Records are taken in the order in which they were offered, also those that were given back.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from auralink_dataplane.rooms.records import Importance, Record, importance_of, kind_of, size_of


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of the memory that records may take while they wait, and of what is written at once."""

    records: int = 50_000
    bytes: int = 32 << 20
    batch_records: int = 500
    batch_bytes: int = 1 << 20
    batch_wait_s: float = 1.0
    """So long a record waits for others to go with it."""


@dataclass(frozen=True, slots=True)
class Entry:
    number: int  # in the order of offers
    record: Record
    bytes: int
    since: float


DEFAULT: Final = Bounds()


@dataclass(slots=True)
class Spool:
    bounds: Bounds = DEFAULT
    dropped: Counter[str] = field(default_factory=Counter)
    """By kind."""
    offered: int = 0
    _waiting: dict[Importance, deque[Entry]] = field(default_factory=lambda: {one: deque() for one in Importance})
    _count: int = 0  # waiting and in flight
    _bytes: int = 0
    _in_flight: int = 0

    def __len__(self) -> int:
        """Waiting and in flight."""
        return self._count

    @property
    def bytes(self) -> int:
        return self._bytes

    @property
    def waiting(self) -> int:
        return self._count - self._in_flight

    def offer(self, record: Record, now: float) -> None:
        self.offered += 1
        size, importance = size_of(record), importance_of(record)
        if size > self.bounds.bytes or not self._make_room(size, importance):
            self.dropped[kind_of(record)] += 1
            return
        self._waiting[importance].append(Entry(self.offered, record, size, now))
        self._count += 1
        self._bytes += size

    def due_at(self) -> float | None:
        """When the next batch is to go: 0 at once, None where nothing waits."""
        oldest = self._oldest()
        if oldest is None:
            return None
        full = self.waiting >= self.bounds.batch_records or self._bytes >= self.bounds.batch_bytes
        return 0.0 if full else oldest.since + self.bounds.batch_wait_s

    def take(self) -> tuple[Entry, ...]:
        """The next batch, oldest first: as much as may be written at once, and at least one record if any waits."""
        batch: list[Entry] = []
        size = 0
        while len(batch) < self.bounds.batch_records and (oldest := self._oldest()):
            size += oldest.bytes
            if batch and size > self.bounds.batch_bytes:
                break
            batch.append(self._waiting[importance_of(oldest.record)].popleft())
        self._in_flight += len(batch)
        return tuple(batch)

    def done(self, batch: Sequence[Entry]) -> None:
        """They are in the database, or set aside."""
        self._in_flight -= len(batch)
        self._count -= len(batch)
        self._bytes -= sum(entry.bytes for entry in batch)

    def give_back(self, batch: Sequence[Entry]) -> None:
        """They could not be written. At most one batch may be in flight at a time, or the order is lost."""
        for entry in reversed(batch):
            self._waiting[importance_of(entry.record)].appendleft(entry)
        self._in_flight -= len(batch)

    def _oldest(self) -> Entry | None:
        heads = (queue[0] for queue in self._waiting.values() if queue)
        return min(heads, key=lambda entry: entry.number, default=None)

    def _make_room(self, size: int, importance: Importance) -> bool:
        """Whether there is room now. Nothing is dropped where it would not help."""
        if self._fits(self._count, self._bytes, size):
            return True
        queues = [self._waiting[one] for one in Importance if one <= importance]
        victims: list[tuple[deque[Entry], int]] = []
        count, total = self._count, self._bytes
        for queue in queues:
            taken = 0
            for entry in queue:
                if self._fits(count, total, size):
                    break
                count, total, taken = count - 1, total - entry.bytes, taken + 1
            victims.append((queue, taken))
        if not self._fits(count, total, size):
            return False
        for queue, taken in victims:
            for _ in range(taken):
                self.dropped[kind_of(queue.popleft().record)] += 1
        self._count, self._bytes = count, total
        return True

    def _fits(self, count: int, total: int, size: int) -> bool:
        return count + 1 <= self.bounds.records and total + size <= self.bounds.bytes
