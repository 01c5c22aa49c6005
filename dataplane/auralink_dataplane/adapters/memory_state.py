"""State of a bridge that has one pod, and so shares it with nobody: as in Redis, without Redis. Lost when the pod ends.

Several `MemoryState` of one `MemoryRooms` are several pods, which is how tests hold it against Redis.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from auralink_dataplane.rooms.store import (
    FENCE_TTL_S,
    MAX_DOCUMENTS,
    MAX_QUEUED,
    MAX_ROOM_BYTES,
    POD_TTL_S,
    ROOM_TTL_S,
    Beat,
    Change,
    Freed,
    Gone,
    Granted,
    HeldBy,
    Link,
    Missed,
    News,
    NoAnswer,
    Renewed,
    RoomState,
    Stale,
    TooLargeError,
    Written,
    check_bounds,
    check_rooms,
    size_of,
)


@dataclass(slots=True)
class _Room:
    documents: dict[str, str] = field(default_factory=dict)
    until: float = 0.0  # the documents are kept
    used: float = 0.0  # last taken, renewed or written
    revision: int = 0
    token: int = 0
    pod: str = ""
    held_until: float = 0.0


class MemoryRooms:
    """`clock`: seconds, never going back. Rooms are forgotten as they are in Redis, when another one comes up."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.rooms: dict[str, _Room] = {}
        self.pods: dict[str, tuple[float, bool]] = {}
        self.subscriptions: set[MemorySubscription] = set()
        self._last_token = 0

    def room(self, name: str) -> _Room:
        now = self.clock()
        if name not in self.rooms:
            self.rooms = {one: room for one, room in self.rooms.items() if now < room.used + FENCE_TTL_S}
            self.rooms[name] = _Room(used=now)
        room = self.rooms[name]
        if now >= room.until:
            room.documents = {}
        return room

    def next_token(self) -> int:
        """One for all rooms, so that it grows also where a room was forgotten."""
        self._last_token += 1
        return self._last_token

    def tell(self, news: Change | Freed) -> None:
        for one in self.subscriptions:
            one.put(news)


class MemorySubscription:
    def __init__(self, shared: MemoryRooms) -> None:
        self._shared = shared
        self._rooms: frozenset[str] = frozenset()
        self._news: deque[News] = deque()
        self._arrived = asyncio.Event()
        shared.subscriptions.add(self)

    async def follow(self, rooms: Collection[str]) -> None:
        self._rooms = frozenset(rooms)

    async def get(self) -> News:
        while not self._news:
            self._arrived.clear()
            await self._arrived.wait()
        return self._news.popleft()

    async def close(self) -> None:
        self._shared.subscriptions.discard(self)

    def put(self, news: Change | Freed) -> None:
        if news.room not in self._rooms:
            return
        if len(self._news) >= MAX_QUEUED:
            self._news.clear()
            self._news.append(Missed(f"more than {MAX_QUEUED} waited to be taken"))
        else:
            self._news.append(news)
        self._arrived.set()


class MemoryState:
    """`StateStore` in this process: always in reach."""

    def __init__(self, shared: MemoryRooms, pod: str, *, lease_s: float = 10.0) -> None:
        self._shared = shared
        self._pod = pod
        self._lease_s = lease_s

    @property
    def link(self) -> Link:
        return Link(up=True, since=0.0, returns=1)

    async def wait_return(self, seen: int) -> Link:
        if seen >= self.link.returns:
            await asyncio.Event().wait()  # it never goes away
        return self.link

    async def beat(self, *, leaving: bool = False) -> Mapping[str, Beat]:
        now = self._shared.clock()
        self._shared.pods[self._pod] = now, leaving
        self._shared.pods = {pod: one for pod, one in self._shared.pods.items() if now - one[0] < POD_TTL_S}
        return {pod: Beat(now - at, left) for pod, (at, left) in self._shared.pods.items()}

    async def acquire(self, rooms: Collection[str]) -> Mapping[str, Granted | HeldBy | NoAnswer]:
        check_rooms(rooms)
        return {room: self._acquire(room) for room in rooms}

    def _acquire(self, name: str) -> Granted | HeldBy:
        room, now = self._shared.room(name), self._shared.clock()
        if now < room.held_until and room.pod != self._pod:
            return HeldBy(room.pod, room.held_until - now)
        room.pod, room.token = self._pod, self._shared.next_token()
        room.held_until, room.used = now + self._lease_s, now
        return Granted(room.token)

    async def renew(self, leases: Mapping[str, int]) -> Mapping[str, Renewed | HeldBy | Gone | NoAnswer]:
        check_rooms(leases)
        return {room: self._renew(room, token) for room, token in leases.items()}

    def _renew(self, name: str, token: int) -> Renewed | HeldBy | Gone:
        room, now = self._shared.room(name), self._shared.clock()
        if now >= room.held_until:
            return Gone()
        if (room.pod, room.token) != (self._pod, token):
            return HeldBy(room.pod, room.held_until - now)
        room.held_until = now + self._lease_s
        room.until, room.used = now + ROOM_TTL_S, now
        return Renewed()

    async def release(self, leases: Mapping[str, int]) -> None:
        check_rooms(leases)
        for name, token in leases.items():
            room = self._shared.room(name)
            if self._shared.clock() < room.held_until and (room.pod, room.token) == (self._pod, token):
                room.held_until = 0.0
                self._shared.tell(Freed(name))

    async def read(self, room: str) -> RoomState:
        found, now = self._shared.room(room), self._shared.clock()
        holder = found.pod if now < found.held_until else None
        return RoomState(dict(found.documents), found.revision, found.token, holder)

    async def write(self, room: str, token: int, documents: Mapping[str, str | None]) -> Written | Stale:
        check_bounds(documents)
        found, now = self._shared.room(room), self._shared.clock()
        held = now < found.held_until
        if token < found.token or (held and (found.pod, found.token) != (self._pod, token)):
            return Stale(found.token)
        changes = {name: text for name, text in documents.items() if found.documents.get(name) != text}
        after = {name: text for name, text in {**found.documents, **changes}.items() if text is not None}
        if len(after) > MAX_DOCUMENTS or sum(map(size_of, after.items())) > MAX_ROOM_BYTES:
            raise TooLargeError(room)
        found.documents, found.token = after, token
        found.until, found.used = now + ROOM_TTL_S, now
        if changes:
            found.revision += 1
            self._shared.tell(Change(room, found.revision, self._pod, changes))
        return Written(found.revision, len(changes))

    def subscribe(self) -> MemorySubscription:
        return MemorySubscription(self._shared)

    async def close(self) -> None: ...
