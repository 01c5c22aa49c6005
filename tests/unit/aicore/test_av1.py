"""AV1 through the transcoder: real streams in, and what comes out always decodes."""

import pytest
from auralink_aicore.codecs import Codec
from auralink_aicore.codecs.av1_syntax import OBU_FRAME, OBU_SEQUENCE_HEADER
from auralink_aicore.controller import Policy
from auralink_aicore.transcoder import Advice, Disposition, Mode, Result

from tests.unit.aicore.clips import CAMERA
from tests.unit.aicore.clips_av1 import HIDDEN, LIVE, av1, is_key, ivf, kinds
from tests.unit.aicore.recompress import Bench, complaints, decode, saved, sent

COMPRESSED, UNCHANGED, SKIPPED, FAILED = Disposition


def bench(policy: Policy | None = None) -> Bench:
    return Bench(Codec.AV1, is_key, policy) if policy else Bench(Codec.AV1, is_key)


def check(results: list[Result]) -> None:
    """Every frame we sent decodes at once, strictly, and says of itself what it is."""
    units = sent(results)
    assert len(decode("libdav1d", units, max_frame_delay="1")) == len(units)
    assert complaints("ivf", ivf(units)) == ""
    assert [is_key(unit) for unit in units] == [r.key for r in results if r.disposition is COMPRESSED]


class TestWhatComesOut:
    @pytest.mark.parametrize(
        "encoder",
        [
            LIVE,
            f"{LIVE} -aom-params enable-order-hint=1:error-resilient=1",
            f"{LIVE} -tiles 2x2 -row-mt 0",
            "libsvtav1 -preset 12 -g 30 -svtav1-params lp=1:pred-struct=1:rc=2:tbr=600",
        ],
    )
    def test_every_frame_has_one_answer_and_all_answers_decode(self, encoder: str) -> None:
        units = av1(encoder)
        results = bench().run(units)
        assert [r.disposition for r in results] == [COMPRESSED] * len(units)
        assert [r.key for r in results] == [is_key(unit) for unit in units]
        assert [r.key for r in results].count(True) == 2
        check(results)

    def test_hidden_frames_travel_with_the_picture_that_is_shown(self) -> None:
        units = av1(HIDDEN)
        assert any(kinds(unit).count(OBU_FRAME) > 1 for unit in units)
        results = bench().run(units)
        assert {r.disposition for r in results} == {COMPRESSED}
        check(results)

    @pytest.mark.parametrize("size", ["32x32", "33x35", "322x182"])
    def test_any_size_is_taken_as_it_is(self, size: str) -> None:
        results = bench().run(av1(size=size, frames=5))
        check(results)
        (picture, *_) = decode("libdav1d", sent(results), max_frame_delay="1")
        assert f"{picture.width}x{picture.height}" == size

    def test_a_frame_carries_no_delimiter_and_a_key_its_sequence_header(self) -> None:
        for result in bench().run(av1()):
            assert kinds(result.payload) == ([OBU_SEQUENCE_HEADER, OBU_FRAME] if result.key else [OBU_FRAME])

    def test_the_picture_stays_the_picture(self) -> None:
        units = av1()
        before = decode("libdav1d", units, max_frame_delay="1")
        after = decode("libdav1d", sent(bench(Policy(always=True, quality_level=9)).run(units)), max_frame_delay="1")
        for old, new in zip(before, after, strict=True):
            luma_old, luma_new = old.to_ndarray()[:240].astype(int), new.to_ndarray()[:240].astype(int)
            assert abs(luma_old - luma_new).mean() < 4

    def test_a_key_is_coded_coarser_than_the_frames_around_it(self) -> None:
        results = bench().run(av1(frames=90))
        inter = sorted(len(r.payload) for r in results[31:60])[14]
        assert len(results[60].payload) < 9 * inter

    def test_colour_description_is_copied(self) -> None:
        described = f"{CAMERA},format=yuv420p,setparams=range=pc:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
        units = av1(source=described, frames=2)
        (picture, *_) = decode("libdav1d", sent(bench().run(units)), max_frame_delay="1")
        assert [int(picture.color_range), int(picture.colorspace)] == [2, 1]
        assert [int(picture.color_primaries), int(picture.color_trc)] == [1, 1]


class TestSaving:
    def test_follows_the_target(self) -> None:
        units = av1(LIVE.replace("600k", "1500k"), frames=240)
        results = bench().run(units)
        assert saved(units[45:], results[45:]) == pytest.approx(0.4, abs=0.03)
        check(results)


class TestModes:
    def test_shadow_frames_are_watched_only_and_then_our_own_key_comes_first(self) -> None:
        units = av1()
        under_test = bench(Policy())
        watched = under_test.run(units[:10], Mode.SHADOW)
        assert {(r.disposition, r.payload) for r in watched} == {(UNCHANGED, b"")}
        assert watched[-1].advice is Advice.COMPRESS
        results = under_test.run(units[10:])
        assert not is_key(units[10])
        assert results[0].key
        check(results)

    def test_a_forced_key_is_the_next_result(self) -> None:
        units = av1()
        under_test = bench()
        before = under_test.run(units[:10])
        under_test.transcoder.force_key()
        after = under_test.run(units[10:13])
        assert [r.key for r in after] == [True, False, False]
        check(before + after)

    def test_promote_answers_the_last_picture_as_a_key_and_the_next_frame_follows_it(self) -> None:
        units = av1()
        under_test = bench()
        under_test.run(units[:10], Mode.SHADOW)
        promoted = under_test.transcoder.promote()
        assert (promoted.frame_id, promoted.disposition, promoted.key) == (9, COMPRESSED, True)
        results = under_test.run(units[10:20])
        assert not any(r.key for r in results)
        check([promoted, *results])


class TestRefusal:
    @pytest.mark.parametrize("encoder", [f"{LIVE} -pix_fmt yuv420p10le", f"{LIVE} -pix_fmt yuv444p"])
    def test_what_cannot_be_coded_stays_native_and_is_no_failure(self, encoder: str) -> None:
        results = bench().run(av1(encoder, frames=5))
        assert {r.disposition for r in results} == {UNCHANGED}
        assert results[0].advice is Advice.NATIVE
        assert "8-bit 4:2:0" in results[0].reason


class TestBrokenInput:
    @pytest.mark.parametrize("broken", [b"", b"not video at all", b"\x80rest", b"\x32\xff\xff\xff\xff\xff\xff\xff\xff"])
    def test_what_is_no_frame_stops_the_stream_until_the_next_key(self, broken: bytes) -> None:
        self.expect_wait_for_key([*av1()[:10], broken, *av1()[11:]])

    @pytest.mark.parametrize("left", [0.5, 0.9])
    def test_so_does_a_frame_cut_short(self, left: float) -> None:
        units = list(av1())
        units[10] = units[10][: int(left * len(units[10]))]
        self.expect_wait_for_key(units)

    def expect_wait_for_key(self, units: list[bytes]) -> None:
        under_test = bench()
        keys = [i for i, unit in enumerate(av1()) if is_key(unit)]
        results = [under_test.frame(unit, marked=i in keys) for i, unit in enumerate(units)]
        assert {r.disposition for r in results[:10]} == {COMPRESSED}
        assert {(r.disposition, r.need_key) for r in results[10:30]} == {(SKIPPED, True)}
        assert results[30].key
        check(results)
