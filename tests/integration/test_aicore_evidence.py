"""Evidence of a real AI Core, and that no answer waits for it."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.aio
import imageio_ffmpeg
import pytest
from auralink_pb.aicore.v1 import aicore_pb2 as pb

from hack.lab.aicore import Running, aicore
from tests.integration.aicore_server import Stream
from tests.unit.aicore import clips

WITHIN_S = 60


async def asked(running: Running, path: str) -> tuple[int, str]:
    port = (await served(running))["http_port"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body.decode()


async def served(running: Running) -> dict[str, Any]:
    await running.wait_logged("serving")
    return next(line for line in running.log if line["message"] == "serving")


async def samples(running: Running, outcome: str, seen: Callable[[str], bool]) -> str:
    """The metrics, once so many of the outcome are there."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            text = (await asked(running, "/metrics"))[1]
            found = re.search(rf'evidence_samples_total{{outcome="{outcome}"}} (\S+)', text)
            if found and seen(found[1]):
                return text
            await asyncio.sleep(0.1)


async def run_stream(running: Running, sender: clips.Sender, **fields: Any) -> tuple[list[pb.FrameResult], float]:
    """All answers, and the longest wait for one."""
    async with grpc.aio.insecure_channel(running.address) as channel:
        stream = Stream(channel, sender)
        await stream.open(group_id="town-hall", **fields)
        results, longest = [], 0.0
        for unit in sender.send(frames=90):
            start = time.monotonic()
            results += await stream.exchange([unit])
            longest = max(longest, time.monotonic() - start)
        return results, longest


@pytest.mark.parametrize("sender", [clips.H264, clips.VP8], ids=str)
async def test_a_session_is_sampled_scored_and_told_by_room(sender: clips.Sender) -> None:
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    async with aicore(AICORE_EVIDENCE="vmaf", AICORE_FFMPEG=ffmpeg) as running:
        await running.wait_logged("samples are scored")
        results, _ = await run_stream(running, sender)
        assert {one.disposition for one in results} == {pb.DISPOSITION_COMPRESSED}
        text = await samples(running, "scored", lambda count: float(count) == 1)
        codec = sender.codec.name
        assert f'auralink_aicore_vmaf_of_ours_against_senders_count{{codec="{codec}"}} 1.0' in text
        assert f'auralink_aicore_psnr_db_of_ours_against_senders_count{{codec="{codec}"}} 90.0' in text
        status, body = await asked(running, "/evidence")
        [room] = json.loads(body)["rooms"]
        told = room["codecs"][codec]
        assert (status, room["room"], told["sessions"], told["frames_compressed"]) == (200, "town-hall", 1, 90)
        assert told["psnr_db_of_ours_against_senders"]["mean"] > 25
        assert 30 < told["samples"]["vmaf_of_ours_against_senders"]["mean"] <= 100
        assert told["samples"]["predicted_vmaf_loss"]["count"] == 1


async def test_by_default_nothing_is_sampled_and_no_room_is_named() -> None:
    async with aicore() as running:
        await run_stream(running, clips.H264)
        assert (await asked(running, "/evidence"))[0] == 404
        text = (await asked(running, "/metrics"))[1]
        assert 'psnr_db_of_ours_against_senders_count{codec="H264"} 90.0' in text
        assert "town-hall" not in text


async def test_a_session_that_forbids_it_is_not_sampled() -> None:
    async with aicore(AICORE_EVIDENCE="vmaf", AICORE_FFMPEG="/nowhere/ffmpeg") as running:
        await running.wait_logged("samples are scored without VMAF")
        policy = pb.Policy(always=True, collect=pb.COLLECT_NOTHING)
        await run_stream(running, clips.H264, policy=policy)
        await run_stream(running, clips.VP8, policy=pb.Policy(always=True, collect=pb.COLLECT_PAIRS))
        text = await samples(running, "scored", lambda count: float(count) == 1)
        assert "vmaf_of_ours_against_senders_count" not in text
        [room] = json.loads((await asked(running, "/evidence"))[1])["rooms"]
        scored = {
            codec: told["samples"]["ssim_of_ours_against_senders"]["count"] for codec, told in room["codecs"].items()
        }
        assert scored == {"H264": 0, "VP8": 1}


@pytest.mark.parametrize("then", ["sleep 1000", "kill -9 $$"], ids=["stuck", "crashing"])
async def test_a_scorer_gone_wrong_changes_no_answer(tmp_path: Path, then: str) -> None:
    ffmpeg = tmp_path / "ffmpeg"
    ffmpeg.write_text(
        f'#!/bin/sh\ncase "$*" in *-filters*) echo " .. libvmaf VV->V"; exit;; esac\ntouch {tmp_path}/at\n{then}\n'
    )
    ffmpeg.chmod(0o755)
    async with aicore() as plain:
        expected, _ = await run_stream(plain, clips.VP8)
    async with aicore(AICORE_EVIDENCE="vmaf", AICORE_FFMPEG=str(ffmpeg)) as running:
        await running.wait_logged("samples are scored")
        await run_stream(running, clips.VP8)
        async with asyncio.timeout(WITHIN_S):
            while not (tmp_path / "at").exists():  # noqa: ASYNC110 - watches a file
                await asyncio.sleep(0.05)
        results, longest = await run_stream(running, clips.VP8)
        assert [(one.frame_id, one.disposition, one.key) for one in results] == [
            (one.frame_id, one.disposition, one.key) for one in expected
        ]
        assert clips.VP8.complaints([one.payload for one in results]) == ""
        assert longest < 2
        assert (await asked(running, "/health"))[0] == 200
