"""A LiveKit server for tests, with a sink for its webhooks. Tests that say `livekit` get one of their own; without the
binary (`make livekit-server`) they are skipped by name."""

import asyncio
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from tests.integration.kube_api import eventually, find_tool, free_ports

KEY, SECRET = "APItest", "a secret of a throw-away server, long enough"
START_S = 30.0


@dataclass
class Webhook:
    body: bytes
    authorization: str
    content_type: str
    received_at: float  # wall clock


class WebhookSink:
    """Takes every webhook, and keeps it as it came."""

    def __init__(self) -> None:
        self.received: list[Webhook] = []
        self.url = ""
        self._arrived = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        application = web.Application(client_max_size=4 << 20)
        application.router.add_post("/webhook", self._take)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/webhook"

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = request.headers
        self.received.append(
            Webhook(body, headers.get("Authorization", ""), headers.get("Content-Type", ""), time.time())
        )
        self._arrived.set()
        return web.Response()

    async def wait_for(self, wanted: Callable[[Webhook], bool], timeout_s: float = 15.0) -> Webhook:
        """The first that is wanted, of those that came and those that come."""
        seen = 0
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._arrived.clear()
                    for one in self.received[seen:]:
                        if wanted(one):
                            return one
                    seen = len(self.received)
                    await self._arrived.wait()
        except TimeoutError:
            came = [one.body[:80] for one in self.received]
            raise AssertionError(f"no such webhook within {timeout_s} s, of {came}") from None


@dataclass
class LiveKitServer:
    """A process on this machine's loopback."""

    binary: Path
    folder: Path
    webhooks: WebhookSink
    key: str = KEY
    secret: str = SECRET
    settings: dict[str, Any] = field(default_factory=dict)  # laid over the configuration, a level deep
    port: int = 0
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """As an endpoint's `url` has it, and as clients want it."""
        return f"ws://127.0.0.1:{self.port}"

    def configuration(self) -> dict[str, Any]:
        _, tcp_port, udp_port = free_ports(3)
        base: dict[str, Any] = {
            "port": self.port,
            "bind_addresses": ["127.0.0.1"],
            "rtc": {
                "tcp_port": tcp_port,
                "udp_port": udp_port,
                "use_external_ip": False,
                "node_ip": "127.0.0.1",
                "enable_loopback_candidate": True,
                "ips": {"includes": ["127.0.0.1/32"]},
                "stun_servers": [],
            },
            "keys": {self.key: self.secret},
            "webhook": {"api_key": self.key, "urls": [self.webhooks.url]},
            "logging": {"level": "info", "json": True},
        }
        for name, value in self.settings.items():
            base[name] = {**base.get(name, {}), **value} if isinstance(value, dict) else value
        return base

    async def start(self) -> None:
        """On the port it had, if it ran before. Raises RuntimeError with the end of its log."""
        if not self.port:
            [self.port] = free_ports(1)
        config, log = self.folder / "livekit.yaml", self.folder / "livekit.log"
        config.write_text(yaml.safe_dump(self.configuration()))
        with log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                self.binary, "--config", config, stdout=output, stderr=output
            )
        deadline = time.monotonic() + START_S
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            while time.monotonic() < deadline:
                if self.process.returncode is not None:
                    break
                try:
                    async with session.get(f"http://127.0.0.1:{self.port}/") as answer:
                        if answer.status == 200:
                            return
                except (OSError, aiohttp.ClientError, TimeoutError):
                    pass
                await asyncio.sleep(0.05)
        await self.kill()
        raise RuntimeError(f"livekit-server did not start:\n{log.read_text()[-3000:]}")

    async def kill(self) -> None:
        """As a node that is lost."""
        process, self.process = self.process, None
        if process and process.returncode is None:
            process.kill()
            await process.wait()

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """Its sockets are open, and nobody answers."""
        process = self.process
        assert process

        async def stopped() -> bool:
            return _stopped(process.pid)

        process.send_signal(signal.SIGSTOP)
        try:
            await eventually(stopped, "a frozen server")
            yield
        finally:
            process.send_signal(signal.SIGCONT)


def _stopped(pid: int) -> bool:
    """All its threads: a signal takes a moment to reach them."""
    return all(
        stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in Path(f"/proc/{pid}/task").glob("*/stat")
    )


@asynccontextmanager
async def livekit_server(**settings: Any) -> AsyncIterator[LiveKitServer]:
    """`settings`: further ones of livekit-server's configuration, as `room={"empty_timeout": 1}`. Skips the test where
    the server is not built."""
    binary = find_tool("livekit-server", group="livekit")
    if binary is None:
        pytest.skip("livekit-server not built: make livekit-server, or set AURALINK_TOOLS to its folder")
    sink = WebhookSink()
    await sink.start()
    with tempfile.TemporaryDirectory(prefix="auralink-livekit-") as folder:
        server = LiveKitServer(binary, Path(folder), sink, settings=settings)
        try:
            await server.start()
            yield server
        finally:
            await server.kill()  # told to stop, it would wait for its rooms to empty
            await sink.stop()


@pytest.fixture
async def livekit() -> AsyncIterator[LiveKitServer]:
    async with livekit_server() as server:
        yield server
