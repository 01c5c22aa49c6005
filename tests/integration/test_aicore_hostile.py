"""What clients that break the rules, or their senders, can do to an AI Core: nothing to its memory or to others.

Every test runs beside a neighbour, a well-behaved session whose answers are timed.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from auralink_aicore.server.call import MAX_IN_FLIGHT
from auralink_aicore.server.service import MAX_MESSAGE_BYTES, SPARE_CALLS
from auralink_aicore.worker.admission import MAX_SEATS
from auralink_pb.aicore.v1 import aicore_pb2 as pb

from hack.lab.aicore import Running, aicore
from tests.integration.aicore_server import Stream
from tests.unit.aicore import clips

OK = pb.SessionOpened.STATUS_OK
WORKERS = 2
MIB = 1024 * 1024
# A second's worth of frames may be late on a machine that other work keeps busy; a neighbour that hangs is not missed.
IN_TIME_S, IN_TIME_SHARE = 0.25, 0.8


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Running]:
    async with aicore(workers=WORKERS) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def channel(server: Running) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.address) as opened:
        yield opened


def resident_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def memory(server: Running) -> tuple[int, int]:
    """Bytes of the front, and of the workers together."""
    return resident_bytes(server.process.pid), sum(map(resident_bytes, server.worker_pids[-WORKERS:]))


@asynccontextmanager
async def neighbour(server: Running) -> AsyncIterator[None]:
    """A session of 30 frames a second through it all. Fails unless its answers came, in time and COMPRESSED."""
    units = clips.h264(frames=90)
    took: list[float] = []
    results: Counter[str] = Counter()
    stop = asyncio.Event()

    async def live(stream: Stream) -> None:
        while not stop.is_set() or len(took) < 15:
            began = time.monotonic()
            (result,) = await stream.exchange([units[len(took) % len(units)]])
            took.append(time.monotonic() - began)
            results[pb.Disposition.Name(result.disposition)] += 1
            await asyncio.sleep(max(0.0, 1 / 30 - took[-1]))

    async with grpc.aio.insecure_channel(server.address) as channel:
        stream = Stream(channel)
        assert (await stream.open(session_id="neighbour")).status == OK
        living = asyncio.create_task(live(stream))
        try:
            yield
        finally:
            stop.set()
            await living
    assert results == {"DISPOSITION_COMPRESSED": len(took)}
    assert sum(one <= IN_TIME_S for one in took) >= IN_TIME_SHARE * len(took), sorted(took)[-10:]


async def opens(channel: grpc.aio.Channel, **fields: Any) -> tuple[Stream, str]:
    """A session, and how the server took it: a status of the contract, or of gRPC."""
    stream = Stream(channel)
    try:
        opened = await stream.open(**fields)
    except (grpc.aio.AioRpcError, AssertionError, asyncio.InvalidStateError):
        return stream, (await stream.call.code()).name
    return stream, pb.SessionOpened.Status.Name(opened.status)


async def sends_until_it_ends(stream: Stream, units: Iterable[bytes]) -> None:
    """Frame after frame, whether or not there are answers."""
    try:
        for unit in units:
            await stream.send(unit)
    except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
        return
    raise AssertionError("it took them all")


@pytest.mark.asyncio(loop_scope="module")
class TestManySessions:
    async def test_ten_thousand_sessions_fill_the_seats_and_no_more(self, server: Running) -> None:
        before = memory(server)
        kept: list[Stream] = []
        answers: Counter[str] = Counter()
        async with AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(
                    grpc.aio.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)])
                )
                for _ in range(4)
            ]

            async def client(number: int) -> None:
                for _ in range(250):
                    stream, answer = await opens(channels[number % 4], width=64, height=64, max_fps=1)
                    answers[answer] += 1
                    if answer == "STATUS_OK":
                        kept.append(stream)

            async with neighbour(server):
                await asyncio.gather(*map(client, range(40)))
                during = memory(server)
                for stream in kept:
                    stream.call.cancel()
        assert sum(answers.values()) == 10_000
        assert set(answers) == {"STATUS_OK", "STATUS_FULL"}
        assert MAX_SEATS < answers["STATUS_OK"] <= WORKERS * MAX_SEATS
        assert during[0] - before[0] < 128 * MIB
        assert during[1] - before[1] < 256 * MIB
        await self.takes_sessions_again(server)

    async def test_calls_that_open_nothing_are_bounded_too(self, server: Running) -> None:
        most = WORKERS * MAX_SEATS + SPARE_CALLS
        before = memory(server)
        async with neighbour(server), grpc.aio.insecure_channel(server.address) as channel:
            idle = [Stream(channel).call for _ in range(2 * most - 100)]  # gRPC's own limit is at twice ours
            refused = 0
            async with asyncio.timeout(30):
                while refused < most - 100:
                    refused = sum(call.done() for call in idle)
                    await asyncio.sleep(0.05)
            ends = Counter([(await call.code()).name for call in idle if call.done()])
            # In such a burst gRPC's C core resets a few calls before their status is out.
            assert ends["RESOURCE_EXHAUSTED"] + ends["CANCELLED"] == ends.total()
            assert ends["RESOURCE_EXHAUSTED"] > 0.9 * ends.total()
            assert memory(server)[0] - before[0] < 128 * MIB
            for call in idle:
                call.cancel()
        await self.takes_sessions_again(server)

    async def test_sessions_that_never_send_hold_their_seat_and_nothing_else(
        self, server: Running, channel: grpc.aio.Channel
    ) -> None:
        before = memory(server)
        async with neighbour(server):
            idle = [await opens(channel, width=64, height=64, max_fps=1) for _ in range(50)]
            assert {answer for _, answer in idle} == {"STATUS_OK"}
            await asyncio.sleep(1)
            grown = memory(server)[1] - before[1]
            for stream, _ in idle:
                stream.call.cancel()
        assert grown < 50 * MIB

    @staticmethod
    async def takes_sessions_again(server: Running) -> None:
        async with asyncio.timeout(20), grpc.aio.insecure_channel(server.address) as channel:
            answer = ""
            while answer != "STATUS_OK":
                stream, answer = await opens(channel)
            assert (await stream.exchange(clips.h264()[:1]))[0].key


@pytest.mark.asyncio(loop_scope="module")
class TestFloods:
    async def test_frames_faster_than_answers_end_the_session(self, server: Running, channel: grpc.aio.Channel) -> None:
        units = clips.h264(size="1280x720", frames=60)
        before = memory(server)
        async with neighbour(server):
            for _ in range(5):
                stream = Stream(channel)
                await stream.open(width=1280, height=720)
                await sends_until_it_ends(stream, units * 20)
                # A client that writes into a call that has ended is told INTERNAL by its own library.
                assert await stream.ended() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL)
        front, workers = (after - was for after, was in zip(memory(server), before, strict=True))
        assert front < 64 * MIB
        assert workers < 128 * MIB

    async def test_frames_of_many_bytes_end_it_sooner(self, server: Running, channel: grpc.aio.Channel) -> None:
        """Sixteen of the largest messages would be 128 MiB."""
        junk = b"\0\0\1\x65" + bytes(MAX_MESSAGE_BYTES - 4096)
        before = memory(server)
        async with neighbour(server):
            stream = Stream(channel)
            await stream.open()
            for worker in server.worker_pids[-WORKERS:]:
                os.kill(worker, signal.SIGSTOP)
            try:
                for _ in range(3):
                    await stream.send(junk)
                ended = await stream.ended()
            finally:
                for worker in server.worker_pids[-WORKERS:]:
                    os.kill(worker, signal.SIGCONT)
            assert ended is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "bytes of frames" in await stream.call.details()
        assert memory(server)[0] - before[0] < 96 * MIB

    async def test_a_client_that_never_reads_is_ended_although_its_answers_cannot_leave(self, server: Running) -> None:
        """They fill gRPC's flow-control window, and the last word waits behind them."""
        noise = clips.h264("color=gray:s={size}:r=30,noise=alls=100:allf=t", "1280x720", frames=16, arguments="-qp 20")
        assert sum(map(len, noise)) > 4 * MIB
        closed = sum(line["message"] == "session closed" for line in server.log)
        small_window = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65535)]
        async with neighbour(server), grpc.aio.insecure_channel(server.address, options=small_window) as channel:
            stream = Stream(channel)
            await stream.open(width=1280, height=720, policy=pb.Policy(always=True, target_savings=0, quality_level=10))
            for unit in noise:
                await stream.send(unit)
            await asyncio.sleep(2)  # the answers are there, and cannot leave
            with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
                for _ in range(MAX_IN_FLIGHT):
                    await stream.send(b"")
            async with asyncio.timeout(10):
                await server.wait_logged("session closed", closed + 1)

    async def test_a_flood_of_controls_is_read_and_slows_nobody(
        self, server: Running, channel: grpc.aio.Channel
    ) -> None:
        before = memory(server)
        async with neighbour(server):
            stream = Stream(channel)
            await stream.open()
            for number in range(5000):
                await stream.control(force_key=pb.ForceKey())
                await stream.control(policy=pb.Policy(always=True, quality_level=1 + number % 10))
            assert (await stream.exchange(clips.h264()[:1]))[0].disposition == pb.DISPOSITION_COMPRESSED
        assert memory(server)[0] - before[0] < 64 * MIB

    async def test_a_message_above_the_limit_ends_its_call_only(
        self, server: Running, channel: grpc.aio.Channel
    ) -> None:
        async with neighbour(server):
            stream = Stream(channel)
            await stream.open()
            await stream.send(bytes(MAX_MESSAGE_BYTES + 1))
            assert await stream.ended() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.asyncio(loop_scope="module")
