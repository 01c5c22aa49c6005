"""Why a bridge is not ready, case by case, and who is to act."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from auralink_operator.index import Obj
from auralink_operator.models import PROBLEMS, PublicAddress
from auralink_operator.status import DEGRADING, Outcome, Problem, Status, next_look_s

from tests.unit.operator import samples
from tests.unit.operator.status.scenes import (
    DONE,
    NOW,
    condition,
    conditions,
    crashed,
    deployment,
    kstatus_of,
    message,
    pod,
    raw_pod,
    seen,
    status_of,
    waiting,
)


def refused(said: str) -> Obj:
    return deployment(1, condition("ReplicaFailure", "True", "FailedCreate", said), ready=0)


def test_no_pod_wanted_is_ready() -> None:
    status = status_of(samples.bridge(replicas=0), child=deployment(0))
    assert conditions(status)["Ready"] == ("True", "Succeeded")
    assert conditions(status)["ConfigAcked"] == ("False", "NoPods")


@pytest.mark.parametrize(
    "child",
    [
        None,
        deployment(2, ready=1),
        deployment(2, generation=3),
        deployment(2, updated=1),
        {"metadata": {"generation": 1}},
    ],
    ids=["missing", "starting", "not observed", "rolling", "no status"],
)
def test_a_deployment_on_its_way_is_progressing(child: Obj | None) -> None:
    status = status_of(samples.bridge(replicas=2), child=child, pods=(pod("p1"), pod("p2")))
    assert conditions(status)["Ready"] == ("False", "Progressing")
    assert conditions(status)["Reconciling"] == ("True", "Progressing")


def test_an_old_pod_still_there_may_be_the_one_that_is_ready() -> None:
    """A rollout's new pod counts as updated before it is ready: the counts alone look like one that is over."""
    child = deployment(2, ready=1, updated=1)
    assert conditions(status_of(samples.bridge(replicas=1), child=child, pods=(pod(),)))["Ready"][0] == "False"


# --- autoscaling -----------------------------------------------------------------------------------------------------

TWO_TO_NINE = {"minReplicas": 2, "maxReplicas": 9}
TWO = (pod("p1"), pod("p2"))


def scaled(
    child: Obj, status: Status | None = None, generation: int = 1, *, template_seen: bool = True
) -> tuple[str, str]:
    bridge = samples.bridge(autoscaling=TWO_TO_NINE, status=status, generation=generation)
    outcome = replace(DONE, template_seen=template_seen)
    return conditions(status_of(bridge, child=child, pods=TWO, outcome=outcome))["Ready"]


def test_growth_leaves_a_bridge_ready() -> None:
    ready = status_of(samples.bridge(autoscaling=TWO_TO_NINE), child=deployment(2), pods=TWO)
    assert scaled(deployment(5, ready=2)) == ("True", "Succeeded")
    assert scaled(deployment(2, generation=3), ready) == ("True", "Succeeded"), "not seen by its controller yet"


def test_fewer_pods_than_the_least_are_not_enough() -> None:
    assert scaled(deployment(5, ready=1)) == ("False", "Progressing")


def test_a_rollout_under_autoscaling_is_not_taken_for_growth() -> None:
    assert scaled(deployment(5, updated=3)) == ("False", "Progressing")
    ready = status_of(samples.bridge(autoscaling=TWO_TO_NINE), child=deployment(2), pods=TWO)
    assert scaled(deployment(2, generation=3), ready, generation=2) == ("False", "Progressing"), "the spec has changed"
    assert scaled(deployment(2, generation=3), ready, template_seen=False) == ("False", "Progressing"), "new pods"


# --- pods that cannot be created or started --------------------------------------------------------------------------


def test_what_pod_security_forbids_is_the_user_s_to_mend() -> None:
    said = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": hostPort'
    status = status_of(samples.bridge(exposure={"mode": "HostPort"}), child=refused(said))
    assert conditions(status)["Stalled"] == ("True", "PodSecurityForbidden")
    assert conditions(status)["ExposureReady"] == ("False", "PodSecurityForbidden")
    assert said in message(status, "Ready")
    assert "pod-security.kubernetes.io/enforce" in message(status, "Ready")
    assert kstatus_of(status) == "Failed"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ('pods "x" is forbidden: maximum memory usage per Container is 64Mi', "AccessDenied"),
        ('pods "x" is forbidden: no PriorityClass with name high was found', "InvalidSpec"),
        ('Pod "x" is invalid: spec.containers[1].image: Required value', "InvalidSpec"),
    ],
)
def test_pods_that_are_refused_for_good_are_stalled_with_the_server_s_words(said: str, reason: str) -> None:
    status = status_of(child=refused(said))
    assert conditions(status)["Stalled"] == ("True", reason)
    assert said in message(status, "Ready")


