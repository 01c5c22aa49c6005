"""LiveKit's JSON becomes participants, whichever way it is written; what is wrong in it is left out."""

import json
from typing import Any

import pytest
from auralink_dataplane.adapters.livekit.mapping import (
    MAX_PARTICIPANTS,
    MAX_TRACKS,
    MappingError,
    Room,
    is_present,
    listed,
    participant_of,
    participants_of,
    room_of,
    track_of,
)
from auralink_dataplane.rooms.events import Listed, Participant, Role, Side, Track, TrackSource, Version
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dataplane.adapters.livekit_says import ROOM, participant

# What Twirp answers: the names of the .proto files, and all fields.
IN_TWIRP: dict[str, Any] = {
    "sid": "PA_1",
    "identity": "alice",
    "state": "ACTIVE",
    "tracks": [
        {
            "sid": "TR_2",
            "type": "VIDEO",
            "name": "cam",
            "muted": True,
            "width": 1280,
            "height": 720,
            "simulcast": True,
            "source": "CAMERA",
            "mime_type": "video/VP8",
            "mid": "1",
            "codecs": [],
            "encryption": "NONE",
            "stream": "camera",
            "version": {"unix_micro": "1789999999000000", "ticks": 0},
        },
        {"sid": "TR_1", "type": "AUDIO", "source": "MICROPHONE", "mime_type": "audio/opus", "encryption": "GCM"},
    ],
    "metadata": "",
    "joined_at": "1789999995",
    "joined_at_ms": "1789999995250",
    "name": "Alice",
    "version": 3,
    "permission": {"can_subscribe": True, "can_publish": True, "can_publish_sources": [], "hidden": False},
    "region": "",
    "is_publisher": True,
    "kind": "STANDARD",
    "attributes": {"language": "en"},
    "disconnect_reason": "UNKNOWN_REASON",
    "something_new": {"a": [1]},
}
ALICE = Participant(
    side=Side.LIVEKIT,
    id="alice",
    version=Version(1789999995250, 3),
    name="Alice",
    role=Role.SPEAKER,
    tracks=(
        Track("TR_1", TrackSource.MICROPHONE, mime="audio/opus", encrypted=True),
        Track("TR_2", TrackSource.CAMERA, muted=True, mime="video/vp8", width=1280, height=720),
    ),
    attributes={"language": "en"},
)


def camel(value: Any) -> Any:
    """The same in a webhook's spelling."""
    if isinstance(value, list):
        return [camel(one) for one in value]
    if not isinstance(value, dict):
        return value
    spelled = {}
    for name, one in value.items():
        head, *tail = name.split("_")
        spelled[head + "".join(part.capitalize() for part in tail)] = camel(one)
    return spelled


def test_a_participant_is_read_from_a_listing() -> None:
    assert participant_of(IN_TWIRP) == ALICE


def test_a_participant_is_read_from_a_webhook() -> None:
    assert participant_of(camel(IN_TWIRP)) == ALICE


def test_enumerations_may_be_numbers() -> None:
    said = participant(state=2, kind=8, tracks=[{"sid": "TR_1", "source": 3, "encryption": 0}])
    assert is_present(said)
    found = participant_of(said)
    assert found.is_bridge
    assert found.tracks == (Track("TR_1", TrackSource.SCREEN),)


def test_seconds_stand_in_for_milliseconds_of_an_older_server() -> None:
    said = participant()
    del said["joinedAtMs"]
    assert participant_of(said).version == Version(1789999995000, 3)


def test_whom_we_put_there_is_known_by_kind_and_origin() -> None:
    found = participant_of(participant(kind="BRIDGE", attributes={"bridge.origin": "jitsi:r@muc/1"}))
    assert (found.is_bridge, found.origin) == (True, "jitsi:r@muc/1")


@pytest.mark.parametrize(
    ("permission", "role"),
    [
        ({"canPublish": True}, Role.SPEAKER),
        ({"canSubscribe": True}, Role.WATCHER),  # protojson leaves out what is false
        ({}, Role.WATCHER),
        (None, Role.SPEAKER),
        ({"canPublish": "yes"}, Role.WATCHER),
    ],
)
def test_who_may_not_publish_watches(permission: Any, role: Role) -> None:
    assert participant_of(participant(permission=permission)).role is role


@pytest.mark.parametrize(
    "said",
    [
        participant(state="JOINING"),
        participant(state="JOINED"),
        participant(state="DISCONNECTED"),
        participant(state=None),
        participant(permission={"canPublish": True, "hidden": True}),
        None,
        "alice",
        [],
    ],
)
def test_who_is_hidden_or_not_connected_is_not_there(said: Any) -> None:
    assert not is_present(said)
    assert participants_of([said])[0] == ()


