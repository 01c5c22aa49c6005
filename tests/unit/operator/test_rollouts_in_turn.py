"""New defaults reach bridges a few at a time; whose own change it is does not wait."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
from auralink_operator.cluster import ApiError
from auralink_operator.index import BRIDGE, Key, Obj

from tests.unit.operator import samples
from tests.unit.operator.desk import Desk
from tests.unit.operator.test_one_refused_request import refuse
from tests.unit.operator.test_sight import watch

NEW_DEFAULT = replace(samples.SETTINGS, data_plane_image="data-plane:2", max_rollouts=2)


def image(desk: Desk, name: str = "b") -> str:
    found = desk.cluster.objects[Key("Deployment", "ns", f"auralink-{name}")]
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


async def fleet(*names: str) -> tuple[Desk, list[Key]]:
    desk = Desk(*(samples.bridge(name) for name in names), *(samples.pod(f"p-{name}", of=name) for name in names))
    keys = [Key(BRIDGE, "ns", name) for name in names]
    for key in keys:
        await desk.look(key)
        desk.cluster.report(key, samples.entry(f"p-{key.name}", 1))
        await desk.settle(key)
        assert desk.ready(key) == ("True", "Succeeded")
    return desk, keys


async def test_a_new_default_rolls_only_so_many_bridges_at_once() -> None:
    desk, keys = await fleet("a", "b", "c", "d")
    desk.another_process(NEW_DEFAULT)
    for key in keys:
        await desk.look(key)
        await desk.look(key)
    assert [image(desk, key.name) for key in keys] == ["data-plane:2"] * 2 + ["data-plane:1"] * 2
    assert desk.ready(keys[2]) == ("False", "RolloutQueued")
    assert desk.condition("Reconciling", keys[3]) == ("True", "RolloutQueued")

    desk.roll_out(Key("Deployment", "ns", "auralink-a"))
    await desk.look(keys[0])
    assert await desk.queue.get() == keys[2]
    await desk.look(keys[2])
    assert image(desk, "c") == "data-plane:2"
    await desk.look(keys[3])
    assert image(desk, "d") == "data-plane:1"


async def test_a_bridge_that_waits_for_its_rollout_costs_no_call_and_still_takes_its_configuration() -> None:
    desk, keys = await fleet("a", "b")
    desk.another_process(replace(NEW_DEFAULT, max_rollouts=1))
    for key in (*keys, *keys):
        await desk.look(key)
    count = len(desk.cluster.calls)
    assert await desk.look(keys[1]) == 60.0
    assert desk.since(count) == []
    desk.cluster.change(keys[1], {"spec": {"compression": {"qualityLevel": 2}}})
    await desk.look(keys[1])
    assert ("apply", "ConfigMap") in desk.since(count)
    assert image(desk, "b") == "data-plane:1"


async def test_what_a_user_changes_does_not_wait() -> None:
    desk, keys = await fleet("a", "b")
    desk.another_process(replace(NEW_DEFAULT, max_rollouts=1))
    for key in (*keys, *keys):
        await desk.look(key)
    assert image(desk, "b") == "data-plane:1"
    desk.cluster.change(keys[1], {"spec": {"image": "their-own:1"}})
    await desk.look(keys[1])
    assert image(desk, "b") == "their-own:1"


async def test_a_template_that_somebody_edits_is_repaired_without_waiting() -> None:
    desk, keys = await fleet("a", "b")
    desk.another_process(replace(NEW_DEFAULT, max_rollouts=1))
    for key in (*keys, *keys):
        await desk.look(key)
    deployment = Key("Deployment", "ns", "auralink-a")
    desk.roll_out(deployment)
    desk.cluster.change(deployment, {"spec": {"template": {"spec": {"enableServiceLinks": True}}}})
    await desk.look(keys[0])
    assert desk.cluster.objects[deployment]["spec"]["template"]["spec"]["enableServiceLinks"] is False


async def test_a_new_leader_counts_the_rollouts_that_go_on() -> None:
    desk, keys = await fleet("a", "b")
    one = replace(NEW_DEFAULT, max_rollouts=1)
    desk.another_process(one)
    await desk.look(keys[0])
    desk.another_process(one)
    await desk.look(keys[1])
    await desk.look(keys[1])
    assert image(desk, "b") == "data-plane:1"


GIVEN_UP = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}


async def never_comes_up(desk: Desk, key: Key) -> None:
    """The Deployment's controller has made a pod of the new template, and has waited for it long enough."""
    deployment = desk.cluster.objects[Key("Deployment", "ns", f"auralink-{key.name}")]
    counts = {"replicas": 2, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
    generation = deployment["metadata"]["generation"]
    deployment["status"] = {"observedGeneration": generation, **counts, "conditions": [GIVEN_UP]}
    await desk.look(key)


async def looked_at(desk: Desk, *keys: Key) -> None:
    for key in (*keys, *keys):
        await desk.look(key)


async def test_a_default_that_breaks_bridges_stops_at_so_many_and_those_that_wait_say_at_which() -> None:
    desk, keys = await fleet("a", "b", "c")
    desk.another_process(NEW_DEFAULT)
    await looked_at(desk, *keys)
    for key in keys[:2]:
        await never_comes_up(desk, key)
    await looked_at(desk, keys[2])
    desk.time += 3600
    await looked_at(desk, keys[2])
    assert image(desk, "c") == "data-plane:1"
    assert desk.ready(keys[2]) == ("False", "RolloutQueued")
    assert "in ns/a, ns/b: make those bridges ready" in desk.message(keys[2])
    desk.another_process(NEW_DEFAULT)
    await looked_at(desk, keys[2])
    assert image(desk, "c") == "data-plane:1"

    desk.cluster.change(keys[0], {"spec": {"image": "their-own:1"}})
    await looked_at(desk, keys[0])
    await never_comes_up(desk, keys[0])
    await looked_at(desk, keys[2])
    assert image(desk, "c") == "data-plane:1"


@pytest.mark.parametrize("first", [True, False])
async def test_bridges_that_their_users_broke_hold_up_no_default(first: bool) -> None:
    """Whether before the default changes or together with it."""
    desk, keys = await fleet("a", "b", "c")
    if not first:
        desk.another_process(NEW_DEFAULT)
    for key in keys[:2]:
        desk.cluster.change(key, {"spec": {"pod": {"nodeSelector": {"there-is": "none"}}}})
        await looked_at(desk, key)
        await never_comes_up(desk, key)
    desk.another_process(NEW_DEFAULT)
    await looked_at(desk, *keys[:2])
    assert image(desk, "a") == image(desk, "b") == "data-plane:2"
    for key in keys[:2]:
        await never_comes_up(desk, key)
    await looked_at(desk, keys[2])
    assert image(desk, "c") == "data-plane:2"


async def test_a_policy_that_is_deleted_takes_nothing_from_the_bridge_of_its_name() -> None:
    desk, keys = await fleet("a", "b")
    policy = samples.policy("a", selector={"no": "match"})
    desk.another_process(replace(NEW_DEFAULT, max_rollouts=1))
    for key in (*keys, *keys):
        await desk.look(key)
    desk.context.metrics.bridges.conditions("ns/a", {"Ready": False})
    desk.context.deleted(policy)
    shown = {"bridge": "ns/a", "type": "Ready"}
    assert desk.context.metrics.registry.get_sample_value("auralink_operator_bridge_condition", shown) == 0
    await desk.look(keys[1])
    assert image(desk, "b") == "data-plane:1"


async def test_a_bridge_whose_deployment_is_refused_keeps_no_turn() -> None:
    desk, keys = await fleet("a", "b", "c")
    desk.another_process(replace(NEW_DEFAULT, max_rollouts=1))

    def refused(obj: Obj) -> None:
        if (obj["kind"], obj["metadata"]["name"]) == ("Deployment", "auralink-a"):
            raise ApiError(403, "Forbidden", "denied by policy")

    desk.cluster.before_apply = refused
    for _ in range(3):
        await looked_at(desk, *keys)
        for key in keys[1:]:
            desk.roll_out(Key("Deployment", "ns", f"auralink-{key.name}"))
    assert [image(desk, key.name) for key in keys] == ["data-plane:1", "data-plane:2", "data-plane:2"]
    desk.time += 60.0
    await looked_at(desk, keys[0])
    assert desk.ready(keys[0]) == ("False", "AccessDenied")


@pytest.mark.parametrize("spec", [{"rooms": "none"}, {"suspend": True}, {"pod": {"template": {"status": {}}}}])
async def test_a_bridge_that_waited_and_cannot_roll_any_more_holds_up_nobody(spec: Obj) -> None:
    desk, keys = await fleet("a", "b", "c")
    desk.another_process(replace(NEW_DEFAULT, max_rollouts=1))
    await looked_at(desk, *keys)
    desk.cluster.change(keys[1], {"spec": spec})
    await looked_at(desk, keys[1])
    desk.roll_out(Key("Deployment", "ns", "auralink-a"))
    await looked_at(desk, *keys)
    assert [image(desk, key.name) for key in keys] == ["data-plane:2", "data-plane:1", "data-plane:2"]


def deployment(key: Key) -> Key:
    return Key("Deployment", "ns", f"auralink-{key.name}")


async def rolls_one(*names: str) -> tuple[Desk, list[Key]]:
    """The first of some bridges has been given a new default, and it is the only one that may roll."""
    desk, keys = await fleet(*names)
    desk.another_process(replace(NEW_DEFAULT, max_rollouts=1))
    await looked_at(desk, *keys)
    assert [image(desk, key.name) for key in keys] == ["data-plane:2"] + ["data-plane:1"] * (len(keys) - 1)
    return desk, keys


async def test_a_default_whose_only_pod_comes_in_place_of_the_old_one_is_through_when_it_serves() -> None:
    desk, keys = await rolls_one("a", "b")
    live = desk.cluster.objects[deployment(keys[0])]
    counts = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 0, "availableReplicas": 0}
    live["status"] = {"observedGeneration": live["metadata"]["generation"], **counts}
    await looked_at(desk, *keys)
    assert image(desk, "b") == "data-plane:1"
    desk.roll_out(deployment(keys[0]))
    await looked_at(desk, *keys)
    assert image(desk, "b") == "data-plane:2"


