"""The API server's part of an election: one Lease, its versions and its watch, and what can go wrong with them."""

import asyncio
import copy
import json
from collections.abc import AsyncGenerator

from auralink_operator.cluster import Answer, ApiError
from auralink_operator.index import Obj


class LeaseServer:
    def __init__(self) -> None:
        self.lease: Obj | None = None
        self.version = 0
        self.deaf = False  # no event reaches a watch, as over a connection that hangs
        self.requests: list[str] = []
        self._events: list[asyncio.Queue[Obj | None]] = []

    def write(self, lease: Obj | None) -> None:
        """Puts it there, whoever had it."""
        self.version += 1
        kind, shown = ("DELETED", self.lease) if lease is None else ("MODIFIED", copy.deepcopy(lease))
        if shown is not None:
            shown["metadata"]["resourceVersion"] = str(self.version)
        self.lease = None if lease is None else shown
        if not self.deaf:
            for queue in self._events:
                queue.put_nowait({"type": kind, "object": copy.deepcopy(shown)})

    def cut_watches(self) -> None:
        for queue in self._events:
            queue.put_nowait(None)

    @property
    def holder(self) -> str:
        return "" if self.lease is None else str(self.lease["spec"]["holderIdentity"])


class LeaseLine:
    """One process's way to the server; `broken` lets nothing through, `answers_lost` what comes back."""

    def __init__(self, server: LeaseServer) -> None:
        self.server = server
        self.broken = False
        self.answers_lost = False

    async def send(self, verb: str, path: str, body: Obj | None = None, *, timeout_s: float = 20.0) -> Answer:
        self.server.requests.append(verb)
        await asyncio.sleep(timeout_s if self.broken else 0.002)
        if self.broken:
            return Answer(0, b"no answer")
        answer = self._answer(verb, body)
        return Answer(0, b"no answer") if self.answers_lost else answer

    def _answer(self, verb: str, body: Obj | None) -> Answer:
        server = self.server
        if verb == "GET":
            return Answer(404, b"{}") if server.lease is None else Answer(200, json.dumps(server.lease).encode())
        assert body is not None
        if verb == "PUT":
            if server.lease is None:
                return Answer(404, b"{}")
            if body["metadata"]["resourceVersion"] != server.lease["metadata"]["resourceVersion"]:
                return Answer(409, b"{}")
        elif server.lease is not None:
            return Answer(409, b"{}")
        server.write(copy.deepcopy(body))
        return Answer(200, json.dumps(server.lease).encode())

    async def stream(self, path: str, *, longest_s: float) -> AsyncGenerator[Obj, None]:
        self.server.requests.append("WATCH")
        if self.broken:
            raise ApiError(0, "NoAnswer", "no route")
        queue: asyncio.Queue[Obj | None] = asyncio.Queue()
        self.server._events.append(queue)
        try:
            async with asyncio.timeout(longest_s):
                while (event := await queue.get()) is not None:
                    yield event
        except TimeoutError:
            return
        finally:
            self.server._events.remove(queue)
