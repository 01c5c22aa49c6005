"""What the comparison with the API server finds: ghosts, dead watches, kinds that came or went."""

from datetime import UTC, datetime
from typing import cast

import pytest
from auralink_operator.cluster import ApiError, Cluster
from auralink_operator.context import Context, Known
from auralink_operator.index import BRIDGE, POLICY, RESOURCES, SERVICE_MONITOR, Ghosts, Indices, Key, Obj
from auralink_operator.metrics import Metrics
from auralink_operator.models.observed import Capabilities
from auralink_operator.queue import WorkQueue
from auralink_operator.resync import DeadWatchError, KindsChangedError, Resync, discover

from tests.fakes.kube import FakeCluster, LiveStore
from tests.unit.operator import samples

KEY = Key(BRIDGE, "ns", "b")


class Offering(FakeCluster):
    """The fake with what it serves beyond Kubernetes itself."""

    def __init__(self, *objects: Obj) -> None:
        super().__init__(*objects)
        self.served: set[tuple[str, str]] = set()

    async def serves(self, group_version: str, plural: str) -> bool:
        return (group_version, plural) in self.served


class Desk:
    """A comparison over the fake, by a clock that tests move."""

    def __init__(self, *objects: Obj) -> None:
        self.cluster = Offering(*objects)
        self.now = 1000.0
        self.ghosts = Ghosts()
        self.again: list[Key] = []
        self.after_s: list[float] = []
        self.context = Context(
            cluster=cast(Cluster, self.cluster),
            queue=WorkQueue(lambda: self.now, lambda: 0.5),
            settings=samples.SETTINGS,
            indices=Indices(LiveStore(self.cluster), self.ghosts),
            ghosts=self.ghosts,
            metrics=Metrics(),
            clock=lambda: self.now,
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        )
        self.resync = Resync(
            self.context.cluster,
            self.context.indices,
            self.context.metrics,
            samples.SETTINGS,
            Capabilities(),
            lambda: self.now,
            lambda: 0.5,
            self.context.hide,
            self._again,
        )

    def _again(self, key: Key, after_s: float) -> None:
        self.again.append(key)
        self.after_s.append(after_s)


async def test_what_is_indexed_and_not_listed_is_a_ghost() -> None:
    desk = Desk(samples.bridge(), samples.pod("p1"))
    desk.cluster.lag()
    pod = desk.cluster.objects.pop(Key("Pod", "ns", "p1"))
    assert await desk.resync.look("Pod")
    assert pod["metadata"]["uid"] in desk.ghosts
    assert desk.resync.indices.get(Key("Pod", "ns", "p1")) is None


async def test_the_bridge_of_a_child_that_went_without_an_event_is_looked_at_in_the_same_comparison() -> None:
    desk = Desk(samples.bridge(), samples.pod("p1"))
    desk.cluster.lag()
    del desk.cluster.objects[Key("Pod", "ns", "p1")]
    await desk.resync.look("Pod")
    assert (desk.again, desk.after_s) == ([KEY], [0.0])


async def test_of_a_bridge_that_went_without_an_event_nothing_is_remembered_and_its_policies_know() -> None:
    policy = Key(POLICY, "ns", "x")
    desk = Desk(samples.bridge(), samples.bridge("c"), samples.policy("x"))
    context = desk.context
    context.known[KEY] = context.known[policy] = Known()
    context.metrics.bridges.conditions("ns/b", {"Ready": True})
    desk.cluster.lag()
    del desk.cluster.objects[KEY]
    await desk.resync.look(BRIDGE)
    assert set(desk.again) == {KEY, policy, Key(BRIDGE, "ns", "c")}
    assert set(context.known) == {policy}
    shown = {"bridge": "ns/b", "type": "Ready"}
    assert context.metrics.registry.get_sample_value("auralink_operator_bridge_condition", shown) is None


async def test_the_bridges_of_a_policy_that_went_without_an_event_are_looked_at() -> None:
    policy = Key(POLICY, "ns", "x")
    desk = Desk(samples.bridge(), samples.bridge("c", labels={"a": "b"}), samples.policy("x", selector={"a": "b"}))
    desk.cluster.lag()
    del desk.cluster.objects[policy]
    await desk.resync.look(POLICY)
    assert set(desk.again) == {policy, Key(BRIDGE, "ns", "c")}


