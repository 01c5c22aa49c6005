"""Names under which pods share rooms in Redis: of keys, channels, and documents in a room. The schema: `docs/redis.md`.

    auralink:<namespace>:<bridge>:pods, :birth
    auralink:<namespace>:<bridge>:{room/<room>}:<thing>      state, lease, fence; changes is a channel
    auralink:<namespace>:<bridge>:identity:<kind>:<value>

All begin with the prefix of the bridge. All keys of a room carry the room as their hash tag, the part in braces, so
that a cluster keeps them on one node and a script may use them together (specification of Redis Cluster, "Hash tags").
Names that come from outside are percent-encoded (RFC 3986, all but unreserved characters): any text is allowed, no two
share a key, and each comes back as it was. Nothing is folded or normalised.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import quote, unquote

from auralink_dataplane.rooms.events import Side

ROOM: Final = "room"
MEDIA: Final = "media"
"""Documents of a room, beside those of its participants."""

_PARTICIPANT: Final = "participant"


def encoded(name: str) -> str:
    """ASCII without braces, colons and slashes. Lone surrogates are kept, as what comes from outside may have them."""
    return quote(name, safe="", errors="surrogatepass")


def decoded(text: str) -> str:
    """Raises ValueError for what `encoded` does not write: the way back is as unique as the way there."""
    name = unquote(text, errors="surrogatepass")
    if encoded(name) != text:
        raise ValueError("not an encoded name")
    return name


def prefix(namespace: str, bridge: str) -> str:
    return f"auralink:{encoded(namespace)}:{encoded(bridge)}:"


@dataclass(frozen=True, slots=True)
class Keys:
    prefix: str

    def pods_key(self) -> str:
        """Sorted set: pod -> when it was last heard of."""
        return f"{self.prefix}pods"

    def birth_key(self) -> str:
        """String: a name for the data, made up by the first pod that found none."""
        return f"{self.prefix}birth"

    def room_key(self, room: str) -> str:
        """Hash: id -> document."""
        return f"{self._of(room)}:state"

    def lease_key(self, room: str) -> str:
        """String: who holds the room."""
        return f"{self._of(room)}:lease"

    def fence_key(self, room: str) -> str:
        """Hash: the newest token and revision; it outlives the lease."""
        return f"{self._of(room)}:fence"

    def channel(self, room: str) -> str:
        return f"{self._of(room)}:changes"

    def identity_key(self, kind: str, value: str) -> str:
        """String: an `identity` document. `kind`: an `identity.Kind` value. E-mail addresses and numbers stand there as
        SHA-256, which keeps them out of key listings and slow logs, but not from whoever guesses them."""
        plain = kind == "aura"
        name = encoded(value) if plain else sha256(value.encode(errors="surrogatepass")).hexdigest()
        return f"{self.prefix}identity:{encoded(kind)}:{name}"

    def room_of(self, key: str) -> str:
        """The room of a key or channel above. Raises ValueError for those of other bridges, and of no room."""
        start = f"{self.prefix}{{room/"
        name, closed, _ = key.removeprefix(start).partition("}:")
        if not key.startswith(start) or not closed:
            raise ValueError("not a key of a room of this bridge")
        return decoded(name)

    def _of(self, room: str) -> str:
        return f"{self.prefix}{{room/{encoded(room)}}}"  # an empty tag would be none


def participant_document(side: Side, participant: str) -> str:
    """Id of a participant's document in its room."""
    return f"{_PARTICIPANT}/{side.value}/{encoded(participant)}"


def parse_participant_document(document: str) -> tuple[Side, str] | None:
    """None for ids of other documents."""
    try:
        kind, side, participant = document.split("/")
        return (Side(side), decoded(participant)) if kind == _PARTICIPANT else None
    except ValueError:
        return None
