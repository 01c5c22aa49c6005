"""The verb: make what runs what is declared, and say how far that is. Called by the workers of `__main__` per key.

`reconcile` reads the index and decides; it calls the API only for a difference, so that a steady key costs no request.
Who is to act on an error is in its type: `Stalled` the user, `Waiting` nobody yet, any other us (the queue retries).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from auralink_operator.cluster import ApiError, Cluster
from auralink_operator.index import (
    BRIDGE,
    POD,
    POLICY,
    Expectations,
    Ghosts,
    Indices,
    Key,
    Obj,
    Observed,
    carried_policies,
    key_of,
    observe,
    observe_policy,
    version_of,
)
from auralink_operator.manifests import (
    CHILDREN,
    MANAGED_BY,
    ConfigTooLargeError,
    config_of,
    desired,
    is_drift,
    needs_write,
    prunable,
    selector_text,
)
from auralink_operator.metrics import Metrics
from auralink_operator.models import (
    API_VERSION,
    Bridge,
    Compiled,
    InvalidSpecError,
    PodView,
    RoomPolicy,
    check,
    meta_of,
    parse_bridge,
    parse_policy,
    pod_views,
)
from auralink_operator.policies import compile_policies
from auralink_operator.queue import BULK, WorkQueue
from auralink_operator.settings import Settings
from auralink_operator.status import (
    FAILURES_TO_REPORT,
    MatchedBridge,
    Outcome,
    Problem,
    Status,
    derive,
    derive_invalid,
    derive_policy,
    flips,
    next_look_s,
    same,
)

log = logging.getLogger(__name__)

MANAGER, STATUS_MANAGER, POD_MANAGER = "auralink-operator", "auralink-operator-status", "auralink-pod."
MANAGED = f"app.kubernetes.io/managed-by={MANAGED_BY}"
WATCHED = (BRIDGE, POLICY, POD, *CHILDREN)
ACK_GRACE_S = 1.0
CONFIRM_S = 5.0
MAX_SILENT_PASSES = 3


class Stalled(Exception):  # noqa: N818 - names a state, as in the condition
    """The user must act; the key comes back by events and by the resync."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


class Waiting(Exception):  # noqa: N818
    """Nobody's to act: looked at again after a while."""

    def __init__(self, reason: str, message: str, after_s: float) -> None:
        super().__init__(message)
        self.reason, self.message, self.after_s = reason, message, after_s


class Gone(Exception):  # noqa: N818
    """The object or its namespace is on its way out: nothing of it must be written any more."""


@dataclass(slots=True)
class Context:
    """What a reconcile works with, and what it must remember between two looks at a key: until when the status of a
    policy change waits for those that follow it, and how often in a row children were written."""

    cluster: Cluster
    queue: WorkQueue
    settings: Settings
    indices: Indices
    ghosts: Ghosts
    metrics: Metrics
    clock: Callable[[], float]
    now: Callable[[], datetime]
    identity: str = "auralink-operator"
    expectations: Expectations = field(default_factory=Expectations)
    graces: dict[Key, float] = field(default_factory=dict)
    passes: dict[Key, int] = field(default_factory=dict)

    def forget(self, key: Key) -> None:
        self.graces.pop(key, None)
        self.passes.pop(key, None)
        self.expectations.forget(key)


async def reconcile(key: Key, ctx: Context) -> float | None:
    """One look at one key; the answer is after how many seconds to look again without being told to."""
    if pending := ctx.expectations.pending(key, ctx.indices):
        if (wait_s := ctx.expectations.remaining_s(key, ctx.clock())) > 0:
            return wait_s
        await _catch_up(key, pending, ctx)
    try:
        return await (_reconcile_policy if key.kind == POLICY else _reconcile_bridge)(key, ctx)
    except Gone:
        ctx.forget(key)
        return None


async def _catch_up(key: Key, pending: Sequence[Key], ctx: Context) -> None:
    """The watch has not shown our writes in time: ask whether they are there, and then go on with what is known."""
    for child in pending:
        live = await ctx.cluster.get(child)
        indexed = ctx.indices.get(child)
        if live is None and indexed is not None:
            _ghost(indexed, ctx)
    ctx.expectations.forget(key)


