"""What of a stream through the transcoder is H.265's own: parameter sets, open keys, pictures out of order."""

import pytest
from auralink_aicore.codecs import Limits
from auralink_aicore.codecs.bits import nal_units
from auralink_aicore.codecs.h265 import H265, KEY_QP_STEP, MAX_QP, X265
from auralink_aicore.codecs.h265_syntax import NAL_SPS, Sps, parse_header, parse_sps
from auralink_aicore.codecs.interface import OutputFormat
from auralink_aicore.controller import Policy
from auralink_aicore.transcoder import Advice, Mode
from av.video.frame import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.aicore import clips
from tests.unit.aicore.bench import COMPRESSED, FAILED, SKIPPED, UNCHANGED, Bench, sent

B_FRAMES = "bframes=2:b-adapt=0:rc-lookahead=5"
VPS, PPS, IDR_N_LP, RASL, TRAIL_N, TRAIL_R, CRA = 32, 34, 20, (8, 9), 0, 1, 21


def kinds(unit: bytes) -> list[int]:
    """The NAL unit types in it."""
    return [parse_header(unit[a:b]).kind for a, b in nal_units(unit)]


def sps_of(unit: bytes) -> Sps:
    return next(parse_sps(unit[a:b]) for a, b in nal_units(unit) if parse_header(unit[a:b]).kind == NAL_SPS)


class TestWhatComesOut:
    @pytest.mark.parametrize(
        "parameters",
        [
            "slices=2:pools=1",
            "ref=3",
            "open-gop=1:aud=1:hrd=1:vbv-maxrate=600:vbv-bufsize=600:bitrate=600",
            "wpp=0:scaling-list=default:tskip=1",
        ],
    )
    def test_streams_of_any_make_come_out(self, parameters: str) -> None:
        units = clips.h265(parameters)
        results = Bench(clips.H265).run(units)
        assert {r.disposition for r in results} == {COMPRESSED}
        assert clips.H265.complaints(sent(results)) == ""

    def test_every_key_carries_parameter_sets_and_nothing_else_is_sent_but_slices(self) -> None:
        for result in Bench(clips.H265).run(clips.h265()):
            assert kinds(result.payload) == ([VPS, NAL_SPS, PPS, IDR_N_LP] if result.key else [TRAIL_R])

    @pytest.mark.parametrize("size", ["32x32", "64x34", "322x182"])
    def test_sizes_that_fill_no_block_are_cropped(self, size: str) -> None:
        out = sent(Bench(clips.H265).run(clips.h265(size=size, frames=5)))
        assert [f"{p.width}x{p.height}" for p in clips.H265.decode(out)] == [size] * 5
        assert clips.H265.complaints(out) == ""

    @pytest.mark.parametrize(("size", "level"), [("96x80", 30), ("320x240", 60), ("320x240", 123)])
    def test_profile_tier_and_level_are_not_above_the_senders(self, size: str, level: int) -> None:
        parameters = f"level-idc={level // 3}:fps=15:high-tier=1:vbv-maxrate=100:vbv-bufsize=100"
        unit = clips.h265(parameters, "-r 15", size=size, frames=2)[0]
        assert sps_of(unit).level == level
        ours = sps_of(Bench(clips.H265).frame(unit).payload)
        assert (ours.profile, ours.high_tier, ours.level) == (1, False, level)

    def test_a_level_that_the_pictures_do_not_fit_binds_nobody(self) -> None:
        encoder = X265(OutputFormat(640, 360, level=20))
        coded = encoder.encode(VideoFrame(640, 360, "yuv420p"), 30, key=False)
        encoder.close()
        assert sps_of(coded.data).level > 60

    def test_colour_description_is_copied(self) -> None:
        described = "range=full:colorprim=bt709:transfer=bt709:colormatrix=bt709"
        (picture, *_) = clips.H265.decode(sent(Bench(clips.H265).run(clips.h265(described, frames=2))))
        assert [int(picture.color_range), int(picture.colorspace)] == [2, 1]
        assert [int(picture.color_primaries), int(picture.color_trc)] == [1, 1]

    def test_colours_that_libx265_knows_not_are_unspecified(self) -> None:
        picture = VideoFrame(64, 64, "yuv420p")
        picture.color_primaries = 22
        output = H265(Limits()).output_for(picture)
        X265(output).close()
        assert output.colour[1] == 2


