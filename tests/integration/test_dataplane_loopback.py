"""Real packets, real pictures: FFmpeg -> pod -> AI Core -> pod -> FFmpeg, on loopback."""

import asyncio
import signal
from pathlib import Path

import pytest
from auralink_aicore.codecs import SERVED

from tests.integration.media import FPS, Studio, until


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


@pytest.mark.parametrize("codec", [one.name for one in SERVED])
async def test_a_stream_is_recompressed_and_every_frame_of_the_recording_decodes(tmp_path: Path, codec: str) -> None:
    studio = Studio(tmp_path, codec)
    async with studio.core(), studio.pod(qualityLevel=1) as pod:  # noise is dear: quality would bind before the target
        async with studio.receiver(8), studio.sender(11) as sender:
            await until(lambda: studio.mode_is("compress"), "compression")
            await sender.wait()
            await asyncio.sleep(1.5)  # the last sample
            status = (await studio.status())["aic_compression"]
        print({name: status[name] for name in ("saved_percent", "latency_ms", "grpc_stats")})
        frames, errors = await studio.decode()
        assert errors == ""
        [video] = [one for one in status["streams"] if one["media"] == "video"]
        assert frames >= 6 * FPS
        assert status["frames_compressed"] >= 0.9 * status["grpc_stats"]["total_requests"]
        assert 25 <= status["saved_percent"] <= 60
        assert status["grpc_stats"]["failed_requests"] == 0
        assert [out["illegal_switch"] for out in video["outs"]] == [0], video
        assert status["latency_ms"]["pod"]["p50"] < 10
        pod.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await pod.wait() == 0


async def test_the_picture_goes_on_natively_while_the_core_is_gone_and_comes_back(studio: Studio) -> None:
    async with studio.pod(), studio.receiver(22), studio.sender(26) as sender:
        async with studio.core() as core:
            await until(lambda: studio.mode_is("compress"), "compression", 30)
            await asyncio.sleep(2)
            core.kill()
            await until(lambda: studio.mode_is("bypass"), "native frames", 5)
            assert "AICoreUnavailable" in (await studio.status())["problems"]
        async with studio.core():
            await until(lambda: studio.mode_is("compress"), "compression again", 15)
            await sender.wait()
            status = await studio.status()
    frames, errors = await studio.decode()
    assert errors == ""
    [video] = [one for one in status["aic_compression"]["streams"] if one["media"] == "video"]
    assert [out["illegal_switch"] for out in video["outs"]] == [0], video
    assert frames >= 18 * FPS  # a freeze of a key interval at most, twice
    assert "AICoreUnavailable" not in status["problems"]


async def test_a_core_that_shuts_down_in_order_costs_no_picture(studio: Studio) -> None:
    async with studio.core() as core, studio.pod(), studio.receiver(9), studio.sender(12) as sender:
        await until(lambda: studio.mode_is("compress"), "compression", 30)
        await asyncio.sleep(2)
        core.terminate()
        await until(lambda: studio.mode_is("bypass"), "native frames", 5)
        assert "AICoreUnavailable" in (await studio.status())["problems"]
        await core.wait()
        await sender.wait()
        status = await studio.status()
    frames, errors = await studio.decode()
    assert errors == ""
    assert frames >= 7 * FPS
    [video] = [one for one in status["aic_compression"]["streams"] if one["media"] == "video"]
    assert video["source"]["frames"] - video["outs"][0]["frames"] <= 0.1 * video["source"]["frames"]
    assert '"to": "hold"' not in (studio.folder / "pod.log").read_text()


@pytest.mark.parametrize("codec", ["H265", "VP8", "VP9", "AV1"])
async def test_other_codecs_cross_as_they_came_and_every_frame_of_the_recording_decodes(
    tmp_path: Path, codec: str
) -> None:
    studio = Studio(tmp_path, codec)
    kbps = 1000 if codec == "AV1" else 3000  # libaom's keys are so large that FFmpeg's receiving socket drops of them
    async with studio.pod(mode="Disabled"):
        async with studio.receiver(5), studio.sender(8, kbps=kbps) as sender:
            await sender.wait()
        await asyncio.sleep(1.5)  # the last sample
        status = await studio.status()
    frames, errors = await studio.decode()
    assert errors == ""
    assert frames >= 4 * FPS
    [video] = [one for one in status["aic_compression"]["streams"] if one["media"] == "video"]
    assert (video["codec"], video["mode"]) == (codec, "bypass")
    assert video["source"]["frames"] == video["outs"][0]["frames"] == 8 * FPS
