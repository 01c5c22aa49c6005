"""A proxy between the operator and the API server that fails as a server, a network or a load balancer would.

`fail` says what befalls the next requests that match. Everything else goes through as it is, watches as streams.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web

from tests.integration.kube_api import OPERATOR_TOKEN, ApiServer

WRITES = ("POST", "PUT", "PATCH", "DELETE")


class Loss(Enum):
    """What gets lost: the request before it reaches the server, or the answer after the server has acted."""

    REQUEST = auto()
    ANSWER = auto()


@dataclass
class Fault:
    """Befalls `times` requests that `match`: an answer in the server's stead, a delay, or a loss."""

    match: Callable[[web.Request], bool]
    times: int = 1
    status: int = 0
    retry_after: str = ""
    delay_s: float = 0.0
    loss: Loss | None = None
    hits: int = 0

    def takes(self, request: web.Request) -> bool:
        if self.hits >= self.times or not self.match(request):
            return False
        self.hits += 1
        return True


def writes(request: web.Request) -> bool:
    return request.method in WRITES


def calls(request: web.Request) -> bool:
    """Everything that the operator's own client sends; kopf's lists and watches not."""
    return request.headers.get("User-Agent", "").startswith("auralink-operator")


def is_watch(request: web.Request) -> bool:
    return "watch" in request.query


@dataclass
class FaultProxy:
    server: ApiServer
    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    written: list[str] = field(default_factory=list)  # "<verb> <path>" of each write that the server has answered
    dead: asyncio.Event = field(default_factory=asyncio.Event)  # set: nothing goes through any more
    deaf: bool = False  # watches stay open and tell nothing
    dies_after: int | None = None  # dead after so many writes, before the answer of the last
    _watches: set[web.StreamResponse] = field(default_factory=set)
    _session: aiohttp.ClientSession | None = None

    def fail(self, match: Callable[[web.Request], bool], times: int = 1, **how: object) -> Fault:
        fault = Fault(match, times, **how)  # type: ignore[arg-type]
        self.faults.append(fault)
        return fault

    def cut_watches(self, event: dict[str, object] | None = None) -> int:
        """Ends every open watch, after one more event if there is one; how many there were."""
        cut = list(self._watches)
        for response in cut:
            task = asyncio.ensure_future(self._cut(response, event))
            task.add_done_callback(lambda done: done.exception())
        return len(cut)

    async def _cut(self, response: web.StreamResponse, event: dict[str, object] | None) -> None:
        self._watches.discard(response)
        if event is not None:
            await response.write(json.dumps(event).encode() + b"\n")
            await asyncio.sleep(0.1)
        transport = response._req.transport if response._req is not None else None
        if transport is not None:
            transport.abort()

    def kubeconfig(self, folder: Path) -> Path:
        """The operator's identity, by way of this proxy."""
        path = folder / f"proxy-{self.port}.kubeconfig"
        cluster = {"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}
        user = {"name": "user", "user": {"token": OPERATOR_TOKEN}}
        context = {"name": "proxy", "context": {"cluster": "proxy", "user": "user"}}
        body = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "users": [user], "contexts": [context]}
        path.write_text(yaml.safe_dump({**body, "current-context": "proxy"}))
        return path

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.dead.is_set():
            return _hang_up(request)
        for fault in self.faults:
            if fault.takes(request):
                await asyncio.sleep(fault.delay_s)
                if fault.status:
                    return _refusal(fault)
                if fault.loss is Loss.REQUEST:
                    return _hang_up(request)
                if fault.loss is Loss.ANSWER:
                    await self._forward(request)
                    return _hang_up(request)
                break
        if is_watch(request):
            return await self._stream(request)
        response = await self._forward(request)
        if writes(request) and response.status < 300:
            self.written.append(f"{request.method} {request.path}")
            if len(self.written) == self.dies_after:
                self.dead.set()
        return _hang_up(request) if self.dead.is_set() else response

    def _ask(self, request: web.Request, body: bytes | None = None) -> "aiohttp.client._RequestContextManager":
        assert self._session is not None
        headers = {name: request.headers[name] for name in _PASSED if name in request.headers}
        url = f"https://127.0.0.1:{self.server.port}{request.raw_path}"
        return self._session.request(request.method, url, data=body, headers=headers, ssl=False)

    async def _forward(self, request: web.Request) -> web.Response:
        async with self._ask(request, await request.read() or None) as answer:
            body = await answer.read()
            headers = {"Content-Type": answer.headers.get("Content-Type", "application/json")}
            return web.Response(status=answer.status, body=body, headers=headers)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        async with self._ask(request) as answer:
            response.set_status(answer.status)
            await response.prepare(request)
            self._watches.add(response)
            try:
                async for part in answer.content.iter_any():
                    if self.dead.is_set():
                        return _hang_up(request)
                    if not self.deaf:
                        await response.write(part)
            except (ConnectionError, aiohttp.ClientError):
                return response
            finally:
                self._watches.discard(response)
        return response


_PASSED = ("Accept", "Authorization", "Content-Type", "User-Agent")


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)


def _refusal(fault: Fault) -> web.Response:
    reasons = {409: "Conflict", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}
    body = {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "code": fault.status,
        "reason": reasons.get(fault.status, ""),
        "message": "made up by a test",
    }
    headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
    return web.json_response(body, status=fault.status, headers=headers)


@asynccontextmanager
async def fault_proxy(server: ApiServer) -> AsyncIterator[FaultProxy]:
    proxy = FaultProxy(server)
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", proxy.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), read_bufsize=2**21) as session:
        proxy._session = session
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        proxy.port = runner.addresses[0][1]
        try:
            yield proxy
        finally:
            await runner.cleanup()
