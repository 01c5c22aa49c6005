"""What the pipeline can decide, and the words that it decides in. `streams` carries decisions out one by one."""

from dataclasses import dataclass
from enum import StrEnum

from auralink_dataplane.media.frames import Frame, Mode
from auralink_dataplane.policy import Compression


class State(StrEnum):
    BYPASS = "bypass"
    SHADOW = "shadow"
    COMPRESS = "compress"
    HOLD = "hold"


class Failure(StrEnum):
    """Why a session ended badly."""

    UNREACHABLE = "unreachable"
    BROKEN = "broken"
    TIMEOUT = "timeout"
    INVARIANT = "invariant"
    OVERFLOW = "overflow"
    LOST = "lost"
    FAILED = "failed"
    INPUT = "input"  # the AI Core gave up on this stream's bytes
    PACKETS = "packets"  # frames were lost on our side

    @property
    def blames_core(self) -> bool:
        return self not in (Failure.INPUT, Failure.PACKETS)


class Refusal(StrEnum):
    """Why a session did not start; none is a failure of the endpoint."""

    UNSUPPORTED = "unsupported"
    FULL = "full"
    NO_ENDPOINT = "no_endpoint"


class Takeover(StrEnum):
    """What came of a session's end with a standby beside it."""

    PROMOTED = "promoted"  # its last picture went out as a key
    NEXT_FRAME = "next_frame"  # the next frame did, for the last one was out already
    NATIVE = "native"  # the stream went native before
    FAILED = "failed"  # it gave no key either
    NOT_READY = "not_ready"  # it was not there, or not fit to go on


@dataclass(frozen=True, slots=True)
class Limits:
    timeout_s: float = 0.1
    """No answer for so long is a failure; keys may take twice that."""
    in_flight: int = 15
    """One less than the packet core holds: that it overflows because a session answers no more is the session's
    failure, and the frames are still there for another."""
    standby: bool = False
    """A second session decodes along."""


@dataclass(frozen=True, slots=True)
class SetMode:
    """`at_frame`: from that frame on, if it is still to come; else, and with None, from the next key."""

    mode: Mode
    at_frame: int | None
    extension: bool
    degraded: bool


@dataclass(frozen=True, slots=True)
class Hold:
    """The packet core drops what is in flight and stays silent until the next mode starts at a key."""


@dataclass(frozen=True, slots=True)
class Send:
    """To the AI Core, in either mode."""

    session: int
    frame: Frame
    mode: Mode
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Submit:
    frame_id: int
    data: bytes
    extension: bytes
    key: bool


@dataclass(frozen=True, slots=True)
class SubmitNative:
    frame_id: int
    key: bool


@dataclass(frozen=True, slots=True)
class Drop:
    frame_id: int


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Of the sender."""


@dataclass(frozen=True, slots=True)
class ForceKey:
    """Of the AI Core."""

    session: int


@dataclass(frozen=True, slots=True)
class OpenSession:
    """`standby`: beside the active one, at another endpoint."""

    session: int
    policy: Compression
    standby: bool = False


@dataclass(frozen=True, slots=True)
class Promote:
    """The standby is the stream's session from here on. `picture`: it gives its last picture as a key now, else its own
    key comes with the next frame."""

    session: int
    picture: bool


@dataclass(frozen=True, slots=True)
class UpdatePolicy:
    session: int
    policy: Compression


@dataclass(frozen=True, slots=True)
class Proven:
    """The session has answered enough SHADOW frames in time."""

    session: int


@dataclass(frozen=True, slots=True)
class CloseSession:
    session: int
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class TookOver:
    """Told once of every session that ended while its stream compressed and had, or was to have, a standby. `session`:
    the one that goes on, or was left; `took_s`: from then until its key."""

    session: int
    outcome: Takeover
    reason: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Switched:
    old: State
    new: State
    reason: str


Decision = (
    SetMode
    | Hold
    | Send
    | Submit
    | SubmitNative
    | Drop
    | RequestKey
    | ForceKey
    | OpenSession
    | UpdatePolicy
    | Proven
    | CloseSession
    | Promote
    | TookOver
    | Switched
)
