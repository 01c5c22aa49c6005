"""What pods ask of the state that they share: who lives, who holds which room, and what is in it.

Redis keeps it (`adapters.redis_state`), and memory where a bridge has one pod (`adapters.memory_state`). Documents are
text that the store does not look into.

A room is held by one pod at a time, by a lease that ends by itself. Each time that a lease is taken it has a greater
token, also after the store lost its data. Who writes shows its token; one that is older than the newest that the room
has seen is refused, so that a pod that was stopped and goes on does no harm (fencing: Kleppmann, "How to do distributed
locking", 2016).
"""

from collections.abc import Collection, Mapping, Sized
from dataclasses import dataclass
from typing import Final, Protocol

MAX_DOCUMENT_BYTES: Final = 128 << 10
MAX_DOCUMENTS: Final = 4096
"""In a room: a thousand participants on two sides, twice."""
MAX_WRITE_BYTES: Final = 1 << 20
MAX_ROOM_BYTES: Final = 8 << 20
MAX_ROOMS_AT_ONCE: Final = 256
"""In one call."""
MAX_PODS: Final = 1000
MAX_QUEUED: Final = 1024
"""News that wait to be taken from a subscription."""

ROOM_TTL_S: Final = 300.0
"""State is kept for so long after its holder was last heard of, for whoever takes over."""
FENCE_TTL_S: Final = 86400.0
"""Tokens are remembered for so long after; nothing that a pod sent is under way any more then."""
POD_TTL_S: Final = 3600.0
"""Pods are listed for so long after they were last heard of."""


# --- errors -------------------------------------------------------------------------------------------------


class StoreError(Exception):
    """Messages hold no secrets and no documents."""


class UnavailableError(StoreError):
    """No answer: the call may have been carried out or not."""


class RefusedError(StoreError):
    """The store answered and will not: credentials or rights. Nothing was done."""


class ForeignError(StoreError):
    """What is stored under one of our names is not ours. Nothing was done."""


class TooLargeError(StoreError):
    """More than the bounds above. Nothing was done."""


# --- answers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Granted:
    token: int


@dataclass(frozen=True, slots=True)
class HeldBy:
    """Somebody else holds it, and will for `remaining_s` unless renewed."""

    pod: str
    remaining_s: float


@dataclass(frozen=True, slots=True)
class Renewed:
    pass


@dataclass(frozen=True, slots=True)
class Gone:
    """Nobody holds it: it ran out, or the store lost its data."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """For one room of several: the others' answers hold."""

    reason: str


@dataclass(frozen=True, slots=True)
class Written:
    revision: int  # of the room, after
    changed: int  # documents that differed from those stored


@dataclass(frozen=True, slots=True)
class Stale:
    """Refused: the writer's token is not the newest."""

    newest: int


@dataclass(frozen=True, slots=True)
class RoomState:
    documents: Mapping[str, str]  # by id
    revision: int = 0
    token: int = 0  # the newest, 0 if there never was one
    holder: str | None = None


@dataclass(frozen=True, slots=True)
class Beat:
    age_s: float  # since the pod was last heard of
    leaving: bool


@dataclass(frozen=True, slots=True)
class Link:
    """`since`: by the loop's clock. `returns`: how often the store came (back) into reach."""

    up: bool
    since: float
    returns: int = 0
    reason: str = ""  # why it is down


# --- news ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """`revision` is one more than the room's last; where it is not, something was missed."""

    room: str
    revision: int
    pod: str  # who wrote
    documents: Mapping[str, str | None]  # None: removed


@dataclass(frozen=True, slots=True)
class Freed:
    """Its holder let it go."""

    room: str


@dataclass(frozen=True, slots=True)
class Missed:
    """News were lost: read again whatever is followed."""

    reason: str


News = Change | Freed | Missed


class Subscription(Protocol):
    async def follow(self, rooms: Collection[str]) -> None:
        """From now on these and no others. No error: where the store is out of reach they are followed when it is back,
        and `Missed` tells so."""

    async def get(self) -> News:
        """The next, in order within a room. Where more than MAX_QUEUED wait, they are replaced by one `Missed`."""

    async def close(self) -> None: ...


class StateStore(Protocol):
    """Every call ends within seconds. All raise `UnavailableError` and `RefusedError`."""

    @property
    def link(self) -> Link: ...

    async def wait_return(self, seen: int) -> Link:
        """Once the store has come into reach more than `seen` times: then read and write again what matters."""

    async def beat(self, *, leaving: bool = False) -> Mapping[str, Beat]:
        """This pod lives; who else does, by name. `leaving`: it takes no more rooms. Raises ForeignError."""

    async def acquire(self, rooms: Collection[str]) -> Mapping[str, Granted | HeldBy | NoAnswer]:
        """At most MAX_ROOMS_AT_ONCE. What this pod holds is granted anew, with a greater token."""

    async def renew(self, leases: Mapping[str, int]) -> Mapping[str, Renewed | HeldBy | Gone | NoAnswer]:
        """Room -> token. `HeldBy` may name this pod: by another token."""

    async def release(self, leases: Mapping[str, int]) -> None:
        """Room -> token. Those that are not held by it stay as they are."""

    async def read(self, room: str) -> RoomState:
        """Of any room, held or not. Raises ForeignError, TooLargeError."""

    async def write(self, room: str, token: int, documents: Mapping[str, str | None]) -> Written | Stale:
        """Sets those documents, removes those that are None, leaves the others and tells who follows the room. Raises
        ForeignError, TooLargeError."""

    def subscribe(self) -> Subscription: ...

    async def close(self) -> None: ...


def check_bounds(documents: Mapping[str, str | None]) -> None:
    """Of one write. Raises TooLargeError."""
    total = 0
    for name, document in documents.items():
        size = size_of((name, document or ""))
        if size > MAX_DOCUMENT_BYTES:
            raise TooLargeError(f"a document of {size} bytes: at most {MAX_DOCUMENT_BYTES}")
        total += size
    if total > MAX_WRITE_BYTES or len(documents) > MAX_DOCUMENTS:
        raise TooLargeError(
            f"{len(documents)} documents of {total} bytes: at most {MAX_DOCUMENTS} of {MAX_WRITE_BYTES}"
        )


def size_of(document: tuple[str, str]) -> int:
    """Bytes of an id and its document."""
    return sum(len(text.encode(errors="surrogatepass")) for text in document)


def check_rooms(rooms: Sized) -> None:
    """Of one call. Raises ValueError."""
    if len(rooms) > MAX_ROOMS_AT_ONCE:
        raise ValueError(f"{len(rooms)} rooms in one call: at most {MAX_ROOMS_AT_ONCE}")
