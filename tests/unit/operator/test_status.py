"""What a status says: single cases by name, and the rules of its readers over everything that can come up."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from auralink_operator.index import Obj
from auralink_operator.models import Compiled, CompiledPolicy, PodView, parse_bridge, parse_policy
from auralink_operator.status import (
    DEGRADING,
    MatchedBridge,
    Outcome,
    Problem,
    Status,
    derive,
    derive_invalid,
    derive_policy,
    flips,
    next_look_s,
    same,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.operator import samples
from tests.unit.operator.flux_rules import broken, kstatus

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
DONE = Outcome(config_generation=3, config_hash="h3", selector="a=b")


def pod(name: str = "p1", *, acked: int = 3, ready: bool = True, phase: str = "Serving", **entry: Any) -> PodView:
    reported = {"name": name, "uid": f"uid-{name}", "phase": phase, "configGeneration": acked, **entry}
    return PodView(name, f"uid-{name}", "10.0.0.1", "node", ready, False, reported)


def deployment(replicas: int = 1, *, ready: int | None = None, **conditions: tuple[str, str, str]) -> Obj:
    counts = {"replicas": replicas, "updatedReplicas": replicas}
    have = replicas if ready is None else ready
    return {
        "metadata": {"generation": 2},
        "status": {
            "observedGeneration": 2,
            **counts,
            "readyReplicas": have,
            "availableReplicas": have,
            "conditions": [
                {"type": name, "status": status, "reason": reason, "message": message}
                for name, (status, reason, message) in conditions.items()
            ],
        },
    }


def status_of(
    bridge: Obj | None = None,
    *,
    child: Obj | None = None,
    pods: tuple[PodView, ...] = (),
    outcome: Outcome = DONE,
    compiled: Compiled | None = None,
    now: datetime = NOW,
) -> Status:
    obj = bridge or samples.bridge()
    return derive(parse_bridge(obj), child, pods, compiled or Compiled(), outcome, now)


def conditions(status: Status) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}


def message(status: Status, of: str) -> str:
    return str(next(c["message"] for c in status["conditions"] if c["type"] == of))


def test_ready_once_pods_are_there_and_have_acknowledged() -> None:
    status = status_of(child=deployment(), pods=(pod(),))
    assert conditions(status) == {
        "Ready": ("True", "Succeeded"),
        "Available": ("True", "PodServing"),
        "ConfigAcked": ("True", "AllPodsAcked"),
    }
    assert status["config"] == {"desiredGeneration": 3, "ackedGeneration": 3, "hash": "h3"}
    assert kstatus(1, samples.bridge(status=status)) == "Current"


def test_a_bridge_that_nobody_has_looked_at_is_in_progress() -> None:
    assert kstatus(1, samples.bridge()) == "InProgress"


def test_no_pod_wanted_is_ready() -> None:
    status = status_of(samples.bridge(replicas=0), child=deployment(0))
    assert conditions(status)["Ready"] == ("True", "Succeeded")
    assert conditions(status)["ConfigAcked"] == ("False", "NoPods")


@pytest.mark.parametrize(
    "child",
    [
        None,
        deployment(2, ready=1),
        {**deployment(2), "metadata": {"generation": 3}},
        {"metadata": {"generation": 1}},
    ],
    ids=["missing", "starting", "not observed", "no status"],
)
def test_a_deployment_on_its_way_is_progressing(child: Obj | None) -> None:
    status = status_of(samples.bridge(replicas=2), child=child, pods=(pod("p1"), pod("p2")))
    assert conditions(status)["Ready"] == ("False", "Progressing")
    assert conditions(status)["Reconciling"] == ("True", "Progressing")


def test_an_old_pod_beside_enough_new_ones_does_not_matter_to_readiness() -> None:
    child = deployment(2)
    child["status"]["replicas"] = 3
    assert conditions(status_of(samples.bridge(replicas=2), child=child, pods=(pod(),)))["Ready"][0] == "True"


def test_what_the_deployment_says_is_forbidden_is_the_user_s_to_mend() -> None:
    said = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": hostPort'
    status = status_of(child=deployment(ready=0, ReplicaFailure=("True", "FailedCreate", said)))
    assert conditions(status)["Stalled"] == ("True", "PodSecurityForbidden")
    assert said in message(status, "Ready")
    assert kstatus(1, samples.bridge(status=status)) == "Failed"


def test_a_quota_is_waited_for() -> None:
    said = 'pods "x" is forbidden: exceeded quota: compute'
    status = status_of(child=deployment(ready=0, ReplicaFailure=("True", "FailedCreate", said)))
    assert conditions(status)["Reconciling"] == ("True", "Progressing")
    assert "exceeded quota" in message(status, "Ready")


def test_pods_that_never_come_up_are_stalled() -> None:
    status = status_of(child=deployment(ready=0, Progressing=("False", "ProgressDeadlineExceeded", "")))
    assert conditions(status)["Stalled"] == ("True", "ProgressDeadlineExceeded")


def test_pods_behind_are_propagating_for_a_minute_and_then_named() -> None:
    pods = tuple(pod(f"p{n}", acked=2) for n in range(7))
    first = status_of(child=deployment(7), pods=pods, bridge=samples.bridge(replicas=7))
    assert conditions(first)["Ready"] == ("False", "ConfigPropagating")
    assert next_look_s(first, NOW) == 60.0
    later = NOW + timedelta(seconds=61)
    second = status_of(samples.bridge(replicas=7, status=first), child=deployment(7), pods=pods, now=later)
    assert conditions(second)["Ready"] == ("False", "ProgressingWithRetry")
    assert "p0, p1, p2, p3, p4 and others" in message(second, "Ready")
    assert next_look_s(second, later) is None


def test_pods_that_start_or_drain_need_not_acknowledge() -> None:
    pods = (pod("p1"), pod("p2", acked=0, phase="Starting"), pod("p3", acked=1, phase="Draining"))
    status = status_of(child=deployment(), pods=pods)
    assert conditions(status)["ConfigAcked"] == ("True", "AllPodsAcked")
    assert conditions(status)["Draining"] == ("True", "PodsDraining")
    assert status["drainingReplicas"] == 1


def test_pods_without_credentials_keep_a_bridge_from_ready_with_their_words() -> None:
    missing = pod(problems=["CredentialsMissing"], message="Secret tls has no key ca.crt")
    status = status_of(child=deployment(), pods=(missing,))
    assert conditions(status)["Reconciling"] == ("True", "DependencyNotReady")
    assert "Secret tls has no key ca.crt" in message(status, "Ready")
    assert "Degraded" not in conditions(status)


def test_missing_credentials_are_named_from_the_spec_where_the_pod_says_nothing() -> None:
    bridge = samples.bridge(aiCore={"tlsSecretName": "tls"}, api={"tokenRef": {"name": "api", "key": "t"}})
    status = status_of(bridge, child=deployment(), pods=(pod(problems=["CredentialsMissing"]),))
    assert "create Secret api and tls" in message(status, "Ready")


def test_the_worst_problem_degrades_and_says_what_to_do() -> None:
    pods = (
        pod("p1", problems=["PacketLoss"]),
        pod("p2", problems=["CompressionDisabled", "AICoreUnavailable"], message="x"),
    )
    status = status_of(samples.bridge(replicas=2), child=deployment(2), pods=pods)
    assert conditions(status)["Degraded"] == ("True", "AICoreUnavailable")
    assert "p2" in message(status, "Degraded")
    assert "p1" not in message(status, "Degraded")
    assert "spec.aiCore.addresses" in message(status, "Degraded")
    assert message(status, "Degraded").endswith("(x)")
    assert conditions(status)["Ready"][0] == "True"


def test_a_leg_that_carries_nothing_degrades_in_the_words_of_its_pod() -> None:
    said = "room r, leg b: video.remote x:1 does not resolve"
    status = status_of(child=deployment(), pods=(pod("p1", problems=["LegNotOpen"], message=said),))
    assert conditions(status)["Degraded"] == ("True", "LegNotOpen")
    assert message(status, "Degraded").endswith(f"({said})")
    assert conditions(status)["Ready"][0] == "True"


def test_suspended_is_ready_until_something_differs() -> None:
    bridge = samples.bridge(suspend=True)
    calm = status_of(bridge, child=deployment(), pods=(pod(),))
    assert conditions(calm)["Ready"][0] == "True"
    assert conditions(calm)["Suspended"] == ("True", "SuspendedByUser")
    changed = Outcome(config_generation=3, unapplied=("Deployment auralink-b (.spec.replicas)",))
    status = status_of(bridge, child=deployment(), pods=(pod(),), outcome=changed)
    assert conditions(status)["Ready"] == ("False", "Suspended")
    assert "Deployment auralink-b" in message(status, "Ready")
    assert "Reconciling" not in conditions(status)


def test_too_many_policies_are_reported_with_those_left_out() -> None:
    status = status_of(child=deployment(), pods=(pod(),), compiled=Compiled((), ("late",)))
    assert conditions(status)["PolicyConflict"] == ("True", "TooManyPolicies")
    assert "late" in message(status, "PolicyConflict")


def test_figures_are_those_of_the_pods() -> None:
    pods = (
        pod("p1", rooms=2, sessions=3, savedPercent=40, version="1.0"),
        pod("p2", rooms=1, sessions=1, savedPercent=20, version="1.1"),
        pod("p3", rooms=0, sessions=0, version="1.1"),
    )
    status = status_of(samples.bridge(replicas=3), child=deployment(3), pods=pods)
    assert (status["rooms"], status["sessions"], status["savedPercent"]) == (3, 4, 35)
    assert status["version"] == "1.0,1.1"


def test_the_time_of_a_condition_moves_with_its_status_only() -> None:
    first = status_of(child=deployment(ready=0))
    later = NOW + timedelta(minutes=5)
    again = status_of(samples.bridge(status=first), child=deployment(ready=0), pods=(pod(ready=False),), now=later)
    assert {c["lastTransitionTime"] for c in again["conditions"]} == {"2026-01-01T12:00:00Z"}
    ready = status_of(samples.bridge(status=again), child=deployment(), pods=(pod(),), now=later)
    assert {c["lastTransitionTime"] for c in ready["conditions"]} == {"2026-01-01T12:05:00Z"}


def test_a_steady_status_is_the_same_whenever_it_is_derived() -> None:
    first = status_of(child=deployment(), pods=(pod(),))
    later = status_of(
        samples.bridge(status={**first, "pods": [samples.entry("p1", 3)]}),
        child=deployment(),
        pods=(pod(),),
        now=NOW + timedelta(days=1),
    )
    assert same(first, {**later, "pods": []})


def test_a_request_of_flux_is_answered() -> None:
    bridge = samples.bridge()
    bridge["metadata"]["annotations"] = {"reconcile.fluxcd.io/requestedAt": "2026-01-01"}
    assert status_of(bridge)["lastHandledReconcileAt"] == "2026-01-01"


def test_a_spec_that_cannot_be_read_keeps_what_is_known() -> None:
    known = status_of(child=deployment(), pods=(pod(),))
    status = derive_invalid(parse_bridge(samples.bridge(generation=2, status=known)).meta, "spec.x: wrong", NOW)
    assert status["config"] == known["config"]
    assert status["observedGeneration"] == 2
    assert broken(2, status) == []
    assert kstatus(2, samples.bridge(status=status)) == "Failed"


def test_only_flips_are_worth_an_event() -> None:
    before = status_of(child=deployment(ready=0))
    ready = status_of(samples.bridge(status=before), child=deployment(), pods=(pod(),))
    assert [(f.type, f.status, f.reason) for f in flips(before, ready)] == [("Ready", "True", "Succeeded")]
    assert flips(ready, ready) == []
    worse = status_of(samples.bridge(status=ready), child=deployment(), pods=(pod(problems=["AICoreUnavailable"]),))
    assert [(f.type, f.status) for f in flips(ready, worse)] == [("Degraded", "True")]
    assert [(f.type, f.status) for f in flips(worse, ready)] == [("Degraded", "False")]
    assert flips({}, before) == []


# --- policies ----------------------------------------------------------------------------------------------------


def test_a_policy_is_ready_once_every_bridge_carries_it() -> None:
    policy = parse_policy(samples.policy("p", mode="Auto"))
    behind = derive_policy(policy, [MatchedBridge("a", 1), MatchedBridge("b", None)], NOW)
    assert conditions(behind)["Ready"] == ("False", "Progressing")
    assert "b" in message(behind, "Ready")
    ready = derive_policy(policy, [MatchedBridge("a", 1), MatchedBridge("b", 1)], NOW)
    assert conditions(ready) == {"Ready": ("True", "Succeeded"), "Resolved": ("True", "BridgesMatched")}
    assert ready["matchedBridgeCount"] == 2
    alone = derive_policy(policy, [], NOW)
    assert conditions(alone) == {"Ready": ("True", "Succeeded"), "Resolved": ("False", "NoBridgeMatched")}
    assert message(alone, "Ready") == "selects no bridge yet"
    assert [broken(1, status) for status in (behind, ready, alone)] == [[], [], []]


# --- everything that can come up ---------------------------------------------------------------------------------

problems = st.lists(st.sampled_from([*DEGRADING, "CredentialsMissing"]), max_size=3, unique=True)
pod_views = st.lists(
    st.builds(
        pod,
        st.sampled_from(["p1", "p2", "p3"]),
        acked=st.integers(0, 4),
        ready=st.booleans(),
        phase=st.sampled_from(["Starting", "Serving", "Draining"]),
        problems=problems,
        sessions=st.integers(0, 50),
    ),
    max_size=3,
    unique_by=lambda view: view.name,
).map(tuple)
deployments = st.none() | st.builds(
    deployment,
    st.integers(0, 3),
    ready=st.integers(0, 3),
    ReplicaFailure=st.sampled_from(
        [("False", "", ""), ("True", "FailedCreate", "forbidden: violates PodSecurity"), ("True", "X", "is forbidden")]
    ),
    Progressing=st.sampled_from([("True", "", ""), ("False", "ProgressDeadlineExceeded", "")]),
)
texts = st.none() | st.builds(Problem, st.sampled_from(["InvalidSpec", "NameConflict", "Progressing"]), st.just("why"))
outcomes = st.builds(
    Outcome,
    config_generation=st.integers(0, 4),
    stalled=texts,
    failing=st.sampled_from(["", "the API server does not answer"]),
    waiting=texts,
    unapplied=st.sampled_from([(), ("Service x (missing)",)]),
)
compiled_policies = st.sampled_from([Compiled(), Compiled((CompiledPolicy("p", 0, 1, {}, {}),), ("q",))])


@given(
    st.data(),
    st.integers(1, 9),
    st.integers(0, 3),
    st.booleans(),
)
def test_every_status_keeps_the_rules_of_its_readers(
    data: st.DataObject, generation: int, replicas: int, suspend: bool
) -> None:
    status: Status = {"observedGeneration": -1}
    for step in range(3):
        bridge = samples.bridge(generation=generation + step, status=status, replicas=replicas, suspend=suspend)
        status = status_of(
            bridge,
            child=data.draw(deployments),
            pods=data.draw(pod_views),
            outcome=data.draw(outcomes),
            compiled=data.draw(compiled_policies),
            now=NOW + timedelta(seconds=40 * step),
        )
        assert broken(generation + step, status) == []
        assert len({c["type"] for c in status["conditions"]}) == len(status["conditions"])
