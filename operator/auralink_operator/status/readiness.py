"""Whether a bridge is ready, and if not why and who is to act: checks in the order in which they decide."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from auralink_operator.index import Obj, Observed
from auralink_operator.models import Autoscaling, Bridge, Driver, PodView, Scene
from auralink_operator.status.acked import SEE_LOG, is_late
from auralink_operator.status.conditions import Condition, condition_of, named
from auralink_operator.status.deployment import (
    blocked,
    creation_failure,
    deployment_of,
    given_up,
    observed_by_its_controller,
    paused,
)
from auralink_operator.status.outcome import Outcome
from auralink_operator.status.pods import has, trouble, words


@dataclass(frozen=True, slots=True)
class Verdict:
    """Ready, with the condition that explains a False: Reconciling, Stalled or neither (suspended)."""

    ready: str
    reason: str
    message: str
    because: str = ""

    def conditions(self) -> list[Condition]:
        found = [Condition("Ready", self.ready, self.reason, self.message)]
        return [*found, Condition(self.because, "True", self.reason, self.message)] if self.because else found


@dataclass(frozen=True, slots=True)
class View:
    """All that the checks look at."""

    bridge: Bridge
    observed: Observed
    scene: Scene
    outcome: Outcome
    config_acked: Condition
    exposure: Condition
    now: datetime

    @property
    def pods(self) -> Sequence[PodView]:
        return self.scene.pods

    @property
    def previous(self) -> Mapping[str, Any]:
        return self.bridge.meta.status

    @property
    def deployment(self) -> Obj | None:
        return deployment_of(self.observed)

    @property
    def held(self) -> bool:
        """Whether nothing may be changed."""
        return self.bridge.spec.suspend or self.outcome.paused

    @property
    def wanted(self) -> int:
        """Pods that must be ready. Under autoscaling the least: growth must not make a bridge unready."""
        scaling = self.bridge.spec.autoscaling
        return scaling.min_replicas if scaling else self.bridge.spec.wanted_replicas()


def verdict(view: View) -> Verdict:
    return next(found for check in _CHECKS if (found := check(view)) is not None)


def _reconciling(reason: str, message: str) -> Verdict:
    return Verdict("False", reason, message, "Reconciling")


# --- what the reconcile itself came to -------------------------------------------------------------------------------


def _stalled(view: View) -> Verdict | None:
    found = view.outcome.stalled
    return Verdict("False", found.reason, found.message, "Stalled") if found else None


def _leaving(view: View) -> Verdict | None:
    if not view.scene.draining:
        return None
    return _reconciling("Progressing", "is being deleted; its pods end their sessions first (spec.drain.onDelete)")


def _suspended(view: View) -> Verdict | None:
    if not (view.held and view.outcome.unapplied):
        return None
    message = f"suspended; these children are not as wanted: {named(view.outcome.unapplied)}"
    return Verdict("False", "Suspended", message)


def _failing(view: View) -> Verdict | None:
    return _reconciling("ProgressingWithRetry", view.outcome.failing) if view.outcome.failing else None


def _waiting(view: View) -> Verdict | None:
    waiting = view.outcome.waiting
    if waiting is None or waiting.reason == "RolloutQueued":
        return None
    return _reconciling(waiting.reason, waiting.message)


def _unapplied(view: View) -> Verdict | None:
    if not view.outcome.unapplied:
        return None
    return _reconciling("Progressing", f"being applied: {named(view.outcome.unapplied)}")


# --- the pods --------------------------------------------------------------------------------------------------------

# One message from the first child to the last ready pod: each change of it would be a write.
_STARTING = _reconciling("Progressing", "pods are being started or replaced")


def _credentials(view: View) -> Verdict | None:
    missing = [pod for pod in view.pods if has(pod, "CredentialsMissing") and not pod.deleting]
    if not missing:
        return None
    said = words(missing) or _secrets(view.bridge)
    return _reconciling("DependencyNotReady", f"credentials missing: {said}; pods {named(p.name for p in missing)}")


def _secrets(bridge: Bridge) -> str:
    """The Secrets that a bridge names, for pods that do not say which one they miss."""
    spec = bridge.spec.model_dump(mode="json")
    return "create Secret " + " and ".join(sorted(set(_secret_names(spec))) or ["named in the spec"])


def _secret_names(node: Any) -> list[str]:
    if isinstance(node, list):
        return [name for item in node for name in _secret_names(item)]
    if not isinstance(node, dict):
        return []
    own = [
        str(value["name"] if isinstance(value, dict) else value)
        for field, value in node.items()
        if value and (field.endswith(("_ref", "Ref")) or field == "tls_secret_name")
    ]
    return own + [name for value in node.values() for name in _secret_names(value)]


def _rollout(view: View) -> Verdict | None:
    """Pods that are not as the Deployment says: why, if anything says so, and who can mend it."""
    if not behind_its_spec(view):
        return None
    deployment = view.deployment
    if deployment is None or not observed_by_its_controller(deployment):
        return _STARTING  # what its conditions say is of before
    cause, held_up = trouble(view.observed.pods), paused(deployment)
    if held_up and _has_old_pods(deployment):  # before anything else: no remedy reaches the pods
        return _reconciling("Progressing", f"{held_up}; {cause.message}" if cause else held_up)
    if stuck := blocked(deployment):
        return Verdict("False", stuck.reason, stuck.message, "Stalled")
    if given_up(deployment):
        said = cause.message if cause else "their events and logs say why (image, resources, scheduling)"
        message = f"new pods have not become ready in time: {said}"
        return Verdict("False", "ProgressDeadlineExceeded", message, "Stalled")
    if cause:
        return _reconciling("ProgressingWithRetry", cause.message)
    if failure := creation_failure(deployment):
        return _reconciling("ProgressingWithRetry", f"pods cannot be created for now: {failure}")
    starting = _starting_pods(view.pods)
    return _reconciling("Progressing", held_up) if held_up and starting is _STARTING else starting


def _has_old_pods(deployment: Obj) -> bool:
    state = deployment.get("status") or {}
    return int(state.get("updatedReplicas") or 0) < int(state.get("replicas") or 0)


def _starting_pods(pods: Sequence[PodView]) -> Verdict:
    """Pods that run and are not ready say themselves what they wait for."""
    starting = [pod for pod in pods if pod.entry.get("phase") == "Starting" and not pod.deleting]
    if refusing := [pod for pod in starting if has(pod, "ConfigInvalid")]:
        return _reconciling("ProgressingWithRetry", f"configuration refused: {words(refusing) or SEE_LOG}")
    for problem in ("RedisUnavailable", "PostgresUnavailable", "JitsiUnavailable", "LiveKitUnavailable"):
        if waiting := [pod for pod in starting if has(pod, problem)]:
            return _reconciling("DependencyNotReady", f"{_AWAITED[problem]}: {words(waiting) or SEE_LOG}")
    return _STARTING


_AWAITED = {
    "RedisUnavailable": "Redis (spec.redis) does not answer",
    "PostgresUnavailable": "PostgreSQL (spec.postgres) does not answer",
    "JitsiUnavailable": "a Jitsi server of spec.endpoints does not answer",
    "LiveKitUnavailable": "a LiveKit server of spec.endpoints does not answer",
}


def behind_its_spec(view: View) -> bool:
    """Whether the Deployment has fewer ready pods of its present template than it must have."""
    deployment = view.deployment
    if deployment is None:
        return True
    state, scaled = deployment.get("status") or {}, view.bridge.spec.autoscaling is not None
    updated, ready, available = (
        int(state.get(name) or 0) for name in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )
    if not observed_by_its_controller(deployment) and not (view.outcome.template_seen and _was_ready(view)):
        return True
    if min(updated, ready, available) < view.wanted:
        return True
    # An old pod beside a new one that is counted as updated but not ready yet: as many are ready as must be, of both.
    return _has_old_pods(deployment) or (not scaled and updated != view.wanted)


def _was_ready(view: View) -> bool:
    """Whether the bridge was ready with this spec: then an unobserved change of the Deployment, if it is not one of
    the pod template, needs no new pod but for its scale, which is counted."""
    ready = condition_of({"status": view.previous}, "Ready").get("status") == "True"
    return ready and view.previous.get("observedGeneration") == view.bridge.meta.generation


# --- what they serve -------------------------------------------------------------------------------------------------


def _exposure(view: View) -> Verdict | None:
    if view.exposure.status == "True" or view.wanted == 0:
        return None
    return _reconciling("ExposurePending", view.exposure.message)


def _configuration(view: View) -> Verdict | None:
    if view.config_acked.status == "True" or view.wanted == 0:
        return None
    late = is_late(view.bridge, view.observed, view.pods, view.outcome, view.now)
    return _reconciling("ProgressingWithRetry" if late else "ConfigPropagating", view.config_acked.message)


def _queued(view: View) -> Verdict | None:
    waiting = view.outcome.waiting
    if waiting is not None and waiting.reason == "RolloutQueued":
        return _reconciling(waiting.reason, waiting.message)
    if view.scene.held_template is not None:
        return _reconciling("RolloutQueued", "a changed default of the operator waits for other bridges' rollouts")
    return None


def _succeeded(view: View) -> Verdict:
    said, scaling = "all pods serve the current configuration", view.bridge.spec.autoscaling
    if scaling is not None:
        said += f"; {who_scales(scaling)}"
    elif view.wanted == 0:
        said = "spec.replicas is 0: no pod is wanted"
    if view.deployment is not None and (held_up := paused(view.deployment)):
        said += f"; {held_up}"
    return Verdict("True", "Succeeded", said)


def who_scales(scaling: Autoscaling) -> str:
    actor = "a HorizontalPodAutoscaler" if scaling.driver is Driver.HPA else "the operator itself"
    return f"{actor} scales them by sessions, from {scaling.min_replicas} to {scaling.max_replicas}"


_CHECKS: tuple[Callable[[View], Verdict | None], ...] = (
    _stalled,
    _leaving,
    _suspended,
    _failing,
    _waiting,
    _unapplied,
    _credentials,
    _rollout,
    _exposure,
    _configuration,
    _queued,
    _succeeded,
)
