"""`/health` and `/metrics` for probes and Prometheus, `/evidence` for people; `server` starts it.

Three fixed answers to GET do not need a web framework: a request is read with a limit on its size and time, answered,
and the connection closed.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

REQUEST_LIMIT_BYTES = 8192
REQUEST_TIMEOUT_S = 5.0

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}

ANY_IPV4 = "0.0.0.0"  # noqa: S104 - pods are reached through their addresses

Health = Callable[[], tuple[bool, dict[str, Any]]]
Evidence = Callable[[], dict[str, Any] | None]
"""None: there is none."""


class HttpServer:
    """Serves until `close`."""

    def __init__(self, registry: CollectorRegistry, health: Health, evidence: Evidence = lambda: None) -> None:
        self._registry = registry
        self._health = health
        self._evidence = evidence
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError when it is taken. On "::" IPv4 is served too, as gRPC does."""
        if host == "::":
            listening = _listen_everywhere(port)
            self._server = await asyncio.start_server(self._serve, sock=listening, limit=REQUEST_LIMIT_BYTES)
        else:
            self._server = await asyncio.start_server(self._serve, host, port, limit=REQUEST_LIMIT_BYTES)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = self._answer(head)
                lines = (
                    f"HTTP/1.1 {status} {_REASONS[status]}",
                    f"Content-Type: {kind}",
                    f"Content-Length: {len(body)}",
                    "Connection: close",
                )
                writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # not a client that waits for an answer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def _answer(self, head: bytes) -> tuple[int, str, bytes]:
        parts = head.split(b"\r\n", 1)[0].split(b" ")
        if len(parts) != 3:
            return 400, "text/plain", b"bad request\n"
        if parts[0] != b"GET":
            return 405, "text/plain", b"only GET\n"
        path = parts[1].split(b"?", 1)[0]
        if path == b"/health":
            healthy, body = self._health()
            return 200 if healthy else 503, "application/json", json.dumps(body).encode()
        if path == b"/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest(self._registry)
        if path == b"/evidence" and (evidence := self._evidence()) is not None:
            return 200, "application/json", json.dumps(evidence).encode()
        return 404, "text/plain", b"there are /health, /metrics and, where AICORE_EVIDENCE is not off, /evidence\n"


def _listen_everywhere(port: int) -> socket.socket:
    """One socket for both families: asyncio would make it IPv6 alone. Where the kernel has no IPv6, IPv4."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server((ANY_IPV4, port))
