"""The verb against an API server in memory: whose turn it is after each kind of failure, and what is not called."""

import asyncio

import pytest
from auralink_operator.cluster import ApiError
from auralink_operator.index import BRIDGE, POLICY, Key
from auralink_operator.report import PROGRESS_EVERY_S, STATUS_EVERY_S

from tests.unit.operator import samples
from tests.unit.operator.desk import CONFIG, DEPLOYMENT, KEY, Desk, serving


async def test_the_status_is_written_once_the_watch_has_shown_the_children() -> None:
    desk = Desk(samples.bridge())
    assert await desk.look() == 5.0
    assert "conditions" not in desk.status()
    await desk.look()
    assert desk.ready() == ("False", "Progressing")


async def test_a_steady_bridge_costs_no_call() -> None:
    desk = await serving()
    count = len(desk.cluster.calls)
    assert await desk.look() is None
    assert desk.since(count) == []


async def test_a_key_waits_for_the_watch_to_show_its_own_writes() -> None:
    desk = await serving()
    desk.cluster.objects[KEY]["spec"]["replicas"] = 2
    desk.cluster.lag()
    await desk.look()
    count = len(desk.cluster.calls)
    desk.time += 2.0
    assert await desk.look() == pytest.approx(3.0)
    assert desk.since(count) == []
    desk.cluster.catch_up()
    await desk.look()
    assert ("get", "Deployment") not in desk.since(count)


async def test_a_watch_that_stays_behind_is_asked_about_after_five_seconds() -> None:
    desk = await serving()
    desk.cluster.lag()
    del desk.cluster.objects[CONFIG]
    assert desk.cluster.frozen is not None
    del desk.cluster.frozen[CONFIG]
    await desk.look()
    desk.time += 6.0
    count = len(desk.cluster.calls)
    await desk.look()
    assert desk.since(count)[0] == ("get", "ConfigMap")


async def test_a_policy_s_acknowledgement_is_waited_for_before_the_status_says_otherwise() -> None:
    desk = await serving()
    policy = samples.policy("p", qualityLevel=1)
    desk.cluster.objects[Key(POLICY, "ns", "p")] = policy
    await desk.look()
    assert await desk.look() == pytest.approx(1.0)
    assert desk.ready() == ("True", "Succeeded")
    desk.acknowledge("p1", 2)
    desk.time += 0.3
    await desk.look()
    assert desk.ready() == ("True", "Succeeded")
    assert desk.status()["config"]["ackedGeneration"] == 2


async def test_a_pod_that_does_not_acknowledge_in_a_second_shows() -> None:
    desk = await serving()
    desk.cluster.objects[Key(POLICY, "ns", "p")] = samples.policy("p", qualityLevel=1)
    await desk.look()
    await desk.look()
    desk.time += 1.1
    await desk.look()
    assert desk.ready() == ("False", "ConfigPropagating")


@pytest.mark.parametrize(
    ("error", "ready"),
    [
        (ApiError(422, "Invalid", "spec.x: wrong"), ("False", "InvalidSpec")),
        (ApiError(403, "Forbidden", "not allowed"), ("False", "AccessDenied")),
        (ApiError(403, "Forbidden", "exceeded quota: compute"), ("False", "Progressing")),
    ],
)
async def test_a_refused_child_says_who_is_to_act_and_the_others_are_made(
    error: ApiError, ready: tuple[str, str]
) -> None:
    desk = Desk(samples.bridge())
    desk.cluster.failures["apply"] = [error]
    await desk.look()
    assert desk.ready() == ready
    if error.status == 422:
        assert DEPLOYMENT in desk.cluster.objects


@pytest.mark.parametrize("error", [ApiError(409, "Conflict", "changed"), ApiError(0, "NoAnswer", "timeout")])
async def test_what_may_pass_by_itself_is_raised_for_the_queue(error: ApiError) -> None:
    desk = Desk(samples.bridge())
    desk.cluster.failures["apply"] = [error]
    with pytest.raises(ApiError):
        await desk.look()
    assert desk.ready() == ("False", "Progressing")
    await desk.settle()
    assert DEPLOYMENT in desk.cluster.objects


