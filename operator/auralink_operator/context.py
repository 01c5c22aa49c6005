"""What a reconcile works with and remembers, and how it says whose turn it is when something goes wrong.

`reconcile` and what it is made of (`sight`, `scene`, `converge`, `report`) share one `Context`, which `__main__` puts
together, and a `Case` per look at a bridge. What is remembered of a key is a help, never the truth: a new process
starts without it and comes to the same end.

One rule for failures: no request that a look makes before its status is written may end the look. What it answers goes
into the case's `Troubles`, and the status says it; only `Gone`, and no longer leading, end a look at once.
"""

import logging
from asyncio import Lock
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from auralink_operator.cluster import ApiError, Cluster
from auralink_operator.index import (
    BRIDGE,
    POLICY,
    Expectations,
    Ghosts,
    Indices,
    Key,
    Obj,
    Observed,
    affected,
    key_of,
)
from auralink_operator.metrics import Metrics
from auralink_operator.models import Capabilities, Conflict
from auralink_operator.queue import WorkQueue
from auralink_operator.rollouts import Fights, Rollouts
from auralink_operator.scaling import Memory
from auralink_operator.settings import Settings

log = logging.getLogger("auralink_operator.reconcile")

MANAGER, STATUS_MANAGER = "auralink-operator", "auralink-operator-status"
FINALIZER, FINALIZER_MANAGER = "auralink.io/drain", "auralink-operator-finalizer"
REQUESTED_AT = "reconcile.fluxcd.io/requestedAt"

# What an apply with an unknown field or a wrong type is answered with, under status 500.
_UNTYPED = "failed to create typed patch object"

LONGEST_WAIT_S = 300.0

_T = TypeVar("_T")


class Stalled(Exception):  # noqa: N818 - names a state, as in the condition
    """The user must act; the key comes back by events and by the resync."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


class Waiting(Exception):  # noqa: N818
    """Nobody's to act: looked at again after a while; where events tell of the end, more and more seldom."""

    def __init__(self, reason: str, message: str, after_s: float, longest_s: float = 0.0) -> None:
        super().__init__(message)
        self.reason, self.message, self.after_s = reason, message, after_s
        self.longest_s = max(after_s, longest_s)


class Gone(Exception):  # noqa: N818
    """The object or its namespace is on its way out: nothing of it must be written any more."""


@dataclass(slots=True)
class Troubles:
    """What went wrong with single objects, the first of each sort: the others are written all the same."""

    stalled: Stalled | None = None
    waiting: Waiting | None = None
    error: ApiError | None = None

    def __bool__(self) -> bool:
        return any((self.stalled, self.waiting, self.error))

    def add(self, trouble: Exception) -> None:
        """Raises what is none of the three."""
        match trouble:
            case Stalled():
                self.stalled = self.stalled or trouble
            case Waiting():
                self.waiting = self.waiting or trouble
            case ApiError():
                self.error = self.error or trouble
            case _:
                raise trouble

    async def bear(self, call: Awaitable[object]) -> bool:
        """Whether the call came to a good end."""
        try:
            await call
        except (Stalled, Waiting, ApiError) as trouble:
            self.add(trouble)
            return False
        return True


@dataclass(frozen=True, slots=True)
class Losses:
    """What a policy's status says of a bridge, and only the bridge's reconcile finds out."""

    conflicts: tuple[Conflict, ...] = ()
    dropped: tuple[str, ...] = ()

    def policies(self) -> set[str]:
        """Names of the policies that are concerned."""
        return {name for c in self.conflicts for name in (c.winner, c.loser)} | set(self.dropped)


@dataclass(slots=True)
class Patience:
    """When to look again for what does not come: after as long again as it has been waited for already."""

    since: float | None = None
    what: object = None

    def begin(self, now: float, what: object = None) -> None:
        if self.since is None or self.what != what:
            self.since, self.what = now, what

    def next_s(self, now: float, first_s: float, longest_s: float) -> float | None:
        """None while nothing is waited for. Looks that events make alter nothing."""
        return None if self.since is None else min(longest_s, max(first_s, now - self.since))

    def end(self) -> None:
        self.since = None


@dataclass(slots=True)
class Known:
    """What is remembered of one key between two looks at it."""

    uid: str = ""  # of the object: one that comes later under its name is another
    grace_until: float | None = None  # the status waits so long for pods, or bridges, to follow a policy
    written_at: float = float("-inf")  # the status
    passes: int = 0  # looks in a row that wrote children and no status
    scaling: Memory = field(default_factory=Memory)
    fights: Fights = field(default_factory=Fights)
    applied: dict[Key, str] = field(default_factory=dict)  # by child: the hash of what we wrote last
    handled: str = ""  # the request of a forced reconcile that has been carried out
    # Entries that are no live pod's of ours and stay: when to ask for each again, and after how long the last time.
    strangers: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    losses: Losses = Losses()
    told: frozenset[str] | None = None  # bridges that this shard's last status of a policy named
    waiting: Patience = field(default_factory=Patience)  # for nobody's to act
    refused: Patience = field(default_factory=Patience)  # the removal of the finalizer of one that is deleted
    unseen: Patience = field(default_factory=Patience)  # the end of a rollout that no watch shows
    template: str = ""  # hash of the pod template that the Deployment's controller was last seen to know


