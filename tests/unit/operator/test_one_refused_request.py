"""One rule: no request that a look makes before its status is written ends the look. The status says what is refused,
whatever can be done without it is done, and the end is the same once the refusal is over."""

from contextlib import suppress
from json import loads
from typing import Any

import pytest
from auralink_operator.cluster import ApiError
from auralink_operator.context import FINALIZER
from auralink_operator.index import BRIDGE, POD, Key, Obj

from tests.unit.operator import samples
from tests.unit.operator.desk import CONFIG, DEPLOYMENT, KEY, START, Desk, serving
from tests.unit.operator.test_killed import change, delete, end_of
from tests.unit.operator.test_sight import watch

DENIED = ApiError(403, "Forbidden", "not allowed here")
INVALID = ApiError(422, "Invalid", "the field is wrong")
CONFLICT = ApiError(409, "Conflict", "the object has been modified")
BROKEN = ApiError(500, "InternalError", "etcd is away")
SILENT = ApiError(0, "NoAnswer", "timeout")
STORIES = {"change": change, "delete": delete}
# What the requests of a look before its status are about, and the story in which it makes them.
REQUESTS = [
    ("change", "get", BRIDGE),
    ("change", "get", "Deployment"),
    ("change", "get", POD),
    ("change", "apply", "ConfigMap"),
    ("change", "apply", "EndpointSlice"),
    ("change", "apply", "Deployment"),
    ("change", "apply", BRIDGE),
    ("change", "merge", POD),
    ("change", "delete", "NetworkPolicy"),
    ("delete", "get", "Deployment"),
    ("delete", "get", POD),
    ("delete", "apply", "Deployment"),
    ("delete", "merge", BRIDGE),
]


def refuse(desk: Desk, of: str, kind: str, error: ApiError) -> list[Key]:
    """From now on each such request fails; the list names those that did."""
    answer, refused = desk.cluster._answer, list[Key]()

    def denied(made: str, key: Key) -> None:
        answer(made, key)
        if (made, key.kind) == (of, kind):
            refused.append(key)
            raise error

    desk.cluster._answer = denied  # type: ignore[method-assign,assignment]
    return refused


async def looks(desk: Desk, number: int) -> None:
    for _ in range(number):
        with suppress(ApiError):  # what may pass by itself is the queue's to retry
            await desk.look()
        desk.time += 2.0


async def told(story: str, verb: str, kind: str) -> Desk:
    """The story up to where the request is made."""
    desk = Desk(samples.bridge(replicas=2))
    await STORIES[story](desk)
    desk.cluster.shows = watch(samples.SETTINGS)
    if (verb, kind) == ("merge", BRIDGE):
        desk.time += 10_000.0  # its pods have had their time
    return desk


def hide(desk: Desk, verb: str, kind: str) -> None:
    """What is asked for is what the watch does not show."""
    if verb == "get":
        of = Key(POD, "ns", "p1") if kind == POD else DEPLOYMENT
        desk.cluster.change(of, {"metadata": {"labels": {samples.MANAGED_BY: None}}})


def left(end: dict[Key, Obj]) -> dict[Key, Obj]:
    """With a bridge Kubernetes collects what belongs to it, however far it has come."""
    return end if KEY in end else {}


@pytest.mark.parametrize("error", [DENIED, INVALID, CONFLICT, BROKEN, SILENT], ids=lambda error: error.reason)
@pytest.mark.parametrize(("story", "verb", "kind"), REQUESTS)
async def test_whichever_request_is_refused_the_status_is_told_and_the_end_is_the_same(
    story: str, verb: str, kind: str, error: ApiError
) -> None:
    wanted = left(await end_of(await told(story, verb, kind)))
    desk = await told(story, verb, kind)
    hide(desk, verb, kind)
    refused = refuse(desk, verb, kind, error)
    await looks(desk, 8)
    assert refused, "the story does not make this request"
    assert desk.ready()[0] != "True"
    del desk.cluster._answer
    assert left(await end_of(desk)) == wanted


def owner(desk: Desk) -> str:
    return str(loads(desk.cluster.objects[CONFIG]["data"]["owners.json"])["demo"])


def dies(desk: Desk, pod: str) -> None:
    key = Key(POD, "ns", pod)
    desk.cluster.objects[key]["status"]["conditions"][0]["status"] = "False"


async def test_while_the_bridge_cannot_be_read_rooms_leave_a_pod_that_is_not_ready() -> None:
    desk = await serving("p1", "p2")
    before = owner(desk)
    dies(desk, before)
    desk.cluster.delete_now(Key("Service", "ns", "auralink-b"))
    refuse(desk, "get", BRIDGE, DENIED)
    await desk.look()
    assert owner(desk) != before
    assert desk.child("Service") is None  # nobody says whether it may be made
    desk.time += 2.0
    await desk.look()
    assert desk.ready() == ("False", "AccessDenied")


