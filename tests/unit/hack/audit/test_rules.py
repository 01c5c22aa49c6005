"""Each rule catches what it is there for, and a good status breaks none."""

from typing import Any

import pytest

from hack.audit.rules import broken, changed, kstatus

Obj = dict[str, Any]


def condition(kind: str, status: str = "True", reason: str = "R", message: str = "m", of: int = 2, at: int = 0) -> Obj:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": of,
        "lastTransitionTime": f"2026-01-01T00:00:0{at}Z",
    }


def status(*conditions: Obj, observed: int = 2) -> Obj:
    return {"observedGeneration": observed, "conditions": list(conditions)}


READY, NOT_READY = condition("Ready"), condition("Ready", "False")


@pytest.mark.parametrize(
    "good",
    [
        status(READY, condition("Degraded")),
        status(NOT_READY, condition("Reconciling")),
        status(NOT_READY, condition("Stalled")),
        status(NOT_READY),
        status(condition("Ready", "False", of=1), observed=1),
    ],
)
def test_what_is_right_breaks_nothing(good: Obj) -> None:
    assert broken(2, good) == []


@pytest.mark.parametrize(
    ("rule", "bad"),
    [
        ("FAIL0001", status(READY, condition("Stalled"))),
        ("FAIL0002", status(condition("Available"))),
        ("FAIL0003", status(condition("Ready", "Unknown"), condition("Reconciling"))),
        ("FAIL0004", status(condition("Ready", "Unknown"), condition("Stalled"))),
        ("FAIL0005", status(NOT_READY, condition("Reconciling"), condition("Stalled"))),
        ("FAIL0006", status(NOT_READY, observed=3)),
        ("FAIL0007", status(READY, observed=1)),
        ("FAIL0008", status(READY, condition("Available", of=1))),
        ("FAIL0009", status(condition("Ready", of=1))),
        ("FAIL0011", status(condition("Ready", "Unknown"))),
        ("WARN0001", status(READY, condition("Reconciling", "False"))),
        ("WARN0002", status(NOT_READY, condition("Stalled", message="other"))),
        ("WARN0003", status(NOT_READY, condition("Reconciling", "False"))),
        ("WARN0004", status(NOT_READY, condition("Stalled", "False"))),
        ("WARN0005", status(NOT_READY, {**condition("Available"), "observedGeneration": 0})),
    ],
)
def test_each_rule_is_broken_by_what_it_forbids(rule: str, bad: Obj) -> None:
    assert rule in [name.split()[0] for name in broken(2, bad)]


def test_tools_read_an_object_in_their_documented_order() -> None:
    def seen(found: Obj, **meta: Any) -> str:
        return kstatus({"metadata": {"generation": 2, **meta}, "status": found})

    stalled = status(NOT_READY, condition("Stalled"))
    assert seen(stalled, deletionTimestamp="2026-01-01T00:00:00Z") == "Terminating"
    assert seen({**stalled, "observedGeneration": 1}) == "InProgress"
    assert seen(stalled) == "Failed"
    assert seen(status(condition("Reconciling"), condition("Stalled"))) == "InProgress", "the first in the list"
    assert seen(status(READY)) == "Current"
    assert seen(status(NOT_READY)) == "InProgress"
    assert seen(status(condition("Ready", "Unknown"))) == "InProgress"
    assert seen({}) == "Current"
    assert seen({"observedGeneration": -1}) == "InProgress"


def test_a_time_that_moves_without_a_flip_is_found() -> None:
    before = status(condition("Ready", at=1))
    assert changed(before, status(condition("Ready", at=1, message="other"))) == []
    assert changed(before, status(condition("Ready", "False", at=2))) == []
    assert changed(before, status(condition("Ready", at=2))) == ["TIME of Ready moved without a flip"]
    assert "TIME of Ready went back" in changed(before, status(condition("Ready", "False", at=0)))
    assert changed(status(), before) == []


@pytest.mark.parametrize(
    ("was", "now", "counts"),
    [
        ("3 of 4 pods are ready", "4 of 4 pods are ready", True),
        ("not applied by p1", "not applied by p2", False),
        ("ends with exit code 1", "cannot be pulled", False),
    ],
)
def test_a_message_that_counts_is_found(was: str, now: str, counts: bool) -> None:
    found = changed(status(condition("Ready", message=was)), status(condition("Ready", message=now)))
    assert bool(found) is counts
