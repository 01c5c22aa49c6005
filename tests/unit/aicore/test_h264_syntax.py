"""Reading parameter sets of real encoders, rewriting them, and surviving anything else."""

import pytest
from auralink_aicore.codecs.bits import nal_units
from auralink_aicore.codecs.h264_syntax import (
    NAL_IDR,
    NAL_PPS,
    NAL_SPS,
    parse_pps,
    parse_slice_start,
    parse_sps,
    without_reordering,
)
from auralink_aicore.codecs.interface import BitstreamError
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.aicore import clips


def sps_nal(unit: bytes) -> bytes:
    return next(unit[a:b] for a, b in nal_units(unit) if unit[a] & 0x1F == NAL_SPS)


@pytest.mark.parametrize(
    ("size", "arguments", "expected"),
    [
        ("320x240", "-profile:v baseline", {"profile": 66, "constrained_baseline": True, "reorder_frames": 0}),
        ("322x182", "-profile:v high -level 3.1", {"profile": 100, "level": 31, "width": 322, "height": 182}),
        ("320x240", "-bf 3", {"profile": 100, "reorder_frames": 2}),
        ("320x240", "-flags +ilme+ildct -x264-params tff=1", {"progressive": False, "height": 240}),
        ("320x240", "-pix_fmt yuv444p", {"profile": 244, "chroma_format": 3, "width": 320}),
        ("320x240", "-pix_fmt yuv420p10le", {"profile": 110, "bit_depth": 10}),
        ("320x240", "-x264-params nal-hrd=cbr -b:v 500k -maxrate 500k -bufsize 500k", {"reorder_frames": 0}),
        ("320x240", "-x264-params cqm=jvt", {"profile": 100, "width": 320}),
        ("320x240", "-x264-params sar=4/3:overscan=show:chromaloc=1:colorprim=bt709", {"reorder_frames": 0}),
    ],
)
def test_parameter_sets_are_understood(size: str, arguments: str, expected: dict[str, object]) -> None:
    sps = parse_sps(sps_nal(clips.h264(size=size, frames=2, arguments=arguments)[0]))
    assert {name: getattr(sps, name) for name in expected} == expected


@pytest.mark.parametrize(
    "arguments",
    ["-bf 3", "-bf 3 -pix_fmt yuv444p", "-x264-params nal-hrd=vbr:bframes=2 -b:v 500k -maxrate 500k -bufsize 500k"],
)
def test_the_rewritten_set_promises_no_reordering_and_changes_nothing_else(arguments: str) -> None:
    unit = clips.h264(frames=2, arguments=arguments)[0]
    nal = sps_nal(unit)
    before = parse_sps(nal)
    rewritten = without_reordering(nal, before)
    after = parse_sps(rewritten)
    assert before.reorder_frames
    assert after.reorder_frames == 0
    assert (after.width, after.height, after.profile, after.reference_frames, after.restriction_at) == (
        before.width,
        before.height,
        before.profile,
        before.reference_frames,
        before.restriction_at,
    )
    assert len(clips.H264.decode([unit.replace(nal, rewritten)])) == 1


def test_a_set_without_usability_information_gets_it() -> None:
    """Some encoders write such sets, and a decoder may then assume the worst."""
    unit = clips.h264(frames=2, arguments="-profile:v main")[0]
    nal = sps_nal(unit)
    # Main profile, level as given, set 0, frame numbers of 4 bits, order type 2, 1 reference, 20 x 15 macroblocks,
    # frames only, no cropping, no usability information, stop bit.
    bits = f"{77:08b}{0:08b}{nal[3]:08b}" + "1" + "1" + "011" + "010" + "0" + "000010100" + "0001111" + "1100" + "1"
    bare = nal[:1] + int(bits + "0" * (-len(bits) % 8), 2).to_bytes(-(-len(bits) // 8))
    sps = parse_sps(bare)
    assert (sps.width, sps.height, sps.has_vui, sps.reorder_frames) == (320, 240, False, None)
    rewritten = without_reordering(bare, sps)
    assert parse_sps(rewritten).reorder_frames == 0
    assert len(clips.H264.decode([unit.replace(nal, rewritten)])) == 1


def test_nal_units_are_cut_at_either_start_code() -> None:
    data = b"\0\0\0\1\x67ab\0\0\1\x68c\0\0\0\1\x65d\0\0"
    assert [data[a:b] for a, b in nal_units(data)] == [b"\x67ab", b"\x68c", b"\x65d"]
    assert list(nal_units(b"")) == []
    assert list(nal_units(b"\0\0\1")) == []


def test_b_slices_are_told_from_others() -> None:
    units = clips.h264(frames=12, arguments="-bf 2 -b_strategy 0")
    seen = [
        parse_slice_start(unit[a:b]).bidirectional
        for unit in units[1:]
        for a, b in nal_units(unit)
        if unit[a] & 0x1F == 1
    ]
    assert True in seen
    assert False in seen


def test_slices_name_a_picture_parameter_set_and_that_names_a_sequence_parameter_set() -> None:
    units = clips.h264(frames=2, arguments="-x264-params sps-id=5")
    nals = {units[0][a] & 0x1F: units[0][a:b] for a, b in nal_units(units[0])}
    assert parse_slice_start(nals[NAL_IDR]).pps == 5
    assert parse_pps(nals[NAL_PPS]) == (5, 5)
    assert parse_sps(nals[NAL_SPS]).id == 5


@pytest.mark.parametrize("nal", ["68 008080", "67 42001f 0420"])
def test_ids_beyond_the_standards_bounds_are_refused(nal: str) -> None:
    """256 for a picture parameter set, 32 for a sequence parameter set."""
    data = bytes.fromhex(nal) + bytes(12)
    with pytest.raises(BitstreamError, match="id"):
        (parse_pps if data[0] == 0x68 else parse_sps)(data)


@given(st.binary(max_size=64))
def test_garbage_is_refused_and_nothing_worse(data: bytes) -> None:
    for read in (parse_sps, parse_pps, parse_slice_start):
        try:
            read(b"\x67" + data)
        except BitstreamError:
            continue


@given(st.binary(max_size=24), st.integers(0, 23))
def test_damaged_parameter_sets_are_parsed_or_refused(noise: bytes, at: int) -> None:
    nal = sps_nal(clips.h264(frames=2)[0])
    damaged = nal[: at + 1] + noise + nal[at + 1 + len(noise) :]
    try:
        sps = parse_sps(damaged)
        parse_sps(without_reordering(damaged, sps))
    except BitstreamError:
        pass


@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_cut_into_ordered_units(data: bytes) -> None:
    ends = [0]
    for start, end in nal_units(data):
        assert ends[-1] <= start < end <= len(data)
        ends.append(end)
