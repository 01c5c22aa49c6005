"""What policies take from each other: what one loses to a stronger one, and where two of a kind disagree.

Losing to a higher priority is what priorities are for, and only noted (`overridden`). Two policies of one priority that
want different things of one field in rooms that both can select are a conflict: age or name decides, which is chance.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from json import dumps
from typing import Any

from auralink_operator.models import CompiledPolicy, Conflict, Room
from auralink_operator.policies.globs import Effort, OutOfEffortError, example
from auralink_operator.policies.merge import counts_for, globs_of, labels_fit, leaves_of, selects_room

_MAX_OVERRIDDEN = 16
_MAX_STEPS = 100_000  # under half a second, whatever the globs; those of ordinary policies take a few hundred
_WILD = frozenset("*?[")

_Taken = tuple[CompiledPolicy, str, CompiledPolicy]  # who loses, what, to whom
_Ranked = Sequence[tuple[CompiledPolicy, Mapping[str, Any]]]  # in merge order, each with the leaves it may count for


def overridden(rooms: Iterable[Room], policies: Sequence[CompiledPolicy]) -> dict[str, tuple[str, ...]]:
    """Per policy the fields it sets that an earlier one wins in at least one room of the bridge: 'field: winner'."""
    ranked = [(policy, leaves_of(policy)) for policy in policies]
    effort = Effort(_MAX_STEPS)
    lost: dict[str, set[tuple[str, str]]] = {}
    for room in rooms:
        taken = _taken(ranked, room) if room.glob is None else _taken_by_glob(ranked, room, room.glob, effort)
        for policy, leaf, winner in taken:
            lost.setdefault(policy.name, set()).add((leaf, winner.name))
    return {
        name: tuple(f"{leaf}: {winner}" for leaf, winner in sorted(fields))[:_MAX_OVERRIDDEN]
        for name, fields in lost.items()
    }


def _taken(ranked: _Ranked, room: Room) -> Iterator[_Taken]:
    """In a room whose name is known."""
    won: dict[str, CompiledPolicy] = {}
    for policy, leaves in ranked:
        if not selects_room(policy.rooms, room.name, room.labels):
            continue
        partly = "roomsPercent" in (policy.effects.get("compression") or {})
        for leaf in leaves_of(policy, room.name) if partly else leaves:
            if (winner := won.setdefault(leaf, policy)) is not policy:
                yield policy, leaf, winner


def _taken_by_glob(ranked: _Ranked, room: Room, glob: str, effort: Effort) -> Iterator[_Taken]:
    """In rooms at an endpoint, of which only the glob is known: to the first that can select one of them as well."""
    before: list[tuple[CompiledPolicy, Mapping[str, Any]]] = []
    for policy, leaves in ranked:
        if not labels_fit(policy.rooms, room.labels):
            continue
        open_leaves = set(leaves)
        for earlier, theirs in before:
            disputed = open_leaves & theirs.keys()
            try:
                if not disputed or next(_shared((earlier, policy), effort, (glob,)), None) is None:
                    continue
            except OutOfEffortError:
                return  # what cannot be told is left out: an entry here is always true
            open_leaves -= disputed
            for leaf in sorted(disputed):
                yield policy, leaf, earlier
        before.append((policy, leaves))


@dataclass(frozen=True, slots=True)
class _Asked:
    """Policies by what they say, so that one answer serves all bridges that have them."""

    said: str
    policies: Sequence[CompiledPolicy] = field(compare=False)
    created: Mapping[str, str] = field(compare=False)


def conflicts(policies: Sequence[CompiledPolicy], created: Mapping[str, str]) -> tuple[Conflict, ...]:
    """Per policy and field the first of the same priority that wants something else; `created` by policy name."""
    said = [[p.name, p.priority, created.get(p.name), dict(p.rooms), dict(p.effects)] for p in policies]
    return _conflicts(_Asked(dumps(said, sort_keys=True), policies, created))


@lru_cache(maxsize=256)
def _conflicts(asked: _Asked) -> tuple[Conflict, ...]:
    created, effort = asked.created, Effort(_MAX_STEPS)
    found: list[Conflict] = []
    before: list[tuple[CompiledPolicy, dict[str, Any]]] = []
    for loser in asked.policies:
        leaves = leaves_of(loser)
        open_leaves = dict(leaves)
        for winner, theirs in before:
            if winner.priority != loser.priority or not _labels_meet(winner, loser):
                continue
            disputed = [leaf for leaf, value in open_leaves.items() if leaf in theirs and _differ(theirs[leaf], value)]
            for leaf, why in _explained(winner, loser, disputed, effort):
                del open_leaves[leaf]
                age = "is older" if created.get(winner.name) != created.get(loser.name) else "comes first by name"
                why = f"both have priority {loser.priority} and {why}; {winner.name} {age}"
                found.append(Conflict(leaf, winner.name, loser.name, loser.priority, why))
        before.append((loser, leaves))
    return tuple(found)


def _explained(
    winner: CompiledPolicy, loser: CompiledPolicy, disputed: Sequence[str], effort: Effort
) -> Iterator[tuple[str, str]]:
    """The disputed fields that are so in some room, each with words on which."""
    for shares in (True, False):  # roomsPercent keeps compression, and nothing else, from some rooms
        leaves = [leaf for leaf in disputed if leaf.startswith("compression.") is shares]
        if not leaves:
            continue
        try:
            names = _shared((winner, loser), effort)
            name = next((name for name in names if not shares or _counted((winner, loser), name)), None)
        except OutOfEffortError:
            yield from ((leaf, "their room names are too many to be compared") for leaf in leaves)
            continue
        if name is not None:
            yield from ((leaf, f'can select rooms such as "{name}"') for leaf in leaves)


def _shared(policies: Iterable[CompiledPolicy], effort: Effort, within: tuple[str, ...] = ()) -> Iterator[str]:
    """Names of rooms that both policies can select, one for each pair of globs that has any."""
    one, other = (globs_of(policy.rooms) for policy in policies)
    for mine in one:
        for theirs in other:
            if (name := example((mine, theirs, *within), effort)) is not None:
                yield name


def _counted(policies: Iterable[CompiledPolicy], name: str) -> bool:
    """Whether a room of that name, or where globs leave a choice one like it, is in the share of both policies."""
    for policy in policies:
        if name in globs_of(policy.rooms) and not _WILD & set(name):
            return all(counts_for(each.effects.get("compression") or {}, name) for each in policies)
    return True


def _labels_meet(one: CompiledPolicy, other: CompiledPolicy) -> bool:
    """Whether a room can have the labels that both want."""
    mine, theirs = one.rooms.get("labels") or {}, other.rooms.get("labels") or {}
    return all(theirs.get(key, value) == value for key, value in mine.items())


def _differ(one: Any, other: Any) -> bool:
    """Lists among the leaves are sets."""
    if isinstance(one, (list, tuple)):
        return sorted(one) != sorted(other)
    return bool(one != other)
