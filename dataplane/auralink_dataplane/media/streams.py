"""The shell around the streams of a pod: frames up from the packet core, through `pipeline`, to the AI Core and back.

Everything here runs on the event loop and nothing waits: the packet core wakes it by file descriptor, sessions by
callback, time by one timer per stream. Decisions are `pipeline`'s; this module carries them out and counts.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from auralink_dataplane.media.aic import AicClient, Session, SessionRequest
from auralink_dataplane.media.frames import (
    EXTENSION_BYTES_ON_WIRE,
    Disposition,
    Event,
    Frame,
    FrameSent,
    KeyWanted,
    LegFailed,
    Mode,
    ModeApplied,
    Result,
    StreamEnded,
    StreamFailed,
    StreamStarted,
)
from auralink_dataplane.media.legs.plain_rtp import CLOCK_RATES, OpenLeg, PlainRtpLegs
from auralink_dataplane.media.packets import PacketEngine
from auralink_dataplane.media.pipeline import Decision, Failure, Limits, Pipeline, Refusal, State
from auralink_dataplane.media.pipeline import decisions as act
from auralink_dataplane.metrics import Metrics, RecentWindow
from auralink_dataplane.policy import Rules

log = logging.getLogger(__name__)

SAVED_SPAN_S: Final = 10.0
UNPACED_PACKETS: Final = 16
"""The packet core sends so many of a frame at once and paces the rest."""
OWN_STALL_S: Final = 0.010
TIMED_FRAMES: Final = 64
"""Frames whose way is being timed, per stream: four times what may be in flight."""


@dataclass(slots=True)
class _Timing:
    """Instants of one frame on its way."""

    t_first: float
    t_complete: float
    sent: float
    answered: float = 0.0
    submitted: float = 0.0


class Savings:
    """Bytes in and out of one or all streams, and the share saved over the last seconds."""

    def __init__(self) -> None:
        self.bytes_in = 0
        self.bytes_out = 0
        self._history: deque[tuple[float, int, int]] = deque()

    def add(self, now: float, bytes_in: int, bytes_out: int) -> None:
        if not self._history:
            self._history.append((now, 0, 0))
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        self._history.append((now, self.bytes_in, self.bytes_out))
        while len(self._history) > 2 and self._history[1][0] <= now - SAVED_SPAN_S:
            self._history.popleft()

    def share(self) -> float | None:
        """1 - out / in; None before the first bytes."""
        if not self._history:
            return None
        bytes_in = self.bytes_in - self._history[0][1]
        return 1 - (self.bytes_out - self._history[0][2]) / bytes_in if bytes_in else None


class PacketLoss:
    """Share of the packets that sources sent and that never came, over the last seconds."""

    def __init__(self) -> None:
        self._history: deque[tuple[float, int, int]] = deque()

    def add(self, now: float, received: int, lost: int) -> None:
        """Totals; they shrink when a stream ends, and counting begins anew."""
        if self._history and (received < self._history[-1][1] or lost < self._history[-1][2]):
            self._history.clear()
        self._history.append((now, received, lost))
        while self._history[0][0] < now - SAVED_SPAN_S:
            self._history.popleft()

    def share(self) -> float:
        if not self._history:
            return 0.0
        (_, received_0, lost_0), (_, received, lost) = self._history[0], self._history[-1]
        expected = received - received_0 + lost - lost_0
        return (lost - lost_0) / expected if expected else 0.0


class LatencyBook:
    """Where the time of compressed frames goes: histograms for /metrics, recent percentiles for /status."""

    def __init__(self, metrics: Metrics) -> None:
        self._stages = metrics.stages
        self.recent = {name: RecentWindow() for name in ("assembly", "ai_core", "pod", "pace", "total")}
        self.ai_core_sum_ms = 0.0
        self.ai_core_count = 0

    def answered(self, timing: _Timing, result: Result, now: float) -> None:
        ai_core_ms = (now - timing.sent) * 1000
        queue_ms, encoder_ms = result.queue_us / 1000, result.encoder_us / 1000
        self.ai_core_sum_ms += ai_core_ms
        self.ai_core_count += 1
        self._stages["queue"].observe(queue_ms)
        self._stages["encoder"].observe(encoder_ms)
        self._stages["transport"].observe(max(0.0, ai_core_ms - queue_ms - encoder_ms))
        self.recent["ai_core"].add(now, ai_core_ms)

    def sent(self, timing: _Timing, event: FrameSent) -> None:
        """Pacing spreads a big frame on purpose; it is no work of the pod's."""
        handed_over = timing.submitted if event.packets > UNPACED_PACKETS else event.t_sent
        values = {
            "assembly": timing.t_complete - timing.t_first,
            "pod": (timing.sent - timing.t_complete) + (handed_over - timing.answered),
            "pace": event.t_sent - handed_over,
            "total": event.t_sent - timing.t_first,
        }
        for name, seconds in values.items():
            milliseconds = max(0.0, seconds * 1000)
            self.recent[name].add(event.t_sent, milliseconds)
            if name in self._stages:
                self._stages[name].observe(milliseconds)


