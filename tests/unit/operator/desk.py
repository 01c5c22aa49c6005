"""A reconcile at a desk: a context over the API server in memory, with a clock that tests move."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

from auralink_operator.cluster import Cluster
from auralink_operator.context import Context
from auralink_operator.index import BRIDGE, Ghosts, Indices, Key, Obj
from auralink_operator.metrics import Metrics
from auralink_operator.queue import WorkQueue
from auralink_operator.reconcile import reconcile
from auralink_operator.report import PROGRESS_EVERY_S, STATUS_EVERY_S
from auralink_operator.settings import Settings

from tests.fakes.kube import FakeCluster, LiveStore
from tests.unit.operator import samples

KEY = Key(BRIDGE, "ns", "b")
CONFIG = Key("ConfigMap", "ns", "auralink-b-config")
DEPLOYMENT = Key("Deployment", "ns", "auralink-b")
START = datetime(2026, 1, 1, tzinfo=UTC)


class Desk:
    def __init__(self, *objects: Obj, settings: Settings = samples.SETTINGS) -> None:
        self.cluster = FakeCluster(*objects)
        self.time = 1000.0
        self.ghosts = Ghosts()
        self.queue = WorkQueue(lambda: self.time, lambda: 0.5)
        self.context = self.another_process(settings)

    def another_process(self, settings: Settings) -> Context:
        """A context that remembers nothing, over the same cluster."""
        self.context = Context(
            cluster=cast(Cluster, self.cluster),
            queue=self.queue,
            settings=settings,
            indices=Indices(LiveStore(self.cluster), self.ghosts),
            ghosts=self.ghosts,
            metrics=Metrics(),
            clock=lambda: self.time,
            now=lambda: START + timedelta(seconds=self.time),
        )
        return self.context

    async def look(self, key: Key = KEY) -> float | None:
        return await reconcile(key, self.context)

    async def settle(self, key: Key = KEY) -> None:
        """Until a look changes nothing, now or in a second; a Deployment's pods come up in between."""
        deployment = Key("Deployment", key.namespace, f"auralink-{key.name}")
        for _ in range(10):
            self.roll_out(deployment)
            count = len(self.cluster.calls)
            again_s = await self.look(key)
            if again_s is not None and again_s <= PROGRESS_EVERY_S:
                self.time += again_s
            elif len(self.cluster.calls) == count:
                return
        raise AssertionError(f"never settles: {self.cluster.calls[-5:]}")

    def roll_out(self, deployment: Key = DEPLOYMENT) -> None:
        if (live := self.cluster.objects.get(deployment)) is not None:
            generation = int(live["metadata"].get("generation") or 1)
            self.cluster.objects[deployment] = samples.rolled_out(live, generation)

    def child(self, kind: str, name: str = "auralink-b") -> Obj | None:
        return self.cluster.objects.get(Key(kind, "ns", name))

    def replicas(self) -> int:
        return int(self.cluster.objects[DEPLOYMENT]["spec"]["replicas"])

    def status(self, key: Key = KEY) -> Obj:
        return cast(Obj, self.cluster.objects[key]["status"])

    def condition(self, of: str, key: Key = KEY) -> tuple[str, str]:
        found = (c for c in self.status(key).get("conditions") or () if c["type"] == of)
        return next(((c["status"], c["reason"]) for c in found), ("", ""))

    def ready(self, key: Key = KEY) -> tuple[str, str]:
        return self.condition("Ready", key)

    def message(self, key: Key = KEY, of: str = "Ready") -> str:
        return str(next(c["message"] for c in self.status(key)["conditions"] if c["type"] == of))

    def since(self, count: int) -> list[tuple[str, str]]:
        return [(verb, key.kind) for verb, key in self.cluster.calls[count:]]

    def edit(self, **spec: Any) -> None:
        """A user's change of the bridge."""
        self.cluster.change(KEY, {"spec": spec})

    def acknowledge(self, name: str, generation: int) -> None:
        self.report(name, generation, rooms=1, sessions=1)

    def report(self, name: str, generation: int = 1, **more: Any) -> None:
        self.cluster.report(KEY, samples.entry(name, generation, **more))


async def serving(*pods: str, settings: Settings = samples.SETTINGS, **spec: Any) -> Desk:
    """A bridge that is Ready; every pod has one session."""
    names = pods or ("p1",)
    if len(names) > 1 and "autoscaling" not in spec:
        spec.setdefault("replicas", len(names))
    desk = Desk(samples.bridge(**spec), *(samples.pod(name) for name in names), settings=settings)
    await desk.look()  # before there is a configuration no pod has any
    for name in names:
        desk.acknowledge(name, 1)
    await desk.settle()
    assert desk.ready() == ("True", "Succeeded")
    desk.time += STATUS_EVERY_S
    return desk
