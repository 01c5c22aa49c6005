"""What happens in a room, as typed facts: the one language of webhooks, signalling, presence and listings.

A fact is what one side said of itself, with the version that orders it. Nothing here says when it is to be believed
(`state`) or what is to be done about it (`plan`).

A room has two sides. On a side, somebody is known by an id: LiveKit's identity, Jitsi's endpoint id (the resource of
the occupant's JID). Who we put there ourselves carries an `origin`, and is never mirrored back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

MAX_NAME: Final = 256  # characters; LiveKit's own limit, and ours for Jitsi's
MAX_ATTRIBUTES_BYTES: Final = 64 << 10
MAX_METADATA_BYTES: Final = 512 << 10


class Side(Enum):
    LIVEKIT = "livekit"
    JITSI = "jitsi"

    @property
    def other(self) -> "Side":
        return Side.JITSI if self is Side.LIVEKIT else Side.LIVEKIT


class Source(Enum):
    """How a fact came to us. Facts are hints but for LISTING and PRESENCE, which are the side's own word."""

    WEBHOOK = "webhook"
    SIGNALLING = "signalling"
    PRESENCE = "presence"
    LISTING = "listing"


class TrackSource(Enum):
    CAMERA = "camera"
    MICROPHONE = "microphone"
    SCREEN = "screen"
    SCREEN_AUDIO = "screen_audio"
    OTHER = "other"


class Role(Enum):
    """LiveKit: publisher, or room admin; Jitsi: participant, or moderator."""

    WATCHER = "watcher"
    SPEAKER = "speaker"
    MODERATOR = "moderator"


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """Which of two facts of one participant is the newer. A higher incarnation is another joining of the same id."""

    incarnation: (
        int  # ms since 1970 when it joined: LiveKit `joined_at_ms`, event_sync `joined_at`, presence: as first seen
    )
    number: int = 0  # within it: LiveKit `ParticipantInfo.version`, Jitsi the presences seen so far


@dataclass(frozen=True, slots=True)
class Track:
    id: str  # LiveKit track sid, Jitsi source name
    source: TrackSource
    muted: bool = False
    mime: str = ""  # "video/h264"; empty where the side does not say
    width: int = 0  # pixels, 0 where unknown
    height: int = 0
    encrypted: bool = False


@dataclass(frozen=True, slots=True)
class Participant:
    """One participant on one side, as that side describes it."""

    side: Side
    id: str
    version: Version
    name: str = ""
    role: Role = Role.SPEAKER
    hand_raised: bool = False
    tracks: tuple[Track, ...] = ()  # by id
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    origin: str = ""  # of one that we put there: "jitsi:<room jid>/<endpoint>" or "livekit:<room sid>/<identity>"
    is_bridge: bool = False  # LiveKit kind BRIDGE, Jitsi stats-id "auralink"
    hidden: bool = False  # not shown to its own side (recorders, LiveKit's `hidden`, Jitsi's focus): never mirrored


@dataclass(frozen=True, slots=True)
class Seen:
    """A participant is there, or has changed."""

    participant: Participant
    source: Source
    room_sid: str = ""  # LiveKit room sid, Jitsi meeting id; empty where the fact does not say


@dataclass(frozen=True, slots=True)
class Left:
    """`version`: of the joining that ended; Version(0) where the fact does not say."""

    side: Side
    id: str
    version: Version
    source: Source
    room_sid: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RoomOpened:
    side: Side
    room_sid: str
    source: Source


@dataclass(frozen=True, slots=True)
class RoomEnded:
    side: Side
    room_sid: str
    source: Source


@dataclass(frozen=True, slots=True)
class Listed:
    """All that a side has now: what is not in it is not there, if it was asked for after what we know of it.

    A participant of whom the side says no version has Version(0): it is there, and that is all. On Jitsi versions are
    on presence's scale, never on event_sync's.
    """

    side: Side
    room_sid: str  # empty: the side has no such room
    participants: tuple[Participant, ...]
    asked_at: float  # by the pod's clock, when the listing was asked for


@dataclass(frozen=True, slots=True)
class Said:
    """A chat message to the whole room. `id`: the side's own, by which it is told once."""

    side: Side
    author: str
    text: str
    id: str
    source: Source


Event = Seen | Left | RoomOpened | RoomEnded | Listed | Said
