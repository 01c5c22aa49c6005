"""What must be the same however the operator got there: everything in a namespace but names, times and versions."""

import asyncio
import json
import re
from typing import Any

from tests.integration.kube_api import Kube, Obj, eventually
from tests.integration.operator_bench import Bench, a_bridge, a_policy

_CHILDREN = (
    "/api/v1 serviceaccounts",
    "/api/v1 configmaps",
    "/api/v1 services",
    "/apis/apps/v1 deployments",
    "/apis/autoscaling/v2 horizontalpodautoscalers",
    "/apis/discovery.k8s.io/v1 endpointslices",
    "/apis/networking.k8s.io/v1 networkpolicies",
    "/apis/policy/v1 poddisruptionbudgets",
    "/apis/rbac.authorization.k8s.io/v1 roles",
    "/apis/rbac.authorization.k8s.io/v1 rolebindings",
    "/apis/auralink.io/v1alpha1 auralinkbridges",
    "/apis/auralink.io/v1alpha1 roompolicies",
)
_OTHER_EACH_TIME = {
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "lastTransitionTime",
    "since",
    # Hashes of what holds uids and the namespace.
    "auralink.io/applied-hash",
    "auralink.io/template-hash",
}
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CLUSTER_IP = re.compile(r"10\.96\.\d+\.\d+")


async def end_state(kube: Kube) -> dict[str, Obj]:
    """By kind and name."""
    found: dict[str, Obj] = {}
    for line in _CHILDREN:
        prefix, plural = line.split()
        listed = await kube.raw("GET", f"{prefix}/namespaces/{kube.namespace}/{plural}")
        for obj in listed["items"]:
            name = obj["metadata"]["name"]
            managed = (obj["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by") == "auralink-operator"
            if managed or "auralink.io" in prefix:
                found[f"{plural}/{name}"] = _comparable(obj, kube.namespace)
    return found


def _comparable(obj: Obj, namespace: str) -> Obj:
    text = json.dumps(_without(obj))
    for pattern, word in ((_UID, "UID"), (_CLUSTER_IP, "CLUSTER-IP"), (re.compile(re.escape(namespace)), "NAMESPACE")):
        text = pattern.sub(word, text)
    found: Obj = json.loads(text)
    return found


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without(part) for name, part in value.items() if name not in _OTHER_EACH_TIME}
    if isinstance(value, list):
        parts = [_without(part) for part in value]
        return sorted(parts, key=lambda part: json.dumps(part, sort_keys=True))
    return value


async def tell_a_story(at: Bench) -> None:
    """A policy and a bridge of two pods, that becomes Ready, and a change that both pods acknowledge.

    The bridge comes once the policy is known: where watches are cut the two may be told in either order, and a bridge
    that comes to know its policy later has one configuration more."""
    await at.kube.create("roompolicies", a_policy("saving", targetSavingsPercent=30))
    await at.until("Resolved", "False", "NoBridgeMatched", "saving", "roompolicies", timeout_s=60.0)
    await at.kube.create("auralinkbridges", a_bridge(replicas=2))
    await _there(at, "deployments", "auralink-b")
    pods = []
    for number, name in enumerate(("p1", "p2"), 1):
        pods.append(await at.kube.run_pod("b", name, f"10.1.0.{number}"))
        await at.kube.report("b", pods[-1], 1)
    await at.kube.roll_out("b")
    await _ready(at, 1)
    await at.kube.merge("auralinkbridges", "b", {"spec": {"compression": {"qualityLevel": 3}}})

    async def pushed() -> bool:
        config = await at.kube.get("configmaps", "auralink-b-config")
        return bool(config and config["metadata"]["annotations"]["auralink.io/config-generation"] == "2")

    await eventually(pushed, "the second configuration", 60.0)
    for pod in pods:
        await at.kube.report("b", pod, 2)
    await _ready(at, 2)


async def _there(at: Bench, plural: str, name: str) -> None:
    async def look() -> bool:
        return await at.kube.get(plural, name) is not None

    await eventually(look, f"{plural}/{name}", 60.0)


async def _ready(at: Bench, generation: int) -> None:
    async def look() -> bool:
        status = (await at.bridge()).get("status", {})
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
        policy = await at.condition("Ready", "saving", "roompolicies")
        return ready and status["config"]["ackedGeneration"] == generation and policy[0] == "True"

    await eventually(look, f"Ready with configuration {generation}", 60.0)


async def settled(kube: Kube, timeout_s: float = 20.0) -> dict[str, Obj]:
    """The state once it has been the same for a second."""
    state, since = await end_state(kube), asyncio.get_running_loop().time()
    ends = since + timeout_s
    while asyncio.get_running_loop().time() - since < 1.0 and asyncio.get_running_loop().time() < ends:
        await asyncio.sleep(0.1)
        if (now := await end_state(kube)) != state:
            state, since = now, asyncio.get_running_loop().time()
    return state