@pytest.mark.parametrize(("bridges", "last_s"), [(100, 3.96), (20_000, 300.0)])
async def test_a_comparison_is_in_no_hurry_to_look_at_every_bridge_but_is_through_before_the_next(
    bridges: int, last_s: float
) -> None:
    desk = Desk()
    for number in range(bridges):
        desk.cluster.objects[Key(BRIDGE, "ns", f"b{number:05}")] = samples.bridge(f"b{number:05}")
    await desk.resync.look(BRIDGE)
    assert len(desk.again) == bridges
    assert desk.after_s == sorted(desk.after_s)
    assert desk.after_s[0] == 0.0
    assert desk.after_s[-1] == pytest.approx(last_s, rel=0.001)


async def test_every_bridge_is_looked_at_again() -> None:
    desk = Desk(samples.bridge(), samples.pod("p1"))
    assert await desk.resync.look(BRIDGE)
    assert await desk.resync.look("Pod")
    assert desk.again == [KEY]


async def test_an_event_that_is_under_way_is_no_dead_watch() -> None:
    desk = Desk(samples.bridge())
    desk.cluster.lag()
    desk.cluster.objects[Key("Pod", "ns", "p1")] = samples.pod("p1")
    assert not await desk.resync.look("Pod")
    desk.now += 30
    desk.cluster.catch_up()
    assert await desk.resync.look("Pod")


async def test_a_watch_that_lacks_an_object_for_half_a_minute_is_dead() -> None:
    desk = Desk(samples.bridge())
    desk.cluster.lag()
    desk.cluster.objects[Key("Pod", "ns", "p1")] = samples.pod("p1")
    assert not await desk.resync.look("Pod")
    desk.now += 30
    with pytest.raises(DeadWatchError, match="1 of Pod"):
        await desk.resync.look("Pod")


async def test_a_watch_that_lacks_a_version_for_half_a_minute_is_dead() -> None:
    desk = Desk(samples.bridge())
    desk.cluster.lag()
    desk.cluster.objects[KEY]["metadata"]["resourceVersion"] = "900"
    assert not await desk.resync.look(BRIDGE)
    desk.now += 30
    with pytest.raises(DeadWatchError):
        await desk.resync.look(BRIDGE)


async def test_an_object_that_changes_all_the_time_is_no_dead_watch() -> None:
    desk = Desk(samples.bridge())
    for version in range(900, 910):
        desk.cluster.objects[KEY]["metadata"]["resourceVersion"] = str(version)
        desk.cluster.lag()
        desk.cluster.objects[KEY]["metadata"]["resourceVersion"] = str(version + 1)
        await desk.resync.look(BRIDGE)
        desk.now += 30


async def test_what_was_missing_and_has_gone_meanwhile_is_no_dead_watch() -> None:
    desk = Desk(samples.bridge())
    desk.cluster.lag()
    desk.cluster.objects[Key("Pod", "ns", "p1")] = samples.pod("p1")
    assert not await desk.resync.look("Pod")
    desk.now += 30
    del desk.cluster.objects[Key("Pod", "ns", "p1")]
    assert await desk.resync.look("Pod")


async def test_a_kind_that_comes_later_starts_the_process_anew() -> None:
    desk = Desk(samples.bridge())
    desk.cluster.served.add(RESOURCES[SERVICE_MONITOR])
    with pytest.raises(KindsChangedError):
        await desk.resync.look(BRIDGE)


async def test_discovery_tells_what_is_served() -> None:
    cluster = Offering()
    assert await discover(cast(Cluster, cluster)) == Capabilities()
    cluster.served.add(RESOURCES[SERVICE_MONITOR])
    assert await discover(cast(Cluster, cluster)) == Capabilities(service_monitors=True)


async def test_a_failed_list_is_the_caller_s_to_try_again() -> None:
    desk = Desk(samples.bridge())
    desk.cluster.failures["list"] = [ApiError(503, "Busy", "later")]
    with pytest.raises(ApiError):
        await desk.resync.look("Pod")
    assert await desk.resync.look("Pod")


async def test_a_start_asks_the_server_once_while_its_watches_still_bring_objects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A list of a thousand bridges costs the API server seconds, which the watches' own lists would wait for."""
    desk = Desk(*(samples.bridge(f"b{number}") for number in range(20)))
    shown: dict[Key, Obj] = {}
    desk.cluster.frozen = shown
    coming = dict(desk.cluster.objects)

    async def slowly(_: float) -> None:
        desk.now += 4.0
        if coming:
            key, obj = coming.popitem()
            shown[key] = obj

    monkeypatch.setattr("auralink_operator.resync.asyncio.sleep", slowly)
    await desk.resync.fill()
    assert not coming
    assert desk.cluster.calls.count(("list", Key(BRIDGE, "", ""))) == 1
