"""The probes' endpoint answers what it knows and shrugs at the rest."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import pytest
from auralink_aicore.http import REQUEST_LIMIT_BYTES, HttpServer
from prometheus_client import CollectorRegistry, Counter


class Probe:
    healthy = True
    port = 0

    async def ask(self, request: bytes, host: str = "127.0.0.1") -> bytes:
        reader, writer = await asyncio.open_connection(host, self.port)
        writer.write(request)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer


@pytest.fixture
async def probe() -> AsyncIterator[Probe]:
    probe = Probe()
    registry = CollectorRegistry()
    Counter("seen", "Things seen", registry=registry).inc()
    server = HttpServer(registry, lambda: (probe.healthy, {"status": "as told"}))
    probe.port = await server.start("127.0.0.1", 0)
    yield probe
    await server.close()


async def test_health_is_200_or_503(probe: Probe) -> None:
    head, _, body = (await probe.ask(b"GET /health HTTP/1.1\r\n\r\n")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert json.loads(body) == {"status": "as told"}
    probe.healthy = False
    assert (await probe.ask(b"GET /health?verbose HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 503")


async def test_metrics_are_prometheus_text(probe: Probe) -> None:
    assert b"seen_total 1.0" in await probe.ask(b"GET /metrics HTTP/1.0\r\nAccept: */*\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [(b"GET / HTTP/1.1\r\n\r\n", b"404"), (b"POST /health HTTP/1.1\r\n\r\n", b"405"), (b"hello\r\n\r\n", b"400")],
)
async def test_anything_else_is_refused(probe: Probe, request_: bytes, status: bytes) -> None:
    assert (await probe.ask(request_)).split()[1] == status


@pytest.mark.parametrize("request_", [b"", b"GET /health", b"x" * (2 * REQUEST_LIMIT_BYTES)])
async def test_half_and_endless_requests_end_the_connection_only(probe: Probe, request_: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        assert await probe.ask(request_) == b""
    assert b"200" in await probe.ask(b"GET /health HTTP/1.1\r\n\r\n")


async def test_every_address_means_both_families() -> None:
    probe, server = Probe(), HttpServer(CollectorRegistry(), lambda: (True, {}))
    probe.port = await server.start("::", 0)
    for host in ("127.0.0.1", "::1") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
        assert (await probe.ask(b"GET /health HTTP/1.1\r\n\r\n", host)).startswith(b"HTTP/1.1 200 OK")
    await server.close()


async def test_evidence_is_json_where_there_is_any() -> None:
    probe, told = Probe(), {"rooms": ["one"]}
    for evidence, status in ((None, b"404"), (told, b"200")):
        server = HttpServer(CollectorRegistry(), lambda: (True, {}), lambda evidence=evidence: evidence)  # type: ignore[misc]
        probe.port = await server.start("127.0.0.1", 0)
        head, _, body = (await probe.ask(b"GET /evidence HTTP/1.1\r\n\r\n")).partition(b"\r\n\r\n")
        await server.close()
        assert head.split()[1] == status
        assert evidence is None or json.loads(body) == told