@pytest.mark.parametrize(
    "said",
    [
        'pods "x" is forbidden: exceeded quota: compute',
        'pods "x" is forbidden: error looking up service account ns/auralink-b: not found',
        "Internal error occurred: failed calling webhook",
    ],
)
def test_what_may_pass_is_waited_for(said: str) -> None:
    status = status_of(child=refused(said))
    assert conditions(status)["Reconciling"] == ("True", "ProgressingWithRetry")
    assert said in message(status, "Ready")


def test_what_was_refused_before_the_last_change_does_not_count() -> None:
    child = refused("violates PodSecurity")
    child["metadata"]["generation"] = 3
    assert conditions(status_of(child=child))["Ready"] == ("False", "Progressing")


def test_an_image_that_is_missing_is_said_at_once() -> None:
    stuck = raw_pod("p1", waiting("ErrImagePull", "rpc error: code = NotFound: not found", image="registry/nothing:1"))
    status = status_of(child=deployment(ready=0), raw_pods=(stuck,))
    assert conditions(status)["Reconciling"] == ("True", "ProgressingWithRetry")
    assert "registry/nothing:1" in message(status, "Ready")
    assert "spec.image" in message(status, "Ready")


def test_pods_that_never_come_up_are_stalled_with_what_they_say() -> None:
    given_up = condition("Progressing", "False", "ProgressDeadlineExceeded")
    silent = status_of(child=deployment(1, given_up, ready=0))
    assert conditions(silent)["Stalled"] == ("True", "ProgressDeadlineExceeded")
    status = status_of(child=deployment(1, given_up, ready=0), raw_pods=(raw_pod("p1", crashed(1)),))
    assert conditions(status)["Stalled"] == ("True", "ProgressDeadlineExceeded")
    assert "exit code 1" in message(status, "Stalled")


def paused(child: Obj, *by: str) -> Obj:
    meta = {**child["metadata"], "name": "auralink-b", "namespace": "ns", "pausedManagers": list(by)}
    return {**child, "metadata": meta, "spec": {**child.get("spec", {}), "paused": True}}


RESUME = "kubectl rollout resume deployment/auralink-b -n ns"


def test_a_deployment_that_somebody_paused_is_named_with_who_did_and_what_ends_it() -> None:
    half = paused(deployment(2, updated=1), "kubectl-rollout")
    status = status_of(samples.bridge(replicas=2), child=half, pods=TWO)
    assert conditions(status)["Reconciling"] == ("True", "Progressing")
    assert "paused (by kubectl-rollout)" in message(status, "Ready")
    assert RESUME in message(status, "Ready")
    stuck = raw_pod("p2", waiting("ErrImagePull", "not found", image="registry/nothing:1"))
    both = message(status_of(samples.bridge(replicas=2), child=half, pods=TWO, raw_pods=(stuck,)), "Ready")
    assert RESUME in both
    assert "registry/nothing:1" in both


def test_a_paused_deployment_that_has_all_its_pods_leaves_a_bridge_ready_and_is_named() -> None:
    for spec in ({}, {"autoscaling": TWO_TO_NINE}, {"replicas": 0}):
        count = {"replicas": 0, "autoscaling": 2}.get(next(iter(spec), ""), 1)
        status = status_of(samples.bridge(**spec), child=paused(deployment(count)), pods=TWO)
        assert conditions(status)["Ready"] == ("True", "Succeeded")
        assert "paused (by somebody)" in message(status, "Ready")
        assert RESUME in message(status, "Ready")


def test_pods_of_a_paused_deployment_that_cannot_start_are_told_by_their_trouble() -> None:
    stuck = raw_pod("p1", waiting("ErrImagePull", "not found", image="registry/nothing:1"))
    status = status_of(child=paused(deployment(ready=0)), raw_pods=(stuck,))
    assert "registry/nothing:1" in message(status, "Ready")
    assert "paused" not in message(status, "Ready")
    begins = pod(ready=False, phase="Starting", problems=["RedisUnavailable"], message="redis:6379 refuses")
    status = status_of(child=paused(deployment(ready=0)), pods=(begins,))
    assert conditions(status)["Ready"] == ("False", "DependencyNotReady")
    waits = status_of(child=paused(deployment(ready=0, updated=0)), pods=())
    assert RESUME in message(waits, "Ready")


# --- pods that run and wait ------------------------------------------------------------------------------------------


def test_pods_without_credentials_keep_a_bridge_from_ready_with_their_words() -> None:
    missing = pod(problems=["CredentialsMissing"], message="Secret tls has no key ca.crt")
    status = status_of(child=deployment(), pods=(missing,))
    assert conditions(status)["Reconciling"] == ("True", "DependencyNotReady")
    assert "Secret tls has no key ca.crt" in message(status, "Ready")
    assert "Degraded" not in conditions(status)


