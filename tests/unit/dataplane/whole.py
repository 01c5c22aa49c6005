"""A whole pod on the twins of the packet core, the AI Core and the cluster, with a clock that tests may move on."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from aiohttp import ClientSession
from auralink_dataplane.app import App, Host
from auralink_dataplane.media.aic import resolve_all
from auralink_dataplane.settings import BridgeConfig, Pod, Settings

from tests.fakes.aicore import FakeAiCore
from tests.fakes.packets import FakePackets

TOKEN = "open sesame"  # noqa: S105 - of this test


def bridge(address: str | None = None, **compression: Any) -> dict[str, Any]:
    def leg(name: str, direction: str, port: int, **medium: Any) -> dict[str, Any]:
        video = {"payloads": [{"type": 96, "codec": "H264", "fmtp": "packetization-mode=1"}], "listenPort": port}
        audio = {"payloads": [{"type": 97, "codec": "Opus"}], "listenPort": port + 2}
        return {"name": name, "direction": direction, "rtp": {"video": video | medium, "audio": audio}}

    return {
        "region": "eu",
        "environment": "test",
        "rooms": [
            {
                "name": "demo",
                "legs": [leg("in", "Receive", 5000), leg("out", "Send", 5100, remote="127.0.0.1:6000")],
            }
        ],
        "aiCore": {"addresses": [address] if address else [], "timeoutMs": 1000},
        "compression": compression,
        "api": {"tokenRef": {"name": "api", "key": "token"}},
    }


def documents(spec: Mapping[str, Any], *, generation: int = 1, owner: str = "pod-1", **more: Any) -> dict[str, str]:
    config = {"version": 1, "generation": generation, "bridge": spec, "policies": [], **more}
    return {"config.json": json.dumps(config), "owners.json": json.dumps({"demo": owner})}


class FakeCluster:
    """The Kubernetes adapter's twin: the test is the API server."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[dict[str, str] | None] = asyncio.Queue()
        self.entries: list[Mapping[str, Any] | None] = []
        self.down = False

    async def config_maps(self) -> AsyncIterator[dict[str, str] | None]:
        while True:
            yield await self.queue.get()

    async def apply_pod_entry(self, entry: Mapping[str, Any] | None) -> None:
        if self.down:
            raise OSError("no route to host")
        self.entries.append(entry)

    async def close(self) -> None:
        return


class PodUnderTest:
    def __init__(self, core: FakeAiCore, *, config: BridgeConfig | None = None, propagation_s: int = 0) -> None:
        self.core = core
        self.skew_s = 0.0
        self.packets = FakePackets()
        self.cluster = None if config else FakeCluster()
        self.secrets = {("api", "token"): f"{TOKEN}\n".encode()}
        settings = Settings(
            pod=Pod("ns/b", "pod-1", "ns", "uid-1", "node-1", "127.0.0.1"),
            service_name="ingress-egress",
            config_map=None if config else "auralink-b-config",
            config=config,
            http_port=0,
            metrics_port=0,
            drain_propagation_s=propagation_s,
            drain_timeout_s=60,
            secrets_dir="/nowhere",
        )
        loop = asyncio.get_running_loop()
        host = Host(
            clock=lambda: loop.time() + self.skew_s,
            wall_ms=lambda: 1700000000000,
            started_at="2026-01-01T00:00:00Z",
            read_secret=lambda name, key: self.secrets.get((name, key)),
            jitter=lambda: 0.5,
            resolve=resolve_all,
        )
        self.app = App(settings, host, self.packets, self.cluster)
        self.task = asyncio.create_task(self.app.run())

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(8):
            while not condition():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.01)

    async def get(self, path: str, *, port: int = 0, token: str | None = None, post: bool = False) -> tuple[int, str]:
        await self.until(lambda: len(self.app.servers.ports) == 2)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://127.0.0.1:{self.app.servers.ports[port]}{path}"
        async with ClientSession() as http, http.request("POST" if post else "GET", url, headers=headers) as answer:
            return answer.status, await answer.text()

    async def configure(self, **more: Any) -> None:
        assert self.cluster
        spec = more.pop("spec", None) or bridge(self.core.address, mode="Always")
        generation = self.app.snapshot().generation
        self.cluster.queue.put_nowait(documents(spec, generation=generation + 1, **more))
        await self.until(lambda: self.app.snapshot().generation == generation + 1)

    async def legs_open(self, count: int = 2) -> dict[str, int]:
        await self.until(lambda: len(self.app.legs.open) == count)
        return {leg.spec.name: leg.id for leg in self.app.legs.open.values()}

    async def stream(self) -> int:
        legs = await self.legs_open()
        await self.until(lambda: self.app.aic.endpoints())
        stream = self.packets.start_stream(legs["in"])
        await self.until(lambda: list(self.app.streams))
        return stream

    async def play(self, stream: int, count: int) -> None:
        for number in range(count):
            key = number % 30 == 0
            self.packets.feed(stream, key=key, size=1000, now=asyncio.get_running_loop().time())
            await asyncio.sleep(0.005)
