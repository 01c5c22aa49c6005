"""What of a stream through the transcoder is H.264's own: parameter sets, slices, profiles, reordering."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from auralink_aicore.codecs import Limits
from auralink_aicore.codecs.bits import nal_units
from auralink_aicore.codecs.h264 import MAX_NAL_UNITS
from auralink_aicore.codecs.h264_syntax import NAL_IDR, NAL_SPS, Sps, parse_sps
from auralink_aicore.controller import Policy
from auralink_aicore.transcoder import Advice, Mode

from tests.unit.aicore import clips
from tests.unit.aicore.bench import COMPRESSED, SKIPPED, UNCHANGED, Bench, expect_wait_for_key, sent


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
        results = Bench(clips.H264).run(units)
        assert [r.disposition for r in results] == [COMPRESSED] * len(units)
        assert clips.H264.complaints(sent(results)) == ""
        assert len(clips.H264.decode(sent(results))) == len(units)

    def test_streams_of_other_encoders_come_out_just_as_well(self) -> None:
        units = clips.openh264()
        results = Bench(clips.H264).run(units)
        assert [r.disposition for r in results] == [COMPRESSED] * len(units)
        assert clips.H264.complaints(sent(results)) == ""

    @pytest.mark.parametrize("path", clips.local() or [None], ids=lambda path: path.stem if path else "none")
    def test_so_do_the_clips_of_this_machine(self, path: Path | None) -> None:
        if path is None:
            pytest.skip("AURALINK_CLIPS names no folder with .264 files")
        units = clips.access_units(path.read_bytes())
        results = Bench(clips.H264).run(units)
        assert [r.disposition for r in results] == [COMPRESSED] * len(units)
        assert clips.H264.complaints(sent(results)) == ""

    def test_every_key_carries_parameter_sets_and_nothing_carries_sei(self) -> None:
        results = Bench(clips.H264).run(clips.h264())
        for result in results:
            types = clips.nal_types(result.payload)
            assert 6 not in types
            assert (types[:2] == [7, 8]) == result.key

    def test_colour_description_is_copied(self) -> None:
        described = "-x264-params fullrange=on:colorprim=bt709:transfer=bt709:colormatrix=bt709"
        (picture, *_) = clips.H264.decode(sent(Bench(clips.H264).run(clips.h264(frames=2, arguments=described))))
        assert [int(picture.color_range), int(picture.colorspace)] == [2, 1]
        assert [int(picture.color_primaries), int(picture.color_trc)] == [1, 1]


class TestBrokenInput:
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
        expect_wait_for_key(clips.H264, units, Bench(clips.H264).run(units), 10)

    def test_a_missing_slice_counts_as_damage(self) -> None:
        units = list(clips.h264(arguments="-x264-params slices=4"))
        at = clips.starts(units[10])
        units[10] = units[10][: at[1]] + units[10][at[2] :]
        expect_wait_for_key(clips.H264, units, Bench(clips.H264).run(units), 10)

    def test_a_key_without_parameter_sets_ever_is_a_bad_key(self) -> None:
        key = clips.h264()[0]
        at = [a for a in clips.starts(key) if key[a + 3] & 0x1F == 5]
        assert Bench(clips.H264).frame(key[at[0] :]).need_key

    def test_a_flood_of_nal_units_never_reaches_the_decoder(self) -> None:
        """Each costs libavcodec 4 KB before it is looked at."""
        units = list(clips.h264())
        units[10] += b"\0\0\1\x65" * (MAX_NAL_UNITS + 1)
        results = Bench(clips.H264).run(units)
        expect_wait_for_key(clips.H264, units, results, 10)
        assert "NAL units" in results[10].reason


class TestChangesOfFormat:
    @pytest.mark.parametrize(
        "arguments",
        [
            pytest.param("-flags +ilme+ildct -x264-params tff=1", id="interlaced"),
            pytest.param("-pix_fmt yuv444p", id="4:4:4"),
            pytest.param("-pix_fmt yuv420p10le", id="10 bit"),
        ],
    )
    def test_unserved_formats_stay_native(self, arguments: str) -> None:
        results = Bench(clips.H264).run(clips.h264(frames=4, arguments=arguments))
        assert {(r.disposition, r.advice, r.need_key) for r in results} == {(UNCHANGED, Advice.NATIVE, False)}

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
        results = Bench(clips.H264).run((between_sets_and_slices(unserved[0], spare), *unserved[1:]))
        assert {(r.disposition, r.advice, r.need_key) for r in results} == {(UNCHANGED, Advice.NATIVE, False)}

    def test_an_unserved_parameter_set_that_nothing_uses_does_not_matter(self) -> None:
        units = clips.h264(frames=3)
        spare = sets_of(clips.h264(frames=2, arguments="-pix_fmt yuv444p -x264-params sps-id=5")[0])
        results = Bench(clips.H264).run((between_sets_and_slices(units[0], spare), *units[1:]))
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
        bench = Bench(clips.H264)
        before = bench.run((sets_of(unserved[0]) + served[0], served[1], promised + b"\0\0\1\x67"))
        assert [r.disposition for r in before] == [COMPRESSED, COMPRESSED, SKIPPED]
        after = bench.run((key, *unserved[1:]))
        assert {(r.disposition, r.advice, r.need_key) for r in after} == {(UNCHANGED, Advice.NATIVE, False)}
        assert {r.disposition for r in bench.run(served, Mode.SHADOW)} == {UNCHANGED}
        assert {r.disposition for r in bench.run(served)} == {COMPRESSED}, "the next key is judged anew"

    def test_a_stream_that_becomes_unserved_turns_native_at_its_key(self) -> None:
        units = clips.h264(frames=5) + clips.h264(frames=4, arguments="-pix_fmt yuv444p")
        results = Bench(clips.H264).run(units)
        assert [r.disposition for r in results] == [COMPRESSED] * 5 + [UNCHANGED] * 4


class TestReordering:
    def test_b_frames_are_never_sent_and_the_stream_turns_native_at_its_next_key(self) -> None:
        units = clips.h264(frames=60, arguments="-bf 2 -b_strategy 0")
        results = Bench(clips.H264).run(units)
        key = next(i for i in range(1, 60) if clips.is_key(units[i]))
        assert {r.disposition for r in results[:key]} == {COMPRESSED, SKIPPED}
        assert {(r.disposition, r.advice) for r in results[key:]} == {(UNCHANGED, Advice.NATIVE)}
        assert clips.H264.complaints(sent(results)) == ""

    def test_pictures_come_out_at_once_although_the_parameter_set_allows_b_frames(self) -> None:
        """libavcodec would hold back as many pictures as the parameter set allows to reorder."""
        units = clips.h264(arguments="-bf 2 -x264-params b-adapt=0:bframes=2:weightp=0 -force_key_frames expr:1")
        keys_only = [unit for unit in units if clips.is_key(unit)]
        assert sps_of(keys_only[0]).reorder_frames
        results = Bench(clips.H264).run(keys_only)
        assert {r.disposition for r in results} == {COMPRESSED}

    def test_a_stream_that_may_reorder_is_watched_for_a_while_before_the_advice_to_compress(self) -> None:
        units = clips.h264(arguments="-bf 2 -x264-params b-adapt=0 -force_key_frames expr:1", frames=40)
        advice = [r.advice for r in Bench(clips.H264, Policy()).run(units, Mode.SHADOW)]
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
        results = Bench(clips.H264, limits=Limits(max_profile)).run(units)
        sps = sps_of(results[0].payload)
        assert sps.profile == profile
        assert profile != 66 or sps.constrained_baseline

    @pytest.mark.parametrize(("sender", "limit", "level"), [("4.0", 0, 40), ("4.0", 31, 31), ("3.0", 31, 30)])
    def test_neither_is_the_level(self, sender: str, limit: int, level: int) -> None:
        units = clips.h264(frames=2, arguments=f"-level {sender}")
        assert sps_of(Bench(clips.H264, limits=Limits(0, limit)).run(units)[0].payload).level == level


class TestHostileParameterSets:
    """They are read on a core that other streams share."""

    @pytest.mark.parametrize("sets", [[4284] * 400, [1025], [40] * 33])
    def test_more_of_them_than_any_sender_needs_is_no_access_unit(self, sets: list[int]) -> None:
        key = clips.H264.send()[0]
        start, end = next(nal_units(key))
        filler = b"".join(b"\0\0\0\1" + key[start:end].ljust(size, b"\x55") for size in sets)
        bench = Bench(clips.H264)
        result = bench.frame(filler + key)
        assert result.disposition is SKIPPED
        assert "parameter sets" in result.reason
        assert bench.frame(key).disposition is COMPRESSED


@pytest.mark.parametrize("seed", [2, 9, 53, 107])
def test_an_intact_key_behind_damaged_frames_is_decoded_as_if_nothing_had_been(seed: int) -> None:
    """libavcodec keeps coefficients of a macroblock that it gave up, through a flush, and added them to the key."""
    units = clips.h264(arguments="-profile:v baseline", frames=60)
    key = next(at for at in range(1, len(units)) if clips.is_key(units[at]))
    chance = random.Random(seed)  # noqa: S311 - damage, no secret
    bench = Bench(clips.H264)
    for at, unit in enumerate(units[: key + 1]):
        damaged = bytearray(unit)
        for _ in range(40 if at in (key - 13, key - 4) else 0):
            damaged[chance.randrange(12, len(damaged))] ^= 1 << chance.randrange(8)
        bench.frame(bytes(damaged))
    picture = bench.transcoder._picture
    assert picture is not None
    assert np.array_equal(picture.to_ndarray(), clips.H264.decode([units[key]])[0].to_ndarray())
