"""What a bridge's status says beside Ready: figures, addresses, policies, and when it is looked at again."""

from datetime import timedelta

import pytest
from auralink_operator.models import Compiled, CompiledPolicy, Conflict, PublicAddress, parse_bridge, pod_views
from auralink_operator.status import Outcome, Problem, derive_invalid, next_look_s, same

from hack.audit.rules import broken
from tests.unit.operator import samples
from tests.unit.operator.status.scenes import (
    DONE,
    NOW,
    condition,
    conditions,
    deployment,
    hpa,
    kstatus_of,
    message,
    pod,
    raw_pod,
    seen,
    status_of,
)


def test_ready_once_pods_are_there_and_have_acknowledged() -> None:
    status = status_of(child=deployment(), pods=(pod(),))
    assert conditions(status) == {
        "Ready": ("True", "Succeeded"),
        "Available": ("True", "PodServing"),
        "ConfigAcked": ("True", "AllPodsAcked"),
        "ExposureReady": ("True", "NotRequired"),
    }
    assert status["config"] == {"desiredGeneration": 3, "ackedGeneration": 3, "hash": "h3"}
    assert kstatus_of(status) == "Current"


def test_a_bridge_that_nobody_has_looked_at_is_in_progress() -> None:
    assert kstatus_of({"observedGeneration": -1}) == "InProgress"


def test_figures_are_those_of_the_pods() -> None:
    pods = (
        pod("p1", rooms=2, sessions=3, savedPercent=40, version="1.0"),
        pod("p2", rooms=1, sessions=1, savedPercent=20, version="1.1"),
        pod("p3", rooms=0, sessions=0, version="1.1"),
    )
    status = status_of(samples.bridge(replicas=3), child=deployment(3), pods=pods)
    assert (status["rooms"], status["sessions"], status["savedPercent"]) == (3, 4, 35)
    assert status["version"] == "1.0,1.1"


def test_a_pod_without_sessions_does_not_weigh_on_what_is_saved() -> None:
    pods = (pod("p1", sessions=1, savedPercent=40), pod("p2", sessions=0, savedPercent=0), pod("p3", sessions=5))
    assert status_of(child=deployment(), pods=pods)["savedPercent"] == 40
    assert "savedPercent" not in status_of(child=deployment(), pods=(pod(sessions=0, savedPercent=10),))


def test_entries_from_before_there_were_bounds_make_no_status_that_is_refused() -> None:
    """The sum of what two pods say would not be an int64, and the status of the bridge could never be written."""
    lie = {"rooms": 2**62, "sessions": 2**63 - 1, "savedPercent": 5000, "configGeneration": 2**63 - 1}
    names = ("p1", "p2")
    entries = [{**samples.entry(name), **lie} for name in names]
    entries.append({**samples.entry("p3"), "rooms": -5, "sessions": None})
    pods = pod_views([samples.pod(name) for name in (*names, "p3")], {"pods": entries})
    status = status_of(child=deployment(3), pods=pods)
    assert (status["rooms"], status["sessions"], status["savedPercent"]) == (2_000_000, 2_000_000, 100)
    assert status["config"]["ackedGeneration"] == 1
    assert [pod.acked for pod in pods] == [2**53 - 1, 2**53 - 1, 1]


def test_public_addresses_are_listed_by_name() -> None:
    addresses = {
        "b/in/video": PublicAddress("203.0.113.2", "", 30002, "p2"),
        "a/in/video": PublicAddress("", "lb.example.org", 5004, "p1"),
    }
    rooms = [samples.room("a"), samples.room("b", 5014)]
    exposed = samples.bridge(exposure={"mode": "NodePort"}, rooms=rooms)
    status = status_of(exposed, child=deployment(), pods=(pod(),), addresses=addresses)
    assert status["endpoints"] == [
        {"name": "a/in/video", "pod": "p1", "hostname": "lb.example.org", "port": 5004, "protocol": "UDP"},
        {"name": "b/in/video", "pod": "p2", "ip": "203.0.113.2", "port": 30002, "protocol": "UDP"},
    ]
    assert conditions(status)["ExposureReady"] == ("True", "AddressKnown")


def test_a_list_of_addresses_is_bounded() -> None:
    addresses = {f"r{n:03}/in/video": PublicAddress("10.0.0.1", "", 5004, "p1") for n in range(300)}
    assert len(status_of(child=deployment(), addresses=addresses)["endpoints"]) == 256


