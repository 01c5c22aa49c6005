"""Writing and deleting children: quarrels bounded, suspend, forced reconciles, entries of pods, policies."""

from dataclasses import replace

import pytest
from auralink_operator.cluster import ApiError
from auralink_operator.index import BRIDGE, POLICY, Key, Obj

from tests.unit.operator import samples
from tests.unit.operator.desk import CONFIG, DEPLOYMENT, KEY, Desk, serving

SERVICE = Key("Service", "ns", "auralink-b")


# --- quarrels ------------------------------------------------------------------------------------------------------


async def fight(desk: Desk, rounds: int, seconds: float = 1.0) -> int:
    """Somebody sets a field of the Service back after each look; answers how often it has been written."""
    before = desk.cluster.calls.count(("apply", SERVICE))
    for _ in range(rounds):
        desk.cluster.change(SERVICE, {"spec": {"selector": {"app.kubernetes.io/name": "theirs"}}})
        desk.time += seconds
        await desk.look()
    return desk.cluster.calls.count(("apply", SERVICE)) - before


async def test_a_quarrel_over_a_field_is_bounded_and_told() -> None:
    desk = await serving()
    assert await fight(desk, 5) == 5
    assert await fight(desk, 60) <= 5
    assert desk.ready() == ("False", "ProgressingWithRetry")
    assert "Service auralink-b" in desk.message()
    assert ".spec.selector" in desk.message()
    statuses = desk.cluster.calls.count(("status", KEY))
    await fight(desk, 60)
    assert desk.cluster.calls.count(("status", KEY)) - statuses <= 1


async def test_who_quarrels_is_named() -> None:
    desk = await serving()
    theirs = {"spec": {"selector": {"app.kubernetes.io/name": "theirs"}}}
    for _ in range(8):
        desk.cluster.applied[SERVICE, "helm", ""] = theirs
        await fight(desk, 1)
    assert "by helm" in desk.message()
    assert desk.cluster.calls.count(("get", SERVICE)) <= 2


async def test_a_quarrel_with_somebody_who_sets_our_own_note_back_too_is_bounded_and_counted() -> None:
    desk = await serving()
    desk.edit(monitoring={"serviceMonitor": "Disabled"})
    await desk.settle()
    before = desk.cluster.calls.count(("apply", SERVICE))
    for _ in range(50):
        theirs = {"metadata": {"annotations": {"auralink.io/applied-hash": "old"}}, "spec": {"ports": []}}
        desk.cluster.change(SERVICE, theirs)
        desk.time += 0.5
        await desk.look()
    repairs = desk.cluster.calls.count(("apply", SERVICE)) - before
    assert repairs < 15
    assert desk.context.metrics.drift_repaired.labels("Service")._value.get() == repairs
    assert desk.ready() == ("False", "ProgressingWithRetry")


async def test_a_quarrel_that_ends_is_forgotten() -> None:
    desk = await serving()
    await fight(desk, 8)
    assert desk.ready() == ("False", "ProgressingWithRetry")
    for _ in range(20):
        again_s = await desk.look()
        if again_s is None:
            break
        desk.time += again_s
    assert desk.ready() == ("True", "Succeeded")
    assert await fight(desk, 1) == 1


async def test_a_user_s_change_of_a_child_that_is_fought_for_does_not_wait() -> None:
    desk = await serving("p1")
    for _ in range(8):
        desk.cluster.change(DEPLOYMENT, {"spec": {"replicas": 5}})
        desk.time += 0.1
        await desk.look()
    desk.edit(replicas=2)
    await desk.look()
    assert desk.replicas() == 2


async def test_lists_that_somebody_has_made_invalid_are_replaced() -> None:
    """An apply leaves others' list items where they are; beside ours they may not be allowed."""
    desk = await serving()
    desk.cluster.change(SERVICE, {"spec": {"ports": [{"name": "http", "port": 81}]}})
    desk.cluster.failures["apply"] = [ApiError(422, "Invalid", "spec.ports[1].name: Duplicate value")]
    count = len(desk.cluster.calls)
    await desk.look()
    assert [verb for verb, key in desk.cluster.calls[count:] if key == SERVICE] == ["apply", "merge", "apply", "merge"]
    assert [port["port"] for port in desk.cluster.objects[SERVICE]["spec"]["ports"]] == [8080, 9090]
    managers = {field["manager"] for field in desk.cluster.objects[SERVICE]["metadata"]["managedFields"]}
    assert managers == {"auralink-operator"}
    await desk.settle()
    assert desk.ready() == ("True", "Succeeded")


