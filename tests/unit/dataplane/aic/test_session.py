"""One session against the twin: what is said, what is heard, how it ends."""

from typing import get_args

import grpc
import pytest
from auralink_dataplane.media.frames import Disposition, Mode
from auralink_dataplane.media.pipeline import Failure, Refusal
from auralink_dataplane.media.pipeline.times import FULL_REST_S
from auralink_dataplane.policy import Compression
from auralink_dataplane.settings.bridge import Codec
from auralink_pb.aicore.v1 import aicore_pb2 as pb

from tests.unit.dataplane.aic.bench import Bench, core_for, frame


async def test_a_session_says_who_it_is_and_answers_in_order(bench: Bench) -> None:
    async with core_for(bench) as core:
        session = bench.open()
        assert session
        for number in range(5):
            session.send(frame(number, key=number == 0), Mode.COMPRESS, 20)
        await bench.until(lambda: len(bench.heard.results) == 5)
        assert bench.heard.opened == [(1, False)]
        assert [one.frame_id for one in bench.heard.results] == [0, 1, 2, 3, 4]
        assert [one.key for one in bench.heard.results] == [True, False, False, False, False]
        assert bench.heard.results[0].disposition is Disposition.COMPRESSED
        opened = core.opened[0]
        assert opened.session_id == "pod-1/r/1/1"
        assert opened.group_id == "r"
        assert opened.mode == pb.MODE_COMPRESS
        assert opened.policy.target_savings == pytest.approx(0.4)
        assert opened.policy.latency_budget_ms == 10
        assert core.metadata["auralink-protocol"] == "1.0"
        assert core.metadata["auralink-bridge-id"] == "ns/b"
        assert core.frames[0].rtp_timestamp == 0  # 32 bits of the 64


@pytest.mark.parametrize("codec", [codec for codec in get_args(Codec) if codec != "Opus"])
async def test_every_video_codec_of_the_bridge_has_a_name_that_the_core_knows(bench: Bench, codec: str) -> None:
    async with core_for(bench) as core:
        assert bench.open(codec=codec)
        await bench.until(lambda: core.opened)
        assert pb.Codec.Name(core.opened[0].codec) == f"CODEC_{codec}"


async def test_a_policy_change_and_a_forced_key_reach_the_live_session(bench: Bench) -> None:
    async with core_for(bench) as core:
        session = bench.open()
        assert session
        session.update_policy(Compression(target_savings_percent=20, mode="Always", latency_budget_ms=33))
        session.force_key()
        await bench.until(lambda: len(core.controls) == 2)
        assert core.controls[0].policy.target_savings == pytest.approx(0.2)
        assert core.controls[0].policy.latency_budget_ms == 33
        assert core.controls[0].policy.always


async def test_a_closed_session_is_told_to_end_and_heard_no_more(bench: Bench) -> None:
    async with core_for(bench) as core:
        session = bench.open()
        assert session
        await bench.until(lambda: bench.heard.opened)
        session.send(frame(0, key=True), Mode.COMPRESS, 20)
        session.close(None)
        await bench.until(lambda: core.ended)
        assert not bench.heard.results
        assert not bench.heard.failures


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (pb.SessionOpened.STATUS_FULL, Refusal.FULL),
        (pb.SessionOpened.STATUS_UNSUPPORTED, Refusal.UNSUPPORTED),
    ],
)
async def test_a_refusal_is_no_failure(bench: Bench, status: pb.SessionOpened.Status.ValueType, why: Refusal) -> None:
    async with core_for(bench) as core:
        core.status = status
        session = bench.open()
        assert session
        await bench.until(lambda: bench.heard.refused)
        assert bench.heard.refused == [why]
        session.close(None)
        assert (bench.open() is None) == (why is Refusal.FULL)  # a full endpoint rests
        bench.now += FULL_REST_S
        assert bench.open() is not None


async def test_a_crash_fails_the_session_and_names_the_problem(bench: Bench) -> None:
    async with core_for(bench) as core:
        session = bench.open()
        assert session
        await bench.until(lambda: bench.heard.opened)
        await core.stop()
        await bench.until(lambda: bench.heard.failures)
        assert bench.heard.failures == [Failure.UNREACHABLE]
        assert "does not answer" in (bench.client.problem() or "")
        assert not bench.client.usable


async def test_notices_are_passed_on(bench: Bench) -> None:
    async with core_for(bench) as core:
        bench.open()
        await bench.until(lambda: bench.heard.opened)
        await core.notice(pb.Notice.KIND_SHED)
        await core.notice(pb.Notice.KIND_LOST)
        await core.notice(pb.Notice.KIND_DRAINING)
        await bench.until(lambda: bench.heard.draining)
        assert bench.heard.shed == 1
        assert bench.heard.failures == [Failure.LOST]
        assert bench.open() is None  # nothing new for one that drains


async def test_a_session_that_fails_in_the_turn_it_was_opened_in_leaves_nothing(bench: Bench) -> None:
    async with core_for(bench) as core:
        for _ in range(3):
            session = bench.open()
            assert session
            session.close(Failure.PACKETS)
        endpoint = next(iter(bench.client._endpoints.values()))
        await bench.until(lambda: endpoint.sessions == 0)
        assert core.opened == []
        await bench.use()
        await bench.until(lambda: endpoint.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN)
