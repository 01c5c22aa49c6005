"""The operator as it runs in its image: processes, their pages, their election and their end."""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest

from tests.integration.kube_api import OPERATOR, ROOT, ApiServer, Kube, eventually, free_ports, hands
from tests.integration.operator_bench import a_bridge, grant

ROOTS = os.pathsep.join(str(ROOT / part) for part in ("operator", "protos"))


@dataclass
class Replica:
    """One operator process and its pages."""

    process: asyncio.subprocess.Process
    port: int

    async def page(self, name: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.port}/{name}"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status, await answer.text()

    async def ready(self) -> bool:
        try:
            return (await self.page("readyz"))[0] == 200
        except aiohttp.ClientError:
            return False

    async def leads(self) -> bool:
        return "auralink_operator_leader 1.0" in (await self.page("metrics"))[1]

    async def end(self, how: signal.Signals = signal.SIGTERM) -> str:
        """Ends it; what it said until then."""
        self.process.send_signal(how)
        _, said = await asyncio.wait_for(self.process.communicate(), 20)
        return said.decode()


@asynccontextmanager
async def replica(server: ApiServer, namespace: str, *flags: str) -> AsyncIterator[Replica]:
    (port,) = free_ports(1)
    arguments = ("run", "--data-plane-image=image:1", "--ai-core-address=ai:50051", f"--namespace={namespace}")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "auralink_operator", *arguments, f"--health-port={port}", *flags),
        env={
            **os.environ,
            "KUBECONFIG": str(server.operator_kubeconfig),
            "PYTHONPATH": ROOTS,
            "HOSTNAME": f"op-{port}",
        },
        stderr=asyncio.subprocess.PIPE,
    )
    found = Replica(process, port)
    try:
        await eventually(found.ready, "/readyz is 200", 60.0)
        yield found
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_process_serves_gets_ready_and_ends_on_sigterm(api_server: ApiServer) -> None:
    async with hands(api_server, "process") as kube:
        await grant(kube)
        async with replica(api_server, "process") as one:
            await kube.create("auralinkbridges", a_bridge())
            await _made(kube, "b")
            said = await one.end()
        assert one.process.returncode == 0, said
        assert '"level": "error"' not in said, said


async def test_wrong_settings_end_the_process_with_all_errors() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "auralink_operator", "run", "--health-port=none"),
        env={**os.environ, "PYTHONPATH": ROOTS, "AURALINK_AI_CORE_ADDRESS": "", "AURALINK_DATA_PLANE_IMAGE": ""},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 78
    for flag in (b"--data-plane-image", b"--ai-core-address", b"--health-port"):
        assert flag in said


# --- two replicas -----------------------------------------------------------------------------------------------------


async def _made(kube: Kube, bridge: str, timeout_s: float = 15.0) -> None:
    async def made() -> bool:
        return await kube.get("deployments", f"auralink-{bridge}") is not None

    await eventually(made, f"the Deployment of {bridge} is there", timeout_s)


async def _grant_lease(kube: Kube) -> None:
    """The chart's rights to the Lease of its release, for the names that this test uses."""
    group = "coordination.k8s.io"
    rules = [
        {"apiGroups": [group], "resources": ["leases"], "verbs": ["create"]},
        {
            "apiGroups": [group],
            "resources": ["leases"],
            "resourceNames": ["auralink-operator"],
            "verbs": ["get", "watch", "update"],
        },
    ]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "lease"}}
    await kube.create("roles", {**role, "rules": rules})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "lease"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": OPERATOR}
    await kube.create("rolebindings", {**role, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]})


@asynccontextmanager
async def pair(server: ApiServer, namespace: str) -> AsyncIterator[tuple[Kube, Replica, Replica]]:
    """A leader and a standby that is ready, in a namespace of their own."""
    flags = ("--leader-elect", f"--lease-namespace={namespace}")
    async with hands(server, namespace) as kube:
        await grant(kube)
        await _grant_lease(kube)
        async with replica(server, namespace, *flags) as first:
            await eventually(first.leads, "the first leads")
            async with replica(server, namespace, *flags) as second:
                assert not await second.leads()
                yield kube, first, second


async def _successor_works(kube: Kube, since: float) -> float:
    """Seconds until a bridge that came after the leader's end has its Deployment."""
    await kube.create("auralinkbridges", a_bridge("after"))
    await _made(kube, "after", 30.0)
    return time.monotonic() - since


async def test_after_a_kill_the_standby_reconciles_within_fifteen_seconds(api_server: ApiServer) -> None:
    async with pair(api_server, "killed") as (kube, first, second):
        await kube.create("auralinkbridges", a_bridge())
        await _made(kube, "b")
        began = time.monotonic()
        await first.end(signal.SIGKILL)
        took_s = await _successor_works(kube, began)
        print(f"\nfailover after a kill: {took_s:.2f} s")
        assert took_s <= 15.0
        assert await second.leads()


async def test_after_sigterm_the_standby_reconciles_within_two_seconds(api_server: ApiServer) -> None:
    async with pair(api_server, "released") as (kube, first, second):
        await kube.create("auralinkbridges", a_bridge())
        await _made(kube, "b")
        began = time.monotonic()
        first.process.send_signal(signal.SIGTERM)
        took_s = await _successor_works(kube, began)
        print(f"\nfailover after SIGTERM: {took_s:.2f} s")
        assert took_s <= 2.0
        await first.process.wait()
        assert first.process.returncode == 0
        assert await second.leads()


async def test_who_loses_the_lease_ends_and_says_why(api_server: ApiServer) -> None:
    async with pair(api_server, "stolen") as (kube, first, second):
        path = "/apis/coordination.k8s.io/v1/namespaces/stolen/leases/auralink-operator"
        patch = {"spec": {"holderIdentity": "somebody", "renewTime": "2026-01-01T00:00:00.000000Z"}}
        await kube.raw("PATCH", path, patch, "application/merge-patch+json")
        _, said = await asyncio.wait_for(first.process.communicate(), 15)
        assert first.process.returncode == 1
        assert re.search(r'"reason": "somebody holds the lease"', said.decode())
        assert "Traceback" not in said.decode()
        assert second.process.returncode is None


async def test_a_standby_writes_nothing(api_server: ApiServer) -> None:
    async with pair(api_server, "standby") as (kube, first, second):
        await kube.create("auralinkbridges", a_bridge())
        await _made(kube, "b")
        await asyncio.sleep(1)
        done = api_server.requests(f"auralink-operator/op-{second.port}")
        assert done
        assert {event["verb"] for event in done} <= {"get", "list", "watch"}
        writers = api_server.requests(f"auralink-operator/op-{first.port}")
        assert "patch" in {event["verb"] for event in writers}


@pytest.mark.parametrize("shard", ["", "eu"])
async def test_a_shard_keeps_its_own_bridges_only(api_server: ApiServer, shard: str) -> None:
    namespace = f"shard-{shard or 'none'}"
    async with hands(api_server, namespace) as kube:
        await grant(kube)
        other = {"auralink.io/shard": "us" if shard else "eu"}
        mine = {"auralink.io/shard": shard} if shard else {}
        for name, labels in (("other", other), ("mine", mine)):
            bridge = a_bridge(name)
            bridge["metadata"]["labels"] = labels
            await kube.create("auralinkbridges", bridge)
        async with replica(api_server, namespace, *((f"--shard={shard}",) if shard else ())):
            await _made(kube, "mine")
            assert await kube.get("deployments", "auralink-other") is None
            await kube.merge("auralinkbridges", "other", {"metadata": {"labels": mine or {"auralink.io/shard": None}}})
            await _made(kube, "other")
