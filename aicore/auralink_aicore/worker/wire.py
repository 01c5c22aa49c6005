"""What front and worker say to each other: length-prefixed records over a stream socket of this machine.

A record is ``<length, kind, session>`` and a body. Only `pool` and `process` speak it, always of one build, so
there is no version in it and the byte order is the machine's.
"""

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import IntEnum

from auralink_aicore.asking import Ask, AskReason
from auralink_aicore.codecs import Codec, Limits
from auralink_aicore.controller import Policy
from auralink_aicore.model import Model, read
from auralink_aicore.transcoder import Advice, Disposition, Frame, Mode, Report, Result, Session

MAX_RECORD_BYTES = 16 * 1024 * 1024  # a frame of the largest message, doubled by an encoder gone wild

_HEAD = struct.Struct("=IBI")  # length of the whole record, kind, session
_FRAME = struct.Struct("=Q??dd")  # frame id, key, shadow, arrival, deadline
_RESULT = struct.Struct("=QBBHHIBB?IIIH?IBd")  # the last is PSNR, NaN for none
_READY = struct.Struct("=d")
_SHARE = struct.Struct("=d")  # NaN for none
_REPORT = struct.Struct("=dddH")  # source rate, T, L, candidates; then two arrays of them


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
    SHARE = 9
    REPORT = 10
    MODEL = 11


@dataclass(frozen=True, slots=True)
class Opening:
    """What a worker is told of a session."""

    session: Session
    host_factor: float = 1.0
    reports: bool = False  # whether a room's allocation wants to hear of it


@dataclass(frozen=True, slots=True)
class Timed:
    """A result, with what it cost."""

    result: Result
    encoder_us: int
    queue_us: int
    pixels: int
    refused: bool = False  # nothing of the session is decoded, see Transcoder.refused


def pack(kind: Kind, session: int = 0, *parts: bytes) -> bytes:
    """One record; its body is the parts one after the other."""
    return b"".join((_HEAD.pack(_HEAD.size + sum(map(len, parts)), kind, session), *parts))


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


def pack_opening(opening: Opening) -> bytes:
    """Body of OPEN."""
    return json.dumps(asdict(opening)).encode()


def unpack_opening(body: bytes) -> Opening:
    """Body of OPEN."""
    fields = json.loads(body)
    session = fields.pop("session")
    return Opening(
        session=Session(
            codec=Codec(session["codec"]),
            policy=Policy(**session["policy"]),
            limits=Limits(**session["limits"]),
            screen=session["screen"],
        ),
        **fields,
    )


def pack_policy(policy: Policy) -> bytes:
    """Body of POLICY."""
    return json.dumps(asdict(policy)).encode()


def unpack_policy(body: bytes) -> Policy:
    """Body of POLICY."""
    return Policy(**json.loads(body))


def frame_head(frame: Frame) -> bytes:
    """Body of FRAME up to the payload; both times are of the machine's monotonic clock."""
    shadow = frame.mode is Mode.SHADOW
    return _FRAME.pack(frame.frame_id, frame.key, shadow, frame.arrived_s, frame.deadline_s)


def unpack_frame(body: bytes) -> Frame:
    """Body of FRAME."""
    frame_id, key, shadow, arrived_s, deadline_s = _FRAME.unpack_from(body)
    mode = Mode.SHADOW if shadow else Mode.COMPRESS
    return Frame(frame_id, body[_FRAME.size :], key, mode, arrived_s, deadline_s)


def result_head(timed: Timed) -> bytes:
    """Body of RESULT up to the payload."""
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
        timed.refused,
        min(result.ask.bps, 0xFFFFFFFF),
        result.ask.reason,
        math.nan if result.psnr_db is None else result.psnr_db,
    )
    return head + reason


def unpack_result(body: bytes) -> Timed:
    """Body of RESULT."""
    (frame_id, disposition, key, ratio, quality, hash_, flags, advice, need_key, *rest) = _RESULT.unpack_from(body)
    encoder_us, queue_us, pixels, size, refused, ask_bps, ask_reason, psnr_db = rest
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
        ask=Ask(ask_bps, AskReason(ask_reason)),
        psnr_db=None if math.isnan(psnr_db) else psnr_db,
    )
    return Timed(result, encoder_us, queue_us, pixels, refused)


def pack_ready(calibration_ms: float) -> bytes:
    """Body of READY: what a reference picture costs here; 0 when it was not measured."""
    return _READY.pack(calibration_ms)


def unpack_ready(body: bytes) -> float:
    """Body of READY."""
    (calibration_ms,) = _READY.unpack(body)
    return float(calibration_ms)


def pack_model(model: Model) -> bytes:
    """Body of MODEL: the file's name without its suffix, and its bytes."""
    return model.id.encode() + b"\0" + model.data


def unpack_model(body: bytes) -> Model:
    """Body of MODEL. Raises BadModelError."""
    stem, _, data = body.partition(b"\0")
    return read(f"{stem.decode()}.json", data)


def pack_share(target: float | None) -> bytes:
    """Body of SHARE: T by the room's allocation, None for the policy's own."""
    return _SHARE.pack(math.nan if target is None else target)


def unpack_share(body: bytes) -> float | None:
    """Body of SHARE."""
    (target,) = _SHARE.unpack(body)
    return None if math.isnan(target) else float(target)


def pack_report(report: Report) -> bytes:
    """Body of REPORT."""
    n = len(report.ln_bytes)
    head = _REPORT.pack(report.source_rate, report.target, report.allowed_loss, n)
    return head + struct.pack(f"={2 * n}d", *report.ln_bytes, *report.loss)


def unpack_report(body: bytes) -> Report:
    """Body of REPORT."""
    source_rate, target, allowed_loss, n = _REPORT.unpack_from(body)
    curves = struct.unpack_from(f"={2 * n}d", body, _REPORT.size)
    return Report(source_rate, target, allowed_loss, curves[:n], curves[n:])
