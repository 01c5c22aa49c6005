"""Killed after any request, an operator's successor comes to the same end as one that was never disturbed."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from auralink_operator.cluster import ApiError
from auralink_operator.index import POLICY, Key, Obj

from tests.unit.operator import samples
from tests.unit.operator.desk import KEY, START, Desk


class KilledError(BaseException):
    """The process ends here."""


Story = Callable[[Desk], Coroutine[Any, Any, None]]


async def begin(desk: Desk) -> None:
    desk.cluster.put(samples.pod("p1"), samples.pod("p2"))
    desk.report("p1", sessions=1)
    desk.report("p2", sessions=1)


async def change(desk: Desk) -> None:
    """A new configuration, fewer pods, one child less and one more."""
    await desk.look()
    await begin(desk)
    await desk.settle()
    desk.time += 20.0
    desk.report("p1", sessions=20)
    desk.cluster.put(samples.policy("saving", qualityLevel=3))
    desk.edit(replicas=1, drain={"onDelete": True}, networkPolicy={"enabled": False})


async def delete(desk: Desk) -> None:
    desk.edit(drain={"onDelete": True})
    await desk.look()
    await begin(desk)
    await desk.settle()
    desk.cluster.delete_now(KEY)
    desk.cluster.objects[KEY]["metadata"]["deletionTimestamp"] = START.strftime("%Y-%m-%dT%H:%M:%SZ")


def kill_after(desk: Desk, requests: int) -> None:
    answer, left = desk.cluster._answer, requests

    def counted(verb: str, key: Key) -> None:
        nonlocal left
        answer(verb, key)
        if left == 0:
            raise KilledError
        left -= 1

    desk.cluster._answer = counted  # type: ignore[method-assign]


async def end_of(desk: Desk) -> dict[Key, Obj]:
    """What is there in the end, without what differs from one run to the next by nature."""
    for _ in range(20):
        for key in (KEY, Key(POLICY, "ns", "saving")):
            if key in desk.cluster.objects:
                await desk.look(key)
        desk.roll_out()
        desk.time += 1.0
    found = {}
    for key, obj in desk.cluster.objects.items():
        meta = {n: v for n, v in obj["metadata"].items() if n not in ("resourceVersion", "generation", "managedFields")}
        status = dict(obj.get("status") or {})
        status["conditions"] = sorted(
            (c["type"], c["status"], c["reason"], c["message"]) for c in status.get("conditions") or () if "reason" in c
        )
        status.pop("observedGeneration", None)
        found[key] = {**obj, "metadata": meta, "status": status}
    return found


async def run(story: Story, killed_after: int | None) -> tuple[dict[Key, Obj], bool]:
    desk = Desk(samples.bridge(replicas=2))
    await story(desk)
    was_killed = False
    if killed_after is not None:
        kill_after(desk, killed_after)
        try:
            for _ in range(8):
                await desk.look()
        except KilledError:
            was_killed = True
        del desk.cluster._answer
        desk.another_process(samples.SETTINGS)
    return await end_of(desk), was_killed


@pytest.mark.parametrize("story", [begin, change, delete])
async def test_the_end_is_the_same_wherever_the_operator_is_killed(story: Story) -> None:
    wanted, _ = await run(story, None)
    step = 0
    while True:
        found, was_killed = await run(story, step)
        assert found == wanted, f"killed after request {step}"
        if not was_killed:
            break
        step += 1
    assert step > 2


@pytest.mark.parametrize("error", [ApiError(0, "NoAnswer", "timeout"), ApiError(409, "Conflict", "changed")])
async def test_the_end_is_the_same_whichever_request_fails(error: ApiError) -> None:
    wanted, _ = await run(change, None)
    for verb in ("apply", "merge", "delete", "get", "status", "create"):
        desk = Desk(samples.bridge(replicas=2))
        await change(desk)
        desk.cluster.failures[verb] = [error]
        for _ in range(8):
            try:
                await desk.look()
            except ApiError:
                desk.time += 1.0
        assert await end_of(desk) == wanted, verb
