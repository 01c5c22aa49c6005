"""The operator in the tests' own event loop, against a real API server, with the rights that the chart gives it."""

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from auralink_operator.__main__ import Operator
from auralink_operator.index import BRIDGE, POLICY, Key
from auralink_operator.settings import from_env

from tests.integration.kube_api import OPERATOR, ROOT, ApiServer, Kube, Obj, eventually, free_ports, hands

_numbers = itertools.count(1)


def chart_rules() -> list[Obj]:
    """The operator's rights, from the chart: that block of the template is plain YAML."""
    text = (ROOT / "charts/auralink/templates/_helpers.tpl").read_text()
    block = re.search(r'\{\{- define "auralink.operator.rules" -\}\}(.*?)\{\{- end \}\}', text, re.DOTALL)
    assert block
    rules: list[Obj] = yaml.safe_load(block.group(1))
    return rules


async def grant(kube: Kube) -> None:
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "operator"}}
    await kube.create("roles", {**role, "rules": chart_rules()})
    binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "operator"}}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": OPERATOR}
    await kube.create("rolebindings", {**binding, "roleRef": reference, "subjects": [subject]})


@dataclass
class Bench:
    """One namespace, its hands, and the operator that watches it."""

    kube: Kube
    server: ApiServer
    operator: Operator

    async def bridge(self, name: str = "b") -> Obj:
        found = await self.kube.get("auralinkbridges", name)
        assert found is not None
        return found

    async def condition(self, of: str, name: str = "b", plural: str = "auralinkbridges") -> tuple[str, str]:
        """Status and reason of a condition; ("", "") while it is not there."""
        found = await self.kube.get(plural, name) or {}
        for condition in found.get("status", {}).get("conditions", []):
            if condition["type"] == of:
                return condition["status"], condition["reason"]
        return "", ""

    async def until(
        self,
        of: str,
        status: str,
        reason: str,
        name: str = "b",
        plural: str = "auralinkbridges",
        timeout_s: float = 15.0,
    ) -> None:
        async def look() -> bool:
            return await self.condition(of, name, plural) == (status, reason)

        try:
            await eventually(look, f"{of}={status}/{reason}", timeout_s)
        except AssertionError:
            raise AssertionError((await self.kube.get(plural, name) or {}).get("status")) from None

    async def child(self, plural: str, name: str) -> Obj:
        async def look() -> Obj | None:
            return await self.kube.get(plural, name)

        return await eventually(look, f"{plural}/{name} is there")

    async def serve(self, name: str = "b", pods: tuple[str, ...] = ("p1",)) -> list[Obj]:
        """Pods that are ready, serve and have acknowledged: the bridge becomes Ready."""
        await self.child("deployments", f"auralink-{name}")
        made = []
        for number, pod in enumerate(pods, 1):
            made.append(await self.kube.run_pod(name, pod, f"10.1.0.{number}"))
            await self.kube.report(name, made[-1], await self.generation(name))
        await self.kube.roll_out(name)
        await self.until("Ready", "True", "Succeeded", name)
        return made

    async def generation(self, name: str = "b") -> int:
        config = await self.child("configmaps", f"auralink-{name}-config")
        return int(config["metadata"]["annotations"]["auralink.io/config-generation"])

    async def quiet(self) -> None:
        """Until nothing is queued, running or arriving."""
        calm = 0
        while calm < 10:
            idle = self.operator.queue.busy() == 0
            calm = calm + 1 if idle else 0
            await asyncio.sleep(0.05)

    def calls(self) -> float:
        """Requests of the operator's own client so far, by its metrics."""
        return sum(
            sample.value
            for metric in self.operator.metrics.api_requests.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        )

    async def look_again(self, *keys: Key) -> None:
        """Reconciles keys as a resync would, and waits for it."""
        for key in keys:
            self.operator.queue.add(key)
        await self.quiet()

    def key(self, name: str = "b") -> Key:
        return Key(BRIDGE, self.kube.namespace, name)

    def policy_key(self, name: str) -> Key:
        return Key(POLICY, self.kube.namespace, name)


@asynccontextmanager
async def bench(server: ApiServer, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[Bench]:
    namespace = f"test-{next(_numbers)}"
    async with hands(server, namespace) as kube:
        await grant(kube)
        async with running(server, monkeypatch, namespace, **settings) as operator:
            yield Bench(kube, server, operator)


@asynccontextmanager
async def running(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, namespace: str, **settings: Any
) -> AsyncIterator[Operator]:
    kubeconfig = str(settings.get("KUBECONFIG", server.operator_kubeconfig))
    monkeypatch.setenv("KUBECONFIG", kubeconfig)  # kopf reads it there
    values = {
        "AURALINK_DATA_PLANE_IMAGE": "localhost/auralink-data-plane:test",
        "AURALINK_AI_CORE_ADDRESS": "auralink-ai-core.auralink-system.svc:50051",
        "AURALINK_NAMESPACES": namespace,
        "KUBECONFIG": kubeconfig,
        "AURALINK_HEALTH_PORT": str(free_ports(1)[0]),
        **settings,
    }
    operator = Operator(from_env(values))
    task = asyncio.create_task(operator.run())
    try:

        async def full() -> bool:
            if task.done():
                task.result()
            return operator.full

        await eventually(full, "the operator's index is full")
        yield operator
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def bridge_spec(**more: Any) -> Obj:
    """Spec of one room `demo` with a receiving and a sending leg."""
    video = {"payloads": [{"type": 96, "codec": "H264"}]}
    legs = [
        {"name": "in", "direction": "Receive", "rtp": {"video": {**video, "listenPort": 5004}}},
        {"name": "out", "direction": "Send", "rtp": {"video": {**video, "remote": "peer:5004"}}},
    ]
    return {"rooms": [{"name": "demo", "legs": legs}], **more}


def a_bridge(name: str = "b", **spec: Any) -> Obj:
    return {
        "apiVersion": "auralink.io/v1alpha1",
        "kind": "AuraLinkBridge",
        "metadata": {"name": name},
        "spec": bridge_spec(**spec),
    }


def a_policy(name: str, priority: int = 0, **compression: Any) -> Obj:
    return {
        "apiVersion": "auralink.io/v1alpha1",
        "kind": "RoomPolicy",
        "metadata": {"name": name},
        "spec": {"priority": priority, "compression": compression},
    }
