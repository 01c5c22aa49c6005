"""One `Compress` call: one loop reads messages and hands frames to the session's seat, another writes what comes back,
in order. Everything a call may hold is bounded by the frames the client may have unanswered.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from auralink_pb.aicore.v1 import aicore_pb2 as pb

from auralink_aicore.controller import Policy
from auralink_aicore.evidence.sampling import Sampling
from auralink_aicore.metrics import Metrics
from auralink_aicore.server.opening import BadRequestError, Fault, parse_policy
from auralink_aicore.transcoder import Disposition, Frame, Mode, Report
from auralink_aicore.worker.admission import Load
from auralink_aicore.worker.pool import Seat
from auralink_aicore.worker.wire import Timed

log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 16
# Of frames without an answer: two of the largest that a message may carry. 16 of them would be 128 MiB a session.
MAX_IN_FLIGHT_BYTES = 16 * 1024 * 1024
LAST_WORDS_S = 2.0  # for what stands before a call's end to reach a client that reads
REPORT_HOLDS_S = 3.0  # a stream that reported nothing so long takes no part in its room's allocation


class _End:
    """Closes a call's outgoing side once everything before it is written."""


class Core(Protocol):
    """What a call tells its server."""

    @property
    def metrics(self) -> Metrics: ...
    @property
    def model_id(self) -> str: ...
    def count(self, timed: Timed, call: "Call", source_bytes: int, pair: tuple[bytes, bool] | None) -> None: ...
    def collects(self, call: "Call", collect: pb.Collect.ValueType) -> None:
        """What may be kept of it from now on."""

    def turned(self, call: "Call") -> None:
        """It only watched, and compresses now."""