async def test_five_failures_in_a_row_are_reported() -> None:
    desk = await serving()
    for _ in range(4):
        desk.queue.add(KEY)
        desk.time += 1.0
        await asyncio.wait_for(desk.queue.get(), 1)
        desk.queue.done(KEY, failed=True)
    desk.cluster.objects[KEY]["spec"]["replicas"] = 2
    desk.cluster.failures["apply"] = [ApiError(500, "InternalError", "etcd is away")]
    with pytest.raises(ApiError):
        await desk.look()
    assert desk.ready() == ("False", "ProgressingWithRetry")


async def test_a_terminating_namespace_is_left_alone() -> None:
    desk = Desk(samples.bridge())
    refused = ApiError(403, "Forbidden", "ns is being terminated", ("NamespaceTerminating",))
    desk.cluster.failures["apply"] = [refused]
    assert await desk.look() is None
    assert "conditions" not in desk.status()


async def test_a_bridge_that_is_gone_behind_the_watch_s_back_gets_no_children() -> None:
    desk = await serving()
    desk.cluster.lag()
    assert desk.cluster.frozen is not None
    for key in (KEY, CONFIG):
        del desk.cluster.objects[key]
    del desk.cluster.frozen[CONFIG]
    assert await desk.look() is None
    assert CONFIG not in desk.cluster.objects
    assert "uid-b" in desk.ghosts
    assert await desk.look() is None


async def test_a_status_of_a_bridge_that_is_gone_makes_a_ghost() -> None:
    desk = await serving()
    desk.cluster.lag()
    assert desk.cluster.frozen is not None
    desk.cluster.frozen[KEY]["status"]["pods"] = [samples.entry("p1", 1, problems=["PacketLoss"])]
    del desk.cluster.objects[KEY]
    assert await desk.look() is None
    assert "uid-b" in desk.ghosts


async def test_a_policy_that_is_gone_behind_the_watch_s_back_is_taken_out_of_its_bridges() -> None:
    policy = Key(POLICY, "ns", "p")
    desk = Desk(samples.bridge(), samples.policy("p", qualityLevel=3))
    await desk.settle()
    desk.cluster.lag()
    del desk.cluster.objects[policy]
    assert await desk.look(policy) is None
    assert await asyncio.wait_for(desk.queue.get(), 1) in (KEY, policy)
    assert await asyncio.wait_for(desk.queue.get(), 1) in (KEY, policy)


async def test_a_child_of_an_earlier_bridge_of_the_name_is_waited_for() -> None:
    old = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": "auralink-b",
            "namespace": "ns",
            "uid": "old",
            "ownerReferences": [{"kind": BRIDGE, "name": "b", "uid": "uid-of-before"}],
        },
    }
    desk = Desk(samples.bridge(), old)
    assert await desk.look() == 2.0
    assert desk.ready() == ("False", "Progressing")


async def test_a_child_that_never_stays_as_written_does_not_keep_the_bridge_silent() -> None:
    desk = Desk(samples.bridge())
    await desk.look()
    for _ in range(3):
        desk.cluster.objects[CONFIG]["data"]["config.json"] = "theirs"
        await desk.look()
    assert desk.ready() == ("False", "Progressing")


async def test_the_entry_of_a_pod_that_still_lives_stays() -> None:
    desk = await serving()
    desk.cluster.lag()
    assert desk.cluster.frozen is not None
    del desk.cluster.frozen[Key("Pod", "ns", "p1")]
    await desk.look()
    assert desk.status()["pods"]


async def test_the_entry_of_a_dead_pod_goes() -> None:
    desk = await serving()
    del desk.cluster.objects[Key("Pod", "ns", "p1")]
    await desk.look()
    assert "pods" not in desk.status()
    assert ("status", KEY) in desk.cluster.calls


