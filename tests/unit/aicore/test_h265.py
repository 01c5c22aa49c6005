"""H.265 through the transcoder: real streams in, and what comes out always decodes."""

import pytest
from auralink_aicore.codecs import Codec
from auralink_aicore.codecs.bits import nal_units
from auralink_aicore.codecs.h265_syntax import NAL_SPS, Sps, parse_sps
from auralink_aicore.controller import Policy
from auralink_aicore.transcoder import Advice, Disposition, Mode, Result

from tests.unit.aicore.clips_h265 import LIVE, h265, is_key, nal_types
from tests.unit.aicore.recompress import Bench, complaints, decode, saved, sent

COMPRESSED, UNCHANGED, SKIPPED, FAILED = Disposition


def bench(policy: Policy | None = None) -> Bench:
    return Bench(Codec.H265, is_key, policy) if policy else Bench(Codec.H265, is_key)


def sps_of(unit: bytes) -> Sps:
    return next(parse_sps(unit[a:b]) for a, b in nal_units(unit) if unit[a] >> 1 == NAL_SPS)


def check(results: list[Result]) -> None:
    """Every frame we sent decodes at once, strictly, and says of itself what it is."""
    units = sent(results)
    assert len(decode("hevc", units)) == len(units)
    assert complaints("hevc", b"".join(units)) == ""
    assert [is_key(unit) for unit in units] == [r.key for r in results if r.disposition is COMPRESSED]


class TestWhatComesOut:
    @pytest.mark.parametrize(
        ("arguments", "parameters"),
        [
            (LIVE, ""),
            (LIVE, "slices=2:pools=1:wpp=1"),
            (LIVE, "ref=3"),
            ("-preset medium -bf 0", ""),
            (LIVE, "open-gop=1:aud=1:hrd=1:vbv-maxrate=600:vbv-bufsize=600:bitrate=600"),
            (LIVE, "no-wpp=1:scaling-list=default"),
        ],
    )
    def test_every_frame_has_one_answer_and_all_answers_decode(self, arguments: str, parameters: str) -> None:
        units = h265(arguments, parameters)
        results = bench().run(units)
        assert [r.disposition for r in results] == [COMPRESSED] * len(units)
        assert [r.key for r in results] == [is_key(unit) for unit in units]
        check(results)

    @pytest.mark.parametrize("size", ["32x32", "64x34", "322x182"])
    def test_sizes_that_fill_no_block_are_cropped(self, size: str) -> None:
        results = bench().run(h265(size=size, frames=5))
        check(results)
        (picture, *_) = decode("hevc", sent(results))
        assert f"{picture.width}x{picture.height}" == size

    def test_every_key_carries_parameter_sets_and_nothing_else_is_sent_but_slices(self) -> None:
        for result in bench().run(h265()):
            types = nal_types(result.payload)
            assert types == ([32, 33, 34, 20] if result.key else [1])

    def test_the_picture_stays_the_picture(self) -> None:
        units = h265()
        before = decode("hevc", units)
        after = decode("hevc", sent(bench(Policy(always=True, quality_level=9)).run(units)))
        for old, new in zip(before, after, strict=True):
            luma_old, luma_new = old.to_ndarray()[:240].astype(int), new.to_ndarray()[:240].astype(int)
            assert abs(luma_old - luma_new).mean() < 4

    def test_a_key_is_coded_coarser_than_the_frames_around_it(self) -> None:
        results = bench().run(h265(frames=90))
        inter = sorted(len(r.payload) for r in results[31:60])[14]
        assert len(results[60].payload) < 8 * inter

    def test_profile_tier_and_level_are_not_above_the_senders(self) -> None:
        units = h265(parameters="level-idc=4.1", frames=2)
        assert sps_of(units[0]).level == 123
        ours = sps_of(bench().frame(units[0]).payload)
        assert (ours.profile, ours.high_tier, ours.level) == (1, False, 123)

    def test_colour_description_is_copied(self) -> None:
        described = "range=full:colorprim=bt709:transfer=bt709:colormatrix=bt709"
        (picture, *_) = decode("hevc", sent(bench().run(h265(parameters=described, frames=2))))
        assert [int(picture.color_range), int(picture.colorspace)] == [2, 1]
        assert [int(picture.color_primaries), int(picture.color_trc)] == [1, 1]


class TestSaving:
    def test_follows_the_target(self) -> None:
        units = h265(parameters="bitrate=1500:vbv-maxrate=1500:vbv-bufsize=750", frames=240)
        results = bench().run(units)
        assert saved(units[45:], results[45:]) == pytest.approx(0.4, abs=0.03)
        check(results)


