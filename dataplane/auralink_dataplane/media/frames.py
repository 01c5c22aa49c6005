"""Values that travel between packet core, pipeline and AI Core: frames, answers to them, the 16-byte extension.

Everything in `media` speaks these types; only `packets` knows the crate's and only `aic` the wire's.
"""

import struct
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final


class Mode(IntEnum):
    """What the packet core does with a stream's frames; the numbers are the crate's."""

    BYPASS = 0
    COMPRESS = 1
    SHADOW = 2


@dataclass(frozen=True, slots=True)
class Frame:
    """One access unit. Instants are seconds of CLOCK_MONOTONIC; `data` of H.264 is Annex B, SPS and PPS before keys."""

    stream: int
    frame_id: int
    mode: Mode
    codec: str
    rtp_ts: int
    key: bool
    t_first: float
    t_complete: float
    native_bytes: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamStarted:
    leg: int
    stream: int
    ssrc: int
    codec: str
    media: str


@dataclass(frozen=True, slots=True)
class StreamEnded:
    stream: int
    reason: str


@dataclass(frozen=True, slots=True)
class StreamFailed:
    stream: int
    reason: str


@dataclass(frozen=True, slots=True)
class ModeApplied:
    stream: int
    mode: Mode
    frame_id: int


@dataclass(frozen=True, slots=True)
class KeyWanted:
    """A receiver of the stream cannot go on without a key: it asked for one, or its out was linked mid-stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class LegFailed:
    leg: int
    reason: str


@dataclass(frozen=True, slots=True)
class FrameSent:
    stream: int
    frame_id: int
    t_sent: float
    packets: int


Event = StreamStarted | StreamEnded | StreamFailed | ModeApplied | KeyWanted | LegFailed | FrameSent


class Disposition(Enum):
    COMPRESSED = "compressed"
    UNCHANGED = "unchanged"  # send the native bytes
    SKIPPED = "skipped"  # nothing goes out for this picture
    FAILED = "failed"


class Advice(Enum):
    KEEP = "keep"
    COMPRESS = "compress"
    NATIVE = "native"


@dataclass(frozen=True, slots=True)
class Result:
    """The AI Core's answer to one frame; `ratio`, `quality`, `model_hash`, `flags` in the extension's scales."""

    frame_id: int
    disposition: Disposition
    payload: bytes = b""
    key: bool = False
    ratio: int = 0
    quality: int = 0
    model_hash: int = 0
    flags: int = 0
    encoder_us: int = 0
    queue_us: int = 0
    advice: Advice = Advice.KEEP
    reason: str = ""
    need_key: bool = False


EXTENSION_BYTES_ON_WIRE: Final = 24
"""RFC 8285 one-byte form: 4 of header, 1 of id and length, ours, 3 of padding."""

FLAG_KEY: Final = 0x02
_FROM_THE_CORE: Final = 0x7A  # the packet core owns 0x01 (native bytes) and 0x04 (first after a switch); 0x80 is zero
_LAYOUT: Final = struct.Struct(">BHHIB6x")
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Extension:
    """The 16 bytes on a frame's first packet, network byte order:

    0        version, 1
    1-2      1000 x share of bytes saved over the last second, 0..1000
    3-4      1000 x (1 - predicted VMAF loss / 100), 65535 unknown
    5-8      Java hashCode of the model's id, 0 none
    9        flags
    10-15    zero
    """

    ratio: int
    quality: int
    model_hash: int
    flags: int

    def pack(self) -> bytes:
        return _LAYOUT.pack(
            _VERSION, min(self.ratio, 1000), min(self.quality, 0xFFFF), self.model_hash & 0xFFFFFFFF, self.flags & 0x7F
        )

    @classmethod
    def unpack(cls, data: bytes) -> "Extension | None":
        """None where it is not ours: another length or version."""
        if len(data) != _LAYOUT.size:
            return None
        version, ratio, quality, model_hash, flags = _LAYOUT.unpack(data)
        return cls(ratio, quality, model_hash, flags) if version == _VERSION else None

    @classmethod
    def of(cls, result: Result) -> "Extension":
        flags = result.flags & _FROM_THE_CORE & ~FLAG_KEY
        return cls(result.ratio, result.quality, result.model_hash, flags | (FLAG_KEY if result.key else 0))


def model_hash(model_id: str) -> int:
    """h = 31 h + byte, mod 2^32."""
    value = 0
    for byte in model_id.encode():
        value = (31 * value + byte) & 0xFFFFFFFF
    return value


class _Bits:
    """Reads an RBSP (H.264 clause 7.3): emulation prevention is taken out first."""

    def __init__(self, nal: bytes) -> None:
        self._data = nal.replace(b"\x00\x00\x03", b"\x00\x00")
        self._at = 0

    def u(self, count: int) -> int:
        value = 0
        for _ in range(count):
            byte = self._data[self._at >> 3]
            value = value << 1 | byte >> (7 - (self._at & 7)) & 1
            self._at += 1
        return value

    def ue(self) -> int:
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > 31:
                raise ValueError("no Exp-Golomb code")
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def may_reorder(access_unit: bytes) -> bool:
    """Whether an H.264 key's SPS lets pictures be shown in another order than they are sent (B-frames). An SPS that is
    missing or cannot be read counts as one that does."""
    at = access_unit.find(b"\x00\x00\x01")
    while 0 <= at < len(access_unit) - 4:
        if access_unit[at + 3] & 0x1F == 7:
            end = access_unit.find(b"\x00\x00\x01", at + 4)
            try:
                return _sps_reorders(_Bits(access_unit[at + 4 : end if end > 0 else None]))
            except (IndexError, ValueError):
                return True
        at = access_unit.find(b"\x00\x00\x01", at + 3)
    return True


_HIGH_PROFILES: Final = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})


def _sps_reorders(bits: _Bits) -> bool:
    """H.264 7.3.2.1.1 up to the bitstream restriction of its VUI (E.1.1)."""
    profile = bits.u(8)
    bits.u(16)
    bits.ue()
    if profile == 66:
        return False  # baseline has no B slices
    if profile in _HIGH_PROFILES:
        _skip_high_profile_fields(bits)
    bits.ue()  # log2_max_frame_num_minus4
    order_type = bits.ue()
    if order_type == 2:
        return False  # output order is decoding order
    if order_type == 0:
        bits.ue()
    else:
        bits.u(1), bits.se(), bits.se()
        for _ in range(bits.ue()):
            bits.se()
    bits.ue()  # max_num_ref_frames
    bits.u(1), bits.ue(), bits.ue()
    if not bits.u(1):  # frame_mbs_only
        bits.u(1)
    bits.u(1)
    if bits.u(1):  # cropping
        bits.ue(), bits.ue(), bits.ue(), bits.ue()
    return not bits.u(1) or _vui_reorders(bits)


def _skip_high_profile_fields(bits: _Bits) -> None:
    if bits.ue() == 3:  # chroma_format_idc
        bits.u(1)
    bits.ue(), bits.ue(), bits.u(1)
    if bits.u(1):
        raise ValueError("scaling lists are not read")


def _vui_reorders(bits: _Bits) -> bool:
    if bits.u(1) and bits.u(8) == 255:  # aspect ratio
        bits.u(32)
    if bits.u(1):  # overscan
        bits.u(1)
    if bits.u(1):  # video signal type
        bits.u(4)
        if bits.u(1):
            bits.u(24)
    if bits.u(1):  # chroma location
        bits.ue(), bits.ue()
    if bits.u(1):  # timing
        bits.u(32), bits.u(32), bits.u(1)
    hypothetical_decoders = 0
    for _ in range(2):  # NAL, then VCL
        if bits.u(1):
            hypothetical_decoders += 1
            count = bits.ue() + 1
            bits.u(8)
            for _ in range(count):
                bits.ue(), bits.ue(), bits.u(1)
            bits.u(20)
    if hypothetical_decoders:
        bits.u(1)
    bits.u(1)  # pic_struct_present
    if not bits.u(1):  # bitstream_restriction
        return True
    bits.u(1), bits.ue(), bits.ue(), bits.ue(), bits.ue()
    return bits.ue() > 0  # max_num_reorder_frames