def test_unknown_encryption_counts_as_encryption() -> None:
    assert track_of({"sid": "TR_1", "encryption": "QUANTUM"}).encrypted
    assert track_of({"sid": "TR_1", "encryption": 2}).encrypted
    assert not track_of({"sid": "TR_1"}).encrypted


def test_a_track_of_an_unknown_source_is_another() -> None:
    sources: list[Any] = [None, "UNKNOWN", 0, "HOLOGRAM", 99, [], {}]
    for source in sources:
        assert track_of({"sid": "TR_1", "source": source}).source is TrackSource.OTHER


def test_the_newest_of_an_identity_is_kept_and_all_are_sorted() -> None:
    old, new, bob = participant(version=1), participant(version=2), participant(identity="bob")
    found, unreadable = participants_of([bob, new, old])
    assert [(one.id, one.version.number) for one in found] == [("alice", 2), ("bob", 3)]
    assert unreadable == 0


def test_one_that_cannot_be_read_costs_no_other() -> None:
    found, unreadable = participants_of([participant(), participant(identity="a" * 257), 7, participant(identity=None)])
    assert [one.id for one in found] == ["alice"]
    assert unreadable == 3


def test_a_listing_is_of_a_room() -> None:
    room = room_of(ROOM)
    assert room == Room("RM_1", "standup", 1789999990123)
    assert listed(room, (ALICE,), 5.0) == Listed(Side.LIVEKIT, "RM_1", (ALICE,), 5.0)
    assert listed(None, (ALICE,), 5.0) == Listed(Side.LIVEKIT, "", (), 5.0)


@pytest.mark.parametrize("said", [None, [], "r", {}, {"sid": "RM_1"}, {"name": "r"}, {"sid": 1, "name": "r"}])
def test_a_room_without_id_or_name_is_refused(said: Any) -> None:
    with pytest.raises(MappingError):
        room_of(said)


# --- hostile -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("identity", [None, "", 7, ["alice"], {"a": 1}, True, "a" * 257, "\ud800"])
def test_an_identity_is_never_guessed(identity: Any) -> None:
    with pytest.raises(MappingError):
        participant_of(participant(identity=identity))


@pytest.mark.parametrize("wrong", [None, 7, -1, 1.5, "x", "-1", "9" * 30, "٣", True, [], [[]], {"a": {}}])
def test_fields_of_a_wrong_type_are_left_out(wrong: Any) -> None:
    names = ("name", "version", "joinedAt", "joinedAtMs", "tracks", "permission", "kind", "attributes")
    found = participant_of(participant(**dict.fromkeys(names, wrong)))
    assert found.id == "alice"
    assert found.version >= Version(0, 0)
    assert found.tracks == ()
    assert not found.is_bridge
    assert track_of(
        {"sid": "TR_1", **dict.fromkeys(("width", "height", "mimeType", "muted", "source", "encryption"), wrong)}
    ).width in range(1 << 17)


def test_what_is_too_much_is_cut() -> None:
    found = participant_of(
        participant(
            name="n" * 1000,
            joinedAtMs="9" * 19,
            attributes={"bridge.origin": "o" * 100_000, "a": "x" * 70_000, "b": "y"},
            tracks=[{"sid": f"TR_{number:04}", "width": 1 << 40, "mimeType": "m" * 999} for number in range(500)],
        )
    )
    assert len(found.name) == 256
    assert found.version.incarnation == (1 << 63) - 1
    assert found.origin == "o" * 1024
    assert sum(len(name) + len(value) for name, value in found.attributes.items()) <= 64 << 10
    assert len(found.tracks) == MAX_TRACKS
    assert found.tracks[0].width == 1 << 16
    assert len(found.tracks[0].mime) == 64


def test_half_a_surrogate_pair_is_replaced() -> None:
    said = json.loads('{"identity": "alice", "name": "\\ud83d", "attributes": {"\\udc00": "\\udc00"}}')
    found = participant_of(said)
    assert found.name == "?"
    assert dict(found.attributes) == {"?": "?"}


def test_a_listing_has_an_end() -> None:
    with pytest.raises(MappingError):
        participants_of(participant(identity=str(number)) for number in range(MAX_PARTICIPANTS + 1))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from([*IN_TWIRP, *camel(IN_TWIRP), "permission", "tracks"])


@given(st.dictionaries(FIELDS, JSON, max_size=8))
def test_no_json_does_harm(said: dict[str, Any]) -> None:
    found, _ = participants_of([{**IN_TWIRP, **said}, said, list(said)])
    for one in found:
        one.name.encode()
        hash((one.id, one.version, one.tracks))
