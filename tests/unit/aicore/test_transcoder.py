"""One stream through the transcoder: real H.264 in, and what comes out always decodes."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from auralink_aicore.codecs import Codec, Limits
from auralink_aicore.codecs.bits import nal_units
from auralink_aicore.codecs.h264 import MAX_NAL_UNITS
from auralink_aicore.codecs.h264_syntax import NAL_IDR, NAL_SPS, Sps, parse_sps
from auralink_aicore.controller import Policy
from auralink_aicore.transcoder import (
    FLAG_DEGRADED,
    FLAG_FLOOR_BINDS,
    FLAG_KEY,
    FLAG_SCREEN,
    FLAG_SKIPPED_BEFORE,
    Advice,
    Disposition,
    Frame,
    Mode,
    Result,
    Session,
    Transcoder,
    model_hash,
)

from tests.unit.aicore import clips

COMPRESSED, UNCHANGED, SKIPPED, FAILED = Disposition
GENEROUS = Policy(always=True, quality_level=1, quality_floor=0)


@dataclass
class Bench:
    """A transcoder on a clock of its own: 30 frames a second, encoding takes no time unless told."""

    policy: Policy = GENEROUS
    limits: Limits = field(default_factory=Limits)
    screen: bool = False
    now: float = 100.0
    next_id: int = 0

    def __post_init__(self) -> None:
        session = Session(Codec.H264, self.policy, self.limits, self.screen)
        self.transcoder = Transcoder(session, lambda: self.now)

    def frame(
        self, unit: bytes, mode: Mode = Mode.COMPRESS, *, left_s: float = math.inf, waited_s: float = 0.0
    ) -> Result:
        self.now += 1 / 30
        frame = Frame(self.next_id, unit, clips.is_key(unit), mode, self.now - waited_s, self.now + left_s)
        self.next_id += 1
        result = self.transcoder.receive(frame)
        assert result.frame_id == frame.frame_id
        return result

    def run(self, units: Iterable[bytes], mode: Mode = Mode.COMPRESS) -> list[Result]:
        return [self.frame(unit, mode) for unit in units]


def sent(results: Iterable[Result]) -> list[bytes]:
    return [result.payload for result in results if result.disposition is COMPRESSED]


def sps_of(unit: bytes) -> Sps:
    for start, end in nal_units(unit):
        if unit[start] & 0x1F == NAL_SPS:
            return parse_sps(unit[start:end])
    raise AssertionError("no parameter set")


def sets_of(unit: bytes) -> bytes:
    """What stands in front of a key's first slice."""
    return unit[: next(at for at in clips.starts(unit) if unit[at + 3] & 0x1F == NAL_IDR)]


def between_sets_and_slices(unit: bytes, what: bytes) -> bytes:
    sets = sets_of(unit)
    return sets + what + unit.removeprefix(sets)


def saved(units: Sequence[bytes], results: Sequence[Result]) -> float:
    return 1 - sum(len(r.payload) for r in results) / sum(map(len, units))


