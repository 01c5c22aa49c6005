"""What the two resources say about themselves: pure, from the model, what was observed and the time.

The rules are those that kstatus, Flux and Argo CD read resources by. `Ready` is always there; `Reconciling` (it comes
by itself) and `Stalled` (the user must act) are there only when true, never together, and then `Ready` is False with
the same reason. All conditions of one write carry one observedGeneration. Messages hold no counters: they would make
every change of a number a write.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from auralink_operator.index import Obj
from auralink_operator.models import Bridge, Compiled, Meta, PodView, RoomPolicy

Status = dict[str, Any]

ACK_PATIENCE_S = 60.0
FAILURES_TO_REPORT = 5
_NAMED = 5
_REQUESTED_AT = "reconcile.fluxcd.io/requestedAt"

# Worst first. CredentialsMissing is not here: it keeps the bridge from Ready instead.
DEGRADING: Mapping[str, str] = {
    "ConfigInvalid": "refuse the configuration and keep the last good one; their log names the field. Correct the spec",
    "LegNotOpen": "have a leg that carries nothing yet. Start its peer, or correct the name or the port in spec.rooms",
    "AICoreUnavailable": (
        "get no answer from the AI Core and send video as it came. Check spec.aiCore.addresses, that the AI Core's pods"
        " are ready, and that the network lets the bridge reach them; compression comes back by itself"
    ),
    "PacketLoss": "lose packets from a peer. Check the network between the peer and the bridge",
    "CompressionDisabled": "carry a stream that the AI Core does not serve; it goes on as it came",
}


@dataclass(frozen=True, slots=True)
class Problem:
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What this reconcile came to: what is left to do, and what keeps it from being done."""

    config_generation: int = 0
    config_hash: str = ""
    selector: str = ""
    stalled: Problem | None = None
    failing: str = ""  # message of errors in a row, once there are FAILURES_TO_REPORT
    waiting: Problem | None = None
    unapplied: tuple[str, ...] = ()  # children that differ still: just written, or not to be while suspended


@dataclass(frozen=True, slots=True)
class Verdict:
    """Ready, with the condition that explains a False: Reconciling, Stalled or neither (suspended)."""

    ready: str
    reason: str
    message: str
    because: str = ""


def derive(
    bridge: Bridge,
    deployment: Obj | None,
    pods: Sequence[PodView],
    compiled: Compiled,
    outcome: Outcome,
    now: datetime,
) -> Status:
    """Everything of a bridge's status but `pods`, which its pods write."""
    entries = [pod.entry for pod in pods if pod.entry]
    previous = bridge.meta.status
    acks = [pod.acked for pod in pods if pod.serving]
    config_acked = _config_acked(bridge, pods, outcome)
    verdict = _verdict(bridge, deployment, pods, outcome, config_acked, previous, now)
    found = [
        Condition("Ready", verdict.ready, verdict.reason, verdict.message),
        *([Condition(verdict.because, "True", verdict.reason, verdict.message)] if verdict.because else []),
        _available(pods),
        config_acked,
        *_draining(pods),
        *([_SUSPENDED] if bridge.spec.suspend else []),
        *_degraded(pods),
        *_policy_conflict(compiled),
    ]
    state = (deployment or {}).get("status") or {}
    return _compact(
        {
            "observedGeneration": bridge.meta.generation,
            "conditions": _stamped(found, bridge.meta, now),
            "replicas": int(state.get("replicas") or 0),
            "readyReplicas": int(state.get("readyReplicas") or 0),
            "drainingReplicas": sum(1 for entry in entries if entry.get("phase") == "Draining"),
            "selector": outcome.selector or previous.get("selector"),
            "version": ",".join(sorted({str(entry["version"]) for entry in entries if entry.get("version")}))[:253],
            "lastHandledReconcileAt": bridge.meta.annotations.get(_REQUESTED_AT, "")[:253],
            "rooms": sum(int(entry.get("rooms") or 0) for entry in entries),
            "sessions": sum(int(entry.get("sessions") or 0) for entry in entries),
            "savedPercent": _saved_percent(entries),
            "config": _config(outcome, acks, previous),
            "appliedPolicies": [
                _compact(
                    {
                        "name": policy.name,
                        "priority": policy.priority,
                        "observedGeneration": policy.generation,
                        "overridden": list(policy.overridden),
                    }
                )
                for policy in compiled.policies
            ],
        }
    )


