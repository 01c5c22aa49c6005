"""A client of the real AI Core that sends one stream as a camera does and takes the time of every answer."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from auralink_pb.aicore.v1 import aicore_pb2 as pb
from auralink_pb.aicore.v1 import aicore_pb2_grpc as pb_grpc

from hack.lab.sender import Sent

TIMEOUT_S, KEY_TIMEOUT_S = 0.100, 0.200  # a data plane gives up then
_MOST_UNANSWERED = 16
_LAST_WORDS_S = 5.0


@dataclass(frozen=True, slots=True)
class Answered:
    frame_id: int
    key: bool  # of the sender's
    took_ms: float
    queue_ms: float
    encoder_ms: float
    failed: bool

    @property
    def transport_ms(self) -> float:
        """gRPC both ways, and the worker's way back: all but waiting for the codecs and using them."""
        return self.took_ms - self.queue_ms - self.encoder_ms

    @property
    def good(self) -> bool:
        return not self.failed and self.took_ms <= 1000 * (KEY_TIMEOUT_S if self.key else TIMEOUT_S)


@dataclass(slots=True)
class Account:
    """One session's frames."""

    sent: int = 0
    answers: list[Answered] = field(default_factory=list)
    broken: str = ""

    @property
    def good(self) -> int:
        return sum(answer.good for answer in self.answers)


async def play(channel: grpc.aio.Channel, sent: Sent, fps: float, seconds: float, account: Account) -> None:
    """Sends frames for so long, over and over from the first key; a session that breaks stays broken, and says so."""
    stub: Any = pb_grpc.AICoreStub(channel)
    call = stub.Compress(metadata=(("auralink-protocol", "1.0"),))
    opened = await _open(call, sent, fps)
    if opened.status != pb.SessionOpened.STATUS_OK:
        account.broken = opened.reason
        return
    flying: dict[int, tuple[float, bool]] = {}
    reading = asyncio.create_task(_read(call, flying, account), name="answers")
    loop = asyncio.get_running_loop()
    start = loop.time()
    try:
        for frame_id, (payload, key) in zip(range(round(seconds * fps)), _endless(sent), strict=False):
            await asyncio.sleep(start + frame_id / fps - loop.time())
            account.sent += 1
            if reading.done() or len(flying) >= _MOST_UNANSWERED:
                continue  # it counts as sent, and not as answered
            flying[frame_id] = (loop.time(), key)
            frame = pb.Frame(
                frame_id=frame_id, payload=payload, key=key, deadline_ms=33 if key else 20, mode=pb.MODE_COMPRESS
            )
            await call.write(pb.ClientMessage(frame=frame))
        await call.write(pb.ClientMessage(control=pb.Control(end=pb.End())))
        async with asyncio.timeout(_LAST_WORDS_S):
            await reading
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError) as error:
        account.broken = account.broken or str(error) or type(error).__name__
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _open(call: Any, sent: Sent, fps: float) -> pb.SessionOpened:
    asked = pb.SessionOpen(
        session_id="bench",
        codec=pb.Codec.Value(f"CODEC_{sent.codec}"),
        width=sent.clip.width,
        height=sent.clip.height,
        max_fps=round(fps),
        content=pb.CONTENT_CAMERA,
        policy=pb.Policy(always=True),
    )
    await call.write(pb.ClientMessage(open=asked))
    answer = await call.read()
    assert isinstance(answer, pb.ServerMessage), "the AI Core ended the call before it was opened"
    return answer.opened


async def _read(call: Any, flying: dict[int, tuple[float, bool]], account: Account) -> None:
    loop = asyncio.get_running_loop()
    try:
        while isinstance(message := await call.read(), pb.ServerMessage):
            if message.WhichOneof("message") == "notice":
                account.broken = message.notice.detail
                continue
            result = message.result
            sent_s, key = flying.pop(result.frame_id)
            account.answers.append(
                Answered(
                    result.frame_id,
                    key,
                    1000 * (loop.time() - sent_s),
                    result.queue_us / 1000,
                    result.encoder_us / 1000,
                    result.disposition == pb.DISPOSITION_FAILED,
                )
            )
    except grpc.aio.AioRpcError as error:
        account.broken = str(error.details())


def _endless(sent: Sent) -> Iterator[tuple[bytes, bool]]:
    while True:
        for unit in sent.units:
            yield unit.payload, unit.key
