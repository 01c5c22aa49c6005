"""The door to LiveKit against a real livekit-server, with clients of LiveKit's own SDK in its rooms."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from auralink_dataplane.adapters.livekit import (
    Grant,
    Holder,
    Key,
    Keys,
    LiveKitApi,
    NotFoundError,
    Reason,
    Refused,
    RejectedError,
    Replays,
    UnauthorizedError,
    UnavailableError,
    Webhook,
    issue,
    receive,
)
from auralink_dataplane.adapters.livekit.twirp import DEADLINE_S
from auralink_dataplane.rooms.events import (
    Left,
    Participant,
    Role,
    RoomEnded,
    RoomOpened,
    Seen,
    Side,
    Source,
    TrackSource,
)
from livekit import api as livekit_api
from livekit import rtc

from tests.integration.kube_api import eventually
from tests.integration.livekit_server import LiveKitServer, livekit_server
from tests.integration.livekit_server import Webhook as Received

ROOM = "standup"


def keys_of(server: LiveKitServer) -> Keys:
    return Keys((Key(server.key, server.secret),))


@asynccontextmanager
async def api_of(server: LiveKitServer, keys: Keys | None = None) -> AsyncIterator[LiveKitApi]:
    api = LiveKitApi(server.url, lambda: keys or keys_of(server), clock=time.time)
    try:
        yield api
    finally:
        await api.close()


@pytest.fixture
async def api(livekit: LiveKitServer) -> AsyncIterator[LiveKitApi]:
    async with api_of(livekit) as one:
        yield one


def token_of(server: LiveKitServer, identity: str, **grants: Any) -> str:
    """By LiveKit's own SDK."""
    token = livekit_api.AccessToken(server.key, server.secret).with_identity(identity).with_name(identity.title())
    return token.with_grants(livekit_api.VideoGrants(room_join=True, room=ROOM, **grants)).to_jwt()


@asynccontextmanager
async def joined(server: LiveKitServer, identity: str, token: str | None = None) -> AsyncIterator[rtc.Room]:
    room = rtc.Room()
    async with asyncio.timeout(20):
        await room.connect(server.url, token or token_of(server, identity))
    try:
        yield room
    finally:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(10):
                await room.disconnect()


async def publish(room: rtc.Room) -> tuple[rtc.LocalVideoTrack, str]:
    """A camera of 320x180; the track and its sid."""
    track = rtc.LocalVideoTrack.create_video_track("camera", rtc.VideoSource(320, 180))
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, simulcast=False)
    async with asyncio.timeout(20):
        publication = await room.local_participant.publish_track(track, options)
    return track, publication.sid


def about(event: str, identity: str = "") -> Callable[[Received], bool]:
    def wanted(received: Received) -> bool:
        said = json.loads(received.body)
        return bool(said["event"] == event and said.get("participant", {}).get("identity", "") == identity)

    return wanted


async def webhook(server: LiveKitServer, event: str, identity: str = "") -> Webhook:
    """The one that came of it, verified."""
    received = await server.webhooks.wait_for(about(event, identity))
    found = receive(received.body, received.authorization, keys_of(server), received.received_at)
    assert isinstance(found, Webhook), found
    assert received.content_type == "application/webhook+json"
    return found


async def seen(server: LiveKitServer, api: LiveKitApi, event: str, identity: str) -> Participant:
    """As the facts of the webhook have him."""
    [fact] = await api.facts(await webhook(server, event, identity))
    assert isinstance(fact, Seen)
    assert fact.source is Source.WEBHOOK
    return fact.participant


# --- rooms ---------------------------------------------------------------------------------------------------


async def test_rooms_are_made_listed_changed_and_deleted(livekit: LiveKitServer, api: LiveKitApi) -> None:
    before_ms = time.time() * 1000
    room = await api.create_room(ROOM, metadata='{"a": 1}', empty_timeout_s=60)
    assert (room.name, room.metadata, room.sid[:3]) == (ROOM, '{"a": 1}', "RM_")
    assert before_ms - 1000 <= room.created_at_ms <= time.time() * 1000 + 1000
    assert (await api.create_room(ROOM)).sid == room.sid
    await api.create_room("another")
    assert {one.name for one in await api.list_rooms()} == {ROOM, "another"}
    assert [one.sid for one in await api.list_rooms([ROOM, "nowhere"])] == [room.sid]
    await api.update_room_metadata(ROOM, "new")

    async def changed() -> bool:
        return [one.metadata for one in await api.list_rooms([ROOM])] == ["new"]

    await eventually(changed, "the room's metadata")
    await api.delete_room(ROOM)
    assert await api.list_rooms([ROOM]) == []
    opened, ended = await webhook(livekit, "room_started"), await webhook(livekit, "room_finished")
    assert opened.facts == (RoomOpened(Side.LIVEKIT, room.sid, Source.WEBHOOK),)
    assert ended.facts == (RoomEnded(Side.LIVEKIT, room.sid, Source.WEBHOOK),)
    assert (ended.room, ended.room_sid) == (ROOM, room.sid)


