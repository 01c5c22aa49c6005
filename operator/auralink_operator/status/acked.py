"""Whether the pods have the configuration, and since when some have not."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from auralink_operator.index import Observed
from auralink_operator.models import Bridge, PodView
from auralink_operator.status.conditions import Condition, age_s, condition_of, named
from auralink_operator.status.outcome import Outcome
from auralink_operator.status.pods import has, words

ACK_PATIENCE_S = 60.0
SEE_LOG = "the log of the pods says why"


def config_acked(
    bridge: Bridge, observed: Observed, pods: Sequence[PodView], outcome: Outcome, now: datetime
) -> Condition:
    """Names those that are behind once they are late: before, each acknowledgement would be a write."""
    serving = [pod for pod in pods if pod.serving]
    if not serving:
        return Condition("ConfigAcked", "False", "NoPods", "no pod is ready and serving")
    behind = _behind(serving, _wanted(bridge, outcome))
    if not behind:
        return Condition("ConfigAcked", "True", "AllPodsAcked", "every serving pod has applied the configuration")
    message = "not every serving pod has applied the configuration yet"
    if refusing := [pod for pod in behind if has(pod, "ConfigInvalid")]:
        message = f"refused by {named(pod.name for pod in refusing)}: {words(refusing) or SEE_LOG}"
    elif is_late(bridge, observed, pods, outcome, now):
        message = f"not applied yet by {named(pod.name for pod in behind)}: {SEE_LOG}"
    return Condition("ConfigAcked", "False", "PodsBehind", message)


def is_late(bridge: Bridge, observed: Observed, pods: Sequence[PodView], outcome: Outcome, now: datetime) -> bool:
    return behind_s(bridge.meta.status, observed, pods, _wanted(bridge, outcome), now) >= ACK_PATIENCE_S


def behind_s(
    status: Mapping[str, Any], observed: Observed, pods: Sequence[PodView], generation: int, now: datetime
) -> float:
    """For how long the last of the pods has been behind. `status`: as written last; ConfigAcked keeps when it flipped.

    A pod that has just become ready is not late, however long no pod was there before.
    """
    acked = condition_of({"status": status}, "ConfigAcked")
    if acked.get("status") != "False":
        return 0.0
    ready = {pod["metadata"].get("uid"): condition_of(pod, "Ready") for pod in observed.pods}
    serving = [pod for pod in pods if pod.serving]
    ages = [age_s(ready.get(pod.uid) or acked, now) for pod in _behind(serving, generation)]
    return min(age_s(acked, now), max(ages, default=0.0))


def _behind(serving: Sequence[PodView], generation: int) -> list[PodView]:
    return [pod for pod in serving if pod.acked < generation]


def _wanted(bridge: Bridge, outcome: Outcome) -> int:
    """The generation that pods must have: a reconcile that failed early does not know it, the status does."""
    return int(outcome.config_generation or (bridge.meta.status.get("config") or {}).get("desiredGeneration") or 0)
