"""A webhook is believed only if LiveKit signed its very bytes, lately, and not twice; then it becomes facts."""

import json
from dataclasses import replace
from typing import Any

import pytest
from auralink_dataplane.adapters.livekit.tokens import Key, Keys, Problem
from auralink_dataplane.adapters.livekit.webhooks import (
    MAX_BODY_BYTES,
    Reason,
    Refused,
    Replays,
    Webhook,
    receive,
)
from auralink_dataplane.rooms.events import (
    Left,
    RoomEnded,
    RoomOpened,
    Seen,
    Side,
    Source,
    Track,
    TrackSource,
    Version,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dataplane.adapters.livekit_says import KEY, KEYS, NOW, OTHER, event, participant, signed, webhook


def taken(kind: str, **fields: Any) -> Webhook:
    body, header = webhook(kind, **fields)
    found = receive(body, header, KEYS, NOW)
    assert isinstance(found, Webhook), found
    return found


def refusal(body: bytes, header: str | None, keys: Keys = KEYS, now: float = NOW) -> Refused:
    found = receive(body, header, keys, now)
    assert isinstance(found, Refused), found
    assert KEY.secret not in found.detail
    return found


# --- facts ---------------------------------------------------------------------------------------------------


def test_a_join_is_seen() -> None:
    found = taken("participant_joined", participant=participant())
    assert (found.id, found.room, found.room_sid, found.created_at_s) == ("EV_1", "standup", "RM_1", 1790000000)
    [seen] = found.facts
    assert isinstance(seen, Seen)
    assert (seen.source, seen.room_sid) == (Source.WEBHOOK, "RM_1")
    assert (seen.participant.id, seen.participant.version) == ("alice", Version(1789999995250, 3))


def test_who_is_hidden_is_not_seen() -> None:
    hidden = participant(permission={"canSubscribe": True, "hidden": True})
    assert taken("participant_joined", participant=hidden).facts == ()


@pytest.mark.parametrize(
    ("kind", "told", "reason"),
    [
        ("participant_left", {"disconnectReason": "CLIENT_INITIATED"}, "client_initiated"),
        ("participant_left", {}, "left"),
        ("participant_left", {"disconnectReason": "UNKNOWN_REASON"}, "left"),
        ("participant_connection_aborted", {}, "connection_aborted"),
    ],
)
def test_a_leave_names_the_joining_that_ended(kind: str, told: dict[str, str], reason: str) -> None:
    gone = participant(state="DISCONNECTED", version=9, **told)
    assert taken(kind, participant=gone).facts == (
        Left(Side.LIVEKIT, "alice", Version(1789999995250, 9), Source.WEBHOOK, "RM_1", reason),
    )


def test_rooms_begin_and_end() -> None:
    assert taken("room_started").facts == (RoomOpened(Side.LIVEKIT, "RM_1", Source.WEBHOOK),)
    assert taken("room_finished").facts == (RoomEnded(Side.LIVEKIT, "RM_1", Source.WEBHOOK),)


@pytest.mark.parametrize("kind", ["track_published", "track_unpublished"])
def test_a_track_says_whom_to_ask_for(kind: str) -> None:
    """The server writes only sid and identity of its participant: no version, and none of his other tracks."""
    found = taken(
        kind,
        room={"sid": "RM_1", "name": "standup"},
        participant={"sid": "PA_1", "identity": "alice"},
        track={"sid": "TR_1", "type": "VIDEO", "source": "CAMERA", "mimeType": "video/H264"},
    )
    assert found.facts == ()
    assert (found.room, found.ask_for) == ("standup", "alice")
    assert found.track == Track("TR_1", TrackSource.CAMERA, mime="video/h264")


@pytest.mark.parametrize("kind", ["egress_started", "ingress_ended", "agent_job_started", "something_new"])
def test_other_events_say_nothing(kind: str) -> None:
    body = json.dumps({"event": kind, "id": "EV_1", "egressInfo": {"roomName": "standup"}, "more": [1]}).encode()
    found = receive(body, signed(body), KEYS, NOW)
    assert isinstance(found, Webhook)
    assert (found.facts, found.ask_for, found.room) == ((), "", "")


def test_bearer_may_stand_before_the_token() -> None:
    body, header = webhook("room_started")
    for prefix in ("Bearer ", "bearer ", " Bearer  "):
        assert isinstance(receive(body, prefix + header, KEYS, NOW), Webhook)


def test_the_raw_bytes_count() -> None:
    """Not the text: a body that is decoded and encoded again may differ."""
    body = b"\xef\xbb\xbf" + json.dumps(event("room_started")).encode()
    assert refusal(body[3:], signed(body)).reason is Reason.ALTERED
    spaced = json.dumps(event("room_started"), indent=2).encode()
    assert isinstance(receive(spaced, signed(spaced), KEYS, NOW), Webhook)


# --- refusals ------------------------------------------------------------------------------------------------


def test_every_problem_of_a_token_is_a_reason() -> None:
    for problem in Problem:
        assert Reason(problem.value)


def test_a_forged_one_is_refused() -> None:
    body, _ = webhook("room_started")
    found = refusal(body, signed(body, Key(KEY.id, OTHER.secret)))
    assert (found.reason, found.status) == (Reason.FORGED, 401)


def test_one_of_another_key_is_refused() -> None:
    body, _ = webhook("room_started")
    found = refusal(body, signed(body, OTHER))
    assert found.reason is Reason.NO_SUCH_KEY
    assert "APIother" in found.detail


def test_an_old_one_is_refused() -> None:
    body, header = webhook("room_started")
    assert refusal(body, header, now=NOW + 360).reason is Reason.EXPIRED
    assert isinstance(receive(body, header, KEYS, NOW + 359), Webhook)


def test_one_of_the_future_is_refused() -> None:
    body, header = webhook("room_started")
    assert refusal(body, header, now=NOW - 61).reason is Reason.EARLY


@given(st.binary(max_size=64))
def test_another_body_is_refused(other: bytes) -> None:
    _, header = webhook("room_started")
    assert refusal(other, header).reason is Reason.ALTERED


@pytest.mark.parametrize("digest", [None, "", 7, ["x"], "\ud800", "AAAA"])
def test_a_body_that_nobody_signed_is_refused(digest: Any) -> None:
    """A participant's own token is signed with the same secret."""
    body, _ = webhook("room_started")
    assert refusal(body, signed(body, sha256=digest)).reason is Reason.ALTERED


def test_a_body_that_is_too_large_is_refused_unread() -> None:
    body = b" " * (MAX_BODY_BYTES + 1)
    found = refusal(body, None)
    assert (found.reason, found.status) == (Reason.OVERSIZED, 413)
    padded = json.dumps(event("room_started")).encode().ljust(MAX_BODY_BYTES)
    assert isinstance(receive(padded, signed(padded), KEYS, NOW), Webhook)


@pytest.mark.parametrize("header", [None, "", " ", "Bearer ", "bearer", "x.y.z", "Basic YTpi"])
def test_one_without_a_token_is_unreadable(header: str | None) -> None:
    body, _ = webhook("room_started")
    found = refusal(body, header)
    assert (found.reason, found.status) == (Reason.UNREADABLE, 400)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"7",
        b"null",
        b"{",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        json.dumps(event("room_started", id=None)).encode(),
        json.dumps(event("room_started", id="E" * 257)).encode(),
        json.dumps(event("room_started", room=[])).encode(),
        json.dumps(event("room_started", room={"name": "r"})).encode(),
        json.dumps(event("room_started", room={"sid": "RM_1", "name": "r" * 257})).encode(),
        json.dumps(event("participant_joined")).encode(),
        json.dumps(event("participant_joined", participant="alice")).encode(),
        json.dumps(event("participant_left", participant={"sid": "PA_1"})).encode(),
        json.dumps(event("track_published", participant={"identity": "alice"})).encode(),
        json.dumps(event("track_published", track={"sid": "TR_1"})).encode(),
    ],
    ids=lambda body: repr(body[:40]),
)
def test_a_body_that_says_nothing_is_unreadable(body: bytes) -> None:
    assert refusal(body, signed(body)).reason is Reason.UNREADABLE


