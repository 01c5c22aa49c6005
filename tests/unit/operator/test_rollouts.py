"""Rollouts that wait for their turn, and repairs that somebody else undoes: both are bounded."""

import pytest
from auralink_operator.index import BRIDGE, Key, Obj
from auralink_operator.rollouts import BY_DEFAULT, QUICK_REPAIRS, Fights, Rollouts, managers, rolling, was_well


def key(name: str) -> Key:
    return Key(BRIDGE, "ns", name)


def deployment(
    name: str = "b", replicas: int = 2, generation: int = 1, by_default: bool = False, **state: object
) -> Obj:
    meta: Obj = {"namespace": "ns", "labels": {"auralink.io/bridge": name}, "generation": generation}
    if by_default:
        meta["annotations"] = {BY_DEFAULT: "true"}
    return {
        "metadata": meta,
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas, **state},
    }


def by_bridge(*deployments: Obj) -> list[tuple[Key, Obj]]:
    return [(key(obj["metadata"]["labels"]["auralink.io/bridge"]), obj) for obj in deployments]


GIVEN_UP = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]


SERVED = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
NO_QUOTA = {"type": "ReplicaFailure", "status": "True", "message": 'pods "b-1" is forbidden: exceeded quota: all'}
REFUSED = {"type": "ReplicaFailure", "status": "True", "message": 'pods "b-1" is forbidden: violates PodSecurity'}


def paused(found: Obj) -> Obj:
    return {**found, "spec": {**found["spec"], "paused": True}}


@pytest.mark.parametrize(
    ("found", "is_rolling"),
    [
        (deployment(), False),
        (deployment(generation=2), True),
        (deployment(replicas=2, updatedReplicas=1), True),
        (deployment(replicas=2, updatedReplicas=0), True),
        (deployment(replicas=0, updatedReplicas=0, generation=2), False),
        (deployment(replicas=5, updatedReplicas=3, readyReplicas=3), True),
        (deployment(updatedReplicas=1, conditions=GIVEN_UP, by_default=True), True),
        (deployment(updatedReplicas=1, conditions=GIVEN_UP), False),
        (deployment(conditions=GIVEN_UP, by_default=True, availableReplicas=2), False),
        (deployment(conditions=GIVEN_UP, by_default=True, availableReplicas=1), True),
        (deployment(by_default=True, availableReplicas=1), True),
        (deployment(by_default=True, availableReplicas=1, conditions=[SERVED]), False),
        (deployment(by_default=True, generation=2, availableReplicas=2, conditions=[SERVED]), True),
        (deployment(replicas=1, availableReplicas=0), False),
        (deployment(updatedReplicas=1, conditions=[*GIVEN_UP, NO_QUOTA], by_default=True), False),
        (deployment(updatedReplicas=1, conditions=[NO_QUOTA], by_default=True), True),
        (deployment(updatedReplicas=1, conditions=[*GIVEN_UP, REFUSED], by_default=True), True),
        (paused(deployment(updatedReplicas=1, by_default=True)), False),
    ],
)
def test_what_counts_as_rolling(found: Obj, is_rolling: bool) -> None:
    assert rolling(found) is is_rolling


@pytest.mark.parametrize(
    ("found", "well"),
    [
        (deployment(), True),
        (deployment(replicas=0), True),
        (deployment(updatedReplicas=1), False),
        (deployment(generation=2), False),
        (deployment(conditions=GIVEN_UP), False),
        (deployment(conditions=[{"type": "Available", "status": "False"}]), False),
        (deployment(conditions=[{"type": "Available", "status": "True"}]), True),
    ],
)
def test_what_counts_as_well_before_a_change(found: Obj, well: bool) -> None:
    assert was_well(found) is well


def test_growth_is_no_rollout() -> None:
    growing = deployment(replicas=5)
    growing["status"] |= {"replicas": 3, "updatedReplicas": 3}
    assert not rolling(growing)


def test_only_so_many_roll_and_the_next_begins_as_one_is_through() -> None:
    queue = Rollouts(2)
    queue.count(by_bridge(deployment("a", updatedReplicas=1), deployment("b")))
    assert queue.may_begin(key("b"), 0.0)
    assert not queue.may_begin(key("c"), 0.0)
    assert not queue.may_begin(key("d"), 0.0)
    assert queue.may_begin(key("b"), 0.0)
    assert queue.saw(key("b"), deployment("b", updatedReplicas=1), 0.0) == []
    assert queue.saw(key("b"), deployment("b"), 0.0) == [key("c")]
    assert queue.may_begin(key("c"), 0.0)
    assert not queue.may_begin(key("d"), 0.0)
    assert queue.forget(key("a"), 0.0) == [key("d")]
    assert queue.saw(key("a"), None, 0.0) == []


def test_who_may_roll_or_not_for_all_that_is_known_counts_until_it_is_known() -> None:
    queue = Rollouts(1)
    assert not queue.counted
    queue.count(by_bridge(deployment("a")), [key("b")])
    assert queue.counted
    assert queue.holds_turn(key("b"))
    assert not queue.may_begin(key("a"), 0.0)
    assert queue.saw(key("b"), deployment("b"), 0.0) == [key("a")]
    assert queue.may_begin(key("a"), 0.0)


def test_what_a_user_rolls_counts_but_never_waits() -> None:
    queue = Rollouts(1)
    assert queue.saw(key("u"), deployment("u", updatedReplicas=1), 0.0) == []
    assert queue.may_begin(key("a"), 0.0)
    queue.saw(key("u"), deployment("u", updatedReplicas=1), 0.0)
    assert queue.saw(key("a"), deployment("a"), 0.0) == []
    assert not queue.may_begin(key("b"), 0.0)
    assert queue.saw(key("u"), deployment("u"), 0.0) == [key("b")]


