"""What of a stream through the transcoder is VP8's and VP9's own: hidden frames, layers, sizes that change."""

import math
import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest
from auralink_aicore.codecs import Limits
from auralink_aicore.codecs.interface import OutputFormat
from auralink_aicore.codecs.vpx import KEY_Q_STEP, MAX_Q, VP8, VP8_SETTINGS, VP9, VP9_SETTINGS, Settings
from auralink_aicore.codecs.vpx_syntax import superframe
from auralink_aicore.transcoder import Advice, Frame, Mode
from av.video.frame import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.aicore import clips
from tests.unit.aicore.bench import COMPRESSED, FAILED, SKIPPED, UNCHANGED, Bench, sent
from tests.unit.aicore.vp9_streams import LAYERED, RESIZED

BOTH = pytest.mark.parametrize("sender", [clips.VP8, clips.VP9], ids=str)


def with_hidden_frames(sender: clips.Sender, folder: Path) -> list[bytes]:
    """What an encoder makes that looks ahead: frames that are only referred to, in VP9 bound into superframes."""
    encoder = "libvpx" if sender is clips.VP8 else "libvpx-vp9"
    command = (
        f"-v error -y -f lavfi -i {clips.CAMERA.format(size='96x80')} -frames:v 40 -pix_fmt yuv420p -c:v {encoder}"
    )
    command += " -b:v 200k -lag-in-frames 16 -auto-alt-ref 1 -deadline good -cpu-used 5"
    for number in (1, 2):
        passes = f" -pass {number} -passlogfile {folder}/log -f ivf {folder}/out.ivf"
        subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *(command + passes).split()], check=True, timeout=60)
    return list(clips.ivf_frames((folder / "out.ivf").read_bytes()))


class TestHiddenFrames:
    def test_are_decoded_and_nothing_is_sent_for_them(self, tmp_path: Path) -> None:
        units = with_hidden_frames(clips.VP8, tmp_path)
        hidden = [not unit[0] & 0x10 for unit in units]
        results = Bench(clips.VP8).run(units)
        assert sum(hidden) >= 1
        assert [r.disposition for r in results] == [SKIPPED if one else COMPRESSED for one in hidden]
        assert not any(r.need_key for r in results)
        assert clips.VP8.complaints(sent(results)) == ""

    def test_in_a_superframe_are_the_affair_of_the_decoder(self, tmp_path: Path) -> None:
        units = with_hidden_frames(clips.VP9, tmp_path)
        assert max(len(superframe(unit)) for unit in units) == 2
        results = Bench(clips.VP9).run(units)
        assert {r.disposition for r in results} == {COMPRESSED}
        assert all(len(superframe(r.payload)) == 1 for r in results)
        assert clips.VP9.complaints(sent(results)) == ""

    def test_of_vp9_may_come_alone_too(self, tmp_path: Path) -> None:
        units = [part for unit in with_hidden_frames(clips.VP9, tmp_path) for part in superframe(unit)]
        results = Bench(clips.VP9).run(units)
        assert len(sent(results)) == 40
        assert {(r.disposition, r.need_key) for r in results} == {(COMPRESSED, False), (SKIPPED, False)}
        assert clips.VP9.complaints(sent(results)) == ""

    def test_a_frame_that_shows_an_old_one_is_a_picture(self) -> None:
        units = list(clips.VP9.send(frames=10))
        results = Bench(clips.VP9).run([*units, bytes([0x88])])
        assert {r.disposition for r in results} == {COMPRESSED}
        assert clips.VP9.complaints(sent(results)) == ""


class TestSizes:
    @BOTH
    @pytest.mark.parametrize("size", ["177x145", "33x47"])
    def test_odd_ones_come_out_as_they_went_in(self, sender: clips.Sender, size: str) -> None:
        units = sender.send(size=size, frames=40)
        results = Bench(sender).run(units)
        assert {r.disposition for r in results} == {COMPRESSED}
        assert {f"{p.width}x{p.height}" for p in sender.decode(sent(results))} == {size}
        assert sender.complaints(sent(results)) == ""

    def test_a_vp9_stream_that_changes_size_without_a_key_gets_one_of_ours(self) -> None:
        bench = Bench(clips.VP9)
        results = bench.run(RESIZED[:6])
        bench.now += 1
        results += bench.run(RESIZED[6:])
        assert [r.key for r in results] == [True, False, False, True, False, False, True, False]
        assert [p.width for p in clips.VP9.decode(sent(results))] == [64, 64, 64, 32, 32, 32, 64, 64]

    def test_but_not_more_than_once_a_second(self) -> None:
        assert Bench(clips.VP9).run(RESIZED)[6].disposition is FAILED


