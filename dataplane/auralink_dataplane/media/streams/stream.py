"""One source of the pod: what happens to it goes through its pipeline, what that decides is carried out here."""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from auralink_dataplane.media.aic import AicClient, Session, SessionRequest
from auralink_dataplane.media.frames import (
    EXTENSION_BYTES_ON_WIRE,
    Ask,
    Disposition,
    Event,
    Frame,
    FrameSent,
    KeyWanted,
    Mode,
    ModeApplied,
    Result,
    StreamFailed,
    StreamStarted,
    SubmitRefused,
)
from auralink_dataplane.media.h264 import ANYTHING, Ceiling, ceiling_of, lowest
from auralink_dataplane.media.legs.plain_rtp import CLOCK_RATES, OpenLeg
from auralink_dataplane.media.packets import PacketEngine
from auralink_dataplane.media.pipeline import Decision, Failure, Limits, Pipeline, Refusal, Takeover
from auralink_dataplane.media.pipeline import decisions as act
from auralink_dataplane.media.streams.books import WISH_HOLDS_S, Books, Counters, PictureBook, Savings, Timing, counters
from auralink_dataplane.policy import Rules

if TYPE_CHECKING:
    from auralink_dataplane.media.packets import Stats

log = logging.getLogger(__name__)

OWN_STALL_S: Final = 0.010
MALFORMED: Final = "bad_submit"
"""The packet core's word for an answer that is no frame of the codec."""
TIMED_FRAMES: Final = 64
"""Frames whose way is being timed, per stream: four times what may be in flight."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all streams of the pod share."""

    engine: PacketEngine
    aic: AicClient
    books: Books
    clock: Callable[[], float]
    jitter: Callable[[], float]
    """0..1, evenly: a draw for each stream."""