def test_who_waits_and_goes_is_not_woken() -> None:
    queue = Rollouts(1)
    assert queue.may_begin(key("a"), 0.0)
    assert not queue.may_begin(key("b"), 0.0)
    assert queue.forget(key("b"), 0.0) == []
    assert queue.saw(key("a"), deployment("a"), 0.0) == []


def test_who_holds_a_turn_for_good_is_known() -> None:
    queue = Rollouts(3)
    stuck = deployment("a", updatedReplicas=1, conditions=GIVEN_UP, by_default=True)
    assert queue.stuck() == []
    queue.count(by_bridge(stuck, deployment("c", updatedReplicas=1)))
    assert queue.may_begin(key("b"), 0.0)
    assert queue.stuck() == [key("a")]
    queue.saw(key("a"), deployment("a"), 0.0)
    assert queue.stuck() == []


def test_who_waits_first_and_never_asks_again_holds_up_nobody_and_keeps_its_place() -> None:
    queue = Rollouts(1)
    assert queue.may_begin(key("a"), 0.0)
    assert not queue.may_begin(key("silent"), 0.0)
    assert not queue.may_begin(key("b"), 100.0)
    assert queue.saw(key("a"), deployment("a"), 140.0) == [key("silent")]
    assert not queue.may_begin(key("b"), 140.0)
    assert queue.may_begin(key("b"), 200.0)
    assert not queue.may_begin(key("c"), 200.0)
    assert not queue.may_begin(key("silent"), 200.0)
    assert queue.saw(key("b"), deployment("b"), 210.0) == [key("silent")]


CHILD = Key("Service", "ns", "auralink-b")


def test_the_first_repairs_are_made_at_once() -> None:
    fights = Fights()
    for number in range(QUICK_REPAIRS):
        assert fights.pause_s(CHILD, float(number)) == 0
        assert fights.going_on(float(number)) == []
        fights.repaired(CHILD, float(number))
    assert fights.pause_s(CHILD, QUICK_REPAIRS) > 0
    assert fights.going_on(QUICK_REPAIRS) == [CHILD]


def test_in_an_hour_somebody_stubborn_costs_few_writes() -> None:
    fights, now, writes = Fights(), 0.0, 0
    while now < 3600:
        if fights.pause_s(CHILD, now) == 0:
            fights.repaired(CHILD, now)
            writes += 1
        fights.going_on(now)
        now += 0.1
    assert writes <= 25


def test_a_fight_that_has_been_quiet_is_forgotten() -> None:
    fights = Fights()
    for _ in range(QUICK_REPAIRS):
        fights.repaired(CHILD, 0.0)
    fights.blame(CHILD, "helm")
    assert fights.by(CHILD) == "helm"
    assert fights.next_s(0.5) == 1.5
    assert fights.next_s(20.0) == 40.0
    assert fights.going_on(59.0) == [CHILD]
    assert fights.going_on(60.0) == []
    assert fights.by(CHILD) == ""
    assert fights.next_s(60.0) is None
    assert fights.pause_s(CHILD, 60.0) == 0


def test_repairs_far_apart_are_no_fight() -> None:
    fights = Fights()
    for number in range(20):
        fights.repaired(CHILD, number * 61.0)
        assert fights.going_on(number * 61.0 + 60.5) == []


def test_the_managers_of_a_field_are_named() -> None:
    fields = [
        {"manager": "auralink-operator", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        {"manager": "helm", "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {}}}}},
        {"manager": "kubectl-edit", "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {}}}}}},
        {"manager": "other", "fieldsV1": {"f:metadata": {"f:labels": {"f:a.b/c": {}}}}},
    ]
    found = {"metadata": {"managedFields": fields}}
    assert managers(found, ".spec.replicas", "auralink-") == ["helm"]
    assert managers(found, ".spec.template.spec.containers[data-plane].image", "auralink-") == ["kubectl-edit"]
    assert managers(found, ".data", "auralink-") == []
    assert managers(found, ".metadata.labels.a.b/c", "auralink-") == ["other"]
    assert managers(found, ".metadata.labels.a", "auralink-") == []


def test_turns_come_in_the_order_of_asking_and_who_gave_one_back_asks_behind_the_others() -> None:
    queue = Rollouts(1)
    assert queue.may_begin(key("a"), 0.0)
    assert not queue.may_begin(key("b"), 0.0)
    assert not queue.may_begin(key("c"), 0.0)
    assert queue.saw(key("a"), deployment("a"), 0.0) == [key("b")]
    assert not queue.may_begin(key("c"), 0.0)
    assert not queue.may_begin(key("a"), 0.0)
    assert queue.may_begin(key("b"), 0.0)
    assert queue.saw(key("b"), None, 0.0) == [key("c")]


def test_who_does_not_want_to_roll_any_more_holds_up_nobody() -> None:
    queue = Rollouts(1)
    assert queue.may_begin(key("a"), 0.0)
    for name in ("b", "c"):
        assert not queue.may_begin(key(name), 0.0)
    assert queue.saw(key("a"), deployment("a"), 0.0) == [key("b")]
    assert queue.withdraw(key("b"), 0.0) == [key("c")]
    assert queue.withdraw(key("b"), 0.0) == []
    assert queue.may_begin(key("c"), 0.0)
