"""What a transcoder makes of its host's judgement of a size, and of its room's share of the bytes."""

import math
from collections.abc import Iterable, Sequence

import pytest
from auralink_aicore.codecs import Codec, Limits
from auralink_aicore.controller import Policy
from auralink_aicore.model import Model
from auralink_aicore.transcoder import Advice, Disposition, Frame, Judge, Mode, Result, Session, Transcoder

from benchmarks.aicore.loop import floorless
from tests.unit.aicore import clips, models

COMPRESSED, UNCHANGED, _, _ = Disposition
GENEROUS = Policy(always=True, quality_level=1, quality_floor=0)


class Bench:
    """H.264 at 30 frames a second of virtual time."""

    def __init__(self, policy: Policy = GENEROUS, judge: Judge = lambda *_: "", model: Model | None = None) -> None:
        self.now = 100.0
        self.sent = 0
        session = Session(Codec.H264, policy, Limits(), screen=False)
        self.transcoder = Transcoder(session, lambda: self.now, judge=judge, model=model)

    def frame(self, unit: bytes, mode: Mode = Mode.COMPRESS) -> Result:
        self.now += 1 / 30
        frame = Frame(self.sent, unit, clips.is_key(unit), mode, self.now, math.inf)
        self.sent += 1
        return self.transcoder.receive(frame)

    def run(self, units: Iterable[bytes], mode: Mode = Mode.COMPRESS) -> list[Result]:
        return [self.frame(unit, mode) for unit in units]


def saved(units: Sequence[bytes], results: Sequence[Result]) -> float:
    return 1 - sum(len(r.payload) for r in results) / sum(map(len, units))


class TestTooMuchForTheHost:
    """What the caller's judge says of a size, once a key shows it."""

    @staticmethod
    def small_only(width: int, height: int, policy: Policy) -> str:
        return "" if policy.always or width * height <= 160 * 120 else f"{width}x{height} takes too long"

    def bench(self) -> Bench:
        return Bench(Policy(quality_level=1, quality_floor=0, min_savings=0.0), judge=self.small_only)

    def test_the_stream_stays_native_for_good_and_nothing_has_failed(self) -> None:
        bench = self.bench()
        results = bench.run(clips.h264())
        assert {(r.disposition, r.advice, r.reason, r.need_key) for r in results} == {
            (UNCHANGED, Advice.NATIVE, "320x240 takes too long", False)
        }
        assert bench.transcoder.refused
        assert bench.frame(clips.h264(size="160x120")[0]).disposition is UNCHANGED

    def test_watching_it_is_advised_against_as_well(self) -> None:
        results = self.bench().run(clips.h264()[:3], Mode.SHADOW)
        assert {(r.disposition, r.advice) for r in results} == {(UNCHANGED, Advice.NATIVE)}

    def test_a_stream_that_grows_too_large_goes_native_at_that_key(self) -> None:
        bench = self.bench()
        small = bench.run(clips.h264(size="160x120")[:20])
        assert {r.disposition for r in small} == {COMPRESSED}
        large = bench.run(clips.h264()[:5])
        assert [(r.disposition, r.key) for r in large] == [(UNCHANGED, True)] + 4 * [(UNCHANGED, False)]

    def test_a_policy_that_gives_time_is_served_again_by_way_of_watching(self) -> None:
        bench, units = self.bench(), clips.h264()
        bench.run(units[:5])
        bench.transcoder.apply(GENEROUS)
        waiting = bench.run(units[5:30])
        assert {(r.disposition, r.need_key) for r in waiting} == {(UNCHANGED, True)}
        assert bench.run(units[30:32], Mode.SHADOW)[-1].advice is Advice.COMPRESS
        results = bench.run(units[32:40])
        assert results[0].key
        assert {r.disposition for r in results} == {COMPRESSED}
        assert not bench.transcoder.refused


def test_a_stream_of_a_size_that_is_not_served_costs_nothing_until_it_has_another() -> None:
    """By its size alone an 8K stream that stays native would have filled its worker."""
    bench = Bench()
    bench.run(clips.h264(size="16x16")[:3])
    assert bench.transcoder.refused
    bench.run(clips.h264()[:3])
    assert not bench.transcoder.refused


class TestReport:
    def test_there_is_one_while_frames_are_compressed(self) -> None:
        bench, units = Bench(model=models.medians()), clips.h264()
        bench.run(units[:10], Mode.SHADOW)
        assert bench.transcoder.report() is None
        bench.run(units[10:50])
        report = bench.transcoder.report()
        assert report is not None
        assert report.source_rate == pytest.approx(30 * sum(map(len, units[1:50])) / 49, rel=0.05)
        assert (report.target, report.allowed_loss) == (0.4, 12.0)

    def test_with_a_models_curves_it_says_what_they_say(self) -> None:
        bench = Bench(model=models.made(loss_below=1.5, loss_above=6.0))
        bench.run(clips.h264()[:40])
        report = bench.transcoder.report()
        assert report is not None
        assert (report.loss[0], report.loss[-1]) == (1.5, 6.0)
        assert report.ln_bytes[0] - report.ln_bytes[-1] == pytest.approx(models.SPAN)

    def test_a_share_moves_the_stream_and_is_taken_back(self) -> None:
        bench, units = Bench(model=floorless()), clips.h264(frames=240)
        bench.run(units[:40])
        bench.transcoder.share(0.7)
        bench.run(units[40:70])
        assert saved(units[70:150], bench.run(units[70:150])) > 0.6
        bench.transcoder.share(None)
        bench.run(units[150:190])
        assert saved(units[190:], bench.run(units[190:])) < 0.55
