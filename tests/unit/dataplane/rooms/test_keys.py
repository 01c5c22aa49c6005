"""Names of keys: every room has its own, and comes back from it."""

import pytest
from auralink_dataplane.rooms.events import Side
from auralink_dataplane.rooms.keys import (
    MEDIA,
    ROOM,
    Keys,
    decoded,
    encoded,
    parse_participant_document,
    participant_document,
    prefix,
)
from hypothesis import given
from hypothesis import strategies as st

KEYS = Keys(prefix("prod", "berlin"))
ODD = ["", "a/b", "a:b", "a}b", "{a}", "a%2Fb", "*", "é", "e\u0301", "\ud83d", "\ud83d\ude00", "\U0001f600", "room/"]
NAMES = st.text(st.characters(), max_size=40) | st.sampled_from(ODD)


def of_room(keys: Keys, room: str) -> list[str]:
    return [keys.lease_key(room), keys.fence_key(room), keys.room_key(room), keys.channel(room)]


def test_keys_are_readable() -> None:
    assert KEYS.room_key("team/stand-up") == "auralink:prod:berlin:{room/team%2Fstand-up}:state"
    assert KEYS.channel("a b") == "auralink:prod:berlin:{room/a%20b}:changes"
    assert KEYS.pods_key() == "auralink:prod:berlin:pods"
    assert KEYS.identity_key("aura", "aura:12345") == "auralink:prod:berlin:identity:aura:aura%3A12345"
    assert participant_document(Side.LIVEKIT, "user@example.com") == "participant/livekit/user%40example.com"


def test_contacts_do_not_stand_in_keys() -> None:
    key = KEYS.identity_key("email", "user@example.com")
    assert key.removeprefix("auralink:prod:berlin:identity:email:") == (
        "b4c9a289323b21a01c3e940f150eb9b8c542587f1abfd8f0e1cc1ffc5e475514"
    )
    assert key != KEYS.identity_key("phone", "user@example.com")


@given(NAMES)
def test_a_room_comes_back_from_each_of_its_keys(room: str) -> None:
    for key in of_room(KEYS, room):
        assert KEYS.room_of(key) == room
        assert key.isascii()
        with pytest.raises(ValueError, match="not a key"):
            Keys(prefix("prod", "berlin2")).room_of(key)


@given(st.tuples(NAMES, NAMES, NAMES), st.tuples(NAMES, NAMES, NAMES))
def test_no_two_rooms_or_bridges_share_a_key(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    (ours, a), (theirs, b) = (Keys(prefix(*one[:2])), one[2]), (Keys(prefix(*other[:2])), other[2])
    assert len(set(of_room(ours, a))) == 4
    assert (one == other) == bool(set(of_room(ours, a)) & set(of_room(theirs, b)))
    assert not {ours.pods_key(), ours.identity_key("aura", a)} & set(of_room(theirs, b))


@given(NAMES)
def test_all_keys_of_a_room_have_one_hash_tag(room: str) -> None:
    """Redis Cluster hashes what is between the first brace and the first closing one after it, if anything is."""
    tags = {key[key.index("{") + 1 : key.index("}", key.index("{"))] for key in of_room(Keys(prefix("", "")), room)}
    assert len(tags) == 1
    assert tags.pop()


@given(NAMES, st.sampled_from(Side))
def test_a_participant_comes_back_from_its_document(participant: str, side: Side) -> None:
    assert parse_participant_document(participant_document(side, participant)) == (side, participant)


@given(st.text(max_size=20))
def test_any_document_id_is_read_or_passed_over(text: str) -> None:
    for document in (text, f"participant/jitsi/{text}", ROOM, MEDIA):
        parsed = parse_participant_document(document)
        assert parsed is None or participant_document(*parsed) == document


@given(st.text(max_size=60))
def test_any_key_is_read_or_refused(text: str) -> None:
    for key in (text, f"{KEYS.prefix}{text}", f"{KEYS.prefix}{{room/{text}"):
        try:
            room = KEYS.room_of(key)
        except ValueError:
            continue
        assert key.startswith(KEYS.room_key(room).removesuffix("state"))


@pytest.mark.parametrize("text", ["%2f", "a/b", "%", "%zz", "%ff", "é", "%C3"])
def test_what_no_name_is_encoded_as_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"name|decode"):
        decoded(text)


@given(NAMES)
def test_names_come_back(name: str) -> None:
    assert decoded(encoded(name)) == name