# --- bridges -------------------------------------------------------------------------------------------------------


async def _reconcile_bridge(key: Key, ctx: Context) -> float | None:
    observed = observe(ctx.indices, key)
    if observed is None or "deletionTimestamp" in observed.bridge["metadata"]:
        raise Gone
    try:
        bridge = parse_bridge(observed.bridge)
    except InvalidSpecError as error:
        status = derive_invalid(meta_of(observed.bridge), str(error), ctx.now())
        await _write_status(observed.bridge, status, ctx)
        return None
    policies = [policy for obj in observed.policies if (policy := _readable(obj)) is not None]
    compiled = compile_policies(bridge, policies)
    pods = pod_views(observed.pods, observed.bridge.get("status") or {})
    outcome, after_s, error_to_retry = await _converge_safely(bridge, observed, compiled, pods, ctx)
    if outcome.stalled is None:
        await _forget_dead_pods(bridge, pods, ctx)
    deployment = next((obj for key_, obj in observed.children.items() if key_.kind == "Deployment"), None)
    status = derive(bridge, deployment, pods, compiled, outcome, ctx.now())
    if error_to_retry is None and _to_be_confirmed(key, bridge, outcome, ctx):
        return CONFIRM_S
    if (grace_s := _grace_s(key, bridge, pods, outcome, ctx)) > 0:
        after_s = grace_s
    else:
        await _write_status(observed.bridge, status, ctx)
    if error_to_retry is not None:
        raise error_to_retry
    looks = [seconds for seconds in (after_s, next_look_s(status, ctx.now())) if seconds is not None]
    return min(looks, default=None)


def _readable(obj: Obj) -> RoomPolicy | None:
    """A policy that cannot be read says so itself and must not keep a bridge from its others."""
    if "deletionTimestamp" in obj["metadata"]:
        return None
    try:
        return parse_policy(obj)
    except InvalidSpecError:
        return None


async def _converge_safely(
    bridge: Bridge, observed: Observed, compiled: Compiled, pods: Sequence[PodView], ctx: Context
) -> tuple[Outcome, float | None, ApiError | None]:
    """Converges, and turns what goes wrong into an outcome: the status is written in any case."""
    outcome = Outcome(selector=selector_text(bridge.meta.name))
    key = Key(BRIDGE, bridge.meta.namespace, bridge.meta.name)
    if problems := check(bridge):
        return replace(outcome, stalled=Problem("InvalidSpec", "; ".join(problems[:5]))), None, None
    try:
        children = desired(bridge, compiled, observed, pods, ctx.settings)
        generation, wanted_hash = config_of(children)
        outcome = replace(outcome, config_generation=generation, config_hash=wanted_hash)
        return replace(outcome, unapplied=await _converge(key, bridge, observed, children, ctx)), None, None
    except ConfigTooLargeError as error:
        return replace(outcome, stalled=Problem("InvalidSpec", str(error))), None, None
    except Stalled as error:
        return replace(outcome, stalled=Problem(error.reason, error.message)), None, None
    except Waiting as error:
        return replace(outcome, waiting=Problem(error.reason, error.message)), error.after_s, None
    except ApiError as error:
        if ctx.queue.failures(key) + 1 >= FAILURES_TO_REPORT:
            outcome = replace(outcome, failing=f"the API server refuses or does not answer: {error.message}")
        return outcome, None, error