@pytest.mark.parametrize("error", [None, ApiError(500, "InternalError", "etcd"), ApiError(403, "Forbidden", "no")])
async def test_a_watch_that_lags_neither_ends_a_rollout_nor_frees_its_turn(error: ApiError | None) -> None:
    desk, keys = await fleet("a", "b")
    desk.another_process(replace(NEW_DEFAULT, max_rollouts=1))
    desk.cluster.lag()
    await desk.look(keys[0])
    assert image(desk, "a") == "data-plane:2"
    if error is not None:
        desk.cluster.failures["get"] = [error] * 100
    for _ in range(3):
        desk.time += 6.0
        for key in keys:
            with suppress(ApiError):
                await desk.look(key)
    assert [image(desk, key.name) for key in keys] == ["data-plane:2", "data-plane:1"]
    assert desk.ready(keys[0])[0] == "False"


async def test_a_deployment_that_goes_out_of_sight_while_it_rolls_keeps_its_turn() -> None:
    desk, keys = await rolls_one("a", "b")
    desk.cluster.shows = watch(samples.SETTINGS)
    desk.cluster.change(deployment(keys[0]), {"metadata": {"labels": {samples.MANAGED_BY: None}}})
    await desk.look(keys[0])
    await desk.look(keys[1])
    assert image(desk, "b") == "data-plane:1"
    desk.roll_out(deployment(keys[0]))
    await looked_at(desk, *keys)
    assert image(desk, "b") == "data-plane:2"


