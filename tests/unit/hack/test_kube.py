import pytest

from hack.lab import kube

BRIDGE = {"status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "Degraded", "status": "True"}]}}


def test_conditions_are_found_by_type() -> None:
    assert kube.is_true(BRIDGE, "Degraded")
    assert not kube.is_true(BRIDGE, "Ready")
    assert kube.condition(BRIDGE, "Stalled") is None
    assert kube.condition(None, "Ready") is None


def test_waiting_in_vain_says_for_what_and_what_was_there() -> None:
    with pytest.raises(kube.NotInTime, match=r"a pod did not come within 0 s; there is: nothing"):
        kube.wait_for("a pod", lambda: None, timeout_s=0, seen=lambda: "nothing")


def test_waiting_ends_with_what_was_found() -> None:
    answers = iter([None, False, "here"])

    assert kube.wait_for("it", lambda: next(answers), timeout_s=5, every_s=0) == "here"
