"""LiveKit's messages in JSON, as values. Pure.

Webhooks write protojson's camelCase and leave out what is zero; Twirp writes the names of the `.proto` files and all
fields; 64-bit numbers are strings, enumerations are names, or numbers where the writer knew no name. As protojson
demands of readers, either spelling is taken, and fields that nobody knows are ignored.

Source: livekit/protocol `protobufs/livekit_models.proto`; https://protobuf.dev/programming-guides/json/
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from auralink_dataplane.rooms.events import (
    MAX_ATTRIBUTES_BYTES,
    MAX_METADATA_BYTES,
    MAX_NAME,
    Listed,
    Participant,
    Role,
    Side,
    Track,
    TrackSource,
    Version,
)

ORIGIN: Final = "bridge.origin"
"""The attribute that who we put there carries."""
MAX_TRACKS: Final = 64
"""Of one participant; more are not looked at."""
MAX_PARTICIPANTS: Final = 10_000
_MAX_INT: Final = (1 << 63) - 1
_MAX_SIDE: Final = 1 << 16
_MAX_MIME: Final = 64
_MAX_ORIGIN: Final = 1024

_SOURCES: Final[Mapping[Any, TrackSource]] = {
    "CAMERA": TrackSource.CAMERA,
    1: TrackSource.CAMERA,
    "MICROPHONE": TrackSource.MICROPHONE,
    2: TrackSource.MICROPHONE,
    "SCREEN_SHARE": TrackSource.SCREEN,
    3: TrackSource.SCREEN,
    "SCREEN_SHARE_AUDIO": TrackSource.SCREEN_AUDIO,
    4: TrackSource.SCREEN_AUDIO,
}
_ACTIVE: Final = ("ACTIVE", 2)
_BRIDGE: Final = ("BRIDGE", 8)
_NOT_ENCRYPTED: Final = (None, "NONE", 0)


class MappingError(ValueError):
    """The message is not what LiveKit writes. The peer's fault."""


@dataclass(frozen=True, slots=True)
class Room:
    sid: str
    name: str
    created_at_ms: int = 0  # since 1970; 0 where LiveKit does not say
    metadata: str = ""
    participants: int = 0  # as LiveKit counts them, a little late


# --- what is read --------------------------------------------------------------------------------------------


def as_object(value: Any, what: str) -> Mapping[str, Any]:
    """Raises MappingError if it is no JSON object."""
    if not isinstance(value, dict):
        raise MappingError(f"{what} is not an object")
    return value


def as_list(value: Any, what: str) -> list[Any]:
    """Raises MappingError if it is neither a JSON array nor missing."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise MappingError(f"{what} is not an array")
    return value


def field_of(message: Mapping[str, Any], name: str) -> Any:
    """By its name in the `.proto` file; None where it is missing or null."""
    found = message.get(name)
    if found is None and "_" in name:
        head, *tail = name.split("_")
        found = message.get(head + "".join(part.capitalize() for part in tail))
    return found


def text_of(message: Mapping[str, Any], name: str, most: int = MAX_NAME) -> str:
    """Cut to `most` characters; empty if it is no string. Always encodes as UTF-8."""
    value = field_of(message, name)
    return _clean(value[:most]) if isinstance(value, str) else ""


def id_of(message: Mapping[str, Any], name: str) -> str:
    """Raises MappingError if it is no string of 1 to MAX_NAME characters: an id is never cut."""
    value = field_of(message, name)
    if not isinstance(value, str) or not value or len(value) > MAX_NAME or value != _clean(value):
        raise MappingError(f"{name} is not a string of 1 to {MAX_NAME} characters")
    return value


def whole_of(message: Mapping[str, Any], name: str, most: int = _MAX_INT) -> int:
    """A number >= 0, or a string of one; 0 if it is neither."""
    value = field_of(message, name)
    if isinstance(value, str) and len(value) < 20 and value.isascii() and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return 0
    return min(value, most)


def _clean(text: str) -> str:
    return text.encode(errors="replace").decode()  # JSON can write half a surrogate pair, and UTF-8 cannot


# --- rooms ---------------------------------------------------------------------------------------------------


def room_of(message: Any) -> Room:
    """`Room`. Raises MappingError if it has no sid or no name."""
    said = as_object(message, "the room")
    return Room(
        sid=id_of(said, "sid"),
        name=id_of(said, "name"),
        created_at_ms=whole_of(said, "creation_time_ms") or whole_of(said, "creation_time") * 1000,
        metadata=text_of(said, "metadata", MAX_METADATA_BYTES),
        participants=whole_of(said, "num_participants"),
    )


# --- participants --------------------------------------------------------------------------------------------


def is_present(message: Any) -> bool:
    """Whether a `ParticipantInfo` is of somebody whom the others in the room see: connected, and not hidden."""
    if not isinstance(message, dict):
        return False
    permission = field_of(message, "permission")
    hidden = isinstance(permission, dict) and bool(field_of(permission, "hidden"))
    return field_of(message, "state") in _ACTIVE and not hidden


def version_of(message: Mapping[str, Any]) -> Version:
    joined_at_ms = whole_of(message, "joined_at_ms") or whole_of(message, "joined_at") * 1000
    return Version(joined_at_ms, whole_of(message, "version"))


def participant_of(message: Any) -> Participant:
    """`ParticipantInfo`. What is wrong in it is left out; raises MappingError where nobody is left."""
    said = as_object(message, "the participant")
    attributes = field_of(said, "attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    origin = attributes.get(ORIGIN)
    return Participant(
        side=Side.LIVEKIT,
        id=id_of(said, "identity"),
        version=version_of(said),
        name=text_of(said, "name"),
        role=_role(field_of(said, "permission")),
        tracks=_tracks(field_of(said, "tracks")),
        attributes=_attributes(attributes),
        origin=_clean(origin[:_MAX_ORIGIN]) if isinstance(origin, str) else "",
        is_bridge=field_of(said, "kind") in _BRIDGE,
    )


def _role(permission: Any) -> Role:
    """LiveKit tells nobody who is a room's admin."""
    if isinstance(permission, dict) and field_of(permission, "can_publish") is not True:
        return Role.WATCHER
    return Role.SPEAKER