class TestNotServed:
    @pytest.mark.parametrize("pixels", ["yuv444p", "yuv420p10le"])
    def test_profiles_above_0_stay_native(self, pixels: str) -> None:
        results = Bench(clips.VP9).run(clips.VP9.send(frames=4, arguments=f"-pix_fmt {pixels}"))
        assert {(r.disposition, r.advice, r.need_key) for r in results} == {(UNCHANGED, Advice.NATIVE, False)}

    def test_spatial_layers_stay_native_until_a_key_without_them(self) -> None:
        """A sender that leaves its upper layer out for a while still has two."""
        lower_alone = superframe(LAYERED[3])[0]
        bench = Bench(clips.VP9)
        results = bench.run([*LAYERED[:3], lower_alone])
        assert {(r.disposition, r.advice, r.need_key) for r in results} == {(UNCHANGED, Advice.NATIVE, False)}
        assert "spatial layers" in results[-1].reason
        assert {r.disposition for r in bench.run(clips.VP9.send(frames=3), Mode.SHADOW)} == {UNCHANGED}
        assert {r.disposition for r in bench.run(clips.VP9.send(frames=3))} == {COMPRESSED}


class TestColour:
    @pytest.mark.parametrize(
        ("space", "code"), [("bt709", 1), ("smpte170m", 6), ("smpte240m", 7), ("bt470bg", 5), ("bt2020nc", 9)]
    )
    def test_vp9_says_what_the_sender_said(self, space: str, code: int) -> None:
        units = clips.VP9.send(frames=2, arguments=f"-colorspace {space} -color_range pc")
        (picture, *_) = clips.VP9.decode(sent(Bench(clips.VP9).run(units)))
        assert [int(picture.colorspace), int(picture.color_range)] == [code, 2]

    def test_vp8_has_nothing_to_say_it_with(self) -> None:
        (picture, *_) = clips.VP8.decode(clips.VP8.send(frames=2))
        assert VP8(Limits()).output_for(picture) == OutputFormat(320, 240)


class TestEncoder:
    @pytest.mark.parametrize(
        ("sender", "given"), [(clips.VP8, VP8_SETTINGS), (clips.VP9, VP9_SETTINGS)], ids=["VP8", "VP9"]
    )
    def test_speeds_and_quantisers_change_from_picture_to_picture(self, sender: clips.Sender, given: Settings) -> None:
        pictures = sender.decode(sender.send(frames=30))
        stream = VP8(Limits()) if sender is clips.VP8 else VP9(Limits())
        encoder = stream.open_encoder(stream.output_for(pictures[0]), 1)
        out = []
        for number, picture in enumerate(pictures):
            encoder.set_speed(number % len(given.speeds))
            out.append(encoder.encode(picture, 20 + number, key=number in (10, 29)))
        encoder.close()
        encoder.close()
        assert [one.key for one in out] == [number in (0, 10, 29) for number in range(30)]
        keys = {10: 30 + KEY_Q_STEP, 29: min(49 + KEY_Q_STEP, MAX_Q)}
        assert [one.q for one in out] == [keys.get(number, 20 + number) for number in range(30)]
        assert all(one.psnr_db is not None and 20 < one.psnr_db < 60 for one in out)
        assert sender.complaints([one.data for one in out]) == ""

    def test_large_vp9_pictures_are_coded_by_two_cores_where_there_are(self) -> None:
        picture = VideoFrame(1280, 720, "yuv420p")
        for plane in picture.planes:
            plane.update(bytes(plane.buffer_size))
        stream = VP9(Limits())
        data = []
        for cores in (1, 2):
            encoder = stream.open_encoder(stream.output_for(picture), cores)
            data.append([encoder.encode(picture, 30, key=False).data for _ in range(3)])
            encoder.close()
        assert data[0] != data[1], "two columns of tiles"
        assert clips.VP9.complaints(data[1]) == ""


@BOTH
@settings(max_examples=20, deadline=None)
@given(number=st.integers(0, 9), at=st.integers(0, 400), noise=st.binary(min_size=1, max_size=40))
def test_whatever_is_in_a_frame_there_is_an_answer_and_what_goes_out_decodes(
    sender: clips.Sender, number: int, at: int, noise: bytes
) -> None:
    units = list(sender.send(size="64x64", frames=35))
    at = min(at, len(units[number]))
    units[number] = units[number][:at] + noise + units[number][at + len(noise) :]
    bench = Bench(sender)
    results = bench.run(units)
    bench.transcoder.close()
    if results[-1].disposition is not FAILED:
        assert results[-1].disposition in (COMPRESSED, UNCHANGED)  # noise may say that the stream is not to be served
        assert len(sender.decode(sent(results))) == len(sent(results))


def test_a_key_that_the_caller_takes_for_none_is_no_place_to_go_native() -> None:
    """A descriptor may say P = 1 over a key: the caller would send a native frame on our references."""
    units = clips.VP9.send(frames=20)
    bench = Bench(clips.VP9)
    bench.run(units[:10])
    other_profile = b"\x90" + units[0][1:]
    bench.now += 1 / 30
    frame = Frame(bench.next_id, other_profile, False, Mode.COMPRESS, bench.now, math.inf)
    result = bench.transcoder.receive(frame)
    assert (result.disposition, result.need_key) == (SKIPPED, True)