async def test_what_is_not_there_is_not_found(api: LiveKitApi) -> None:
    listing = await api.listing(ROOM, 7.0)
    assert (listing.room_sid, listing.participants, listing.asked_at) == ("", (), 7.0)
    assert await api.list_participants(ROOM) == ()
    for call in (
        lambda: api.delete_room(ROOM),
        lambda: api.update_room_metadata(ROOM, "x"),
        lambda: api.get_participant(ROOM, "alice"),
        lambda: api.remove_participant(ROOM, "alice"),
        lambda: api.update_participant(ROOM, "alice", name="Alice"),
        lambda: api.mute_track(ROOM, "alice", "TR_1", muted=True),
        lambda: api.send_data(ROOM, b"hello"),
    ):
        with pytest.raises(NotFoundError):
            await call()


async def test_another_secret_is_not_let_in(livekit: LiveKitServer) -> None:
    for keys in (Keys((Key(livekit.key, "x" * 32),)), Keys((Key("APIunknown", livekit.secret),))):
        async with api_of(livekit, keys) as stranger:
            with pytest.raises(UnauthorizedError, match="check the API key and secret"):
                await stranger.list_rooms()


async def test_what_exceeds_its_limits_is_rejected(livekit: LiveKitServer, api: LiveKitApi) -> None:
    with pytest.raises(RejectedError):
        await api.create_room(ROOM, metadata="x" * ((512 << 10) + 1))


async def test_a_healthy_server_says_so(api: LiveKitApi) -> None:
    await api.health()


# --- a visit -------------------------------------------------------------------------------------------------


async def test_a_visit_becomes_facts_whose_versions_order_them(livekit: LiveKitServer, api: LiveKitApi) -> None:
    async with joined(livekit, "alice") as room:
        arrived = await seen(livekit, api, "participant_joined", "alice")
        assert (arrived.name, arrived.role, arrived.tracks) == ("Alice", Role.SPEAKER, ())
        track, sid = await publish(room)
        published = await webhook(livekit, "track_published", "alice")
        assert published.track is not None
        assert (published.track.id, published.track.source) == (sid, TrackSource.CAMERA)
        publishing = await seen(livekit, api, "track_published", "alice")
        assert [one.id for one in publishing.tracks] == [sid]
        assert publishing.version > arrived.version
        assert publishing.tracks[0].mime.startswith("video/")
        assert not publishing.tracks[0].encrypted

        track.mute()

        async def muted() -> Participant | None:
            one = await api.get_participant(ROOM, "alice")
            return one if one.tracks and one.tracks[0].muted else None

        silent = await eventually(muted, "the muted track")
        assert silent.version > publishing.version
        await room.local_participant.unpublish_track(sid)
        withdrawn = await seen(livekit, api, "track_unpublished", "alice")
        assert withdrawn.tracks == ()
        assert withdrawn.version > silent.version
    gone = await webhook(livekit, "participant_left", "alice")
    [left] = gone.facts
    assert isinstance(left, Left)
    assert (left.id, left.reason, left.room_sid) == ("alice", "client_initiated", gone.room_sid)
    assert left.version > withdrawn.version
    versions = [one.version for one in (arrived, publishing, silent, withdrawn)]
    assert {one.incarnation for one in [*versions, left.version]} == {arrived.version.incarnation}
    assert await api.facts(published) == ()  # asked too late: nobody is there, and the leave says so

    livekit.webhooks.received.clear()
    async with joined(livekit, "alice"):
        again = await seen(livekit, api, "participant_joined", "alice")
    assert again.version.incarnation > left.version.incarnation
    assert again.version > left.version


