"""The AI Core client with everything around it in a test's hands."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from auralink_dataplane.media.aic import AicClient, Identity, Session, SessionRequest
from auralink_dataplane.media.frames import Frame, Mode, Result
from auralink_dataplane.media.pipeline import Failure, Refusal
from auralink_dataplane.policy import Compression
from auralink_dataplane.settings import AiCoreSpec, BreakerSpec

from tests.fakes.aicore import FakeAiCore


@dataclass
class Heard:
    """A listener that remembers."""

    opened: list[tuple[int, bool]] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    draining: int = 0
    shed: int = 0

    def session_opened(self, session: int, max_in_flight: int, *, probe: bool) -> None:
        self.opened.append((session, probe))

    def session_refused(self, session: int, why: Refusal) -> None:
        self.refused.append(why)

    def session_result(self, session: int, result: Result) -> None:
        self.results.append(result)

    def session_failed(self, session: int, failure: Failure) -> None:
        self.failures.append(failure)

    def session_draining(self, session: int) -> None:
        self.draining += 1

    def session_shed(self, session: int) -> None:
        self.shed += 1


@dataclass
class Names:
    """A resolver that the test edits."""

    found: dict[str, list[str]] = field(default_factory=dict)
    error: Exception | None = None

    async def __call__(self, host: str, port: int) -> Sequence[tuple[str, int]]:
        if self.error:
            raise self.error
        if host not in self.found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(ip, port) for ip in self.found[host]]


class Bench:
    """A client with everything around it in the test's hands."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.names = Names({"core": ["127.0.0.1"]})
        self.secrets: dict[tuple[str, str], bytes] = {}
        self.kicks = 0
        self.heard = Heard()
        self.client = AicClient(
            Identity("ns/b", "pod-1"),
            clock=lambda: self.now,
            read_secret=lambda name, key: self.secrets.get((name, key)),
            available=self._kick,
            resolve=self.names,
        )
        self._number = 0

    def _kick(self) -> None:
        self.kicks += 1

    async def use(self, *addresses: str, failures: int = 5, standby: bool = False) -> None:
        breaker = BreakerSpec(failures=failures, open_seconds=60)
        spec = AiCoreSpec(addresses=addresses, breaker=breaker, failover="Standby" if standby else "None")
        self.client.configure(spec)
        await self.client.resolve_once()

    def open(self, name: str = "r/1", codec: str = "H264") -> Session | None:
        return self.client.open(self._request(name, codec), self.heard)

    def open_standby(self, beside: Session, name: str = "r/1") -> Session | None:
        return self.client.open_standby(self._request(name, "H264"), self.heard, beside)

    def _request(self, name: str, codec: str) -> SessionRequest:
        self._number += 1
        return SessionRequest(name, self._number, "r", codec, 90000, Compression())

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - watches a peer that knows no events
                await asyncio.sleep(0.005)


@asynccontextmanager
async def core_for(bench: Bench, *, failures: int = 5) -> AsyncIterator[FakeAiCore]:
    async with FakeAiCore() as core:
        await bench.use(f"core:{core.port}", failures=failures)
        yield core


def frame(frame_id: int, *, key: bool = False) -> Frame:
    timestamp = frame_id * 3000 + (1 << 33)
    return Frame(1, frame_id, Mode.COMPRESS, "H264", timestamp, key, 0.0, 0.0, False, 100, bytes(100))