@dataclass(frozen=True, slots=True)
class _Counters:
    """Of one stream and its outs, as the packet core counts them."""

    frames: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    frames_out: int = 0


class Stream:
    """One source: its outs, and for video its pipeline and session."""

    def __init__(self, streams: "Streams", started: StreamStarted, leg: OpenLeg, rules: Rules) -> None:
        self.id = started.stream
        self.room = leg.room
        self.leg = leg
        self.codec = started.codec
        self.media = started.media
        self.ssrc = started.ssrc
        self.outs: dict[int, int] = {}  # leg -> out
        self.taken_over: dict[int, tuple[int, int]] = {}  # out -> frames and bytes of the stream that had it before
        self.savings = Savings()
        self.counted = _Counters()
        self.counts_as: tuple[str | None, bool] = (None, False)
        self.rules = rules
        self.policy = rules.compression_of(self.media, self.codec)
        self.pipeline = Pipeline(self.policy, streams.limits) if started.media == "video" else None
        self._streams = streams
        self._engine = streams.engine
        self._session: Session | None = None
        self._timings: OrderedDict[int, _Timing] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def start(self) -> None:
        if self.pipeline is None:
            self._engine.set_mode(self.id, Mode.BYPASS, extension=False, degraded=False, at_frame=None)
        else:
            self.run(self.pipeline.start(self._streams.clock()))

    def link(self, target: OpenLeg) -> None:
        medium = target.spec.media.get(self.media)
        if not target.spec.sends or medium is None or target.id == self.leg.id or target.id in self.outs:
            return
        if not self.rules.forwards(self.media, self.codec):
            return
        if all(payload.codec != self.codec for payload in medium.payloads):
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
        before = self._engine.stats().get("outs", {}).get(out, {})
        self.taken_over[out] = before.get("frames", 0), before.get("payload_bytes", 0)

    def counts(self) -> tuple[str | None, bool]:
        """How its frames count: as fallback for which reason, and whether they are held."""
        return (self.pipeline.fallback, self.pipeline.state is State.HOLD) if self.pipeline else (None, False)

    def close(self) -> None:
        if self.pipeline:
            self.run(self.pipeline.close())
        if self._timer:
            self._timer.cancel()

    # --- what happens ---------------------------------------------------------------------------------------

    def receive(self, frame: Frame) -> None:
        if self.pipeline:
            self.run(self.pipeline.receive(frame, self._streams.clock()))

    def happened(self, event: Event) -> None:
        if self.pipeline is None:
            return
        now = self._streams.clock()
        match event:
            case ModeApplied():
                self.run(self.pipeline.mode_applied(event.mode, now))
            case KeyWanted():
                self.run(self.pipeline.key_wanted(now))
            case StreamFailed():
                log.warning("frames were lost before the pipeline", extra={**self.names(), "reason": event.reason})
                self.run(self.pipeline.overflowed(now))
            case FrameSent():
                timing = self._timings.pop(event.frame_id, None)
                if timing and timing.submitted:
                    self._streams.latency.sent(timing, event)

    def unlink(self) -> None:
        """From every leg."""
        for out in self.outs.values():
            self._engine.unlink(out)
        self.outs.clear()

    def configure(self, rules: Rules, limits: Limits) -> None:
        """What may go out goes out from its next key on, what may not ends here."""
        self.rules = rules
        self.policy = rules.compression_of(self.media, self.codec)
        if rules.forwards(self.media, self.codec):
            self._streams.link(self)
        elif self.outs:
            self._streams.settle(self)
            self.unlink()
        if self.pipeline:
            self.run(self.pipeline.configure(self.policy, limits, self._streams.clock()))

    def endpoint_available(self) -> None:
        if self.pipeline:
            self.run(self.pipeline.available(self._streams.clock()))

    # --- the session's side ---------------------------------------------------------------------------------

    def session_opened(self, session: int, max_in_flight: int, *, probe: bool) -> None:
        if self.pipeline:
            self.run(self.pipeline.opened(session, max_in_flight, self._streams.clock(), probe=probe))

    def session_refused(self, session: int, why: Refusal) -> None:
        if self.pipeline:
            self.run(self.pipeline.refused(session, why, self._streams.clock()))

    def session_result(self, session: int, result: Result) -> None:
        if self.pipeline is None:
            return
        now = self._streams.clock()
        timing = self._timings.get(result.frame_id)
        if timing:
            timing.answered = now
            self._streams.answered(timing, result, now)
            if result.disposition is not Disposition.COMPRESSED:
                del self._timings[result.frame_id]
        self.run(self.pipeline.result(session, result, now))

    def session_failed(self, session: int, failure: Failure) -> None:
        if self.pipeline:
            self.run(self.pipeline.failed(session, failure, self._streams.clock()))

    def session_draining(self, session: int) -> None:
        if self.pipeline:
            self.run(self.pipeline.draining(session, self._streams.clock()))

    def session_shed(self, session: int) -> None:
        if self.pipeline:
            self.run(self.pipeline.shed(session, self._streams.clock()))

    # --- carrying decisions out -----------------------------------------------------------------------------

    def run(self, decisions: list[Decision]) -> None:
        todo = deque(decisions)
        while todo:
            todo.extend(self._do(todo.popleft()))
        if self.counts() != self.counts_as:
            self._streams.settle(self)
        self._arm()

    def _do(self, decision: Decision) -> list[Decision]:
        match decision:
            case act.Send():
                self._send(decision)
            case act.Submit():
                return self._submit(decision)
            case act.SubmitNative():
                # Refused where its reference did not leave: the core counts it and asks for a key itself.
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
            case act.ForceKey() if self._session:
                self._session.force_key()
            case act.UpdatePolicy() if self._session:
                self._session.update_policy(decision.policy)
            case act.Proven() if self._session:
                self._session.proven()
            case act.Switched():
                self._streams.switched(self, decision)
        return []

    def _send(self, decision: act.Send) -> None:
        if self._session is None:
            return
        frame = decision.frame
        self._session.send(frame, decision.mode, decision.deadline_ms)
        if decision.mode is Mode.COMPRESS:
            self._timings[frame.frame_id] = _Timing(frame.t_first, frame.t_complete, self._streams.clock())
            if len(self._timings) > TIMED_FRAMES:
                self._timings.popitem(last=False)

    def _submit(self, decision: act.Submit) -> list[Decision]:
        taken = self._engine.submit(self.id, decision.frame_id, decision.data, decision.extension, decision.key)
        now = self._streams.clock()
        if not taken:
            return self.pipeline.submit_refused(now) if self.pipeline else []
        self._streams.compressed()
        timing = self._timings.get(decision.frame_id)
        if timing:
            timing.submitted = now
        return []

    def _open_session(self, decision: act.OpenSession) -> list[Decision]:
        request = SessionRequest(
            name=f"{self.room}/{self.ssrc}",
            number=decision.session,
            room=self.room,
            codec=self.codec,
            clock_rate=CLOCK_RATES[self.codec],
            policy=decision.policy,
        )
        self._session = self._streams.aic.open(request, self)
        if self._session is None and self.pipeline:
            return self.pipeline.refused(decision.session, Refusal.NO_ENDPOINT, self._streams.clock())
        return []

    def _close_session(self, decision: act.CloseSession) -> None:
        if self._session and self._session.number == decision.session:
            self._session.close(decision.failure)
            self._session = None
        if decision.failure:
            unanswered = [frame for frame, timing in self._timings.items() if not timing.answered]
            self._streams.lost(len(unanswered))
            for frame in unanswered:
                del self._timings[frame]
            log.warning("session failed", extra={**self.names(), "reason": decision.failure.value})

    def _arm(self) -> None:
        """One timer per stream, armed anew only when something is due earlier than it rings."""
        at = self.pipeline.next_tick() if self.pipeline else None
        if at is None or (self._timer and self._timer_at <= at):
            return
        if self._timer:
            self._timer.cancel()
        self._timer_at = at
        delay = max(0.0, at - self._streams.clock())
        self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        """A timer that rings late tells of a stall of ours: answers that came meanwhile are read before anybody is
        called late."""
        self._timer = None
        now = self._streams.clock()
        if now > self._timer_at + OWN_STALL_S:
            self._timer_at = now + OWN_STALL_S
            self._timer = asyncio.get_running_loop().call_later(OWN_STALL_S, self._ring)
        elif self.pipeline:
            self.run(self.pipeline.tick(now))

    def names(self) -> dict[str, object]:
        return {"room": self.room, "leg": self.leg.spec.name, "stream": self.id}