# --- copies --------------------------------------------------------------------------------------------------


def test_a_copy_is_refused_for_as_long_as_its_token_lives() -> None:
    one, replays = taken("room_started"), Replays()
    assert replays.check(one, NOW) is one
    for later in (NOW, NOW + 1, NOW + 359.9):
        found = replays.check(one, later)
        assert isinstance(found, Refused)
        assert (found.reason, found.status) == (Reason.REPLAYED, 200)


def test_what_can_come_no_more_is_forgotten() -> None:
    one, replays = taken("room_started"), Replays()
    for number in range(100):
        replays.check(replace(one, id=f"EV_{number}", expires_at=NOW + 300 + number), NOW + number)
    assert len(replays) == 100
    replays.check(replace(one, id="EV_last", expires_at=NOW + 900), NOW + 360 + 49)
    assert len(replays) == 51
    assert replays.forgotten == 0


def test_memory_has_a_bound() -> None:
    one, replays = taken("room_started"), Replays(most=10)
    for number in range(25):
        assert isinstance(replays.check(replace(one, id=f"EV_{number}"), NOW), Webhook)
    assert len(replays) == 10
    assert replays.forgotten == 15
    assert isinstance(replays.check(replace(one, id="EV_24"), NOW), Refused)


def test_a_long_lived_one_in_front_hides_no_copy() -> None:
    one, replays = taken("room_started"), Replays()
    replays.check(replace(one, id="EV_long", expires_at=NOW + 9000), NOW)
    replays.check(replace(one, id="EV_short", expires_at=NOW + 300), NOW)
    assert isinstance(replays.check(replace(one, id="EV_short", expires_at=NOW + 300), NOW + 300), Refused)
