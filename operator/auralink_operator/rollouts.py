"""Two kinds of patience, both pure: rollouts that wait for their turn, and children that somebody else keeps changing.

A changed default of the operator (its image, a new rendering) would roll the pods of every bridge at the same moment.
`Rollouts` lets so many roll at once and wakes the next as one is through; what a user changes never waits. `Fights`
bounds what two who want different values of one field can do to the API server: after a few quick repairs each next one
waits twice as long. `reconcile` asks both.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from auralink_operator.index import Key, Obj

# A bridge that waits is looked at each minute; one not heard of for longer keeps its place but holds nobody up.
SILENT_S = 150.0
QUICK_REPAIRS = 5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _CALM_S = 2.0, 300.0, 60.0


# On a Deployment whose pods were last changed by a default of the operator's own, and were well before that.
BY_DEFAULT = "auralink.io/rolled-by-default"


def rolling(deployment: Obj) -> bool:
    """Whether a rollout goes on, and counts.

    One that has been given up counts if a default began it: a default that breaks some bridges must not go on to break
    the others. One that a user began, paused or left no quota for, or that met pods in trouble already, is that
    bridge's affair.
    """
    if not _unfinished(deployment) or (deployment.get("spec") or {}).get("paused"):
        return False
    return not _given_up(deployment) or (_by_default(deployment) and not _lacks_quota(deployment))


def was_well(deployment: Obj) -> bool:
    """Whether all pods are of one template and serve: what goes wrong then is the next template's."""
    unavailable = _condition(deployment, "Available").get("status") == "False"
    return not (_unfinished(deployment) or _given_up(deployment) or unavailable)


def _unfinished(deployment: Obj) -> bool:
    """Whether pods of an older template are still there, or will be: the controller has not looked yet.

    What a default began is not through before its pods serve: with one pod and no surge the old one goes first. The
    controller says once that they do, and goes on saying so when some of them fail later.
    """
    state, wanted = deployment.get("status") or {}, int((deployment.get("spec") or {}).get("replicas", 1))
    if not wanted:
        return False
    if not _observed(deployment):
        return True
    total, updated, available = (int(state.get(of) or 0) for of in ("replicas", "updatedReplicas", "availableReplicas"))
    served = _condition(deployment, "Progressing").get("reason") == "NewReplicaSetAvailable"
    return total > updated or (_by_default(deployment) and available < wanted and not served)


def _observed(deployment: Obj) -> bool:
    """Whether the controller has looked at it as it is now; any change makes a generation, an annotation's too."""
    seen = (deployment.get("status") or {}).get("observedGeneration")
    return int(seen or 0) >= int(deployment["metadata"].get("generation") or 0)


def _given_up(deployment: Obj) -> bool:
    return _condition(deployment, "Progressing").get("status") == "False"


def _lacks_quota(deployment: Obj) -> bool:
    failure = _condition(deployment, "ReplicaFailure")
    return failure.get("status") == "True" and "exceeded quota" in str(failure.get("message"))


def _condition(deployment: Obj, of: str) -> Mapping[str, Any]:
    listed = (deployment.get("status") or {}).get("conditions") or ()
    return next((condition for condition in listed if condition.get("type") == of), {})


def _by_default(deployment: Obj) -> bool:
    return BY_DEFAULT in (deployment["metadata"].get("annotations") or {})


class Rollouts:
    """Bridges whose pods roll, and those that wait to: counted once, then kept by each look at a key."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rolling: dict[Key, bool] | None = None  # with whether the rollout has been given up
        self._turns: set[Key] = set()  # those of them that may begin
        self._waiting: dict[Key, float] = {}  # with when each was heard of last, in the order of asking

    @property
    def counted(self) -> bool:
        return self._rolling is not None

    def count(self, deployments: Iterable[tuple[Key, Obj]], unknown: Iterable[Key] = ()) -> None:
        """Who rolls when this process begins to lead. `deployments`: those of all bridges that there are, by bridge;
        `unknown`: bridges of whose Deployment nobody can say now whether it rolls, and which so may."""
        self._rolling = dict.fromkeys(unknown, False)
        self._rolling |= {bridge: _given_up(obj) for bridge, obj in deployments if rolling(obj)}

    def holds_turn(self, key: Key) -> bool:
        return key in (self._rolling or {})

    def may_begin(self, key: Key, now: float) -> bool:
        """Whether this bridge may roll now; it then counts. Else it is remembered until its turn, behind the others."""
        if self._rolling is None:
            self._rolling = {}
        if key in self._turns:
            return True
        self._waiting[key] = now
        if key not in self._next(now, key):
            return False
        del self._waiting[key]
        self._turns.add(key)
        self._rolling.setdefault(key, False)
        return True

    def saw(self, key: Key, deployment: Obj | None, now: float) -> list[Key]:
        """What there is of a bridge now, or what is left of it where a rollout could not be begun; answers with the
        keys whose turn may have come."""
        if self._rolling is None:
            return []
        if deployment is not None and rolling(deployment):
            if key in self._rolling or _observed(deployment):  # else nobody knows yet whether its pods change
                self._rolling[key] = _given_up(deployment)
            return []
        if key not in self._rolling:
            return []
        del self._rolling[key]
        self._turns.discard(key)
        return [waiting for waiting in self._next(now) if waiting != key]

    def withdraw(self, key: Key, now: float) -> list[Key]:
        """A bridge that does not want to roll any more, or cannot; answers with the keys whose turn may have come."""
        if key not in self._waiting:
            return []
        del self._waiting[key]
        return self._next(now)

    def _next(self, now: float, asking: Key | None = None) -> list[Key]:
        """Whose turn it is: the first of those that wait, as many as there is room for. One whose pods change for
        another reason, and that is `asking`, takes no more room than it has."""
        heard = (key for key, at in self._waiting.items() if now - at <= SILENT_S)
        return list(islice(heard, max(0, self._limit - len((self._rolling or {}).keys() - {asking}))))

    def stuck(self) -> list[Key]:
        """Who holds a turn and does not come to its end by itself."""
        return [key for key, given_up in (self._rolling or {}).items() if given_up]

    def forget(self, key: Key, now: float) -> list[Key]:
        return list(dict.fromkeys([*self.withdraw(key, now), *self.saw(key, None, now)]))


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