def next_look_s(status: Status, now: datetime) -> float | None:
    """Seconds until time alone changes the status: pods that do not acknowledge are reported after a while."""
    reasons = {condition["type"]: condition["reason"] for condition in status.get("conditions") or ()}
    if reasons.get("Reconciling") != "ConfigPropagating":
        return None
    return max(1.0, ACK_PATIENCE_S - _behind_s(status, now))


# --- bridge: the checks, in the order in which they decide Ready ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class Condition:
    type: str
    status: str
    reason: str
    message: str


_SUSPENDED = Condition("Suspended", "True", "SuspendedByUser", "spec.suspend is set: nothing is changed")


def _verdict(
    bridge: Bridge,
    deployment: Obj | None,
    pods: Sequence[PodView],
    outcome: Outcome,
    config_acked: Condition,
    previous: Mapping[str, Any],
    now: datetime,
) -> Verdict:
    stalled = outcome.stalled or _deployment_stalled(deployment)
    if stalled:
        return Verdict("False", stalled.reason, stalled.message, "Stalled")
    if bridge.spec.suspend and outcome.unapplied:
        names = ", ".join(outcome.unapplied[:_NAMED])
        return Verdict("False", "Suspended", f"suspended; these children are not as wanted: {names}")
    if outcome.failing:
        return _reconciling("ProgressingWithRetry", outcome.failing)
    if outcome.waiting:
        return _reconciling(outcome.waiting.reason, outcome.waiting.message)
    if outcome.unapplied:
        return _reconciling("Progressing", f"being applied: {', '.join(outcome.unapplied[:_NAMED])}")
    missing = [pod.name for pod in pods if _has(pod, "CredentialsMissing")]
    if missing:
        said = next((str(pod.entry.get("message") or "") for pod in pods if _has(pod, "CredentialsMissing")), "")
        return _reconciling(
            "DependencyNotReady", f"credentials missing: {said or _secrets(bridge)}; pods {_named(missing)}"
        )
    if rolling := _rolling(bridge, deployment):
        return _reconciling("Progressing", rolling)
    if config_acked.status != "True" and bridge.spec.wanted_replicas() > 0:
        if _behind_s(previous, now) >= ACK_PATIENCE_S:
            return _reconciling("ProgressingWithRetry", config_acked.message)
        return _reconciling("ConfigPropagating", config_acked.message)
    if bridge.spec.wanted_replicas() == 0:
        return Verdict("True", "Succeeded", "spec.replicas is 0: no pod is wanted")
    return Verdict("True", "Succeeded", "all pods serve the current configuration")


def _reconciling(reason: str, message: str) -> Verdict:
    return Verdict("False", reason, message, "Reconciling")


def _secrets(bridge: Bridge) -> str:
    names = [
        bridge.spec.ai_core.tls_secret_name or "",
        bridge.spec.api.token_ref.name if bridge.spec.api.token_ref else "",
    ]
    return "create Secret " + " and ".join(sorted({name for name in names if name}) or ["named in the spec"])


def _deployment_stalled(deployment: Obj | None) -> Problem | None:
    """What the Deployment says that only a change of the spec or of the namespace can cure."""
    conditions = {c.get("type"): c for c in ((deployment or {}).get("status") or {}).get("conditions") or ()}
    failure = conditions.get("ReplicaFailure", {})
    if failure.get("status") == "True":
        said = str(failure.get("message") or "")
        if "violates PodSecurity" in said:
            return Problem("PodSecurityForbidden", f"pods are forbidden here: {said}")
        if "forbidden" in said and "exceeded quota" not in said:
            return Problem("AccessDenied", f"pods are forbidden here: {said}")
    progressing = conditions.get("Progressing", {})
    if progressing.get("status") == "False" and progressing.get("reason") == "ProgressDeadlineExceeded":
        return Problem(
            "ProgressDeadlineExceeded",
            "new pods have not become ready in time: look at their events and logs (image, resources, scheduling)",
        )
    return None


