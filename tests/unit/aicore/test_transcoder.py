"""One stream through the transcoder, for each codec: real video in, and what comes out always decodes."""

import math
from collections.abc import Callable

import pytest
from auralink_aicore.controller import Policy
from auralink_aicore.model import packaged
from auralink_aicore.transcoder import (
    FLAG_DEGRADED,
    FLAG_FLOOR_BINDS,
    FLAG_KEY,
    FLAG_SCREEN,
    FLAG_SKIPPED_BEFORE,
    Advice,
    Frame,
    Mode,
)

from benchmarks.aicore.loop import floorless
from tests.unit.aicore import clips
from tests.unit.aicore.bench import COMPRESSED, FAILED, SKIPPED, UNCHANGED, Bench, expect_wait_for_key, saved, sent
from tests.unit.aicore.clips import Sender


@pytest.fixture(params=clips.SENDERS, ids=str)
def sender(request: pytest.FixtureRequest) -> Sender:
    assert isinstance(request.param, Sender)
    return request.param


class TestWhatComesOut:
    @pytest.mark.parametrize("size", ["320x240", "178x146"])
    def test_every_frame_has_one_answer_and_all_answers_decode(self, sender: Sender, size: str) -> None:
        units = sender.send(size=size)
        results = Bench(sender).run(units)
        assert [r.disposition for r in results] == [COMPRESSED] * len(units)
        assert sender.complaints(sent(results)) == ""
        pictures = sender.decode(sent(results))
        assert [f"{picture.width}x{picture.height}" for picture in pictures] == [size] * len(units)

    def test_keys_are_the_senders_keys_and_no_others(self, sender: Sender) -> None:
        units = sender.send(frames=90)
        results = Bench(sender).run(units)
        assert [r.key for r in results] == [sender.is_key(unit) for unit in units]
        assert [sender.is_key(r.payload) for r in results] == [r.key for r in results]
        assert all(bool(r.flags & FLAG_KEY) == r.key for r in results)

    def test_the_picture_stays_the_picture(self, sender: Sender) -> None:
        units = sender.send()
        before = sender.decode(list(units))
        after = sender.decode(sent(Bench(sender, Policy(always=True, quality_level=9)).run(units)))
        for old, new in zip(before, after, strict=True):
            luma_old, luma_new = old.to_ndarray()[:240].astype(int), new.to_ndarray()[:240].astype(int)
            assert abs(luma_old - luma_new).mean() < 4

    def test_a_key_is_coded_coarser_than_the_frames_around_it(self, sender: Sender) -> None:
        units = sender.send(frames=90)
        results = Bench(sender).run(units)
        inter = sorted(len(r.payload) for r in results[31:60])[14]
        assert len(results[60].payload) < 8 * inter

    def test_the_header_values_tell_the_truth(self, sender: Sender) -> None:
        units = sender.send(frames=90)
        results = Bench(sender).run(units)
        last_second = saved(units[-30:], results[-30:])
        assert results[-1].ratio == pytest.approx(1000 * last_second, abs=30)
        assert 800 <= results[-1].quality <= 1000
        assert results[-1].model_hash == packaged().hash