async def _converge(
    key: Key, bridge: Bridge, observed: Observed, children: Sequence[Obj], ctx: Context
) -> tuple[str, ...]:
    """Writes what differs and deletes what is not wanted; names the children that the next look must confirm."""
    pairs = [(child, observed.children.get(key_of(child))) for child in children]
    different = [(child, live, why) for child, live in pairs if (why := needs_write(child, live))]
    unwanted = prunable(children, observed)
    names = tuple(
        [f"{child['kind']} {child['metadata']['name']} ({why})" for child, _, why in different]
        + [f"{child['kind']} {child['metadata']['name']} (not wanted)" for child in unwanted]
    )
    if not names or bridge.spec.suspend:
        return names
    if bridge.meta.status.get("conditions") and any(live is None for _, live, _ in different):
        await _still_there(observed.bridge, ctx)
    stuck: Stalled | None = None
    for child, live, why in different:
        if live is not None and "deletionTimestamp" in live["metadata"]:
            continue  # comes back as missing, once it is gone
        try:
            await _write_child(key, bridge, child, live, why, ctx)
        except Stalled as error:
            stuck = stuck or error  # the others are worth having without this one
    for child in unwanted:
        meta = child["metadata"]
        await _calling(ctx.cluster.delete(key_of(child), uid=meta["uid"], resource_version=meta["resourceVersion"]))
        ctx.expectations.deleted(key, key_of(child), meta["uid"], ctx.clock())
    if stuck is not None:
        raise stuck
    log.info("children written", extra=_fields(key, children=list(names)))
    return names


async def _write_child(key: Key, bridge: Bridge, child: Obj, live: Obj | None, why: str, ctx: Context) -> None:
    if live is None:
        await _not_foreign(child, bridge.meta.uid, ctx)
    elif is_drift(child, live):
        ctx.metrics.drift_repaired.labels(child["kind"]).inc()
        log.info("repairing a child that somebody changed", extra=_fields(key, child=names_of(child), at=why))
    written = await _calling(ctx.cluster.apply(child, manager=MANAGER))
    ctx.expectations.wrote(key, written, ctx.clock())
    if child["kind"] == "ConfigMap" and live is not None and not _user_changed(bridge):
        ctx.graces.setdefault(key, ctx.clock() + ACK_GRACE_S)


def names_of(child: Obj) -> str:
    return f"{child['kind']}/{child['metadata']['name']}"


def _user_changed(bridge: Bridge) -> bool:
    return bool(bridge.meta.status.get("observedGeneration") != bridge.meta.generation)


def _to_be_confirmed(key: Key, bridge: Bridge, outcome: Outcome, ctx: Context) -> bool:
    """Whether the status can wait for the watch to show what has just been written: the next look is milliseconds away.

    Only so many times in a row, lest a child that somebody else keeps changing keeps the bridge silent.
    """
    fine = outcome.stalled is None and outcome.waiting is None and not outcome.failing and not bridge.spec.suspend
    passes = ctx.passes.pop(key, 0) + 1
    if not outcome.unapplied or not fine or passes > MAX_SILENT_PASSES:
        return False
    ctx.passes[key] = passes
    return True


def _grace_s(key: Key, bridge: Bridge, pods: Sequence[PodView], outcome: Outcome, ctx: Context) -> float:
    """How long the status may still wait for pods to acknowledge a policy change, so that Ready need not flap."""
    deadline = ctx.graces.get(key)
    if deadline is None:
        return 0.0
    serving = [pod for pod in pods if pod.serving]
    behind = any(pod.acked < outcome.config_generation for pod in serving)
    left_s = deadline - ctx.clock()
    if left_s > 0 and outcome.stalled is None and not _user_changed(bridge) and (behind or outcome.unapplied):
        return left_s
    del ctx.graces[key]
    return 0.0


async def _still_there(bridge: Obj, ctx: Context) -> None:
    """A missing child may mean that the bridge is gone and the watch does not know: asked before children come back."""
    live = await _calling(ctx.cluster.get(key_of(bridge)))
    if live is None or live["metadata"]["uid"] != bridge["metadata"]["uid"]:
        _ghost(bridge, ctx)
        raise Gone
    if "deletionTimestamp" in live["metadata"]:
        raise Gone


async def _not_foreign(child: Obj, uid: str, ctx: Context) -> None:
    """A child that the watch does not show may be somebody else's: never taken over."""
    live = await _calling(ctx.cluster.get(key_of(child)))
    if live is None:
        return
    owners = live["metadata"].get("ownerReferences") or ()
    if any(owner.get("uid") == uid for owner in owners):
        return
    name = child["metadata"]["ownerReferences"][0]["name"]
    if any(owner.get("kind") == BRIDGE and owner.get("name") == name for owner in owners):
        raise Waiting("Progressing", f"{names_of(child)} of an earlier bridge of this name is being deleted", 2.0)
    raise Stalled(
        "NameConflict",
        f"{names_of(child)} exists and is not this bridge's: delete or rename it, or rename the bridge",
    )