async def test_listings_agree_with_facts(livekit: LiveKitServer, api: LiveKitApi) -> None:
    async with joined(livekit, "bob") as bob, joined(livekit, "alice"):
        _, sid = await publish(bob)
        facts = [
            await seen(livekit, api, "participant_joined", "alice"),
            await seen(livekit, api, "track_published", "bob"),
        ]

        async def listed() -> bool:
            """A listing can be a moment behind."""
            listing = await api.listing(ROOM, 1.0)
            return [(one.id, one.tracks) for one in listing.participants] == [(one.id, one.tracks) for one in facts]

        await eventually(listed, "a listing that agrees")
        listing = await api.listing(ROOM, 1.0)
        for fact, one in zip(facts, listing.participants, strict=True):
            assert one.version.incarnation == fact.version.incarnation
            assert one.version >= fact.version
            assert replace(one, version=fact.version) == fact
        assert listing.participants[1].tracks[0].id == sid
        assert listing.room_sid == (await webhook(livekit, "track_published", "bob")).room_sid


async def test_whom_our_token_lets_in_is_known_as_ours(livekit: LiveKitServer, api: LiveKitApi) -> None:
    holder = Holder("auralink:1a2b@standup", "Alice", "bridge", "", {"bridge.origin": "jitsi:standup@muc/1a2b"})
    grant = Grant(room=ROOM, room_join=True, can_subscribe=False)
    token = issue(Key(livekit.key, livekit.secret), grant, time.time(), holder=holder)
    async with joined(livekit, holder.identity, token):
        one = await seen(livekit, api, "participant_joined", holder.identity)
    assert (one.name, one.is_bridge, one.origin) == ("Alice", True, "jitsi:standup@muc/1a2b")


async def test_who_is_hidden_is_in_no_fact_and_no_listing(livekit: LiveKitServer, api: LiveKitApi) -> None:
    async with joined(livekit, "ghost", token_of(livekit, "ghost", hidden=True)), joined(livekit, "alice"):
        await webhook(livekit, "participant_joined", "alice")
        assert (await webhook(livekit, "participant_joined", "ghost")).facts == ()
        assert [one.id for one in (await api.listing(ROOM, 0.0)).participants] == ["alice"]
        with pytest.raises(NotFoundError):
            await api.get_participant(ROOM, "ghost")


# --- forgeries and copies ------------------------------------------------------------------------------------


async def test_a_real_webhook_is_taken_once_and_only_as_it_came(livekit: LiveKitServer, api: LiveKitApi) -> None:
    await api.create_room(ROOM)
    received = await livekit.webhooks.wait_for(about("room_started"))
    body, header, now = received.body, received.authorization, received.received_at
    assert not header.lower().startswith("bearer")
    keys, replays = keys_of(livekit), Replays()

    def answer(body: bytes, header: str, keys: Keys, now: float) -> Reason | None:
        found = receive(body, header, keys, now)
        found = found if isinstance(found, Refused) else replays.check(found, now)
        return found.reason if isinstance(found, Refused) else None

    stranger = Key("APIother", "y" * 32)
    assert answer(body.replace(b"standup", b"standby"), header, keys, now) is Reason.ALTERED
    assert answer(body, header[:-4] + "AAAA", keys, now) is Reason.FORGED
    assert answer(body, header, Keys((Key(livekit.key, stranger.secret),)), now) is Reason.FORGED
    assert answer(body, header, Keys((stranger,)), now) is Reason.NO_SUCH_KEY
    assert answer(body, header, keys, now + 3600) is Reason.EXPIRED
    assert answer(body, token_of(livekit, "alice"), keys, now) is Reason.ALTERED
    assert answer(body, header, Keys((stranger, keys.signing)), now) is None  # none of these was remembered
    assert answer(body, header, keys, now + 1) is Reason.REPLAYED


async def test_livekits_own_sdk_takes_our_tokens(livekit: LiveKitServer) -> None:
    grant, holder = Grant(room=ROOM, room_join=True, can_publish=False), Holder("alice", "Alice", metadata="m")
    token = issue(Key(livekit.key, livekit.secret), grant, time.time(), holder=holder)
    claims = livekit_api.TokenVerifier(livekit.key, livekit.secret).verify(token)
    assert (claims.identity, claims.name, claims.metadata) == ("alice", "Alice", "m")
    assert claims.video is not None
    assert (claims.video.room, claims.video.room_join, claims.video.can_publish) == (ROOM, True, False)


# --- what we do to participants ------------------------------------------------------------------------------