def test_missing_credentials_are_named_from_the_spec_where_the_pod_says_nothing() -> None:
    bridge = samples.bridge(
        aiCore={"tlsSecretName": "tls"},
        api={"tokenRef": {"name": "api", "key": "t"}},
        redis={"addresses": ["r:6379"], "passwordRef": {"name": "redis", "key": "p"}},
    )
    status = status_of(bridge, child=deployment(), pods=(pod(problems=["CredentialsMissing"]),))
    assert "create Secret api and redis and tls" in message(status, "Ready")


def test_pods_that_wait_for_redis_to_begin_say_so() -> None:
    starting = pod(ready=False, phase="Starting", problems=["RedisUnavailable"], message="redis:6379 refuses")
    status = status_of(child=deployment(ready=0), pods=(starting,))
    assert conditions(status)["Ready"] == ("False", "DependencyNotReady")
    assert "redis:6379 refuses" in message(status, "Ready")
    lost = status_of(child=deployment(), pods=(pod(problems=["RedisUnavailable"]),))
    assert conditions(lost)["Ready"][0] == "True", "an outage later on degrades"


def test_a_first_configuration_that_is_refused_is_said_in_the_words_of_the_pod() -> None:
    starting = pod(ready=False, phase="Starting", problems=["ConfigInvalid"], message="rooms[0].legs: too few")
    status = status_of(child=deployment(ready=0), pods=(starting,))
    assert conditions(status)["Ready"] == ("False", "ProgressingWithRetry")
    assert "rooms[0].legs: too few" in message(status, "Ready")


def test_every_problem_of_a_pod_is_known_here() -> None:
    assert {*DEGRADING, "CredentialsMissing"} == set(PROBLEMS)


# --- configuration ---------------------------------------------------------------------------------------------------


def test_pods_behind_are_propagating_for_a_minute_and_then_named() -> None:
    pods = tuple(pod(f"p{n}", acked=2) for n in range(7))
    seven: Any = {
        "child": deployment(7),
        "pods": pods,
        "raw_pods": tuple(raw_pod(f"p{n}", ready_s=500) for n in range(7)),
    }
    known = samples.bridge(replicas=7, status={"pods": [pod.entry for pod in pods]})
    first = status_of(known, **seven)
    assert conditions(first)["Ready"] == ("False", "ConfigPropagating")
    assert "p0" not in message(first, "Ready"), "each acknowledgement would be a write"
    known = samples.bridge(replicas=7, status={**first, "pods": [pod.entry for pod in pods]})
    for raw in seven["raw_pods"]:
        raw["status"]["podIP"] = "10.0.0.1"
    assert next_look_s(first, seen(known, None, None, seven["raw_pods"]), NOW) == 60.0
    later = NOW + timedelta(seconds=61)
    second = status_of(known, **seven, now=later)
    assert conditions(second)["Ready"] == ("False", "ProgressingWithRetry")
    assert "p0, p1, p2, p3, p4 and others" in message(second, "Ready")
    assert next_look_s(second, seen(known, None, None, seven["raw_pods"]), later) is None


def test_a_pod_that_has_just_come_is_not_late() -> None:
    alone = status_of(child=deployment(ready=0))
    assert conditions(alone)["ConfigAcked"] == ("False", "NoPods")
    later = NOW + timedelta(hours=1)
    new = raw_pod("p1", ready_s=-3595)  # ready five seconds ago
    status = status_of(
        samples.bridge(status=alone), child=deployment(), pods=(pod(acked=2),), raw_pods=(new,), now=later
    )
    assert conditions(status)["Ready"] == ("False", "ConfigPropagating")


def test_a_pod_that_refuses_the_configuration_is_named_at_once() -> None:
    refusing = pod("p1", acked=2, problems=["ConfigInvalid"], message="rooms[0]: unknown codec")
    status = status_of(child=deployment(), pods=(refusing,))
    assert conditions(status)["Ready"] == ("False", "ConfigPropagating")
    assert "refused by p1: rooms[0]: unknown codec" in message(status, "Ready")


def test_pods_that_start_or_drain_need_not_acknowledge() -> None:
    pods = (pod("p1"), pod("p2", acked=0, phase="Starting"), pod("p3", acked=1, phase="Draining"))
    assert conditions(status_of(child=deployment(), pods=pods))["ConfigAcked"] == ("True", "AllPodsAcked")


# --- exposure, queue, suspension, end --------------------------------------------------------------------------------


def test_exposed_rooms_without_a_pod_have_no_address_yet() -> None:
    exposed = samples.bridge(exposure={"mode": "HostPort"})
    assert conditions(status_of(exposed, child=deployment(ready=0)))["ExposureReady"] == ("False", "AddressPending")


