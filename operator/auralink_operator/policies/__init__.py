"""Which RoomPolicies a bridge gets, in which order, what a room comes to with them, and where they disagree. Pure.

`merge` says what a room gets, `conflicts` what a policy loses and where chance decides, `globs` whether names overlap.
"""

from collections.abc import Sequence
from dataclasses import replace

from auralink_operator.models import MAX_POLICIES, Bridge, Compiled, CompiledPolicy, RoomPolicy
from auralink_operator.policies.conflicts import conflicts, overridden
from auralink_operator.policies.merge import counts_for, merge, selects_room

__all__ = ["compile_policies", "counts_for", "merge", "selects_bridge", "selects_room"]


def selects_bridge(policy: RoomPolicy, bridge: Bridge) -> bool:
    if policy.meta.namespace != bridge.meta.namespace:
        return False
    wanted = policy.spec.bridge_selector.match_labels if policy.spec.bridge_selector else {}
    return all(bridge.meta.labels.get(name) == value for name, value in wanted.items())


def compile_policies(bridge: Bridge, policies: Sequence[RoomPolicy]) -> Compiled:
    """The bridge's policies, highest priority first, then the older, then by name; past the limit the last drop out."""
    chosen = sorted(
        (policy for policy in policies if selects_bridge(policy, bridge)),
        key=lambda policy: (-policy.spec.priority, policy.meta.created, policy.meta.name),
    )
    compiled = tuple(
        CompiledPolicy(
            name=policy.meta.name,
            priority=policy.spec.priority,
            generation=policy.meta.generation,
            rooms=policy.spec.rooms.written_out(),
            effects=policy.spec.effects(),
        )
        for policy in chosen[:MAX_POLICIES]
    )
    lost = overridden(bridge.spec.rooms, compiled)
    ages = {policy.meta.name: policy.meta.created for policy in chosen}
    return Compiled(
        policies=tuple(replace(policy, overridden=lost.get(policy.name, ())) for policy in compiled),
        dropped=tuple(policy.meta.name for policy in chosen[MAX_POLICIES:]),
        conflicts=conflicts(compiled, ages),
    )
