"""Ready is about what runs: not before a new pod template has been looked at, and whatever needs no new pod."""

from dataclasses import replace
from typing import Any

import pytest
from auralink_operator.index import Obj

from tests.unit.operator import samples
from tests.unit.operator.desk import DEPLOYMENT, KEY, Desk, serving

NEW_DEFAULT = replace(samples.SETTINGS, data_plane_image="data-plane:2")
HPA: Obj = {"autoscaling": {"minReplicas": 2, "maxReplicas": 8}}
KINDS = pytest.mark.parametrize("spec", [HPA, {"replicas": 2}], ids=["scaled", "fixed"])
READY = ("True", "Succeeded")


def transitions(desk: Desk) -> list[str]:
    """The status of Ready each time that it is written."""
    apply, told = desk.cluster.apply, list[str]()

    async def seen(obj: Obj, *, manager: str, subresource: str = "", **more: Any) -> Obj:
        conditions = (obj.get("status") or {}).get("conditions") or ()
        told.extend(c["status"] for c in conditions if c["type"] == "Ready")
        return await apply(obj, manager=manager, subresource=subresource, **more)

    desk.cluster.apply = seen  # type: ignore[method-assign]
    return told


def observe(desk: Desk, **counts: int) -> None:
    """The Deployment's controller has looked."""
    live = desk.cluster.objects[DEPLOYMENT]
    generation = live["metadata"]["generation"]
    desk.cluster.change(DEPLOYMENT, {"status": {"observedGeneration": generation, **counts}})


@KINDS
async def test_a_new_default_is_not_ready_before_its_rollout_has_been_looked_at(spec: Obj) -> None:
    desk = await serving("p1", "p2", **spec)
    desk.another_process(NEW_DEFAULT)
    await desk.look()
    for _ in range(3):
        desk.time += 10.0
        await desk.look()
        assert desk.ready() == ("False", "Progressing")
    observe(desk, updatedReplicas=1, replicas=3)
    desk.time += 10.0
    await desk.look()
    assert desk.ready() == ("False", "Progressing")
    await desk.settle()
    assert desk.ready() == READY


@KINDS
async def test_pods_that_somebody_has_restarted_are_not_ready_before_that_has_been_looked_at(spec: Obj) -> None:
    desk = await serving("p1", "p2", **spec)
    note = {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
    desk.cluster.change(DEPLOYMENT, {"spec": {"template": {"metadata": {"annotations": note}}}})
    await desk.look()
    assert desk.ready() == ("False", "Progressing")
    await desk.settle()
    assert desk.ready() == READY


@KINDS
async def test_what_needs_no_new_pod_leaves_a_bridge_ready(spec: Obj) -> None:
    """A change of an annotation makes a generation of a Deployment too, says Kubernetes."""
    desk = await serving("p1", "p2", **spec)
    told = transitions(desk)
    for _ in range(3):
        desk.cluster.objects[DEPLOYMENT]["metadata"]["generation"] += 1
        desk.time += 10.0
        await desk.look()
        desk.report("p1", 1, rooms=1, sessions=5)  # something to be told
        await desk.look()
        observe(desk)
        await desk.look()
    assert "False" not in told
    assert desk.ready() == READY


async def test_growth_that_has_not_been_looked_at_leaves_a_bridge_ready() -> None:
    desk = await serving("p1", "p2", **HPA)
    told = transitions(desk)
    for replicas in (4, 6, 3):
        desk.cluster.scale(DEPLOYMENT, replicas)
        desk.time += 10.0
        await desk.look()
        await desk.settle()
    assert "False" not in told


async def test_growth_in_one_with_a_new_default_is_no_mere_growth() -> None:
    desk = await serving("p1", "p2", **HPA)
    desk.cluster.scale(DEPLOYMENT, 4)
    desk.another_process(NEW_DEFAULT)
    await desk.look()
    desk.time += 10.0
    await desk.look()
    assert desk.ready() == ("False", "Progressing")


async def test_a_new_process_takes_no_template_for_seen_that_nobody_has_looked_at() -> None:
    desk = await serving("p1", "p2", **HPA)
    desk.another_process(NEW_DEFAULT)
    await desk.look()
    desk.another_process(NEW_DEFAULT)  # ended before it told
    desk.time += 10.0
    await desk.look()
    assert desk.ready() == ("False", "Progressing")
    assert desk.status()["observedGeneration"] == desk.cluster.objects[KEY]["metadata"]["generation"]


@KINDS
async def test_a_rollout_that_somebody_has_paused_says_who_and_what_to_do(spec: Obj) -> None:
    desk = await serving("p1", "p2", **spec)
    paused = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "auralink-b", "namespace": "ns"}}
    await desk.cluster.apply({**paused, "spec": {"paused": True}}, manager="kubectl-rollout")
    desk.edit(image="other:2")
    await desk.look()
    observe(desk, updatedReplicas=0)  # the controller makes no ReplicaSet of a template that it must not roll out
    desk.time += 10.0
    await desk.look()
    assert desk.ready() == ("False", "Progressing")
    assert "is paused (by kubectl-rollout)" in desk.message()
    assert "kubectl rollout resume deployment/auralink-b -n ns" in desk.message()
    count = len(desk.cluster.calls)
    await desk.look()
    assert desk.since(count) == []
    desk.cluster.change(DEPLOYMENT, {"spec": {"paused": None}})
    await desk.settle()
    assert desk.ready() == READY
    assert "paused" not in desk.message()
