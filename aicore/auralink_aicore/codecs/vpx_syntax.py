"""As much of VP8 and VP9 as decides whether and how a stream is served; used by `codecs.vpx`.

VP8: the frame tag and a key's start code and size (RFC 6386, 9.1). VP9: the frames of a superframe (bitstream
specification, annex B) and the first fields of an uncompressed header (6.2), as far as the picture's size.
"""

from dataclasses import dataclass

from auralink_aicore.codecs.bits import Bits
from auralink_aicore.codecs.interface import BitstreamError

_VP8_START_CODE = b"\x9d\x01\x2a"
_VP8_TAG = 3  # bytes, of an inter frame all that is not coded
_VP8_KEY_HEADER = 10
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
        return Vp8Frame(key, None)
    if data[3:6] != _VP8_START_CODE:
        raise BitstreamError("a key without its start code")
    width, height = (int.from_bytes(data[at : at + 2], "little") & _SIZE_BITS for at in (6, 8))
    if not width or not height:
        raise BitstreamError("a key without a size")
    return Vp8Frame(key, (width, height))


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