def test_one_room_without_an_address_is_enough_for_not_every_address_to_be_known() -> None:
    rooms = [samples.room("a"), samples.room("b", 5014)]
    exposed = samples.bridge(exposure={"mode": "HostPort"}, rooms=rooms)
    known = {"a/in/video": PublicAddress("203.0.113.2", "", 5004, "p1")}
    status = status_of(exposed, child=deployment(), pods=(pod(),), addresses=known)
    assert conditions(status)["ExposureReady"] == ("False", "AddressPending")
    assert conditions(status)["Ready"] == ("False", "ExposurePending")
    assert message(status, "Ready") == "not known yet: b"


@pytest.mark.parametrize("reason", ["AddressPending", "NoExternalIP"])
def test_an_address_that_is_not_known_keeps_an_exposed_bridge_from_ready(reason: str) -> None:
    stuck = Outcome(config_generation=3, exposure=Problem(reason, "Node n1 has no ExternalIP"))
    exposed = samples.bridge(exposure={"mode": "NodePort"})
    status = status_of(exposed, child=deployment(), pods=(pod(),), outcome=stuck)
    assert conditions(status)["ExposureReady"] == ("False", reason)
    assert conditions(status)["Ready"] == ("False", "ExposurePending")
    assert message(status, "Ready") == message(status, "ExposureReady")
    inside = status_of(samples.bridge(), child=deployment(), pods=(pod(),), outcome=stuck)
    assert conditions(inside)["ExposureReady"] == ("True", "NotRequired")
    nobody = status_of(samples.bridge(exposure={"mode": "NodePort"}, replicas=0), child=deployment(0), outcome=stuck)
    assert conditions(nobody)["Ready"][0] == "True", "without pods there is nothing to reach"


def test_nothing_to_reach_needs_no_address() -> None:
    out = {"name": "out", "direction": "Send", "rtp": {"video": samples.medium(remote="peer:5004")}}
    sends = {"name": "r", "legs": [out, {**out, "name": "other"}]}
    bridge = samples.bridge(exposure={"mode": "LoadBalancer"}, rooms=[sends])
    assert conditions(status_of(bridge, child=deployment(), pods=(pod(),)))["ExposureReady"] == ("True", "NotRequired")


def test_a_rollout_that_waits_for_others_is_queued() -> None:
    status = status_of(child=deployment(), pods=(pod(),), held_template={"spec": {}})
    assert conditions(status)["Ready"] == ("False", "RolloutQueued")
    why = Outcome(config_generation=3, waiting=Problem("RolloutQueued", "ten others are rolling"))
    assert message(status_of(child=deployment(), pods=(pod(),), outcome=why), "Ready") == "ten others are rolling"
    stuck = raw_pod("p1", waiting("ImagePullBackOff"))
    worse = status_of(child=deployment(ready=0), outcome=why, raw_pods=(stuck,))
    assert conditions(worse)["Ready"] == ("False", "ProgressingWithRetry"), "what is wrong now comes first"


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
    assert kstatus_of(status) == "InProgress"


def test_a_paused_operator_says_so_on_each_bridge() -> None:
    paused = Outcome(config_generation=3, unapplied=("Service auralink-b (missing)",), paused=True)
    status = status_of(child=deployment(), pods=(pod(),), outcome=paused)
    assert conditions(status)["Ready"] == ("False", "Suspended")
    assert "--paused" in message(status, "Suspended")


def test_a_bridge_that_drains_before_it_goes_says_so() -> None:
    status = status_of(child=deployment(0), pods=(pod(phase="Draining"),), draining=True)
    assert conditions(status)["Reconciling"] == ("True", "Progressing")
    assert "deleted" in message(status, "Ready")


@pytest.mark.parametrize(
    ("outcome", "found"),
    [
        (Outcome(stalled=Problem("NameConflict", "x")), ("Stalled", "NameConflict")),
        (Outcome(failing="the API server does not answer"), ("Reconciling", "ProgressingWithRetry")),
        (Outcome(waiting=Problem("ProgressingWithRetry", "x")), ("Reconciling", "ProgressingWithRetry")),
        (Outcome(unapplied=("Service x (missing)",)), ("Reconciling", "Progressing")),
    ],
)
def test_what_the_reconcile_came_to_comes_first(outcome: Outcome, found: tuple[str, str]) -> None:
    kind, reason = found
    status = status_of(child=deployment(), pods=(pod(),), outcome=outcome)
    assert conditions(status)[kind] == ("True", reason)
    assert conditions(status)["Ready"] == ("False", reason)
    assert conditions(status)["Available"] == ("True", "PodServing")
