"""What is refused, and what goes on all the same: rooms move with their pods whatever else fails or is invalid."""

import asyncio
from collections.abc import Callable
from json import loads
from typing import Any

import pytest
from auralink_operator.cluster import ApiError
from auralink_operator.index import POLICY, Key, Obj
from auralink_operator.scaling import DELETION_COST

from tests.unit.operator import samples
from tests.unit.operator.desk import CONFIG, KEY, Desk, serving

SERVICE = Key("Service", "ns", "auralink-b")
QUOTA = ApiError(403, "Forbidden", "exceeded quota: q, requested: services.loadbalancers=1")
DENIED = ApiError(403, "Forbidden", "denied by policy")
WEBHOOK = ApiError(500, "InternalError", "failed calling webhook svc.example")


def owner(desk: Desk) -> str:
    return str(loads(desk.cluster.objects[CONFIG]["data"]["owners.json"])["demo"])


def led_to(desk: Desk) -> str:
    (slice_,) = (obj for key, obj in desk.cluster.objects.items() if key.kind == "EndpointSlice")
    return str(slice_["endpoints"][0]["targetRef"]["name"])


async def draining(**spec: Any) -> tuple[Desk, str]:
    """Two pods, of which the one with the room begins to drain."""
    desk = await serving("p1", "p2", **spec)
    before = owner(desk)
    desk.report(before, 1, phase="Draining", rooms=1, sessions=1)
    desk.time += 100.0
    return desk, before


async def look(desk: Desk) -> ApiError | None:
    try:
        await desk.look()
    except ApiError as error:
        return error
    return None


def refuse(kind: str, error: ApiError) -> Callable[[Obj], None]:
    def refused(obj: Obj) -> None:
        if obj["kind"] == kind:
            raise error

    return refused


@pytest.mark.parametrize("kind", ["Service", "ServiceAccount", "Deployment"])
@pytest.mark.parametrize(
    ("error", "ready", "raised"),
    [
        (QUOTA, ("False", "Progressing"), False),
        (DENIED, ("False", "AccessDenied"), False),
        (WEBHOOK, ("False", "Progressing"), True),
    ],
)
async def test_a_refused_child_keeps_no_room_on_a_pod_that_leaves(
    error: ApiError, ready: tuple[str, str], raised: bool, kind: str
) -> None:
    desk, before = await draining()
    desk.cluster.delete_now(Key(kind, "ns", "auralink-b"))
    desk.cluster.before_apply = refuse(kind, error)
    assert (await look(desk) is error) is raised
    assert owner(desk) == led_to(desk) != before
    desk.time += 2.0
    await look(desk)
    assert desk.ready() == ready


async def test_packets_are_not_sent_to_a_pod_that_could_not_be_told_of_its_room() -> None:
    desk, before = await draining()
    desk.cluster.before_apply = refuse("ConfigMap", WEBHOOK)
    assert await look(desk) is WEBHOOK
    assert owner(desk) == led_to(desk) == before
    desk.cluster.before_apply = lambda _: None
    await desk.look()
    assert owner(desk) == led_to(desk) != before


@pytest.mark.parametrize("error", [DENIED, WEBHOOK])
async def test_pods_that_cannot_be_marked_keep_nothing_but_the_lowering_of_replicas(error: ApiError) -> None:
    desk, before = await draining()
    desk.report("p2" if before == "p1" else "p1", 1, rooms=2, sessions=5)
    desk.edit(replicas=1)
    merge = desk.cluster.merge

    async def refused(key: Key, body: Obj, *, manager: str) -> Obj | None:
        if DELETION_COST in str(body):
            raise error
        return await merge(key, body, manager=manager)

    desk.cluster.merge = refused  # type: ignore[method-assign]
    await look(desk)
    await look(desk)
    assert owner(desk) == led_to(desk) != before
    assert desk.replicas() == 2
    desk.cluster.merge = merge  # type: ignore[method-assign]
    await desk.look()
    await desk.look()
    assert desk.replicas() == 1


async def test_what_must_be_mended_is_told_and_what_may_pass_is_retried() -> None:
    desk = Desk(samples.bridge())

    def refused(obj: Obj) -> None:
        refuse("Service", DENIED)(obj)
        refuse("Role", WEBHOOK)(obj)

    desk.cluster.before_apply = refused
    assert await look(desk) is WEBHOOK
    assert desk.ready() == ("False", "AccessDenied")


