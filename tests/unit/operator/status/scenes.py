"""What a status is derived from, as small as a test can say it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from auralink_operator.index import Key, Obj, Observed
from auralink_operator.models import Compiled, PodView, PublicAddress, Scene, parse_bridge
from auralink_operator.status import Outcome, Status, derive

from hack.audit.rules import kstatus
from tests.unit.operator import samples

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
DONE = Outcome(config_generation=3, config_hash="h3", selector="a=b")


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(name: str = "p1", *, acked: int = 3, ready: bool = True, phase: str = "Serving", **entry: Any) -> PodView:
    """A pod that reports; `silent_pod` is one that does not."""
    reported = {"name": name, "uid": f"uid-{name}", "phase": phase, "configGeneration": acked, **entry}
    return PodView(name, f"uid-{name}", "10.0.0.1", "node", ready, False, reported)


def condition(kind: str, status: str, reason: str = "", message: str = "", since_s: float = 0) -> Obj:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": ago(since_s)}


def deployment(
    replicas: int = 1,
    *conditions: Obj,
    ready: int | None = None,
    updated: int | None = None,
    generation: int = 2,
    observed: int = 2,
) -> Obj:
    have = replicas if ready is None else ready
    counts = {"replicas": replicas, "updatedReplicas": replicas if updated is None else updated}
    counts |= {"readyReplicas": have, "availableReplicas": have}
    state = {"observedGeneration": observed, **counts, "conditions": list(conditions)}
    return {"metadata": {"generation": generation}, "status": state}


def hpa(*conditions: Obj) -> Obj:
    return {"metadata": {"name": "auralink-b"}, "status": {"conditions": list(conditions)}}


def raw_pod(name: str, *containers: Obj, ready_s: float | None = None, unschedulable: str = "", **meta: Any) -> Obj:
    """A pod as kubelet and scheduler tell of it. `ready_s`: ready for so long."""
    found = [condition("Ready", "False")] if ready_s is None else [condition("Ready", "True", since_s=ready_s)]
    if unschedulable:
        found.append(condition("PodScheduled", "False", "Unschedulable", unschedulable))
    return {
        "kind": "Pod",
        "metadata": {"name": name, "uid": f"uid-{name}", **meta},
        "status": {"conditions": found, "containerStatuses": list(containers)},
    }


def waiting(reason: str, message: str = "", *, name: str = "data-plane", image: str = "registry/image:1") -> Obj:
    return {"name": name, "image": image, "ready": False, "state": {"waiting": {"reason": reason, "message": message}}}


def crashed(code: int, reason: str = "Error", *, running: bool = False) -> Obj:
    """A container that ended so; running: on its next try."""
    now = (
        {"running": {}}
        if running
        else {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}}
    )
    ended = {"terminated": {"exitCode": code, "reason": reason}}
    return {"name": "data-plane", "image": "i", "ready": False, "restartCount": 3, "state": now, "lastState": ended}


def seen(bridge: Obj, child: Obj | None, scaler: Obj | None = None, raw_pods: tuple[Obj, ...] = ()) -> Observed:
    children: dict[Key, Obj] = {}
    if child is not None:
        children[Key("Deployment", "ns", "auralink-b")] = child
    if scaler is not None:
        children[Key("HorizontalPodAutoscaler", "ns", "auralink-b")] = scaler
    return Observed(bridge, children, raw_pods, ())


def status_of(
    bridge: Obj | None = None,
    *,
    child: Obj | None = None,
    scaler: Obj | None = None,
    pods: tuple[PodView, ...] = (),
    raw_pods: tuple[Obj, ...] = (),
    outcome: Outcome = DONE,
    compiled: Compiled | None = None,
    addresses: dict[str, PublicAddress] | None = None,
    held_template: Obj | None = None,
    draining: bool = False,
    now: datetime = NOW,
) -> Status:
    obj = bridge or samples.bridge()
    scene = Scene(pods=pods, addresses=addresses or {}, held_template=held_template, draining=draining)
    return derive(parse_bridge(obj), seen(obj, child, scaler, raw_pods), scene, compiled or Compiled(), outcome, now)


def conditions(status: Status) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}


def message(status: Status, of: str) -> str:
    return str(next(c["message"] for c in status["conditions"] if c["type"] == of))


def kstatus_of(status: Status, generation: int = 1) -> str:
    return kstatus(samples.bridge(generation=generation, status=status))
