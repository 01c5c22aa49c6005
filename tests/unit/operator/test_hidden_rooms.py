"""Rooms whose pod, ConfigMap or EndpointSlice the watch does not show: nothing is moved, made or emptied blind."""

from dataclasses import replace
from json import dumps
from typing import Any

import pytest
from auralink_operator.cluster import ApiError
from auralink_operator.index import POD, Key, Obj

from tests.unit.operator import samples
from tests.unit.operator.desk import CONFIG, KEY, Desk, serving
from tests.unit.operator.test_one_refused_request import BROKEN, DENIED, looks, owner, refuse
from tests.unit.operator.test_refused import CLASH, UNREADABLE, UNRENDERABLE, led_to
from tests.unit.operator.test_sight import BLUE, SHARD, of_kind, watch

ERRORS = pytest.mark.parametrize("error", [DENIED, BROKEN], ids=lambda error: error.reason)
INVALID = pytest.mark.parametrize(
    "spec", [CLASH, UNREADABLE, UNRENDERABLE], ids=["clash", "unreadable", "unrenderable"]
)
NODE = {
    "kind": "Node",
    "metadata": {"name": "node-1", "namespace": "", "uid": "uid-node-1"},
    "status": {"addresses": [{"type": "ExternalIP", "address": "203.0.113.1"}]},
}


def hide(desk: Desk, *keys: Key) -> None:
    """Somebody takes off the label that the watches select by."""
    desk.cluster.shows = watch(samples.SETTINGS)
    for key in keys:
        desk.cluster.change(key, {"metadata": {"labels": {samples.MANAGED_BY: None}}})


def slice_of(desk: Desk) -> Key:
    (key,) = of_kind(desk, "EndpointSlice")
    return key


async def exposed(mode: str) -> Desk:
    desk = Desk(samples.bridge(exposure={"mode": mode}, replicas=2), samples.pod("p1"), samples.pod("p2"), NODE)
    await desk.look()
    for name in ("p1", "p2"):
        desk.report(name, 1, rooms=1, sessions=1, node="node-1")
    await desk.settle()
    desk.time += 100.0
    return desk


@ERRORS
@pytest.mark.parametrize("mode", ["ClusterIP", "NodePort", "LoadBalancer", "HostPort", "HostNetwork"])
async def test_a_pod_that_cannot_be_asked_for_keeps_its_rooms_however_they_are_exposed(
    mode: str, error: ApiError
) -> None:
    desk = await exposed(mode)
    before, told = owner(desk), desk.cluster.objects[CONFIG]["data"]
    hide(desk, Key(POD, "ns", before))
    refuse(desk, "get", POD, error)
    await looks(desk, 4)
    assert owner(desk) == before
    assert desk.cluster.objects[CONFIG]["data"] == told


async def test_a_pod_that_has_not_said_which_node_it_is_on_keeps_its_rooms_and_no_nameless_node_is_blamed() -> None:
    desk = await exposed("HostNetwork")
    before = owner(desk)
    desk.report(before, 1, rooms=1, sessions=1)
    hide(desk, Key(POD, "ns", before))
    refuse(desk, "get", POD, BROKEN)
    await looks(desk, 4)
    assert owner(desk) == before
    assert "of Node  is" not in desk.message(of="ExposureReady")


@ERRORS
@pytest.mark.parametrize("visible", [True, False], ids=["config-seen", "config-hidden"])
async def test_packets_go_on_to_a_pod_of_which_nothing_but_its_name_can_be_seen(visible: bool, error: ApiError) -> None:
    desk = await serving("p1", "p2")
    before = owner(desk)
    hide(desk, Key(POD, "ns", before), slice_of(desk), *(() if visible else (CONFIG,)))
    refuse(desk, "get", POD, error)
    await looks(desk, 4)
    assert owner(desk) == led_to(desk) == before
    assert desk.cluster.objects[slice_of(desk)]["endpoints"][0]["addresses"] == ["10.0.0.1"]
    assert desk.cluster.objects[slice_of(desk)]["metadata"]["labels"][samples.MANAGED_BY]


@ERRORS
async def test_no_slice_is_written_for_a_pod_whose_address_nobody_can_tell(error: ApiError) -> None:
    desk = await serving("p1", "p2")
    before, told = owner(desk), slice_of(desk)
    hide(desk, Key(POD, "ns", before))
    desk.cluster.delete_now(told)
    refuse(desk, "get", POD, error)
    await looks(desk, 4)
    assert owner(desk) == before
    assert of_kind(desk, "EndpointSlice") == []
    del desk.cluster._answer
    await desk.settle()
    assert owner(desk) == led_to(desk) == before


