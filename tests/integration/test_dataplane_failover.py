"""What receivers see when the AI Core of their stream fails, in each way that it can, with and without a standby: real
AI Cores, a real sender, and a decoder that judges every picture."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from auralink_aicore.codecs import SERVED
from auralink_dataplane.media.pipeline import State

from tests.integration.core_pair import PROCESS_FAULTS, Pair, active_of, over, running, struck
from tests.integration.core_relay import Fault, relay
from tests.integration.onlooker import CODECS, FPS, Scene, encode, pictures, scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIMEOUT_MS = 500
"""Of answers. Longer than a bridge's default: these machines have other work, and a stall of theirs is no failure."""
NOISE_S = 0.5
"""That a measured time may be longer than promised, for the same reason."""
LEAST_PSNR_DB = 24.0
"""A picture on foreign references is far below."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair() -> AsyncIterator[Pair]:
    one = Pair()
    yield one
    await one.close()


@pytest.fixture(scope="module", params=[codec.name for codec in SERVED])
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of each codec that the AI Core serves; the file's stem is its name."""
    return encode(tmp_path_factory.mktemp("clip"), CODECS[request.param])


def judge(seen: Scene, clip: Path, since: float, name: str, *, standby: bool) -> float:
    """Every picture is whole. Returns the longest time without one."""
    complaints, worst = seen.received.judge(clip.stem, pictures(clip))
    gap_s = seen.received.gap_s(since)
    outcome = dict(seen.app.streams.books.takeovers)
    print(
        f"\n{clip.stem}, {name}, {'standby' if standby else 'without'}: {gap_s * 1000:.0f} ms without a new picture,"
        f" {len(seen.received.frames)} frames, lowest PSNR {worst:.1f} dB, {outcome}"
    )
    assert complaints == []
    assert worst > LEAST_PSNR_DB
    assert seen.out["illegal_switch"] == 0
    return gap_s


def expect(seen: Scene, gap_s: float, *, standby: bool, hangs: bool) -> None:
    if standby:
        assert seen.out["native_frames"] == 0
        assert seen.pipeline.state is State.COMPRESS
        assert set(seen.app.streams.books.takeovers) <= {"promoted", "next_frame"}
        assert seen.app.streams.books.takeovers.total() == 1
        assert gap_s < (TIMEOUT_MS / 1000 if hangs else 0.0) + 0.050 + 1 / FPS + NOISE_S
    else:
        assert seen.out["native_frames"] > 0
        assert seen.app.streams.books.takeovers.total() == 0


@pytest.mark.parametrize("standby", [True, False], ids=["standby", "without"])
@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
async def test_a_core_that_breaks_its_word_breaks_no_picture(
    pair: Pair, clip: Path, fault: Fault, standby: bool
) -> None:
    cores = await pair.whole()
    async with AsyncExitStack() as stack:
        relays = [await stack.enter_async_context(relay(core.address)) for core in cores]
        addresses = [one.address for one in relays]
        seen = await stack.enter_async_context(
            scene(CODECS[clip.stem], clip, addresses, standby=standby, timeout_ms=TIMEOUT_MS)
        )
        await running(seen, standby=standby)
        active = relays[addresses.index(active_of(seen))]
        active.fault = fault
        await seen.until(lambda: active.struck, "the fault")
        assert active.struck
        await over(seen, active.struck)
        gap_s = judge(seen, clip, active.struck, fault.name.lower(), standby=standby)
        expect(seen, gap_s, standby=standby, hangs=fault is Fault.SLOW)


@pytest.mark.parametrize("standby", [True, False], ids=["standby", "without"])
@pytest.mark.parametrize("fault", PROCESS_FAULTS)
async def test_a_core_that_dies_or_hangs_breaks_no_picture(pair: Pair, clip: Path, fault: str, standby: bool) -> None:
    cores = await pair.whole()
    addresses = [core.address for core in cores]
    async with scene(CODECS[clip.stem], clip, addresses, standby=standby, timeout_ms=TIMEOUT_MS) as seen:
        await running(seen, standby=standby)
        core = cores[addresses.index(active_of(seen))]
        with struck(core, fault) as at:
            await over(seen, at)
        if fault == "server killed":
            await core.process.wait()
        gap_s = judge(seen, clip, at, fault, standby=standby)
        expect(seen, gap_s, standby=standby, hangs=fault == "server hung")


@pytest.mark.parametrize("standby", [True, False], ids=["standby", "without"])
async def test_a_core_that_drains_is_left_for_the_other_without_a_native_frame(
    pair: Pair, clip: Path, standby: bool
) -> None:
    cores = await pair.whole()
    addresses = [core.address for core in cores]
    async with scene(CODECS[clip.stem], clip, addresses, standby=standby, timeout_ms=TIMEOUT_MS) as seen:
        await running(seen, standby=standby)
        core = cores[addresses.index(active_of(seen))]
        at = time.monotonic()
        core.stop()
        await seen.until(lambda: active_of(seen) != core.address, "the move", 5)
        await core.process.wait()
        await over(seen, time.monotonic())
        gap_s = judge(seen, clip, at, "drained", standby=standby)
        expect(seen, gap_s, standby=True, hangs=False)


async def test_the_stream_goes_back_and_forth_as_cores_fail_in_turn(pair: Pair, clip: Path) -> None:
    cores = await pair.whole()
    addresses = [core.address for core in cores]
    async with scene(CODECS[clip.stem], clip, addresses, standby=True, timeout_ms=TIMEOUT_MS) as seen:
        first = time.monotonic()
        for _ in range(2):
            await seen.until(lambda: list(seen.app.streams) and seen.pipeline.standby.ready, "a standby")
            await running(seen, standby=True)
            before = seen.app.streams.books.takeovers.total()
            os.kill(cores[addresses.index(active_of(seen))].worker_pids[-1], signal.SIGKILL)
            await seen.until(lambda: seen.app.streams.books.takeovers.total() > before, "the takeover")  # noqa: B023
        await asyncio.sleep(0.5)
        judge(seen, clip, first, "in turn", standby=True)
        assert seen.out["native_frames"] == 0
        assert seen.app.streams.books.takeovers.total() == 2
        assert seen.app.streams.books.takeovers["not_ready"] == 0