class TestOrder:
    def test_a_stream_with_b_frames_goes_native_at_the_next_key(self) -> None:
        units = clips.h265(B_FRAMES)
        results = Bench(clips.H265).run(units)
        assert results[0].disposition is COMPRESSED
        assert Advice.NATIVE in {r.advice for r in results[:4]}
        key = next(i for i in range(1, len(units)) if clips.is_h265_key(units[i]))
        assert {r.disposition for r in results[key:]} == {UNCHANGED}
        assert clips.H265.complaints(sent(results)) == ""

    def test_where_they_may_come_a_stream_is_watched_for_a_second(self) -> None:
        units = clips.h265(f"{B_FRAMES}:b-pyramid=0:keyint=90:min-keyint=90", frames=120)
        in_order = [unit for unit in units if kinds(unit)[-1] != TRAIL_N][:31]
        assert sps_of(units[0]).may_reorder
        advice = [r.advice for r in Bench(clips.H265, Policy()).run(in_order, Mode.SHADOW)]
        assert advice == [Advice.KEEP] * 29 + [Advice.COMPRESS] * 2

    def test_pictures_in_front_of_an_open_key_that_begins_the_stream_are_skipped(self) -> None:
        units = clips.h265(f"{B_FRAMES}:open-gop=1:keyint=15:min-keyint=15")
        start = next(i for i in range(1, len(units)) if CRA in kinds(units[i]))
        assert kinds(units[start + 1])[0] in RASL
        results = Bench(clips.H265).run(units[start : start + 4])
        assert [r.disposition for r in results[:2]] == [COMPRESSED, SKIPPED]
        assert not results[1].need_key


class TestNotServed:
    @pytest.mark.parametrize(
        ("parameters", "arguments", "reason"),
        [("", "-pix_fmt yuv420p10le", "8-bit"), ("", "-pix_fmt yuv444p", "4:2:0"), ("interlace=tff", "", "interlaced")],
    )
    def test_what_cannot_be_coded_stays_native_and_is_no_failure(
        self, parameters: str, arguments: str, reason: str
    ) -> None:
        results = Bench(clips.H265).run(clips.h265(parameters, arguments, frames=5))
        assert {(r.disposition, r.advice, r.need_key) for r in results[:1]} == {(UNCHANGED, Advice.NATIVE, False)}
        assert {r.disposition for r in results} == {UNCHANGED}
        assert reason in results[0].reason

    def test_spatial_layers_stay_native(self) -> None:
        """A unit of layer 1 behind each of the sender's."""
        results = Bench(clips.H265).run([unit + b"\0\0\1\x02\x09upper" for unit in clips.h265(frames=3)])
        assert {r.disposition for r in results} == {UNCHANGED}
        assert "spatial layers" in results[0].reason


class TestEncoder:
    def test_quantisers_change_from_picture_to_picture_and_are_met_exactly(self) -> None:
        pictures = clips.H265.decode(clips.h265(frames=40))
        encoder = H265(Limits()).open_encoder(OutputFormat(320, 240), 1)
        out = [encoder.encode(one, 12 + number, key=number in (10, 36)) for number, one in enumerate(pictures)]
        encoder.close()
        encoder.close()
        assert [one.key for one in out] == [number in (0, 10, 36) for number in range(40)]
        keys = {10: 22 + KEY_QP_STEP, 36: min(48 + KEY_QP_STEP, MAX_QP)}
        assert [one.q for one in out] == [keys.get(number, 12 + number) for number in range(40)]
        assert clips.H265.complaints([one.data for one in out]) == ""

    def test_large_pictures_are_coded_by_two_cores_where_there_are(self) -> None:
        picture = VideoFrame(1280, 720, "yuv420p")
        for number, plane in enumerate(picture.planes):
            plane.update(bytes((number + at * at // 997) % 256 for at in range(plane.buffer_size)))
        data = []
        for cores in (1, 2):
            encoder = H265(Limits()).open_encoder(OutputFormat(1280, 720), cores)
            data.append([encoder.encode(picture, 30, key=False).data for _ in range(3)])
            encoder.close()
        assert data[0] != data[1], "rows of blocks start anew"
        assert clips.H265.complaints(data[1]) == ""


@settings(max_examples=20, deadline=None)
@given(number=st.integers(0, 9), at=st.integers(0, 400), noise=st.binary(min_size=1, max_size=40))
def test_whatever_is_in_a_frame_there_is_an_answer_and_what_goes_out_decodes(
    number: int, at: int, noise: bytes
) -> None:
    units = list(clips.h265(size="64x64", frames=35))
    at = min(at, len(units[number]))
    units[number] = units[number][:at] + noise + units[number][at + len(noise) :]
    bench = Bench(clips.H265)
    results = bench.run(units)
    bench.transcoder.close()
    if results[-1].disposition is not FAILED:
        assert results[-1].disposition in (COMPRESSED, UNCHANGED)  # noise may say that the stream is not to be served
        assert len(clips.H265.decode(sent(results))) == len(sent(results))
