"""What the pod has done so far, for `/status` and `/metrics`: bytes saved, packets lost, where the time went."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from auralink_dataplane.media.frame_types import FrameType, FrameTypes
from auralink_dataplane.media.frames import Ask, Disposition, Frame, FrameSent, Result
from auralink_dataplane.media.pipeline import decisions as act
from auralink_dataplane.metrics import Metrics, RecentWindow

if TYPE_CHECKING:
    from auralink_dataplane.media.packets import Stats

SAVED_SPAN_S: Final = 10.0
WISH_HOLDS_S: Final = 15.0
"""A wish to the sender: the AI Core says it again every 5 s while it stands."""
UNPACED_PACKETS: Final = 16
"""The packet core sends so many of a frame at once and paces the rest."""


@dataclass(slots=True)
class Timing:
    """Of one frame on its way: its instants, and its size as it came and as it goes."""

    t_first: float
    t_complete: float
    native_bytes: int
    sent: float
    answered: float = 0.0
    submitted: float = 0.0
    our_bytes: int = 0

    def spared(self, payload_bytes: int) -> int:
        """How much more the native frame would have been. `payload_bytes`: what left of ours, over the receivers that
        got it, which need not be all."""
        return round(payload_bytes * (self.native_bytes / self.our_bytes - 1)) if self.our_bytes else 0


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
        self._forget(now)

    def share(self, now: float) -> float | None:
        """1 - out / in; None where nothing came lately."""
        self._forget(now)
        if not self._history:
            return None
        bytes_in = self.bytes_in - self._history[0][1]
        return 1 - (self.bytes_out - self._history[0][2]) / bytes_in if bytes_in else None

    def _forget(self, now: float) -> None:
        while len(self._history) > 1 and self._history[1][0] <= now - SAVED_SPAN_S:
            self._history.popleft()


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

    def answered(self, timing: Timing, result: Result, now: float) -> None:
        ai_core_ms = (now - timing.sent) * 1000
        queue_ms, encoder_ms = result.queue_us / 1000, result.encoder_us / 1000
        self.ai_core_sum_ms += ai_core_ms
        self.ai_core_count += 1
        self._stages["queue"].observe(queue_ms)
        self._stages["encoder"].observe(encoder_ms)
        self._stages["transport"].observe(max(0.0, ai_core_ms - queue_ms - encoder_ms))
        self.recent["ai_core"].add(now, ai_core_ms)

    def sent(self, timing: Timing, event: FrameSent) -> None:
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


class PictureBook:
    """What the frames of one stream were that came up: in `compress`, `shadow` and `hold`, not in `bypass`."""

    def __init__(self, codec: str) -> None:
        self._types = FrameTypes(codec)
        self.types: Counter[FrameType] = Counter()
        self.layers: Counter[tuple[int, int]] = Counter()  # by the highest spatial and temporal layer in it

    def came(self, frame: Frame) -> None:
        self.layers[frame.sid, frame.tid] += 1
        if found := self._types.of(frame.data):
            self.types[found] += 1


@dataclass(frozen=True, slots=True)
class Counters:
    """Of one stream and its outs, as the packet core counts them: a packet of audio is a frame."""

    frames: int = 0
    frames_out: int = 0
    payload_out: int = 0


def counters(stats: "Stats", stream: int, outs: Mapping[int, tuple[int, int]]) -> Counters:
    """`outs`: frames and bytes that another stream sent there before."""
    frames_out = payload_out = 0
    for out, (before_frames, before_bytes) in outs.items():
        if counted := stats["outs"].get(out):
            frames_out += counted["frames"] - before_frames
            payload_out += counted["payload_bytes"] - before_bytes
    source = stats["streams"].get(stream)
    frames = source.get("frames", source["packets"]) if source else 0  # those of audio are not put together
    return Counters(frames, frames_out, payload_out)


class Books:
    """Of all streams of the pod."""

    def __init__(self, metrics: Metrics) -> None:
        self.latency = LatencyBook(metrics)
        self.savings = Savings()
        self.packets = PacketLoss()
        self.fallback_frames = 0
        self.frames_processed = 0
        self.frames_compressed = 0
        self.requests = 0
        self.successes = 0
        self.failures = 0
        self.takeovers: Counter[str] = Counter()
        self._metrics = metrics

    def answered(self, timing: Timing, result: Result, now: float) -> None:
        self.latency.answered(timing, result, now)
        self._metrics.latency.observe((now - timing.sent) * 1000)
        failed = result.disposition is Disposition.FAILED
        self.requests += 1
        self.failures += failed
        self.successes += not failed
        self._metrics.requests.labels("failed" if failed else "successful").inc()

    def lost(self, frames: int) -> None:
        """Frames whose session failed before the answer."""
        self.requests += frames
        self.failures += frames
        self._metrics.requests.labels("failed").inc(frames)

    def compressed(self) -> None:
        self.frames_compressed += 1
        self._metrics.frames_compressed.inc()

    def switched(self, switch: act.Switched) -> None:
        self._metrics.switches.labels(switch.old.value, switch.new.value).inc()

    def asked(self, ask: Ask) -> None:
        """The AI Core wishes that a sender spend less."""
        self._metrics.sender_hints.labels(ask.reason.value).inc()

    def took_over(self, told: act.TookOver) -> None:
        self.takeovers[told.outcome.value] += 1
        self._metrics.promotions.labels(told.outcome.value).inc()

    def processed(self, frames: int, fallback: str | None) -> None:
        """`fallback`: why they went out as they came, against the policy's will."""
        self.frames_processed += frames
        self._metrics.frames_processed.inc(frames)
        if fallback:
            self.fallback_frames += frames
            self._metrics.fallback.labels(fallback).inc(frames)

    def carried(self, now: float, bytes_in: int, bytes_out: int) -> None:
        self.savings.add(now, bytes_in, bytes_out)
        self._metrics.input_bytes.inc(bytes_in)
        self._metrics.output_bytes.inc(bytes_out)
        self._metrics.saved_bytes.set(self.savings.bytes_in - self.savings.bytes_out)

    def sampled(self, stats: "Stats", now: float) -> None:
        """Once a second, after every stream's part."""
        sources = stats["streams"].values()
        self.packets.add(now, sum(one["packets"] for one in sources), sum(one["lost_packets"] for one in sources))
        self._metrics.compression_ratio.set(self.savings.share(now) or 0.0)
