"""A RoomPolicy's status: whether every bridge that it selects has it, and what it lost there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from auralink_operator.models import Conflict, RoomPolicy
from auralink_operator.status.conditions import Condition, Status, compact, named, stamped

_MAX_BRIDGES = 256
_MAX_CONFLICTS = 16


@dataclass(frozen=True, slots=True)
class MatchedBridge:
    """A bridge that a policy selects, and the generation of the policy that its ConfigMap carries.

    `conflicts`: fields that the policy lost to another of its own priority. `dropped`: the bridge has no room for it.
    """

    name: str
    carries: int | None
    conflicts: tuple[Conflict, ...] = ()
    dropped: bool = False
    suspended: bool = False
    stalled: bool = False


def derive_policy(policy: RoomPolicy, matched: Sequence[MatchedBridge], now: datetime, elsewhere: int = 0) -> Status:
    """`elsewhere`: how many bridges of other shards it selects; what becomes of it there is not known here."""
    found = [*_ready(policy, matched, elsewhere), _resolved(len(matched) + elsewhere), *_conflicted(matched)]
    return {
        "observedGeneration": policy.meta.generation,
        "conditions": stamped(found, policy.meta, now),
        "matchedBridgeCount": len(matched) + elsewhere,
        "matchedBridges": [
            compact({"name": bridge.name, "conflicts": _lost(bridge.conflicts)})
            for bridge in sorted(matched, key=lambda bridge: bridge.name)[:_MAX_BRIDGES]
        ],
    }


def _ready(policy: RoomPolicy, matched: Sequence[MatchedBridge], elsewhere: int) -> list[Condition]:
    if dropped := [bridge.name for bridge in matched if bridge.dropped]:
        message = (
            f"left out by {named(dropped)}, where more policies of higher rank apply than it takes: merge policies"
            ", narrow spec.bridgeSelector, or raise spec.priority"
        )
        return _not_ready("Stalled", "TooManyPolicies", message)
    behind = [bridge for bridge in matched if bridge.carries != policy.meta.generation]
    if not behind:
        return [Condition("Ready", "True", "Succeeded", _carried(bool(matched), bool(elsewhere)))]
    message = f"not in the configuration of {named(bridge.name for bridge in behind)} yet"
    if held := named(bridge.name for bridge in behind if bridge.suspended):
        message += f"; suspended, so that nothing changes there: {held}"
    if stuck := named(bridge.name for bridge in behind if bridge.stalled):
        message += f"; Stalled until somebody acts, and its own Ready condition says why: {stuck}"
    return _not_ready("Reconciling", "Progressing", message)


def _carried(here: bool, elsewhere: bool) -> str:
    theirs = "bridges of other shards say in their own status.appliedPolicies whether they have it"
    if not here:
        return f"selects no bridge of this shard; {theirs}" if elsewhere else "selects no bridge yet"
    said = "in the configuration of every bridge that it selects"
    return f"{said} in this shard; {theirs}" if elsewhere else said


def _not_ready(because: str, reason: str, message: str) -> list[Condition]:
    return [Condition("Ready", "False", reason, message), Condition(because, "True", reason, message)]


def _resolved(matched: int) -> Condition:
    if matched:
        return Condition("Resolved", "True", "BridgesMatched", "the selector fits at least one bridge")
    message = (
        "no bridge of this namespace has the labels in spec.bridgeSelector.matchLabels: correct them or the bridge's"
    )
    return Condition("Resolved", "False", "NoBridgeMatched", message)


def _conflicted(matched: Sequence[MatchedBridge]) -> list[Condition]:
    lost = [(bridge.name, conflict) for bridge in matched for conflict in bridge.conflicts]
    if not lost:
        return []
    said = named(f"{c.field} to {c.winner} on {bridge} ({c.why})" for bridge, c in lost)
    message = f"lost by chance, not by priority: {said}. Give the policies different priorities"
    return [Condition("Conflicted", "True", "SamePriority", message)]


def _lost(conflicts: Iterable[Conflict]) -> list[str]:
    return sorted({f"{conflict.field}: {conflict.winner}" for conflict in conflicts})[:_MAX_CONFLICTS]
