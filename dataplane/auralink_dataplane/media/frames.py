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
    may_reorder: bool  # the sender may show pictures in another order (B-frames)
    native_bytes: int  # RTP payload that it came in
    data: bytes
    tid: int = 0  # the highest temporal and spatial layer in it, 0 the lowest or unknown
    sid: int = 0


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
    payload_bytes: int  # RTP payload, all outs
    packets: int


@dataclass(frozen=True, slots=True)
class SubmitRefused:
    """An answer did not leave; `native`: it was the frame as it came."""

    stream: int
    frame_id: int
    native: bool
    reason: str


Event = StreamStarted | StreamEnded | StreamFailed | ModeApplied | KeyWanted | LegFailed | FrameSent | SubmitRefused


class Disposition(Enum):
    COMPRESSED = "compressed"
    UNCHANGED = "unchanged"  # send the native bytes
    SKIPPED = "skipped"  # nothing goes out for this picture
    FAILED = "failed"


class Advice(Enum):
    KEEP = "keep"
    COMPRESS = "compress"
    NATIVE = "native"


class AskReason(Enum):
    """Why the sender should be asked for less."""

    CODEC = "codec"  # it loses less by a lower rate at the sender than by recompression
    UNSERVED = "unserved"  # the AI Core has not the time for it, or it has B-frames
    LAVISH = "lavish"  # far more bits per pixel than a picture needs
    PATH = "path"  # the way to the receivers carries less
    OTHER = "other"  # a newer AI Core's


@dataclass(frozen=True, slots=True)
class Ask:
    """The AI Core's wish that the sender spend less."""

    bps: int
    reason: AskReason


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
    ask: Ask | None = None


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
    def of(cls, result: Result) -> "Extension":
        flags = result.flags & _FROM_THE_CORE & ~FLAG_KEY
        return cls(result.ratio, result.quality, result.model_hash, flags | (FLAG_KEY if result.key else 0))