# One message from the first child to the last ready pod: each change of it would be a write.
_STARTING = "pods are being started or replaced"


def _rolling(bridge: Bridge, deployment: Obj | None) -> str:
    """Why the Deployment is not what its spec says; "" if it is."""
    if deployment is None:
        return _STARTING
    state = deployment.get("status") or {}
    if int(state.get("observedGeneration") or 0) < int(deployment["metadata"].get("generation") or 0):
        return _STARTING
    wanted = bridge.spec.wanted_replicas()
    if int(state.get("updatedReplicas") or 0) != wanted or int(state.get("replicas") or 0) < wanted:
        return _STARTING
    if int(state.get("readyReplicas") or 0) < wanted or int(state.get("availableReplicas") or 0) < wanted:
        failure: Mapping[str, Any] = next(
            (c for c in state.get("conditions") or () if c.get("type") == "ReplicaFailure"), {}
        )
        return f"pods cannot be created: {failure['message']}" if failure.get("message") else _STARTING
    return ""


def _config_acked(bridge: Bridge, pods: Sequence[PodView], outcome: Outcome) -> Condition:
    serving = [pod for pod in pods if pod.serving]
    if not serving:
        return Condition("ConfigAcked", "False", "NoPods", "no pod is ready and serving")
    generation = int(
        outcome.config_generation or (bridge.meta.status.get("config") or {}).get("desiredGeneration") or 0
    )
    behind = [pod for pod in serving if pod.acked < generation]
    if not behind:
        return Condition("ConfigAcked", "True", "AllPodsAcked", "every serving pod has applied the configuration")
    refusing = [pod.name for pod in behind if _has(pod, "ConfigInvalid")]
    names = _named(pod.name for pod in behind)
    message = f"not applied yet by {names}" + (f"; refused by {_named(refusing)}" if refusing else "")
    return Condition("ConfigAcked", "False", "PodsBehind", message)


def _available(pods: Sequence[PodView]) -> Condition:
    if any(pod.serving for pod in pods):
        return Condition("Available", "True", "PodServing", "at least one pod is ready and serving")
    return Condition("Available", "False", "NoPodServing", "no pod is ready and serving")


def _draining(pods: Sequence[PodView]) -> list[Condition]:
    names = [pod.name for pod in pods if pod.entry.get("phase") == "Draining"]
    if not names:
        return []
    return [Condition("Draining", "True", "PodsDraining", f"waiting for sessions to end: {_named(names)}")]


def _degraded(pods: Sequence[PodView]) -> list[Condition]:
    for reason, remedy in DEGRADING.items():
        if having := [pod for pod in pods if _has(pod, reason)]:
            said = next((f" ({text})" for pod in having if (text := pod.entry.get("message"))), "")
            return [Condition("Degraded", "True", reason, f"{_named(pod.name for pod in having)} {remedy}{said}")]
    return []


def _policy_conflict(compiled: Compiled) -> list[Condition]:
    if not compiled.dropped:
        return []
    names = _named(compiled.dropped)
    message = f"more policies than a bridge takes; left out, lowest priority first: {names}. Merge or narrow policies"
    return [Condition("PolicyConflict", "True", "TooManyPolicies", message)]


def _config(outcome: Outcome, acks: Sequence[int], previous: Mapping[str, Any]) -> dict[str, Any]:
    if not outcome.config_generation:
        return dict(previous.get("config") or {})
    return _compact(
        {
            "desiredGeneration": outcome.config_generation,
            "ackedGeneration": min(acks) if acks else None,
            "hash": outcome.config_hash,
        }
    )


def _saved_percent(entries: Sequence[Mapping[str, Any]]) -> int | None:
    """What pods save, each weighted by its sessions; pods without a figure do not count."""
    rated = [(int(e["savedPercent"]), max(1, int(e.get("sessions") or 0))) for e in entries if "savedPercent" in e]
    weight = sum(sessions for _, sessions in rated)
    return round(sum(percent * sessions for percent, sessions in rated) / weight) if weight else None