@dataclass(slots=True)
class Context:
    cluster: Cluster
    queue: WorkQueue
    settings: Settings
    indices: Indices
    ghosts: Ghosts
    metrics: Metrics
    clock: Callable[[], float]
    now: Callable[[], datetime]
    identity: str = "auralink-operator"
    capabilities: Capabilities = field(default_factory=Capabilities)
    expectations: Expectations = field(default_factory=Expectations)
    known: dict[Key, Known] = field(default_factory=dict)
    nodes: dict[str, tuple[float, Obj | None]] = field(default_factory=dict)
    rollouts: Rollouts = field(init=False)
    counting: Lock = field(default_factory=Lock)  # of what rolls already, by whoever is the first to ask

    def __post_init__(self) -> None:
        self.rollouts = Rollouts(self.settings.max_rollouts)

    def of(self, key: Key, uid: str) -> Known:
        """What is remembered of an object: no watch need have told that an earlier one of its name is gone."""
        known = self.known.get(key)
        if known is not None and known.uid != uid:
            self.forget(key)
            known = None
        if known is None:
            known = self.known[key] = Known(uid)
        return known

    def deleted(self, obj: Obj) -> set[Key]:
        """Takes note of a deletion, told by an event or found out; answers with the keys to look at.

        A child or pod leaves nothing behind here; what is remembered of a bridge or a policy goes with it.
        """
        concerned = affected(self.indices, obj)
        for key in concerned:
            self.expectations.saw_deleted(key, obj)
        if obj["kind"] in (BRIDGE, POLICY):
            self.forget(key_of(obj))
        return concerned

    def hide(self, obj: Obj) -> set[Key]:
        """Hides an object that is gone although no event said so; then as `deleted`."""
        self.ghosts.add(obj["metadata"]["uid"])
        self.metrics.ghosts.inc()
        log.info("gone without an event", extra=fields(key_of(obj)))
        return self.deleted(obj)

    def ghost(self, obj: Obj) -> None:
        """As `hide`, found out by a reconcile: whom it concerns is looked at."""
        self.wake(self.hide(obj))

    def forget(self, key: Key) -> None:
        """A bridge or a policy that is gone; one may have the name of the other."""
        self.known.pop(key, None)
        self.expectations.forget(key)
        if key.kind != BRIDGE:
            return
        self.metrics.bridges.forget(bridge_id(key))
        self.wake(self.rollouts.forget(key, self.clock()))

    def wake(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.queue.add(key)


@dataclass(frozen=True, slots=True)
class Case:
    """One look at one bridge: what is there, what is remembered, and what has gone wrong so far.

    `still`: nothing may be changed, a difference is only told.
    """

    key: Key
    observed: Observed
    still: bool
    known: Known
    troubles: Troubles
    ctx: Context

    @property
    def obj(self) -> Obj:
        return self.observed.bridge

    @property
    def leaving(self) -> bool:
        return is_leaving(self.obj)

    def seeing(self, observed: Observed) -> "Case":
        """The same look, now that more is known of what is there."""
        return replace(self, observed=observed)


def is_leaving(obj: Obj) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def bridge_id(key: Key) -> str:
    return f"{key.namespace}/{key.name}"


def fields(key: Key, **more: Any) -> dict[str, Any]:
    """What a log line is found by."""
    return {"kind": key.kind, "namespace": key.namespace, "object": key.name, **more}


def named(key: Key) -> dict[str, str]:
    return {"name": key.name, "namespace": key.namespace}


def names_of(child: Mapping[str, Any]) -> str:
    return f"{child['kind']}/{child['metadata']['name']}"


async def calling(call: Awaitable[_T]) -> _T:
    """An API call whose failure says who is to act."""
    try:
        return await call
    except ApiError as error:
        if "NamespaceTerminating" in error.causes:
            raise Gone from error
        if error.status in (400, 422) or _UNTYPED in error.message:
            raise Stalled("InvalidSpec", f"refused by the API server: {error.message}") from error
        if error.status == 403:
            if "exceeded quota" in error.message:
                raise Waiting("Progressing", f"the namespace's quota is used up: {error.message}", 30.0) from error
            raise Stalled("AccessDenied", f"refused by the API server: {error.message}") from error
        raise
