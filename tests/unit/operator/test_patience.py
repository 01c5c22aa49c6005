"""What does not come is looked for more and more seldom, and what events tell of is not looked for at all."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from auralink_operator.cluster import ApiError
from auralink_operator.context import FINALIZER, LONGEST_WAIT_S, Patience
from auralink_operator.index import BRIDGE, Key, Obj

from tests.unit.operator import samples
from tests.unit.operator.desk import CONFIG, DEPLOYMENT, KEY, START, Desk, serving
from tests.unit.operator.test_one_refused_request import DENIED, INVALID, owner, refuse
from tests.unit.operator.test_refused import led_to

HOUR_S = 3600.0
GOING = ApiError(403, "Forbidden", "ns is being terminated", ("NamespaceTerminating",))


async def an_hour(desk: Desk) -> int:
    """As the queue would look, if no event came; the number of requests."""
    count, end = len(desk.cluster.calls), desk.time + HOUR_S
    while (again_s := await desk.look()) is not None and desk.time + again_s < end:
        desk.time += again_s
    desk.time = end
    return len(desk.cluster.calls) - count


async def deleted(*pods: str, **spec: Any) -> Desk:
    desk = await serving(*pods, drain={"onDelete": True, "timeoutSeconds": 100, "propagationSeconds": 5}, **spec)
    desk.cluster.delete_now(KEY)
    moment = (START + timedelta(seconds=desk.time)).strftime("%Y-%m-%dT%H:%M:%SZ")
    desk.cluster.objects[KEY]["metadata"]["deletionTimestamp"] = moment
    return desk


def test_patience_waits_as_long_again_as_it_has_waited() -> None:
    patience, now, looks = Patience(), 1000.0, list[float]()
    assert patience.next_s(now, 2.0, 300.0) is None
    patience.begin(now)
    for _ in range(12):
        patience.begin(now)
        pause_s = patience.next_s(now, 2.0, 300.0)
        assert pause_s is not None
        looks.append(pause_s)
        now += pause_s
    assert looks == [2.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0, 300.0]
    patience.end()
    assert patience.next_s(now, 2.0, 300.0) is None


def test_patience_with_one_cause_is_none_with_the_next() -> None:
    patience = Patience()
    patience.begin(0.0, "a quota")
    assert patience.next_s(3600.0, 2.0, 300.0) == 300.0
    patience.begin(3600.0, "a quota")
    assert patience.next_s(3600.0, 2.0, 300.0) == 300.0
    patience.begin(3600.0, "an earlier child")
    assert patience.next_s(3600.0, 2.0, 300.0) == 2.0


@pytest.mark.parametrize("error", [DENIED, INVALID], ids=lambda error: error.reason)
@pytest.mark.parametrize("spec", [{}, {"rooms": "none"}], ids=["valid", "unreadable"])
async def test_a_finalizer_that_may_not_be_taken_away_is_tried_again_more_and_more_seldom(
    spec: Obj, error: ApiError
) -> None:
    desk = await deleted()
    desk.edit(**spec)
    desk.time += 10_000.0  # its pods have had their time
    refused = refuse(desk, "merge", BRIDGE, error)
    await an_hour(desk)
    assert 10 < len(refused) < 40
    assert desk.condition("Stalled")[0] == "True"
    assert FINALIZER in desk.message()
    assert error.message in desk.message()
    del desk.cluster._answer
    again_s = await desk.look()
    assert again_s is None
    assert KEY not in desk.cluster.objects


async def test_a_refused_finalizer_is_tried_again_in_five_minutes_at_most() -> None:
    desk = await deleted()
    desk.time += 10_000.0
    refuse(desk, "merge", BRIDGE, DENIED)
    await an_hour(desk)
    assert await desk.look() == LONGEST_WAIT_S


def earlier(name: str = "auralink-b") -> Obj:
    owner = {"apiVersion": "auralink.io/v1alpha1", "kind": BRIDGE, "name": "b", "uid": "uid-of-before"}
    meta = {"name": name, "namespace": "ns", "uid": "old", "resourceVersion": "1", "ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}


async def test_a_child_of_an_earlier_bridge_that_nothing_takes_away_is_looked_for_more_and_more_seldom() -> None:
    desk = Desk(samples.bridge(), earlier())
    await desk.look()
    requests = await an_hour(desk)
    assert 15 < requests < 100
    assert desk.ready() == ("False", "Progressing")
    assert "delete it" in desk.message()


async def test_a_child_of_an_earlier_bridge_that_goes_is_made_anew() -> None:
    desk = Desk(samples.bridge(), earlier())
    await an_hour(desk)
    desk.cluster.delete_now(Key("ServiceAccount", "ns", "auralink-b"))
    await desk.settle()
    assert desk.child("ServiceAccount")
    desk.cluster.put(earlier())  # another time, and from the beginning
    assert await desk.look() == 2.0


async def test_a_deleted_bridge_in_a_namespace_that_goes_asks_for_nothing_while_nothing_happens() -> None:
    desk = await deleted("p1", "p2")
    del desk.cluster.objects[CONFIG]
    desk.cluster.before_apply = refuse_all(GOING)
    await desk.look()
    desk.edit(drain={"timeoutSeconds": 80_000})
    assert await an_hour(desk) < 40
    assert desk.cluster.objects[KEY]["metadata"]["finalizers"] == [FINALIZER]
    for name in ("p1", "p2"):
        del desk.cluster.objects[Key("Pod", "ns", name)]
    del desk.cluster.objects[DEPLOYMENT]
    await desk.look()
    assert KEY not in desk.cluster.objects


def refuse_all(error: ApiError) -> Callable[[Obj], None]:
    def refused(obj: Obj) -> None:
        if obj["kind"] != BRIDGE:
            raise error

    return refused


async def test_what_is_refused_in_a_namespace_that_goes_is_the_queue_s_to_retry() -> None:
    desk = await deleted("p1", "p2")
    del desk.cluster.objects[CONFIG], desk.cluster.objects[DEPLOYMENT]
    desk.cluster.before_apply = refuse_all(GOING)
    refuse(desk, "get", "Deployment", ApiError(500, "InternalError", "etcd is away"))
    with pytest.raises(ApiError):
        await desk.look()


@pytest.mark.parametrize("status", [403, 500])
async def test_only_the_namespace_s_end_is_taken_for_it(status: int) -> None:
    """Words about anything else, as a webhook's backend, are an error like others."""
    desk = await serving()
    said = "failed calling webhook: its backend is being terminated"
    desk.edit(replicas=2)
    refuse(desk, "apply", "Deployment", ApiError(status, "Forbidden" if status == 403 else "InternalError", said))
    if status == 403:
        await desk.look()
        assert desk.ready() == ("False", "AccessDenied")
        assert said in desk.message()
    else:
        with pytest.raises(ApiError):
            await desk.look()


