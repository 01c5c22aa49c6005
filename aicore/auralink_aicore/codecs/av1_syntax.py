"""As much of the AV1 bitstream as decides whether and how a stream is served; used by `codecs.av1`.

Reads OBU headers (5.3), the sequence header up to the colours (5.5) and the first bits of a frame header (5.9.2), of
the AV1 Bitstream & Decoding Process Specification.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from auralink_aicore.codecs.bits import Bits
from auralink_aicore.codecs.interface import BitstreamError

OBU_SEQUENCE_HEADER = 1
OBU_FRAME_HEADER = 3
OBU_FRAME = 6
FRAME_HEADERS = (OBU_FRAME_HEADER, OBU_FRAME)

TEMPORAL_DELIMITER = b"\x12\x00"

_KEY_FRAME = 0
_FRAME_START_BYTES = 2
_SEQUENCE_START_BYTES = 512  # as far as we read, with all operating points there can be
_MOST_SIZE_BYTES = 8  # of leb128
_SELECT = 2  # seq_force_screen_content_tools: each frame says
_FIRST_LEVEL_WITH_TIER = 8


@dataclass(frozen=True, slots=True)
class Obu:
    """Where in the data one lies, and what its header says."""

    kind: int
    spatial_id: int
    start: int  # of its payload
    end: int


@dataclass(frozen=True, slots=True)
class Sequence:
    """What we need of a sequence header."""

    profile: int
    high_bit_depth: bool
    monochrome: bool
    width: int  # the largest of its frames
    height: int
    spatial_layers: int  # of the operating point that has most
    reduced: bool  # reduced_still_picture_header


@dataclass(frozen=True, slots=True)
class FrameStart:
    """What we need of a frame header."""

    key: bool
    shown: bool


def obus(data: bytes) -> Iterator[Obu]:
    """The OBUs of a temporal unit; one without a size field goes on to the end. Raises BitstreamError."""
    at = 0
    while at < len(data):
        header = data[at]
        if header & 0x80:
            raise BitstreamError("not an OBU's header")
        at += 1
        spatial_id = 0
        if header & 4:
            if at >= len(data):
                raise BitstreamError("the OBU's header ends early")
            spatial_id = data[at] >> 3 & 3
            at += 1
        end = len(data)
        if header & 2:
            size, at = _leb128(data, at)
            end = at + size
            if end > len(data):
                raise BitstreamError("the OBU ends early")
        yield Obu(header >> 3 & 15, spatial_id, at, end)
        at = end


def parse_frame_start(payload: bytes, *, reduced: bool) -> FrameStart:
    """Of a frame header or frame OBU. Raises BitstreamError."""
    if reduced:
        return FrameStart(key=True, shown=True)
    bits = Bits(payload[:_FRAME_START_BYTES])
    if bits.u(1):  # show_existing_frame
        return FrameStart(key=False, shown=True)
    kind, shown = bits.u(2), bool(bits.u(1))
    return FrameStart(key=kind == _KEY_FRAME, shown=shown)


def parse_sequence(payload: bytes) -> Sequence:
    """Of a sequence header OBU. Raises BitstreamError."""
    bits = Bits(payload[:_SEQUENCE_START_BYTES])
    profile = bits.u(3)
    bits.u(1)  # still_picture
    reduced = bool(bits.u(1))
    spatial_layers = 1
    if reduced:
        bits.u(5)  # seq_level_idx
    else:
        spatial_layers = _operating_points(bits)
    width_bits, height_bits = bits.u(4) + 1, bits.u(4) + 1
    width, height = bits.u(width_bits) + 1, bits.u(height_bits) + 1
    if not reduced and bits.u(1):  # frame_id_numbers_present_flag
        bits.u(7)
    bits.u(3)  # 128x128 blocks, filter intra, intra edge filter
    if not reduced:
        _tools(bits)
    bits.u(3)  # superres, cdef, restoration
    high_bit_depth = bool(bits.u(1))
    if profile == 2 and high_bit_depth:
        bits.u(1)  # twelve_bit
    monochrome = profile != 1 and bool(bits.u(1))
    return Sequence(profile, high_bit_depth, monochrome, width, height, spatial_layers, reduced)


def _operating_points(bits: Bits) -> int:
    """Passes over timing and operating points; the most spatial layers that one of them has."""
    delay_bits = _timing(bits) if bits.u(1) else 0
    display_delays = bits.u(1)
    most = 1
    for _ in range(bits.u(5) + 1):
        layers = bits.u(12) >> 8
        most = max(most, layers.bit_count())
        if bits.u(5) >= _FIRST_LEVEL_WITH_TIER:
            bits.u(1)  # seq_tier
        if delay_bits and bits.u(1):
            bits.u(2 * delay_bits + 1)
        if display_delays and bits.u(1):
            bits.u(4)
    return most


def _timing(bits: Bits) -> int:
    """Bits of a buffer delay, 0 without a decoder model."""
    bits.u(64)  # num_units_in_display_tick, time_scale
    if bits.u(1):
        bits.ue()  # num_ticks_per_picture_minus_1
    if not bits.u(1):
        return 0
    delay_bits = bits.u(5) + 1
    bits.u(32 + 5 + 5)
    return delay_bits


def _tools(bits: Bits) -> None:
    bits.u(4)  # interintra and masked compound, warped motion, dual filter
    order_hints = bits.u(1)
    if order_hints:
        bits.u(2)  # jnt_comp, ref_frame_mvs
    screen_content = _SELECT if bits.u(1) else bits.u(1)
    if screen_content and not bits.u(1):
        bits.u(1)  # seq_force_integer_mv
    if order_hints:
        bits.u(3)


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends)."""
    value = 0
    for index in range(_MOST_SIZE_BYTES):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return value, at
    raise BitstreamError("the OBU's size is none")