async def test_what_the_server_refuses_in_any_form_is_the_user_s() -> None:
    desk = await serving()
    desk.edit(pod={"template": {"spec": {"tolerations": [{"operator": "wrong"}]}}})
    desk.cluster.failures["apply"] = [ApiError(422, "Invalid", "tolerations[0].operator: Unsupported value")]
    desk.cluster.failures["merge"] = [ApiError(422, "Invalid", "tolerations[0].operator: Unsupported value")]
    await desk.look()
    assert desk.ready() == ("False", "InvalidSpec")
    assert "tolerations" in desk.message()


# --- suspend, pause, force -----------------------------------------------------------------------------------------


async def test_a_suspended_bridge_is_told_apart_and_left_alone() -> None:
    desk = await serving()
    desk.edit(suspend=True, replicas=3, drain={"onDelete": True})
    count = len(desk.cluster.calls)
    await desk.look()
    assert desk.ready() == ("False", "Suspended")
    assert "Deployment auralink-b" in desk.message()
    assert {verb for verb, _ in desk.since(count)} <= {"status", "create"}
    desk.cluster.change(DEPLOYMENT, {"spec": {"replicas": 7}})
    await desk.look()
    assert desk.replicas() == 7
    assert desk.cluster.objects[KEY]["metadata"].get("finalizers") is None


async def test_a_paused_operator_changes_nothing() -> None:
    desk = await serving()
    desk.another_process(replace(samples.SETTINGS, paused=True))
    desk.cluster.change(DEPLOYMENT, {"spec": {"replicas": 7}})
    count = len(desk.cluster.calls)
    await desk.look()
    assert {verb for verb, _ in desk.since(count)} <= {"status", "create"}
    assert desk.replicas() == 7
    assert desk.ready()[0] == "False"


