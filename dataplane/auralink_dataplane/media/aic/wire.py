"""gRPC and the messages of the contract. The only module that knows either: the others say and hear values."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, Self, TypeAlias

import grpc
from auralink_pb.aicore.v1 import aicore_pb2 as pb
from auralink_pb.aicore.v1 import aicore_pb2_grpc as rpc

from auralink_dataplane.media.frames import Advice, Ask, AskReason, Disposition, Frame, Mode, Result
from auralink_dataplane.media.h264 import ANYTHING, Ceiling
from auralink_dataplane.policy import Compression

PROTOCOL_MINOR: Final = 0
CAPABILITIES_TIMEOUT_S: Final = 2.0

Channel: TypeAlias = grpc.aio.Channel
Message: TypeAlias = pb.ClientMessage
"""What a session says."""

_CODECS: Final = {
    "H264": pb.CODEC_H264,
    "H265": pb.CODEC_H265,
    "VP8": pb.CODEC_VP8,
    "VP9": pb.CODEC_VP9,
    "AV1": pb.CODEC_AV1,
}
_DISPOSITIONS: Final = {
    pb.DISPOSITION_COMPRESSED: Disposition.COMPRESSED,
    pb.DISPOSITION_UNCHANGED: Disposition.UNCHANGED,
    pb.DISPOSITION_SKIPPED: Disposition.SKIPPED,
    pb.DISPOSITION_FAILED: Disposition.FAILED,
}
_ADVICE: Final = {pb.ADVICE_COMPRESS: Advice.COMPRESS, pb.ADVICE_NATIVE: Advice.NATIVE}
_ASK_REASONS: Final = {
    pb.ASK_REASON_CODEC: AskReason.CODEC,
    pb.ASK_REASON_UNSERVED: AskReason.UNSERVED,
    pb.ASK_REASON_LAVISH: AskReason.LAVISH,
    pb.ASK_REASON_PATH: AskReason.PATH,
}
_MODES: Final = {Mode.COMPRESS: pb.MODE_COMPRESS, Mode.SHADOW: pb.MODE_SHADOW}
_OPTIONS: Final = [
    ("grpc.max_send_message_length", 8 << 20),
    ("grpc.max_receive_message_length", 8 << 20),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 10_000),
    ("grpc.use_local_subchannel_pool", 1),  # endpoints do not share a connection's fate, nor its backoff
    ("grpc.enable_retries", 0),
]


@dataclass(frozen=True, slots=True)
class Identity:
    bridge_id: str
    pod: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """PEM; the client's certificate and key only where the AI Core asks for them."""

    ca: bytes
    certificate: bytes | None = None
    key: bytes | None = None


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """`name` is the same for every session of a stream; `number` tells them apart."""

    name: str
    number: int
    room: str
    codec: str
    clock_rate: int
    policy: Compression
    ceiling: Ceiling = ANYTHING
    """The most that its receivers decode."""


class CallError(Exception):
    """The server gave up a call, or the way to it broke."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        super().__init__(str(error))
        self.code = error.code().name
        self.detail = error.details()
        self.unreachable = error.code() is grpc.StatusCode.UNAVAILABLE


# --- what a session says -------------------------------------------------------------------------------------


def open_message(identity: Identity, request: SessionRequest, mode: Mode) -> Message:
    """`mode`: of its first frames; the AI Core keeps less room for a session that begins decode-only."""
    return pb.ClientMessage(
        open=pb.SessionOpen(
            session_id=f"{identity.pod}/{request.name}/{request.number}",
            codec=_CODECS.get(request.codec, pb.CODEC_UNSPECIFIED),
            clock_rate=request.clock_rate,
            policy=_policy(request.policy),
            group_id=request.room,
            max_profile=pb.H264Profile.ValueType(request.ceiling.profile),
            max_level=request.ceiling.level,
            content=pb.CONTENT_CAMERA,  # plain RTP carries no signalling that could say otherwise
            protocol_minor=PROTOCOL_MINOR,
            mode=_MODES[mode],
        )
    )


def frame_message(frame: Frame, mode: Mode, deadline_ms: int) -> Message:
    return pb.ClientMessage(
        frame=pb.Frame(
            frame_id=frame.frame_id,
            rtp_timestamp=frame.rtp_ts & 0xFFFFFFFF,
            key=frame.key,
            payload=frame.data,
            deadline_ms=deadline_ms,
            mode=_MODES[mode],
        )
    )


def force_key_message() -> Message:
    return pb.ClientMessage(control=pb.Control(force_key=pb.ForceKey()))


def promote_message() -> Message:
    return pb.ClientMessage(control=pb.Control(promote=pb.Promote()))


def policy_message(policy: Compression) -> Message:
    return pb.ClientMessage(control=pb.Control(policy=_policy(policy)))


def end_message() -> Message:
    return pb.ClientMessage(control=pb.Control(end=pb.End()))


def _policy(policy: Compression) -> pb.Policy:
    return pb.Policy(
        target_savings=policy.target_savings_percent / 100,
        min_savings=policy.min_savings_percent / 100,
        quality_level=policy.quality_level,
        quality_floor=policy.quality_floor,
        latency_budget_ms=policy.latency_budget_ms,
        model=policy.model,
        always=policy.mode == "Always",
    )


# --- what a session hears ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    model: str
    max_in_flight: int


@dataclass(frozen=True, slots=True)
class Refused:
    full: bool
    """Else this kind of stream is not served."""
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    result: Result
    failed: bool
    """By the AI Core's own word. A disposition that we do not know is a failure of ours to understand."""


