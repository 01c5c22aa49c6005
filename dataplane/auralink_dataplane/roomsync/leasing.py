"""Keeps this pod's leases: says that it lives, sees who else does, asks for rooms that are its own, renews, lets go.

The rules are in `rooms.leases`; here are the clock and the store. Per renewal interval a pod makes one round trip for
all its rooms that are due (`MAX_ROOMS_AT_ONCE` at a time), and one per `BEAT_S` for the pods.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Protocol, TypeVar

from auralink_dataplane.backoff import spread
from auralink_dataplane.rooms.leases import (
    BEAT_S,
    Answer,
    Do,
    Event,
    Facts,
    Lease,
    Look,
    Phase,
    Roster,
    Terms,
    advance,
    note,
    owner,
)
from auralink_dataplane.rooms.store import MAX_ROOMS_AT_ONCE, Freed, News, NoAnswer, StateStore, StoreError

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_S: Final = 0.25
LEAVE_S: Final = 5.0
"""A room is let go after so long, also if it has not closed: the lease would soon end by itself."""


class Host(Protocol):
    """Where the rooms are. `serve` and `suspend` return at once, and come in order; each may come again."""

    def serve(self, room: str, token: int) -> None:
        """The pod holds it: open what is not open, write with this token."""

    def suspend(self, room: str) -> None:
        """Write nothing; leave open what is."""

    async def leave(self, room: str) -> None:
        """Close: returns when nothing is open. Another pod takes over then."""


class Leasing:
    """`run` is the one task; `rooms` (all of the bridge), `idle` (where nobody is) and `hands_over` are set from
    outside and seen within LOOK_S."""

    def __init__(
        self, store: StateStore, host: Host, pod: str, clock: Callable[[], float], terms: Terms | None = None
    ) -> None:
        self.rooms: frozenset[str] = frozenset()
        self.idle: frozenset[str] = frozenset()
        self.hands_over = False
        self._store = store
        self._host = host
        self._pod = pod
        self._clock = clock
        self._terms = terms or Terms()
        self._roster = Roster()
        self._owners: dict[str, str | None] = {}
        self._leases: dict[str, Lease] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pods(self) -> frozenset[str]:
        return self._roster.live

    @property
    def held(self) -> Mapping[str, int]:
        """Room -> token, of those that may be written to now."""
        now = self._clock()
        return {room: lease.token for room, lease in self._leases.items() if lease.may_write(now)}

    async def run(self) -> None:
        """Until cancelled; leases are then let go by time. Set `hands_over` and wait for `held` to be empty before."""
        subscription = self._store.subscribe()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._beat(), name="leasing-beat")
                group.create_task(self._look(), name="leasing-look")
                group.create_task(self._listen(subscription.get), name="leasing-news")
                followed: frozenset[str] = frozenset()
                while True:
                    awaited = frozenset(self._awaited())
                    if awaited != followed:
                        await subscription.follow(awaited)
                        followed = awaited
                    await asyncio.sleep(LOOK_S)
        finally:
            for task in self._tasks:
                task.cancel()
            await subscription.close()

    # --- the loops ------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            try:
                beats = await self._store.beat(leaving=self.hands_over)
            except StoreError as error:
                log.debug("no sign of life given", extra={"reason": str(error)})
            else:
                before = self._roster.live
                self._roster = note(self._roster, beats, self._clock())
                if self._roster.live != before:
                    log.info("pods changed", extra={"pods": sorted(self._roster.live)})
                    self._owners = {}
            jitter = random.random()  # noqa: S311 - spreads the pods
            await asyncio.sleep(spread(BEAT_S * 0.8, jitter))  # at most BEAT_S

    async def _look(self) -> None:
        while True:
            rooms = sorted(self.rooms | self._leases.keys())
            self._step([(room, Look()) for room in rooms])
            for room in rooms:
                if room not in self.rooms and self._leases[room].phase is Phase.AWAY:
                    del self._leases[room]
                    self._owners.pop(room, None)
            await asyncio.sleep(LOOK_S)

    async def _listen(self, get: Callable[[], Awaitable[News]]) -> None:
        while True:
            news = await get()
            if isinstance(news, Freed):
                self._step([(news.room, news)])

    def _awaited(self) -> Iterator[str]:
        """Rooms that another pod holds and that are to be ours when it lets go."""
        for room, lease in self._leases.items():
            if lease.phase in (Phase.AWAY, Phase.ASKING) and self._facts(room).wanted:
                yield room

    # --- steps ----------------------------------------------------------------------------------------------

    def _facts(self, room: str) -> Facts:
        if room not in self._owners:
            self._owners[room] = owner(room, self._roster.live)
        exists = room in self.rooms
        if not self._roster.settled:
            return Facts(must_go=self.hands_over or not exists)
        wanted = exists and self._owners[room] == self._pod
        return Facts(wanted, must_go=self.hands_over or not exists, idle=room in self.idle)

    def _step(self, events: Iterable[tuple[str, Event]]) -> None:
        """Several rooms, so that what they ask for goes in one round trip."""
        now = self._clock()
        asks: dict[Do, list[str]] = {Do.ACQUIRE: [], Do.RENEW: []}
        for room, event in events:
            before = self._leases.get(room, Lease())
            lease, does = advance(before, event, self._facts(room), now, self._terms)
            self._leases[room] = lease
            for do in does:
                if do in asks:
                    asks[do].append(room)
            self._host_does(room, lease, does)
        for do, rooms in asks.items():
            for some in _in_parts(rooms, MAX_ROOMS_AT_ONCE):
                self._spawn(self._ask(do, some, now), f"leasing-{do.value}")

    def _host_does(self, room: str, lease: Lease, does: Collection[Do]) -> None:
        if Do.SERVE in does:
            self._host.serve(room, lease.token)
        if Do.SUSPEND in does:
            self._host.suspend(room)
        if Do.LEAVE in does or Do.RELEASE in does:
            self._spawn(self._let_go(room, lease.token, does), "leasing-let-go")

    async def _ask(self, do: Do, rooms: Sequence[str], asked_at: float) -> None:
        try:
            if do is Do.ACQUIRE:
                said: Mapping[str, Any] = await self._store.acquire(rooms)
            else:
                said = await self._store.renew({room: self._leases[room].token for room in rooms})
        except StoreError as error:
            said = dict.fromkeys(rooms, NoAnswer(str(error)))
        self._step([(room, Answer(asked_at, said[room])) for room in rooms])

    async def _let_go(self, room: str, token: int, does: Collection[Do]) -> None:
        if Do.LEAVE in does:
            try:
                async with asyncio.timeout(LEAVE_S):
                    await self._host.leave(room)
            except TimeoutError:
                log.warning("a room did not close in time", extra={"room": room})
            except Exception:  # the task's root
                log.exception("a room did not close", extra={"room": room})
        if Do.RELEASE in does:
            try:
                await self._store.release({room: token})
            except StoreError as error:
                log.info("a lease was not released and runs out", extra={"room": room, "reason": str(error)})

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _in_parts(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
