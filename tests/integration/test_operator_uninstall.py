"""Taking away what the operator needs, or the operator itself, in an order that nobody would choose."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.integration.chart_bench import a_server, tool
from tests.integration.kube_api import ROOT, ApiServer, Kube, Refused, eventually, hands, install_crds
from tests.integration.operator_bench import Bench, a_bridge, a_policy, bench, grant
from tests.integration.test_operator_process import Replica, replica

KINDS = ("auralinkbridges.auralink.io", "roompolicies.auralink.io")
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


# --- the kinds go while the operator runs ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    """One of its own: kinds belong to the whole cluster."""
    with a_server() as found:
        yield found


async def delete_kinds(kube: Kube) -> None:
    for name in KINDS:
        await kube.raw("DELETE", f"{CRDS}/{name}")

    async def gone() -> bool:
        try:
            for name in KINDS:
                await kube.raw("GET", f"{CRDS}/{name}")
                return False
        except Refused as error:
            return error.status == 404
        return False

    await eventually(gone, "both kinds are gone", 30.0)


async def made(kube: Kube, bridge: str) -> None:
    async def look() -> bool:
        return await kube.get("deployments", f"auralink-{bridge}") is not None

    await eventually(look, f"the Deployment of {bridge} is there", 30.0)


async def collect_garbage(kube: Kube) -> None:
    """What the garbage collector does once the owner is gone."""
    for deployment in await kube.list("deployments"):
        await kube.delete("deployments", deployment["metadata"]["name"])


@asynccontextmanager
async def restarted(server: ApiServer, namespace: str) -> AsyncIterator[asyncio.Task[None]]:
    """The next process, as a kubelet would start it; the task ends when that has made the bridge `after`."""

    async def work() -> None:
        async with replica(server, namespace) as one, hands(server, f"{namespace}-hands") as kube:
            kube.namespace = namespace
            await made(kube, "after")
            assert "Traceback" not in await one.end()

    task = asyncio.create_task(work())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def end_of(one: Replica) -> str:
    _, said = await asyncio.wait_for(one.process.communicate(), 15)
    return str(said.decode())


async def test_kinds_that_go_first_hang_nothing_and_come_back(server: ApiServer) -> None:
    """The process ends by itself within seconds and says so; the next one waits until both kinds are served again."""
    async with hands(server, "first") as kube:
        await grant(kube)
        async with replica(server, "first") as one:
            await kube.create("auralinkbridges", a_bridge())
            await kube.create("roompolicies", a_policy("saving", mode="Auto"))
            await made(kube, "b")
            await delete_kinds(kube)
            said = await end_of(one)
            assert one.process.returncode == 1, said
            assert '"message": "the operator ends"' in said
        await collect_garbage(kube)
        async with restarted(server, "first") as again:
            await asyncio.sleep(3)
            assert not again.done()
            assert await kube.list("deployments") == []
            await install_crds(kube)
            await kube.create("auralinkbridges", a_bridge("after"))
            await asyncio.wait_for(again, 60)


# --- the operator goes while a bridge has its finalizer --------------------------------------------------------------


def documented() -> str:
    """The command of the manual, as it stands there."""
    page = (ROOT / "docs/running.md").read_text()
    (command,) = re.findall(r"^    (kubectl get auralinkbridge <name>.*auralink\.io/drain.*)$", page, re.MULTILINE)
    return str(command)


def as_documented(server: ApiServer, name: str, namespace: str) -> None:
    command = documented().replace("<name>", name).replace("<namespace>", namespace)
    command = command.replace("kubectl", f"{tool('kubectl')} --kubeconfig {server.kubeconfig}")
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


async def leaving(at: Bench, *more: str) -> None:
    """A bridge that drains when it is deleted and has finalizers of others, too."""
    bridge: dict[str, Any] = a_bridge(drain={"onDelete": True})
    bridge["metadata"]["finalizers"] = list(more)
    await at.kube.create("auralinkbridges", bridge)
    await at.serve()

    async def held() -> bool:
        return "auralink.io/drain" in ((await at.bridge())["metadata"].get("finalizers") or ())

    await eventually(held, "the bridge has the finalizer")
    await at.quiet()


async def test_a_bridge_that_nobody_drains_is_released_as_the_manual_says(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(api_server, monkeypatch) as at:
        await leaving(at)
        namespace = at.kube.namespace
    async with hands(api_server, "drain-by-hand") as kube:
        kube.namespace = namespace
        await kube.delete("auralinkbridges", "b")
        assert await kube.get("auralinkbridges", "b") is not None
        await asyncio.to_thread(as_documented, api_server, "b", namespace)
        assert await kube.get("auralinkbridges", "b") is None


async def test_the_manual_s_command_leaves_finalizers_of_others_alone(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(api_server, monkeypatch) as at:
        await leaving(at, "example.com/theirs")
        namespace = at.kube.namespace
    async with hands(api_server, "drain-beside-others") as kube:
        kube.namespace = namespace
        before = await kube.get("auralinkbridges", "b")
        assert before is not None
        await kube.delete("auralinkbridges", "b")
        await asyncio.to_thread(as_documented, api_server, "b", namespace)
        found = await kube.get("auralinkbridges", "b")
        assert found is not None
        assert found["metadata"]["finalizers"] == ["example.com/theirs"]
        assert json.dumps(found["spec"]) == json.dumps(before["spec"])
        assert found["status"] == before["status"]
        await kube.merge("auralinkbridges", "b", {"metadata": {"finalizers": None}})
