"""VMAF compares the pictures it is told to compare."""

from pathlib import Path

import pytest

from hack.lab import clip, picture
from hack.lab.clip import Clip

FRAMES = 10


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    path = tmp_path_factory.mktemp("clip") / "card.mkv"
    clip.run_ffmpeg(
        ["-f", "lavfi", "-i", "testsrc2=s=320x240:r=25", "-frames:v", f"{FRAMES}", *clip.LOSSLESS, str(path)]
    )
    return clip.probe(path)


@pytest.fixture(scope="module")
def coarse(original: Clip) -> Path:
    path = original.path.with_name("coarse.h264")
    clip.run_ffmpeg(["-i", str(original.path), "-c:v", "libx264", "-qp", "40", "-bf", "0", str(path)])
    return path


def test_both_ways_of_scoring_agree(original: Clip, coarse: Path) -> None:
    in_step = picture.vmaf_in_step(coarse, original, FRAMES)
    by_list = picture.vmaf(coarse, range(FRAMES), original)
    assert in_step.frames == FRAMES
    assert in_step.scores == pytest.approx(by_list.scores, abs=0.01)
    assert in_step.mean < 95


def test_every_third_frame_is_scored_under_its_own_number(original: Clip, coarse: Path) -> None:
    every = picture.vmaf_in_step(coarse, original, FRAMES).scores
    third = picture.vmaf_in_step(coarse, original, FRAMES, subsample=3).scores
    assert list(third) == [0, 3, 6, 9]
    assert third[6] == pytest.approx(every[6], abs=0.5)


def test_a_recording_that_is_too_short_is_told(original: Clip, coarse: Path) -> None:
    short = coarse.with_name("short.h264")
    clip.run_ffmpeg(["-i", str(coarse), "-c", "copy", "-frames:v", "6", str(short)])
    with pytest.raises(RuntimeError, match="6 pictures were scored of 10"):
        picture.vmaf_in_step(short, original, FRAMES)


def test_several_recordings_of_a_clip_are_scored_as_each_would_be(original: Clip, coarse: Path) -> None:
    both = picture.vmaf_of_all([coarse, original.path], original, FRAMES, subsample=3)
    assert both[0].scores == pytest.approx(picture.vmaf_in_step(coarse, original, FRAMES, subsample=3).scores, abs=1e-6)
    assert both[1].lowest > 97
    short = coarse.with_name("short-of-all.h264")
    clip.run_ffmpeg(["-i", str(coarse), "-c", "copy", "-frames:v", "6", str(short)])
    with pytest.raises(RuntimeError, match="pictures were scored of 10"):
        picture.vmaf_of_all([coarse, short], original, FRAMES)