class TestSaving:
    @pytest.mark.parametrize("target", [0.2, 0.4, 0.6])
    def test_follows_the_target(self, sender: Sender, target: float) -> None:
        units = sender.send(frames=240, kbps=sender.rich_kbps)
        policy = Policy(always=True, target_savings=target)
        results = Bench(sender, policy, model=floorless()).run(units)
        assert saved(units[30:], results[30:]) == pytest.approx(target, abs=0.03)

    def test_follows_a_changed_target_without_a_new_session(self, sender: Sender) -> None:
        units = sender.send(frames=240, kbps=sender.rich_kbps)
        bench = Bench(sender, Policy(always=True, target_savings=0.4), model=floorless())
        bench.run(units[:120])
        bench.transcoder.apply(Policy(always=True, target_savings=0.2))
        results = bench.run(units[120:])
        assert saved(units[150:], results[30:]) == pytest.approx(0.2, abs=0.04)

    def test_quality_goes_before_saving_and_says_so(self, sender: Sender) -> None:
        units = sender.send(frames=60, kbps=sender.poor_kbps)
        results = Bench(sender, Policy(always=True, target_savings=0.6, quality_level=10)).run(units)
        assert results[-1].flags & FLAG_FLOOR_BINDS
        assert saved(units, results) < 0.5
        assert results[-1].quality >= 990

    def test_what_saves_too_little_goes_native_at_a_key_and_stays_so_until_shadow(self, sender: Sender) -> None:
        units = sender.send(frames=300, kbps=sender.poor_kbps)
        bench = Bench(sender, Policy(target_savings=0.4, quality_level=10))
        results = bench.run(units)
        first = next(i for i, r in enumerate(results) if r.disposition is UNCHANGED)
        assert sender.is_key(units[first])
        assert {r.disposition for r in results[:first]} == {COMPRESSED}
        assert {r.disposition for r in results[first:]} == {UNCHANGED}
        assert Advice.NATIVE in {r.advice for r in results[:first]}

    def test_screen_content_is_held_to_one_point_and_marked(self, sender: Sender) -> None:
        bench = Bench(sender, Policy(always=True, quality_level=1, quality_floor=0), screen=True)
        results = bench.run(sender.send(clips.TEST_CARD, frames=30))
        assert all(r.flags & FLAG_SCREEN and r.quality >= 990 for r in results)


class TestModes:
    def test_shadow_frames_are_watched_only_and_then_our_own_key_comes_first(self, sender: Sender) -> None:
        units = sender.send()
        bench = Bench(sender)
        watched = bench.run(units[:10], Mode.SHADOW)
        assert {(r.disposition, r.payload) for r in watched} == {(UNCHANGED, b"")}
        results = bench.run(units[10:])
        assert not sender.is_key(units[10])
        assert results[0].key
        assert sender.complaints(sent(results)) == ""

    def test_a_shadow_stream_is_advised_to_compress(self, sender: Sender) -> None:
        assert Bench(sender, Policy()).run(sender.send()[:5], Mode.SHADOW)[-1].advice is Advice.COMPRESS

    def test_a_forced_key_is_the_next_result(self, sender: Sender) -> None:
        units = sender.send()
        bench = Bench(sender)
        bench.run(units[:10])
        bench.transcoder.force_key()
        assert [r.key for r in bench.run(units[10:13])] == [True, False, False]

    def test_promote_answers_the_last_picture_as_a_key_and_the_next_frame_follows_it(self, sender: Sender) -> None:
        units = sender.send()
        bench = Bench(sender)
        bench.run(units[:10], Mode.SHADOW)
        promoted = bench.transcoder.promote()
        assert (promoted.frame_id, promoted.disposition, promoted.key) == (9, COMPRESSED, True)
        results = bench.run(units[10:20])
        assert not any(r.key for r in results)
        assert sender.complaints(sent([promoted, *results])) == ""

    def test_promote_without_a_picture_asks_for_a_key(self, sender: Sender) -> None:
        result = Bench(sender).transcoder.promote()
        assert (result.disposition, result.need_key) == (SKIPPED, True)