def _attributes(said: Mapping[str, Any]) -> Mapping[str, str]:
    """As many as fit into MAX_ATTRIBUTES_BYTES."""
    kept: dict[str, str] = {}
    left = MAX_ATTRIBUTES_BYTES
    for name, value in said.items():
        if not isinstance(value, str):
            continue
        clean_name, clean_value = _clean(name), _clean(value)
        left -= len(clean_name.encode()) + len(clean_value.encode())
        if left < 0:
            break
        kept[clean_name] = clean_value
    return MappingProxyType(kept)


def participants_of(messages: Iterable[Any]) -> tuple[tuple[Participant, ...], int]:
    """Those who are present, by id, the newest of each; and how many messages were of nobody. Raises MappingError for
    more than MAX_PARTICIPANTS."""
    found: dict[str, Participant] = {}
    unreadable = 0
    for message in messages:
        if not is_present(message):
            unreadable += not isinstance(message, dict)
            continue
        try:
            one = participant_of(message)
        except MappingError:
            unreadable += 1
            continue
        if one.id not in found or found[one.id].version < one.version:
            found[one.id] = one
        if len(found) > MAX_PARTICIPANTS:
            raise MappingError(f"more than {MAX_PARTICIPANTS} participants")
    return tuple(found[identity] for identity in sorted(found)), unreadable


def listed(room: Room | None, participants: tuple[Participant, ...], asked_at: float) -> Listed:
    """`room`: None where LiveKit has none of that name. `asked_at`: by the pod's clock."""
    if room is None:
        return Listed(Side.LIVEKIT, "", (), asked_at)
    return Listed(Side.LIVEKIT, room.sid, participants, asked_at)


# --- tracks --------------------------------------------------------------------------------------------------


def track_of(message: Any) -> Track:
    """`TrackInfo`. Raises MappingError if it has no sid."""
    said = as_object(message, "the track")
    source = field_of(said, "source")
    return Track(
        id=id_of(said, "sid"),
        source=_SOURCES.get(source, TrackSource.OTHER) if isinstance(source, str | int) else TrackSource.OTHER,
        muted=field_of(said, "muted") is True,
        mime=text_of(said, "mime_type", _MAX_MIME).lower(),
        width=whole_of(said, "width", _MAX_SIDE),
        height=whole_of(said, "height", _MAX_SIDE),
        # What nobody knows may be encrypted, and then nothing in it may be touched.
        encrypted=field_of(said, "encryption") not in _NOT_ENCRYPTED,
    )


def _tracks(messages: Any) -> tuple[Track, ...]:
    found: dict[str, Track] = {}
    for message in (messages if isinstance(messages, list) else [])[:MAX_TRACKS]:
        try:
            one = track_of(message)
        except MappingError:
            continue
        found[one.id] = one
    return tuple(found[sid] for sid in sorted(found))
