"""etcd forgets what a watch would go on from: the API server says so (410), and the operator's picture is right."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from auralink_operator.index import BRIDGE

from tests.integration.chart_bench import a_server
from tests.integration.kube_api import ADMIN_TOKEN, OPERATOR_TOKEN, ApiServer, eventually
from tests.integration.operator_bench import Bench, a_bridge, bench

BRIDGES = "/apis/auralink.io/v1alpha1/namespaces/{}/auralinkbridges"


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    """Without a watch cache, which would still know what etcd has forgotten."""
    with a_server("--watch-cache=false") as found:
        yield found


class Wire:
    """All connections to the API server; it can be cut and mended."""

    def __init__(self, port: int) -> None:
        self.to, self.whole = port, True
        self._ends: set[asyncio.StreamWriter] = set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.whole:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self.to)
        self._ends |= {writer, back}
        await asyncio.gather(_pump(reader, back), _pump(there, writer), return_exceptions=True)
        self._ends -= {writer, back}

    def cut(self) -> None:
        self.whole = False
        for end in list(self._ends):
            end.transport.abort()

    def mend(self) -> None:
        self.whole = True


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def over_a_wire(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Bench, Wire]]:
    """An operator that reaches the API server by a wire, and tests' hands that do not."""
    wire = Wire(server.port)
    listening = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    replace(server, port=port).write_kubeconfig("operator.kubeconfig", OPERATOR_TOKEN)
    try:
        async with bench(server, monkeypatch, AURALINK_RESYNC_S="5") as at:
            yield at, wire
    finally:
        listening.close()
        wire.cut()


async def etcd(server: ApiServer, path: str, **body: Any) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.post(f"{server.etcd}/v3/kv/{path}", json=body) as answer:
        found: dict[str, Any] = await answer.json(content_type=None)
        assert answer.status == 200, found
        return found


async def compact(server: ApiServer) -> None:
    """Everything before this moment is forgotten."""
    now = await etcd(server, "range", key=base64.b64encode(b"/").decode())
    await etcd(server, "compaction", revision=now["header"]["revision"], physical=True)


async def first_word(server: ApiServer, namespace: str, version: str) -> dict[str, Any]:
    """What a watch from a version is told first."""
    url = f"https://127.0.0.1:{server.port}{BRIDGES.format(namespace)}?watch=true&resourceVersion={version}"
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers, ssl=False) as answer:
        found: dict[str, Any] = json.loads(await asyncio.wait_for(answer.content.readline(), 10))
        return found


async def known_versions(at: Bench) -> dict[str, str]:
    """Bridges as the operator sees them, by name."""
    found = (held.open() for held in at.operator.indices.of_kind(BRIDGE).values())
    return {obj["metadata"]["name"]: obj["metadata"]["resourceVersion"] for obj in found}


async def real_versions(at: Bench) -> dict[str, str]:
    found = await at.kube.list("auralinkbridges")
    return {obj["metadata"]["name"]: obj["metadata"]["resourceVersion"] for obj in found}


def lists(at: Bench) -> int:
    """Full lists of bridges by the operator's watches so far."""
    path = BRIDGES.format(at.kube.namespace)
    done = at.server.requests("kopf")
    return sum(event["verb"] == "list" and str(event["requestURI"]).startswith(path) for event in done)


async def test_after_a_compaction_the_picture_is_right_within_a_resync(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the operator's back one bridge goes, one comes, one changes, and children are lost."""
    async with over_a_wire(server, monkeypatch) as (at, wire):
        for number, name in enumerate(("goes", "changes"), 1):
            await at.kube.create("auralinkbridges", a_bridge(name))
            await at.serve(name, (f"p{number}",))
        await at.quiet()
        seen, listed = max((await known_versions(at)).values(), key=int), lists(at)

        wire.cut()
        await at.kube.delete("auralinkbridges", "goes")
        await at.kube.delete("configmaps", "auralink-goes-config")
        await at.kube.delete("configmaps", "auralink-changes-config")
        await at.kube.create("auralinkbridges", a_bridge("comes"))
        await at.kube.merge("auralinkbridges", "changes", {"spec": {"replicas": 3}})
        await compact(server)
        assert (await first_word(server, at.kube.namespace, seen))["object"]["code"] == 410
        wire.mend()

        async def right() -> bool:
            deployment = await at.kube.get("deployments", "auralink-changes")
            return (
                await at.kube.get("deployments", "auralink-comes") is not None
                and await at.kube.get("configmaps", "auralink-changes-config") is not None
                and deployment is not None
                and deployment["spec"]["replicas"] == 3
                and await known_versions(at) == await real_versions(at)
            )

        await eventually(right, "the operator sees and does what it missed", 20.0)
        assert lists(at) > listed
        await at.quiet()
        assert set(await known_versions(at)) == {"changes", "comes"}
        assert await at.kube.get("configmaps", "auralink-goes-config") is None

        await at.kube.create("auralinkbridges", a_bridge("later"))  # and its watches live
        await at.child("deployments", "auralink-later")
