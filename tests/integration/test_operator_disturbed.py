"""Whatever server and network do in between, the end is the same: one promise a test, on a real API server.

Each test tells one story (`tell_a_story`) by way of a proxy that fails, and compares what there is at the end with how
it is without faults.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import aiohttp
import pytest
from aiohttp import web
from auralink_operator.__main__ import Operator
from auralink_operator.resync import DeadWatchError

from tests.integration.end_state import settled, tell_a_story
from tests.integration.fault_proxy import FaultProxy, Loss, calls, fault_proxy, is_watch, writes
from tests.integration.kube_api import ApiServer, Kube, Obj, eventually, hands
from tests.integration.operator_bench import Bench, a_bridge, grant, running

_reference: dict[str, Obj] = {}
WRITE_STEPS = 20
GONE = {"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "code": 410, "reason": "Expired"}}
BROKEN = {"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "code": 500, "reason": "InternalError"}}


@asynccontextmanager
async def stage(server: ApiServer, namespace: str) -> AsyncIterator[tuple[Kube, FaultProxy]]:
    async with hands(server, namespace) as kube, fault_proxy(server) as proxy:
        await grant(kube)
        yield kube, proxy


@asynccontextmanager
async def through(
    proxy: FaultProxy, kube: Kube, monkeypatch: pytest.MonkeyPatch, **settings: str
) -> AsyncIterator[Operator]:
    """The operator by way of the proxy."""
    path = str(proxy.kubeconfig(proxy.server.folder))
    async with running(proxy.server, monkeypatch, kube.namespace, KUBECONFIG=path, **settings) as operator:
        yield operator


async def reference(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, Obj]:
    """The end without faults, told once per run."""
    if not _reference:
        async with stage(server, "faultless") as (kube, proxy), through(proxy, kube, monkeypatch) as operator:
            await tell_a_story(Bench(kube, server, operator))
            _reference.update(await settled(kube))
            assert len(proxy.written) >= WRITE_STEPS
    return _reference


async def ends_the_same(kube: Kube, server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end, looked at for as long as it takes: repairs that back off need their time."""
    wanted = await reference(server, monkeypatch)
    for _ in range(15):
        if (found := await settled(kube)) == wanted:
            break
    assert found == wanted


