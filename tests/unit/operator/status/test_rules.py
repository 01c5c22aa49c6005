"""Over everything that can come up: the rules by which Flux, kstatus and `kubectl wait` read a status."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

from auralink_operator.models import Conflict, parse_bridge, parse_policy
from auralink_operator.status import MatchedBridge, Status, derive_invalid, derive_policy, flips, next_look_s, same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hack.audit.rules import broken, changed, kstatus
from tests.unit.operator import samples
from tests.unit.operator.status.scenes import NOW, conditions, seen, status_of
from tests.unit.operator.status.strategies import histories, specs, worlds

# How long an example takes says how busy the machine is.
whatever = settings(suppress_health_check=[HealthCheck.too_slow])
ALWAYS = {"Ready", "Available", "ConfigAcked", "ExposureReady"}
TRUE_OR_ABSENT = {"Reconciling", "Stalled", "Draining", "Suspended", "Degraded", "PolicyConflict"}
REASONS = {
    "Reconciling": {
        "Progressing",
        "ProgressingWithRetry",
        "ConfigPropagating",
        "ExposurePending",
        "RolloutQueued",
        "DependencyNotReady",
    },
    "Stalled": {"InvalidSpec", "NameConflict", "AccessDenied", "PodSecurityForbidden", "ProgressDeadlineExceeded"},
    "Available": {"PodServing", "NoPodServing"},
    "ConfigAcked": {"AllPodsAcked", "PodsBehind", "NoPods"},
    "ExposureReady": {"AddressKnown", "NotRequired", "AddressPending", "NoExternalIP", "PodSecurityForbidden"},
    "Draining": {"PodsDraining"},
    "Suspended": {"SuspendedByUser"},
    "PolicyConflict": {"SamePriority", "TooManyPolicies"},
}


@whatever
@given(histories())
def test_every_status_keeps_the_rules_of_its_readers(history: list[tuple[int, Status]]) -> None:
    for generation, status in history:
        assert broken(generation, status) == []
        assert {c["observedGeneration"] for c in status["conditions"]} == {generation}


@whatever
@given(histories())
def test_each_condition_is_there_when_it_must_be_with_a_reason_that_is_documented(
    history: list[tuple[int, Status]],
) -> None:
    for _, status in history:
        found = conditions(status)
        assert len(found) == len(status["conditions"])
        assert set(found) >= ALWAYS
        assert set(found) <= ALWAYS | TRUE_OR_ABSENT
        assert all(found[name][0] == "True" for name in TRUE_OR_ABSENT & set(found))
        assert all(found[name][1] in reasons for name, reasons in REASONS.items() if name in found)
        ready, because = found["Ready"], {"Reconciling", "Stalled"} & set(found)
        if because:
            assert found[because.pop()][1] == ready[1]
        else:
            assert ready in {("True", "Succeeded"), ("False", "Suspended")}


@whatever
@given(histories())
def test_a_time_moves_with_a_flip_and_no_message_counts(history: list[tuple[int, Status]]) -> None:
    for (_, before), (_, after) in pairwise(history):
        assert changed(before, after) == []


@whatever
@given(histories())
def test_tools_see_what_the_conditions_mean(history: list[tuple[int, Status]]) -> None:
    for generation, status in history:
        found = conditions(status)
        seen_as = kstatus(samples.bridge(generation=generation, status=status))
        assert (seen_as == "Failed") == ("Stalled" in found)
        assert (seen_as == "Current") == (found["Ready"][0] == "True")
        older = kstatus(samples.bridge(generation=generation + 1, status=status))
        assert older == "InProgress", "an edited spec is not current before it has been looked at"


@whatever
@given(specs, worlds, st.integers(1, 9))
def test_deriving_again_from_what_was_written_writes_nothing(
    spec: dict[str, Any], world: dict[str, Any], generation: int
) -> None:
    first = status_of(samples.bridge(generation=generation, **spec), **world)
    entries = [pod.entry for pod in world["pods"]]
    known = samples.bridge(generation=generation, status={**first, "pods": entries}, **spec)
    again = status_of(known, **world)
    assert same(first, again)
    assert flips(first, again) == []


@whatever
@given(specs, worlds)
def test_time_alone_changes_a_status_only_when_it_was_foreseen(spec: dict[str, Any], world: dict[str, Any]) -> None:
    bridge = samples.bridge(status={"observedGeneration": -1, "pods": [pod.entry for pod in world["pods"]]}, **spec)
    first = status_of(bridge, **world)
    known = samples.bridge(status={**first, "pods": [pod.entry for pod in world["pods"]]}, **spec)
    for raw in world["raw_pods"]:
        raw["status"]["phase"] = "Running"
    now = status_of(known, **world)
    known["status"] = {**now, "pods": [pod.entry for pod in world["pods"]]}
    look_s = next_look_s(now, seen(known, world["child"], world["scaler"], world["raw_pods"]), NOW)
    for later_s in (1, 30, 60, 90, 300):
        then = status_of(known, **world, now=NOW + timedelta(seconds=later_s))
        if not same(now, then):
            assert look_s is not None, "nobody would have looked"
            assert look_s <= later_s
            break


@whatever
@given(histories(), st.text(max_size=40))
def test_a_spec_that_cannot_be_read_keeps_the_rules_too(history: list[tuple[int, Status]], why: str) -> None:
    generation, known = history[-1]
    meta = parse_bridge(samples.bridge(generation=generation + 1, status=known)).meta
    status = derive_invalid(meta, why, NOW + timedelta(days=1))
    assert broken(generation + 1, status) == []
    assert changed(known, status) == []
    assert kstatus(samples.bridge(generation=generation + 1, status=status)) == "Failed"


matches = st.lists(
    st.builds(
        MatchedBridge,
        st.sampled_from(["a", "b", "c"]),
        st.none() | st.integers(1, 2),
        conflicts=st.sampled_from([(), (Conflict("codecs", "x", "p", 0, "older"),)]),
        dropped=st.booleans(),
        suspended=st.booleans(),
    ),
    max_size=3,
    unique_by=lambda bridge: bridge.name,
)


@whatever
@given(st.lists(matches, min_size=1, max_size=3))
def test_every_status_of_a_policy_keeps_the_rules(steps: list[list[MatchedBridge]]) -> None:
    status: Status = {"observedGeneration": -1}
    for number, matched in enumerate(steps, start=1):
        obj = {**samples.policy("p", mode="Auto"), "status": status}
        obj["metadata"]["generation"] = number
        before = status
        status = derive_policy(parse_policy(obj), matched, NOW + timedelta(minutes=number))
        assert broken(number, status) == []
        assert changed(before, status) == []
        obj = {**obj, "status": status}
        assert same(status, derive_policy(parse_policy(obj), list(reversed(matched)), NOW + timedelta(days=1)))