def request(desk: Desk, value: str) -> None:
    desk.cluster.change(KEY, {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": value}}})


async def test_a_forced_reconcile_writes_every_child_once_and_says_that_it_has() -> None:
    desk = await serving()
    children = [key for key in desk.cluster.objects if key.kind not in (BRIDGE, "Pod")]
    request(desk, "now")
    count = len(desk.cluster.calls)
    await desk.look()
    assert sorted(key for verb, key in desk.cluster.calls[count:] if verb == "apply") == sorted(children)
    assert desk.status()["lastHandledReconcileAt"] == "now"
    assert desk.ready() == ("True", "Succeeded")
    count = len(desk.cluster.calls)
    await desk.look()
    desk.another_process(samples.SETTINGS)
    await desk.look()
    assert desk.since(count) == []


async def test_a_forced_reconcile_that_fails_is_not_said_to_be_done() -> None:
    desk = await serving()
    request(desk, "now")
    desk.cluster.failures["apply"] = [ApiError(403, "Forbidden", "not allowed")]
    await desk.look()
    assert "lastHandledReconcileAt" not in desk.status()
    await desk.settle()
    assert desk.status()["lastHandledReconcileAt"] == "now"


async def test_a_request_to_a_suspended_bridge_waits_for_its_end() -> None:
    desk = await serving()
    desk.edit(suspend=True)
    request(desk, "now")
    await desk.look()
    assert "lastHandledReconcileAt" not in desk.status()
    desk.edit(suspend=False)
    await desk.settle()
    assert desk.status()["lastHandledReconcileAt"] == "now"


# --- pods' entries -------------------------------------------------------------------------------------------------


async def test_entries_of_strangers_are_asked_for_once_in_ten_minutes() -> None:
    desk = await serving()
    desk.cluster.put(samples.pod("stranger", of=""))
    stranger = Key("Pod", "ns", "stranger")
    desk.report("stranger")
    desk.cluster.objects[KEY]["status"]["pods"].append(samples.entry("nobody"))  # by a manager that we do not know
    for _ in range(5):
        desk.time += 100.0
        await desk.look()
    assert desk.cluster.calls.count(("get", stranger)) == 1
    assert desk.cluster.calls.count(("get", Key("Pod", "ns", "nobody"))) == 1
    desk.time += 200.0
    await desk.look()
    assert desk.cluster.calls.count(("get", stranger)) == 2


async def test_a_pod_that_was_late_in_the_index_is_noticed_when_it_dies() -> None:
    desk = await serving()
    late = Key("Pod", "ns", "p2")
    desk.cluster.lag()
    desk.cluster.put(samples.pod("p2"))
    desk.report("p2")
    assert desk.cluster.frozen is not None
    desk.cluster.frozen[KEY] = desk.cluster.objects[KEY]
    await desk.look()
    assert desk.cluster.calls.count(("get", late)) == 1
    desk.cluster.catch_up()
    await desk.look()
    del desk.cluster.objects[late]
    await desk.look()
    assert [entry["name"] for entry in desk.status()["pods"]] == ["p1"]


async def test_an_entry_that_could_not_be_looked_up_is_looked_up_again() -> None:
    desk = await serving()
    del desk.cluster.objects[Key("Pod", "ns", "p1")]
    desk.cluster.failures["get"] = [ApiError(500, "InternalError", "etcd is away")]
    with pytest.raises(ApiError):
        await desk.look()
    await desk.look()
    assert "pods" not in desk.status()


# --- policies ------------------------------------------------------------------------------------------------------


async def test_a_policy_that_loses_to_an_equal_says_so() -> None:
    desk = await serving()
    for name in ("first", "second"):
        desk.cluster.put(samples.policy(name, qualityLevel=3 if name == "first" else 9))
    loser = Key(POLICY, "ns", "second")
    await desk.look()
    desk.acknowledge("p1", 2)
    await desk.settle()
    assert {await desk.queue.get(), await desk.queue.get()} == {loser, Key(POLICY, "ns", "first")}
    await desk.settle(loser)
    assert desk.condition("Conflicted", loser) == ("True", "SamePriority")
    assert desk.status(loser)["matchedBridges"] == [{"name": "b", "conflicts": ["compression.qualityLevel: first"]}]
    assert desk.condition("PolicyConflict") == ("True", "SamePriority")
    desk.cluster.change(loser, {"spec": {"priority": 5}})
    await desk.settle()
    await desk.settle(loser)
    assert desk.condition("Conflicted", loser) == ("", "")


def of_shard(name: str) -> Obj:
    return samples.bridge(name, labels={"auralink.io/shard": "blue"})


async def test_shards_share_a_policy_s_bridges_and_only_one_speaks() -> None:
    """Each process sees its own bridges only, and both see the policy."""
    policy = Key(POLICY, "ns", "p")
    desk = Desk(samples.bridge("b"), samples.policy("p", qualityLevel=3))
    await desk.settle()
    await desk.settle(policy)
    ours = desk.cluster.objects.pop(KEY)
    config = desk.cluster.objects.pop(CONFIG)

    desk.another_process(replace(samples.SETTINGS, shard="blue"))
    desk.cluster.put(of_shard("c"))
    before = desk.status(policy)["conditions"]
    await desk.settle(Key(BRIDGE, "ns", "c"))
    count = len(desk.cluster.calls)
    await desk.settle(policy)
    assert desk.since(count) == [("status", POLICY)]
    assert {bridge["name"] for bridge in desk.status(policy)["matchedBridges"]} == {"b", "c"}
    assert desk.status(policy)["conditions"] == before

    del desk.cluster.objects[Key(BRIDGE, "ns", "c")]
    desk.another_process(samples.SETTINGS)
    desk.cluster.put(ours, config)
    await desk.settle(policy)
    assert {bridge["name"] for bridge in desk.status(policy)["matchedBridges"]} == {"b", "c"}
    assert desk.status(policy)["matchedBridgeCount"] == 2
    count = len(desk.cluster.calls)
    await desk.look(policy)
    assert desk.since(count) == []


async def test_a_policy_for_another_shard_s_bridges_only_does_select_a_bridge() -> None:
    policy = Key(POLICY, "ns", "p")
    desk = Desk(samples.policy("p", selector={"site": "a"}), settings=replace(samples.SETTINGS, shard="blue"))
    desk.cluster.put(samples.bridge("c", labels={"auralink.io/shard": "blue", "site": "a"}))
    await desk.settle(Key(BRIDGE, "ns", "c"))
    await desk.settle(policy)
    del desk.cluster.objects[Key(BRIDGE, "ns", "c")]
    desk.another_process(samples.SETTINGS)
    await desk.settle(policy)
    assert desk.condition("Resolved", policy) == ("True", "BridgesMatched")
    assert "no bridge of this shard" in desk.message(policy)
    assert desk.status(policy)["matchedBridgeCount"] == 1


async def test_a_field_that_the_server_does_not_know_is_the_user_s() -> None:
    desk = await serving()
    desk.edit(pod={"template": {"spec": {"dnsPolicy": "Default"}}})
    said = "failed to create typed patch object: .spec.template.spec.foo: field not declared in schema"
    desk.cluster.failures["apply"] = [ApiError(500, "InternalError", said)]
    await desk.look()
    assert desk.ready() == ("False", "InvalidSpec")
