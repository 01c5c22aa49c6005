"""The operator's metrics, one object that `__main__` makes and passes in; `health` serves them.

Every label is bounded: kinds, verbs and codes by what Kubernetes has, bridges by `Bridges`.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

_NAME = "auralink_operator"
_CONDITIONS = ("Ready", "Stalled", "Degraded", "Draining", "PolicyConflict")
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LONG = (0.05, 0.1, 0.25, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 300)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._of_reconciles()
        self._of_the_api()
        self._of_the_watches()
        self.bridges = Bridges(self)

    def _of_reconciles(self) -> None:
        self.reconcile = self._counter("reconcile", "Reconciles by result", "kind", "result")
        self.errors = self._counter("errors", "Reconciles that failed, by whose fault and how", "class")
        self.reconcile_seconds = self._histogram("reconcile_seconds", "Time of one reconcile", _SHORT)
        self.reconcile_own_seconds = self._histogram(
            "reconcile_own_seconds",
            "Wait in the queue and work of one reconcile, without the API server's part",
            _SHORT,
        )
        self.queue_wait_seconds = self._histogram(
            "queue_wait_seconds", "Time from the moment a key was due until a worker took it", _SHORT
        )
        self.queue_depth = self._gauge("queue_depth", "Keys that are due or at work")
        self.queue_oldest_seconds = self._gauge("queue_oldest_seconds", "Age of the oldest due or running key")
        self.drift_repaired = self._counter("drift_repaired", "Children that somebody else had changed", "kind")
        self.status_writes = self._counter("status_writes", "Writes of a status", "kind")
        self.dead_pods = self._counter("dead_pods", "Status entries of pods that are gone")
        self.config_ack_seconds = self._histogram(
            "config_ack_seconds", "Time from a new configuration to the last pod's acknowledgement", _LONG
        )
        self.bridge_config_generation = self._gauge(
            "bridge_config_generation", "Generation of a bridge's configuration", "bridge", "state"
        )

        self.bridge_condition = self._gauge(
            "bridge_condition", "1 where a condition of a bridge is True", "bridge", "type"
        )

    def _of_the_api(self) -> None:
        self.api_requests = self._counter("api_requests", "Requests to the API server", "verb", "resource", "code")
        self.api_throttled = self._counter("api_throttled", "Requests that the operator's own rate limit held back")
        self.leader = self._gauge("leader", "1 while this process is the one that works")

    def _of_the_watches(self) -> None:
        self.ghosts = self._counter("ghosts", "Objects found gone that the watch still had")
        self.objects = self._gauge("objects", "Objects in the index at the last comparison", "kind")
        self.watch_behind_seconds = self._gauge(
            "watch_behind_seconds",
            "How long a watch has lacked what the API server lists; 0 while it lacks nothing",
            "kind",
        )
        self.watch_events = self._counter("watch_events", "Watch events", "kind")

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(f"{_NAME}_{name}", says, labels, registry=self.registry)

    def _gauge(self, name: str, says: str, *labels: str) -> Gauge:
        return Gauge(f"{_NAME}_{name}", says, labels, registry=self.registry)

    def _histogram(self, name: str, says: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"{_NAME}_{name}", says, buckets=buckets, registry=self.registry)


class Bridges:
    """What is shown of each bridge: its conditions, and its configuration from the ConfigMap to the last pod.

    At most `limit` bridges are shown by name: past that a series per bridge would cost more than it tells.
    """

    def __init__(self, metrics: Metrics, limit: int = 1000) -> None:
        self._metrics = metrics
        self._limit = limit
        self._shown: set[str] = set()
        self._desired: dict[str, int] = {}
        self._since: dict[str, float] = {}  # of the bridges whose pods have not all acknowledged

    def pushed(self, bridge: str, generation: int, now: float) -> None:
        """A ConfigMap carries this generation; only a change of one known before starts the clock."""
        before = self._desired.get(bridge)
        if before == generation:
            return
        self._desired[bridge] = generation
        self._show(bridge, "desired", generation)
        if before is not None:
            self._since[bridge] = now

    def acknowledged(self, bridge: str, generations: Collection[int], now: float) -> None:
        """What the serving pods of a bridge say that they run."""
        if not generations:
            return
        lowest = min(generations)
        self._show(bridge, "acked", lowest)
        if lowest >= self._desired.get(bridge, 0) and (since := self._since.pop(bridge, None)) is not None:
            self._metrics.config_ack_seconds.observe(now - since)

    def conditions(self, bridge: str, conditions: Mapping[str, bool]) -> None:
        """Which conditions are there, and whether each is True."""
        if self._may_show(bridge):
            for of in _CONDITIONS:
                if of in conditions:
                    self._metrics.bridge_condition.labels(bridge, of).set(conditions[of])
                else:
                    _remove(self._metrics.bridge_condition, bridge, of)

    def forget(self, bridge: str) -> None:
        self._desired.pop(bridge, None)
        self._since.pop(bridge, None)
        if bridge in self._shown:
            self._shown.remove(bridge)
            for state in ("desired", "acked"):
                _remove(self._metrics.bridge_config_generation, bridge, state)
            for of in _CONDITIONS:
                _remove(self._metrics.bridge_condition, bridge, of)

    def _show(self, bridge: str, state: str, generation: int) -> None:
        if self._may_show(bridge):
            self._metrics.bridge_config_generation.labels(bridge, state).set(generation)

    def _may_show(self, bridge: str) -> bool:
        if bridge not in self._shown and len(self._shown) < self._limit:
            self._shown.add(bridge)
        return bridge in self._shown


def _remove(gauge: Gauge, *labels: str) -> None:
    with suppress(KeyError):  # never shown
        gauge.remove(*labels)
