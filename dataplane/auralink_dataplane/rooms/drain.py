"""How a pod goes. The same way for a rollout, a scale-down, a node drain and `POST /drain`.

| stage | the pod | until |
|---|---|---|
| serving | takes what it is given | a signal, `POST /drain` |
| refuse | says it goes, takes nothing new; media flows | propagation_s: everybody has heard |
| handover (strategy Handover) | its rooms move to other pods, one by one | none is on its way any more |
| wait | looks each second | no session is left |
| exit | removes its status entry and ends | |

From any stage a second signal leads to exit, and so does the deadline (propagation_s + timeout_s). Where the bridge is
gone nobody waits for its sessions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Stage(StrEnum):
    SERVING = "serving"
    REFUSE = "refuse"
    HANDOVER = "handover"
    WAIT = "wait"
    EXIT = "exit"


@dataclass(frozen=True, slots=True)
class Times:
    """Of the pod's environment."""

    propagation_s: float
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What the pod is like when the machine looks."""

    asked: bool = False  # by a signal or by POST /drain
    forced: bool = False  # by a second signal
    abandoned: bool = False  # the bridge is gone
    hands_over: bool = True  # drain.strategy
    moving: int = 0  # rooms on their way to another pod
    sessions: int = 0


@dataclass(frozen=True, slots=True)
class Drain:
    stage: Stage = Stage.SERVING
    since: float = 0.0
    """When the pod was asked to go."""

    @property
    def draining(self) -> bool:
        return self.stage is not Stage.SERVING

    def deadline(self, times: Times) -> float:
        return self.since + times.propagation_s + times.timeout_s


Test = Callable[[Facts, float, Times], bool]
"""Facts, seconds since the pod was asked, and the times it has."""


def _called(facts: Facts, _elapsed: float, _times: Times) -> bool:
    return facts.asked or facts.forced or facts.abandoned


def _out_of_time(facts: Facts, elapsed: float, times: Times) -> bool:
    return facts.forced or elapsed >= times.propagation_s + times.timeout_s


def _announced(facts: Facts, elapsed: float, times: Times) -> bool:
    return facts.abandoned or elapsed >= times.propagation_s


def _nothing_moves(facts: Facts, elapsed: float, times: Times) -> bool:
    return not facts.hands_over or not facts.moving or _nobody_left(facts, elapsed, times)


def _nobody_left(facts: Facts, _elapsed: float, _times: Times) -> bool:
    return facts.sessions == 0 or facts.abandoned


_GOING: Final = frozenset({Stage.REFUSE, Stage.HANDOVER, Stage.WAIT})
_TABLE: Final[tuple[tuple[frozenset[Stage], Test, Stage], ...]] = (
    (frozenset({Stage.SERVING}), _called, Stage.REFUSE),
    (_GOING, _out_of_time, Stage.EXIT),
    (frozenset({Stage.REFUSE}), _announced, Stage.HANDOVER),
    (frozenset({Stage.HANDOVER}), _nothing_moves, Stage.WAIT),
    (frozenset({Stage.WAIT}), _nobody_left, Stage.EXIT),
)
"""The first line that fits is taken."""


def advance(drain: Drain, facts: Facts, times: Times, now: float) -> Drain:
    """As many steps as the facts allow."""
    while (after := _step(drain, facts, times, now)) != drain:
        drain = after
    return drain


def _step(drain: Drain, facts: Facts, times: Times, now: float) -> Drain:
    since = drain.since if drain.draining else now
    for stages, fits, to in _TABLE:
        if drain.stage in stages and fits(facts, now - since, times):
            return Drain(to, since)
    return drain
