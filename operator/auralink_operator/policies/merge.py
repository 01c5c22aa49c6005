"""What a room comes to with a bridge's policies.

The operator settles the order; pods merge per room. `merge` is here all the same: a policy's status says what it lost,
and `tests/unit/vectors/policy_merge.json` holds both sides to the same answer.
"""

import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from functools import lru_cache
from typing import Any
from zlib import crc32

from auralink_operator.models import CompiledPolicy


def labels_fit(rooms: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a room with these labels has all that a policy's `rooms` wants."""
    return all(labels.get(key) == value for key, value in (rooms.get("labels") or {}).items())


def globs_of(rooms: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(rooms.get("names") or ("*",))


@lru_cache(maxsize=8192)
def _pattern(glob: str) -> re.Pattern[str]:
    """`fnmatchcase` keeps 256 patterns; a bridge may meet 4096 globs, and in 128 rooms each."""
    return re.compile(translate(glob))


def selects_room(rooms: Mapping[str, Any], name: str, labels: Mapping[str, str]) -> bool:
    """Name and labels: every wanted label must be there, and one glob must fit, as `fnmatchcase` has it."""
    return labels_fit(rooms, labels) and any(_pattern(glob).match(name) for glob in globs_of(rooms))


def counts_for(compression: Mapping[str, Any], room: str) -> bool:
    """Whether a room is in the share that a policy's roomsPercent lets through: the same rooms on every pod."""
    share = compression.get("roomsPercent")
    return share is None or crc32(room.encode()) % 100 < share


def leaves_of(policy: CompiledPolicy, room: str | None = None) -> dict[str, Any]:
    """What a policy sets by leaf, for a room; for None, for whatever rooms it may count for."""
    found: dict[str, Any] = {}
    for name, effect in policy.effects.items():
        if not isinstance(effect, dict):
            found[name] = effect
        elif name != "compression" or (counts_for(effect, room) if room else effect.get("roomsPercent") != 0):
            found |= {f"{name}.{leaf}": value for leaf, value in effect.items() if leaf != "roomsPercent"}
    return found


def winners(policies: Iterable[CompiledPolicy], room: str, labels: Mapping[str, str]) -> dict[str, CompiledPolicy]:
    """By leaf the policy that wins it in a room; `policies` in merge order."""
    found: dict[str, CompiledPolicy] = {}
    for policy in policies:
        if selects_room(policy.rooms, room, labels):
            for leaf in leaves_of(policy, room):
                found.setdefault(leaf, policy)
    return found


def merge(
    bridge: Mapping[str, Any], policies: Iterable[CompiledPolicy], room: str, labels: Mapping[str, str]
) -> dict[str, Any]:
    """What a room gets: per leaf the first policy that sets it; of compression the bridge's own is the last.

    Then the minimum saving is clamped to the target. Of the rest only what a policy sets is there.
    """
    compression = dict(bridge)
    merged: dict[str, Any] = {"compression": compression}
    for leaf, policy in winners(policies, room, labels).items():
        parent, _, name = leaf.partition(".")
        if name:
            merged.setdefault(parent, {})[name] = policy.effects[parent][name]
        else:
            merged[parent] = policy.effects[parent]
    compression["minSavingsPercent"] = min(compression["minSavingsPercent"], compression["targetSavingsPercent"])
    return merged
