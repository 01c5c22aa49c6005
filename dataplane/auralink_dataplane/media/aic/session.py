"""One stream's session with an AI Core: frames out, answers in, and what its endpoint is to hear of it."""

import asyncio
import logging
from collections import deque
from typing import Final, Protocol

from auralink_dataplane.media.aic import wire
from auralink_dataplane.media.aic.endpoint import Endpoint
from auralink_dataplane.media.aic.wire import Answer, CallError, Heard, Identity, Notice, NoticeKind, SessionRequest
from auralink_dataplane.media.frames import Frame, Mode, Result
from auralink_dataplane.media.pipeline import Failure, Refusal
from auralink_dataplane.policy import Compression

log = logging.getLogger(__name__)

CLOSE_S: Final = 0.5
"""For sessions that have said goodbye; the AI Core answers what it still has."""
OUTBOX: Final = 64
"""Messages waiting for the transport; 16 frames in flight keep it far below, beyond it the session is broken."""


class Listener(Protocol):
    """Called on the event loop, never after the session was closed."""

    def session_opened(self, session: int, max_in_flight: int, *, probe: bool) -> None: ...
    def session_refused(self, session: int, why: Refusal) -> None: ...
    def session_result(self, session: int, result: Result) -> None: ...
    def session_failed(self, session: int, failure: Failure) -> None: ...
    def session_draining(self, session: int) -> None: ...
    def session_shed(self, session: int) -> None: ...


class Session:
    """One `Compress` stream. Sending never blocks; answers go to the listener until `close`. Whoever opens it owns
    `task`. `standby`: it decodes along with another one, until it is promoted."""

    def __init__(
        self,
        endpoint: Endpoint,
        identity: Identity,
        request: SessionRequest,
        listener: Listener,
        *,
        probe: bool,
        standby: bool = False,
    ) -> None:
        self.number = request.number
        self.model = ""
        self._endpoint = endpoint
        self._listener: Listener | None = listener
        self._probe = probe
        self.standby = standby
        endpoint.standbys += standby
        self._outbox: deque[wire.Message] = deque()
        self._wake = asyncio.Event()
        self._put(wire.open_message(identity, request, Mode.SHADOW if standby or probe else Mode.COMPRESS))
        self.task = asyncio.create_task(self._run(), name=f"aic-session-{request.name}-{request.number}")

    @property
    def endpoint_address(self) -> str:
        return self._endpoint.address

    def send(self, frame: Frame, mode: Mode, deadline_ms: int) -> None:
        self._put(wire.frame_message(frame, mode, deadline_ms))

    def force_key(self) -> None:
        self._put(wire.force_key_message())

    def promote(self, *, picture: bool) -> None:
        """It answers for its stream from here on. `picture`: with one answer more, the last picture as a key."""
        if self.standby:
            self.standby = False
            self._endpoint.standbys -= 1
            self._endpoint.takeovers += 1
        if picture:
            self._put(wire.promote_message())

    def update_policy(self, policy: Compression) -> None:
        self._put(wire.policy_message(policy))

    def proven(self) -> None:
        """It has answered enough frames in time."""
        self._endpoint.proven()

    def close(self, failure: Failure | None) -> None:
        """`failure`: why it ends badly; the endpoint's breaker hears of it where that is to blame."""
        if self._listener is None:
            return
        self._listener = None
        self._endpoint.standbys -= self.standby
        self._endpoint.ended(failure, probe=self._probe)
        if failure is None:
            self._put(wire.end_message())
            asyncio.get_running_loop().call_later(CLOSE_S, self.task.cancel)
        else:
            self.task.cancel()

    def _put(self, message: wire.Message) -> None:
        if len(self._outbox) < OUTBOX:
            self._outbox.append(message)
            self._wake.set()
        else:  # not at once: the listener is amid its decisions
            asyncio.get_running_loop().call_soon(self._fail, Failure.OVERFLOW)

    def _fail(self, failure: Failure) -> None:
        if self._listener:
            self._listener.session_failed(self.number, failure)

    async def _run(self) -> None:
        call = self._endpoint.compress()
        writer = asyncio.create_task(self._write(call), name=f"{self.task.get_name()}-writer")
        failure = Failure.BROKEN
        try:
            async for heard in call:
                self._endpoint.heard()
                self._dispatch(heard)
        except CallError as error:
            if error.unreachable:
                failure = Failure.UNREACHABLE
                self._endpoint.lost()
            if self._listener:
                log.warning(
                    "AI Core session broke",
                    extra={"endpoint": self._endpoint.address, "code": error.code, "detail": error.detail},
                )
        finally:
            writer.cancel()
            call.cancel()
        self._fail(failure)

    async def _write(self, call: wire.Call) -> None:
        """Ends with the call; its error is the reader's to report."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._outbox:
                    await call.write(self._outbox.popleft())
                if self._listener is None:
                    await call.done_writing()
                    return
        except (CallError, asyncio.InvalidStateError):
            return

    def _dispatch(self, heard: Heard) -> None:
        if self._listener is None:
            return
        match heard:
            case Answer():
                if not heard.failed:
                    self._endpoint.breaker.succeeded()
                self._listener.session_result(self.number, heard.result)
            case wire.Opened():
                self.model = heard.model
                self._listener.session_opened(self.number, heard.max_in_flight, probe=self._probe)
            case wire.Refused():
                if heard.full:
                    self._endpoint.rest()
                log.info("AI Core refused a session", extra={"endpoint": self.endpoint_address, "reason": heard.reason})
                self._listener.session_refused(self.number, Refusal.FULL if heard.full else Refusal.UNSUPPORTED)
            case Notice():
                self._noticed(self._listener, heard)
            case _:
                self._listener.session_failed(self.number, Failure.BROKEN)

    def _noticed(self, listener: Listener, notice: Notice) -> None:
        match notice.kind:
            case NoticeKind.DRAINING:
                self._endpoint.draining = True
                listener.session_draining(self.number)
            case NoticeKind.SHED:
                listener.session_shed(self.number)
            case NoticeKind.LOST:
                listener.session_failed(self.number, Failure.LOST)
            case _:
                log.info("AI Core notice", extra={"endpoint": self._endpoint.address, "detail": notice.detail})
