"""Names of keys: safe, reversible, and of a room on one node."""

import re

from auralink_dataplane.rooms.keys import Keys, prefix
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.text(st.characters(), max_size=40) | st.text("{}/:*?[]%\\ \n\0", max_size=10)


@given(NAMES, NAMES, NAMES)
def test_any_name_comes_back(namespace: str, bridge: str, room: str) -> None:
    keys = Keys(prefix(namespace, bridge))
    for key in (keys.room_key(room), keys.lease_key(room), keys.fence_key(room), keys.channel(room)):
        assert keys.room_of(key) == room
        assert key.isascii()
        assert key.isprintable()
        assert " " not in key


@given(NAMES, NAMES)
def test_rooms_share_no_key(room: str, other: str) -> None:
    keys = Keys(prefix("a", "b"))
    names = [(keys.room_key(one), keys.lease_key(one), keys.fence_key(one), keys.channel(one)) for one in (room, other)]
    assert room == other or not set(names[0]) & set(names[1])


@given(NAMES, NAMES)
def test_all_keys_of_a_room_carry_one_hash_tag(bridge: str, room: str) -> None:
    keys = Keys(prefix("a", bridge))
    found = {_tag(key) for key in (keys.room_key(room), keys.lease_key(room), keys.fence_key(room))}
    assert len(found) == 1
    assert found != {""}


def test_bridges_are_told_apart_whatever_they_are_called() -> None:
    assert prefix("a:b", "c") != prefix("a", "b:c")


def _tag(key: str) -> str:
    """Specification of Redis Cluster: between the first { and the first } after it."""
    found = re.search(r"\{([^}]*)\}", key)
    return found[1] if found else ""