class Streams:
    """Every stream of the pod."""

    def __init__(self, engine: PacketEngine, metrics: Metrics, *, clock: Callable[[], float]) -> None:
        self.engine = engine
        self.metrics = metrics
        self.clock = clock
        self.limits = Limits()
        self.latency = LatencyBook(metrics)
        self.savings = Savings()
        self.fallback_frames = 0
        self.frames_processed = 0
        self.frames_compressed = 0
        self.packets = PacketLoss()
        self.requests = 0
        self.successes = 0
        self.failures = 0
        self.aic: AicClient
        self.legs: PlainRtpLegs
        self._streams: dict[int, Stream] = {}
        self._rules: Mapping[str, Rules] = {}

    def connect(self, aic: AicClient, legs: PlainRtpLegs) -> None:
        """The two that call back here."""
        self.aic = aic
        self.legs = legs

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self.engine.fileno(), self.pump)

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self.engine.fileno())
        for stream in list(self._streams.values()):
            stream.close()
        self._streams.clear()

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._streams.values())

    def configure(self, rules: Mapping[str, Rules], limits: Limits) -> None:
        """`rules`: what each room gets."""
        self._rules = rules
        self.limits = limits
        for stream in list(self._streams.values()):
            stream.configure(rules.get(stream.room, stream.rules), limits)

    def endpoint_available(self) -> None:
        for stream in list(self._streams.values()):
            stream.endpoint_available()

    def link(self, stream: Stream) -> None:
        """To every leg of its room that takes it."""
        for target in self.legs.open.values():
            if target.room == stream.room:
                stream.link(target)

    def leg_opened(self, leg: OpenLeg) -> None:
        for stream in self._streams.values():
            if stream.room == leg.room:
                stream.link(leg)

    def leg_closed(self, leg: OpenLeg) -> None:
        """Its own streams are gone with it; nothing may link them between now and their event."""
        for stream in list(self._streams.values()):
            stream.outs.pop(leg.id, None)
            if stream.leg.id == leg.id:
                self._ended(stream.id, "leg closed")

    def pump(self) -> None:
        """Root of everything that the packet core tells. An error costs its stream one event, not the pod the rest."""
        for event in self.engine.poll():
            try:
                self._handle(event)
            except Exception:
                log.exception("event was not handled", extra={"event": type(event).__name__})

    def _handle(self, event: Frame | Event) -> None:
        match event:
            case Frame():
                if stream := self._streams.get(event.stream):
                    stream.receive(event)
            case StreamStarted():
                self._started(event)
            case StreamEnded():
                self._ended(event.stream, event.reason)
            case LegFailed():
                self.legs.failed(event.leg, event.reason)
            case _:
                if stream := self._streams.get(event.stream):
                    stream.happened(event)

    def _started(self, event: StreamStarted) -> None:
        leg = self.legs.by_id(event.leg)
        if leg is None:
            return  # closed meanwhile; the packet core ends the stream
        stream = Stream(self, event, leg, self._rules.get(leg.room, Rules()))
        self._streams[stream.id] = stream
        log.info(
            "stream started", extra={**stream.names(), "media": event.media, "codec": event.codec, "ssrc": event.ssrc}
        )
        self.link(stream)
        stream.start()

    def _ended(self, stream: int, reason: str) -> None:
        if ended := self._streams.pop(stream, None):
            log.info("stream ended", extra={**ended.names(), "reason": reason})
            ended.close()

    # --- counting -------------------------------------------------------------------------------------------

    def answered(self, timing: _Timing, result: Result, now: float) -> None:
        self.latency.answered(timing, result, now)
        self.metrics.latency.observe((now - timing.sent) * 1000)
        failed = result.disposition is Disposition.FAILED
        self.requests += 1
        self.failures += failed
        self.successes += not failed
        self.metrics.requests.labels("failed" if failed else "successful").inc()

    def lost(self, frames: int) -> None:
        """Frames whose session failed before the answer."""
        self.requests += frames
        self.failures += frames
        self.metrics.requests.labels("failed").inc(frames)

    def compressed(self) -> None:
        self.frames_compressed += 1
        self.metrics.frames_compressed.inc()

    def switched(self, stream: Stream, switch: act.Switched) -> None:
        self.metrics.switches.labels(switch.old.value, switch.new.value).inc()
        log.info(
            "stream switched",
            extra={**stream.names(), "from": switch.old.value, "to": switch.new.value, "reason": switch.reason},
        )

    def sample(self, now: float) -> Mapping[str, Any]:
        """Once a second: what the packet core did meanwhile, also with frames that Python never sees. In the accounts a
        frame counts once per out; while a stream is held, nothing is saved, only missing. Returns its counters."""
        stats = self.engine.stats()
        for stream in self._streams.values():
            self._account(stream, stats, now)
        sources = stats.get("streams", {}).values()
        self.packets.add(
            now, sum(one.get("packets", 0) for one in sources), sum(one.get("lost_packets", 0) for one in sources)
        )
        self.metrics.compression_ratio.set(self.savings.share() or 0.0)
        self.metrics.circuit_breaker_open.set(self.aic.circuit_breaker_open)
        return stats

    def settle(self, stream: Stream) -> None:
        """The stream's frames count differently from now on: what came before still counts as it was."""
        self._account(stream, self.engine.stats(), self.clock())

    def _account(self, stream: Stream, stats: Mapping[str, Any], now: float) -> None:
        counters = _counters(stats, stream)
        frames = max(0, counters.frames - stream.counted.frames)
        bytes_in = (counters.bytes_in - stream.counted.bytes_in) * len(stream.outs)
        bytes_out = counters.bytes_out - stream.counted.bytes_out
        stream.counted = counters
        (fallback, held), stream.counts_as = stream.counts_as, stream.counts()
        if stream.pipeline is None or not stream.policy.enabled:
            return
        self.frames_processed += frames
        self.metrics.frames_processed.inc(frames)
        if fallback:
            self.fallback_frames += frames
            self.metrics.fallback.labels(fallback).inc(frames)
        if held or bytes_in < 0 or bytes_out < 0:
            return
        stream.savings.add(now, bytes_in, bytes_out)
        self.savings.add(now, bytes_in, bytes_out)
        self.metrics.input_bytes.inc(bytes_in)
        self.metrics.output_bytes.inc(bytes_out)
        self.metrics.saved_bytes.set(self.savings.bytes_in - self.savings.bytes_out)

    def live_legs(self) -> set[tuple[str, str]]:
        """Source legs with live media: the pod's sessions."""
        return {stream.leg.key for stream in self._streams.values()}


def _counters(stats: Mapping[str, Any], stream: Stream) -> _Counters:
    source = stats.get("streams", {}).get(stream.id, {})
    frames_out = bytes_out = 0
    for out in stream.outs.values():
        before_frames, before_bytes = stream.taken_over[out]
        counted = stats.get("outs", {}).get(out, {})
        frames_out += counted.get("frames", 0) - before_frames
        bytes_out += counted.get("payload_bytes", 0) - before_bytes
    extension = EXTENSION_BYTES_ON_WIRE if stream.pipeline and stream.policy.enabled else 0
    return _Counters(
        frames=source.get("frames", 0),
        bytes_in=source.get("payload_bytes", 0),
        bytes_out=bytes_out + extension * frames_out,
        frames_out=frames_out,
    )
