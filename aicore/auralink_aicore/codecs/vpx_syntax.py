"""As much of VP8 and VP9 as decides whether and how a stream is served; used by `codecs.vpx`.

VP8: the frame tag, a key's start code and size (RFC 6386, 9.1), and the base quantiser (9.6). VP9: the frames of a
superframe (bitstream specification, annex B) and the first fields of an uncompressed header (6.2), as far as the
picture's size.
"""

from dataclasses import dataclass

from auralink_aicore.codecs.bits import Bits
from auralink_aicore.codecs.interface import BitstreamError

_VP8_START_CODE = b"\x9d\x01\x2a"
_VP8_TAG = 3  # bytes, of an inter frame all that is not coded
_VP8_KEY_HEADER = 10
_VP8_FIELDS_BYTES = 64  # of the first partition, more than stands before what is read of it
_SIZE_BITS = 0x3FFF  # the two above are a scale for the screen

_VP9_FRAME_MARKER = 2
_VP9_SYNC_CODE = 0x498342
_VP9_RGB = 7
_VP9_HEADER_BYTES = 32  # more than all that is read
REFERENCE_SLOTS = 8


@dataclass(frozen=True, slots=True)
class Vp8Frame:
    """What we need of a VP8 frame's header."""

    key: bool
    size: tuple[int, int] | None  # (width, height) of a key
    base_q: int = 0  # y_ac_qi, 0..127


@dataclass(frozen=True, slots=True)
class Vp9Frame:
    """What we need of a VP9 frame's header. Of a profile above 0 only `profile` and `key` are read."""

    profile: int
    key: bool
    shown: bool
    size: tuple[int, int] | None = None  # (width, height) where the header says it
    size_of: int | None = None  # else the reference slot that it is taken from
    refreshes: int = 0  # a bit per reference slot that holds this frame from now on


def parse_vp8(data: bytes) -> Vp8Frame:
    """Raises BitstreamError."""
    if len(data) <= _VP8_TAG:
        raise BitstreamError("the frame ends in its header")
    tag = int.from_bytes(data[:_VP8_TAG], "little")
    key = not tag & 1
    header = _VP8_KEY_HEADER if key else _VP8_TAG
    if (tag >> 5) > len(data) - header:
        raise BitstreamError("the frame ends in its first partition")
    if not key:
        return Vp8Frame(key, None, _vp8_base_q(data[header:], key=False))
    if data[3:6] != _VP8_START_CODE:
        raise BitstreamError("a key without its start code")
    width, height = (int.from_bytes(data[at : at + 2], "little") & _SIZE_BITS for at in (6, 8))
    if not width or not height:
        raise BitstreamError("a key without a size")
    return Vp8Frame(key, (width, height), _vp8_base_q(data[header:], key=True))


class _EvenBools:
    """VP8's arithmetic decoder (7.3) for symbols that are as often 0 as 1; past the end there are zeros."""

    def __init__(self, data: bytes) -> None:
        self._bytes = iter(data[:_VP8_FIELDS_BYTES])
        self._value = next(self._bytes, 0) << 8 | next(self._bytes, 0)
        self._range, self._shifted = 255, 0

    def u(self, bits: int) -> int:
        """An unsigned number, the highest bit first."""
        number = 0
        for _ in range(bits):
            number = number << 1 | self._bool()
        return number

    def optional(self, bits: int) -> None:
        """A flag, and if it is set a number and its sign."""
        if self.u(1):
            self.u(bits + 1)

    def _bool(self) -> int:
        split = 1 + (self._range - 1 >> 1)
        found = self._value >= split << 8
        if found:
            self._range -= split
            self._value -= split << 8
        else:
            self._range = split
        while self._range < 128:
            self._range <<= 1
            self._value <<= 1
            self._shifted += 1
            if self._shifted == 8:
                self._shifted = 0
                self._value |= next(self._bytes, 0)
        return int(found)