def test_pods_that_drain_are_named_and_counted() -> None:
    pods = (pod("p1"), pod("p3", acked=1, phase="Draining"))
    status = status_of(child=deployment(), pods=pods)
    assert conditions(status)["Draining"] == ("True", "PodsDraining")
    assert "p3" in message(status, "Draining")
    assert status["drainingReplicas"] == 1


# --- Degraded ------------------------------------------------------------------------------------------------------


def test_the_worst_problem_degrades_and_says_what_to_do() -> None:
    pods = (
        pod("p1", problems=["PacketLoss"]),
        pod("p2", problems=["CompressionDisabled", "AICoreUnavailable"], message="x"),
    )
    status = status_of(samples.bridge(replicas=2), child=deployment(2), pods=pods)
    assert conditions(status)["Degraded"] == ("True", "AICoreUnavailable")
    assert "spec.aiCore.addresses" in message(status, "Degraded")
    assert message(status, "Degraded").endswith("(seen by p2: x)")
    assert conditions(status)["Ready"][0] == "True"


def test_a_leg_that_carries_nothing_degrades_in_the_words_of_its_pod() -> None:
    said = "room r, leg b: video.remote x:1 does not resolve"
    status = status_of(child=deployment(), pods=(pod("p1", problems=["LegNotOpen"], message=said),))
    assert conditions(status)["Degraded"] == ("True", "LegNotOpen")
    assert said in message(status, "Degraded")
    assert conditions(status)["Ready"][0] == "True"


SCALED = {"maxReplicas": 5}


def test_an_autoscaler_without_metrics_degrades_after_a_while() -> None:
    bridge = samples.bridge(autoscaling=SCALED)
    pods = (pod("p1"), pod("p2"))

    def at(since_s: float, reason: str = "FailedGetPodsMetric") -> str:
        scaler = hpa(condition("ScalingActive", "False", reason, "unable to get metric", since_s))
        status = status_of(bridge, child=deployment(2), scaler=scaler, pods=pods)
        assert conditions(status)["Ready"][0] == "True"
        return conditions(status).get("Degraded", ("", ""))[1]

    assert at(30) == ""  # pods that have just come have no metrics yet
    assert at(91) == "AutoscalerBlind"
    assert at(91, "ScalingDisabled") == ""  # nothing to scale


def test_a_blind_autoscaler_is_looked_at_again_when_it_is_to_be_said() -> None:
    bridge = samples.bridge(autoscaling=SCALED)
    scaler = hpa(condition("ScalingActive", "False", "FailedGetPodsMetric", "", 30))
    status = status_of(bridge, child=deployment(2), scaler=scaler, pods=(pod("p1"), pod("p2")))
    assert next_look_s(status, seen(bridge, deployment(2), scaler), NOW) == 60.0


@pytest.mark.parametrize(("driver", "actor"), [("HPA", "HorizontalPodAutoscaler"), ("Operator", "the operator itself")])
def test_ready_says_who_scales(driver: str, actor: str) -> None:
    bridge = samples.bridge(autoscaling={**SCALED, "driver": driver})
    said = message(status_of(bridge, child=deployment(2), pods=(pod("p1"), pod("p2"))), "Ready")
    assert actor in said
    assert "from 2 to 5" in said


def test_growth_that_finds_no_node_degrades_and_stays_ready() -> None:
    more = raw_pod("p3", unschedulable="0/3 nodes are available: 3 Insufficient cpu.")
    bridge = samples.bridge(autoscaling=SCALED)
    pods = (pod("p1"), pod("p2"))
    status = status_of(bridge, child=deployment(3, ready=2), pods=pods, raw_pods=(more,))
    assert conditions(status)["Ready"][0] == "True"
    assert conditions(status)["Degraded"] == ("True", "Unschedulable")
    refused = condition("ReplicaFailure", "True", "FailedCreate", "exceeded quota: pods")
    status = status_of(bridge, child=deployment(3, refused, ready=2, updated=3), pods=pods)
    assert conditions(status)["Degraded"] == ("True", "PodsRefused")
    assert "exceeded quota" in message(status, "Degraded")


# --- policies ------------------------------------------------------------------------------------------------------


def test_too_many_policies_are_reported_with_those_left_out() -> None:
    status = status_of(child=deployment(), pods=(pod(),), compiled=Compiled((), ("late",)))
    assert conditions(status)["PolicyConflict"] == ("True", "TooManyPolicies")
    assert "late" in message(status, "PolicyConflict")


