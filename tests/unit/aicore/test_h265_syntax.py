"""Reading parameter sets and slices of real encoders, rewriting sets, and surviving anything else."""

import contextlib

import av
import pytest
from auralink_aicore.codecs import Limits
from auralink_aicore.codecs.bits import nal_units
from auralink_aicore.codecs.h265 import H265, MAX_NAL_UNITS
from auralink_aicore.codecs.h265_syntax import (
    NAL_PPS,
    NAL_SPS,
    order_count,
    parse_header,
    parse_pps,
    parse_sps,
    slice_pps,
    without_reordering,
)
from auralink_aicore.codecs.interface import BitstreamError
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.aicore.clips import h265, is_h265_key

B_FRAMES = "bframes=2:b-adapt=0:rc-lookahead=5"


def nal_of(unit: bytes, kind: int) -> bytes:
    return next(unit[a:b] for a, b in nal_units(unit) if parse_header(unit[a:b]).kind == kind)


def kinds(unit: bytes) -> list[int]:
    return [parse_header(unit[a:b]).kind for a, b in nal_units(unit)]


def slice_of(unit: bytes) -> bytes:
    return next(unit[a:b] for a, b in nal_units(unit) if parse_header(unit[a:b]).is_slice)


@pytest.mark.parametrize(
    ("size", "arguments", "parameters", "expected"),
    [
        ("320x240", "", "", {"profile": 1, "width": 320, "height": 240, "level": 60, "may_reorder": False}),
        ("322x182", "", "level-idc=3.1:high-tier=0", {"width": 322, "height": 182, "level": 93, "high_tier": False}),
        ("320x240", "", "bframes=3:rc-lookahead=5", {"reorder_pictures": 2, "buffers": (4,), "may_reorder": True}),
        ("320x240", "", "interlace=tff", {"interlaced": True}),
        ("320x240", "-pix_fmt yuv444p", "", {"profile": 4, "chroma_format": 3, "width": 320}),
        ("320x240", "-pix_fmt yuv422p", "", {"chroma_format": 2, "height": 240}),
        ("320x240", "-pix_fmt yuv420p10le", "", {"profile": 2, "bit_depth": 10}),
        ("320x240", "", "log2-max-poc-lsb=4", {"order_bits": 4}),
        ("320x240", "", "temporal-layers=1:bframes=0", {"width": 320, "height": 240, "chroma_format": 1}),
        (
            "320x240",
            "",
            "level-idc=4:high-tier=1:vbv-maxrate=20000:vbv-bufsize=20000:bitrate=20000",
            {"high_tier": True, "level": 120},
        ),
    ],
)
def test_parameter_sets_are_understood(size: str, arguments: str, parameters: str, expected: dict[str, object]) -> None:
    sps = parse_sps(nal_of(h265(parameters, arguments, size=size, frames=2)[0], NAL_SPS))
    assert {name: getattr(sps, name) for name in expected} == expected


@pytest.mark.parametrize(
    "parameters",
    ["bframes=3:rc-lookahead=5", "bframes=2:rc-lookahead=5:hrd=1:vbv-maxrate=500:vbv-bufsize=500:bitrate=500"],
)
def test_the_rewritten_set_promises_no_reordering_and_changes_nothing_else(parameters: str) -> None:
    units = h265(parameters, frames=12)
    nal = nal_of(units[0], NAL_SPS)
    before = parse_sps(nal)
    rewritten = without_reordering(nal, before)
    after = parse_sps(rewritten)
    assert before.reorder_pictures
    assert after.reorder_pictures == 0
    assert (after.width, after.height, after.level, after.buffers) == (
        before.width,
        before.height,
        before.level,
        before.buffers,
    )
    assert delays(units)[0] == 0
    assert delays((units[0].replace(nal, rewritten), *units[1:])) == [1] * len(units)


def delays(units: tuple[bytes, ...]) -> list[int]:
    """How many pictures each unit gave at once."""
    decoder = av.VideoCodecContext.create("hevc", "r")
    decoder.thread_count = 1
    return [len(decoder.decode(av.Packet(unit))) for unit in units]


def test_pictures_are_numbered_in_the_order_they_are_shown() -> None:
    units = h265(B_FRAMES, frames=10)
    sps, pps = parse_sps(nal_of(units[0], NAL_SPS)), parse_pps(nal_of(units[0], NAL_PPS))
    assert (pps.sps, slice_pps(slice_of(units[1]))) == (sps.id, pps.id)
    counts = [order_count(slice_of(unit), pps, sps) for unit in units]
    assert sorted(counts) == list(range(10))
    assert counts != sorted(counts)