def _vp8_base_q(partition: bytes, *, key: bool) -> int:
    """y_ac_qi, behind all that stands before it in the first partition (19.2)."""
    bools = _EvenBools(partition)
    if key:
        bools.u(2)  # color_space, clamping_type
    if bools.u(1):  # segmentation_enabled
        new_map, new_data = bools.u(1), bools.u(1)
        if new_data:
            bools.u(1)  # segment_feature_mode
            for bits in (7, 7, 7, 7, 6, 6, 6, 6):
                bools.optional(bits)
        for _ in range(3 if new_map else 0):
            if bools.u(1):
                bools.u(8)
    bools.u(10)  # filter_type, loop_filter_level, sharpness_level
    if bools.u(1) and bools.u(1):  # loop_filter_adj_enable, mode_ref_lf_delta_update
        for _ in range(8):
            bools.optional(6)
    bools.u(2)  # log2_nbr_of_dct_partitions
    return bools.u(7)


def superframe(data: bytes) -> tuple[bytes, ...]:
    """The frames of a superframe, by the index at its end; without one all is one frame. Raises BitstreamError."""
    if not data:
        raise BitstreamError("an empty frame")
    marker = data[-1]
    if marker & 0xE0 != 0xC0:
        return (data,)
    frames, octets = (marker & 7) + 1, (marker >> 3 & 3) + 1
    index = 2 + frames * octets
    if len(data) < index or data[-index] != marker:
        return (data,)
    parts, at = [], 0
    for number in range(frames):
        size_at = len(data) - index + 1 + number * octets
        size = int.from_bytes(data[size_at : size_at + octets], "little")
        if not size or at + size > len(data) - index:
            raise BitstreamError("a superframe's index does not match its frames")
        parts.append(data[at : at + size])
        at += size
    return tuple(parts)


def parse_vp9(data: bytes) -> Vp9Frame:
    """Of one frame, as `superframe` gives it. Raises BitstreamError."""
    bits = Bits(data[:_VP9_HEADER_BYTES])
    if bits.u(2) != _VP9_FRAME_MARKER:
        raise BitstreamError("no VP9 frame")
    profile = bits.u(1) | bits.u(1) << 1
    if profile == 3:
        bits.u(1)  # reserved
    if bits.u(1):  # show_existing_frame
        return Vp9Frame(profile, key=False, shown=True, size_of=bits.u(3))
    key, shown, resilient = not bits.u(1), bool(bits.u(1)), bits.u(1)
    if profile:
        return Vp9Frame(profile, key, shown)
    if key:
        _sync_code(bits)
        _colour(bits)
        return Vp9Frame(profile, key, shown, size=_size(bits), refreshes=(1 << REFERENCE_SLOTS) - 1)
    intra_only = not shown and bits.u(1)
    if not resilient:
        bits.u(2)  # reset_frame_context
    if intra_only:
        _sync_code(bits)
        refreshes = bits.u(REFERENCE_SLOTS)
        return Vp9Frame(profile, key, shown, size=_size(bits), refreshes=refreshes)
    refreshes = bits.u(REFERENCE_SLOTS)
    slots = [bits.u(4) >> 1 for _ in range(3)]  # the last bit is a sign bias
    for slot in slots:
        if bits.u(1):  # found_ref
            return Vp9Frame(profile, key, shown, size_of=slot, refreshes=refreshes)
    return Vp9Frame(profile, key, shown, size=_size(bits), refreshes=refreshes)


def _sync_code(bits: Bits) -> None:
    if bits.u(24) != _VP9_SYNC_CODE:
        raise BitstreamError("an intra frame without its sync code")


def _colour(bits: Bits) -> None:
    if bits.u(3) == _VP9_RGB:
        raise BitstreamError("RGB in profile 0")
    bits.u(1)  # color_range


def _size(bits: Bits) -> tuple[int, int]:
    return bits.u(16) + 1, bits.u(16) + 1