class NoticeKind(Enum):
    DRAINING = "draining"
    SHED = "shed"
    LOST = "lost"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Notice:
    kind: NoticeKind
    detail: str


Heard = Opened | Refused | Answer | Notice | None
"""None: nothing that the contract knows."""

_NOTICES: Final = {
    pb.Notice.KIND_DRAINING: NoticeKind.DRAINING,
    pb.Notice.KIND_SHED: NoticeKind.SHED,
    pb.Notice.KIND_LOST: NoticeKind.LOST,
}


def _heard(message: pb.ServerMessage | None) -> Heard:
    """`message` None: gRPC's word for bytes that are no message."""
    if message is None:
        return None
    match message.WhichOneof("message"):
        case "result":
            return Answer(_result(message.result), failed=message.result.disposition == pb.DISPOSITION_FAILED)
        case "opened":
            opened = message.opened
            if opened.status == pb.SessionOpened.STATUS_OK:
                return Opened(opened.model, opened.max_in_flight)
            return Refused(opened.status == pb.SessionOpened.STATUS_FULL, opened.reason)
        case "notice":
            return Notice(_NOTICES.get(message.notice.kind, NoticeKind.OTHER), message.notice.detail)
        case _:
            return None


def _result(answer: pb.FrameResult) -> Result:
    return Result(
        frame_id=answer.frame_id,
        disposition=_DISPOSITIONS.get(answer.disposition, Disposition.FAILED),
        payload=answer.payload,
        key=answer.key,
        ratio=answer.ratio,
        quality=answer.quality,
        model_hash=answer.model_hash,
        flags=answer.flags,
        encoder_us=answer.encoder_us,
        queue_us=answer.queue_us,
        advice=_ADVICE.get(answer.advice, Advice.KEEP),
        reason=answer.reason,
        need_key=answer.need_key,
        ask=_ask(answer),
    )


def _ask(answer: pb.FrameResult) -> Ask | None:
    bps = answer.ask_sender_bps
    return Ask(bps, _ASK_REASONS.get(answer.ask_reason, AskReason.OTHER)) if bps else None


# --- calls ---------------------------------------------------------------------------------------------------


def open_channel(address: str, host: str, credentials: Credentials | None) -> Channel:
    """Connects when it is used. `host`: whom the server's certificate must name."""
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=_OPTIONS)
    return grpc.aio.secure_channel(
        address,
        grpc.ssl_channel_credentials(credentials.ca, credentials.key, credentials.certificate),
        options=[*_OPTIONS, ("grpc.ssl_target_name_override", host)],
    )


class Call:
    """One `Compress` stream; iterating hears it."""

    def __init__(self, call: "grpc.aio.StreamStreamCall[pb.ClientMessage, pb.ServerMessage]") -> None:
        self._call = call
        self._incoming: AsyncIterator[pb.ServerMessage] = aiter(call)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Heard:
        """Raises CallError."""
        try:
            return _heard(await anext(self._incoming))
        except grpc.aio.AioRpcError as error:
            raise CallError(error) from error

    async def write(self, message: Message) -> None:
        """Raises CallError, or asyncio.InvalidStateError when the call has ended."""
        try:
            await self._call.write(message)
        except grpc.aio.AioRpcError as error:
            raise CallError(error) from error

    async def done_writing(self) -> None:
        """Raises as `write` does."""
        try:
            await self._call.done_writing()
        except grpc.aio.AioRpcError as error:
            raise CallError(error) from error

    def cancel(self) -> None:
        self._call.cancel()


@dataclass(frozen=True, slots=True)
class Capabilities:
    load: float
    draining: bool


class Service:
    """What can be asked of one server."""

    def __init__(self, channel: Channel, identity: Identity) -> None:
        self._stub = rpc.AICoreStub(channel)
        self._metadata = (
            ("auralink-protocol", f"1.{PROTOCOL_MINOR}"),
            ("auralink-bridge-id", identity.bridge_id),
            ("auralink-pod", identity.pod),
        )

    def compress(self) -> Call:
        return Call(self._stub.Compress(metadata=self._metadata))  # type: ignore[call-arg]  # stubs want an iterator

    async def capabilities(self) -> Capabilities:
        """Raises CallError."""
        try:
            answer = await self._stub.GetCapabilities(
                pb.CapabilitiesRequest(), timeout=CAPABILITIES_TIMEOUT_S, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as error:
            raise CallError(error) from error
        return Capabilities(answer.load, answer.draining)
