"""What is worth an event, and whether it warns."""

from auralink_operator.status import Condition, Outcome, Problem, flips, warns

from tests.unit.operator import samples
from tests.unit.operator.status.scenes import deployment, pod, status_of


def told(before: dict[str, object], after: dict[str, object]) -> list[tuple[str, str, str, bool]]:
    return [(flip.type, flip.status, flip.reason, warns(flip)) for flip in flips(before, after)]


def test_only_flips_are_worth_an_event() -> None:
    starting = status_of(child=deployment(ready=0))
    ready = status_of(samples.bridge(status=starting), child=deployment(), pods=(pod(),))
    assert told({}, starting) == []
    assert told(starting, ready) == [("Ready", "True", "Succeeded", False)]
    assert told(ready, ready) == []
    assert told(ready, starting) == [("Ready", "False", "Progressing", False)]


def test_what_degrades_warns_and_is_told_again_when_it_is_over() -> None:
    ready = status_of(child=deployment(), pods=(pod(),))
    worse = status_of(samples.bridge(status=ready), child=deployment(), pods=(pod(problems=["AICoreUnavailable"]),))
    assert told(ready, worse) == [("Degraded", "True", "AICoreUnavailable", True)]
    (over,) = flips(worse, ready)
    assert over == Condition("Degraded", "False", "AICoreUnavailable", "AICoreUnavailable is over")
    assert not warns(over)


def test_what_stalls_is_told_once() -> None:
    ready = status_of(child=deployment(), pods=(pod(),))
    stalled = status_of(child=deployment(), pods=(pod(),), outcome=Outcome(stalled=Problem("NameConflict", "x")))
    assert told(ready, stalled) == [("Stalled", "True", "NameConflict", True)]
    assert told(stalled, ready) == [
        ("Ready", "True", "Succeeded", False),
        ("Stalled", "False", "NameConflict", False),
    ]


def test_draining_is_told_and_does_not_warn() -> None:
    ready = status_of(child=deployment(), pods=(pod(),))
    leaving = status_of(child=deployment(), pods=(pod(), pod("p2", phase="Draining")))
    assert told(ready, leaving) == [("Draining", "True", "PodsDraining", False)]


def test_a_dependency_that_is_away_warns() -> None:
    ready = status_of(child=deployment(), pods=(pod(),))
    lost = status_of(child=deployment(), pods=(pod(problems=["CredentialsMissing"]),))
    assert told(ready, lost) == [("Ready", "False", "DependencyNotReady", True)]