async def test_a_new_leader_counts_a_rollout_by_its_owner_and_none_that_has_no_bridge() -> None:
    desk, keys = await rolls_one("a", "b")
    desk.cluster.change(deployment(keys[0]), {"metadata": {"labels": {"auralink.io/bridge": None}}})
    desk.another_process(replace(NEW_DEFAULT, max_rollouts=1))
    await looked_at(desk, keys[1])
    assert image(desk, "b") == "data-plane:1"

    desk.cluster.change(deployment(keys[0]), {"metadata": {"ownerReferences": None}})
    desk.another_process(replace(NEW_DEFAULT, max_rollouts=1))
    await looked_at(desk, keys[1])
    assert image(desk, "b") == "data-plane:2"


async def test_a_deployment_that_is_taken_from_its_bridge_while_it_rolls_gives_its_turn_back() -> None:
    desk, keys = await rolls_one("a", "b")
    desk.cluster.change(deployment(keys[0]), {"metadata": {"ownerReferences": None}})
    await looked_at(desk, *keys)
    assert desk.ready(keys[0]) == ("False", "NameConflict")
    assert image(desk, "b") == "data-plane:2"


async def test_a_rollout_that_somebody_pauses_holds_up_no_other() -> None:
    desk, keys = await rolls_one("a", "b")
    desk.cluster.change(deployment(keys[0]), {"spec": {"paused": True}})
    await looked_at(desk, *keys)
    assert image(desk, "b") == "data-plane:2"


