"""What of a stream through the transcoder is AV1's own: temporal units, hidden frames, odd sizes."""

import functools

import pytest
from auralink_aicore.codecs import Limits
from auralink_aicore.codecs.av1 import AV1, KEY_Q_STEP, MAX_Q, Aom
from auralink_aicore.codecs.av1_syntax import OBU_FRAME, OBU_SEQUENCE_HEADER, obus
from auralink_aicore.codecs.interface import OutputFormat
from auralink_aicore.transcoder import Advice
from av.video.frame import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.aicore import clips
from tests.unit.aicore.bench import COMPRESSED, FAILED, UNCHANGED, Bench, expect_wait_for_key, sent

SVT = "-c:v libsvtav1 -preset 10 -b:v 0 -minrate 0 -maxrate 0 -svtav1-params lp=1"
send = functools.partial(clips.AV1.send, kbps=600)


def kinds(unit: bytes) -> list[int]:
    """The OBU types in it."""
    return [obu.kind for obu in obus(unit)]


class TestWhatComesOut:
    @pytest.mark.parametrize(
        "arguments",
        ["-aom-params enable-order-hint=1:error-resilient=1", "-tiles 2x2 -row-mt 0", f"{SVT}:pred-struct=1"],
    )
    def test_streams_of_any_make_come_out(self, arguments: str) -> None:
        units = send(arguments=arguments)
        results = Bench(clips.AV1).run(units)
        assert {r.disposition for r in results} == {COMPRESSED}
        assert clips.AV1.complaints(sent(results)) == ""

    def test_hidden_frames_come_with_a_picture_that_is_shown_and_each_unit_is_answered(self) -> None:
        units = send(arguments=SVT)
        assert any(kinds(unit).count(OBU_FRAME) > 1 for unit in units)
        results = Bench(clips.AV1).run(units)
        assert {r.disposition for r in results} == {COMPRESSED}
        assert {tuple(kinds(r.payload)) for r in results if not r.key} == {(OBU_FRAME,)}
        assert clips.AV1.complaints(sent(results)) == ""

    def test_a_frame_carries_no_delimiter_and_a_key_its_sequence_header(self) -> None:
        for result in Bench(clips.AV1).run(send()):
            assert kinds(result.payload) == ([OBU_SEQUENCE_HEADER, OBU_FRAME] if result.key else [OBU_FRAME])

    @pytest.mark.parametrize("size", ["32x32", "33x47", "177x145"])
    def test_odd_sizes_come_out_as_they_went_in(self, size: str) -> None:
        out = sent(Bench(clips.AV1).run(send(size=size, frames=5)))
        assert [f"{p.width}x{p.height}" for p in clips.AV1.decode(out)] == [size] * 5
        assert clips.AV1.complaints(out) == ""

    def test_colour_description_is_copied(self) -> None:
        described = f"{clips.CAMERA},format=yuv420p,setparams=range=pc:color_primaries=bt709:color_trc=bt709"
        units = send(f"{described}:colorspace=bt709", frames=2)
        (picture, *_) = clips.AV1.decode(sent(Bench(clips.AV1).run(units)))
        assert [int(picture.color_range), int(picture.colorspace)] == [2, 1]
        assert [int(picture.color_primaries), int(picture.color_trc)] == [1, 1]

    def test_colours_that_libaom_knows_not_are_unspecified(self) -> None:
        picture = VideoFrame(64, 64, "yuv420p")
        picture.color_primaries = 0
        output = AV1(Limits()).output_for(picture)
        Aom(output).close()
        assert output.colour[1] == 2


class TestNotServed:
    @pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv444p", "gray"])
    def test_what_cannot_be_coded_stays_native_and_is_no_failure(self, pixels: str) -> None:
        results = Bench(clips.AV1).run(send(arguments=f"-pix_fmt {pixels}", frames=5))
        assert {(r.disposition, r.need_key) for r in results} == {(UNCHANGED, False)}
        assert results[0].advice is Advice.NATIVE
        assert "8-bit 4:2:0" in results[0].reason


@pytest.mark.parametrize("left", [0.5, 0.9])
def test_a_frame_cut_short_counts_as_damage(left: float) -> None:
    units = list(send())
    units[10] = units[10][: int(left * len(units[10]))]
    expect_wait_for_key(clips.AV1, units, Bench(clips.AV1).run(units), 10)


class TestEncoder:
    def test_quantisers_change_from_picture_to_picture_and_are_met_exactly(self) -> None:
        pictures = clips.AV1.decode(send(frames=40))
        encoder = AV1(Limits()).open_encoder(OutputFormat(320, 240), 1)
        out = [encoder.encode(one, 20 + number, key=number in (10, 39)) for number, one in enumerate(pictures)]
        encoder.close()
        encoder.close()
        assert [one.key for one in out] == [number in (0, 10, 39) for number in range(40)]
        keys = {10: 30 + KEY_Q_STEP, 39: min(59 + KEY_Q_STEP, MAX_Q)}
        assert [one.q for one in out] == [keys.get(number, 20 + number) for number in range(40)]
        assert all(one.psnr_db is not None and 20 < one.psnr_db < 60 for one in out)
        assert clips.AV1.complaints([one.data for one in out]) == ""

    def test_large_pictures_are_coded_by_two_cores_where_there_are(self) -> None:
        picture = VideoFrame(1280, 720, "yuv420p")
        for number, plane in enumerate(picture.planes):
            plane.update(bytes((number + at * at // 997) % 256 for at in range(plane.buffer_size)))
        data = []
        for cores in (1, 2):
            encoder = AV1(Limits()).open_encoder(OutputFormat(1280, 720), cores)
            data.append([encoder.encode(picture, 30, key=False).data for _ in range(3)])
            encoder.close()
        assert data[0] != data[1], "two columns of tiles"
        assert clips.AV1.complaints(data[1]) == ""


@settings(max_examples=20, deadline=None)
@given(number=st.integers(0, 9), at=st.integers(0, 400), noise=st.binary(min_size=1, max_size=40))
def test_whatever_is_in_a_frame_there_is_an_answer_and_what_goes_out_decodes(
    number: int, at: int, noise: bytes
) -> None:
    units = list(send(size="64x64", frames=35))
    at = min(at, len(units[number]))
    units[number] = units[number][:at] + noise + units[number][at + len(noise) :]
    bench = Bench(clips.AV1)
    results = bench.run(units)
    bench.transcoder.close()
    if results[-1].disposition is not FAILED:
        assert results[-1].disposition in (COMPRESSED, UNCHANGED)  # noise may say that the stream is not to be served
        assert len(clips.AV1.decode(sent(results))) == len(sent(results))