async def test_conflicts_are_tried_again(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(api_server, "conflicts") as (kube, proxy), through(proxy, kube, monkeypatch) as operator:
        fault = proxy.fail(lambda r: calls(r) and writes(r), times=4, status=409)
        await tell_a_story(Bench(kube, api_server, operator))
        assert fault.hits == 4
        await ends_the_same(kube, api_server, monkeypatch)


async def test_retry_after_is_obeyed(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(api_server, "throttled") as (kube, proxy), through(proxy, kube, monkeypatch) as operator:
        arrivals: list[float] = []

        def service_account(request: web.Request) -> bool:
            found = calls(request) and writes(request) and "/serviceaccounts/" in request.path
            if found:
                arrivals.append(time.monotonic())
            return found

        fault = proxy.fail(service_account, times=3, status=429, retry_after="1")
        await tell_a_story(Bench(kube, api_server, operator))
        assert fault.hits == 3
        assert [b - a >= 1.0 for a, b in pairwise(arrivals)] == [True, True]
        await ends_the_same(kube, api_server, monkeypatch)


async def test_errors_of_the_server_are_tried_again(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(api_server, "errors") as (kube, proxy), through(proxy, kube, monkeypatch) as operator:
        fault = proxy.fail(calls, times=12, status=500)
        await tell_a_story(Bench(kube, api_server, operator))
        assert fault.hits == 12
        await ends_the_same(kube, api_server, monkeypatch)


async def test_a_slow_server_is_waited_for(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(api_server, "slow") as (kube, proxy), through(proxy, kube, monkeypatch) as operator:
        proxy.fail(calls, times=10_000, delay_s=0.3)
        await tell_a_story(Bench(kube, api_server, operator))
        await ends_the_same(kube, api_server, monkeypatch)


@pytest.mark.parametrize("loss", list(Loss))
async def test_what_the_network_loses_is_sent_again(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, loss: Loss
) -> None:
    namespace = f"lost-{loss.name.lower()}"
    async with stage(api_server, namespace) as (kube, proxy), through(proxy, kube, monkeypatch) as operator:
        fault = proxy.fail(lambda r: calls(r) and writes(r), times=8, loss=loss)
        await tell_a_story(Bench(kube, api_server, operator))
        assert fault.hits == 8
        await ends_the_same(kube, api_server, monkeypatch)


async def test_an_outage_is_survived_and_told_once(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "auralink_operator.cluster")
    async with stage(api_server, "outage") as (kube, proxy), through(proxy, kube, monkeypatch) as operator:
        story = asyncio.create_task(tell_a_story(Bench(kube, api_server, operator)))
        await asyncio.sleep(0.2)
        proxy.dead.set()
        proxy.cut_watches()
        operator.queue.add(Bench(kube, api_server, operator).key())
        await asyncio.sleep(4)
        proxy.dead.clear()
        await story
        await ends_the_same(kube, api_server, monkeypatch)
    said = [record.getMessage() for record in caplog.records if "API server" in record.getMessage()]
    assert said in ([], ["the API server does not answer", "the API server answers again"])


async def test_watches_that_are_cut_lose_nothing(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(api_server, "cut") as (kube, proxy), through(proxy, kube, monkeypatch) as operator:
        story = asyncio.create_task(tell_a_story(Bench(kube, api_server, operator)))
        cut = 0
        while not story.done():
            cut += proxy.cut_watches()
            await asyncio.wait([story], timeout=1.5)
        await story
        assert cut > 5
        await ends_the_same(kube, api_server, monkeypatch)


async def test_what_vanished_before_a_relist_is_right_after_one_resync(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a compaction kopf lists anew and keeps what is gone: a Service that was deleted meanwhile comes back."""
    async with (
        stage(api_server, "compacted") as (kube, proxy),
        through(proxy, kube, monkeypatch, AURALINK_RESYNC_S="5") as operator,
    ):
        await tell_a_story(Bench(kube, api_server, operator))
        old = await kube.get("services", "auralink-b")
        assert old is not None
        proxy.deaf = True
        await kube.delete("services", "auralink-b")
        await asyncio.sleep(0.5)
        proxy.deaf = False
        assert proxy.cut_watches(dict(GONE)) > 5

        async def back() -> bool:
            found = await kube.get("services", "auralink-b")
            return found is not None and found["metadata"]["uid"] != old["metadata"]["uid"]

        await eventually(back, "the Service is back", 15.0)
        assert old["metadata"]["uid"] in operator.ghosts
        await ends_the_same(kube, api_server, monkeypatch)


async def test_a_watch_that_tells_nothing_ends_the_process(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auralink_operator.resync.DEAD_WATCH_S", 1.0)

    async def story() -> None:
        async with (
            stage(api_server, "deaf") as (kube, proxy),
            through(proxy, kube, monkeypatch, AURALINK_RESYNC_S="5") as operator,
        ):
            proxy.deaf = True
            await kube.create("auralinkbridges", a_bridge("unheard"))
            await _ended(operator)

    with pytest.raises(DeadWatchError):
        await story()


async def test_an_error_in_a_watch_ends_the_process(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with stage(api_server, "broken") as (kube, proxy), through(proxy, kube, monkeypatch) as operator:
            proxy.cut_watches(dict(BROKEN))
            await _ended(operator)

    with pytest.raises(Exception, match="InternalError"):
        await story()


async def test_an_operator_that_starts_while_the_server_is_busy_gets_ready(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(api_server, "busy") as (kube, proxy):
        lists = proxy.fail(lambda r: not is_watch(r), times=8, status=503, retry_after="1")
        async with through(proxy, kube, monkeypatch) as operator:
            assert lists.hits == 8
            await tell_a_story(Bench(kube, api_server, operator))
            await ends_the_same(kube, api_server, monkeypatch)


# --- killed at each step ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", range(1, WRITE_STEPS + 1))
async def test_an_operator_that_is_killed_after_any_write_leaves_what_the_next_one_finishes(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """To the server a kill is silence: nothing goes through any more, and the last answer is never seen."""
    async with stage(api_server, f"killed-{step}") as (kube, proxy):
        proxy.dies_after = step
        story: asyncio.Task[None]
        async with through(proxy, kube, monkeypatch) as first:
            story = asyncio.create_task(tell_a_story(Bench(kube, api_server, first)))
            await asyncio.wait_for(proxy.dead.wait(), 30)
        assert len(proxy.written) >= step  # what was on its way with it arrives as well
        async with running(api_server, monkeypatch, kube.namespace):
            await story
            await ends_the_same(kube, api_server, monkeypatch)


async def _ended(operator: Operator) -> None:
    """Until the operator's pages are gone; `running` then raises what it ended with."""

    async def gone() -> bool:
        try:
            url = f"http://127.0.0.1:{operator.settings.health_port}/healthz"
            async with aiohttp.ClientSession() as session, session.get(url):
                return False
        except aiohttp.ClientError:
            return True

    await eventually(gone, "the operator has ended", 30.0)
