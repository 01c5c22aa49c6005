"""What is computed of a sample, and that a scorer gone wrong costs nothing but the sample."""

import asyncio
import os
import sys
import time
from collections import Counter
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from auralink_aicore.codecs import Codec
from auralink_aicore.controller import Policy
from auralink_aicore.evidence.sampling import Sample, Score
from auralink_aicore.evidence.score import CPU_S, psnr_db, score, ssim
from auralink_aicore.evidence.scorer import WAITING, Job, Outcome, Scorer, packed, parsed, with_libvmaf

from tests.unit.aicore import clips
from tests.unit.aicore.bench import Bench, sent

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def sample_of(sender: clips.Sender, level: int = 7) -> Sample:
    units = sender.send(frames=30)
    policy = Policy(always=True, quality_level=level, target_savings=0.9)
    return Sample(sender.codec, list(units), sent(Bench(sender, policy).run(units)))


@pytest.mark.parametrize("sender", clips.SENDERS, ids=str)
def test_every_codec_is_scored_and_worse_pictures_score_lower(sender: clips.Sender) -> None:
    fine, coarse = sample_of(sender, level=10), sample_of(sender, level=1)
    good, bad = (score(one.codec, one.senders, one.ours, FFMPEG) for one in (fine, coarse))
    assert good.pictures == bad.pictures == 30
    assert good.psnr_db > bad.psnr_db > 25
    assert 1 > good.ssim > bad.ssim > 0.8
    assert good.vmaf is not None
    assert bad.vmaf is not None
    assert 100 >= good.vmaf > bad.vmaf > 40


def test_a_stream_against_itself_is_perfect_and_vmaf_needs_its_ffmpeg() -> None:
    units = clips.H264.send(frames=30)
    same = score(Codec.H264, units, units, None)
    assert (same.psnr_db, same.vmaf) == (100.0, None)
    assert same.ssim == pytest.approx(1.0)


def test_sides_that_do_not_pair_are_no_sample() -> None:
    units = clips.H264.send(frames=30)
    with pytest.raises(ValueError, match="do not pair"):
        score(Codec.H264, units, units[:29], None)


def test_the_measures_are_what_their_definitions_say() -> None:
    black, grey = np.zeros((16, 16), np.uint8), np.full((16, 16), 10, np.uint8)
    assert psnr_db(black, grey) == pytest.approx(10 * np.log10(255**2 / 100))
    assert ssim(black, black) == pytest.approx(1.0)
    noise = np.random.default_rng(1).integers(0, 256, (16, 16), dtype=np.uint8)
    assert ssim(noise, 255 - noise) < 0


class Scene:
    def __init__(self, *command: str, timeout_s: float = 30.0) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        self.scores: list[Score] = []
        self.scorer = Scorer(lambda outcome: self.outcomes.update([outcome]), timeout_s=timeout_s)
        if command:
            self.scorer = Scorer(lambda outcome: self.outcomes.update([outcome]), None, command, timeout_s)

    def submit(self, sample: Sample) -> None:
        self.scorer.submit(Job(sample, lambda _, score: self.scores.append(score)))

    async def run(self, *samples: Sample) -> None:
        """Until each was dealt with."""
        running = asyncio.create_task(self.scorer.run())
        for sample in samples:
            self.submit(sample)
            async with asyncio.timeout(30):
                while self.outcomes.total() < samples.index(sample) + 1:  # noqa: ASYNC110 - watches counts
                    await asyncio.sleep(0.01)
        running.cancel()


SMALL = Sample(Codec.H264, [b"a"], [b"b"])


async def test_a_sample_comes_back_scored_from_a_process_of_its_own() -> None:
    scene = Scene()
    await scene.run(sample_of(clips.H264))
    assert scene.outcomes == {Outcome.SCORED: 1}
    assert scene.scores[0].pictures == 30
    assert scene.scores[0].vmaf is None


async def test_what_cannot_be_decoded_fails_and_the_next_one_is_scored() -> None:
    scene = Scene()
    await scene.run(SMALL, sample_of(clips.VP8))
    assert scene.outcomes == {Outcome.FAILED: 1, Outcome.SCORED: 1}


@pytest.mark.parametrize(
    "code", ["import os; os.abort()", "print('no score')", "import sys; sys.stdin.close(); sys.exit(3)"]
)
async def test_a_scorer_that_dies_or_talks_nonsense_costs_its_sample(code: str) -> None:
    scene = Scene(sys.executable, "-c", code)
    await scene.run(SMALL)
    assert scene.outcomes == {Outcome.FAILED: 1}


async def test_a_scorer_that_cannot_be_started_does_too() -> None:
    scene = Scene("/nowhere/scorer")
    await scene.run(SMALL)
    assert scene.outcomes == {Outcome.FAILED: 1}


async def test_a_stuck_scorer_is_killed_with_its_children(tmp_path: Path) -> None:
    script = tmp_path / "stuck.sh"
    script.write_text(f"#!/bin/sh\nsleep 1000 &\necho $! > {tmp_path}/child\nwait\n")
    script.chmod(0o755)
    scene = Scene(str(script), timeout_s=0.5)
    await scene.run(SMALL)
    assert scene.outcomes == {Outcome.TIMED_OUT: 1}
    child = Path("/proc") / (tmp_path / "child").read_text().strip() / "stat"
    until = time.monotonic() + 5
    while _lives(child) and time.monotonic() < until:  # noqa: ASYNC110 - watches a process of nobody
        await asyncio.sleep(0.01)
    assert not _lives(child)


def _lives(stat: Path) -> bool:
    """By /proc; what nobody has waited for yet is dead all the same."""
    try:
        return stat.read_text().split()[2] != "Z"
    except OSError:
        return False


async def test_a_scorer_stands_behind_everybody_else(tmp_path: Path) -> None:
    told = tmp_path / "told"
    code = f"""
import os, resource
from auralink_aicore.evidence.score import step_back
step_back()
limits = resource.getrlimit(resource.RLIMIT_CPU)
open({str(told)!r}, "w").write(repr((os.nice(0), os.sched_getscheduler(0), limits)))
"""
    scene = Scene(sys.executable, "-c", code)
    await scene.run(SMALL)
    assert told.read_text() == repr((19, os.SCHED_IDLE, (CPU_S, CPU_S)))


async def test_what_comes_too_fast_is_dropped_at_once() -> None:
    scene = Scene()
    for _ in range(WAITING + 3):
        scene.submit(SMALL)
    assert scene.outcomes == {Outcome.DROPPED: 3}
    assert not scene.scorer.has_room()


async def test_only_an_ffmpeg_with_libvmaf_will_do(tmp_path: Path) -> None:
    bare = tmp_path / "ffmpeg"
    bare.write_text("#!/bin/sh\necho ' ... scale V->V'\n")
    bare.chmod(0o755)
    assert await with_libvmaf(FFMPEG)
    assert not await with_libvmaf(str(bare))
    assert not await with_libvmaf(str(tmp_path / "none"))


def test_an_answer_is_a_score_or_an_error() -> None:
    assert parsed(b'{"pictures": 3, "psnr_db": 40, "ssim": 0.9, "vmaf": null}') == Score(3, 40.0, 0.9, None)
    for answer in (b"", b"[]", b'{"vmaf": 3}', b"null"):
        with pytest.raises(ValueError, match="no score"):
            parsed(answer)
    assert packed(Sample(Codec.VP9, [b"ab"], [b"c"]), None).endswith(b"\nabc")
