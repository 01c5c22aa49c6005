"""The pod's two HTTP ports: health, readiness, status and rooms on one, metrics on the other.

`app` is the Pod that is asked. Rooms and draining need the bearer token of `api.tokenRef` and are off without one.
"""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from aiohttp import web

MAX_BODY_BYTES: Final = 64 << 10
REQUEST_S: Final = 10.0
SHUTDOWN_S: Final = 2.0
PROMETHEUS_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


class Pod(Protocol):
    def health(self) -> tuple[bool, dict[str, Any]]: ...
    def ready(self) -> tuple[bool, dict[str, Any]]: ...
    def status(self) -> dict[str, Any]: ...
    def rooms(self) -> list[dict[str, Any]]: ...
    def leg_sdp(self, room: str, leg: str) -> str | None: ...
    def metrics_text(self) -> bytes: ...
    def request_drain(self) -> None: ...
    def api_token(self) -> bytes | None:
        """None: the protected part of the API is off."""


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _bounded(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        async with asyncio.timeout(REQUEST_S):
            return await handler(request)
    except TimeoutError:
        return _json({"error": "timeout"}, status=503)


def _json(document: Any, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(document) + "\n", content_type="application/json", status=status)


def api(pod: Pod) -> web.Application:
    """The application of the main port."""

    async def health(_: web.Request) -> web.Response:
        alive, document = pod.health()
        return _json(document, 200 if alive else 503)

    async def ready(_: web.Request) -> web.Response:
        is_ready, document = pod.ready()
        return _json(document, 200 if is_ready else 503)

    async def status(_: web.Request) -> web.Response:
        return _json(pod.status())

    async def rooms(_: web.Request) -> web.Response:
        return _json({"rooms": pod.rooms()})

    async def room(request: web.Request) -> web.Response:
        name = request.match_info["room"]
        found = next((one for one in pod.rooms() if one["name"] == name), None)
        return _json(found) if found else _json({"error": f'no room "{name}" on this pod'}, 404)

    async def leg_sdp(request: web.Request) -> web.Response:
        text = pod.leg_sdp(request.match_info["room"], request.match_info["leg"])
        if text is None:
            return _json({"error": "no such leg is open on this pod"}, 404)
        return web.Response(text=text, content_type="application/sdp")

    async def drain(_: web.Request) -> web.Response:
        pod.request_drain()
        return _json({"status": "draining"}, 202)

    def guarded(handler: Handler) -> Handler:
        async def check(request: web.Request) -> web.StreamResponse:
            token = pod.api_token()
            if not token:
                return _json({"error": "off: set api.tokenRef to a Secret's key that holds the bearer token"}, 404)
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            shown = given.strip().encode(errors="surrogateescape")  # as it came: aiohttp decoded it so
            if scheme.lower() != "bearer" or not hmac.compare_digest(shown, token):
                return web.json_response(
                    {"error": "a bearer token is needed"}, status=401, headers={"WWW-Authenticate": "Bearer"}
                )
            return await handler(request)

        return check

    application = web.Application(middlewares=[_bounded], client_max_size=MAX_BODY_BYTES)
    application.add_routes(
        [
            web.get("/health", health),
            web.get("/ready", ready),
            web.get("/status", status),
            web.get("/rooms", guarded(rooms)),
            web.get("/rooms/{room}", guarded(room)),
            web.get("/rooms/{room}/legs/{leg}.sdp", guarded(leg_sdp)),
            web.post("/drain", guarded(drain)),
        ]
    )
    return application


def metrics(pod: Pod) -> web.Application:
    """The application of the metrics port."""

    async def text(_: web.Request) -> web.Response:
        return web.Response(body=pod.metrics_text(), headers={"Content-Type": PROMETHEUS_TEXT})

    application = web.Application(middlewares=[_bounded], client_max_size=MAX_BODY_BYTES)
    application.add_routes([web.get("/metrics", text)])
    return application


class Servers:
    """Both ports, on every address of the pod. Port 0 picks one; `ports` says which."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._runners: list[web.AppRunner] = []
        self.ports: list[int] = []

    async def start(self, http_port: int, metrics_port: int) -> None:
        """Raises OSError when a port is taken."""
        for application, port in ((api(self._pod), http_port), (metrics(self._pod), metrics_port)):
            runner = web.AppRunner(application, access_log=None, keepalive_timeout=75, shutdown_timeout=SHUTDOWN_S)
            self._runners.append(runner)
            await runner.setup()
            await web.TCPSite(runner, None, port).start()
            self.ports.append(min(runner.addresses, key=len)[1])  # IPv4's, where 0 picked two

    async def close(self) -> None:
        for runner in reversed(self._runners):
            await runner.cleanup()
