"""What a reconcile decides before it renders, over the API server in memory: owners, replicas, costs, addresses."""

from dataclasses import replace
from json import dumps, loads
from typing import Any

import pytest
from auralink_operator.cluster import ApiError
from auralink_operator.index import Key, Obj
from auralink_operator.scaling import COST_INTERVAL_S, DELETION_COST
from auralink_operator.settings import Settings

from tests.unit.operator import samples
from tests.unit.operator.desk import CONFIG, DEPLOYMENT, KEY, Desk, serving
from tests.unit.operator.test_one_refused_request import DENIED, refuse

ROOMS = [samples.room(f"room-{number}", 5000 + 10 * number) for number in range(8)]
AUTO = {"minReplicas": 2, "maxReplicas": 6, "driver": "HPA", "targetSessionsPerPod": 10}


def owners(desk: Desk) -> dict[str, str]:
    return dict(loads(desk.cluster.objects[CONFIG]["data"]["owners.json"]))


def slices(desk: Desk) -> dict[str, str]:
    """Room -> pod by the EndpointSlices; "" where nobody is named."""
    found = {}
    for key, obj in desk.cluster.objects.items():
        if key.kind == "EndpointSlice":
            names = [endpoint["targetRef"]["name"] for endpoint in obj["endpoints"]]
            found[obj["metadata"]["annotations"]["auralink.io/room"]] = "".join(names)
    return found


def pod_key(name: str) -> Key:
    return Key("Pod", "ns", name)


def cost(desk: Desk, name: str) -> str | None:
    found: str | None = desk.cluster.objects[pod_key(name)]["metadata"]["annotations"].get(DELETION_COST)
    return found


# --- owners --------------------------------------------------------------------------------------------------------


async def test_config_and_slices_name_the_same_owners() -> None:
    desk = await serving("p1", "p2", "p3", rooms=ROOMS)
    assert owners(desk) == slices(desk)
    assert set(owners(desk)) == {room["name"] for room in ROOMS}
    assert len(set(owners(desk).values())) > 1