async def _calling(call: Any) -> Any:
    """An API call whose failure says who is to act."""
    try:
        return await call
    except ApiError as error:
        if "NamespaceTerminating" in error.causes or "is being terminated" in error.message:
            raise Gone from error
        if error.status in (400, 422):
            raise Stalled("InvalidSpec", f"refused by the API server: {error.message}") from error
        if error.status == 403:
            if "exceeded quota" in error.message:
                raise Waiting("Progressing", f"the namespace's quota is used up: {error.message}", 30.0) from error
            raise Stalled("AccessDenied", f"refused by the API server: {error.message}") from error
        raise


async def _forget_dead_pods(bridge: Bridge, pods: Sequence[PodView], ctx: Context) -> None:
    """Removes what dead pods have left in `status.pods`: an apply without a status in the name of the pod's manager."""
    alive = {pod.name for pod in pods}
    key = Key(BRIDGE, bridge.meta.namespace, bridge.meta.name)
    for entry in bridge.meta.status.get("pods") or ():
        name = str(entry.get("name"))
        if name in alive:
            continue
        live = await ctx.cluster.get(Key(POD, bridge.meta.namespace, name))
        if live is not None and (live.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            continue
        empty = {"apiVersion": API_VERSION, "kind": BRIDGE, "metadata": _named(bridge.meta.name, bridge.meta.namespace)}
        try:
            written = await ctx.cluster.apply(empty, manager=POD_MANAGER + name, subresource="status")
        except ApiError as error:
            if error.status == 404:
                raise Gone from error
            raise
        ctx.metrics.dead_pods.inc()
        ctx.expectations.wrote(key, written, ctx.clock())


# --- policies ------------------------------------------------------------------------------------------------------


async def _reconcile_policy(key: Key, ctx: Context) -> float | None:
    observed = observe_policy(ctx.indices, key)
    if observed is None or "deletionTimestamp" in observed.policy["metadata"]:
        raise Gone
    try:
        policy = parse_policy(observed.policy)
    except InvalidSpecError as error:
        await _write_status(observed.policy, derive_invalid(meta_of(observed.policy), str(error), ctx.now()), ctx)
        return None
    matched = []
    for bridge in observed.bridges:
        name = bridge["metadata"]["name"]
        if "deletionTimestamp" not in bridge["metadata"]:
            matched.append(MatchedBridge(name, carried_policies(observed.config_maps.get(name)).get(key.name)))
    if all(bridge.carries == policy.meta.generation for bridge in matched):
        ctx.graces.pop(key, None)
    else:
        # The bridges are being reconciled at this moment: no word of it unless it takes longer than usual.
        left_s = ctx.graces.setdefault(key, ctx.clock() + ACK_GRACE_S) - ctx.clock()
        if left_s > 0:
            return left_s
    await _write_status(observed.policy, derive_policy(policy, matched, ctx.now()), ctx)
    return None


# --- status --------------------------------------------------------------------------------------------------------


def _named(name: str, namespace: str) -> dict[str, str]:
    return {"name": name, "namespace": namespace}


async def _write_status(obj: Obj, status: Status, ctx: Context) -> None:
    """Applies the status if it says something else than the one there; `pods` belongs to the pods."""
    key = key_of(obj)
    before = obj.get("status") or {}
    if same(before, status):
        return
    body = {
        "apiVersion": API_VERSION,
        "kind": key.kind,
        "metadata": _named(key.name, key.namespace),
        "status": status,
    }
    try:
        written = await ctx.cluster.apply(body, manager=STATUS_MANAGER, subresource="status")
    except ApiError as error:
        if error.status == 404:
            _ghost(obj, ctx)
            raise Gone from error
        raise
    if written["metadata"]["uid"] != obj["metadata"]["uid"]:
        _ghost(obj, ctx)
        raise Gone
    ctx.metrics.status_writes.labels(key.kind).inc()
    ctx.expectations.wrote(key, written, ctx.clock())
    for flip in flips(before, status):
        log.info("condition", extra=_fields(key, type=flip.type, status=flip.status, reason=flip.reason))
        await _post_event(obj, flip, ctx)


async def _post_event(obj: Obj, flip: Any, ctx: Context) -> None:
    """An event per flip; the status has said it already, so a refusal is no reason to try again."""
    key, good = key_of(obj), (flip.status == "True") == (flip.type == "Ready")
    moment = ctx.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": f"{key.name}-", "namespace": key.namespace},
        "eventTime": moment,
        "reportingController": "auralink.io/operator",
        "reportingInstance": ctx.identity,
        "action": "Reconcile",
        "type": "Normal" if good else "Warning",
        "reason": flip.reason,
        "note": f"{flip.type}={flip.status}: {flip.message}"[:1000],
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": key.kind,
            "namespace": key.namespace,
            "name": key.name,
            "uid": obj["metadata"]["uid"],
        },
    }
    try:
        await ctx.cluster.create(event)
    except ApiError as error:
        log.warning("event refused", extra=_fields(key, error=str(error)))


