"""What is declared for the measurement: namespaces, nodes, rights, bridges and policies; and who of them is Ready.

A bridge has one plain-RTP room of two legs, as a small user's has; every tenth runs three pods, so that "all pods"
means more than one. Each namespace has one policy that selects all its bridges.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.operator.api import Api, Obj, Refused
from hack.progress import CommandError
from tests.integration.kube_api import OPERATOR, POD

Name = tuple[str, str]  # namespace and name
NODES = 10
SYSTEM = "auralink-system"
_PARALLEL = 16
# Rights that the chart gives in templates of their own, next to the rules that are read from it.
_LEASES = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]}
_POD_RULES = [
    {"apiGroups": [""], "resources": ["pods", "configmaps"], "verbs": ["list", "watch"]},
    {"apiGroups": ["auralink.io"], "resources": ["auralinkbridges/status"], "verbs": ["patch"]},
]


def operator_rules(tree: Path) -> list[Obj]:
    """The operator's rights, from the chart of a source tree: that block of the template is plain YAML."""
    text = (tree / "charts/auralink/templates/_helpers.tpl").read_text()
    block = re.search(r'\{\{- define "auralink.operator.rules" -\}\}(.*?)\{\{- end \}\}', text, re.DOTALL)
    if block is None:
        raise CommandError("the chart has no block auralink.operator.rules")
    plain = "\n".join(line for line in block.group(1).splitlines() if "{{" not in line)
    return [*yaml.safe_load(plain), _LEASES]


async def install(api: Api, tree: Path) -> None:
    """CRDs, rights and nodes."""
    for path in sorted((tree / "crds").glob("*.yaml")):
        await api.apply("customresourcedefinitions", yaml.safe_load(path.read_text()), "bench")
    await create_namespace(api, SYSTEM)
    for user, rules in ((OPERATOR, operator_rules(tree)), (POD, _POD_RULES)):
        await api.create("clusterroles", {"metadata": {"name": user}, "rules": rules})
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user}
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
        await api.create("clusterrolebindings", {"metadata": {"name": user}, "roleRef": role, "subjects": [subject]})
    for number in range(NODES):
        name = f"node-{number}"
        labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"zone-{number % 3}"}
        await api.create("nodes", {"metadata": {"name": name, "labels": labels}})
        # The API server taints new nodes; the controller that takes the taint away does not run here.
        await api.merge("nodes", "", name, {"spec": {"taints": None}})


async def create_namespace(api: Api, name: str) -> None:
    await api.create("namespaces", {"metadata": {"name": name}})


def names(bridges: int, namespaces: int) -> list[Name]:
    return [(f"bench-{number % namespaces:02d}", f"b{number:05d}") for number in range(bridges)]


def replicas_of(name: Name) -> int:
    return 3 if int(name[1][1:]) % 10 == 0 else 1


def bridge(name: Name) -> Obj:
    video = {"payloads": [{"type": 96, "codec": "H264"}]}
    legs: list[dict[str, Any]] = [
        {"name": "in", "direction": "Receive", "rtp": {"video": {**video, "listenPort": 5004}}},
        {"name": "out", "direction": "Send", "rtp": {"video": {**video, "remote": "receiver.example:5004"}}},
    ]
    return {
        "apiVersion": "auralink.io/v1alpha1",
        "kind": "AuraLinkBridge",
        "metadata": {"namespace": name[0], "name": name[1]},
        "spec": {"replicas": replicas_of(name), "rooms": [{"name": "demo", "legs": legs}]},
    }


def policy(namespace: str) -> Obj:
    return {
        "apiVersion": "auralink.io/v1alpha1",
        "kind": "RoomPolicy",
        "metadata": {"namespace": namespace, "name": "everyone"},
        "spec": {"priority": 10, "compression": {"targetSavingsPercent": 30}},
    }


async def each(items: Iterable[Any], act: Callable[[Any], Awaitable[Any]], parallel: int = _PARALLEL) -> None:
    """Runs `act` for every item, so many at a time."""
    todo = iter(items)

    async def worker() -> None:
        for item in todo:
            await act(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(parallel):
            group.create_task(worker())


async def paced(items: Iterable[Any], act: Callable[[Any], Awaitable[Any]], per_second: float) -> None:
    """Starts `act` for every item at a steady pace, whatever each takes."""
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number, item in enumerate(items):
            await asyncio.sleep(max(0.0, started + number / per_second - time.monotonic()))
            group.create_task(act(item))  # type: ignore[arg-type]


@dataclass
class Readiness:
    """Who is Ready for the generation that was declared last, as a user's watch would show it."""

    api: Api
    ready: dict[Name, float] = field(default_factory=dict)

    async def watch(self) -> None:
        async for event, obj in self.api.watch("auralinkbridges"):
            name = obj["metadata"]["namespace"], obj["metadata"]["name"]
            if event != "DELETED" and is_ready(obj):
                self.ready.setdefault(name, time.monotonic())
            else:
                self.ready.pop(name, None)

    async def until(self, wanted: Iterable[Name], timeout_s: float, say: Callable[[str], None]) -> float:
        """When the last of them became Ready; raises after `timeout_s`."""
        left = set(wanted)
        started = said = time.monotonic()
        everyone = len(left)
        while True:
            left -= self.ready.keys()
            now = time.monotonic()
            if not left:
                return now
            if now - started > timeout_s:
                missing = ", ".join("/".join(name) for name in sorted(left)[:5])
                raise CommandError(f"{len(left)} bridges are not Ready after {timeout_s:.0f} s, among them {missing}")
            if now - said >= 5:
                said = now
                say(f"{everyone - len(left)} of {everyone} bridges are Ready")
            await asyncio.sleep(0.05)


def is_ready(obj: Obj) -> bool:
    status = obj.get("status") or {}
    if status.get("observedGeneration") != obj["metadata"]["generation"]:
        return False
    return any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or ())


async def tolerant(act: Awaitable[Any]) -> None:
    """For an object that may just have changed or gone."""
    try:
        await act
    except Refused as error:
        if error.status not in (404, 409):
            raise
