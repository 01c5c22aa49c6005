"""A pod with two AI Cores behind its address, and the bridge's wish for a standby."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from auralink_dataplane.media.streams import Stream

from tests.fakes.aicore import FakeAiCore
from tests.fakes.packets import Source
from tests.unit.dataplane.whole import PodUnderTest, bridge


@pytest.fixture
async def other() -> AsyncIterator[FakeAiCore]:
    async with FakeAiCore() as one:
        yield one


def spec(*cores: FakeAiCore) -> dict[str, Any]:
    found = bridge(mode="Always")
    found["aiCore"] |= {"addresses": [core.address for core in cores], "failover": "Standby"}
    return found


async def compressing(pod: PodUnderTest, other: FakeAiCore) -> tuple[int, Stream, Source, FakeAiCore, FakeAiCore]:
    """30 frames with a standby beside; who answers, and who looks on."""
    await pod.configure(spec=spec(pod.core, other))
    await pod.until(lambda: len(pod.app.aic.endpoints()) == 2)
    number = await pod.stream()
    await pod.play(number, 30)
    source = pod.packets.sources[number]
    await pod.until(lambda: len(source.sent) == 30)
    [stream] = pod.app.streams
    await pod.until(lambda: stream.pipeline and stream.pipeline.standby.ready)
    active, standby = (pod.core, other) if stream.endpoint == pod.core.address else (other, pod.core)
    return number, stream, source, active, standby


async def test_a_crash_costs_no_native_frame_and_is_counted(pod: PodUnderTest, other: FakeAiCore) -> None:
    number, stream, source, active, standby = await compressing(pod, other)
    assert len(standby.frames) == 30
    await active.stop()
    await pod.until(lambda: stream.endpoint == standby.address)
    for _ in range(20):
        pod.packets.feed(number, key=False, size=1000, now=asyncio.get_running_loop().time())
        await asyncio.sleep(0.005)
    await pod.until(lambda: len(source.sent) == 50)
    assert all(one.ours for one in source.sent)
    assert [one.key for one in source.sent].count(True) == 2
    assert not source.garbage
    status = pod.app.status()["aic_compression"]
    assert status["grpc_stats"]["promotions"] == {"next_frame": 1}
    assert status["grpc_stats"]["total_requests"] == 50  # what the standby only looks at is no request
    assert status["frames_compressed"] == 50
    endpoints = {one["address"]: one for one in status["grpc_stats"]["endpoints"]}
    assert (endpoints[standby.address]["takeovers"], endpoints[standby.address]["standbys"]) == (1, 0)
    assert 'auralink_aic_promotions_total{outcome="next_frame"} 1.0' in pod.app.metrics_text().decode()


async def test_a_frame_that_waits_is_answered_with_the_standbys_key(pod: PodUnderTest, other: FakeAiCore) -> None:
    number, stream, source, active, standby = await compressing(pod, other)
    active.mute = True
    pod.packets.feed(number, key=False, size=1000, now=asyncio.get_running_loop().time())
    await pod.until(lambda: len(active.frames) == 31)
    await active.stop()
    await pod.until(lambda: len(source.sent) == 31)
    assert (source.sent[-1].ours, source.sent[-1].key) == (True, True)
    assert stream.endpoint == standby.address
    assert pod.app.status()["aic_compression"]["grpc_stats"]["promotions"] == {"promoted": 1}


async def test_the_status_says_whether_there_is_a_standby(pod: PodUnderTest, other: FakeAiCore) -> None:
    _, _, _, _, standby = await compressing(pod, other)

    def told() -> Any:
        [one] = pod.app.status()["aic_compression"]["streams"]
        return one["standby"]

    assert told() == "ready"
    assert "StandbyUnavailable" not in pod.app.problems()
    await standby.stop()
    await pod.until(lambda: told() is None)
    await pod.until(lambda: "StandbyUnavailable" in pod.app.problems())
    assert standby.address in pod.app.problems()["StandbyUnavailable"]
    assert "AICoreUnavailable" not in pod.app.problems()


async def test_one_ai_core_alone_degrades_a_bridge_that_wants_two(pod: PodUnderTest) -> None:
    await pod.configure(spec=spec(pod.core))
    number = await pod.stream()
    await pod.play(number, 5)
    await pod.until(lambda: len(pod.packets.sources[number].sent) == 5)
    assert all(one.ours for one in pod.packets.sources[number].sent)
    assert "alone" in pod.app.problems()["StandbyUnavailable"]
