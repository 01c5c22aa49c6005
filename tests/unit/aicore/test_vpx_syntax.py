"""Reading the frame headers of real encoders, and surviving anything else."""

import pytest
from auralink_aicore.codecs import Limits
from auralink_aicore.codecs.interface import BitstreamError
from auralink_aicore.codecs.vpx import VP8, VP9
from auralink_aicore.codecs.vpx_syntax import parse_vp8, parse_vp9, superframe
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.aicore import clips
from tests.unit.aicore.vp9_streams import RESIZED

SIZES = ["320x240", "177x145"]


def size_of(text: str) -> tuple[int, int]:
    width, height = map(int, text.split("x"))
    return width, height


class TestVp8:
    @pytest.mark.parametrize("size", SIZES)
    def test_keys_and_their_sizes_are_read(self, size: str) -> None:
        frames = [parse_vp8(unit) for unit in clips.VP8.send(size=size, frames=33)]
        assert [number for number, frame in enumerate(frames) if frame.key] == [0, 30]
        assert {frame.size for frame in frames if frame.key} == {size_of(size)}
        assert {frame.size for frame in frames if not frame.key} == {None}

    @pytest.mark.parametrize(("q", "base_q"), [(10, 12), (40, 59), (63, 127)])
    def test_the_base_quantiser_is_read(self, q: int, base_q: int) -> None:
        """libvpx's scale of 0 to 63 has its own place on the format's."""
        frames = [parse_vp8(unit) for unit in clips.VP8.send(frames=33, arguments=f"-qmin {q} -qmax {q}")]
        assert {frame.base_q for frame in frames} == {base_q}

    def test_the_scale_for_the_screen_is_no_part_of_the_size(self) -> None:
        key = bytearray(clips.VP8.send(frames=2)[0])
        key[7] |= 0x40
        key[9] |= 0xC0
        assert parse_vp8(bytes(key)).size == (320, 240)

    @pytest.mark.parametrize(
        ("at", "value", "why"), [(3, 0, "start code"), (2, 0xFF, "first partition"), (6, 0, "size")]
    )
    def test_a_key_that_cannot_be_is_refused(self, at: int, value: int, why: str) -> None:
        key = bytearray(clips.VP8.send(size="32x32", frames=2)[0])
        key[at] = value
        with pytest.raises(BitstreamError, match=why):
            parse_vp8(bytes(key))


class TestVp9:
    @pytest.mark.parametrize("size", SIZES)
    def test_keys_and_their_sizes_are_read_and_others_take_theirs_from_a_reference(self, size: str) -> None:
        units = clips.VP9.send(size=size, frames=33)
        frames = [parse_vp9(unit) for unit in units]
        assert [number for number, frame in enumerate(frames) if frame.key] == [0, 30]
        assert {frame.size for frame in frames if frame.key} == {size_of(size)}
        assert all(frame.size_of is not None for frame in frames if not frame.key)
        stream = VP9(Limits())
        for unit in units:
            stream.read(unit)
            assert stream.size == size_of(size)

    def test_the_size_follows_from_frame_to_frame_through_the_references(self) -> None:
        stream, sizes = VP9(Limits()), []
        for unit in RESIZED:
            stream.read(unit)
            sizes.append(stream.size)
        assert [width for width, height in sizes if width == height] == [64, 64, 64, 32, 32, 32, 64, 64]

    @pytest.mark.parametrize(("pixels", "profile"), [("yuv444p", 1), ("yuv420p10le", 2), ("yuv444p10le", 3)])
    def test_profiles_are_told(self, pixels: str, profile: int) -> None:
        frames = [parse_vp9(unit) for unit in clips.VP9.send(frames=2, arguments=f"-pix_fmt {pixels}")]
        assert [(frame.profile, frame.key) for frame in frames] == [(profile, True), (profile, False)]

    def test_a_key_without_its_sync_code_is_refused(self) -> None:
        key = clips.VP9.send(frames=2)[0]
        with pytest.raises(BitstreamError, match="sync code"):
            parse_vp9(key[:1] + b"\0" + key[2:])

    def test_a_frame_that_only_shows_an_old_one_has_that_ones_size(self) -> None:
        stream = VP9(Limits())
        for unit in RESIZED[:4]:
            stream.read(unit)
        assert stream.size == (32, 32)
        stream.read(bytes([0x88 | 1]))  # slot 1 still holds the first frame
        assert stream.size == (64, 64)


class TestSuperframe:
    def test_frames_are_cut_by_the_index(self) -> None:
        assert superframe(b"abc" + bytes([0xC1, 1, 2, 0xC1])) == (b"a", b"bc")
        assert superframe(bytes(300) + b"x" + bytes([0xC9, 44, 1, 1, 0, 0xC9])) == (bytes(300), b"x")

    def test_what_has_no_index_is_one_frame(self) -> None:
        assert superframe(b"abc") == (b"abc",)
        assert superframe(b"abc\xc1") == (b"abc\xc1",), "the last byte alone makes no index"

    @pytest.mark.parametrize("data", [b"", b"abc" + bytes([0xC1, 1, 3, 0xC1]), b"abc" + bytes([0xC1, 0, 3, 0xC1])])
    def test_an_index_that_does_not_fit_is_refused(self, data: bytes) -> None:
        with pytest.raises(BitstreamError):
            superframe(data)


@given(st.binary(max_size=64), st.sampled_from([b"", b"\x10\x02\x00\x9d\x01\x2a", b"\x82\x49\x83\x42", b"\x86\x00"]))
def test_garbage_is_refused_and_nothing_worse(data: bytes, start: bytes) -> None:
    for stream in (VP8(Limits()), VP9(Limits())):
        try:
            stream.read(start + data)
        except BitstreamError:
            continue
        assert all(0 <= side <= 1 << 16 for side in stream.size)


@given(st.sampled_from([clips.VP8, clips.VP9]), st.integers(0, 9), st.integers(0, 40), st.binary(max_size=12))
def test_damaged_headers_are_parsed_or_refused(sender: clips.Sender, number: int, at: int, noise: bytes) -> None:
    unit = sender.send(size="64x64", frames=10)[number]
    stream = VP8(Limits()) if sender is clips.VP8 else VP9(Limits())
    try:
        stream.read(unit[:at] + noise + unit[at + len(noise) :])
        stream.read(unit[:at])
    except BitstreamError:
        pass