async def test_an_error_that_names_another_port_each_time_is_told_once() -> None:
    desk = await serving()
    desk.cluster.delete_now(SERVICE)
    attempts = 0

    def unanswered(obj: Obj) -> None:
        nonlocal attempts
        if obj["kind"] == "Service":
            attempts += 1
            raise ApiError(0, "NoAnswer", f"read tcp 10.0.0.1:{40000 + attempts}->10.96.0.1:443: i/o timeout")

    desk.cluster.before_apply = unanswered
    statuses = desk.cluster.calls.count(("status", KEY))
    for _ in range(20):
        desk.queue.add(KEY)
        desk.time += 4.0
        await asyncio.wait_for(desk.queue.get(), 1)
        await look(desk)
        desk.queue.done(KEY, failed=True)
    assert attempts == 20
    assert "i/o timeout" in desk.message()
    assert desk.cluster.calls.count(("status", KEY)) - statuses <= 2


# --- an invalid spec -----------------------------------------------------------------------------------------------

CLASH = {"rooms": [samples.room(), samples.room("other", 5004)]}
UNREADABLE = {"compression": {"qualityLevel": 99}}
UNRENDERABLE = {"pod": {"template": {"spec": {"containers": [{"image": "without-a-name"}]}}}}
UNFINDABLE = {"pod": {"template": {"spec": {"containers": [{"name": "data-plane", "env": [{"name": {"a": "b"}}]}]}}}}


@pytest.mark.parametrize("spec", [CLASH, UNREADABLE, UNRENDERABLE, UNFINDABLE])
async def test_rooms_move_with_their_pods_while_the_spec_is_invalid(spec: Obj) -> None:
    desk, before = await draining()
    config = desk.cluster.objects[CONFIG]["data"]["config.json"]
    desk.edit(**spec)
    await desk.look()
    assert desk.ready() == ("False", "InvalidSpec")
    assert owner(desk) == led_to(desk) != before
    assert desk.cluster.objects[CONFIG]["data"]["config.json"] == config
    count = len(desk.cluster.calls)
    await desk.look()
    assert desk.since(count) == []


@pytest.mark.parametrize("spec", [CLASH, UNREADABLE, UNRENDERABLE, UNFINDABLE])
async def test_an_invalid_spec_alone_writes_no_child(spec: Obj) -> None:
    desk = await serving("p1", "p2")
    desk.edit(**spec)
    count = len(desk.cluster.calls)
    await desk.look()
    await desk.look()
    assert {verb for verb, _ in desk.since(count)} <= {"status", "create"}


async def test_what_moved_meanwhile_is_no_drift_when_the_spec_is_valid_again() -> None:
    desk, before = await draining()
    desk.edit(**CLASH)
    await desk.look()
    moved_to = owner(desk)
    desk.edit(rooms=[samples.room()])
    await desk.settle()
    assert owner(desk) == led_to(desk) == moved_to != before
    assert desk.context.metrics.drift_repaired.labels("ConfigMap")._value.get() == 0
    count = len(desk.cluster.calls)
    await desk.look()
    assert desk.since(count) == []


@pytest.mark.parametrize("spec", [CLASH, UNREADABLE])
async def test_a_suspended_bridge_with_an_invalid_spec_is_left_alone(spec: Obj) -> None:
    desk, before = await draining()
    desk.edit(suspend=True, **spec)
    await desk.look()
    assert owner(desk) == led_to(desk) == before


async def test_a_policy_says_that_the_bridge_which_keeps_it_waiting_is_stalled() -> None:
    policy = Key(POLICY, "ns", "p")
    desk = await serving()
    desk.edit(**CLASH)
    desk.cluster.put(samples.policy("p", qualityLevel=3))
    await desk.look()
    assert desk.ready() == ("False", "InvalidSpec")
    desk.time += await desk.look(policy) or 0.0
    await desk.look(policy)
    assert desk.ready(policy) == ("False", "Progressing")
    assert desk.message(policy).endswith("its own Ready condition says why: b")
    desk.edit(rooms=[samples.room()])
    await desk.settle()
    await desk.look(policy)
    assert desk.ready(policy) == ("True", "Succeeded")
