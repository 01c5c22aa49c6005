"""A sender's stream as the bridge hands it to an AI Core, a payload for each picture; and back into a file.

H.264 and H.265: Annex B access units, parameter sets before every key. VP8 and VP9: the bare frame. AV1: OBUs with size
fields, no temporal delimiter. Files are what FFmpeg's muxers of these names write: Annex B as it is, the rest as IVF.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

SUFFIXES = {"H264": "h264", "H265": "hevc", "VP8": "ivf", "VP9": "ivf", "AV1": "ivf"}

_FOURCC = {"VP8": b"VP80", "VP9": b"VP90", "AV1": b"AV01"}
# Signature, version, length of this header; codec, width, height; rate and scale of the frames' times; frames.
_IVF_HEAD = struct.Struct("<4sHH4sHHIII4x")
_IVF_FRAME = struct.Struct("<IQ")  # bytes, time

_OBU_SEQUENCE_HEADER, _OBU_TEMPORAL_DELIMITER = 1, 2
_EMPTY_DELIMITER = b"\x12\x00"


@dataclass(frozen=True, slots=True)
class Unit:
    payload: bytes
    key: bool


def cut(path: Path, codec: str) -> list[Unit]:
    """Every picture of a file that `hack.lab.sender` made. Raises ValueError where it is none of that codec."""
    if codec in _FOURCC:
        frames = _ivf_frames(path.read_bytes(), _FOURCC[codec])
        if codec == "AV1":
            frames = (_without_delimiter(frame) for frame in frames)
        is_key = {"VP8": _is_vp8_key, "VP9": _is_vp9_key, "AV1": _is_av1_key}[codec]
        return [Unit(frame, is_key(frame)) for frame in frames]
    with av.open(str(path), format=SUFFIXES[codec]) as container:
        return [Unit(bytes(packet), packet.is_keyframe) for packet in container.demux(video=0) if packet.size]


def join(path: Path, codec: str, payloads: Sequence[bytes], size: tuple[int, int], fps: Fraction) -> Path:
    """Write payloads as a file that FFmpeg plays; its name ends as SUFFIXES has it."""
    if codec not in _FOURCC:
        path.write_bytes(b"".join(payloads))
        return path
    before = _EMPTY_DELIMITER if codec == "AV1" else b""
    with path.open("wb") as out:
        times = (fps.numerator, fps.denominator)
        out.write(_IVF_HEAD.pack(b"DKIF", 0, _IVF_HEAD.size, _FOURCC[codec], *size, *times, len(payloads)))
        for number, payload in enumerate(payloads):
            out.write(_IVF_FRAME.pack(len(before) + len(payload), number) + before + payload)
    return path


def _ivf_frames(data: bytes, fourcc: bytes) -> Iterator[bytes]:
    signature, _, at, found, *_ = _IVF_HEAD.unpack_from(data)
    if signature != b"DKIF" or found != fourcc:
        raise ValueError(f"an IVF file of {fourcc!r} was expected, not of {found!r}")
    while at < len(data):
        length, _ = _IVF_FRAME.unpack_from(data, at)
        at += _IVF_FRAME.size
        yield data[at : at + length]
        at += length


def _is_vp8_key(frame: bytes) -> bool:
    """RFC 6386 section 9.1: bit 0 of the frame tag is 0."""
    return frame[0] & 1 == 0


def _is_vp9_key(frame: bytes) -> bool:
    """Uncompressed header: frame_marker 2, profile (below 3), show_existing_frame 0, frame_type 0."""
    return frame[0] & 0b1100_1100 == 0b1000_0000


def _is_av1_key(payload: bytes) -> bool:
    """libaom repeats the sequence header before every key and nowhere else."""
    return any(kind == _OBU_SEQUENCE_HEADER for kind, _ in _obus(payload))


def _without_delimiter(payload: bytes) -> bytes:
    return b"".join(obu for kind, obu in _obus(payload) if kind != _OBU_TEMPORAL_DELIMITER)


def _obus(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, whole OBU) by AV1 section 5.3: type 4 bits, extension flag, has_size_field; then the size as leb128."""
    at = 0
    while at < len(payload):
        head = payload[at]
        if not head & 0b10:
            raise ValueError("an OBU without a size field")
        size_at = at + (2 if head & 0b100 else 1)
        size, body = _leb128(payload, size_at)
        yield (head >> 3) & 0b1111, payload[at : body + size]
        at = body + size


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """Value, and where it ends."""
    value = 0
    for number in range(8):
        value |= (data[at + number] & 0x7F) << (7 * number)
        if not data[at + number] & 0x80:
            return value, at + number + 1
    raise ValueError("a size of more than eight bytes")