class TestWhatComesOut:
    @pytest.mark.parametrize(
        "arguments",
        [
            "-profile:v baseline",
            "-profile:v main",
            "-profile:v high",
            "-profile:v high -x264-params slices=4",
            "-profile:v high -refs 4",
            "-preset medium -tune zerolatency",
        ],
    )
    def test_every_frame_has_one_answer_and_all_answers_decode(self, arguments: str) -> None:
        units = clips.h264(arguments=arguments)
        results = Bench().run(units)
        assert [r.disposition for r in results] == [COMPRESSED] * len(units)
        assert clips.complaints(sent(results)) == ""
        assert len(clips.decode(sent(results))) == len(units)

    def test_streams_of_other_encoders_come_out_just_as_well(self) -> None:
        units = clips.openh264()
        results = Bench().run(units)
        assert [r.disposition for r in results] == [COMPRESSED] * len(units)
        assert clips.complaints(sent(results)) == ""

    @pytest.mark.parametrize("path", clips.local() or [None], ids=lambda path: path.stem if path else "none")
    def test_so_do_the_clips_of_this_machine(self, path: Path | None) -> None:
        if path is None:
            pytest.skip("AURALINK_CLIPS names no folder with .264 files")
        units = clips.access_units(path.read_bytes())
        results = Bench().run(units)
        assert [r.disposition for r in results] == [COMPRESSED] * len(units)
        assert clips.complaints(sent(results)) == ""

    def test_keys_are_the_senders_keys_and_no_others(self) -> None:
        units = clips.h264(frames=90)
        results = Bench().run(units)
        assert [r.key for r in results] == [clips.is_key(unit) for unit in units]
        assert [clips.is_key(r.payload) for r in results] == [r.key for r in results]
        assert all(bool(r.flags & FLAG_KEY) == r.key for r in results)

    def test_every_key_carries_parameter_sets_and_nothing_carries_sei(self) -> None:
        results = Bench().run(clips.h264())
        for result in results:
            types = clips.nal_types(result.payload)
            assert 6 not in types
            assert (types[:2] == [7, 8]) == result.key

    def test_the_picture_stays_the_picture(self) -> None:
        units = clips.h264()
        before = clips.decode(list(units))
        after = clips.decode(sent(Bench(Policy(always=True, quality_level=9)).run(units)))
        for old, new in zip(before, after, strict=True):
            luma_old, luma_new = old.to_ndarray()[:240].astype(int), new.to_ndarray()[:240].astype(int)
            assert abs(luma_old - luma_new).mean() < 4

    def test_a_key_is_coded_coarser_than_the_frames_around_it(self) -> None:
        units = clips.h264(frames=90)
        results = Bench().run(units)
        inter = sorted(len(r.payload) for r in results[31:60])[14]
        assert len(results[60].payload) < 8 * inter

    def test_colour_description_is_copied(self) -> None:
        described = "-x264-params fullrange=on:colorprim=bt709:transfer=bt709:colormatrix=bt709"
        (picture, *_) = clips.decode(sent(Bench().run(clips.h264(frames=2, arguments=described))))
        assert [int(picture.color_range), int(picture.colorspace)] == [2, 1]
        assert [int(picture.color_primaries), int(picture.color_trc)] == [1, 1]

    def test_the_header_values_tell_the_truth(self) -> None:
        units = clips.h264(frames=90)
        results = Bench().run(units)
        last_second = saved(units[-30:], results[-30:])
        assert results[-1].ratio == pytest.approx(1000 * last_second, abs=30)
        assert 800 <= results[-1].quality <= 1000
        assert results[-1].model_hash == model_hash("auralink-table-1.0.0")


