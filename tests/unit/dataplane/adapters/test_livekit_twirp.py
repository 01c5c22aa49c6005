"""Calls end in time and in an error that says what to do, against servers that do what LiveKit never should."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from auralink_dataplane.adapters.livekit import (
    Grant,
    Key,
    Keys,
    LiveKitApi,
    LiveKitError,
    NotFoundError,
    RejectedError,
    UnansweredError,
    UnauthorizedError,
    UnavailableError,
    UnreadableError,
    Webhook,
    receive,
    twirp,
)
from auralink_dataplane.adapters.livekit.twirp import Tokens, base_url
from auralink_dataplane.rooms.events import Seen

from tests.integration.kube_api import free_ports
from tests.unit.dataplane.adapters.livekit_says import KEY, KEYS, NOW, OTHER, participant, webhook

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers with what it is told, in order; the last goes on for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, dict[str, Any], str]] = []
        self.url = ""

    async def start(self, context: ssl.SSLContext | None = None) -> web.AppRunner:
        application = web.Application(client_max_size=4 << 20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        self.url = f"{'wss' if context else 'ws'}://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        document = await request.json() if request.method == "POST" else {}
        self.requests.append((request.path, document, request.headers.get("Authorization", "")))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)


def says(document: Any, status: int = 200) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(document, status=status)

    return answer


def writes(text: str, status: int = 200, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=status, headers=headers)

    return answer


def refuses(code: str, status: int) -> Answer:
    return says({"code": code, "msg": "because"}, status)


async def hangs(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def hangs_up(request: web.Request) -> web.StreamResponse:
    assert request.transport
    request.transport.close()
    return web.Response()


async def never_ends(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    one = Server()
    runner = await one.start()
    yield one
    await runner.cleanup()


@pytest.fixture
async def api(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LiveKitApi]:
    monkeypatch.setattr(twirp, "RETRY_FIRST_S", 0.001)
    one = LiveKitApi(server.url, lambda: KEYS, clock=lambda: NOW)
    yield one
    await one.close()


ROOMS: dict[str, Any] = {"rooms": [{"sid": "RM_1", "name": "standup", "creation_time_ms": "5"}]}


async def test_a_call_is_json_with_a_token_of_its_own(server: Server, api: LiveKitApi) -> None:
    server.answers = [says({"participants": []})]
    assert await api.list_participants("standup") == ()
    [(path, document, authorization)] = server.requests
    assert path == "/twirp/livekit.RoomService/ListParticipants"
    assert document == {"room": "standup"}
    claims = jwt.decode(authorization.removeprefix("Bearer "), KEY.secret, ["HS256"], options={"verify_exp": False})
    assert claims["video"] == {"room": "standup", "roomAdmin": True}


async def test_a_path_before_the_api_is_kept(server: Server) -> None:
    server.answers = [says(ROOMS)]
    api = LiveKitApi(f"{server.url}/livekit/?x=1", lambda: KEYS, clock=lambda: NOW)
    await api.list_rooms()
    await api.close()
    assert server.requests[0][0] == "/livekit/twirp/livekit.RoomService/ListRooms"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refuses("not_found", 404), NotFoundError),
        (refuses("unauthenticated", 401), UnauthorizedError),
        (refuses("permission_denied", 403), UnauthorizedError),
        (writes("invalid API key", 401), UnauthorizedError),
        (refuses("invalid_argument", 400), RejectedError),
        (refuses("failed_precondition", 412), RejectedError),
        (refuses("bad_route", 404), RejectedError),
        (refuses("unavailable", 503), UnavailableError),
        (refuses("internal", 500), UnavailableError),
        (writes("<html>bad gateway", 502), UnavailableError),
        (writes("slow down", 429), UnavailableError),
        (writes("nothing here", 404), UnreadableError),
        (writes("", 302, Location="http://127.0.0.1:1/"), UnreadableError),
        (writes("<html>hello"), UnreadableError),
        (writes("[" * 100_000), UnreadableError),
        (says([]), UnreadableError),
        (says({"rooms": {}}), UnreadableError),
        (says({"rooms": [7]}), UnreadableError),
        (says({"code": ["x"], "msg": {}}, 400), RejectedError),
        (says("no", 400), UnreadableError),
        (writes("[" * 10_000, 400), UnreadableError),
    ],
)
async def test_each_refusal_has_its_kind(
    server: Server, api: LiveKitApi, answer: Answer, kind: type[LiveKitError]
) -> None:
    server.answers = [answer]
    with pytest.raises(LiveKitError) as caught:
        await api.list_rooms()
    assert type(caught.value) is kind
    assert "ListRooms" in str(caught.value)
    assert len(str(caught.value)) < 600
    assert len(server.requests) == (3 if kind is UnavailableError else 1)


async def test_a_failure_that_passes_is_not_heard_of(server: Server, api: LiveKitApi) -> None:
    server.answers = [refuses("unavailable", 503), hangs_up, says(ROOMS)]
    assert [room.name for room in await api.list_rooms()] == ["standup"]
    assert len(server.requests) == 3


async def test_what_must_not_happen_twice_is_tried_once(server: Server, api: LiveKitApi) -> None:
    server.answers = [hangs_up]
    calls: list[Callable[[], Awaitable[None]]] = [
        lambda: api.remove_participant("standup", "alice"),
        lambda: api.delete_room("standup"),
    ]
    for call in calls:
        server.requests.clear()
        with pytest.raises(UnavailableError):
            await call()
        assert len(server.requests) == 1


async def test_a_room_that_no_node_has_is_not_asked_for_again(server: Server, api: LiveKitApi) -> None:
    """LiveKit has waited for its nodes already."""
    silent = says({"code": "unavailable", "msg": "twirp error unknown: no response from servers"}, 503)
    server.answers = [silent, says(ROOMS)]
    with pytest.raises(UnansweredError, match="check the LiveKit server"):
        await api.send_data("standup", b"hello")
    assert [path.rpartition("/")[2] for path, _, _ in server.requests] == ["SendData", "ListRooms"]
    server.answers = [silent, says({"rooms": []})]
    with pytest.raises(NotFoundError):
        await api.send_data("standup", b"hello")


async def test_data_is_sent_again_under_one_nonce(server: Server, api: LiveKitApi) -> None:
    server.answers = [hangs_up, says({})]
    await api.send_data("standup", b"\x00hello", topic="chat")
    first, second = (document for _, document, _ in server.requests)
    assert first == second
    assert (first["data"], first["kind"]) == ("AGhlbGxv", "RELIABLE")


async def test_a_server_that_says_nothing_is_given_up(
    server: Server, api: LiveKitApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twirp, "DEADLINE_S", 0.3)
    server.answers = [hangs]
    with pytest.raises(UnavailableError, match=r"no answer within 0\.3 s"):
        await api.list_rooms()


async def test_a_server_that_is_not_there_is_named() -> None:
    [port] = free_ports(1)
    api = LiveKitApi(f"ws://127.0.0.1:{port}", lambda: KEYS, clock=lambda: NOW)
    with pytest.raises(UnavailableError, match=f"127.0.0.1:{port}.*check the LiveKit server"):
        await api.remove_participant("standup", "alice")
    with pytest.raises(UnavailableError, match="health"):
        await api.health()
    await api.close()


async def test_an_answer_without_end_is_cut_off(
    server: Server, api: LiveKitApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auralink_dataplane.adapters.livekit.twirp.MAX_ANSWER_BYTES", 1 << 20)
    server.answers = [never_ends]
    with pytest.raises(UnreadableError, match="larger than 1048576 bytes"):
        await api.list_rooms()


async def test_what_never_reached_the_server_is_tried_again_whatever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[int] = []

    def backoff(failed: int, *_: float) -> float:
        failures.append(failed)
        return 0.0

    monkeypatch.setattr(twirp, "backoff", backoff)
    [port] = free_ports(1)
    api = LiveKitApi(f"ws://127.0.0.1:{port}", lambda: KEYS, clock=lambda: NOW)
    with pytest.raises(UnavailableError):
        await api.remove_participant("standup", "alice")
    await api.close()
    assert failures == [1, 2]


async def test_health_is_what_the_server_says(server: Server, api: LiveKitApi) -> None:
    server.answers = [writes("OK"), writes("Not Ready\nNode Updated At ..", 406)]
    await api.health()
    with pytest.raises(UnavailableError, match="406 Not Ready"):
        await api.health()


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "1"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    subprocess.run(["openssl", "req", "-x509", *made, *files], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


async def test_a_certificate_that_nobody_vouches_for_is_refused(self_signed: ssl.SSLContext) -> None:
    server = Server()
    server.answers = [says(ROOMS)]
    runner = await server.start(self_signed)
    api = LiveKitApi(server.url, lambda: KEYS, clock=lambda: NOW)
    with pytest.raises(UnavailableError, match=r"(?i)certificate"):
        await api.list_rooms()
    assert server.requests == []
    await api.close()
    await runner.cleanup()


async def test_participants_that_cannot_be_read_are_logged_once(
    server: Server, api: LiveKitApi, caplog: pytest.LogCaptureFixture
) -> None:
    alice = {"identity": "alice", "state": "ACTIVE", "joined_at_ms": "1"}
    server.answers = [says({"participants": [alice, {"identity": "a" * 300, "state": "ACTIVE"}]})]
    for _ in range(3):
        assert [one.id for one in await api.list_participants("standup")] == ["alice"]
    assert [one.levelname for one in caplog.records] == ["WARNING"]


async def test_secrets_are_neither_logged_nor_told(
    server: Server, api: LiveKitApi, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    server.answers = [refuses("unauthenticated", 401)]
    with pytest.raises(UnauthorizedError) as caught:
        await api.list_rooms()
    for text in (str(caught.value), repr(caught.value), caplog.text):
        assert KEY.secret not in text
        assert "eyJ" not in text


# --- what a webhook leaves out ------------------------------------------------------------------------------


def of_track(kind: str) -> Webhook:
    body, header = webhook(kind, participant={"identity": "alice"}, track={"sid": "TR_1"})
    found = receive(body, header, KEYS, NOW)
    assert isinstance(found, Webhook)
    return found


def alice(*tracks: str) -> Answer:
    return says(participant(tracks=[{"sid": sid} for sid in tracks]))


@pytest.mark.parametrize(
    ("kind", "before", "after"), [("track_published", [], ["TR_1"]), ("track_unpublished", ["TR_1"], [])]
)
async def test_a_server_that_has_not_noted_its_own_webhook_is_asked_again(
    server: Server, api: LiveKitApi, kind: str, before: list[str], after: list[str]
) -> None:
    server.answers = [alice(*before), alice(*before), alice(*after)]
    [fact] = await api.facts(of_track(kind))
    assert isinstance(fact, Seen)
    assert [one.id for one in fact.participant.tracks] == after
    assert len(server.requests) == 3


async def test_a_server_that_never_notes_it_is_believed(server: Server, api: LiveKitApi) -> None:
    server.answers = [alice()]
    [fact] = await api.facts(of_track("track_published"))
    assert isinstance(fact, Seen)
    assert len(server.requests) == 3


async def test_who_has_left_meanwhile_is_no_fact(server: Server, api: LiveKitApi) -> None:
    server.answers = [refuses("not_found", 404)]
    assert await api.facts(of_track("track_published")) == ()


# --- tokens of our calls -------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def test_a_token_is_used_until_shortly_before_its_end() -> None:
    clock = Clock()
    tokens = Tokens(lambda: KEYS, clock)
    first = tokens.token(Grant(room_list=True))
    clock.now += 479
    assert tokens.token(Grant(room_list=True)) == first
    clock.now += 1
    assert tokens.token(Grant(room_list=True)) != first


def test_each_room_has_a_token_of_its_own() -> None:
    tokens = Tokens(lambda: KEYS, Clock())
    assert tokens.token(Grant(room="a", room_admin=True)) != tokens.token(Grant(room="b", room_admin=True))


def test_a_changed_key_signs_at_once() -> None:
    keys = [Keys((KEY,))]
    tokens = Tokens(lambda: keys[0], Clock())
    first = tokens.token(Grant())
    keys[0] = Keys((Key(KEY.id, OTHER.secret), KEY))
    assert tokens.token(Grant()) != first


def test_a_clock_that_was_set_back_leaves_no_token_of_the_future() -> None:
    clock = Clock()
    tokens = Tokens(lambda: KEYS, clock)
    first = tokens.token(Grant())
    clock.now -= 3600
    assert tokens.token(Grant()) != first


def test_tokens_are_forgotten_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twirp, "MAX_TOKENS", 4)
    tokens = Tokens(lambda: KEYS, Clock())
    for number in range(20):
        tokens.token(Grant(room=str(number), room_admin=True))
    assert len(tokens._issued) == 4


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("wss://livekit.example.com", "https://livekit.example.com"),
        ("ws://127.0.0.1:7880/", "http://127.0.0.1:7880"),
        ("https://example.com/livekit/", "https://example.com/livekit"),
        ("http://user:password@example.com/?a=b#c", "http://example.com"),
        ("wss://[::1]:7880", "https://[::1]:7880"),
    ],
)
def test_the_scheme_says_whether_tls_is_used(url: str, base: str) -> None:
    assert str(base_url(url)).rstrip("/") == base


@pytest.mark.parametrize("url", ["", "livekit.example.com", "ftp://example.com", "wss:///path", "redis://u:secret@h"])
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="wss://host") as caught:
        base_url(url)
    assert "secret" not in str(caught.value)