async def test_a_participant_is_renamed_and_tagged(livekit: LiveKitServer, api: LiveKitApi) -> None:
    async with joined(livekit, "alice"):
        before = await seen(livekit, api, "participant_joined", "alice")
        answered = await api.update_participant(ROOM, "alice", name="Alice B.", attributes={"a": "1", "b": "2"})
        assert (answered.name, dict(answered.attributes)) == ("Alice B.", {"a": "1", "b": "2"})
        assert answered.version > before.version
        answered = await api.update_participant(ROOM, "alice", attributes={"a": ""})
        assert (answered.name, dict(answered.attributes)) == ("Alice B.", {"b": "2"})
        watching = await api.update_participant(ROOM, "alice", permission={"can_subscribe": True})
        assert watching.role is Role.WATCHER
        assert watching.version > answered.version

        async def stored() -> bool:
            return await api.get_participant(ROOM, "alice") == watching

        await eventually(stored, "the same by asking")


async def test_a_track_is_muted_and_only_its_owner_unmutes_it(livekit: LiveKitServer, api: LiveKitApi) -> None:
    async with joined(livekit, "alice") as room:
        _, sid = await publish(room)
        assert (await api.mute_track(ROOM, "alice", sid, muted=True)).muted

        async def stored() -> bool:
            return [one.muted for one in (await api.get_participant(ROOM, "alice")).tracks] == [True]

        await eventually(stored, "the muted track")
        with pytest.raises(RejectedError):
            await api.mute_track(ROOM, "alice", sid, muted=False)
        with pytest.raises(NotFoundError):
            await api.mute_track(ROOM, "alice", "TR_nothing", muted=True)


async def test_a_server_may_let_us_unmute() -> None:
    async with (
        livekit_server(room={"enable_remote_unmute": True}) as server,
        api_of(server) as api,
        joined(server, "alice") as room,
    ):
        _, sid = await publish(room)
        assert (await api.mute_track(ROOM, "alice", sid, muted=True)).muted
        assert not (await api.mute_track(ROOM, "alice", sid, muted=False)).muted


async def test_a_participant_is_removed_and_may_come_again(livekit: LiveKitServer, api: LiveKitApi) -> None:
    async with joined(livekit, "alice") as room:
        await webhook(livekit, "participant_joined", "alice")
        ended = asyncio.Event()
        room.on("disconnected", lambda *_: ended.set())
        await api.remove_participant(ROOM, "alice")
        async with asyncio.timeout(10):
            await ended.wait()
    [left] = (await webhook(livekit, "participant_left", "alice")).facts
    assert isinstance(left, Left)
    assert left.reason == "participant_removed"
    livekit.webhooks.received.clear()
    async with joined(livekit, "alice"):
        assert await seen(livekit, api, "participant_joined", "alice")


async def test_data_reaches_whom_it_is_for(livekit: LiveKitServer, api: LiveKitApi) -> None:
    heard: dict[str, list[tuple[str | None, bytes]]] = {"alice": [], "bob": []}
    async with joined(livekit, "alice") as alice, joined(livekit, "bob") as bob:
        for name, room in (("alice", alice), ("bob", bob)):
            room.on("data_received", lambda packet, name=name: heard[name].append((packet.topic, packet.data)))
        for name in heard:
            await webhook(livekit, "participant_joined", name)
        await api.send_data(ROOM, b"to bob", topic="t", to=["bob"])
        await api.send_data(ROOM, b"to all \x00\xff", topic="t")

        async def arrived() -> bool:
            return len(heard["alice"]) >= 1 and len(heard["bob"]) >= 2

        await eventually(arrived, "the data")
    assert heard == {"alice": [("t", b"to all \x00\xff")], "bob": [("t", b"to bob"), ("t", b"to all \x00\xff")]}


# --- a server that fails -------------------------------------------------------------------------------------


async def test_a_server_that_is_lost_is_an_error_in_time_and_works_again(
    livekit: LiveKitServer, api: LiveKitApi
) -> None:
    await api.create_room(ROOM)
    await livekit.kill()
    for call in (lambda: api.list_rooms(), lambda: api.listing(ROOM, 0.0), lambda: api.health()):
        started = time.monotonic()
        with pytest.raises(UnavailableError, match=r"check the LiveKit server|health"):
            await call()
        assert time.monotonic() - started < DEADLINE_S + 1
    await livekit.start()
    await api.health()
    assert (await api.listing(ROOM, 0.0)).room_sid == ""  # its rooms went with it
    assert (await api.create_room(ROOM)).name == ROOM


async def test_a_server_that_hangs_is_an_error_in_time(livekit: LiveKitServer, api: LiveKitApi) -> None:
    await api.create_room(ROOM)
    async with livekit.frozen():
        started = time.monotonic()
        with pytest.raises(UnavailableError):
            await api.list_rooms()
        assert time.monotonic() - started < DEADLINE_S + 1
    assert [one.name for one in await api.list_rooms()] == [ROOM]
