"""Which RoomPolicies a bridge gets, in which order, and what a room comes to with them. Pure; called by `reconcile`.

The operator settles the order; pods merge per room. `merge` is here all the same: a policy's status says what it lost,
and `tests/unit/vectors/policy_merge.json` holds both sides to the same answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any
from zlib import crc32

from auralink_operator.models import MAX_POLICIES, Bridge, Compiled, CompiledPolicy, Room, RoomPolicy

_MAX_OVERRIDDEN = 16


def selects_bridge(policy: RoomPolicy, bridge: Bridge) -> bool:
    if policy.meta.namespace != bridge.meta.namespace:
        return False
    wanted = policy.spec.bridge_selector.match_labels if policy.spec.bridge_selector else {}
    return all(bridge.meta.labels.get(name) == value for name, value in wanted.items())


def selects_room(rooms: Mapping[str, Any], name: str, labels: Mapping[str, str]) -> bool:
    """Name and labels: one glob must fit, and every wanted label must be there."""
    wanted = rooms.get("labels") or {}
    named = any(fnmatchcase(name, glob) for glob in rooms.get("names") or ("*",))
    return named and all(labels.get(key) == value for key, value in wanted.items())


def counts_for(compression: Mapping[str, Any], room: str) -> bool:
    """Whether a room is in the share that a policy's roomsPercent lets through: the same rooms on every pod."""
    share = compression.get("roomsPercent")
    return share is None or crc32(room.encode()) % 100 < share


def leaves_of(policy: CompiledPolicy, room: str) -> dict[str, Any]:
    """What a policy sets for a room, by leaf."""
    found: dict[str, Any] = {}
    for name, effect in policy.effects.items():
        if not isinstance(effect, dict):
            found[name] = effect
        elif name != "compression" or counts_for(effect, room):
            found |= {f"{name}.{leaf}": value for leaf, value in effect.items() if leaf != "roomsPercent"}
    return found


def _winners(policies: Iterable[CompiledPolicy], room: str, labels: Mapping[str, str]) -> dict[str, CompiledPolicy]:
    winners: dict[str, CompiledPolicy] = {}
    for policy in policies:
        if selects_room(policy.rooms, room, labels):
            for leaf in leaves_of(policy, room):
                winners.setdefault(leaf, policy)
    return winners


def merge(
    bridge: Mapping[str, Any], policies: Iterable[CompiledPolicy], room: str, labels: Mapping[str, str]
) -> dict[str, Any]:
    """What a room gets: per leaf the first policy that sets it; of compression the bridge's own is the last.

    Then the minimum saving is clamped to the target. Of the rest only what a policy sets is there.
    """
    compression = dict(bridge)
    merged: dict[str, Any] = {"compression": compression}
    for leaf, policy in _winners(policies, room, labels).items():
        parent, _, name = leaf.partition(".")
        if name:
            merged.setdefault(parent, {})[name] = policy.effects[parent][name]
        else:
            merged[parent] = policy.effects[parent]
    compression["minSavingsPercent"] = min(compression["minSavingsPercent"], compression["targetSavingsPercent"])
    return merged


def compile_policies(bridge: Bridge, policies: Sequence[RoomPolicy]) -> Compiled:
    """The bridge's policies, highest priority first, then the older, then by name; past the limit the last drop out."""
    chosen = sorted(
        (policy for policy in policies if selects_bridge(policy, bridge)),
        key=lambda policy: (-policy.spec.priority, policy.meta.created, policy.meta.name),
    )
    compiled = [
        CompiledPolicy(
            name=policy.meta.name,
            priority=policy.spec.priority,
            generation=policy.meta.generation,
            rooms=policy.spec.rooms.written_out(),
            effects=policy.spec.effects(),
        )
        for policy in chosen[:MAX_POLICIES]
    ]
    lost = _lost(bridge.spec.rooms, compiled)
    return Compiled(
        policies=tuple(
            CompiledPolicy(p.name, p.priority, p.generation, p.rooms, p.effects, lost.get(p.name, ())) for p in compiled
        ),
        dropped=tuple(policy.meta.name for policy in chosen[MAX_POLICIES:]),
    )


def _lost(rooms: Iterable[Room], policies: Sequence[CompiledPolicy]) -> dict[str, tuple[str, ...]]:
    """Per policy the fields it sets that an earlier one wins in at least one room of the bridge: 'field: winner'."""
    lost: dict[str, dict[str, None]] = {}
    for room in rooms:
        winners = _winners(policies, room.name, room.labels)
        for policy in policies:
            if not selects_room(policy.rooms, room.name, room.labels):
                continue
            for leaf in leaves_of(policy, room.name):
                winner = winners[leaf]
                if winner.name != policy.name:
                    lost.setdefault(policy.name, {})[f"{leaf}: {winner.name}"] = None
    return {name: tuple(sorted(fields))[:_MAX_OVERRIDDEN] for name, fields in lost.items()}
