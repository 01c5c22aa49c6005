"""Which pod serves which room, how many pods there are, and which of them goes first. Pure; called by `reconcile`.

**Owners.** A plain-RTP room has one pod at a time. Rendezvous hashing says which pod a room belongs to, so that rooms
spread evenly and a pod that comes or goes concerns its own share only. But every move costs the room's receivers a
moment of picture, so hashing alone does not move a room: it stays with the pod that has it, and leaves

- a pod that drains, is not ready or is gone, as soon as another one serves (until then the leaving pod goes on),
- a pod that carries no session at all, because then nobody is disturbed,
- a pod with more sessions than autoscaling aims at, for a pod below that: else a scale-up would relieve nobody.

In the last two cases only towards the pod that it belongs to, so it moves at most once as pods come and go.

**Replicas.** Kubernetes deletes pods, never we; `controller.kubernetes.io/pod-deletion-cost` makes it choose the one
with the fewest sessions. Before `replicas` is lowered every pod must carry the cost that goes with its sessions now.
With driver Operator the number follows from the sessions by the formula of the HorizontalPodAutoscaler
(kubernetes: pkg/controller/podautoscaler/replica_calculator.go), with its tolerance, bounds and pace.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from math import ceil
from typing import Any

from auralink_operator.models import Autoscaling, PodView

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
COST_INTERVAL_S = 10.0  # between two writes to one pod
TOLERANCE = 0.1  # the HPA's: within 10 % of the target nothing changes
PACE_DOWN_S = 60.0  # one pod fewer at most in this time, as the rendered HPA has it
_STEPS = (0, *(factor * 10**power for power in range(5) for factor in (1, 2, 5)))


@dataclass(slots=True)
class Memory:
    """What must be known of a bridge from one look to the next. A new process starts without, and scales down later."""

    recommended: list[tuple[float, int]] = field(default_factory=list)  # (when, replicas), replicas falling
    seen: int | None = None
    lowered_at: float = float("-inf")
    costs_written: dict[str, float] = field(default_factory=dict)  # by pod


@dataclass(frozen=True, slots=True)
class Replicas:
    """`rendered` is what the Deployment must say now, None where another manager owns the field. It is more than
    `wanted` while pods still have to be marked with their costs."""

    wanted: int | None
    rendered: int | None
    again_s: float | None = None

    @property
    def held(self) -> bool:
        return self.wanted != self.rendered


# --- owners --------------------------------------------------------------------------------------------------------


def owners(
    rooms: Iterable[str], pods: Sequence[PodView], current: Mapping[str, str] | None = None, target: int | None = None
) -> dict[str, PodView]:
    """The pod of each room. `current`: room -> name of the pod that has it; `target`: sessions per pod to aim at."""
    candidates = [pod for pod in pods if pod.serving and pod.ip and not pod.unknown]
    named = {pod.name: pod for pod in pods if pod.ip or pod.unknown}
    found: dict[str, PodView] = {}
    for room in rooms:
        owner = named.get((current or {}).get(room, ""))
        if owner is not None and (owner.unknown or _stays(owner, candidates, target)):
            found[room] = owner
        elif best := _belongs_to(room, candidates):
            found[room] = owner if owner and owner.serving and _crowded(best, target) else best
    return found


def _stays(owner: PodView, candidates: Sequence[PodView], target: int | None) -> bool:
    """Whether a room need not even be asked where it belongs."""
    if not owner.serving:
        return not candidates
    return sessions(owner) > 0 and not _crowded(owner, target)


def _crowded(pod: PodView, target: int | None) -> bool:
    return target is not None and upper_bound(sessions(pod)) > target


def _belongs_to(room: str, pods: Sequence[PodView]) -> PodView | None:
    return max(pods, key=lambda pod: sha256(f"{room}\0{pod.name}".encode()).digest(), default=None)


# --- sessions and costs --------------------------------------------------------------------------------------------


def sessions(pod: PodView) -> int:
    """The bucket that a pod reports: a lower bound."""
    return int(pod.entry.get("sessions") or 0)


def upper_bound(bucket: int) -> int:
    """The most sessions that a pod with this bucket may have: one less than the next bucket."""
    return next((step - 1 for step in _STEPS if step > bucket), 2 * bucket)


def deletion_costs(pods: Sequence[PodView], most: int) -> dict[str, int]:
    """Cost by pod name; none where there is never a choice. `most`: the largest number of replicas there may be."""
    return {pod.name: sessions(pod) for pod in pods if not pod.deleting} if most > 1 else {}


def unmarked(costs: Mapping[str, int], pods: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the pods whose annotation is not their cost; a pod without one costs 0, says Kubernetes."""
    found = []
    for pod in pods:
        name = str(pod["metadata"]["name"])
        has = (pod["metadata"].get("annotations") or {}).get(DELETION_COST, "0")
        if name in costs and has != str(costs[name]):
            found.append(name)
    return found