class TestStrangePictures:
    async def test_frames_of_another_codec_are_skipped_and_the_third_key_fails_the_session(
        self, server: Running, channel: grpc.aio.Channel
    ) -> None:
        vp8_key = bytes([0x10, 0x02, 0x00, 0x9D, 0x01, 0x2A, 0x40, 0x01, 0xF0, 0x00]) + bytes(500)
        async with neighbour(server):
            stream = Stream(channel)
            await stream.open()
            results = []
            for number in range(4):
                frame = pb.Frame(frame_id=number, payload=vp8_key, key=True, mode=pb.MODE_COMPRESS)
                await stream.call.write(pb.ClientMessage(frame=frame))
                results.append((await stream.read()).result)
            skipped, failed = pb.DISPOSITION_SKIPPED, pb.DISPOSITION_FAILED
            assert [result.disposition for result in results] == [skipped, skipped, failed, failed]
            assert all(result.need_key and result.reason for result in results)

    @pytest.mark.parametrize("size", ["16x16", "7680x4320"])
    async def test_pictures_too_small_or_too_large_stay_native_with_the_reason(
        self, server: Running, channel: grpc.aio.Channel, size: str
    ) -> None:
        units = clips.h264("color=gray:s={size}:r=30", size, frames=2, arguments="-preset ultrafast")
        before = memory(server)
        async with neighbour(server):
            width, height = map(int, size.split("x"))
            assert (await opens(channel, width=width, height=height))[1] == "STATUS_UNSUPPORTED"
            stream, answer = await opens(channel, width=0, height=0)
            assert answer == "STATUS_OK"
            for result in await stream.exchange(units):
                assert result.disposition == pb.DISPOSITION_UNCHANGED
                assert result.advice == pb.ADVICE_NATIVE
                assert "size" in result.reason
            others = [await opens(channel) for _ in range(2 * WORKERS)]
            assert {answer for _, answer in others} == {"STATUS_OK"}  # it takes nobody's room
            for other, _ in others:
                other.call.cancel()
        assert memory(server)[1] - before[1] < 64 * MIB

    async def test_a_size_that_takes_too_long_here_is_unsupported_or_native_with_the_reason(
        self, server: Running, channel: grpc.aio.Channel
    ) -> None:
        hurried = pb.Policy(latency_budget_ms=1)
        async with neighbour(server):
            stream = Stream(channel)
            opened = await stream.open(width=1920, height=1080, policy=hurried)
            assert opened.status == pb.SessionOpened.STATUS_UNSUPPORTED
            assert "latency_budget_ms" in opened.reason
            stream = Stream(channel)
            assert (await stream.open(width=0, height=0, policy=hurried)).status == OK
            for result in await stream.exchange(clips.h264(size="1280x720", frames=60)[:3]):
                assert (result.disposition, result.advice) == (pb.DISPOSITION_UNCHANGED, pb.ADVICE_NATIVE)
                assert "H264 at 1280x720 takes" in result.reason


async def test_a_crash_in_a_codec_costs_its_own_workers_sessions_only() -> None:
    units = clips.h264()
    async with aicore(workers=WORKERS) as server, grpc.aio.insecure_channel(server.address) as channel:
        streams = [Stream(channel) for _ in range(4)]
        for stream in streams:
            assert (await stream.open()).status == OK
            await stream.exchange(units[:3])
        sat = [line["worker"] for line in server.log if line["message"] == "session opened"]
        pids = {line["worker"]: line["pid"] for line in server.log if line["message"] == "worker ready"}
        os.kill(pids[sat[0]], signal.SIGSEGV)
        for stream, worker in zip(streams, sat, strict=True):
            if worker == sat[0]:
                assert (await stream.read()).notice.kind == pb.Notice.KIND_LOST
                assert await stream.ended() is grpc.StatusCode.OK
            else:
                answers = await stream.exchange(units[3:10])
                assert {one.disposition for one in answers} == {pb.DISPOSITION_COMPRESSED}
        died = server.line("worker died")
        assert (died["worker"], died["reason"]) == (sat[0], "signal SIGSEGV")
        await server.wait_logged("worker ready", times=WORKERS + 1)