async def test_a_pod_that_has_an_owner_s_name_in_vain_is_asked_for_and_loses_its_rooms_when_it_is_gone() -> None:
    desk = await exposed("HostPort")
    before = owner(desk)
    del desk.cluster.objects[Key(POD, "ns", before)]
    refuse(desk, "get", POD, DENIED)
    await looks(desk, 2)
    assert owner(desk) == before
    del desk.cluster._answer
    await looks(desk, 2)
    assert owner(desk) != before


# --- while the spec is invalid -------------------------------------------------------------------------------------


async def leaving(*hidden: str, **spec: Any) -> tuple[Desk, str]:
    """The pod with the room begins to drain, the spec is invalid, and some of what says where rooms are is hidden."""
    desk = await serving("p1", "p2")
    before = owner(desk)
    keys = {"ConfigMap": CONFIG, "EndpointSlice": slice_of(desk)}
    hide(desk, *(keys[kind] for kind in hidden))
    desk.report(before, 1, phase="Draining", rooms=1, sessions=1)
    desk.edit(**spec)
    desk.time += 100.0
    return desk, before


@INVALID
@pytest.mark.parametrize("hidden", [["ConfigMap"], ["EndpointSlice"], ["ConfigMap", "EndpointSlice"]], ids="+".join)
async def test_rooms_move_whole_though_the_spec_is_invalid_and_children_are_hidden(
    hidden: list[str], spec: Obj
) -> None:
    desk, before = await leaving(*hidden, **spec)
    await looks(desk, 2)
    assert owner(desk) == led_to(desk) != before
    for key in (CONFIG, slice_of(desk)):
        assert desk.cluster.objects[key]["metadata"]["labels"][samples.MANAGED_BY]
    assert desk.ready() == ("False", "InvalidSpec")
    count = len(desk.cluster.calls)
    await desk.look()
    assert desk.since(count) == []


@INVALID
@ERRORS
@pytest.mark.parametrize("kind", ["ConfigMap", "EndpointSlice"])
async def test_while_what_says_where_a_room_is_cannot_be_read_the_room_stays(
    kind: str, error: ApiError, spec: Obj
) -> None:
    desk, before = await leaving(kind, **spec)
    refuse(desk, "get", kind, error)
    await looks(desk, 2)
    assert owner(desk) == led_to(desk) == before
    assert desk.ready() == ("False", "InvalidSpec")
    del desk.cluster._answer
    await looks(desk, 2)
    assert owner(desk) == led_to(desk) != before


@INVALID
async def test_an_invalid_bridge_that_changes_shards_goes_on_to_move_its_rooms(spec: Obj) -> None:
    for settings, label in ((BLUE, "blue"), (samples.SETTINGS, None)):
        desk = await serving("p1", "p2", settings=replace(settings, shard="" if label else "blue"))
        before = owner(desk)
        desk.cluster.change(KEY, {"metadata": {"labels": {SHARD: label}}, "spec": spec})
        desk.another_process(settings)
        desk.cluster.shows = watch(settings)
        await looks(desk, 2)
        assert owner(desk) == led_to(desk) == before
        assert desk.cluster.shows(desk.cluster.objects[CONFIG])
        desk.report(before, 1, phase="Draining", rooms=1, sessions=1)
        await looks(desk, 2)
        assert owner(desk) == led_to(desk) != before


async def test_a_room_of_an_invalid_bridge_whose_pod_is_gone_is_not_made_another_s_by_a_refusal() -> None:
    desk, before = await leaving("EndpointSlice", **UNREADABLE)
    del desk.cluster.objects[Key(POD, "ns", before)]
    desk.cluster.change(CONFIG, {"data": {"owners.json": dumps({"demo": before})}})
    refuse(desk, "get", "EndpointSlice", DENIED)
    await looks(desk, 2)
    assert owner(desk) == before
    del desk.cluster._answer
    await looks(desk, 2)
    assert owner(desk) == led_to(desk) != before


async def test_an_endpointslice_without_ports_keeps_no_room_of_an_invalid_bridge_where_it_is() -> None:
    desk = await serving("p1", "p2")
    before = owner(desk)
    desk.cluster.objects[Key(POD, "ns", before)]["status"]["conditions"][0]["status"] = "False"
    desk.cluster.change(slice_of(desk), {"ports": None})
    desk.edit(**UNREADABLE)
    await looks(desk, 2)
    assert owner(desk) != before
    assert desk.ready() == ("False", "InvalidSpec")