class TestSaving:
    @pytest.mark.parametrize("target", [0.2, 0.4, 0.6])
    def test_follows_the_target(self, target: float) -> None:
        units = clips.h264(frames=240, arguments="-b:v 600k -maxrate 600k -bufsize 300k")
        results = Bench(Policy(always=True, target_savings=target, quality_level=1, quality_floor=0)).run(units)
        assert saved(units[30:], results[30:]) == pytest.approx(target, abs=0.03)

    def test_follows_a_changed_target_without_a_new_session(self) -> None:
        units = clips.h264(frames=240, arguments="-b:v 600k -maxrate 600k -bufsize 300k")
        bench = Bench(Policy(always=True, target_savings=0.4, quality_level=1, quality_floor=0))
        bench.run(units[:120])
        bench.transcoder.apply(Policy(always=True, target_savings=0.2, quality_level=1, quality_floor=0))
        results = bench.run(units[120:])
        assert saved(units[150:], results[30:]) == pytest.approx(0.2, abs=0.04)

    def test_quality_goes_before_saving_and_says_so(self) -> None:
        units = clips.h264(frames=60, arguments="-b:v 150k -maxrate 150k -bufsize 75k")
        results = Bench(Policy(always=True, target_savings=0.6, quality_level=10)).run(units)
        assert results[-1].flags & FLAG_FLOOR_BINDS
        assert saved(units, results) < 0.5
        assert results[-1].quality >= 990

    def test_a_stream_that_saves_too_little_goes_native_at_a_key_and_stays_so_until_shadow(self) -> None:
        units = clips.h264(frames=300, arguments="-b:v 150k -maxrate 150k -bufsize 75k")
        bench = Bench(Policy(target_savings=0.4, quality_level=10))
        results = bench.run(units)
        first = next(i for i, r in enumerate(results) if r.disposition is UNCHANGED)
        assert clips.is_key(units[first])
        assert {r.disposition for r in results[:first]} == {COMPRESSED}
        assert {r.disposition for r in results[first:]} == {UNCHANGED}
        assert Advice.NATIVE in {r.advice for r in results[:first]}

    def test_screen_content_is_held_to_one_point_and_marked(self) -> None:
        bench = Bench(Policy(always=True, quality_level=1, quality_floor=0), screen=True)
        results = bench.run(clips.h264(clips.TEST_CARD, frames=30))
        assert all(r.flags & FLAG_SCREEN and r.quality >= 990 for r in results)


class TestModes:
    def test_shadow_frames_are_watched_only_and_then_our_own_key_comes_first(self) -> None:
        units = clips.h264()
        bench = Bench()
        watched = bench.run(units[:10], Mode.SHADOW)
        assert {(r.disposition, r.payload) for r in watched} == {(UNCHANGED, b"")}
        results = bench.run(units[10:])
        assert not clips.is_key(units[10])
        assert results[0].key
        assert clips.complaints(sent(results)) == ""

    def test_a_shadow_stream_is_advised_to_compress(self) -> None:
        assert Bench(Policy()).run(clips.h264()[:5], Mode.SHADOW)[-1].advice is Advice.COMPRESS

    def test_a_forced_key_is_the_next_result(self) -> None:
        units = clips.h264()
        bench = Bench()
        bench.run(units[:10])
        bench.transcoder.force_key()
        assert [r.key for r in bench.run(units[10:13])] == [True, False, False]

    def test_promote_answers_the_last_picture_as_a_key_and_the_next_frame_follows_it(self) -> None:
        units = clips.h264()
        bench = Bench()
        bench.run(units[:10], Mode.SHADOW)
        promoted = bench.transcoder.promote()
        assert (promoted.frame_id, promoted.disposition, promoted.key) == (9, COMPRESSED, True)
        results = bench.run(units[10:20])
        assert not any(r.key for r in results)
        assert clips.complaints(sent([promoted, *results])) == ""

    def test_promote_without_a_picture_asks_for_a_key(self) -> None:
        result = Bench().transcoder.promote()
        assert (result.disposition, result.need_key) == (SKIPPED, True)