async def test_what_is_remembered_of_a_bridge_is_not_another_s_of_its_name() -> None:
    """No watch need have told that the first is gone."""
    asked = {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "monday"}}}
    desk = await serving()
    desk.cluster.change(KEY, asked)
    await desk.settle()
    assert desk.status()["lastHandledReconcileAt"] == "monday"
    for key in [key for key in desk.cluster.objects if key != KEY]:
        del desk.cluster.objects[key]
    desk.cluster.applied.clear()
    again = samples.bridge()
    again["metadata"] |= {"uid": "uid-of-another", **asked["metadata"]}
    desk.cluster.put(again)
    desk.cluster.before_apply = refuse_all(DENIED)
    await desk.look()
    assert "lastHandledReconcileAt" not in desk.status()


async def test_a_child_with_another_bridge_s_uid_is_neither_taken_over_nor_written_and_comes_back_when_it_is_gone() -> (
    None
):
    """Kubernetes collects it: no owner of that uid is there."""
    desk = await serving("p1", "p2")
    before = owner(desk)
    desk.cluster.change(CONFIG, {"metadata": {"ownerReferences": earlier()["metadata"]["ownerReferences"]}})
    left = desk.cluster.objects[CONFIG]
    desk.report(before, 1, phase="Draining", rooms=1, sessions=1)
    desk.time += 100.0
    await desk.look()
    await desk.look()
    assert desk.cluster.objects[CONFIG] == left
    assert led_to(desk) == before == owner(desk)
    assert desk.ready() == ("False", "Progressing")
    desk.cluster.delete_now(CONFIG)
    desk.time += 10.0
    await desk.settle()
    assert owner(desk) == led_to(desk) != before
    assert desk.status()["config"]["desiredGeneration"] == 1


async def test_a_slice_of_an_earlier_bridge_is_waited_for_and_makes_no_spec_invalid() -> None:
    """The API server takes one controller of an object, and no second."""
    desk = await serving()
    (slice_,) = (key for key in desk.cluster.objects if key.kind == "EndpointSlice")
    desk.cluster.change(slice_, {"metadata": {"ownerReferences": earlier()["metadata"]["ownerReferences"]}})

    def one_controller(obj: Obj) -> None:
        if obj["kind"] == "EndpointSlice" and slice_ in desk.cluster.objects:
            raise ApiError(422, "Invalid", "metadata.ownerReferences: only one reference can have controller set")

    desk.cluster.before_apply = one_controller
    desk.time += 10.0
    assert await desk.look() == 2.0
    assert desk.ready() == ("False", "Progressing")
    desk.cluster.delete_now(slice_)
    desk.time += 10.0
    await desk.settle()
    assert led_to(desk) == "p1"
