"""A stream is measured once, with real encoders and VMAF, and a build goes on where it was stopped."""

import math
import time
from pathlib import Path

import pytest

from hack.lab import clip
from hack.train import build
from hack.train.scenes import FRAMES, Scene


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "card.mkv"
    source = "testsrc2=s=176x144:r=30,noise=alls=8:allf=t"
    clip.run_ffmpeg(["-f", "lavfi", "-i", source, "-frames:v", f"{FRAMES}", *clip.LOSSLESS, str(path)])
    return Scene(clip.probe(path), "card", "270p", real=False, public=True, licence="none")


def test_a_build_goes_on_where_it_was_stopped(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    assert not list(build.measured([scene], "H264", until_s=-1.0)), "no time, nothing measured"
    first = list(build.measured([scene], "H264"))
    assert "H264 2 of 2" in capfd.readouterr().err
    started = time.monotonic()
    again = list(build.measured([scene], "H264", until_s=-1.0))
    assert time.monotonic() - started < 1.0
    assert [one.sha256 for one in again] == [one.sha256 for one in first]
    assert [one.kbps for one in first] == [800, 350]
    assert again[0].trials == first[0].trials

    one = first[0]
    assert [trial.q for trial in one.trials] == list(build.CANDIDATES["H264"])
    bytes_ = [sum(trial.sizes) for trial in one.trials]
    scores = [sum(trial.scores) for trial in one.trials]
    psnr = [sum(trial.psnr) for trial in one.trials]
    for falling in (bytes_, scores, psnr):
        assert falling == sorted(falling, reverse=True)
    assert len(one.scores) == len(range(0, FRAMES, build.SUBSAMPLE))
    assert one.looks[0].difference == 0.0 < one.looks[1].difference
    assert not math.isnan(one.looks[5].sender_q)
