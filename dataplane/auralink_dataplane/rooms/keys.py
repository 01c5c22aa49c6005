"""Names under which pods share rooms in Redis.

All begin with the prefix of the bridge. All keys of a room carry the room as their hash tag, the part in braces, so
that a cluster keeps them on one node and a script may use them together (specification of Redis Cluster, "Hash tags").
Names of rooms and bridges are percent-encoded: any text is allowed, and comes back as it was.
"""

from dataclasses import dataclass
from urllib.parse import quote, unquote


def encoded(name: str) -> str:
    """ASCII without braces, colons and slashes. Lone surrogates are kept, as what comes from outside may have them."""
    return quote(name, safe="", errors="surrogatepass")


def decoded(text: str) -> str:
    return unquote(text, errors="surrogatepass")


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

    def room_of(self, key: str) -> str:
        """The room of a key or channel above."""
        return decoded(key[key.index("{") + 1 : key.rindex("}")].removeprefix("room/"))

    def _of(self, room: str) -> str:
        return f"{self.prefix}{{room/{encoded(room)}}}"  # an empty tag would be none