async def test_a_bridge_that_waits_gets_no_turn_by_any_other_change_of_its_deployment() -> None:
    desk, keys = await rolls_one("a", "b", "c")
    desk.cluster.change(keys[1], {"spec": {"replicas": 2}})
    desk.cluster.change(deployment(keys[2]), {"metadata": {"annotations": {"somebody's": "note"}}})
    for _ in range(3):
        await looked_at(desk, *keys)
    assert [image(desk, key.name) for key in keys] == ["data-plane:2", "data-plane:1", "data-plane:1"]


async def test_a_bridge_that_waits_is_not_written_though_the_server_has_put_defaults_into_its_template() -> None:
    desk, keys = await fleet("a", "b")
    for key in keys:
        desk.cluster.change(deployment(key), {"spec": {"template": {"spec": {"dnsPolicy": "ClusterFirst"}}}})
        await desk.settle(key)
    desk.another_process(replace(NEW_DEFAULT, max_rollouts=1))
    count = len(desk.cluster.calls)
    await looked_at(desk, keys[0])
    await looked_at(desk, keys[1])
    assert desk.cluster.calls[count:].count(("apply", deployment(keys[0]))) == 1
    assert ("apply", deployment(keys[1])) not in desk.cluster.calls[count:]


@pytest.mark.parametrize(
    "counts",
    [
        {"replicas": 0, "updatedReplicas": 0, "availableReplicas": 0},
        {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 0},
    ],
    ids=["the old one gone, the new one refused", "the new one not ready"],
)
async def test_without_surge_a_default_is_not_through_before_all_its_pods_serve(counts: dict[str, int]) -> None:
    desk, keys = await rolls_one("a", "b")
    live = desk.cluster.objects[deployment(keys[0])]
    refused = {"type": "ReplicaFailure", "status": "True", "message": 'pods "a-1" is forbidden: violates PodSecurity'}
    live["status"] = {"observedGeneration": live["metadata"]["generation"], **counts, "conditions": [refused]}
    await looked_at(desk, *keys)
    assert image(desk, "b") == "data-plane:1"


async def test_what_goes_wrong_after_a_default_came_through_does_not_hold_up_the_next_one() -> None:
    desk, keys = await fleet("a", "b")
    desk.another_process(NEW_DEFAULT)
    for key in keys:
        await looked_at(desk, key)
        await desk.settle(key)
    restart = {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}}
    desk.cluster.change(deployment(keys[0]), restart)
    await never_comes_up(desk, keys[0])
    desk.another_process(replace(NEW_DEFAULT, data_plane_image="data-plane:3", max_rollouts=1))
    await looked_at(desk, keys[1])
    assert image(desk, "b") == "data-plane:3"


HELD_UP = pytest.mark.parametrize(
    "spec",
    [{"suspend": True}, {"rooms": "none"}, {"pod": {"template": {"status": {}}}}],
    ids=["suspended", "unreadable", "no template"],
)