@pytest.mark.parametrize("parameters", [B_FRAMES, f"{B_FRAMES}:log2-max-poc-lsb=4"])
def test_pictures_out_of_order_are_told_wherever_the_numbers_wrap(parameters: str) -> None:
    stream = H265(Limits())
    units = h265(parameters, frames=60)
    late = [stream.read(unit).bidirectional for unit in units]
    assert sum(late) > 30
    assert not any(late[i] for i, unit in enumerate(units) if is_h265_key(unit))


def test_pictures_in_order_are_not_whatever_the_parameter_set_allows() -> None:
    """As of an encoder with B slices that refer backwards only: here every B picture is left out."""
    stream = H265(Limits())
    units = [unit for unit in h265(f"{B_FRAMES}:b-pyramid=0:log2-max-poc-lsb=4") if not is_b(unit)]
    assert len(units) > 15
    assert not any(stream.read(unit).bidirectional for unit in units)
    assert stream.may_reorder


def is_b(unit: bytes) -> bool:
    """Not referred to, as libx265 marks its B pictures without a pyramid."""
    return kinds(unit)[-1] in (0, 8)


def test_open_keys_are_keys_and_the_pictures_shown_before_them_are_not() -> None:
    units = h265(f"{B_FRAMES}:open-gop=1:keyint=15:min-keyint=15")
    stream = H265(Limits())
    read = [stream.read(unit) for unit in units]
    opened = next(i for i in range(1, len(units)) if 21 in kinds(units[i]))
    assert kinds(units[opened + 1])[0] in (8, 9)
    assert (read[opened].key, read[opened].bidirectional) == (True, False)
    assert (read[opened + 1].key, read[opened + 1].bidirectional) == (False, True)


def test_units_of_types_that_the_standard_keeps_for_later_are_left_out() -> None:
    stream = H265(Limits())
    first, second, *_ = h265()
    assert stream.read(b"\0\0\1\x2e\x01later" + first).key  # type 23, among the keys
    assert not stream.read(b"\0\0\1\x3e\x01later" + second).key
    with pytest.raises(BitstreamError, match="no slice"):
        stream.read(b"\0\0\1\x2e\x01later")


def test_a_picture_whose_first_slice_is_missing_is_refused() -> None:
    nal = bytearray(slice_of(h265()[1]))
    nal[2] &= 0x7F  # first_slice_segment_in_pic_flag
    with pytest.raises(BitstreamError, match="first slice"):
        slice_pps(bytes(nal))


@pytest.mark.parametrize("nal", ["", "42", "c2 01", "42 00"])
def test_what_is_no_header_is_refused(nal: str) -> None:
    with pytest.raises(BitstreamError, match="header"):
        parse_header(bytes.fromhex(nal))


def test_ids_beyond_the_standards_bounds_are_refused() -> None:
    """64 for a picture parameter set, as ue(v)."""
    with pytest.raises(BitstreamError, match="id"):
        parse_pps(bytes.fromhex("4401 0208 000000000000"))


def test_more_units_than_any_sender_sends_are_refused_without_a_look_at_each() -> None:
    with pytest.raises(BitstreamError, match="NAL units"):
        H265(Limits()).read(b"\0\0\1" * (MAX_NAL_UNITS + 1))


@given(st.binary(max_size=64))
def test_garbage_is_refused_and_nothing_worse(data: bytes) -> None:
    for read in (parse_sps, parse_pps, slice_pps, parse_header):
        try:
            read(b"\x42\x01" + data)
        except BitstreamError:
            continue


@given(st.binary(max_size=24), st.integers(0, 60))
def test_damaged_units_are_read_or_refused(noise: bytes, at: int) -> None:
    unit = h265("bframes=3:rc-lookahead=5", frames=2)[0]
    with contextlib.suppress(BitstreamError):
        H265(Limits()).read(unit[:at] + noise + unit[at + len(noise) :])


@given(st.binary(max_size=24), st.integers(0, 40))
def test_damaged_parameter_sets_are_parsed_or_refused(noise: bytes, at: int) -> None:
    nal = nal_of(h265("bframes=3:rc-lookahead=5", frames=2)[0], NAL_SPS)
    try:
        damaged = nal[: at + 2] + noise + nal[at + 2 + len(noise) :]
        parse_sps(without_reordering(damaged, parse_sps(damaged)))
    except BitstreamError:
        pass
