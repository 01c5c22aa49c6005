"""A bridge's status: everything of it but `pods`, which its pods write."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from auralink_operator.exposure import rows
from auralink_operator.index import Observed
from auralink_operator.models import Bridge, Compiled, Conflict, PodView, Scene, pod_views
from auralink_operator.status.acked import ACK_PATIENCE_S, behind_s, config_acked
from auralink_operator.status.conditions import Condition, Status, age_s, compact, condition_of, named, stamped
from auralink_operator.status.degraded import BLIND_PATIENCE_S, blind, degraded
from auralink_operator.status.deployment import blocked, deployment_of
from auralink_operator.status.exposed import exposure_ready
from auralink_operator.status.outcome import Outcome
from auralink_operator.status.readiness import View, behind_its_spec, verdict


def derive(
    bridge: Bridge, observed: Observed, scene: Scene, compiled: Compiled, outcome: Outcome, now: datetime
) -> Status:
    """What to write now. Deriving again from what was written gives the same: nothing to write."""
    previous, deployment = bridge.meta.status, deployment_of(observed)
    entries = [pod.entry for pod in scene.pods if pod.entry]
    state = (deployment or {}).get("status") or {}
    return compact(
        {
            "observedGeneration": bridge.meta.generation,
            "conditions": stamped(_conditions(bridge, observed, scene, compiled, outcome, now), bridge.meta, now),
            "replicas": int(state.get("replicas") or 0),
            "readyReplicas": int(state.get("readyReplicas") or 0),
            "drainingReplicas": sum(1 for entry in entries if entry.get("phase") == "Draining"),
            "selector": outcome.selector or previous.get("selector"),
            "version": ",".join(sorted({str(entry["version"]) for entry in entries if entry.get("version")}))[:253],
            "lastHandledReconcileAt": (outcome.handled or str(previous.get("lastHandledReconcileAt") or ""))[:253],
            "rooms": sum(int(entry.get("rooms") or 0) for entry in entries),
            "sessions": sum(int(entry.get("sessions") or 0) for entry in entries),
            "savedPercent": _saved_percent(entries),
            "config": _config(outcome, scene.pods, previous),
            "endpoints": rows(scene.addresses),
            "appliedPolicies": _applied(compiled),
        }
    )


def next_look_s(status: Status, observed: Observed, now: datetime) -> float | None:
    """Seconds until time alone changes `status`: what is overlooked at first is said after a while."""
    left = []
    if condition_of({"status": status}, "ConfigAcked").get("reason") == "PodsBehind":
        pods = pod_views(observed.pods, observed.bridge.get("status") or {})
        generation = int((status.get("config") or {}).get("desiredGeneration") or 0)
        left.append(ACK_PATIENCE_S - behind_s(status, observed, pods, generation, now))
    if (active := blind(observed)) is not None:
        left.append(BLIND_PATIENCE_S - age_s(active, now))
    return min((max(1.0, seconds) for seconds in left if seconds > 0), default=None)


def _conditions(
    bridge: Bridge, observed: Observed, scene: Scene, compiled: Compiled, outcome: Outcome, now: datetime
) -> list[Condition]:
    deployment = deployment_of(observed)
    acked = config_acked(bridge, observed, scene.pods, outcome, now)
    exposure = exposure_ready(bridge, scene, outcome, blocked(deployment) if deployment else None)
    view = View(bridge, observed, scene, outcome, acked, exposure, now)
    return [
        *verdict(view).conditions(),
        _available(scene.pods),
        acked,
        exposure,
        *_draining(scene.pods),
        *_suspended(view),
        *degraded(observed, scene.pods, behind_its_spec(view), now),
        *_policy_conflict(compiled),
    ]


def _available(pods: Sequence[PodView]) -> Condition:
    if any(pod.serving for pod in pods):
        return Condition("Available", "True", "PodServing", "at least one pod is ready and serving")
    return Condition("Available", "False", "NoPodServing", "no pod is ready and serving")


def _draining(pods: Sequence[PodView]) -> list[Condition]:
    names = [pod.name for pod in pods if pod.entry.get("phase") == "Draining"]
    if not names:
        return []
    return [Condition("Draining", "True", "PodsDraining", f"waiting for sessions to end or to move: {named(names)}")]


def _suspended(view: View) -> list[Condition]:
    if view.bridge.spec.suspend:
        message = "spec.suspend is true: nothing is changed until it is false"
    elif view.outcome.paused:
        message = "the operator runs with --paused: it changes nothing until it is started without"
    else:
        return []
    return [Condition("Suspended", "True", "SuspendedByUser", message)]


def _policy_conflict(compiled: Compiled) -> list[Condition]:
    said = []
    if compiled.dropped:
        said.append(
            f"more policies than a bridge takes; left out, lowest priority first: {named(compiled.dropped)}."
            " Merge or narrow policies"
        )
    if compiled.conflicts:
        said.append(
            f"policies of one priority disagree: {named(_clause(conflict) for conflict in compiled.conflicts)}."
            " Give them different priorities"
        )
    if not said:
        return []
    reason = "TooManyPolicies" if compiled.dropped else "SamePriority"
    return [Condition("PolicyConflict", "True", reason, ". ".join(said))]


def _clause(conflict: Conflict) -> str:
    return f"{conflict.field} of {conflict.winner} wins over {conflict.loser} ({conflict.why})"


def _applied(compiled: Compiled) -> list[dict[str, Any]]:
    return [
        compact(
            {
                "name": policy.name,
                "priority": policy.priority,
                "observedGeneration": policy.generation,
                "overridden": list(policy.overridden),
            }
        )
        for policy in compiled.policies
    ]


def _config(outcome: Outcome, pods: Sequence[PodView], previous: Mapping[str, Any]) -> dict[str, Any]:
    """A reconcile that failed early knows no generation: what is there stays."""
    if not outcome.config_generation:
        return dict(previous.get("config") or {})
    acks = [pod.acked for pod in pods if pod.serving]
    return compact(
        {
            "desiredGeneration": outcome.config_generation,
            "ackedGeneration": min(acks) if acks else None,
            "hash": outcome.config_hash,
        }
    )


def _saved_percent(entries: Iterable[Mapping[str, Any]]) -> int | None:
    """What pods save, each weighted by its sessions; a pod without a figure or without sessions has no weight."""
    rated = [(int(e["savedPercent"]), int(e.get("sessions") or 0)) for e in entries if "savedPercent" in e]
    weight = sum(sessions for _, sessions in rated)
    return round(sum(percent * sessions for percent, sessions in rated) / weight) if weight else None
