"""Against the watches' own flaws: now and then the API server is asked what there is, by name and version only.

Objects that are indexed but not listed are ghosts (kopf keeps what vanished between two lists); what is done then is
what is done when an event tells of a deletion. Objects that are listed but still not indexed half a minute later mean a
dead watch: nothing in the process can mend that, so it ends. And kinds that the server began or ceased to serve end it
too, for kopf looks for kinds once. Called by `__main__`.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from auralink_operator.cluster import ApiError, Cluster
from auralink_operator.index import (
    BRIDGE,
    POD,
    POLICY,
    RESOURCES,
    SERVICE_MONITOR,
    Held,
    Indices,
    Key,
    Obj,
)
from auralink_operator.manifests import CHILDREN, MANAGED_BY
from auralink_operator.metrics import Metrics
from auralink_operator.models.observed import Capabilities
from auralink_operator.settings import Settings

log = logging.getLogger(__name__)

DEAD_WATCH_S = 30.0
_LOOK_S, _ASK_AGAIN_S = 0.1, 5.0  # while the index fills
_LOOKS_PER_S = 25.0  # a resync is in no hurry: all keys at once would keep what is urgent waiting for a moment
# EndpointSlices of ordinary Services carry the Service's labels too: only ours are wanted.
_NARROWER = {"EndpointSlice": f"endpointslice.kubernetes.io/managed-by={MANAGED_BY}"}
_MANAGED = f"app.kubernetes.io/managed-by={MANAGED_BY}"

Versions = dict[str, int]  # by uid


class DeadWatchError(Exception):
    """A watch has stopped telling; the process must end, for nothing in it can mend that."""


class KindsChangedError(Exception):
    """The API server serves other kinds than at the start: the process starts anew."""


def selector(kind: str, settings: Settings) -> str:
    """What watch and list ask the API server for; policies concern every shard."""
    if kind == POLICY:
        return ""
    if kind == BRIDGE:
        return settings.shard_selector
    return ",".join(filter(None, (_MANAGED, settings.shard_selector, _NARROWER.get(kind))))


async def discover(cluster: Cluster) -> Capabilities:
    """What the API server serves beyond Kubernetes itself, as far as bridges make use of it."""
    return Capabilities(await cluster.serves(*RESOURCES[SERVICE_MONITOR]))


def watched(capabilities: Capabilities) -> tuple[str, ...]:
    """The kinds to watch: what others bring is there only where it is served."""
    return tuple(
        kind for kind in (BRIDGE, POLICY, POD, *CHILDREN) if kind != SERVICE_MONITOR or capabilities.service_monitors
    )


@dataclass(slots=True)
class Resync:
    """Compares index and API server, a kind at a time. `hide` is told what is gone and says whom that concerns; `again`
    gets their keys, each of ours that it comes across, and in how many seconds to look at it. `capabilities` are those
    of the start."""

    cluster: Cluster
    indices: Indices
    metrics: Metrics
    settings: Settings
    capabilities: Capabilities
    clock: Callable[[], float]
    jitter: Callable[[], float]
    hide: Callable[[Obj], Iterable[Key]]
    again: Callable[[Key, float], None]
    _lacking: dict[str, Versions] = field(default_factory=dict)
    _lacking_since: dict[str, float] = field(default_factory=dict)

    async def fill(self) -> None:
        """Until the index holds everything that the API server has."""
        for kind in watched(self.capabilities):
            missing = _behind(self.indices.of_kind(kind), await self.listed(kind))
            size, grew_at = self.indices.size(), self.clock()
            while missing:
                await asyncio.sleep(_LOOK_S)
                indexed = self.indices.of_kind(kind)
                missing = _behind(indexed, missing)
                if self.indices.size() > size:  # to ask again would only slow the lists that are on their way
                    size, grew_at = self.indices.size(), self.clock()
                elif missing and self.clock() - grew_at > _ASK_AGAIN_S:  # or it has gone meanwhile
                    missing, grew_at = _behind(indexed, await self.listed(kind)), self.clock()

    async def run(self) -> None:
        """Each kind every `resync_s` +-20 %, out of step with each other; a kind that lacks something again soon."""
        period_s = self.settings.resync_s
        due = {kind: self.clock() + period_s * (0.2 + self.jitter()) for kind in watched(self.capabilities)}
        while True:
            kind = min(due, key=lambda kind: due[kind])
            await asyncio.sleep(max(0.0, due[kind] - self.clock()))
            try:
                fine = await self.look(kind)
            except ApiError as error:
                log.warning("comparison failed", extra={"kind": kind, "error": str(error)})
                fine = False
            due[kind] = self.clock() + (period_s * (0.8 + 0.4 * self.jitter()) if fine else DEAD_WATCH_S)

    async def look(self, kind: str) -> bool:
        """Compares one kind: hides what is gone, queues our own kinds; whether the index lacks nothing.

        Raises DeadWatchError if it still lacks what it lacked at the last look.
        """
        if kind == BRIDGE:
            await self._discover()
        before = self.indices.of_kind(kind)
        there = await self.listed(kind)
        indexed = self.indices.of_kind(kind)
        for uid in (before.keys() & indexed.keys()) - there.keys():
            for key in self.hide(indexed[uid].open()):
                self.again(key, 0.0)
        missing = _behind(indexed, there)
        self._judge(kind, indexed, missing)
        self.metrics.objects.labels(kind).set(len(there))
        if kind in (BRIDGE, POLICY):
            ours = sorted(indexed[uid].key for uid in indexed.keys() & there.keys())
            pause_s = min(1 / _LOOKS_PER_S, 0.5 * self.settings.resync_s / max(1, len(ours)))
            for number, key in enumerate(ours):
                self.again(key, number * pause_s)
        return not missing

    async def _discover(self) -> None:
        if await discover(self.cluster) != self.capabilities:
            raise KindsChangedError("the API server serves other kinds than at the start")

    def counts(self) -> dict[str, int]:
        return {kind: len(self.indices.of_kind(kind)) for kind in watched(self.capabilities)}

    async def listed(self, kind: str) -> Versions:
        """Uids and versions of a kind as the API server has them."""
        found: Versions = {}
        for namespace in self.settings.namespaces or ("",):
            async for item in self.cluster.list_metadata(kind, namespace, selector(kind, self.settings)):
                found[item["metadata"]["uid"]] = int(item["metadata"]["resourceVersion"])
        return found

    def _judge(self, kind: str, indexed: Mapping[str, Held], missing: Versions) -> None:
        """Some milliseconds behind is usual; to lack even now what was listed at the last look is not."""
        now, since = self.clock(), self._lacking_since.pop(kind, 0.0)
        before = {uid: v for uid, v in self._lacking.pop(kind, {}).items() if uid in missing}
        old = _behind(indexed, before)
        if old and now - since >= DEAD_WATCH_S:
            raise DeadWatchError(f"no event for {len(old)} of {kind} in {now - since:.0f} s")
        if missing:
            self._lacking[kind], self._lacking_since[kind] = old or missing, since if old else now
        self.metrics.watch_behind_seconds.labels(kind).set(now - since if old else 0.0)


def _behind(indexed: Mapping[str, Held], there: Versions) -> Versions:
    """What the index has not, or has in an older version."""
    return {uid: v for uid, v in there.items() if uid not in indexed or indexed[uid].version < v}