@pytest.mark.parametrize("error", [DENIED, BROKEN], ids=lambda error: error.reason)
@pytest.mark.parametrize("spec", [{}, {"rooms": "none"}], ids=["valid", "unreadable"])
async def test_a_pod_that_cannot_be_asked_for_keeps_its_rooms(spec: dict[str, Any], error: ApiError) -> None:
    desk = await serving("p1", "p2")
    before = owner(desk)
    desk.cluster.shows = watch(samples.SETTINGS)
    desk.cluster.change(Key(POD, "ns", before), {"metadata": {"labels": {samples.MANAGED_BY: None}}})
    desk.edit(**spec)
    refuse(desk, "get", POD, error)
    await looks(desk, 3)
    assert owner(desk) == before
    slices = [obj for key, obj in desk.cluster.objects.items() if key.kind == "EndpointSlice"]
    assert [obj["endpoints"][0]["targetRef"]["name"] for obj in slices] == [before]
    assert desk.ready()[0] == "False" or error is BROKEN


async def test_a_bridge_that_lives_is_no_ghost_because_its_finalizer_is_refused() -> None:
    desk = await serving()
    desk.edit(drain={"onDelete": True})
    refuse(desk, "apply", BRIDGE, INVALID)
    await desk.look()
    assert len(desk.ghosts) == 0
    desk.time += 2.0
    await desk.look()
    assert desk.ready() == ("False", "InvalidSpec")
    assert "the field is wrong" in desk.message()


async def test_a_bridge_that_another_has_taken_the_name_of_is_a_ghost() -> None:
    desk = await serving()
    desk.edit(drain={"onDelete": True})
    desk.cluster.lag()
    desk.cluster.objects[KEY]["metadata"]["uid"] = "another"
    assert await desk.look() is None
    assert len(desk.ghosts) == 1


async def test_a_deleted_bridge_whose_finalizer_cannot_be_taken_away_says_why() -> None:
    desk = await serving(drain={"onDelete": True})
    desk.cluster.objects[KEY]["metadata"]["deletionTimestamp"] = START.strftime("%Y-%m-%dT%H:%M:%SZ")
    desk.time += 10_000.0
    refuse(desk, "merge", BRIDGE, DENIED)
    await desk.look()
    assert desk.condition("Stalled") == ("True", "AccessDenied")
    assert desk.cluster.objects[KEY]["metadata"]["finalizers"] == [FINALIZER]


async def test_a_deleted_bridge_that_cannot_be_read_says_too_that_its_finalizer_is_refused() -> None:
    desk = await serving(drain={"onDelete": True})
    desk.edit(rooms="none")
    desk.cluster.objects[KEY]["metadata"]["deletionTimestamp"] = START.strftime("%Y-%m-%dT%H:%M:%SZ")
    refuse(desk, "merge", BRIDGE, DENIED)
    await desk.look()
    assert desk.condition("Stalled") == ("True", "InvalidSpec")
    assert "not allowed here" in desk.message()
    del desk.cluster._answer
    await desk.look()
    assert KEY not in desk.cluster.objects


@pytest.mark.parametrize("name", ["p2", "p" * 120])
async def test_the_entry_of_a_dead_pod_that_cannot_be_removed_keeps_nothing_from_being_said(name: str) -> None:
    desk = await serving("p1")
    desk.report(name, 1, sessions=1)
    desk.edit(replicas=3)

    async def apply(obj: Any, *, manager: str, **more: Any) -> Any:
        if len(manager) > 128 or (manager.endswith(name) and len(name) < 100):
            raise INVALID
        return await whole(obj, manager=manager, **more)

    whole, desk.cluster.apply = desk.cluster.apply, apply  # type: ignore[method-assign]
    await desk.look()
    desk.roll_out()
    await desk.look()
    assert desk.status()["observedGeneration"] == desk.cluster.objects[KEY]["metadata"]["generation"]
    count = len(desk.cluster.calls)
    desk.time += 60.0
    await desk.look()
    assert ("get", POD) not in desk.since(count)  # not asked for again soon


async def test_no_packets_are_led_to_a_pod_while_the_configuration_that_tells_it_is_being_deleted() -> None:
    desk = await serving("p1", "p2")
    before = owner(desk)
    desk.cluster.change(CONFIG, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["theirs"]}})
    desk.report(before, 1, phase="Draining", sessions=1)
    desk.time += 100.0
    await desk.look()
    slices = [obj for key, obj in desk.cluster.objects.items() if key.kind == "EndpointSlice"]
    assert [obj["endpoints"][0]["targetRef"]["name"] for obj in slices] == [before] == [owner(desk)]


@pytest.mark.parametrize("error", [DENIED, BROKEN], ids=lambda error: error.reason)
async def test_no_room_is_given_to_a_pod_that_cannot_be_asked_for(error: ApiError) -> None:
    rooms = [samples.room(f"room-{number}", 5000 + 10 * number) for number in range(12)]
    desk = await serving("p1", "p2", "p3", rooms=rooms)
    before = loads(desk.cluster.objects[CONFIG]["data"]["owners.json"])
    del desk.cluster.objects[Key(POD, "ns", "p1")]
    refuse(desk, "get", POD, error)
    desk.report("p2", 1, phase="Draining", sessions=5)
    await looks(desk, 3)
    after = loads(desk.cluster.objects[CONFIG]["data"]["owners.json"])
    assert after == {room: "p3" if pod == "p2" else pod for room, pod in before.items()}
    assert "p2" in before.values()
