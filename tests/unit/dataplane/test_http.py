"""The two ports, in front of a pod that says what the test wants."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from auralink_dataplane import http
from auralink_dataplane.http import Servers, api, metrics

TOKEN = "open sesame"  # noqa: S105 - of this test
GUARDED = ["/rooms", "/rooms/demo", "/rooms/nope", "/rooms/demo/legs/out.sdp"]


class Pod:
    """`http.Pod`, said in advance."""

    def __init__(self) -> None:
        self.alive = True
        self.is_ready = True
        self.token: bytes | None = TOKEN.encode()
        self.drains = 0

    def health(self) -> tuple[bool, dict[str, Any]]:
        return self.alive, {"status": "healthy" if self.alive else "stalled"}

    def ready(self) -> tuple[bool, dict[str, Any]]:
        return self.is_ready, {"status": "ready" if self.is_ready else "starting"}

    def status(self) -> dict[str, Any]:
        return {"service": {"name": "ingress-egress"}}

    def rooms(self) -> list[dict[str, Any]]:
        return [{"name": "demo"}]

    def leg_sdp(self, room: str, leg: str) -> str | None:
        return "v=0\r\n" if (room, leg) == ("demo", "out") else None

    def metrics_text(self) -> bytes:
        return b"auralink_rooms_active 1.0\n"

    def request_drain(self) -> None:
        self.drains += 1

    def api_token(self) -> bytes | None:
        return self.token


@pytest.fixture
def pod() -> Pod:
    return Pod()


@pytest.fixture
async def client(pod: Pod) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(api(pod))) as one:
        yield one


def bearer(token: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {token}"}


async def test_codes_say_what_probes_ask(client: TestClient[Any, Any], pod: Pod) -> None:
    async def codes() -> list[int]:
        return [(await client.get(path)).status for path in ("/health", "/ready", "/status")]

    assert await codes() == [200, 200, 200]
    pod.alive, pod.is_ready = False, False
    assert await codes() == [503, 503, 200]


@pytest.mark.parametrize("path", GUARDED)
async def test_the_protected_api_needs_the_token(path: str, client: TestClient[Any, Any]) -> None:
    for headers in ({}, bearer("wrong"), bearer(f"{TOKEN}x"), bearer(TOKEN, "Basic"), {"Authorization": TOKEN}):
        answer = await client.get(path, headers=headers)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "demo" not in await answer.text()
    assert (await client.get(path, headers=bearer(TOKEN, "bearer"))).status in (200, 404)


@pytest.mark.parametrize("wrong", ["f\xfcr alle", "\udcff"])
async def test_a_token_in_other_letters_is_a_wrong_one(wrong: str, client: TestClient[Any, Any]) -> None:
    """The last is no UTF-8 on the wire."""
    assert (await client.get("/rooms", headers=bearer(wrong))).status == 401


@pytest.mark.parametrize("path", GUARDED)
async def test_the_protected_api_is_off_without_a_token(path: str, client: TestClient[Any, Any], pod: Pod) -> None:
    for token in (None, b""):
        pod.token = token
        for headers in ({}, bearer(""), bearer(TOKEN)):
            answer = await client.get(path, headers=headers)
            assert answer.status == 404
            assert "api.tokenRef" in await answer.text()


async def test_rooms_and_legs_are_found_by_name(client: TestClient[Any, Any]) -> None:
    async def ask(path: str) -> tuple[int, str, str]:
        answer = await client.get(path, headers=bearer(TOKEN))
        return answer.status, answer.content_type, await answer.text()

    code, kind, text = await ask("/rooms")
    assert (code, kind, json.loads(text)) == (200, "application/json", {"rooms": [{"name": "demo"}]})
    assert json.loads((await ask("/rooms/demo"))[2]) == {"name": "demo"}
    assert (await ask("/rooms/nope"))[0] == 404
    assert await ask("/rooms/demo/legs/out.sdp") == (200, "application/sdp", "v=0\r\n")
    assert (await ask("/rooms/demo/legs/in.sdp"))[0] == 404


async def test_draining_is_asked_for_with_the_token_only(client: TestClient[Any, Any], pod: Pod) -> None:
    assert (await client.post("/drain")).status == 401
    assert pod.drains == 0
    assert (await client.post("/drain", headers=bearer(TOKEN))).status == 202
    assert pod.drains == 1
    assert (await client.get("/drain", headers=bearer(TOKEN))).status == 405


async def test_an_answer_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_S", 0.01)

    async def waits(_: object) -> Any:
        await asyncio.Event().wait()

    application = api(Pod())
    application.router.add_get("/waits", waits)
    async with TestClient(TestServer(application)) as client:
        assert (await client.get("/waits")).status == 503


async def test_metrics_are_in_the_text_format_of_prometheus_on_a_port_of_their_own(
    client: TestClient[Any, Any], pod: Pod
) -> None:
    async with TestClient(TestServer(metrics(pod))) as scraper:
        answer = await scraper.get("/metrics")
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert await answer.read() == pod.metrics_text()
        assert (await scraper.get("/status")).status == 404
    assert (await client.get("/metrics")).status == 404


async def test_a_taken_port_raises_and_what_was_open_can_be_closed(pod: Pod) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        servers = Servers(pod)
        with pytest.raises(OSError, match="in use"):
            await servers.start(0, taken.getsockname()[1])
        [port] = servers.ports
        await servers.close()
    with socket.socket() as again:
        assert again.connect_ex(("127.0.0.1", port)) != 0