class TestModes:
    def test_shadow_frames_are_watched_only_and_then_our_own_key_comes_first(self) -> None:
        units = h265()
        under_test = bench()
        watched = under_test.run(units[:10], Mode.SHADOW)
        assert {(r.disposition, r.payload) for r in watched} == {(UNCHANGED, b"")}
        results = under_test.run(units[10:])
        assert not is_key(units[10])
        assert results[0].key
        check(results)

    def test_a_forced_key_is_the_next_result(self) -> None:
        units = h265()
        under_test = bench()
        before = under_test.run(units[:10])
        under_test.transcoder.force_key()
        after = under_test.run(units[10:13])
        assert [r.key for r in after] == [True, False, False]
        check(before + after)

    def test_promote_answers_the_last_picture_as_a_key_and_the_next_frame_follows_it(self) -> None:
        units = h265()
        under_test = bench()
        under_test.run(units[:10], Mode.SHADOW)
        promoted = under_test.transcoder.promote()
        assert (promoted.frame_id, promoted.disposition, promoted.key) == (9, COMPRESSED, True)
        results = under_test.run(units[10:20])
        assert not any(r.key for r in results)
        check([promoted, *results])


class TestReordering:
    def test_a_stream_with_b_frames_goes_native_at_the_next_key(self) -> None:
        units = h265("", "bframes=2")
        results = bench().run(units)
        assert results[0].disposition is COMPRESSED
        assert Advice.NATIVE in {r.advice for r in results[:4]}
        key = next(i for i in range(1, len(units)) if is_key(units[i]))
        assert {r.disposition for r in results[key:]} == {UNCHANGED}
        check(results)

    def test_while_b_frames_may_come_a_stream_is_watched_for_a_second(self) -> None:
        units = h265("-bf 0", "bframes=2:b-adapt=0")
        assert sps_of(units[0]).may_reorder
        advice = [r.advice for r in bench(Policy()).run(units[:12], Mode.SHADOW)]
        assert Advice.COMPRESS not in advice

    def test_leading_pictures_behind_an_open_key_that_begins_the_stream_are_skipped(self) -> None:
        units = h265("", "bframes=2:open-gop=1:keyint=15:min-keyint=15")
        start = next(i for i in range(1, len(units)) if 21 in nal_types(units[i]))
        assert nal_types(units[start + 1])[0] in (8, 9)
        results = bench().run(units[start : start + 4])
        assert [r.disposition for r in results[:2]] == [COMPRESSED, SKIPPED]
        assert not results[1].need_key


class TestRefusal:
    @pytest.mark.parametrize(
        ("arguments", "parameters", "reason"),
        [
            (f"{LIVE} -pix_fmt yuv420p10le", "", "8-bit"),
            (f"{LIVE} -pix_fmt yuv444p", "", "4:2:0"),
            (LIVE, "interlace=tff", "interlaced"),
        ],
    )
    def test_what_cannot_be_coded_stays_native_and_is_no_failure(
        self, arguments: str, parameters: str, reason: str
    ) -> None:
        results = bench().run(h265(arguments, parameters, frames=5))
        assert {(r.disposition, r.advice) for r in results[:1]} == {(UNCHANGED, Advice.NATIVE)}
        assert {r.disposition for r in results} == {UNCHANGED}
        assert reason in results[0].reason

    def test_spatial_layers_stay_native(self) -> None:
        units = [unit + b"\0\0\1\x02\x09" + b"enhancement" for unit in h265(frames=3)]
        results = bench().run(units)
        assert {r.disposition for r in results} == {UNCHANGED}
        assert "layers" in results[0].reason


class TestBrokenInput:
    @pytest.mark.parametrize("broken", [b"", b"not video at all", b"\0\0\1\x02\x01", b"\0\0\1\x80\x01rest"])
    def test_what_is_no_frame_stops_the_stream_until_the_next_key(self, broken: bytes) -> None:
        units = list(h265())
        units[10] = broken
        results = bench().run(units)
        assert {r.disposition for r in results[:10]} == {COMPRESSED}
        assert {(r.disposition, r.need_key) for r in results[10:30]} == {(SKIPPED, True)}
        assert results[30].key
        check(results)

    @pytest.mark.parametrize("left", [40, 400])
    def test_a_frame_cut_short_is_no_worse_for_receivers_than_it_was(self, left: int) -> None:
        """The decoder reports nothing: the damage is in the picture, as it would have been natively."""
        units = list(h265())
        units[10] = units[10][:left]
        results = bench().run(units)
        assert {r.disposition for r in results} <= {COMPRESSED, SKIPPED}
        check(results)