async def hidden(spec: Obj) -> tuple[Desk, list[Key]]:
    """The first of two bridges rolls, the watch does not show its Deployment, and nothing of it may be changed."""
    desk, keys = await rolls_one("a", "b")
    desk.cluster.shows = watch(samples.SETTINGS)
    desk.cluster.change(keys[0], {"spec": spec})
    desk.cluster.change(deployment(keys[0]), {"metadata": {"labels": {samples.MANAGED_BY: None}}})
    return desk, keys


@HELD_UP
async def test_a_rollout_that_nobody_sees_of_a_bridge_that_is_left_alone_keeps_its_turn_to_its_end(spec: Obj) -> None:
    desk, keys = await hidden(spec)
    count = len(desk.cluster.calls)
    for _ in range(60):  # no event tells of its end, but it is not asked for all the time either
        again_s = await desk.look(keys[0])
        assert again_s is not None
        assert again_s <= 300.0
        desk.time += again_s
        await desk.look(keys[1])
        assert image(desk, "b") == "data-plane:1"
    assert again_s == 300.0
    assert desk.since(count).count(("get", "Deployment")) == 60
    desk.roll_out(deployment(keys[0]))
    assert await desk.look(keys[0]) is None
    await looked_at(desk, keys[1])
    assert image(desk, "b") == "data-plane:2"
    count = len(desk.cluster.calls)
    desk.time += 10.0
    await looked_at(desk, keys[0])
    assert ("get", "Deployment") not in desk.since(count)  # without a turn there is nothing to ask for


@HELD_UP
async def test_a_new_leader_counts_a_rollout_that_no_watch_shows(spec: Obj) -> None:
    desk, keys = await hidden(spec)
    desk.another_process(replace(NEW_DEFAULT, max_rollouts=1))
    count = len(desk.cluster.calls)
    await looked_at(desk, keys[1])
    assert image(desk, "b") == "data-plane:1"
    assert desk.since(count).count(("get", "Deployment")) == 1
    desk.roll_out(deployment(keys[0]))
    await looked_at(desk, *keys)
    assert image(desk, "b") == "data-plane:2"


@HELD_UP
async def test_a_rollout_that_cannot_be_asked_for_keeps_its_turn_until_it_can(spec: Obj) -> None:
    desk, keys = await hidden(spec)
    answer = desk.cluster._answer
    refused = refuse(desk, "get", "Deployment", ApiError(500, "InternalError", "etcd is away"))
    for _ in range(2):
        with pytest.raises(ApiError):  # so that it is asked for again
            await desk.look(keys[0])
        await desk.look(keys[1])
        assert image(desk, "b") == "data-plane:1"
        desk.another_process(replace(NEW_DEFAULT, max_rollouts=1))
        await desk.look(keys[1])
        assert image(desk, "b") == "data-plane:1"
    assert len(refused) > 2
    desk.cluster._answer = answer  # type: ignore[method-assign]
    desk.roll_out(deployment(keys[0]))
    await looked_at(desk, *keys)
    assert image(desk, "b") == "data-plane:2"


async def test_who_may_roll_is_counted_once_however_many_ask_at_once() -> None:
    desk, keys = await fleet("a", "b", "c", "d")
    desk.cluster.shows = watch(samples.SETTINGS)
    desk.cluster.change(keys[0], {"spec": {"suspend": True}})
    desk.cluster.change(deployment(keys[0]), {"metadata": {"labels": {samples.MANAGED_BY: None}}})
    desk.another_process(replace(NEW_DEFAULT, max_rollouts=1))
    get = desk.cluster.get

    async def slowly(key: Key) -> Obj | None:
        await asyncio.sleep(0)
        return await get(key)

    desk.cluster.get = slowly  # type: ignore[method-assign]
    count = len(desk.cluster.calls)
    await asyncio.gather(*(desk.look(key) for key in keys[1:]))
    assert desk.since(count).count(("get", "Deployment")) == 1
    assert [image(desk, key.name) for key in keys[1:]].count("data-plane:2") == 1