def test_policies_of_one_priority_that_disagree_are_reported_with_field_winner_and_why() -> None:
    clash = Conflict("compression.mode", "old", "new", 5, "both have priority 5, old is older")
    status = status_of(child=deployment(), pods=(pod(),), compiled=Compiled(conflicts=(clash,)))
    assert conditions(status)["PolicyConflict"] == ("True", "SamePriority")
    said = message(status, "PolicyConflict")
    assert "compression.mode of old wins over new (both have priority 5, old is older)" in said
    assert "different priorities" in said
    both = status_of(child=deployment(), compiled=Compiled(dropped=("late",), conflicts=(clash,)))
    assert conditions(both)["PolicyConflict"] == ("True", "TooManyPolicies")
    assert "compression.mode" in message(both, "PolicyConflict")


def test_policies_are_listed_in_the_order_in_which_they_merge() -> None:
    compiled = Compiled((CompiledPolicy("z", 9, 2, {}, {}, ("codecs: y",)), CompiledPolicy("a", 0, 1, {}, {})))
    assert status_of(compiled=compiled)["appliedPolicies"] == [
        {"name": "z", "priority": 9, "observedGeneration": 2, "overridden": ["codecs: y"]},
        {"name": "a", "priority": 0, "observedGeneration": 1},
    ]


# --- writes --------------------------------------------------------------------------------------------------------


def test_a_request_is_answered_once_it_has_been_carried_out() -> None:
    asked = samples.bridge()
    asked["metadata"]["annotations"] = {"reconcile.fluxcd.io/requestedAt": "two"}
    assert "lastHandledReconcileAt" not in status_of(asked)
    done = status_of(asked, outcome=Outcome(handled="two"))
    assert done["lastHandledReconcileAt"] == "two"
    assert status_of(samples.bridge(status=done))["lastHandledReconcileAt"] == "two"


def test_the_time_of_a_condition_moves_with_its_status_only() -> None:
    first = status_of(child=deployment(ready=0))
    later = NOW + timedelta(minutes=5)
    again = status_of(samples.bridge(status=first), child=deployment(ready=0), pods=(pod(ready=False),), now=later)
    assert {c["lastTransitionTime"] for c in again["conditions"]} == {"2026-01-01T12:00:00Z"}
    ready = status_of(samples.bridge(status=again), child=deployment(), pods=(pod(),), now=later)
    times = {c["type"]: c["lastTransitionTime"] for c in ready["conditions"]}
    assert times["Ready"] == times["Available"] == times["ConfigAcked"] == "2026-01-01T12:05:00Z"
    assert times["ExposureReady"] == "2026-01-01T12:00:00Z"


def test_a_steady_status_is_the_same_whenever_it_is_derived() -> None:
    first = status_of(child=deployment(), pods=(pod(),))
    known = samples.bridge(status={**first, "pods": [samples.entry("p1", 3)]})
    later = status_of(known, child=deployment(), pods=(pod(),), now=NOW + timedelta(days=1))
    assert same({**first, "pods": []}, later)


def test_a_reconcile_that_failed_early_keeps_the_configuration_that_is_known() -> None:
    known = status_of(child=deployment(), pods=(pod(),))
    status = status_of(samples.bridge(status=known), outcome=Outcome(stalled=Problem("InvalidSpec", "why")))
    assert (status["config"], status["selector"]) == (known["config"], known["selector"])


def test_a_spec_that_cannot_be_read_keeps_what_is_known() -> None:
    known = status_of(child=deployment(), pods=(pod(),))
    status = derive_invalid(parse_bridge(samples.bridge(generation=2, status=known)).meta, "spec.x: wrong", NOW)
    assert status["config"] == known["config"]
    assert conditions(status) == {
        "Ready": ("False", "InvalidSpec"),
        "Stalled": ("True", "InvalidSpec"),
        "Available": ("True", "PodServing"),
        "ConfigAcked": ("True", "AllPodsAcked"),
        "ExposureReady": ("True", "NotRequired"),
    }
    assert broken(2, status) == []
    assert kstatus_of(status, 2) == "Failed"


def test_a_long_message_of_somebody_else_is_cut() -> None:
    status = status_of(outcome=Outcome(stalled=Problem("InvalidSpec", "x" * 9000)))
    assert len(message(status, "Ready")) == 4096
    assert message(status, "Ready").endswith("…")


def test_nothing_is_looked_at_again_while_nothing_is_behind() -> None:
    assert next_look_s(status_of(child=deployment(), pods=(pod(),)), seen(samples.bridge(), None), NOW) is None
    assert DONE.exposure is None
