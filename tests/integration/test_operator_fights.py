"""Somebody else wants another value of a field that is ours: both get their say, and the API server no flood."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from auralink_operator.rollouts import QUICK_REPAIRS

from tests.integration.kube_api import ApiServer, Kube, eventually
from tests.integration.operator_bench import Bench, a_bridge, bench

THEIRS, OURS = 999, 300


@pytest.fixture
async def at(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async with bench(api_server, monkeypatch) as found:
        yield found


async def deadline_of(kube: Kube) -> int:
    found = await kube.get("deployments", "auralink-b")
    assert found is not None
    return int(found["spec"]["progressDeadlineSeconds"])


async def set_back_for_ever(kube: Kube) -> None:
    """Another controller that owns the field, as it sees it."""
    while True:
        if await deadline_of(kube) != THEIRS:
            body = {"spec": {"progressDeadlineSeconds": THEIRS}}
            path = f"/apis/apps/v1/namespaces/{kube.namespace}/deployments/auralink-b?fieldManager=other-controller"
            await kube.raw("PATCH", path, body, "application/merge-patch+json")
        await asyncio.sleep(0.02)


def writes(at: Bench) -> int:
    path = f"/namespaces/{at.kube.namespace}/deployments/auralink-b"
    done = [event for event in at.server.requests("auralink-operator") if path in str(event["requestURI"])]
    return sum(event["verb"] in ("patch", "update", "delete") for event in done)


async def test_a_fight_for_a_field_slows_down_is_told_by_name_and_ends_well(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge())
    await at.serve()
    await at.quiet()
    before = writes(at)
    other = asyncio.create_task(set_back_for_ever(at.kube))
    try:
        await at.until("Ready", "False", "ProgressingWithRetry")
        quick = writes(at) - before

        async def told() -> bool:
            conditions = (await at.bridge())["status"]["conditions"]
            message = next(c["message"] for c in conditions if c["type"] == "Ready")
            return "Deployment auralink-b" in message and "other-controller" in message

        await eventually(told, "the message names the child and the manager that changes it")
        await asyncio.sleep(5)
        assert quick <= QUICK_REPAIRS + 1
        assert writes(at) - before <= QUICK_REPAIRS + 3  # the next ones after 2 s, and 4 s later
    finally:
        other.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await other

    async def ours() -> bool:
        return await deadline_of(at.kube) == OURS

    await eventually(ours, "the field is ours again", timeout_s=20)
