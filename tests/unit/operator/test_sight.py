"""Missing from the index is not absent: what a watch does not show is asked for before anything follows from it."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from json import loads

import pytest
from auralink_operator.cluster import ApiError
from auralink_operator.context import Troubles
from auralink_operator.index import BRIDGE, POLICY, Indices, Key, Obj, Store
from auralink_operator.settings import Settings
from auralink_operator.sight import Asked, catch_up

from tests.unit.operator import samples
from tests.unit.operator.desk import CONFIG, DEPLOYMENT, KEY, START, Desk, serving

SHARD = "auralink.io/shard"
BLUE = replace(samples.SETTINGS, shard="blue")
AUTO = {"minReplicas": 2, "maxReplicas": 8}
SIX = [f"p{number}" for number in range(6)]


def watch(settings: Settings) -> Callable[[Obj], bool]:
    """What the watches of an operator select."""

    def shows(obj: Obj) -> bool:
        labels = obj["metadata"].get("labels") or {}
        ours = obj["kind"] == BRIDGE or labels.get(samples.MANAGED_BY) == "auralink-operator"
        return obj["kind"] == POLICY or (ours and labels.get(SHARD) == (settings.shard or None))

    return shows


def owners(desk: Desk) -> dict[str, str]:
    return dict(loads(desk.cluster.objects[CONFIG]["data"]["owners.json"]))


async def grown(driver: str) -> Desk:
    """Scaled from two to six pods by sessions, each with its share."""
    rooms = [samples.room(f"room-{number}", 5000 + 10 * number) for number in range(6)]
    desk = Desk(samples.bridge(autoscaling={"driver": driver, **AUTO}, rooms=rooms), *(samples.pod(n) for n in SIX))
    desk.cluster.shows = watch(samples.SETTINGS)
    await desk.look()
    for name in SIX:
        desk.report(name, 1, rooms=1, sessions=20)
    await desk.settle()
    if driver == "HPA":
        desk.cluster.scale(DEPLOYMENT, 6)
    else:
        desk.cluster.change(DEPLOYMENT, {"spec": {"replicas": 6}})
    await desk.settle()
    desk.time += 100.0
    await desk.settle()
    assert desk.replicas() == 6
    return desk


@pytest.mark.parametrize("driver", ["HPA", "Operator"])
@pytest.mark.parametrize("label", [samples.MANAGED_BY, "auralink.io/bridge"])
async def test_a_label_taken_off_the_deployment_costs_no_pod(driver: str, label: str) -> None:
    desk = await grown(driver)
    desk.cluster.change(DEPLOYMENT, {"metadata": {"labels": {label: None}}})
    await desk.settle()
    assert desk.replicas() == 6
    assert desk.cluster.objects[DEPLOYMENT]["metadata"]["labels"][label]
    assert desk.ready() == ("True", "Succeeded")


async def test_a_label_that_somebody_takes_off_again_and_again_is_a_quarrel_and_costs_no_pod() -> None:
    desk = await grown("Operator")
    written = desk.cluster.calls.count(("apply", DEPLOYMENT))
    for _ in range(50):
        desk.cluster.change(DEPLOYMENT, {"metadata": {"labels": {samples.MANAGED_BY: None}}})
        await desk.look()
        desk.time += 0.5
        assert desk.replicas() == 6
    assert desk.cluster.calls.count(("apply", DEPLOYMENT)) - written < 15


@pytest.mark.parametrize("driver", ["HPA", "Operator"])
async def test_a_bridge_that_changes_shards_keeps_its_pods_and_its_rooms(driver: str) -> None:
    desk = await grown(driver)
    before = owners(desk)
    desk.cluster.change(KEY, {"metadata": {"labels": {SHARD: "blue"}}})
    desk.another_process(BLUE)
    desk.cluster.shows = watch(BLUE)
    for _ in range(4):
        await desk.look()
        assert desk.replicas() == 6
        assert owners(desk) == before
    for key, obj in desk.cluster.objects.items():
        assert key.kind == BRIDGE or obj["metadata"]["labels"][SHARD] == "blue", key
    template = desk.cluster.objects[DEPLOYMENT]["spec"]["template"]
    assert template["metadata"]["labels"][SHARD] == "blue"  # so its pods are replaced, one after the other
    await desk.settle()
    count = len(desk.cluster.calls)
    await desk.look()
    assert desk.since(count) == []


async def test_a_pod_that_cannot_be_labelled_keeps_its_rooms_while_it_serves() -> None:
    desk = await grown("HPA")
    before = owners(desk)
    desk.cluster.change(Key("Pod", "ns", "p1"), {"metadata": {"labels": {samples.MANAGED_BY: None}}})
    desk.cluster.failures["merge"] = [ApiError(500, "InternalError", "failed calling webhook")] * 2
    for _ in range(2):
        with pytest.raises(ApiError):
            await desk.look()
        assert owners(desk) == before
    await desk.settle()
    assert owners(desk) == before
    assert desk.cluster.objects[Key("Pod", "ns", "p1")]["metadata"]["labels"][samples.MANAGED_BY]


@pytest.mark.parametrize("labels", [{}, {samples.MANAGED_BY: None}], ids=["in sight", "hidden too"])
async def test_a_pod_whose_note_of_its_bridge_is_taken_off_keeps_its_rooms(labels: Obj) -> None:
    desk = await grown("HPA")
    before, pod = owners(desk), Key("Pod", "ns", owners(desk)["room-0"])
    of = [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "auralink-b-5d4f8c7b9", "uid": "u"}]
    desk.cluster.change(pod, {"metadata": {"ownerReferences": of}})
    desk.cluster.change(pod, {"metadata": {"annotations": {"auralink.io/bridge-uid": None}, "labels": labels}})
    desk.another_process(samples.SETTINGS)
    await desk.settle()
    assert owners(desk) == before
    assert desk.ready() == ("True", "Succeeded")
    count = len(desk.cluster.calls)
    await desk.look()
    assert desk.since(count) == []


async def test_a_bridge_that_changes_shards_and_is_deleted_still_drains() -> None:
    desk = await serving("p1", "p2", drain={"onDelete": True})
    moment = (START + timedelta(seconds=desk.time)).strftime("%Y-%m-%dT%H:%M:%SZ")
    desk.cluster.change(KEY, {"metadata": {"labels": {SHARD: "blue"}, "deletionTimestamp": moment}})
    desk.another_process(BLUE)
    desk.cluster.shows = watch(BLUE)
    await desk.look()
    assert desk.cluster.objects[KEY]["metadata"]["finalizers"]
    assert desk.replicas() == 0


async def test_while_nothing_may_be_changed_no_label_is_given_back() -> None:
    desk = await serving("p1", "p2", suspend=False)
    desk.edit(suspend=True)
    await desk.settle()
    pod = Key("Pod", "ns", "p1")
    desk.cluster.shows = watch(samples.SETTINGS)
    desk.cluster.change(pod, {"metadata": {"labels": {samples.MANAGED_BY: None}}})
    count = len(desk.cluster.calls)
    await desk.look()
    assert "merge" not in {verb for verb, _ in desk.since(count)}


async def test_a_missing_child_is_asked_for_once() -> None:
    desk = Desk(samples.bridge())
    await desk.look()
    asked = [key for verb, key in desk.cluster.calls if verb == "get"]
    made = [key for verb, key in desk.cluster.calls if verb == "apply"]
    assert sorted(asked) == sorted(made)


async def test_a_child_of_somebody_else_keeps_no_other_from_being_made() -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "auralink-b", "namespace": "ns", "uid": "u", "resourceVersion": "1"},
        "spec": {},
    }
    desk = Desk(samples.bridge(), theirs)
    await desk.look()
    assert desk.ready() == ("False", "NameConflict")
    assert desk.child("Service") == theirs
    assert CONFIG in desk.cluster.objects
    assert DEPLOYMENT in desk.cluster.objects


def test_a_missing_child_is_made_only_on_the_server_s_word_that_it_is_not_there() -> None:
    slice_ = Key("EndpointSlice", "ns", "auralink-b-rtp-1")
    asked = Asked(absent=frozenset({CONFIG}), refused={slice_: ApiError(500, "InternalError", "etcd is away")})
    assert asked.lets_write(CONFIG)
    assert not asked.lets_write(DEPLOYMENT)
    assert not asked.lets_write(slice_)
    assert asked.lets_write(slice_._replace(name="auralink-b-rtp-2"))  # its name is nobody else's


async def moved_without_an_autoscaler(desk: Desk) -> None:
    """To another shard, while its operator was away; and neither autoscaling nor the last room is wanted any more."""
    rooms = desk.cluster.objects[KEY]["spec"]["rooms"][:-1]
    desk.cluster.change(KEY, {"metadata": {"labels": {SHARD: "blue"}}, "spec": {"replicas": 6, "rooms": rooms}})
    desk.cluster.objects[KEY]["spec"].pop("autoscaling")
    desk.another_process(BLUE)
    desk.cluster.shows = watch(BLUE)


def of_kind(desk: Desk, kind: str) -> list[Key]:
    return [key for key in desk.cluster.objects if key.kind == kind]


async def test_what_is_hidden_and_not_wanted_any_more_goes() -> None:
    desk = await grown("HPA")
    assert len(of_kind(desk, "HorizontalPodAutoscaler")) == 1
    before = len(of_kind(desk, "EndpointSlice"))
    await moved_without_an_autoscaler(desk)
    await desk.settle()
    assert of_kind(desk, "HorizontalPodAutoscaler") == []
    assert len(of_kind(desk, "EndpointSlice")) == before - 1
    assert desk.replicas() == 6


@pytest.mark.parametrize(
    ("verb", "kind"),
    [("delete", "HorizontalPodAutoscaler"), ("list", "EndpointSlice"), ("get", "HorizontalPodAutoscaler")],
)
async def test_what_is_hidden_and_not_wanted_goes_although_a_request_fails_at_first(verb: str, kind: str) -> None:
    desk = await grown("HPA")
    await moved_without_an_autoscaler(desk)
    answer, left = desk.cluster._answer, 2

    def failing(made: str, key: Key) -> None:
        nonlocal left
        answer(made, key)
        if left and (made, key.kind) == (verb, kind):
            left -= 1
            raise ApiError(500, "InternalError", "etcd is away")

    desk.cluster._answer = failing  # type: ignore[method-assign,assignment]
    with pytest.raises(ApiError):
        await desk.look()
    assert of_kind(desk, "HorizontalPodAutoscaler")
    with suppress(ApiError):
        await desk.look()
    assert left == 0
    await desk.settle()
    assert of_kind(desk, "HorizontalPodAutoscaler") == []


async def test_a_child_of_somebody_else_s_with_a_name_of_ours_is_never_taken_away() -> None:
    desk = await grown("HPA")
    await moved_without_an_autoscaler(desk)
    hpa = Key("HorizontalPodAutoscaler", "ns", "auralink-b")
    desk.cluster.change(hpa, {"metadata": {"ownerReferences": None}})
    await desk.settle()
    assert of_kind(desk, "HorizontalPodAutoscaler") == [hpa]


async def test_a_read_on_its_way_when_the_end_is_told_brings_nothing_back() -> None:
    desk = await serving()
    store = Store(lambda: desk.time)
    desk.context.indices = Indices(store, desk.ghosts)
    live = desk.cluster.objects[CONFIG]
    store.put(live)
    written = {**live, "metadata": {**live["metadata"], "resourceVersion": "900"}}
    desk.cluster.objects[CONFIG] = written
    get = desk.cluster.get

    async def meanwhile(key: Key) -> Obj | None:
        answer = await get(key)
        gone = {**written, "metadata": {**written["metadata"], "resourceVersion": "901"}}
        store.remove(gone)
        desk.context.deleted(gone)
        return answer

    desk.cluster.get = meanwhile  # type: ignore[method-assign]
    await catch_up(KEY, [CONFIG], Troubles(), desk.context)
    assert desk.context.indices.get(CONFIG) is None
