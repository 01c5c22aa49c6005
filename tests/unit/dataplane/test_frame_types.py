"""I, P and B by header bits: made byte for byte after the standards, and as real encoders write them."""

from collections import Counter
from collections.abc import Sequence

import pytest
from auralink_dataplane.media.frame_types import SLICES_READ, FrameType, FrameTypes
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.aicore import clips

CODECS = ("H264", "H265", "VP8", "VP9", "AV1")


def packed(bits: str) -> bytes:
    """Bits to bytes, the last one filled with zeros."""
    bits = bits.replace(" ", "")
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def nal(header: bytes, bits: str) -> bytes:
    return b"\0\0\0\1" + header + packed(bits) + b"\xff\xff"


def seen(codec: str, *frames: bytes) -> str:
    types = FrameTypes(codec)
    return "".join(kind.value if (kind := types.of(frame)) else "-" for frame in frames)


@pytest.mark.parametrize(
    ("slice_type", "kind"),
    [
        ("1", "P"),
        ("010", "B"),
        ("011", "I"),
        ("00100", "P"),
        ("00101", "I"),
        ("00110", "P"),
        ("00111", "B"),
        ("0001000", "I"),
    ],  # 0 to 7
)
def test_h264_by_slice_type(slice_type: str, kind: str) -> None:
    assert seen("H264", nal(b"\x41", f"1 {slice_type}")) == kind
    assert seen("H264", nal(b"\x41", f"000010011 {slice_type}")) == kind  # first_mb_in_slice 18


def test_h264_a_picture_is_the_most_of_its_slices_and_other_units_are_none() -> None:
    i, p, b = (nal(b"\x41", f"1 {kind}") for kind in ("011", "1", "010"))
    sps, sei = nal(b"\x67", "1 010"), nal(b"\x06", "1 010")
    assert seen("H264", i + p, p + i + b, sps + sei + i, sps + sei) == "PBI-"
    assert seen("H264", i * SLICES_READ + b) == "I"  # what is read is bounded


def test_h264_emulation_prevention_is_no_part_of_the_header() -> None:
    # first_mb_in_slice 2^17 - 1: 17 zeros, a one, 17 zeros; then P
    raw = packed("0" * 17 + "1" + "0" * 17 + "1")
    escaped = raw.replace(b"\0\0", b"\0\0\3", 1)
    assert seen("H264", b"\0\0\1\x41" + escaped + b"\xff") == "P"


@pytest.mark.parametrize(("slice_type", "kind"), [("1", "B"), ("010", "P"), ("011", "I")])
def test_h265_by_slice_type(slice_type: str, kind: str) -> None:
    assert seen("H265", nal(b"\x02\x01", f"1 1 {slice_type}")) == kind  # TRAIL_R
    assert seen("H265", nal(b"\x26\x01", f"1 0 1 {slice_type}")) == kind  # IDR_W_RADL has a flag more


def test_h265_extra_bits_of_the_slice_header_are_as_the_pps_says_and_later_segments_do_not_count() -> None:
    pps = nal(b"\x44\x01", "1 1 0 0 010")  # id 0, two extra bits
    later = nal(b"\x02\x01", "0 1 1 1")
    assert seen("H265", pps + nal(b"\x02\x01", "1 1 00 010"), nal(b"\x02\x01", "1 1 11 011") + later, later) == "PI-"


def test_vp8_by_the_first_bit() -> None:
    assert seen("VP8", b"\x10\x02\0\x9d\x01\x2a", b"\x11\x02\0", b"") == "IP-"


@pytest.mark.parametrize(
    ("bits", "kind"),
    [
        ("10 00 0 0 1 0", "I"),  # a key
        ("10 00 0 1 1 0", "P"),
        ("10 00 0 1 0 0 1", "I"),  # hidden and intra only
        ("10 00 0 1 0 0 0", "P"),
        ("10 00 1 010", "P"),  # shows a picture that is there
        ("10 11 0 0 0 1 0", "I"),  # profile 3 has a bit more
        ("01 00 0 0 1 0", "-"),  # no frame marker
    ],
)
def test_vp9_by_the_uncompressed_header(bits: str, kind: str) -> None:
    assert seen("VP9", packed(bits)) == kind


@pytest.mark.parametrize(
    ("bits", "kind"), [("0 00 1", "I"), ("0 01 1", "P"), ("0 10 0", "I"), ("0 11 1", "P"), ("1 001", "P")]
)
def test_av1_by_the_frame_header_wherever_it_is(bits: str, kind: str) -> None:
    header = packed(bits) + b"\xff"
    sequence = b"\x0a\x03" + packed("000 0 0") + b"\0\0"
    assert seen("AV1", b"\x32\x02" + header) == kind  # OBU_FRAME with its size
    assert seen("AV1", sequence + b"\x36\x20\x82\x00" + header) == kind  # with an extension, and its size in two bytes
    assert seen("AV1", sequence + b"\x18" + header) == kind  # OBU_FRAME_HEADER, without a size
    assert seen("AV1", sequence) == "-"


def test_av1_a_still_picture_says_nothing_and_is_intra() -> None:
    assert seen("AV1", b"\x0a\x03" + packed("000 1 1") + b"\0\0" + b"\x32\x02\xff\xff") == "I"


def test_other_codecs_have_none() -> None:
    assert seen("Opus", b"\x41\x9a") == "-"


@given(st.sampled_from(CODECS), st.lists(st.binary(max_size=80), max_size=4))
def test_whatever_comes_in_something_is_said_and_nothing_raised(codec: str, frames: Sequence[bytes]) -> None:
    types = FrameTypes(codec)
    assert {types.of(frame) for frame in frames} <= {None, *FrameType}


@pytest.mark.parametrize("sender", clips.SENDERS, ids=str)
def test_what_encoders_write_has_its_keys_as_i_and_the_rest_between(sender: clips.Sender) -> None:
    units = sender.send(frames=60)
    types = FrameTypes(sender.codec.name)
    found = [types.of(unit) for unit in units]
    assert [kind is FrameType.I for kind in found] == [sender.is_key(unit) for unit in units]
    assert None not in found


def test_b_pictures_of_a_real_encoder_are_told() -> None:
    units = clips.h264(frames=60, arguments="-bf 2")
    types = FrameTypes("H264")
    counted = Counter(types.of(unit) for unit in units)
    assert counted[FrameType.I] == 2
    assert counted[FrameType.B] > 20
    assert counted[None] == 0