async def test_an_unreadable_spec_is_stalled_and_the_children_stay() -> None:
    desk = await serving()
    desk.cluster.objects[KEY]["spec"]["compression"] = {"qualityLevel": 99}
    await desk.look()
    assert desk.ready() == ("False", "InvalidSpec")
    assert CONFIG in desk.cluster.objects


async def test_an_unreadable_policy_is_stalled_and_does_not_hold_up_the_bridge() -> None:
    desk = await serving()
    policy = Key(POLICY, "ns", "p")
    desk.cluster.objects[policy] = samples.policy("p", qualityLevel=99)
    await desk.look(policy)
    assert desk.ready(policy) == ("False", "InvalidSpec")
    count = len(desk.cluster.calls)
    await desk.look()
    assert desk.since(count) == []


async def test_a_policy_is_ready_when_its_bridges_carry_it() -> None:
    desk = await serving()
    policy = Key(POLICY, "ns", "p")
    desk.cluster.objects[policy] = samples.policy("p", qualityLevel=1)
    assert await desk.look(policy) == pytest.approx(1.0)
    assert "conditions" not in desk.status(policy)
    desk.time += 1.5
    await desk.look(policy)
    assert desk.ready(policy) == ("False", "Progressing")
    await desk.look()
    await desk.look(policy)
    assert desk.ready(policy) == ("True", "Succeeded")


async def test_a_policy_that_is_carried_in_time_says_so_with_one_write() -> None:
    desk = await serving()
    policy = Key(POLICY, "ns", "p")
    desk.cluster.objects[policy] = samples.policy("p", qualityLevel=1)
    await desk.look(policy)
    await desk.look()
    await desk.look(policy)
    assert desk.ready(policy) == ("True", "Succeeded")
    assert desk.cluster.calls.count(("status", policy)) == 1


async def test_a_flip_posts_an_event_and_its_refusal_is_no_failure() -> None:
    desk = await serving()
    assert [key.name for verb, key in desk.cluster.calls if verb == "create"] == ["Succeeded"]
    desk.cluster.failures["create"] = [ApiError(403, "Forbidden", "no events here")]
    desk.report("p1", problems=["AICoreUnavailable"])
    await desk.look()
    assert any(c["type"] == "Degraded" for c in desk.status()["conditions"])


async def test_how_far_a_new_bridge_is_is_no_news() -> None:
    """Its pods are there before they have acknowledged: another reason for the same, for a moment."""
    desk = Desk(samples.bridge(), samples.pod("p1"))
    await desk.look()
    await desk.look()
    assert desk.ready() == ("False", "Progressing")
    writes = desk.cluster.calls.count(("status", KEY))
    desk.roll_out()
    again_s = await desk.look()
    assert again_s is not None
    assert 0 < again_s <= PROGRESS_EVERY_S
    assert desk.cluster.calls.count(("status", KEY)) == writes
    desk.time += again_s
    await desk.look()
    assert desk.ready() == ("False", "ConfigPropagating")
    desk.acknowledge("p1", 1)
    await desk.settle()
    assert desk.ready() == ("True", "Succeeded")


async def test_details_are_told_together_and_news_at_once() -> None:
    desk = await serving()
    writes = desk.cluster.calls.count(("status", KEY))
    desk.report("p1", rooms=2)
    await desk.look()
    for rooms in (3, 4, 5):
        desk.report("p1", rooms=rooms)
        desk.time += 0.2
        assert await desk.look() == pytest.approx(STATUS_EVERY_S - (rooms - 2) * 0.2)
    assert desk.cluster.calls.count(("status", KEY)) == writes + 1
    desk.report("p1", rooms=6, problems=["CredentialsMissing"])
    await desk.look()
    assert desk.ready() == ("False", "DependencyNotReady")
    assert desk.status()["rooms"] == 6
    desk.report("p1", rooms=7, problems=["CredentialsMissing"])
    assert await desk.look() == pytest.approx(PROGRESS_EVERY_S)
    desk.time += PROGRESS_EVERY_S
    await desk.look()
    assert desk.status()["rooms"] == 7