class TestBrokenInput:
    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param(lambda _: b"", id="empty"),
            pytest.param(lambda _: b"not video at all", id="garbage"),
            pytest.param(lambda unit: unit[:5], id="cut in the header"),
        ],
    )
    def test_a_damaged_frame_stops_output_until_the_next_clean_key(
        self, sender: Sender, damage: Callable[[bytes], bytes]
    ) -> None:
        units = list(sender.send())
        units[10] = damage(units[10])
        expect_wait_for_key(sender, units, Bench(sender).run(units), 10)

    def test_whatever_a_decoder_makes_of_a_truncated_frame_what_goes_out_decodes(self, sender: Sender) -> None:
        """Some codecs cannot tell: past its end their coded data reads as zeros."""
        units = list(sender.send())
        units[10] = units[10][: len(units[10]) // 2]
        results = Bench(sender).run(units)
        assert results[30].disposition is COMPRESSED
        assert sender.complaints(sent(results)) == ""

    def test_a_gap_in_the_ids_counts_as_damage(self, sender: Sender) -> None:
        units = sender.send()
        bench = Bench(sender)
        before = bench.run(units[:10])
        bench.next_id += 1
        expect_wait_for_key(sender, units, before + bench.run(units[10:]), 10)

    def test_the_third_bad_key_in_a_row_fails_the_session(self, sender: Sender) -> None:
        key = sender.send()[0]
        bench = Bench(sender)
        bad = [Frame(number, key[:5], True, Mode.COMPRESS, 0.0, math.inf) for number in range(4)]
        results = [bench.transcoder.receive(frame) for frame in bad]
        assert [r.disposition for r in results] == [SKIPPED, SKIPPED, FAILED, FAILED]
        assert "bad keys" in results[2].reason
        assert results[2].need_key  # the sender's fault, not ours

    def test_a_frame_wrongly_marked_as_a_key_is_no_key(self, sender: Sender) -> None:
        bench = Bench(sender)
        result = bench.transcoder.receive(Frame(0, sender.send()[1], True, Mode.COMPRESS, 0.0, math.inf))
        assert (result.disposition, result.need_key) == (SKIPPED, True)


class TestDeadline:
    def test_a_late_picture_is_skipped_and_the_next_ones_still_decode(self, sender: Sender) -> None:
        units = sender.send()
        bench = Bench(sender)
        results = bench.run(units[:10])
        results.append(bench.frame(units[10], left_s=-0.001))
        results += bench.run(units[11:])
        assert results[10].disposition is SKIPPED
        assert not results[10].need_key
        assert results[11].flags & FLAG_SKIPPED_BEFORE
        assert sender.complaints(sent(results)) == ""

    def test_never_two_in_a_row(self, sender: Sender) -> None:
        units = sender.send()
        bench = Bench(sender)
        bench.run(units[:10])
        late = [bench.frame(unit, left_s=-0.001).disposition for unit in units[10:16]]
        assert late == [SKIPPED, COMPRESSED] * 3

    def test_never_a_key(self, sender: Sender) -> None:
        units = sender.send()
        bench = Bench(sender)
        assert bench.frame(units[0], left_s=-0.001).disposition is COMPRESSED
        bench.transcoder.force_key()
        assert bench.frame(units[1], left_s=-0.001).key


class TestChangesOfFormat:
    def test_a_new_size_opens_a_new_encoder_with_a_key(self, sender: Sender) -> None:
        units = sender.send(frames=30) + sender.send(size="160x128", frames=30)
        results = Bench(sender).run(units)
        assert [r.key for r in results[29:32]] == [False, True, False]
        assert [picture.width for picture in sender.decode(sent(results[30:]))] == [160] * 30
        assert sender.complaints(sent(results[30:])) == ""

    def test_more_than_one_new_size_in_a_second_fails(self, sender: Sender) -> None:
        first, second = sender.send(frames=5), sender.send(size="160x128", frames=5)
        failed = Bench(sender).run((*first, *second, *first))[-1]
        assert (failed.disposition, failed.need_key) == (FAILED, True)

    @pytest.mark.parametrize("size", ["16x16", "2560x1440"])
    def test_unserved_sizes_stay_native(self, sender: Sender, size: str) -> None:
        results = Bench(sender).run(sender.send(size=size, frames=2))
        assert {r.disposition for r in results} == {UNCHANGED}


class TestGovernor:
    def test_a_stream_over_its_budget_gets_cheaper_encoders_and_is_then_advised_native(self, sender: Sender) -> None:
        """A second over is a level; at the last one, or where there is none, three more are the end."""
        seconds = 1 + sender.cheaper_levels + 3
        units = sender.send(frames=30 * (seconds + 1))
        bench = Bench(sender, Policy(always=False, quality_level=1, quality_floor=0))
        results = [bench.frame(unit, waited_s=0.030) for unit in units]
        assert not results[20].flags & FLAG_DEGRADED
        assert bool(results[60].flags & FLAG_DEGRADED) == bool(sender.cheaper_levels)
        assert {r.advice for r in results[: 30 * (seconds - 1)]} == {Advice.KEEP}
        assert results[-1].advice is Advice.NATIVE
        assert sender.complaints(sent(results)) == ""
