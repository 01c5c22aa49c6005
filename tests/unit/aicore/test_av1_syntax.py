"""Reading OBUs of real encoders, and surviving anything else."""

import contextlib
import functools

import pytest
from auralink_aicore.codecs import Limits
from auralink_aicore.codecs.av1 import AV1, MAX_OBUS
from auralink_aicore.codecs.av1_syntax import (
    OBU_FRAME,
    OBU_SEQUENCE_HEADER,
    Sequence,
    obus,
    parse_frame_start,
    parse_sequence,
)
from auralink_aicore.codecs.interface import BitstreamError
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.aicore import clips

av1 = functools.partial(clips.AV1.send, kbps=600)


def sequence_of(unit: bytes) -> Sequence:
    return next(parse_sequence(unit[o.start : o.end]) for o in obus(unit) if o.kind == OBU_SEQUENCE_HEADER)


def packed(text: str) -> bytes:
    """Bits to bytes, with a stop bit."""
    text = text.replace(" ", "") + "1"
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8)


@pytest.mark.parametrize(
    ("arguments", "size", "expected"),
    [
        ("", "320x240", {"profile": 0, "width": 320, "height": 240, "spatial_layers": 1, "reduced": False}),
        ("", "33x35", {"width": 33, "height": 35}),
        ("-pix_fmt yuv420p10le", "320x240", {"profile": 0, "high_bit_depth": True, "height": 240}),
        ("-pix_fmt yuv444p", "320x240", {"profile": 1, "high_bit_depth": False, "monochrome": False}),
        ("-pix_fmt gray", "320x240", {"profile": 0, "monochrome": True}),
        ("-aom-params error-resilient=1:enable-order-hint=1", "320x240", {"width": 320, "height": 240}),
        ("-aom-params timing-info=model", "320x240", {"width": 320, "height": 240, "high_bit_depth": False}),
        ("-still-picture 1 -g 0", "320x240", {"reduced": True, "width": 320, "high_bit_depth": False}),
        (
            "-c:v libsvtav1 -preset 10 -b:v 0 -minrate 0 -maxrate 0 -svtav1-params lp=1",
            "320x240",
            {"profile": 0, "width": 320, "height": 240, "monochrome": False},
        ),
    ],
)
def test_sequence_headers_are_understood(arguments: str, size: str, expected: dict[str, object]) -> None:
    sequence = sequence_of(av1(arguments=arguments, size=size, frames=1 if "still" in arguments else 2)[0])
    assert {name: getattr(sequence, name) for name in expected} == expected


@pytest.mark.parametrize(("masks", "layers"), [([0], 1), ([0x107, 0x103, 0x101], 1), ([0x301, 0x101], 2), ([0xF01], 4)])
def test_the_operating_points_tell_spatial_from_temporal_layers(masks: list[int], layers: int) -> None:
    points = "".join(f"{mask:012b} 01001 0" for mask in masks)  # each of level 4.1 and main tier
    head = f"000 0 0 0 0 {len(masks) - 1:05b} {points}"
    size = f"1000 0111 {319:09b} {239:08b}"
    rest = "0 000 0000 0 1 1 000 0 0 0 0 00 0"  # no frame ids, tools, no order hints; 8 bits, in colour
    sequence = parse_sequence(packed(head + size + rest))
    assert (sequence.spatial_layers, sequence.width, sequence.height) == (layers, 320, 240)


def test_keys_are_told_from_other_frames() -> None:
    stream = AV1(Limits())
    assert [i for i, unit in enumerate(av1()) if stream.read(unit).key] == [0, 30]
    assert stream.size == (320, 240)


def test_a_key_without_its_sequence_header_is_no_place_to_begin() -> None:
    unit = av1()[30]
    (header, frame) = obus(unit)
    assert header.kind == OBU_SEQUENCE_HEADER
    assert AV1(Limits()).read(unit).key
    assert not AV1(Limits()).read(unit[header.end :]).key
    assert frame.kind == OBU_FRAME


@pytest.mark.parametrize(
    ("first_byte", "key", "shown"),
    [(0x80, False, True), (0x10, True, True), (0x00, True, False), (0x30, False, True), (0x50, False, True)],
    ids=["shown again", "key", "key kept for later", "inter", "intra only"],
)
def test_frame_headers_say_key_and_shown(first_byte: int, *, key: bool, shown: bool) -> None:
    frame = parse_frame_start(bytes([first_byte]), reduced=False)
    assert (frame.key, frame.shown) == (key, shown)


def test_frames_of_a_higher_spatial_layer_are_refused() -> None:
    unit = av1()[0]
    upper = bytes([OBU_FRAME << 3 | 4 | 2, 1 << 3, 2, 0x30, 0])
    assert AV1(Limits()).read(unit).refused == ""
    assert "layers" in AV1(Limits()).read(unit + upper).refused


def test_an_obu_without_a_size_goes_on_to_the_end() -> None:
    (obu,) = obus(bytes([OBU_FRAME << 3, 0x30, 1, 2, 3]))
    assert (obu.start, obu.end) == (1, 5)


@pytest.mark.parametrize("data", ["80", "36", "32", "32 05 30", "32" + "ff" * 9, "32 ff"])
def test_what_is_no_obu_is_refused(data: str) -> None:
    with pytest.raises(BitstreamError):
        list(obus(bytes.fromhex(data)))


def test_more_obus_than_any_sender_sends_are_refused_without_a_look_at_each() -> None:
    with pytest.raises(BitstreamError, match="OBUs"):
        AV1(Limits()).read(b"\x7a\x00" * (MAX_OBUS + 1))


@given(st.binary(max_size=80))
def test_garbage_is_refused_and_nothing_worse(data: bytes) -> None:
    for read in (AV1(Limits()).read, parse_sequence, lambda payload: parse_frame_start(payload, reduced=False)):
        try:
            read(data)
        except BitstreamError:
            continue


@given(st.integers(0, 40), st.binary(max_size=24))
def test_damaged_keys_are_read_or_refused(at: int, noise: bytes) -> None:
    unit = av1(frames=2)[0]
    with contextlib.suppress(BitstreamError):
        AV1(Limits()).read(unit[:at] + noise + unit[at + len(noise) :])
