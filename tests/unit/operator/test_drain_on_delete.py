"""`drain.onDelete`: a bridge stays until its pods have ended, and no longer."""

from datetime import timedelta
from typing import Any

import pytest
from auralink_operator.cluster import ApiError
from auralink_operator.context import FINALIZER
from auralink_operator.index import BRIDGE, Key

from tests.unit.operator import samples
from tests.unit.operator.desk import CONFIG, DEPLOYMENT, KEY, START, Desk, serving


async def held(**spec: Any) -> Desk:
    """A bridge with two pods that is deleted and drains."""
    drain = {"onDelete": True, "timeoutSeconds": 100, "propagationSeconds": 5}
    desk = await serving("p1", "p2", drain=drain, **spec)
    assert desk.cluster.objects[KEY]["metadata"]["finalizers"] == [FINALIZER]
    desk.cluster.delete_now(KEY)
    moment = (START + timedelta(seconds=desk.time)).strftime("%Y-%m-%dT%H:%M:%SZ")
    desk.cluster.objects[KEY]["metadata"]["deletionTimestamp"] = moment
    return desk


async def test_a_finalizer_comes_and_goes_with_the_wish_for_it() -> None:
    desk = await serving()
    assert not desk.cluster.objects[KEY]["metadata"].get("finalizers")
    desk.edit(drain={"onDelete": True})
    await desk.settle()
    assert desk.cluster.objects[KEY]["metadata"]["finalizers"] == [FINALIZER]
    desk.cluster.change(KEY, {"metadata": {"finalizers": [FINALIZER, "theirs/own"]}})
    desk.edit(drain={"onDelete": False})
    await desk.settle()
    assert desk.cluster.objects[KEY]["metadata"]["finalizers"] == ["theirs/own"]


async def test_a_bridge_drains_before_it_goes() -> None:
    auto = {"minReplicas": 2, "maxReplicas": 4}
    desk = await held(autoscaling=auto)
    children = {key for key in desk.cluster.objects if key.kind not in (BRIDGE, "Pod")}
    await desk.look()
    assert desk.replicas() == 0
    gone = children - set(desk.cluster.objects)
    assert {key.kind for key in gone} == {"HorizontalPodAutoscaler"}
    desk.cluster.objects[DEPLOYMENT]["status"]["replicas"] = 0
    again_s = await desk.look()
    assert KEY in desk.cluster.objects  # its pods are still there
    assert again_s is not None
    for name in ("p1", "p2"):
        del desk.cluster.objects[Key("Pod", "ns", name)]
    await desk.look()
    assert KEY not in desk.cluster.objects
    assert await desk.look() is None


async def test_a_bridge_whose_pods_never_end_goes_when_its_time_is_up() -> None:
    desk = await held()
    await desk.look()
    again_s = await desk.look()
    assert again_s == pytest.approx(166.0, abs=1.0)
    desk.time += 166.0
    await desk.look()
    assert KEY not in desk.cluster.objects


async def test_who_gives_up_the_wish_to_drain_need_not_wait() -> None:
    desk = await held()
    await desk.look()
    desk.edit(drain={"onDelete": False})
    await desk.look()
    assert KEY not in desk.cluster.objects


async def test_a_suspended_bridge_can_be_deleted() -> None:
    desk = await held()
    desk.edit(suspend=True)
    await desk.look()
    assert desk.replicas() == 0


async def test_a_bridge_that_cannot_be_read_does_not_hang() -> None:
    desk = await held()
    desk.cluster.objects[KEY]["spec"]["compression"] = {"qualityLevel": 99}
    await desk.look()
    assert KEY not in desk.cluster.objects


async def test_a_namespace_that_goes_is_not_held_up() -> None:
    desk = await held()
    del desk.cluster.objects[CONFIG]
    refused = ApiError(403, "Forbidden", "ns is being terminated", ("NamespaceTerminating",))
    desk.cluster.failures["apply"] = [refused] * 20
    assert await desk.look() is not None
    assert KEY in desk.cluster.objects
    del desk.cluster.objects[DEPLOYMENT]
    for name in ("p1", "p2"):
        del desk.cluster.objects[Key("Pod", "ns", name)]
    await desk.look()
    assert KEY not in desk.cluster.objects


async def test_a_bridge_deleted_while_nobody_looked_still_drains() -> None:
    desk = await held()
    desk.another_process(samples.SETTINGS)
    await desk.look()
    assert desk.replicas() == 0