class Stream:
    """One source: its outs, and for video its pipeline and session."""

    def __init__(self, shared: Shared, started: StreamStarted, leg: OpenLeg, rules: Rules, limits: Limits) -> None:
        self.id = started.stream
        self.room = leg.room
        self.leg = leg
        self.codec = started.codec
        self.media = started.media
        self.ssrc = started.ssrc
        self.outs: dict[int, int] = {}  # leg -> out
        self.savings = Savings()
        self.counted = Counters()
        self.pictures = PictureBook(started.codec)
        self.rules = rules
        self.policy = rules.compression_of(self.media, self.codec)
        self.pipeline = Pipeline(self.policy, limits, shared.jitter()) if started.media == "video" else None
        self._engine = shared.engine
        self._aic = shared.aic
        self._books = shared.books
        self._clock = shared.clock
        self._taken_over: dict[int, tuple[int, int]] = {}  # out -> frames and bytes of the stream that had it before
        self._counts_as: str | None = None  # fallback for which reason
        self._spared = 0  # bytes that went out less than they came in as, not yet accounted for
        self._sessions: dict[int, Session] = {}  # its own and, if there is one, the standby
        self._takes: dict[int, Ceiling] = {}  # leg -> what its receiver decodes
        self._asked = ANYTHING  # of the newest session
        self._ask: Ask | None = None  # the AI Core's last wish to the sender
        self._asked_s = 0.0
        self._timings: OrderedDict[int, Timing] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._stalled = False  # it rang late, and was put off

    def start(self) -> None:
        if self.pipeline is None:
            self._engine.set_mode(self.id, Mode.BYPASS, extension=False, degraded=False, at_frame=None)
        else:
            self.run(self.pipeline.start(self._clock()))

    def link(self, target: OpenLeg) -> None:
        medium = target.spec.media.get(self.media)
        if not target.spec.sends or medium is None or target.id == self.leg.id or target.id in self.outs:
            return
        if not self.rules.forwards(self.media, self.codec):
            return
        taken = next((payload for payload in medium.payloads if payload.codec == self.codec), None)
        if taken is None:
            log.warning(
                "leg does not take the codec",
                extra={"room": self.room, "leg": target.spec.name, "stream": self.id, "codec": self.codec},
            )
            return
        try:
            out = self._engine.link(self.id, target.id)
        except ValueError as error:  # it has just ended and its event is on the way, or the leg is full
            log.warning("stream is not linked", extra={**self.names(), "to": target.spec.name, "reason": str(error)})
            return
        self.outs[target.id] = out
        before = self._engine.stats()["outs"].get(out)
        self._taken_over[out] = (before["frames"], before["payload_bytes"]) if before else (0, 0)
        self._takes[target.id] = ceiling_of(taken.fmtp) if self.codec == "H264" else ANYTHING
        if self.pipeline and self.pipeline.session in self._sessions and self._ceiling() != self._asked:
            self.run(self.pipeline.renew(self.pipeline.session, self._clock()))

    def _ceiling(self) -> Ceiling:
        """What all its receivers decode."""
        return lowest(self._takes[leg] for leg in self.outs)

    @property
    def endpoint(self) -> str | None:
        """The AI Core that answers for it."""
        session = self._sessions.get(self.pipeline.session) if self.pipeline else None
        return session.endpoint_address if session else None

    def ask(self, now: float) -> Ask | None:
        """What the AI Core wishes the sender would spend, while it stands. Nobody tells the sender so far."""
        return self._ask if now < self._asked_s + WISH_HOLDS_S else None

    def close(self) -> None:
        if self.pipeline:
            self.run(self.pipeline.close())
        if self._timer:
            self._timer.cancel()

    # --- what happens ---------------------------------------------------------------------------------------

    def receive(self, frame: Frame) -> None:
        if self.pipeline:
            self.pictures.came(frame)
            self.run(self.pipeline.receive(frame, self._clock()))

    def happened(self, event: Event) -> None:
        if self.pipeline is None:
            return
        now = self._clock()
        match event:
            case ModeApplied():
                self.run(self.pipeline.mode_applied(event.mode, now))
            case KeyWanted():
                self.run(self.pipeline.key_wanted(now))
            case StreamFailed():
                log.warning("frames were lost before the pipeline", extra={**self.names(), "reason": event.reason})
                self.run(self.pipeline.overflowed(now))
            case SubmitRefused():
                self._refused(event, now)
            case FrameSent():
                timing = self._timings.pop(event.frame_id, None)
                if timing and timing.submitted:
                    self._books.latency.sent(timing, event)
                    self._spared += timing.spared(event.payload_bytes)

    def _refused(self, refused: SubmitRefused, now: float) -> None:
        """A native frame whose reference did not leave is the core's own affair: it counts it and asks for a key."""
        if refused.native or self.pipeline is None:
            return
        self._timings.pop(refused.frame_id, None)
        log.warning("answer was refused", extra={**self.names(), "reason": refused.reason})
        self.run(self.pipeline.submit_refused(refused.frame_id, now, malformed=refused.reason == MALFORMED))

    def unlink(self) -> None:
        """From every leg."""
        for out in self.outs.values():
            self._engine.unlink(out)
        self.outs.clear()
        self._takes.clear()

    def lose(self, leg: int) -> None:
        """A leg that is closed."""
        self.outs.pop(leg, None)
        self._takes.pop(leg, None)

    def configure(self, rules: Rules, limits: Limits, legs: Iterable[OpenLeg]) -> None:
        """What may go out goes out to `legs` from its next key on, what may not ends here."""
        self.rules = rules
        self.policy = rules.compression_of(self.media, self.codec)
        if rules.forwards(self.media, self.codec):
            for leg in legs:
                self.link(leg)
        elif self.outs:
            self._settle()
            self.unlink()
        if self.pipeline:
            self.run(self.pipeline.configure(self.policy, limits, self._clock()))

    def endpoint_available(self) -> None:
        if self.pipeline:
            self.run(self.pipeline.available(self._clock()))

    # --- the session's side ---------------------------------------------------------------------------------

    def session_opened(self, session: int, max_in_flight: int, *, probe: bool) -> None:
        if self.pipeline:
            self.run(self.pipeline.opened(session, max_in_flight, self._clock(), probe=probe))

    def session_refused(self, session: int, why: Refusal) -> None:
        if self.pipeline:
            self.run(self.pipeline.refused(session, why, self._clock()))

    def session_result(self, session: int, result: Result) -> None:
        if self.pipeline is None:
            return
        now = self._clock()
        timing = self._timings.get(result.frame_id) if session == self.pipeline.session else None
        if timing:
            timing.answered = now
            self._books.answered(timing, result, now)
            if result.disposition is not Disposition.COMPRESSED:
                del self._timings[result.frame_id]
        if result.ask and session == self.pipeline.session:
            self._ask, self._asked_s = result.ask, now
            self._books.asked(result.ask)
        self.run(self.pipeline.result(session, result, now))

    def session_failed(self, session: int, failure: Failure) -> None:
        if self.pipeline:
            self.run(self.pipeline.failed(session, failure, self._clock()))

    def session_draining(self, session: int) -> None:
        if self.pipeline:
            self.run(self.pipeline.draining(session, self._clock()))

    def session_shed(self, session: int) -> None:
        if self.pipeline:
            self.run(self.pipeline.shed(session, self._clock()))

    # --- carrying decisions out -----------------------------------------------------------------------------

    def run(self, decisions: list[Decision]) -> None:
        todo = deque(decisions)
        while todo:
            todo.extend(self._do(todo.popleft()))
        if self._fallback() != self._counts_as:
            self._settle()
        self._arm()

    def _do(self, decision: Decision) -> list[Decision]:
        match decision:
            case act.Send():
                self._send(decision)
            case act.Submit():
                self._submit(decision)
            case act.SubmitNative():
                self._engine.submit(self.id, decision.frame_id, None, None, decision.key)
            case act.Drop():
                self._engine.drop(self.id, decision.frame_id)
            case act.SetMode():
                self._engine.set_mode(
                    self.id,
                    decision.mode,
                    extension=decision.extension,
                    degraded=decision.degraded,
                    at_frame=decision.at_frame,
                )
            case act.Hold():
                self._engine.hold(self.id)
            case act.RequestKey():
                self._engine.request_key(self.id)
            case act.OpenSession():
                return self._open_session(decision)
            case act.CloseSession():
                self._close_session(decision)
            case act.ForceKey() | act.UpdatePolicy() | act.Proven() | act.Promote():
                self._tell(decision)
            case act.TookOver():
                self._took_over(decision)
            case act.Switched():
                self._books.switched(decision)
                said = {"from": decision.old.value, "to": decision.new.value, "reason": decision.reason}
                log.info("stream switched", extra={**self.names(), **said})
        return []

    def _tell(self, decision: act.ForceKey | act.UpdatePolicy | act.Proven | act.Promote) -> None:
        session = self._sessions.get(decision.session)
        if session is None:
            return
        match decision:
            case act.ForceKey():
                session.force_key()
            case act.UpdatePolicy():
                session.update_policy(decision.policy)
            case act.Proven():
                session.proven()
            case act.Promote():
                session.promote(picture=decision.picture)

    def _took_over(self, decision: act.TookOver) -> None:
        self._books.took_over(decision)
        session = self._sessions.get(decision.session)
        said = {
            "outcome": decision.outcome.value,
            "reason": decision.reason,
            "endpoint": session.endpoint_address if session else None,
            "took_ms": round(decision.took_s * 1000, 1),
        }
        if decision.outcome in (Takeover.PROMOTED, Takeover.NEXT_FRAME):
            log.info("standby took over", extra={**self.names(), **said})
        else:
            log.warning("standby did not take over", extra={**self.names(), **said})

    def _send(self, decision: act.Send) -> None:
        session = self._sessions.get(decision.session)
        if session is None:
            return
        frame = decision.frame
        session.send(frame, decision.mode, decision.deadline_ms)
        if decision.mode is Mode.COMPRESS:
            self._timings[frame.frame_id] = Timing(frame.t_first, frame.t_complete, frame.native_bytes, self._clock())
            if len(self._timings) > TIMED_FRAMES:
                self._timings.popitem(last=False)

    def _submit(self, decision: act.Submit) -> None:
        self._engine.submit(self.id, decision.frame_id, decision.data, decision.extension, decision.key)
        self._books.compressed()
        timing = self._timings.get(decision.frame_id)
        if timing:
            timing.submitted, timing.our_bytes = self._clock(), len(decision.data)

    def _open_session(self, decision: act.OpenSession) -> list[Decision]:
        self._asked = self._ceiling()
        request = SessionRequest(
            name=f"{self.room}/{self.ssrc}",
            number=decision.session,
            room=self.room,
            codec=self.codec,
            clock_rate=CLOCK_RATES[self.codec],
            policy=decision.policy,
            ceiling=self._asked,
        )
        session = self._place(request) if decision.standby else self._aic.open(request, self)
        if session is not None:
            self._sessions[decision.session] = session
        elif self.pipeline:
            return self.pipeline.refused(decision.session, Refusal.NO_ENDPOINT, self._clock())
        return []

    def _place(self, request: SessionRequest) -> Session | None:
        """Beside the session whose answers go out."""
        active = self._sessions.get(self.pipeline.session) if self.pipeline else None
        return self._aic.open_standby(request, self, active) if active else None

    def _close_session(self, decision: act.CloseSession) -> None:
        session = self._sessions.pop(decision.session, None)
        if session is None:
            return
        session.close(decision.failure)
        if not session.standby:
            self._forget_unanswered(lost=decision.failure is not None)
        if decision.failure:
            said = {"reason": decision.failure.value, "endpoint": session.endpoint_address, "standby": session.standby}
            log.warning("session failed", extra={**self.names(), **said})

    def _forget_unanswered(self, *, lost: bool) -> None:
        unanswered = [frame for frame, timing in self._timings.items() if not timing.answered]
        if lost:
            self._books.lost(len(unanswered))
        for frame in unanswered:
            del self._timings[frame]

    def _arm(self) -> None:
        """One timer per stream, armed anew only when something is due earlier than it rings."""
        at = self.pipeline.next_tick() if self.pipeline else None
        if at is None or (self._timer and self._timer_at <= at):
            return
        if self._timer:
            self._timer.cancel()
        self._timer_at = at
        delay = max(0.0, at - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        """A timer that rings late tells of a stall of ours: answers that came meanwhile are read before anybody is
        called late."""
        self._timer = None
        now = self._clock()
        if now > self._timer_at + OWN_STALL_S and not self._stalled:
            self._stalled = True  # once: a loop that is always late must still tell the time
            self._timer_at = now + OWN_STALL_S
            self._timer = asyncio.get_running_loop().call_later(OWN_STALL_S, self._ring)
        elif self.pipeline:
            self._stalled = False
            self.run(self.pipeline.tick(now))

    # --- counting -------------------------------------------------------------------------------------------

    def _fallback(self) -> str | None:
        return self.pipeline.fallback if self.pipeline else None

    def _settle(self) -> None:
        """Its frames count differently from now on: what came before still counts as it was."""
        self.account(self._engine.stats(), self._clock())

    def account(self, stats: "Stats", now: float) -> None:
        """What the packet core did since the last time. Bytes count of frames that went out, once per out: what is
        skipped, dropped, lost or held back is not saved, only missing."""
        before, outs = self.counted, {out: self._taken_over[out] for out in self.outs.values()}
        self.counted = counted = counters(stats, self.id, outs)
        spared, self._spared = self._spared, 0
        fallback, self._counts_as = self._counts_as, self._fallback()
        if self.pipeline is None or not self.policy.enabled:
            return
        self._books.processed(max(0, counted.frames - before.frames), fallback)
        payload = counted.payload_out - before.payload_out
        frames = counted.frames_out - before.frames_out
        if payload < 0 or frames < 0:
            return
        bytes_in = max(0, payload + spared)
        self._spared = payload + spared - bytes_in  # told of later than counted
        bytes_out = payload + EXTENSION_BYTES_ON_WIRE * frames
        self.savings.add(now, bytes_in, bytes_out)
        self._books.carried(now, bytes_in, bytes_out)

    def names(self) -> dict[str, object]:
        return {"room": self.room, "leg": self.leg.spec.name, "stream": self.id}