@pytest.mark.parametrize("how", ["draining", "deleted", "not ready", "gone"])
async def test_rooms_of_a_pod_that_leaves_move_in_one_look_and_the_others_stay(how: str) -> None:
    desk = await serving("p1", "p2", "p3", rooms=ROOMS)
    before, count = owners(desk), len(desk.cluster.calls)
    if how == "draining":
        desk.report("p2", phase="Draining", sessions=1)
    elif how == "deleted":
        desk.cluster.change(pod_key("p2"), {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
    elif how == "not ready":
        desk.cluster.put(samples.pod("p2", ready=False))
    else:
        del desk.cluster.objects[pod_key("p2")]
    await desk.look()
    after = owners(desk)
    assert "p2" not in after.values()
    assert {room for room in before if before[room] != after[room]} == {r for r in before if before[r] == "p2"}
    assert slices(desk) == after
    written = [kind for verb, kind in desk.since(count) if verb == "apply"]
    assert written[0] == "ConfigMap"  # the new owner opens its sockets before packets come
    assert set(written[1:]) == {"EndpointSlice"}


async def test_a_pod_that_comes_up_disturbs_no_session() -> None:
    desk = await serving("p1", "p2", rooms=ROOMS)
    before = owners(desk)
    desk.edit(replicas=3)
    desk.cluster.put(samples.pod("p3"))
    desk.acknowledge("p3", 1)
    await desk.settle()
    assert owners(desk) == before


async def test_the_last_pod_keeps_its_rooms_while_it_drains() -> None:
    desk = await serving("p1", rooms=ROOMS)
    before = owners(desk)
    desk.report("p1", phase="Draining", sessions=1)
    desk.cluster.put(samples.pod("p1", ready=False, deleting=True))
    await desk.look()
    assert owners(desk) == slices(desk) == before


async def test_a_lost_configuration_comes_back_with_the_owners_that_serve() -> None:
    desk = await serving("p1", "p2", rooms=ROOMS)
    desk.cluster.put(samples.pod("p3"))
    desk.acknowledge("p3", 1)
    await desk.settle()
    before = owners(desk)
    desk.another_process(samples.SETTINGS)
    del desk.cluster.objects[CONFIG]
    await desk.look()
    assert owners(desk) == before


@pytest.mark.parametrize("text", ["{", "[]", '{"room-1": 3}', ""])
async def test_owners_that_somebody_has_spoilt_are_repaired(text: str) -> None:
    desk = await serving("p1", "p2", rooms=ROOMS)
    before = owners(desk)
    desk.cluster.change(CONFIG, {"data": {"owners.json": text}})
    await desk.look()
    assert owners(desk) == before


async def test_no_generation_is_given_twice_though_status_and_configuration_are_lost() -> None:
    """A pod has applied one that the operator died before telling of, and the ConfigMap is deleted."""
    desk = await serving()
    desk.edit(compression={"qualityLevel": 2})
    await desk.look()
    desk.report("p1", 2)
    desk.cluster.delete_now(CONFIG)
    desk.edit(compression={"qualityLevel": 3})
    desk.another_process(samples.SETTINGS)
    await desk.look()
    assert loads(desk.cluster.objects[CONFIG]["data"]["config.json"])["generation"] == 3
    await desk.look()
    assert desk.condition("ConfigAcked") == ("False", "PodsBehind")


# --- costs and fixed replicas --------------------------------------------------------------------------------------


async def test_pods_are_marked_with_their_sessions_once_per_change() -> None:
    desk = await serving("p1", "p2")
    assert (cost(desk, "p1"), cost(desk, "p2")) == ("1", "1")
    desk.report("p1", sessions=5)
    desk.time += 20.0
    await desk.look()
    assert (cost(desk, "p1"), cost(desk, "p2")) == ("5", "1")
    assert desk.cluster.calls.count(("merge", pod_key("p1"))) == 2
    assert desk.cluster.calls.count(("merge", pod_key("p2"))) == 1


async def test_a_pod_is_marked_at_most_once_in_ten_seconds() -> None:
    desk = await serving("p1", "p2")
    desk.time += 20.0
    for sessions in (2, 5, 10):
        desk.report("p1", sessions=sessions)
        desk.time += 1.0
        again_s = await desk.look()
    assert cost(desk, "p1") == "2"
    assert again_s == pytest.approx(8.0)
    desk.time += 8.0
    await desk.look()
    assert cost(desk, "p1") == "10"


async def test_where_one_pod_is_the_most_none_is_marked() -> None:
    desk = await serving()
    assert ("merge", pod_key("p1")) not in desk.cluster.calls


async def test_replicas_are_lowered_only_after_the_index_shows_fresh_costs() -> None:
    desk = await serving("p1", "p2", "p3")
    desk.report("p1", sessions=20)
    desk.edit(replicas=2)
    again_s = await desk.look()
    assert again_s is not None
    assert again_s < COST_INTERVAL_S
    assert desk.replicas() == 3
    assert desk.ready() == ("False", "Progressing")
    desk.time += COST_INTERVAL_S
    desk.cluster.lag()
    await desk.look()
    assert cost(desk, "p1") == "20"
    await desk.look()
    assert desk.replicas() == 3  # written, but not seen
    desk.cluster.catch_up()
    await desk.look()
    assert desk.replicas() == 2


async def test_a_suspended_bridge_does_not_claim_to_mark_its_pods() -> None:
    desk = await serving("p1", "p2", "p3")
    desk.edit(suspend=True)
    await desk.look()
    desk.report("p1", rooms=5, sessions=5)
    desk.edit(replicas=2)
    for _ in range(2):
        assert await desk.look() is None
        desk.time += 20.0
    assert desk.ready() == ("False", "Suspended")
    assert "Deployment auralink-b" in desk.message()
    assert desk.condition("Reconciling") == ("", "")


async def test_replicas_are_raised_at_once() -> None:
    desk = await serving("p1", "p2")
    desk.report("p1", sessions=20)
    desk.edit(replicas=3)
    await desk.look()
    assert desk.replicas() == 3


async def test_a_pod_that_is_gone_before_it_is_marked_is_no_failure() -> None:
    desk = await serving("p1", "p2")
    desk.time += 20.0
    desk.report("p1", sessions=5)
    desk.cluster.lag()
    del desk.cluster.objects[pod_key("p1")]
    await desk.look()


# --- the drivers ---------------------------------------------------------------------------------------------------


async def test_replicas_belong_to_the_hpa_once_it_has_written_them() -> None:
    desk = Desk(samples.bridge(autoscaling=AUTO), samples.pod("p1"), samples.pod("p2"))
    desk.acknowledge("p1", 1)
    desk.acknowledge("p2", 1)
    await desk.settle()
    assert desk.replicas() == 2
    assert desk.child("HorizontalPodAutoscaler") is not None
    desk.cluster.scale(DEPLOYMENT, 4)
    await desk.settle()
    assert desk.replicas() == 4
    assert "replicas" not in desk.cluster.applied[DEPLOYMENT, "auralink-operator", ""]["spec"]
    desk.cluster.scale(DEPLOYMENT, 3)
    count = len(desk.cluster.calls)
    desk.roll_out()
    await desk.look()
    assert ("apply", "Deployment") not in desk.since(count)


async def test_what_was_scaled_to_nothing_by_hand_under_an_hpa_comes_back() -> None:
    desk = Desk(samples.bridge(autoscaling=AUTO), samples.pod("p1"), samples.pod("p2"))
    await desk.settle()
    desk.cluster.scale(DEPLOYMENT, 3)
    await desk.settle()
    desk.cluster.scale(DEPLOYMENT, 0, "kubectl")
    await desk.settle()
    assert desk.replicas() == 2


async def test_what_stood_there_before_the_hpa_stays_until_it_acts() -> None:
    desk = await serving("p1", "p2", "p3")
    desk.edit(replicas=None, autoscaling=AUTO)
    await desk.settle()
    assert desk.replicas() == 3
    assert desk.cluster.applied[DEPLOYMENT, "auralink-operator", ""]["spec"]["replicas"] == 3


async def test_from_the_hpa_back_to_a_number() -> None:
    desk = Desk(samples.bridge(autoscaling=AUTO), samples.pod("p1"), samples.pod("p2"))
    desk.acknowledge("p1", 1)
    desk.acknowledge("p2", 1)
    await desk.settle()
    desk.cluster.scale(DEPLOYMENT, 4)
    desk.edit(replicas=2, autoscaling=None)
    await desk.settle()
    assert desk.replicas() == 2
    assert desk.child("HorizontalPodAutoscaler") is None


async def test_the_operator_scales_where_it_is_asked_to_and_then_there_is_no_hpa() -> None:
    desk = Desk(samples.bridge(autoscaling={**AUTO, "driver": "Operator"}), samples.pod("p1"), samples.pod("p2"))
    desk.acknowledge("p1", 1)
    desk.acknowledge("p2", 1)
    await desk.settle()
    assert desk.replicas() == 2
    assert desk.child("HorizontalPodAutoscaler") is None
    desk.report("p1", sessions=20)
    desk.report("p2", sessions=2)
    await desk.settle()
    assert desk.replicas() == 6  # 49 and 4 sessions at the most, 10 a pod, and 6 pods at the most


async def test_the_operator_comes_back_when_the_window_is_over() -> None:
    desk = Desk(samples.bridge(autoscaling={**AUTO, "minReplicas": 1, "driver": "Operator"}))
    desk.cluster.put(samples.pod("p1"), samples.pod("p2"))
    await desk.look()
    desk.cluster.change(DEPLOYMENT, {"spec": {"replicas": 2}})
    desk.acknowledge("p1", 1)
    desk.acknowledge("p2", 1)
    await desk.settle()
    again_s = await desk.look()
    assert again_s is not None
    assert desk.replicas() == 2
    desk.time += again_s
    await desk.settle()
    assert desk.replicas() == 1


# --- addresses -----------------------------------------------------------------------------------------------------


NODE = Key("Node", "", "node-1")


def node(address: str = "203.0.113.7", of: str = "ExternalIP") -> Obj:
    state = {"addresses": [{"type": of, "address": address}]}
    meta = {"name": "node-1", "uid": "uid-node-1", "resourceVersion": "1"}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": state}


async def on_hosts(*objects: Obj, settings: Settings = samples.SETTINGS, **exposure: Any) -> Desk:
    """A bridge in mode HostPort, whose pod has what there is of a configuration."""
    bridge = samples.bridge(exposure={"mode": "HostPort", **exposure})
    desk = Desk(bridge, samples.pod("p1"), *objects, settings=settings)
    await desk.look()
    desk.acknowledge("p1", 1)
    await desk.settle()
    return desk


def told(desk: Desk) -> dict[str, Any]:
    return dict(loads(desk.cluster.objects[CONFIG]["data"]["addresses.json"]))


async def test_the_address_of_a_node_is_asked_for_once_in_ten_minutes() -> None:
    desk = await on_hosts(node())
    assert told(desk)["demo/in/video"] == {"ip": "203.0.113.7", "port": 5004}
    assert await desk.look() is None, "nothing is looked for again"
    asked = desk.cluster.calls.count(("get", NODE))
    assert asked == 1
    desk.cluster.put(node("203.0.113.8"))
    desk.time += 590.0
    await desk.look()
    assert told(desk)["demo/in/video"]["ip"] == "203.0.113.7"
    desk.time += 11.0
    await desk.look()
    assert told(desk)["demo/in/video"]["ip"] == "203.0.113.8"
    assert desk.cluster.calls.count(("get", NODE)) == 2


LACKING = [None, node("10.9.0.1", "InternalIP"), node("", "ExternalIP")]


@pytest.mark.parametrize("lacking", LACKING, ids=["no Node", "another address", "an empty address"])
async def test_a_node_without_the_address_is_asked_again_soon(lacking: Obj | None) -> None:
    """A Node that comes up says its addresses when its cloud does, and no event tells of it here."""
    desk = await on_hosts(*([lacking] if lacking else []))
    assert desk.condition("ExposureReady")[0] == "False"
    asked = desk.cluster.calls.count(("get", NODE))
    desk.time += 4.0
    again_s = await desk.look()
    assert again_s is not None
    assert 0 < again_s < 10
    assert desk.cluster.calls.count(("get", NODE)) == asked, "not at each look"
    desk.cluster.put(node())
    desk.time += again_s
    await desk.settle()
    assert told(desk)["demo/in/video"]["ip"] == "203.0.113.7"
    assert desk.ready() == ("True", "Succeeded")
    assert await desk.look() is None


async def test_a_node_that_cannot_be_read_is_asked_again_soon_and_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = await on_hosts()
    reads = desk.cluster.get

    async def get(key: Key) -> Obj | None:
        if key == NODE:
            raise ApiError(503, "ServiceUnavailable", "etcd is away")
        return await reads(key)

    desk.cluster.put(node())
    desk.cluster.get = get  # type: ignore[method-assign]
    with caplog.at_level("INFO", logger="auralink_operator.reconcile"):
        for _ in range(3):
            desk.time += await desk.look() or 0.0
            assert desk.condition("ExposureReady") == ("False", "AddressPending")
        desk.cluster.get = reads  # type: ignore[method-assign]
        desk.time += 10.0
        await desk.settle()
    assert told(desk)["demo/in/video"]["ip"] == "203.0.113.7"
    assert [one.levelname for one in caplog.records if "a Node can" in one.message] == ["WARNING", "INFO"]


async def test_what_one_bridge_can_use_of_a_node_is_not_enough_for_another() -> None:
    desk = await on_hosts(node("10.9.0.1", "InternalIP"), nodeAddressType="InternalIP")
    assert told(desk)["demo/in/video"]["ip"] == "10.9.0.1"
    desk.cluster.put(node())
    desk.edit(exposure={"nodeAddressType": "ExternalIP"})
    await desk.settle()
    assert told(desk)["demo/in/video"]["ip"] == "203.0.113.7"


async def test_without_the_right_to_read_nodes_none_is_asked_for() -> None:
    settings = replace(samples.SETTINGS, nodes=False)
    desk = await on_hosts(node(), settings=settings)
    assert ("get", "Node") not in desk.since(0)
    assert await desk.look() is None
    assert desk.ready()[0] == "False"
    assert desk.condition("ExposureReady")[0] == "False"


async def test_a_node_that_cannot_be_read_keeps_the_address_that_is_known() -> None:
    desk = await on_hosts(node())
    desk.time += 601.0
    desk.cluster.failures["get"] = [ApiError(500, "InternalError", "etcd is away")]
    await desk.look()
    assert told(desk)["demo/in/video"]["ip"] == "203.0.113.7"
    desk.cluster.put(node("203.0.113.8"))
    desk.time += 11.0
    await desk.look()
    assert told(desk)["demo/in/video"]["ip"] == "203.0.113.8", "and is soon asked again"


@pytest.mark.parametrize(
    ("said", "exposed"),
    [({}, ("False", "AddressPending")), ({"node": "node-1"}, ("True", "AddressKnown"))],
    ids=["no Node", "its Node"],
)
async def test_the_rooms_of_a_pod_that_cannot_be_asked_for_are_where_its_entry_says_or_nobody_knows(
    said: Obj, exposed: tuple[str, str]
) -> None:
    bridge = samples.bridge(exposure={"mode": "HostPort"}, rooms=ROOMS, replicas=2)
    desk = Desk(bridge, samples.pod("p1"), samples.pod("p2"), node())
    await desk.look()
    for name in ("p1", "p2"):
        desk.report(name, rooms=1, sessions=1, **said)
    await desk.settle()
    assert desk.condition("ExposureReady") == ("True", "AddressKnown")
    before = owners(desk)
    assert set(before.values()) == {"p1", "p2"}
    refuse(desk, "get", "Pod", DENIED)
    desk.cluster.shows = lambda obj: obj["metadata"]["name"] != "p2"
    for _ in range(3):
        desk.time += 10.0
        await desk.look()
    assert owners(desk) == before
    assert desk.condition("ExposureReady") == exposed
    assert (len(told(desk)) == len(ROOMS)) is (exposed[0] == "True")


async def test_a_rich_steady_bridge_costs_no_call() -> None:
    """With autoscaling, host ports, a policy, and an entry in status.pods that is nobody's."""
    desk = Desk(
        samples.bridge(exposure={"mode": "HostPort"}, autoscaling=AUTO, rooms=ROOMS),
        samples.pod("p1"),
        samples.pod("p2"),
        node(),
        samples.policy("saving", qualityLevel=3),
        samples.pod("stranger", of=""),
    )
    await desk.look()
    desk.cluster.objects[KEY]["status"]["pods"] = [samples.entry("stranger"), samples.entry("nobody")]
    for name in ("p1", "p2"):
        desk.acknowledge(name, 1)
    await desk.settle()
    desk.cluster.scale(DEPLOYMENT, 2)
    await desk.settle()
    assert desk.ready() == ("True", "Succeeded"), dumps(desk.status())
    count = len(desk.cluster.calls)
    for _ in range(3):
        desk.time += 100.0
        await desk.look()
    assert desk.since(count) == []
