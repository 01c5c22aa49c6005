"""What is kept of rooms for later: who was there, how well it went, what was saved, who did what.

Records are facts with the time at which they held. Each has a natural key, so that the same record sent twice is one
row, and an end may come before its beginning. `spool` keeps them until a database takes them.

Names and identities are written as a room's privacy lets them be kept (`kept`). What no database can store as text is
replaced (`cleaned`), what no column can hold is refused with a reason (`refusal`).
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Final, TypeVar
from uuid import UUID

from auralink_dataplane.policy import Privacy
from auralink_dataplane.rooms.events import Side

R = TypeVar("R", bound="Record")

MAX_TEXT: Final = 512
"""Characters of a text; twice the longest name that LiveKit takes."""
MAX_DETAILS: Final = 16
"""Entries of an audit entry's details."""
LATEST_MS: Final = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z, the last that a `datetime` can hold."""
MAX_COUNT: Final = 2**63 - 1
"""A bigint."""


class Importance(IntEnum):
    """Where not everything can be kept, the lowest goes first."""

    SAMPLE = 0
    SAVING = 1
    PRESENCE = 2
    AUDIT = 3


# --- the kinds ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RoomOpened:
    room: UUID
    opened_ms: int  # since 1970, as all times here
    name: str


@dataclass(frozen=True, slots=True)
class RoomClosed:
    room: UUID
    opened_ms: int
    closed_ms: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """One source of a room whose media passes through this pod."""

    session: UUID
    opened_ms: int
    room: UUID
    leg: str
    medium: str  # "audio", "video"
    codec: str


@dataclass(frozen=True, slots=True)
class SessionClosed:
    session: UUID
    opened_ms: int
    closed_ms: int
    bytes_in: int = 0
    bytes_out: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ParticipantJoined:
    """`name`, `identity`: None where privacy keeps them back."""

    participant: UUID
    joined_ms: int
    room: UUID
    side: Side
    name: str | None = None
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class ParticipantLeft:
    participant: UUID
    joined_ms: int
    left_ms: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class QosSample:
    """None where nothing was measured."""

    participant: UUID
    at_ms: int
    loss_percent: float | None = None  # 0..100
    jitter_ms: float | None = None
    rtt_ms: float | None = None
    bandwidth_kbps: float | None = None
    mos: float | None = None  # 1..5, ITU-T P.800


@dataclass(frozen=True, slots=True)
class CompressionSample:
    """What a session did since its last sample."""

    session: UUID
    at_ms: int
    frames: int
    frames_compressed: int
    frames_fallback: int
    bytes_in: int
    bytes_out: int
    latency_ms: float | None = None  # the median of the compressed frames


@dataclass(frozen=True, slots=True)
class AuditEntry:
    entry: UUID
    at_ms: int
    actor: str
    action: str
    subject: str = ""
    details: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


Record = (
    RoomOpened
    | RoomClosed
    | SessionOpened
    | SessionClosed
    | ParticipantJoined
    | ParticipantLeft
    | QosSample
    | CompressionSample
    | AuditEntry
)

KINDS: Final[Mapping[type[Record], tuple[str, Importance]]] = MappingProxyType(
    {
        RoomOpened: ("room_opened", Importance.PRESENCE),
        RoomClosed: ("room_closed", Importance.PRESENCE),
        SessionOpened: ("session_opened", Importance.PRESENCE),
        SessionClosed: ("session_closed", Importance.PRESENCE),
        ParticipantJoined: ("participant_joined", Importance.PRESENCE),
        ParticipantLeft: ("participant_left", Importance.PRESENCE),
        QosSample: ("qos_sample", Importance.SAMPLE),
        CompressionSample: ("compression_sample", Importance.SAVING),
        AuditEntry: ("audit_entry", Importance.AUDIT),
    }
)
"""What a kind is called where it is counted, and how much it matters."""


def kind_of(record: Record) -> str:
    return KINDS[type(record)][0]


def importance_of(record: Record) -> Importance:
    return KINDS[type(record)][1]


# --- identifiers and names ----------------------------------------------------------------------------------


def record_id(*parts: str, key: bytes = b"") -> UUID:
    """The same for the same parts, on every pod: UUID version 8 (RFC 9562 section 5.8) of a keyed BLAKE2b (RFC 7693).

    `key`, at most 64 bytes: a secret of the bridge. Without one, who can guess a part that is hidden can check the
    guess.
    """
    digest = hashlib.blake2b(digest_size=16, key=key)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(4, "big") + data)
    value = int.from_bytes(digest.digest(), "big")
    value = value & ~(0xF << 76) | 8 << 76  # version
    return UUID(int=value & ~(0x3 << 62) | 2 << 62)  # variant


def kept(privacy: Privacy, *, name: str, identity: str, pseudonym: str) -> tuple[str | None, str | None]:
    """Name and identity as a record may hold them: what the other side may not learn is not written down either."""
    match privacy:
        case "Full":
            return name, identity
        case "DisplayName":
            return name, None
        case "Pseudonym":
            return pseudonym, None
        case "Hidden":
            return None, None


# --- what can be stored -------------------------------------------------------------------------------------


def cleaned(record: R) -> tuple[R, bool]:
    """With texts that PostgreSQL takes, and whether that needed a change: no NUL and no surrogates (U+FFFD instead), at
    most MAX_TEXT characters and MAX_DETAILS details."""
    changes: dict[str, str | Mapping[str, str]] = {}
    for one in fields(record):
        value = getattr(record, one.name)
        if isinstance(value, str) and (text := _text(value)) != value:
            changes[one.name] = text
        elif isinstance(value, Mapping) and (details := _details(value)) != value:
            changes[one.name] = details
    return (replace(record, **changes), True) if changes else (record, False)  # type: ignore[arg-type]


def refusal(record: Record) -> str | None:
    """Why no column can hold it: "time" not within the years 1970..9999, "number" not a finite one of 0..2**63-1."""
    for one in fields(record):
        value = getattr(record, one.name)
        if isinstance(value, int) and one.name.endswith("_ms"):
            if not 0 <= value <= LATEST_MS:
                return "time"
        elif isinstance(value, int | float) and not (math.isfinite(value) and 0 <= value <= MAX_COUNT):
            return "number"
    return None


def size_of(record: Record) -> int:
    """Bytes of memory that it takes, about: what is fixed, and four per character, the most that Python needs."""
    return 256 + sum(_size(getattr(record, one.name)) for one in fields(record))


def _size(value: object) -> int:
    match value:
        case str():
            return 64 + 4 * len(value)
        case Mapping():
            return 256 + sum(_size(name) + _size(text) for name, text in value.items())
        case UUID() | Enum() | None:
            return 16
        case _:
            return 32


def _text(value: str) -> str:
    value = value[:MAX_TEXT].replace("\0", "\ufffd")
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in value)


def _details(details: Mapping[str, str]) -> Mapping[str, str]:
    return {_text(name): _text(text) for name, text in sorted(details.items())[:MAX_DETAILS]}
