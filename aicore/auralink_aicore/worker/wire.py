"""What front and worker say to each other: length-prefixed records over a stream socket of this machine.

A record is ``<length, kind, session>`` and a body. Only `pool` and `process` speak it, always of one build, so
there is no version in it and the byte order is the machine's.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import IntEnum

from auralink_aicore.codecs import Codec, Limits
from auralink_aicore.controller import Policy
from auralink_aicore.transcoder import Advice, Disposition, Frame, Mode, Result, Session

MAX_RECORD_BYTES = 16 * 1024 * 1024  # a frame of the largest message, doubled by an encoder gone wild

_HEAD = struct.Struct("=IBI")  # length of the whole record, kind, session
_FRAME = struct.Struct("=Q??dd")  # frame id, key, shadow, arrival, deadline
_RESULT = struct.Struct("=QBBHHIBB?IIIH")
_READY = struct.Struct("=d")


class Kind(IntEnum):
    """What a record says."""

    OPEN = 1
    FRAME = 2
    FORCE_KEY = 3
    PROMOTE = 4
    POLICY = 5
    CLOSE = 6
    READY = 7
    RESULT = 8


@dataclass(frozen=True, slots=True)
class Timed:
    """A result, with what it cost."""

    result: Result
    encoder_us: int
    queue_us: int
    pixels: int


def pack(kind: Kind, session: int = 0, body: bytes = b"") -> bytes:
    """One record."""
    return _HEAD.pack(_HEAD.size + len(body), kind, session) + body


class Unpacker:
    """Cuts a byte stream into records."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[tuple[Kind, int, bytes]]:
        """(kind, session, body) of every record now complete. Raises ValueError on an absurd length."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= _HEAD.size:
            length, kind, session = _HEAD.unpack_from(buffer, at)
            if not _HEAD.size <= length <= MAX_RECORD_BYTES:
                raise ValueError(f"record of {length} bytes")
            if len(buffer) - at < length:
                break
            yield Kind(kind), session, bytes(buffer[at + _HEAD.size : at + length])
            at += length
        del buffer[:at]


def pack_session(session: Session) -> bytes:
    """Body of OPEN."""
    return json.dumps(asdict(session)).encode()


def unpack_session(body: bytes) -> Session:
    """Body of OPEN."""
    fields = json.loads(body)
    return Session(
        codec=Codec(fields["codec"]),
        policy=Policy(**fields["policy"]),
        limits=Limits(**fields["limits"]),
        screen=fields["screen"],
    )


def pack_policy(policy: Policy) -> bytes:
    """Body of POLICY."""
    return json.dumps(asdict(policy)).encode()


def unpack_policy(body: bytes) -> Policy:
    """Body of POLICY."""
    return Policy(**json.loads(body))


def pack_frame(frame: Frame) -> bytes:
    """Body of FRAME; both times are of the machine's monotonic clock."""
    shadow = frame.mode is Mode.SHADOW
    return _FRAME.pack(frame.frame_id, frame.key, shadow, frame.arrived_s, frame.deadline_s) + frame.payload


def unpack_frame(body: bytes) -> Frame:
    """Body of FRAME."""
    frame_id, key, shadow, arrived_s, deadline_s = _FRAME.unpack_from(body)
    mode = Mode.SHADOW if shadow else Mode.COMPRESS
    return Frame(frame_id, body[_FRAME.size :], key, mode, arrived_s, deadline_s)


def pack_result(timed: Timed) -> bytes:
    """Body of RESULT."""
    result = timed.result
    reason = result.reason.encode()[:1000]
    head = _RESULT.pack(
        result.frame_id,
        result.disposition,
        result.key,
        result.ratio,
        result.quality,
        result.model_hash,
        result.flags,
        result.advice,
        result.need_key,
        timed.encoder_us,
        timed.queue_us,
        timed.pixels,
        len(reason),
    )
    return head + reason + result.payload


def unpack_result(body: bytes) -> Timed:
    """Body of RESULT."""
    (frame_id, disposition, key, ratio, quality, hash_, flags, advice, need_key, encoder_us, queue_us, pixels, size) = (
        _RESULT.unpack_from(body)
    )
    start = _RESULT.size
    result = Result(
        frame_id=frame_id,
        disposition=Disposition(disposition),
        payload=body[start + size :],
        key=bool(key),
        ratio=ratio,
        quality=quality,
        model_hash=hash_,
        flags=flags,
        advice=Advice(advice),
        reason=body[start : start + size].decode(errors="replace"),
        need_key=need_key,
    )
    return Timed(result, encoder_us, queue_us, pixels)


def pack_ready(calibration_ms: float) -> bytes:
    """Body of READY: what a reference picture costs here; 0 when it was not measured."""
    return _READY.pack(calibration_ms)


def unpack_ready(body: bytes) -> float:
    """Body of READY."""
    (calibration_ms,) = _READY.unpack(body)
    return float(calibration_ms)
