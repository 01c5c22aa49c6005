"""The AI Core's measurements run with every codec that is served, on a small clip of moving noise."""

import pytest
from auralink_aicore.codecs import SERVED

from benchmarks.aicore import latency, loop, quality
from benchmarks.aicore.plan import UNSCORED, Job, Subject
from benchmarks.aicore.quality import TARGET, Wants
from hack.lab import clip, sender
from hack.lab.clip import Clip

FRAMES = 90
CODECS = [codec.name for codec in SERVED]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    path = tmp_path_factory.mktemp("clip") / "camera_320x240_30fps.mkv"
    camera = ["-f", "lavfi", "-i", "mandelbrot=s=320x240:r=30:maxiter=100,noise=alls=6:allf=t"]
    clip.run_ffmpeg([*camera, "-frames:v", f"{FRAMES}", *clip.LOSSLESS, str(path)])
    return clip.probe(path)


@pytest.mark.parametrize("codec", CODECS)
def test_a_stream_is_measured_at_every_target(codec: str, small: Clip) -> None:
    found = quality.measure(Job(codec, Subject(small, "360p"), 600, FRAMES), Wants(True, True, True, True))

    assert sorted(found.ours) == [0.3, TARGET, 0.5]
    runs = [*found.ours.values(), found.floored]
    assert all(run is not None and run.decoded is not None and run.decoded.clean for run in runs)
    assert list(found.scores) == list(range(FRAMES))
    less, more = (found.point(found.ours[target]) for target in (0.3, 0.5))
    assert less[0] < more[0]
    assert less[1] < more[1]
    assert [take.sizes[0] > 0 for take in found.asked] == [True, True]
    assert found.violations is not None
    assert found.violations.whole == (FRAMES - UNSCORED) // 15
    lines = list(found.lines())
    assert len(lines) == FRAMES * (1 + 3 + 2 + 1)
    assert {line["run"] for line in lines} >= {"sender", "0.4", "0.4 with floor", "sender asked for 0.6"}


def test_only_savings_are_wanted_and_nothing_is_scored(small: Clip) -> None:
    found = quality.measure(Job("H264", Subject(small, "360p"), 600, FRAMES), Wants(True, False, False, False))
    assert list(found.ours) == [TARGET]
    assert not found.scores
    assert abs(found.worst_saving) < 100


@pytest.mark.parametrize("codec", CODECS)
def test_every_frame_is_timed_beside_the_plain_encoders(codec: str, small: Clip) -> None:
    found = latency.measure(Job(codec, Subject(small, "360p"), 600, FRAMES))
    assert [frame for frame, key in enumerate(found.keys) if key] == [0, 25, 50, 75]
    assert len(found.ms) == len(found.plain_ms) == FRAMES
    assert 0 < found.p50 <= found.p95
    assert found.plain_p50 > 0


def test_a_frame_that_is_not_recompressed_ends_the_measurement(small: Clip) -> None:
    units = list(sender.send(small, "H264", 600, FRAMES).units)
    del units[0]
    with pytest.raises(RuntimeError, match="frame 0 was not recompressed"):
        loop.recompress("H264", units, 30.0, TARGET, floor=False)