def _ghost(obj: Obj, ctx: Context) -> None:
    ctx.ghosts.add(obj["metadata"]["uid"])
    ctx.metrics.ghosts.inc()
    log.info("gone without an event", extra=_fields(key_of(obj)))


def _fields(key: Key, **more: Any) -> dict[str, Any]:
    """What a log line is found by."""
    return {"kind": key.kind, "namespace": key.namespace, "object": key.name, **more}


# --- against the watches' own flaws ----------------------------------------------------------------------------------

DEAD_WATCH_S = 30.0


class DeadWatchError(Exception):
    """A watch has stopped telling; the process must end, for nothing in it can mend that."""


# EndpointSlices of ordinary Services carry the Service's labels too: only ours are wanted.
_NARROWER = {"EndpointSlice": "endpointslice.kubernetes.io/managed-by=auralink-operator"}


def selector(kind: str) -> str:
    """What watch and list ask the API server for; "" for our own two kinds, which are all wanted."""
    return "" if kind in (BRIDGE, POLICY) else ",".join(filter(None, (MANAGED, _NARROWER.get(kind))))


async def listed(ctx: Context, kind: str) -> dict[str, int]:
    """Uids and versions of a kind as the API server has them."""
    found: dict[str, int] = {}
    for namespace in ctx.settings.namespaces or ("",):
        async for item in ctx.cluster.list_metadata(kind, namespace, selector(kind)):
            found[item["metadata"]["uid"]] = int(item["metadata"]["resourceVersion"])
    return found


async def resync(ctx: Context) -> list[tuple[str, dict[str, int]]]:
    """Compares index and API server: hides what is gone, queues every key, and tells what the index lacks, by kind."""
    lacking: list[tuple[str, dict[str, int]]] = []
    for kind in WATCHED:
        before = ctx.indices.of_kind(kind)
        there = await listed(ctx, kind)
        for uid, obj in before.items():
            if uid not in there and uid in ctx.indices.of_kind(kind):
                _ghost(obj, ctx)
        if missing := _behind(ctx.indices.of_kind(kind), there):
            lacking.append((kind, missing))
    for kind in (BRIDGE, POLICY):
        for obj in ctx.indices.of_kind(kind).values():
            ctx.queue.add(key_of(obj), priority=BULK)
    return lacking


def _behind(indexed: dict[str, Obj], there: dict[str, int]) -> dict[str, int]:
    return {uid: v for uid, v in there.items() if uid not in indexed or version_of(indexed[uid]) < v}


def still_lacking(ctx: Context, lacking: Sequence[tuple[str, dict[str, int]]]) -> list[str]:
    """Kinds whose index is still older than what was listed a while ago, and not because the object is gone."""
    return [kind for kind, missing in lacking if _behind(ctx.indices.of_kind(kind), missing)]
