"""What a reconcile came to, told: the status where it says something new, an event per flip. Called by `reconcile`."""

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from auralink_operator.cluster import ApiError, tell
from auralink_operator.context import STATUS_MANAGER, Case, Context, Gone, Known, fields, named
from auralink_operator.index import Key, Obj, key_of
from auralink_operator.models import API_VERSION
from auralink_operator.sight import Entry, leave_alone
from auralink_operator.status import Condition, Status, flips, same, warns

log = logging.getLogger("auralink_operator.reconcile")

POD_MANAGER = "auralink-pod."
STATUS_EVERY_S, PROGRESS_EVERY_S = 2.0, 5.0  # what says nothing new but details is told together
_ON_ITS_WAY = ("Progressing", "ConfigPropagating")  # how far it is, which changes by itself


async def write_status(obj: Obj, status: Status, ctx: Context) -> bool:
    """Applies the status if it says something else than the one there; `pods` belongs to the pods."""
    before = obj.get("status") or {}
    if same(before, status):
        return False
    await _apply(obj, status, STATUS_MANAGER, ctx)
    await _tell_flips(obj, before, status, ctx)
    return True


def can_wait_s(before: Mapping[str, Any], status: Status) -> float:
    """For how long after a status another need not be told that says only more of the same: figures, names, how far
    pods are; 0 for news. On its way to Ready a bridge changes much, and nobody can use its parts yet."""
    if same(before, status) or any(_news(before).get(name) != value for name, value in _news(status).items()):
        return 0.0
    return STATUS_EVERY_S if _is(status, "Ready")[0] == "True" else PROGRESS_EVERY_S


def _news(status: Mapping[str, Any]) -> dict[str, Any]:
    """What nobody should have to wait for."""
    said = ["observedGeneration", "lastHandledReconcileAt"]
    ready, reason = _is(status, "Ready")
    if ready == "True":
        said += ["config", "endpoints"]
    news: dict[str, Any] = {name: status.get(name) for name in said}
    return news | {"Ready": (ready, "" if reason in _ON_ITS_WAY else reason), "Stalled": _is(status, "Stalled")}


def _is(status: Mapping[str, Any], of: str) -> tuple[str, str]:
    found = (c for c in status.get("conditions") or () if c["type"] == of)
    return next(((str(c["status"]), str(c["reason"])) for c in found), ("", ""))


async def write_policy_status(obj: Obj, status: Status, known: Known, ctx: Context) -> None:
    """As `write_status`, where `matchedBridges` is shared by shards: each applies the entries of its own bridges.

    The conditions are for the operator without a shard to say. Of the entries that are there, those are ours which
    name a bridge that we match now or matched when we last wrote; a new process does not know, and writes once.
    """
    before, shard = obj.get("status") or {}, ctx.settings.shard
    there = before.get("matchedBridges") or []
    matched = {bridge["name"] for bridge in status.get("matchedBridges") or ()}
    ours = [e for e in there if known.told is None or e["name"] in matched or e["name"] in known.told]
    if shard:
        status = {"matchedBridges": status.get("matchedBridges") or []}
        was: Status = {"matchedBridges": ours}
    else:
        was = {**before, "matchedBridges": ours}
    if not same(was, status):
        await _apply(obj, status, f"{STATUS_MANAGER}-{shard}" if shard else STATUS_MANAGER, ctx)
        if not shard:
            await _tell_flips(obj, before, status, ctx)
    known.told = frozenset(matched)


def matched_elsewhere(obj: Obj, matched: Collection[str], known: Known) -> int:
    """How many bridges of other shards a policy selects, as those have told: entries not ours by name."""
    there = {entry["name"] for entry in (obj.get("status") or {}).get("matchedBridges") or ()}
    return len(there - set(matched) - (known.told or frozenset()))


async def _apply(obj: Obj, status: Status, manager: str, ctx: Context) -> None:
    key = key_of(obj)
    body = {"apiVersion": API_VERSION, "kind": key.kind, "metadata": named(key), "status": status}
    tell()
    try:
        written = await ctx.cluster.apply(body, manager=manager, subresource="status")
    except ApiError as error:
        if error.status == 404:
            ctx.ghost(obj)
            raise Gone from error
        raise
    if written["metadata"]["uid"] != obj["metadata"]["uid"]:
        ctx.ghost(obj)
        raise Gone
    ctx.metrics.status_writes.labels(key.kind).inc()
    ctx.expectations.wrote(key, written, ctx.clock())


async def _tell_flips(obj: Obj, before: Mapping[str, Any], status: Status, ctx: Context) -> None:
    key = key_of(obj)
    for flip in flips(before, status):
        log.info("condition", extra=fields(key, type=flip.type, status=flip.status, reason=flip.reason))
        await _post_event(obj, flip, ctx)


async def _post_event(obj: Obj, flip: Condition, ctx: Context) -> None:
    """An event per flip; the status has said it already, so a refusal is no reason to try again."""
    key = key_of(obj)
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": f"{key.name}-", "namespace": key.namespace},
        "eventTime": ctx.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": "auralink.io/operator",
        "reportingInstance": ctx.identity,
        "action": "Reconcile",
        "type": "Warning" if warns(flip) else "Normal",
        "reason": flip.reason,
        "note": f"{flip.type}={flip.status}: {flip.message}"[:1000],
        "regarding": {"apiVersion": API_VERSION, "kind": key.kind, **named(key), "uid": obj["metadata"]["uid"]},
    }
    try:
        await ctx.cluster.create(event)
    except ApiError as error:
        log.warning("event refused", extra=fields(key, error=str(error)))


async def forget_dead_pods(case: Case, dead: Iterable[Entry]) -> None:
    """Removes what dead pods have left in `status.pods`: an apply without a status in the name of the pod's manager.

    An entry that stays although it was removed is of a manager that we do not know, and one that the API server will
    not have removed is tried again more and more seldom: it says nothing of any live pod.
    """
    ctx = case.ctx
    for name, uid in dead:
        try:
            written = await _remove_entry(case.key, name, ctx)
        except ApiError as error:
            if error.transient:
                raise
            log.warning("the entry of a dead pod cannot be removed", extra=fields(case.key, pod=name, error=str(error)))
        else:
            ctx.metrics.dead_pods.inc()
            ctx.expectations.wrote(case.key, written, ctx.clock())
        leave_alone((name, uid), case)


async def _remove_entry(key: Key, pod: str, ctx: Context) -> Any:
    empty = {"apiVersion": API_VERSION, "kind": key.kind, "metadata": named(key)}
    try:
        return await ctx.cluster.apply(empty, manager=POD_MANAGER + pod, subresource="status")
    except ApiError as error:
        if error.status == 404:
            raise Gone from error
        raise
