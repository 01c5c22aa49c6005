"""Two kinds of patience, both pure: rollouts that wait for their turn, and children that somebody else keeps changing.

A changed default of the operator (its image, a new rendering) would roll the pods of every bridge at the same moment.
`Rollouts` lets so many roll at once and wakes the next as one is through; what a user changes never waits. `Fights`
bounds what two who want different values of one field can do to the API server: after a few quick repairs each next one
waits twice as long. `reconcile` asks both.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from auralink_operator.index import BRIDGE, LABEL_BRIDGE, Key, Obj

QUICK_REPAIRS = 5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _CALM_S = 2.0, 300.0, 60.0


def rolling(deployment: Obj, default_image: str) -> bool:
    """Whether pods of an older template are still there, or will be: the controller has not looked yet.

    A rollout that is stuck keeps its place if it is the default image that it is stuck with: a default that breaks some
    bridges must not go on to break the others. With an image of its own it is that bridge's affair.
    """
    state, spec = deployment.get("status") or {}, deployment.get("spec") or {}
    if not spec.get("replicas", 1):
        return False
    seen = int(state.get("observedGeneration") or 0) >= int(deployment["metadata"].get("generation") or 0)
    if seen and int(state.get("replicas") or 0) <= int(state.get("updatedReplicas") or 0):
        return False
    return not _given_up(state) or default_image in _images(spec)


def _given_up(state: Mapping[str, Any]) -> bool:
    return any(
        condition.get("type") == "Progressing" and condition.get("status") == "False"
        for condition in state.get("conditions") or ()
    )


def _images(spec: Mapping[str, Any]) -> set[str]:
    containers = ((spec.get("template") or {}).get("spec") or {}).get("containers") or ()
    return {str(container.get("image")) for container in containers}


class Rollouts:
    """Bridges whose pods roll, and those that wait to: counted from the index once, then kept by each look at a key."""

    def __init__(self, limit: int, default_image: str) -> None:
        self._limit, self._image = limit, default_image
        self._rolling: set[Key] | None = None
        self._waiting: dict[Key, None] = {}

    def may_begin(self, key: Key, deployments: Callable[[], Iterable[Obj]]) -> bool:
        """Whether this bridge may roll now; it then counts. Else it is remembered until its turn."""
        if self._rolling is None:
            self._rolling = {_bridge(obj) for obj in deployments() if rolling(obj, self._image)}
        if len(self._rolling | {key}) > self._limit:
            self._waiting[key] = None
            return False
        self._waiting.pop(key, None)
        self._rolling.add(key)
        return True

    def saw(self, key: Key, deployment: Obj | None) -> list[Key]:
        """What the index has of a bridge now; answers with the keys whose turn may have come."""
        if self._rolling is None:
            return []
        if deployment is not None and rolling(deployment, self._image):
            self._rolling.add(key)
            return []
        if key not in self._rolling:
            return []
        self._rolling.discard(key)
        free = self._limit - len(self._rolling)
        return [waiting for waiting in self._waiting if waiting != key][: max(0, free)]

    def forget(self, key: Key) -> list[Key]:
        self._waiting.pop(key, None)
        return self.saw(key, None)


def _bridge(deployment: Obj) -> Key:
    meta = deployment["metadata"]
    return Key(BRIDGE, str(meta.get("namespace", "")), str((meta.get("labels") or {}).get(LABEL_BRIDGE)))


@dataclass(slots=True)
class _Fight:
    repairs: int = 0
    last: float = float("-inf")
    by: str = ""

    @property
    def pause_s(self) -> float:
        if self.repairs < QUICK_REPAIRS:
            return 0.0
        return float(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(self.repairs - QUICK_REPAIRS, 16)))

    @property
    def calm_s(self) -> float:
        return max(_CALM_S, 2 * self.pause_s)


class Fights:
    """The children of one bridge that somebody else has changed lately."""

    def __init__(self) -> None:
        self._fights: dict[Key, _Fight] = {}

    def repaired(self, child: Key, now: float) -> None:
        fight = self._fights.setdefault(child, _Fight())
        fight.repairs, fight.last = fight.repairs + 1, now

    def pause_s(self, child: Key, now: float) -> float:
        """How long the next repair has to wait still."""
        fight = self._fights.get(child)
        return max(0.0, fight.last + fight.pause_s - now) if fight else 0.0

    def going_on(self, now: float) -> list[Key]:
        """Children that are fought for; what has been quiet for long enough is forgotten."""
        self._fights = {child: fight for child, fight in self._fights.items() if now - fight.last < fight.calm_s}
        return [child for child, fight in self._fights.items() if fight.repairs >= QUICK_REPAIRS]

    def next_s(self, now: float) -> float | None:
        """When to look again: a repair may be made then, or there is something less to say. None while all is calm."""
        fought = [fight for fight in self._fights.values() if fight.repairs >= QUICK_REPAIRS]
        ends = [end for fight in fought for end in (fight.last + fight.pause_s, fight.last + fight.calm_s)]
        return min((end - now for end in ends if end > now), default=None)

    def by(self, child: Key) -> str:
        """What has been found out about who it is; "" before somebody asked."""
        return self._fights[child].by if child in self._fights else ""

    def blame(self, child: Key, text: str) -> None:
        if child in self._fights:
            self._fights[child].by = text


def managers(obj: Obj, path: str, ours: str) -> list[str]:
    """Managers of the fields at a path such as `.spec.replicas`, other than ours, by the object's managedFields.

    Where the path leads into a list, whose entries are named otherwise there, who has a field above it counts.
    """
    found: set[str] = set()
    for entry in obj["metadata"].get("managedFields") or ():
        name = str(entry.get("manager"))
        if not name.startswith(ours) and _has(entry.get("fieldsV1") or {}, path.partition("[")[0]):
            found.add(name)
    return sorted(found)


def _has(tree: Any, path: str) -> bool:
    """Whether a fieldsV1 tree has the path; names in it may have dots themselves, such as those of labels."""
    if not path:
        return True
    steps = (name.removeprefix("f:") for name in tree) if isinstance(tree, dict) else ()
    return any(
        _has(tree[f"f:{step}"], path[len(step) + 1 :])
        for step in steps
        if path == f".{step}" or path.startswith(f".{step}.")
    )