def to_mark(names: Iterable[str], memory: Memory, now: float) -> tuple[list[str], float | None]:
    """The pods among `names` that may be written to now, and the seconds until the next of the others may be."""
    left_s = {name: memory.costs_written.get(name, float("-inf")) + COST_INTERVAL_S - now for name in names}
    later = [seconds for seconds in left_s.values() if seconds > 0]
    return [name for name, seconds in left_s.items() if seconds <= 0], min(later, default=None)


def marked(name: str, pods: Iterable[PodView], memory: Memory, now: float) -> None:
    """Remembers a write; what is known of pods that are gone goes."""
    alive = {pod.name for pod in pods}
    memory.costs_written = {pod: at for pod, at in memory.costs_written.items() if pod in alive} | {name: now}


# --- replicas ------------------------------------------------------------------------------------------------------


def gated(wanted: int, live: int | None, marks_missing: bool, again_s: float | None = None) -> Replicas:
    """Holds a lowering back while Kubernetes could not choose rightly. To none at all, there is nothing to choose."""
    if live is not None and 0 < wanted < live and marks_missing:
        return Replicas(wanted, live, again_s)
    return Replicas(wanted, wanted, again_s)


def under_hpa(minimum: int, live: int | None, others_own_it: bool) -> Replicas:
    """A field that we alone own would fall to 1 if we left it out: it is said until the HPA has taken it over.

    At 0 replicas an HPA stays switched off, whoever has scaled to nothing: it starts from the minimum again."""
    if live and others_own_it:
        return Replicas(None, None)
    return Replicas(live or minimum, live or minimum)


def autoscaled(
    rule: Autoscaling, pods: Sequence[PodView], live: int | None, memory: Memory, now: float
) -> tuple[int, float | None]:
    """Replicas by driver Operator, and the seconds after which time alone may change the answer."""
    if live is None:
        return rule.min_replicas, None
    if memory.seen is not None and live < memory.seen:
        memory.lowered_at = now
    memory.seen = live
    wanted = min(max(recommended(pods, live, rule.target_sessions_per_pod), rule.min_replicas), rule.max_replicas)
    highest, until_s = _stabilized(wanted, live, rule.scale_down_stabilization_seconds, memory, now)
    if live > rule.max_replicas:
        return rule.max_replicas, None  # the bounds have changed: not a matter of load
    if wanted >= live:
        return wanted, None
    if highest >= live:
        return live, until_s
    if (pause_s := memory.lowered_at + PACE_DOWN_S - now) > 0:
        return live, pause_s
    return live - 1, PACE_DOWN_S


def _stabilized(wanted: int, live: int, window_s: float, memory: Memory, now: float) -> tuple[int, float]:
    """The highest recommendation of the window, and how long it stays in it. Starts from what is there.

    Of two recommendations only the later and higher one matters: so the list falls, and never has more entries than
    there are numbers of replicas.
    """
    kept = [(at, number) for at, number in memory.recommended or [(now, live)] if at > now - window_s]
    memory.recommended = [(at, number) for at, number in kept if number > wanted] + [(now, wanted)]
    at, highest = memory.recommended[0]
    return highest, at + window_s - now


def recommended(pods: Sequence[PodView], live: int, target: int) -> int:
    """Replicas for the sessions there are, as the HPA would have it.

    Pods on their way out do not count. Pods that report nothing yet count as idle when more are needed and as full
    when fewer are: neither haste nor a flap. Buckets count with their upper bound.
    """
    staying = [pod for pod in pods if not pod.deleting and pod.entry.get("phase") != "Draining"]
    known = [upper_bound(sessions(pod)) for pod in staying if pod.serving]
    if not known:
        return live
    silent, total = len(staying) - len(known), sum(known)
    ratio = total / (target * len(known))
    if abs(ratio - 1) <= TOLERANCE:
        return live
    if silent:
        total += 0 if ratio > 1 else silent * target
        again = total / (target * len(staying))
        if abs(again - 1) <= TOLERANCE or (ratio > 1) != (again > 1):
            return live
    number = ceil(total / target)
    return max(number, live) if ratio > 1 and silent else min(number, live) if ratio < 1 and silent else number
