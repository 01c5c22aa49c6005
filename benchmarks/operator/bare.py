"""The same objects without an operator: what of the time to Ready is the API server's and the controllers'.

A client that decides nothing applies the children that the operator made for one bridge, once for each of as many new
bridges, again what the operator writes again when pods are there (configuration, endpoints), and two statuses. The
same controllers, kwok and played pods run beside it.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.operator import scene
from benchmarks.operator.api import Api, Obj
from benchmarks.operator.phases import Bench
from benchmarks.operator.scene import Name
from hack.progress import CommandError

_KINDS = (
    "serviceaccounts",
    "roles",
    "rolebindings",
    "configmaps",
    "services",
    "endpointslices",
    "poddisruptionbudgets",
    "networkpolicies",
    "deployments",
)
_AGAIN = ("configmaps", "endpointslices")
_PARALLEL = 16  # as the operator has workers


@dataclass(frozen=True, slots=True)
class Template:
    """One bridge's children and status, as text in which its names and its uid can be replaced."""

    name: Name
    uid: str
    children: tuple[tuple[str, str], ...]  # plural, JSON
    status: str

    def filled(self, text: str, name: Name, uid: str) -> Obj:
        made = text.replace(self.uid, uid).replace(self.name[1], name[1]).replace(self.name[0], name[0])
        found: Obj = json.loads(made)
        return found


async def template(api: Api, name: Name) -> Template:
    bridge = await api.get("auralinkbridges", *name)
    children = []
    for plural in _KINDS:
        selector = f"auralink.io/bridge={name[1]},app.kubernetes.io/managed-by=auralink-operator"
        items, _ = await api.list(plural, name[0], selector)
        kind = {"apiVersion": items[0].get("apiVersion"), "kind": items[0].get("kind")} if items else {}
        children += [(plural, json.dumps(_plain({**kind, **item}, plural))) for item in items]
    if not any(plural == "deployments" for plural, _ in children):
        raise CommandError(f"{name[1]} has no Deployment to copy")
    status = {key: value for key, value in bridge["status"].items() if key != "pods"}
    return Template(name, bridge["metadata"]["uid"], tuple(children), json.dumps(status))


_KIND_OF = {
    "serviceaccounts": ("v1", "ServiceAccount"),
    "roles": ("rbac.authorization.k8s.io/v1", "Role"),
    "rolebindings": ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    "configmaps": ("v1", "ConfigMap"),
    "services": ("v1", "Service"),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "poddisruptionbudgets": ("policy/v1", "PodDisruptionBudget"),
    "networkpolicies": ("networking.k8s.io/v1", "NetworkPolicy"),
    "deployments": ("apps/v1", "Deployment"),
}


def _plain(obj: Obj, plural: str) -> Obj:
    """What somebody would have applied; items of a list do not say their kind."""
    version, kind = _KIND_OF[plural]
    kept = ("name", "namespace", "labels", "annotations", "ownerReferences")
    meta = {key: value for key, value in obj["metadata"].items() if key in kept}
    meta.get("annotations", {}).pop("deployment.kubernetes.io/revision", None)
    body = {key: value for key, value in obj.items() if key not in ("metadata", "status", "apiVersion", "kind")}
    if plural == "services":
        body["spec"] = {key: value for key, value in body["spec"].items() if key not in ("clusterIP", "clusterIPs")}
    return {"apiVersion": version, "kind": kind, "metadata": meta, **body}


@dataclass
class Bare:
    api: Api
    templates: Mapping[int, Template]  # by replicas
    uids: dict[Name, str] = field(default_factory=dict)
    available: asyncio.Queue[Name] = field(default_factory=asyncio.Queue)

    def of(self, name: Name) -> Template:
        return self.templates[scene.replicas_of(name)]

    async def declare(self, name: Name) -> None:
        made = await self.api.create("auralinkbridges", scene.bridge(name))
        self.uids[name] = made["metadata"]["uid"]
        for plural, text in self.of(name).children:
            await self._apply(plural, text, name)
        await self._status(name)

    async def finish(self, name: Name) -> None:
        for plural, text in self.of(name).children:
            if plural in _AGAIN:
                await self._apply(plural, text, name)
        await self._status(name)

    async def _apply(self, plural: str, text: str, name: Name) -> None:
        await self.api.apply(plural, self.of(name).filled(text, name, self.uids[name]), "bare")

    async def _status(self, name: Name) -> None:
        status: dict[str, Any] = self.of(name).filled(self.of(name).status, name, self.uids[name])
        obj = {**scene.bridge(name), "status": status}
        del obj["spec"]
        await self.api.apply("auralinkbridges", obj, "bare-status", "status")

    async def watch(self, wanted: set[Name]) -> None:
        """Queues each bridge once, when its Deployment has all its pods."""
        left = set(wanted)
        async for event, obj in self.api.watch("deployments", "auralink.io/bridge"):
            name = obj["metadata"]["namespace"], obj["metadata"]["labels"]["auralink.io/bridge"]
            if event != "DELETED" and name in left and _is_available(obj):
                left.remove(name)
                self.available.put_nowait(name)


def _is_available(obj: Obj) -> bool:
    status = obj.get("status") or {}
    return bool(status.get("availableReplicas", 0) >= obj["spec"]["replicas"])


async def bring_up(bench: Bench, templates: Mapping[int, Template], timeout_s: float) -> float:
    """Seconds from the first bridge to the last status."""
    namespaces = sorted({name[0] for name in bench.bridges})
    wanted = [(f"bare-{namespaces.index(name[0]):02d}", f"c{name[1][1:]}") for name in bench.bridges]
    for namespace in sorted({name[0] for name in wanted}):
        await scene.create_namespace(bench.api, namespace)
    bare = Bare(bench.api, templates)
    watch = asyncio.create_task(bare.watch(set(wanted)), name="watch deployments")

    async def finish_all() -> None:
        async def one(_: int) -> None:
            await bare.finish(await bare.available.get())

        await scene.each(range(len(wanted)), one, _PARALLEL)

    started = time.monotonic()
    try:
        async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as group:
            group.create_task(scene.each(wanted, bare.declare, _PARALLEL), name="declare")
            group.create_task(finish_all(), name="finish")
    finally:
        watch.cancel()
    return time.monotonic() - started
