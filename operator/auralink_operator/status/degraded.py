"""What is wrong with a bridge that serves all the same: the worst of it, with its remedy."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from auralink_operator.index import Obj, Observed
from auralink_operator.models import PodView
from auralink_operator.status.conditions import Condition, Problem, age_s, condition_of, named
from auralink_operator.status.deployment import creation_failure, deployment_of
from auralink_operator.status.pods import has, trouble, words

# A HorizontalPodAutoscaler of new pods sees no metrics of theirs for its first rounds.
BLIND_PATIENCE_S = 90.0

# Worst first. CredentialsMissing is not here: it keeps the bridge from Ready instead.
DEGRADING: Mapping[str, str] = {
    "ConfigInvalid": "the configuration is refused, the last good one stays: correct the field that the log names",
    "LegNotOpen": "a leg carries nothing yet: start its peer, or correct the name or the port in spec.rooms",
    "RedisUnavailable": (
        "Redis does not answer, rooms of endpoints stay where they are: check spec.redis, Redis itself and the network"
    ),
    "JitsiUnavailable": (
        "a Jitsi server does not answer, its rooms are not bridged: check spec.endpoints, the server and the network"
    ),
    "LiveKitUnavailable": (
        "a LiveKit server does not answer, its rooms are not bridged: check spec.endpoints, the server and the network"
    ),
    "SyncLost": "participants of a room are not the same on its sides; unless this mends itself, the log says why",
    "AICoreUnavailable": (
        "the AI Core does not answer, video is sent as it came: check spec.aiCore.addresses, that the AI Core's pods"
        " are ready, and that the network lets the bridge reach them; compression comes back by itself"
    ),
    "StandbyUnavailable": (
        "streams are to have a standby and no second AI Core answers: run two behind spec.aiCore.addresses, or set"
        " spec.aiCore.failover None; compression goes on"
    ),
    "PostgresUnavailable": (
        "PostgreSQL does not answer, records wait in memory: check spec.postgres, the server and the network"
    ),
    "PacketLoss": "packets from a peer are lost: check the network between the peer and the bridge",
    "CompressionDisabled": "a stream is of a kind that the AI Core does not serve; it is sent as it came",
}
_WORSE_THAN_SCALING = tuple(DEGRADING)[: tuple(DEGRADING).index("PostgresUnavailable")]


def degraded(observed: Observed, pods: Sequence[PodView], starting: bool, now: datetime) -> list[Condition]:
    """`starting`: pods that do not start are told by Ready already."""
    reported = _reported(pods)
    found = [problem for problem in reported if problem.reason in _WORSE_THAN_SCALING]
    found += [] if starting else _more_wanted(observed)
    found += _autoscaler_blind(observed, now)
    found += [problem for problem in reported if problem not in found]
    return [Condition("Degraded", "True", found[0].reason, found[0].message)] if found else []


def _more_wanted(observed: Observed) -> list[Problem]:
    """Enough pods serve, and more are wanted that do not come."""
    if stuck := trouble(observed.pods):
        return [Problem(stuck.reason, f"some pods beyond those that serve cannot start: {stuck.message}")]
    deployment = deployment_of(observed)
    if deployment and (said := creation_failure(deployment)):
        return [Problem("PodsRefused", f"pods beyond those that serve cannot be created: {said}")]
    return []


def _reported(pods: Sequence[PodView]) -> list[Problem]:
    """What pods report of themselves, worst first."""
    found = []
    for reason, remedy in DEGRADING.items():
        if having := [pod for pod in pods if has(pod, reason)]:
            said = words(having)
            names = named(pod.name for pod in having)
            found.append(Problem(reason, f"{remedy} (seen by {names}{f': {said}' if said else ''})"))
    return found


def blind(observed: Observed) -> Mapping[str, object] | None:
    """The HorizontalPodAutoscaler's word that it cannot reckon; None if it can, or has nothing to scale."""
    active = condition_of(_hpa(observed), "ScalingActive")
    if active.get("status") != "False" or active.get("reason") == "ScalingDisabled":
        return None
    return active


def _hpa(observed: Observed) -> Obj | None:
    return next((obj for key, obj in observed.children.items() if key.kind == "HorizontalPodAutoscaler"), None)


def _autoscaler_blind(observed: Observed, now: datetime) -> list[Problem]:
    active = blind(observed)
    if active is None or age_s(active, now) < BLIND_PATIENCE_S:
        return []
    message = (
        f"the HorizontalPodAutoscaler has no metrics ({active.get('reason')}) and leaves the number of pods as it is:"
        " install a metrics API (prometheus-adapter or metrics-server; kubectl describe hpa says which is missing), or"
        " set spec.autoscaling.driver to Operator"
    )
    return [Problem("AutoscalerBlind", message)]