class Call:
    """One `Compress` stream, between its client and its seat."""

    def __init__(self, core: Core, name: str, load: Load, room: tuple[str, str] | None = None) -> None:
        """`room`: whose byte budget it shares, None for nobody's."""
        self._core = core
        self.name = name
        self.load = load
        self.room = room
        self.seat: Seat | None = None
        self.heard_s = time.monotonic()
        self._outgoing: asyncio.Queue[pb.ServerMessage | BadRequestError | _End] = asyncio.Queue()
        self._report: Report | None = None
        self._reported_s = -math.inf
        self.shared = False  # the room's allocation set its T
        self._closing = asyncio.Event()
        self._policy: Policy | None = None  # controls wait for the next frame, the newest of each kind
        self._force_key = False
        self._unanswered: dict[int, int] = {}  # frame id -> bytes
        self.sampling: Sampling | None = None
        self._sampled: dict[int, tuple[bytes, bool]] = {}  # frame id -> the unanswered frame and whether it is a key
        self._owed = 0  # frames and promotions without a written result
        self._ending = False
        self._failed = False

    # From the worker.

    def answered(self, timed: Timed) -> None:
        """A result, on its way to the client."""
        result = timed.result
        self.load.pixels = timed.pixels or self.load.pixels
        if result.disposition is Disposition.FAILED and not self._failed:
            self._failed = True
            log.error("session failed", extra={"session": self.name, "reason": result.reason})
        self.load.refused = timed.refused
        source_bytes = self._unanswered.pop(result.frame_id, 0)
        self._core.count(timed, self, source_bytes, self._sampled.pop(result.frame_id, None))
        message = pb.ServerMessage(
            result=pb.FrameResult(
                frame_id=result.frame_id,
                disposition=result.disposition,  # type: ignore[arg-type]
                payload=result.payload,
                key=result.key,
                ratio=result.ratio,
                quality=result.quality,
                model_hash=result.model_hash,
                flags=result.flags,
                encoder_us=timed.encoder_us,
                queue_us=timed.queue_us,
                advice=result.advice,  # type: ignore[arg-type]
                reason=result.reason,
                need_key=result.need_key,
                ask_sender_bps=result.ask.bps,
                ask_reason=result.ask.reason,  # type: ignore[arg-type]
            )
        )
        self._outgoing.put_nowait(message)

    def reported(self, report: Report) -> None:
        """Once a second while it compresses."""
        self._report, self._reported_s = report, time.monotonic()

    def lost(self, reason: str) -> None:
        """The worker died: tell the client, then end."""
        self._core.metrics.lost.inc()
        self.notice(pb.Notice.KIND_LOST, reason)
        self._close_with(_End())

    # From the server.

    def report(self, now: float) -> Report | None:
        """What the room's allocation needs; None while it takes no part."""
        return self._report if not self.load.shadow and now - self._reported_s <= REPORT_HOLDS_S else None

    def share(self, target: float | None) -> None:
        """T by the room's allocation; None: the policy's own."""
        if self.seat is not None:
            self.shared = target is not None
            self.seat.share(target)

    def shed(self, reason: str) -> None:
        """Its room is needed: tell the client, then end."""
        self.notice(pb.Notice.KIND_SHED, reason)
        self._close_with(_End())

    def notice(self, kind: pb.Notice.Kind.ValueType, detail: str) -> None:
        """Tell the client something about its session."""
        self._outgoing.put_nowait(pb.ServerMessage(notice=pb.Notice(kind=kind, detail=detail)))

    def fail(self, error: BadRequestError) -> None:
        """End the call with an error."""
        self._close_with(error)

    # From the client.

    async def read(self, messages: AsyncIterator[pb.ClientMessage]) -> None:
        """Hand on what the client sends, until it ends."""
        try:
            async for message in messages:
                if not self._take(message):
                    break
        except BadRequestError as error:
            self.fail(error)
            return
        except Exception:
            log.exception("session broken", extra={"session": self.name})
            self.fail(BadRequestError("internal error", Fault.INTERNAL))
            return
        self._ending = True
        if self._owed == 0:
            self._close_with(_End())

    def _take(self, message: pb.ClientMessage) -> bool:
        """False at the client's wish to end."""
        assert self.seat is not None  # noqa: S101 - read starts after the seat was given
        self.heard_s = time.monotonic()
        kind = message.WhichOneof("message")
        if kind == "frame":
            self._frame(self.seat, message.frame)
        elif kind == "control":
            control = message.control.WhichOneof("control")
            if control == "end":
                return False
            if control == "promote":
                self._owe(0)
                self._turn(shadow=False)
                self._pass_controls(self.seat)
                self.seat.promote()
            elif control == "force_key":
                self._force_key = True
            elif control == "policy":
                self._policy = parse_policy(message.control.policy, self._core.model_id)
                self._core.collects(self, message.control.policy.collect)
            else:
                raise BadRequestError("a control without content")
        else:
            raise BadRequestError("expected a frame or a control")
        return True

    def _pass_controls(self, seat: Seat) -> None:
        if self._policy is not None:
            seat.policy(self._policy)
        if self._force_key:
            seat.force_key()
        self._policy, self._force_key = None, False

    def _frame(self, seat: Seat, frame: pb.Frame) -> None:
        if frame.mode not in (pb.MODE_COMPRESS, pb.MODE_SHADOW):
            raise BadRequestError("a frame needs a mode, COMPRESS or SHADOW")
        if frame.frame_id in self._unanswered:
            raise BadRequestError(f"frame_id {frame.frame_id} came twice; it rises by one per frame")
        payload = frame.payload
        self._owe(len(payload))
        self._unanswered[frame.frame_id] = len(payload)
        if self.sampling is not None:
            self._sampled[frame.frame_id] = payload, frame.key
        self.load.arrived(self.heard_s)
        self._turn(shadow=frame.mode == pb.MODE_SHADOW)
        deadline_s = self.heard_s + frame.deadline_ms / 1000 if frame.deadline_ms else math.inf
        self._pass_controls(seat)
        seat.frame(Frame(frame.frame_id, payload, frame.key, Mode(frame.mode), self.heard_s, deadline_s))

    def _turn(self, *, shadow: bool) -> None:
        was, self.load.shadow = self.load.shadow, shadow
        if was and not shadow:
            self._core.turned(self)

    def _owe(self, size: int) -> None:
        if size + sum(self._unanswered.values()) > MAX_IN_FLIGHT_BYTES:
            text = f"more than {MAX_IN_FLIGHT_BYTES} bytes of frames without an answer"
            raise BadRequestError(text, Fault.RESOURCE_EXHAUSTED)
        self._owed += 1
        if self._owed > MAX_IN_FLIGHT:
            raise BadRequestError(f"more than {MAX_IN_FLIGHT} frames without an answer", Fault.RESOURCE_EXHAUSTED)

    # To the client.

    def _close_with(self, last: "BadRequestError | _End") -> None:
        if not self._closing.is_set():
            self._closing.set()
            self._outgoing.put_nowait(last)

    async def run(self, send: Callable[[pb.ServerMessage], Awaitable[None]]) -> None:
        """`write`, but not forever: what a client does not read may stand before the end of its call."""
        writer = asyncio.create_task(self.write(send), name=f"write {self.name}")
        closing = asyncio.create_task(self._closing.wait(), name=f"closing {self.name}")
        try:
            await asyncio.wait({writer, closing}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({writer}, timeout=LAST_WORDS_S)
            if not writer.done():
                raise BadRequestError("the client does not read", Fault.DEADLINE_EXCEEDED)
            await writer
        finally:
            writer.cancel()
            closing.cancel()

    async def write(self, send: Callable[[pb.ServerMessage], Awaitable[None]]) -> None:
        """Write what comes back, until it ends. Raises BadRequestError to end the call with an error."""
        while True:
            message = await self._outgoing.get()
            if isinstance(message, _End):
                return
            if isinstance(message, BadRequestError):
                raise message
            await send(message)
            if message.HasField("result"):
                self._owed -= 1
                if self._ending and self._owed == 0:
                    return
