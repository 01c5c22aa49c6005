"""The metric objects, made once by `__main__` and passed in."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.010, 0.013, 0.016, 0.020, 0.033, 0.050, 0.1, 0.2)

_DECIBELS = (28, 30, 32, 34, 35, 36, 37, 38, 39, 40, 42, 44, 46, 50)
_VMAF = (60, 70, 75, 80, 84, 86, 88, 90, 92, 94, 95, 96, 97, 98, 99)


class Metrics:
    """Everything `/metrics` shows, on a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.frames = Counter(
            "auralink_aicore_frames", "Frames answered, by what became of them", ["disposition"], registry=registry
        )
        self.bytes_in = Counter("auralink_aicore_input_bytes", "Bytes of the frames compressed", registry=registry)
        self.bytes_out = Counter("auralink_aicore_output_bytes", "Bytes they became", registry=registry)
        self.encoder_s = Histogram(
            "auralink_aicore_encoder_seconds",
            "Decoding and encoding of a compressed frame",
            ["key"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue_s = Histogram(
            "auralink_aicore_queue_seconds",
            "Arrival until a worker took the frame",
            buckets=_SECONDS,
            registry=registry,
        )
        self.psnr_db = Histogram(
            "auralink_aicore_psnr_db_of_ours_against_senders",
            "Of each compressed picture against the decoded one of the sender's; not of H.265",
            ["codec"],
            buckets=_DECIBELS,
            registry=registry,
        )
        self.vmaf = Histogram(
            "auralink_aicore_vmaf_of_ours_against_senders",
            "Of each sample against the decoded pictures of the sender's",
            ["codec"],
            buckets=_VMAF,
            registry=registry,
        )
        self.samples = Counter(
            "auralink_aicore_evidence_samples",
            "Samples for scoring, by what became of them",
            ["outcome"],
            registry=registry,
        )
        self.sessions = Gauge("auralink_aicore_sessions", "Sessions served now", registry=registry)
        self.refused = Counter(
            "auralink_aicore_sessions_refused", "Sessions not opened, by status", ["status"], registry=registry
        )
        self.shed = Counter(
            "auralink_aicore_sessions_shed", "Standbys ended for streams that compress", registry=registry
        )
        self.lost = Counter("auralink_aicore_sessions_lost", "Sessions that died with their worker", registry=registry)
        self.workers = Gauge("auralink_aicore_workers", "Worker processes up now", registry=registry)
        self.worker_deaths = Counter("auralink_aicore_worker_deaths", "Worker processes that died", registry=registry)
        self.load = Gauge("auralink_aicore_load", "Of what may be admitted, 0 to 1", registry=registry)
        self.host_factor = Gauge(
            "auralink_aicore_host_factor", "This host's time per frame over the reference core's", registry=registry
        )