def _has(pod: PodView, problem: str) -> bool:
    return problem in (pod.entry.get("problems") or ())


def _named(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:_NAMED]) + (" and others" if len(listed) > _NAMED else "")


def _behind_s(status: Mapping[str, Any], now: datetime) -> float:
    """How long pods have been behind, from the status as it was: ConfigAcked keeps the time of its flip."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "ConfigAcked" and condition.get("status") == "False":
            return (now - _parsed(condition["lastTransitionTime"], now)).total_seconds()
    return 0.0


# --- policies ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MatchedBridge:
    """A bridge that a policy selects, and the generation of the policy that its ConfigMap carries."""

    name: str
    carries: int | None


def derive_policy(policy: RoomPolicy, matched: Sequence[MatchedBridge], now: datetime) -> Status:
    behind = [bridge.name for bridge in matched if bridge.carries != policy.meta.generation]
    if behind:
        message = f"not in the configuration of {_named(behind)} yet"
        found = [
            Condition("Ready", "False", "Progressing", message),
            Condition("Reconciling", "True", "Progressing", message),
        ]
    else:
        message = "in the configuration of every bridge that it selects" if matched else "selects no bridge yet"
        found = [Condition("Ready", "True", "Succeeded", message)]
    if matched:
        found.append(Condition("Resolved", "True", "BridgesMatched", "the selector fits at least one bridge"))
    else:
        found.append(
            Condition(
                "Resolved",
                "False",
                "NoBridgeMatched",
                "no bridge of this namespace has the labels in spec.bridgeSelector.matchLabels",
            )
        )
    return {
        "observedGeneration": policy.meta.generation,
        "conditions": _stamped(found, policy.meta, now),
        "matchedBridgeCount": len(matched),
        "matchedBridges": [{"name": bridge.name} for bridge in matched[:256]],
    }


def derive_invalid(meta: Meta, message: str, now: datetime) -> Status:
    """The status of an object whose spec cannot be read."""
    found = [
        Condition("Ready", "False", "InvalidSpec", message),
        Condition("Stalled", "True", "InvalidSpec", message),
    ]
    kept = {name: value for name, value in meta.status.items() if name != "pods"}
    return {**kept, "observedGeneration": meta.generation, "conditions": _stamped(found, meta, now)}


def same(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether two statuses say the same; the order of conditions says nothing, and `pods` is the pods' own."""
    return _comparable(before) == _comparable(after)


def _comparable(status: Mapping[str, Any]) -> dict[str, Any]:
    conditions = sorted(status.get("conditions") or (), key=lambda condition: str(condition.get("type")))
    return {**{name: value for name, value in status.items() if name != "pods"}, "conditions": conditions}


# --- common --------------------------------------------------------------------------------------------------------


def _stamped(found: Iterable[Condition], meta: Meta, now: datetime) -> list[dict[str, Any]]:
    """Conditions as written: lastTransitionTime moves when the status flips, and not with reason or message."""
    before = {condition.get("type"): condition for condition in meta.status.get("conditions") or ()}
    stamped = []
    for condition in found:
        old = before.get(condition.type) or {}
        kept = old.get("lastTransitionTime") if old.get("status") == condition.status else None
        stamped.append(
            {
                "type": condition.type,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message[:4096],
                "lastTransitionTime": kept or now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "observedGeneration": meta.generation,
            }
        )
    return stamped


def flips(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Condition]:
    """Conditions worth an event: Ready, Stalled, Degraded or Draining came, went or changed."""
    old = {c.get("type"): c for c in before.get("conditions") or ()}
    new = {c.get("type"): c for c in after.get("conditions") or ()}
    found = []
    for name in ("Ready", "Stalled", "Degraded", "Draining"):
        was, now = old.get(name, {}).get("status", "False"), new.get(name, {}).get("status", "False")
        if was != now:
            source = new.get(name) or old[name]
            found.append(Condition(name, now, source["reason"], source["message"]))
    return found


def _parsed(text: str, default: datetime) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return default


def _compact(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in found.items()
        if value is not None and value != "" and value != [] and value != {}
    }
