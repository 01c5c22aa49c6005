"""What dead pods have left in `status.pods` goes, whatever it is called and however they ended."""

import pytest
from auralink_operator.index import POD, Key, Obj
from auralink_operator.models import is_pod_name
from auralink_operator.report import STATUS_EVERY_S

from tests.unit.operator import samples
from tests.unit.operator.desk import KEY, Desk, serving
from tests.unit.operator.test_one_refused_request import DENIED, INVALID, looks, refuse


def entries(desk: Desk) -> list[str]:
    return [entry["name"] for entry in desk.status().get("pods") or ()]


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
async def test_the_entry_of_a_pod_that_has_ended_goes_although_the_pod_is_still_there(phase: str) -> None:
    """As an evicted one is, until somebody deletes it."""
    desk = await serving("p1", "p2")
    desk.cluster.change(Key(POD, "ns", "p1"), {"status": {"phase": phase, "reason": "Evicted"}})
    count = len(desk.cluster.calls)
    await desk.look()
    assert entries(desk) == ["p2"]
    assert ("get", "Pod") not in desk.since(count)  # the watch has told
    desk.time += STATUS_EVERY_S
    await desk.settle()
    assert desk.status()["sessions"] == 1
    count = len(desk.cluster.calls)
    await desk.look()
    assert desk.since(count) == []


async def test_the_entry_of_a_pod_that_runs_again_under_an_ended_one_s_name_stays() -> None:
    desk = await serving("p1", "p2")
    desk.cluster.change(Key(POD, "ns", "p1"), {"metadata": {"uid": "uid-of-before"}, "status": {"phase": "Failed"}})
    desk.cluster.shows = lambda obj: obj["metadata"]["name"] != "p1"
    await desk.look()
    assert entries(desk) == ["p2"]  # no pod of this uid is there


@pytest.mark.parametrize("name", ["", "P1", "a/b", "../x", "-a", "a..b", "a\n", "x" * 254])
async def test_an_entry_that_no_pod_can_have_written_is_asked_for_nowhere_and_goes(name: str) -> None:
    desk = await serving("p1")
    desk.report(name, 1, sessions=1)
    count = len(desk.cluster.calls)
    await desk.look()
    assert entries(desk) == ["p1"]
    assert ("get", "Pod") not in desk.since(count)


async def test_an_entry_that_no_pod_can_have_written_and_that_cannot_be_removed_keeps_nothing_from_being_said() -> None:
    desk = await serving("p1")
    desk.report("P1", 1, sessions=1)
    desk.edit(replicas=2)
    apply, tried = desk.cluster.apply, list[str]()

    async def refused(obj, *, manager, **more):  # type: ignore[no-untyped-def]
        if manager.endswith("P1"):
            tried.append(manager)
            raise INVALID
        return await apply(obj, manager=manager, **more)

    desk.cluster.apply = refused  # type: ignore[method-assign]
    await looks(desk, 4)
    assert len(tried) == 1
    assert desk.status()["observedGeneration"] == desk.cluster.objects[KEY]["metadata"]["generation"]


async def test_a_pod_that_ends_while_nobody_may_ask_leaves_no_entry() -> None:
    desk = await serving("p1", "p2")
    refuse(desk, "get", POD, DENIED)
    desk.cluster.put(samples.pod("p1") | {"status": {"phase": "Failed"}})
    await looks(desk, 2)
    assert entries(desk) == ["p2"]


CLASH = [samples.room("one", 5004), samples.room("two", 5004)]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"rooms": "none"}, "InvalidSpec"),
        ({"rooms": CLASH}, "InvalidSpec"),
        ({"pod": {"template": {"status": {}}}}, "InvalidSpec"),
        (
            {"monitoring": {"serviceMonitor": "Disabled"}, "networkPolicy": {"mediaFrom": ["10.0.0.0/8"]}},
            "AccessDenied",
        ),
    ],
    ids=["unreadable", "two media on one port", "no template", "refused"],
)
async def test_while_a_bridge_is_stalled_the_entry_of_a_dead_pod_goes_and_is_asked_for_once(
    spec: Obj, reason: str
) -> None:
    desk = await serving("p1", "p2")
    refuse(desk, "apply", "NetworkPolicy", DENIED)
    desk.edit(**spec)
    await looks(desk, 3)
    assert desk.condition("Stalled") == ("True", reason)
    del desk.cluster.objects[Key(POD, "ns", "p1")]
    await looks(desk, 3)
    assert entries(desk) == ["p2"]
    assert desk.cluster.calls.count(("get", Key(POD, "ns", "p1"))) == 1
    count = len(desk.cluster.calls)
    await looks(desk, 3)
    assert {verb for verb, kind in desk.since(count) if kind != "NetworkPolicy"} == set()


async def test_an_entry_that_stays_is_asked_for_more_and_more_seldom_whatever_else_is_wrong() -> None:
    desk = await serving("p1")
    desk.edit(rooms="none")
    await looks(desk, 2)
    desk.cluster.objects[KEY]["status"]["pods"].append(samples.entry("nobody"))  # by a manager that we do not know
    for _ in range(24 * 60):
        desk.time += 60.0
        await desk.look()
    assert 2 < desk.cluster.calls.count(("get", Key(POD, "ns", "nobody"))) < 9


@pytest.mark.parametrize("name", ["auralink-b-5d4f8c7b9-x2x4z", "p1", "a.b-c.d", "0", "x" * 253])
def test_names_of_pods(name: str) -> None:
    assert is_pod_name(name)
