"""The metric objects of a pod under the guide's names, made once by `app` and passed to whoever counts."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

LATENCY_BUCKETS_MS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 33, 50, 75, 100, 150, 200)
STAGES = ("assembly", "queue", "encoder", "transport", "pod", "pace")


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.frames_processed = Counter(
            "auralink_aic_frames_processed", "Video frames of streams with compression on", registry=own
        )
        self.frames_compressed = Counter(
            "auralink_aic_frames_compressed", "Video frames that went out recompressed", registry=own
        )
        self.input_bytes = Counter("auralink_aic_input_bytes", "Native payload of what went out", registry=own)
        self.output_bytes = Counter("auralink_aic_output_bytes", "Payload and extension sent for it", registry=own)
        self.fallback = Counter(
            "auralink_aic_fallback", "Frames native or frozen because of a failure", ["reason"], registry=own
        )
        self.compression_ratio = Gauge(
            "auralink_aic_compression_ratio", "Share of bytes saved over the last 10 s", registry=own
        )
        self.saved_bytes = Gauge("auralink_aic_bandwidth_saved_bytes", "Net saving since start", registry=own)
        self.latency = Histogram(
            "auralink_aic_latency_ms",
            "Frame sent to the AI Core until its answer",
            buckets=LATENCY_BUCKETS_MS,
            registry=own,
        )
        stages = Histogram(
            "auralink_frame_latency_ms",
            "Latency of a compressed frame by stage",
            ["stage"],
            buckets=LATENCY_BUCKETS_MS,
            registry=own,
        )
        self.stages = {stage: stages.labels(stage) for stage in STAGES}
        self.requests = Counter(
            "auralink_aic_requests", "Frames sent to be compressed, by outcome", ["outcome"], registry=own
        )
        self.switches = Counter(
            "auralink_aic_switches", "Changes of a stream's state", ["from_state", "to_state"], registry=own
        )
        self.promotions = Counter(
            "auralink_aic_promotions",
            "Sessions that ended with a standby beside them, by outcome",
            ["outcome"],
            registry=own,
        )
        self.sender_hints = Counter(
            "auralink_aic_sender_hints",
            "Times that the AI Core wished a sender spent less, by reason",
            ["reason"],
            registry=own,
        )
        self.circuit_breaker_open = Gauge(
            "auralink_aic_circuit_breaker_open", "1 when every endpoint's breaker is open", registry=own
        )
        self.rooms_active = Gauge("auralink_rooms_active", "Rooms this pod serves", registry=own)
        self.participants = Gauge("auralink_participants_total", "Sources with live media", registry=own)
        self.sessions_active = Gauge("auralink_sessions_active", "Source legs with live media", registry=own)
        self.rooms_taken = Counter("auralink_rooms_taken", "Rooms that came to this pod", registry=own)
        self.rooms_left = Counter("auralink_rooms_left", "Rooms that went on to another pod", registry=own)
        self.sessions_cut = Counter("auralink_sessions_cut", "Sessions still live when the pod ended", registry=own)
        self._drain_stage = Gauge("auralink_drain_stage", "1 for the stage the pod is in", ["stage"], registry=own)
        self.draining("serving")
        self.config_generation = Gauge("auralink_config_generation", "Configuration in force", registry=own)

    def draining(self, stage: str) -> None:
        """`stage`: of rooms.drain."""
        self._drain_stage.clear()
        self._drain_stage.labels(stage).set(1)

    def observe_packets(self, counters: Callable[[], Mapping[str, Mapping[str, int]]]) -> None:
        """`counters`: the packet core's, read at each scrape: {"drops": {reason: n}, "packets": {direction: n}}."""
        self.registry.register(_PacketCounters(counters))

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _PacketCounters(Collector):
    def __init__(self, read: Callable[[], Mapping[str, Mapping[str, int]]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        counters = self._read()
        drops = CounterMetricFamily("auralink_packets_dropped", "Packets dropped, by reason", labels=["reason"])
        for reason, count in sorted(counters.get("drops", {}).items()):
            drops.add_metric([reason], count)
        yield drops
        totals = CounterMetricFamily("auralink_packets", "Packets of all legs", labels=["direction"])
        for direction, count in sorted(counters.get("packets", {}).items()):
            totals.add_metric([direction], count)
        yield totals

    def describe(self) -> Iterable[Metric]:
        return []


class RecentWindow:
    """Values of the last seconds, bounded, for the percentiles that /status shows."""

    def __init__(self, span_s: float = 60.0, size: int = 8192) -> None:
        self._span_s = span_s
        self._values: deque[tuple[float, float]] = deque(maxlen=size)

    def add(self, now: float, value: float) -> None:
        self._values.append((now, value))

    def percentiles(self, now: float) -> dict[str, float | int | None]:
        while self._values and self._values[0][0] < now - self._span_s:
            self._values.popleft()
        ordered = sorted(value for _, value in self._values)
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
        found = {
            name: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None
            for name, share in shares.items()
        }
        return {**found, "count": len(ordered)}