class TestBrokenInput:
    def expect_wait_for_key(self, units: Sequence[bytes], results: Sequence[Result], broken: int) -> None:
        key = next(i for i in range(broken + 1, len(units)) if clips.is_key(units[i]))
        assert {r.disposition for r in results[:broken]} == {COMPRESSED}
        assert {(r.disposition, r.need_key) for r in results[broken:key]} == {(SKIPPED, True)}
        assert results[key].disposition is COMPRESSED
        assert results[key].key
        assert results[key].flags & FLAG_SKIPPED_BEFORE
        assert not results[key + 1].flags & FLAG_SKIPPED_BEFORE
        assert clips.complaints(sent(results)) == ""

    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param(lambda unit: unit[: len(unit) // 2], id="truncated"),
            pytest.param(lambda unit: unit[:40] + bytes(len(unit) - 40), id="zeroed"),
            pytest.param(lambda _: b"", id="empty"),
            pytest.param(lambda _: b"not video at all", id="garbage"),
            pytest.param(lambda unit: unit[:5], id="cut in the slice header"),
        ],
    )
    @pytest.mark.parametrize("arguments", ["-profile:v baseline", "-profile:v high"])
    def test_a_damaged_frame_stops_output_until_the_next_clean_key(
        self, damage: Callable[[bytes], bytes], arguments: str
    ) -> None:
        units = list(clips.h264(arguments=arguments))
        units[10] = damage(units[10])
        self.expect_wait_for_key(units, Bench().run(units), 10)

    def test_a_gap_in_the_ids_counts_as_damage(self) -> None:
        units = clips.h264()
        bench = Bench()
        before = bench.run(units[:10])
        bench.next_id += 1
        self.expect_wait_for_key(units, before + bench.run(units[10:]), 10)

    def test_a_missing_slice_counts_as_damage(self) -> None:
        units = list(clips.h264(arguments="-x264-params slices=4"))
        at = clips.starts(units[10])
        units[10] = units[10][: at[1]] + units[10][at[2] :]
        self.expect_wait_for_key(units, Bench().run(units), 10)

    def test_the_third_bad_key_in_a_row_fails_the_session(self) -> None:
        key = clips.h264()[0]
        bench = Bench()
        results = bench.run([key[: len(key) // 2]] * 4)
        assert [r.disposition for r in results] == [SKIPPED, SKIPPED, FAILED, FAILED]
        assert "bad keys" in results[2].reason
        assert results[2].need_key  # the sender's fault, not ours

    def test_a_key_without_parameter_sets_ever_is_a_bad_key(self) -> None:
        key = clips.h264()[0]
        at = [a for a in clips.starts(key) if key[a + 3] & 0x1F == 5]
        assert Bench().frame(key[at[0] :]).need_key

    def test_a_flood_of_nal_units_never_reaches_the_decoder(self) -> None:
        """Each costs libavcodec 4 KB before it is looked at."""
        units = list(clips.h264())
        units[10] += b"\0\0\1\x65" * (MAX_NAL_UNITS + 1)
        results = Bench().run(units)
        self.expect_wait_for_key(units, results, 10)
        assert "NAL units" in results[10].reason

    def test_a_frame_wrongly_marked_as_a_key_is_no_key(self) -> None:
        bench = Bench()
        result = bench.transcoder.receive(Frame(0, clips.h264()[1], True, Mode.COMPRESS, 0.0, math.inf))
        assert (result.disposition, result.need_key) == (SKIPPED, True)


class TestDeadline:
    def test_a_late_picture_is_skipped_and_the_next_ones_still_decode(self) -> None:
        units = clips.h264()
        bench = Bench()
        results = bench.run(units[:10])
        results.append(bench.frame(units[10], left_s=-0.001))
        results += bench.run(units[11:])
        assert results[10].disposition is SKIPPED
        assert not results[10].need_key
        assert results[11].flags & FLAG_SKIPPED_BEFORE
        assert clips.complaints(sent(results)) == ""

    def test_never_two_in_a_row(self) -> None:
        units = clips.h264()
        bench = Bench()
        bench.run(units[:10])
        late = [bench.frame(unit, left_s=-0.001).disposition for unit in units[10:16]]
        assert late == [SKIPPED, COMPRESSED] * 3

    def test_never_a_key(self) -> None:
        units = clips.h264()
        bench = Bench()
        assert bench.frame(units[0], left_s=-0.001).disposition is COMPRESSED
        bench.transcoder.force_key()
        assert bench.frame(units[1], left_s=-0.001).key


class TestChangesOfFormat:
    def test_a_new_size_opens_a_new_encoder_with_a_key(self) -> None:
        units = clips.h264(frames=30) + clips.h264(size="160x128", frames=30)
        results = Bench().run(units)
        assert [r.key for r in results[29:32]] == [False, True, False]
        assert sps_of(results[30].payload).width == 160
        assert clips.complaints(sent(results[30:])) == ""

    def test_more_than_one_new_size_in_a_second_fails(self) -> None:
        first, second = clips.h264(frames=5), clips.h264(size="160x128", frames=5)
        failed = Bench().run((*first, *second, *first))[-1]
        assert (failed.disposition, failed.need_key) == (FAILED, True)

    @pytest.mark.parametrize(
        "arguments",
        [
            pytest.param("-flags +ilme+ildct -x264-params tff=1", id="interlaced"),
            pytest.param("-pix_fmt yuv444p", id="4:4:4"),
            pytest.param("-pix_fmt yuv420p10le", id="10 bit"),
        ],
    )
    def test_unserved_formats_stay_native(self, arguments: str) -> None:
        results = Bench().run(clips.h264(frames=4, arguments=arguments))
        assert {(r.disposition, r.advice, r.need_key) for r in results} == {(UNCHANGED, Advice.NATIVE, False)}

    @pytest.mark.parametrize("size", ["16x16", "2560x1440"])
    def test_unserved_sizes_stay_native(self, size: str) -> None:
        results = Bench().run(clips.h264(size=size, frames=2))
        assert {r.disposition for r in results} == {UNCHANGED}

    @pytest.mark.parametrize(
        "clip",
        [
            pytest.param({"arguments": "-pix_fmt yuv422p10le"}, id="10 bit 4:2:2"),
            pytest.param({"arguments": "-flags +ilme+ildct -x264-params tff=1"}, id="interlaced"),
            pytest.param({"size": "2560x1440"}, id="too large"),
        ],
    )
    def test_the_parameter_set_that_the_slices_name_is_judged_and_no_other(self, clip: dict[str, str]) -> None:
        unserved = clips.h264(frames=3, **clip)
        spare = sets_of(clips.h264(frames=2, arguments="-x264-params sps-id=5")[0])
        results = Bench().run((between_sets_and_slices(unserved[0], spare), *unserved[1:]))
        assert {(r.disposition, r.advice, r.need_key) for r in results} == {(UNCHANGED, Advice.NATIVE, False)}

    def test_an_unserved_parameter_set_that_nothing_uses_does_not_matter(self) -> None:
        units = clips.h264(frames=3)
        spare = sets_of(clips.h264(frames=2, arguments="-pix_fmt yuv444p -x264-params sps-id=5")[0])
        results = Bench().run((between_sets_and_slices(units[0], spare), *units[1:]))
        assert {r.disposition for r in results} == {COMPRESSED}

    @pytest.mark.parametrize(
        "clip",
        [
            pytest.param({"arguments": "-pix_fmt yuv422p10le -x264-params sps-id=5"}, id="format"),
            pytest.param({"size": "2560x1440", "arguments": "-x264-params sps-id=5"}, id="size"),
        ],
    )
    def test_a_decoded_picture_is_judged_itself_whatever_its_parameter_set_said(self, clip: dict[str, str]) -> None:
        """The decoder may know another set by that id than we do: here ours came in a frame that was thrown away."""
        served, unserved = clips.h264(frames=2), clips.h264(frames=4, **clip)
        promised = sets_of(clips.h264(frames=2, arguments="-x264-params sps-id=5")[0])
        key = unserved[0].removeprefix(sets_of(unserved[0]))
        bench = Bench()
        before = bench.run((sets_of(unserved[0]) + served[0], served[1], promised + b"\0\0\1\x67"))
        assert [r.disposition for r in before] == [COMPRESSED, COMPRESSED, SKIPPED]
        after = bench.run((key, *unserved[1:]))
        assert {(r.disposition, r.advice, r.need_key) for r in after} == {(UNCHANGED, Advice.NATIVE, False)}
        assert {r.disposition for r in bench.run(served, Mode.SHADOW)} == {UNCHANGED}
        assert {r.disposition for r in bench.run(served)} == {COMPRESSED}, "the next key is judged anew"

    def test_a_stream_that_becomes_unserved_turns_native_at_its_key(self) -> None:
        units = clips.h264(frames=5) + clips.h264(frames=4, arguments="-pix_fmt yuv444p")
        results = Bench().run(units)
        assert [r.disposition for r in results] == [COMPRESSED] * 5 + [UNCHANGED] * 4


class TestReordering:
    def test_b_frames_are_never_sent_and_the_stream_turns_native_at_its_next_key(self) -> None:
        units = clips.h264(frames=60, arguments="-bf 2 -b_strategy 0")
        results = Bench().run(units)
        key = next(i for i in range(1, 60) if clips.is_key(units[i]))
        assert {r.disposition for r in results[:key]} == {COMPRESSED, SKIPPED}
        assert {(r.disposition, r.advice) for r in results[key:]} == {(UNCHANGED, Advice.NATIVE)}
        assert clips.complaints(sent(results)) == ""

    def test_pictures_come_out_at_once_although_the_parameter_set_allows_b_frames(self) -> None:
        """libavcodec would hold back as many pictures as the parameter set allows to reorder."""
        units = clips.h264(arguments="-bf 2 -x264-params b-adapt=0:bframes=2:weightp=0 -force_key_frames expr:1")
        keys_only = [unit for unit in units if clips.is_key(unit)]
        assert sps_of(keys_only[0]).reorder_frames
        results = Bench().run(keys_only)
        assert {r.disposition for r in results} == {COMPRESSED}

    def test_a_stream_that_may_reorder_is_watched_for_a_while_before_the_advice_to_compress(self) -> None:
        units = clips.h264(arguments="-bf 2 -x264-params b-adapt=0 -force_key_frames expr:1", frames=40)
        advice = [r.advice for r in Bench(Policy()).run(units, Mode.SHADOW)]
        assert advice[:29] == [Advice.KEEP] * 29
        assert advice[-1] is Advice.COMPRESS


class TestLimits:
    @pytest.mark.parametrize(
        ("arguments", "max_profile", "profile"),
        [("baseline", 0, 66), ("main", 0, 77), ("high", 0, 100), ("high", 1, 66), ("high", 3, 77), ("baseline", 4, 66)],
    )
    def test_the_profile_is_never_above_the_senders_or_the_receivers(
        self, arguments: str, max_profile: int, profile: int
    ) -> None:
        units = clips.h264(frames=2, arguments=f"-profile:v {arguments}")
        results = Bench(limits=Limits(max_profile)).run(units)
        sps = sps_of(results[0].payload)
        assert sps.profile == profile
        assert profile != 66 or sps.constrained_baseline

    @pytest.mark.parametrize(("sender", "limit", "level"), [("4.0", 0, 40), ("4.0", 31, 31), ("3.0", 31, 30)])
    def test_neither_is_the_level(self, sender: str, limit: int, level: int) -> None:
        units = clips.h264(frames=2, arguments=f"-level {sender}")
        assert sps_of(Bench(limits=Limits(0, limit)).run(units)[0].payload).level == level


class TestGovernor:
    def test_a_stream_over_its_budget_gets_the_cheaper_encoder_and_is_then_advised_native(self) -> None:
        units = clips.h264(frames=180)
        bench = Bench(Policy())
        results = [bench.frame(unit, waited_s=0.030) for unit in units]
        assert not results[20].flags & FLAG_DEGRADED
        assert results[60].flags & FLAG_DEGRADED
        assert results[60].advice is Advice.KEEP
        assert results[-1].advice is Advice.NATIVE
        assert clips.complaints(sent(results)) == ""


def test_the_model_hash_is_javas_string_hash() -> None:
    assert [model_hash(text) for text in ("a", "hello", "polygenelubricants")] == [97, 99162322, 1 << 31]
