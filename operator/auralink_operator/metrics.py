"""The operator's metrics, one object that `__main__` makes and passes in; `health` serves them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        name, registry = "auralink_operator", self.registry
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.reconcile = Counter(f"{name}_reconcile", "Reconciles by result", ["kind", "result"], registry=registry)
        self.reconcile_seconds = Histogram(
            f"{name}_reconcile_seconds",
            "Time of one reconcile",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        self.queue_depth = Gauge(f"{name}_queue_depth", "Keys waiting", registry=registry)
        self.queue_oldest_seconds = Gauge(
            f"{name}_queue_oldest_seconds", "Age of the oldest due key", registry=registry
        )
        self.api_requests = Counter(
            f"{name}_api_requests", "Requests to the API server", ["verb", "resource", "code"], registry=registry
        )
        self.drift_repaired = Counter(
            f"{name}_drift_repaired",
            "Children that somebody else had changed",
            ["kind"],
            registry=registry,
        )
        self.ghosts = Counter(f"{name}_ghosts", "Objects found gone that the watch still had", registry=registry)
        self.status_writes = Counter(f"{name}_status_writes", "Writes of a status", ["kind"], registry=registry)
        self.dead_pods = Counter(f"{name}_dead_pods", "Status entries of pods that are gone", registry=registry)
