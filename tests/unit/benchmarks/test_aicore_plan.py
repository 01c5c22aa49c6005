"""Which streams the AI Core is measured with."""

from fractions import Fraction
from pathlib import Path

import pytest

from benchmarks.aicore import __main__ as command
from benchmarks.aicore import plan
from benchmarks.aicore.plan import Subject
from benchmarks.aicore.quality import Wants
from hack.lab import clip as lab
from hack.lab.clip import Clip


def clip(name: str = "people", width: int = 1280, height: int = 720, frames: int = 250) -> Clip:
    return Clip(Path(f"{name}.mkv"), width, height, Fraction(25), frames)


@pytest.mark.parametrize(("frames", "every"), [(90, 1), (132, 1), (170, 2), (250, 3), (900, 3), (40, 1)])
def test_enough_frames_are_scored_and_no_more_than_needed(frames: int, every: int) -> None:
    assert plan.subsample(frames) == every


def test_the_first_frames_do_not_count() -> None:
    assert plan.scored(24, 3) == [15, 18, 21]


def test_every_codec_goes_with_every_clip_at_the_rates_of_its_size() -> None:
    subjects = [Subject(clip("a"), "720p"), Subject(clip("b", 640, 360), "360p")]
    jobs = plan.jobs(subjects, ["H264", "VP8"], plan.SENDERS_KBPS, 4)
    assert [str(job) for job in jobs[:4]] == [
        "H264 720p 2500 kb/s a",
        "H264 720p 1500 kb/s a",
        "H264 360p 800 kb/s b",
        "H264 360p 500 kb/s b",
    ]
    assert len(jobs) == 8
    assert {job.frames for job in jobs} == {100}


def test_however_few_seconds_are_asked_for_enough_frames_are_measured() -> None:
    [job] = plan.jobs([Subject(clip(), "720p")], ["H264"], {"720p": (1,)}, 0.5)
    assert job.frames == 90
    [job] = plan.jobs([Subject(clip(frames=132), "720p")], ["H264"], {"720p": (1,)}, 60)
    assert job.frames == 132


def test_a_short_clip_is_left_out_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "clips", lambda: [clip("short", frames=89)])
    said: list[str] = []
    assert plan.subjects([], ["720p"], said.append) == []
    assert said == ["short is left out: 89 frames are too few"]


def test_nothing_is_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "clips", lambda: [clip("small", 480, 270), clip("tiny", 176, 144)])
    found = plan.subjects([], ["720p", "360p"], print)
    assert [(one.name, one.size, one.clip.width) for one in found] == [("small", "360p", 480)]


def test_a_tiny_clip_is_taken_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "clips", lambda: [clip("small", 480, 270), clip("tiny", 176, 144)])
    assert [one.name for one in plan.subjects(["tiny"], ["720p", "360p"], print)] == ["tiny"]


def test_only_talking_people_count_as_a_conference() -> None:
    names = ("presenter1_1080x1920_25fps", "presenter1-noise", "bigbuckbunny")
    assert [Subject(clip(name), "720p").conferencing for name in names] == [True, True, False]


def test_a_quick_run_takes_one_rate_of_each_size() -> None:
    assert command.parse(["--quick"]).rates == {"720p": (2500,), "360p": (800,)}


def test_a_soak_is_run_when_asked_for_and_never_by_default() -> None:
    assert not command.parse([]).wants("fallback_and_success")
    assert command.parse(["--soak", "30"]).wants("fallback_and_success")
    with pytest.raises(SystemExit):
        command.parse(["--rows", "fallback_and_success"])


def test_rows_that_were_not_asked_for_cost_nothing() -> None:
    options = command.parse(["--rows", "m1_saving_error"])
    assert options.quality == Wants(saving=True, loss=False, asking=False, floor=False)
    assert options.quality.runs == 1
    assert not options.wants("m5_latency")
    assert not command.parse(["--rows", "hop"]).quality.any
