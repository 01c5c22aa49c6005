"""Makes the children what they should be: writes what differs, deletes what is not wanted, with a limit to quarrels.

Called by `reconcile` with what `manifests` rendered. It calls the API only for a difference, so that a steady key costs
no request. One object that is refused keeps no other from being written: what goes wrong is gathered in `Troubles`, and
only `Gone` ends it all.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from auralink_operator.cluster import ApiError
from auralink_operator.context import (
    FINALIZER,
    FINALIZER_MANAGER,
    MANAGER,
    Case,
    Context,
    Known,
    Stalled,
    calling,
    fields,
    is_leaving,
    named,
    names_of,
)
from auralink_operator.index import BRIDGE, POD, Key, Obj, Observed, key_of
from auralink_operator.manifests import APPLIED_HASH, is_drift, needs_write, prunable
from auralink_operator.models import API_VERSION, Meta, PodView
from auralink_operator.rollouts import managers
from auralink_operator.scaling import DELETION_COST, marked
from auralink_operator.sight import COMES_AND_GOES, Asked, own, still_there

log = logging.getLogger("auralink_operator.reconcile")

_REPAIRER = "auralink-operator-repair"
ASKED_FOR = "asked for"
ACK_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class Difference:
    """A child that is not as wanted; `live` is None if it is missing."""

    child: Obj
    live: Obj | None
    why: str

    def ours(self, known: Known) -> bool:
        """Whether it is we who want something else than before; else somebody has changed or deleted the child."""
        return self.live is not None and not is_drift(self.child, self.live, known.applied.get(key_of(self.child), ""))

    def __str__(self) -> str:
        return f"{self.child['kind']} {self.child['metadata']['name']} ({self.why})"


@dataclass(frozen=True, slots=True)
class Differences:
    """`hidden` are not wanted either, and the watch does not show them: they go before the others come into sight,
    after which nobody would ask for them."""

    written: tuple[Difference, ...]
    unwanted: tuple[Obj, ...]
    hidden: tuple[Obj, ...] = ()

    def names(self) -> tuple[str, ...]:
        unwanted = (*self.hidden, *self.unwanted)
        gone = (f"{child['kind']} {child['metadata']['name']} (not wanted)" for child in unwanted)
        return (*(str(one) for one in self.written), *gone)


def differences(children: Sequence[Obj], observed: Observed, *, all_of_them: bool = False) -> Differences:
    """What converging would do; `all_of_them` for a forced reconcile, which trusts no comparison."""
    pairs = [(child, observed.children.get(key_of(child))) for child in children]
    found = [
        Difference(child, live, why or ASKED_FOR)
        for child, live in pairs
        if (why := needs_write(child, live)) or all_of_them
    ]
    return Differences(tuple(found), tuple(prunable(children, observed)))


async def converge(
    case: Case,
    meta: Meta,
    found: Differences,
    asked: Asked,
) -> frozenset[Key]:
    """Writes and deletes; what has been written is answered. `asked`: whether a missing child may be made."""
    known, troubles, ctx = case.known, case.troubles, case.ctx
    written: dict[Key, str] = {}
    left: list[Difference] = []
    unsaid = False  # whether the ConfigMap does not say what it should
    for child in found.hidden:
        if not await _delete(child, case):
            return frozenset()  # or nobody would ask for it again
        written[key_of(child)] = _deleted(child)
    for one in found.written:
        name = key_of(one.child)
        if one.live is not None and is_leaving(one.live):
            unsaid = unsaid or name.kind == "ConfigMap"
            continue  # comes back as missing, once it is gone
        refused = asked.refused.get(name)
        unasked = one.live is None and refused is None and not asked.lets_write(name)
        if unasked or (not one.ours(known) and known.fights.pause_s(name, ctx.clock()) > 0):
            left.append(one)
            unsaid = unsaid or name.kind == "ConfigMap"
            continue
        if name.kind == COMES_AND_GOES and unsaid:
            continue  # a pod that has not been told of its room would let the packets drop
        if name.kind == COMES_AND_GOES and one.live is None and refused is None and not one.child["endpoints"]:
            continue  # where its owner is nobody can say now
        if refused is not None:
            troubles.add(refused)
        elif await troubles.bear(_write(case.key, meta, one, known, ctx)):
            written[name] = str(one)
            continue
        unsaid = unsaid or name.kind == "ConfigMap"
    for child in found.unwanted:
        if await _delete(child, case):
            written[key_of(child)] = _deleted(child)
    if written:
        log.info("children written", extra=fields(case.key, children=list(written.values())))
    await troubles.bear(_tell_of_fights(left, known, ctx))
    return frozenset(written)


async def _write(key: Key, meta: Meta, one: Difference, known: Known, ctx: Context) -> None:
    child, name = one.child, key_of(one.child)
    repair = not one.ours(known) and one.why != ASKED_FOR
    if repair and one.live is not None:
        ctx.metrics.drift_repaired.labels(child["kind"]).inc()
        log.info("repairing a child that somebody changed", extra=fields(key, child=names_of(child), at=one.why))
    try:
        written = await calling(_apply(child, one.live, ctx))
    except Stalled:
        if one.live is None:
            await own(child, meta.uid, ctx)  # if it is another's by now, then that is why
        raise
    ctx.expectations.wrote(key, written, ctx.clock())
    known.applied[name] = child["metadata"]["annotations"][APPLIED_HASH]
    if repair and meta.status.get("conditions"):
        known.fights.repaired(name, ctx.clock())
    if child["kind"] == "ConfigMap" and one.live is not None and not user_changed(meta) and known.grace_until is None:
        known.grace_until = ctx.clock() + ACK_GRACE_S


def _deleted(child: Obj) -> str:
    return f"{child['kind']} {child['metadata']['name']} (deleted)"


async def _delete(child: Obj, case: Case) -> bool:
    meta, ctx = child["metadata"], case.ctx
    gone = ctx.cluster.delete(key_of(child), uid=meta["uid"], resource_version=meta["resourceVersion"])
    if not await case.troubles.bear(calling(gone)):
        return False
    ctx.expectations.deleted(case.key, key_of(child), meta["uid"], ctx.clock())
    case.known.applied.pop(key_of(child), None)
    return True


async def _apply(child: Obj, live: Obj | None, ctx: Context) -> Obj:
    """An apply cannot take away what somebody else has put into a list, and that may make the whole invalid (a port
    renumbered by hand, and ours of the same name). Then the lists are replaced as a whole first.
    """
    try:
        return await ctx.cluster.apply(child, manager=MANAGER)
    except ApiError as error:
        if live is None or error.status != 422:
            raise
        key = key_of(child)
        body = {name: value for name, value in child.items() if name not in ("apiVersion", "kind", "metadata")}
        await ctx.cluster.merge(key, body, manager=_REPAIRER)
    written = await ctx.cluster.apply(child, manager=MANAGER)
    entries = written["metadata"].get("managedFields") or ()
    kept = [entry for entry in entries if entry.get("manager") != _REPAIRER]
    metadata = {"managedFields": kept, "resourceVersion": written["metadata"]["resourceVersion"]}
    return await ctx.cluster.merge(key, {"metadata": metadata}, manager=MANAGER) or written


async def _tell_of_fights(left: Sequence[Difference], known: Known, ctx: Context) -> None:
    """Who keeps changing a child back is in its managedFields, which the index has not: asked for once per quarrel.

    Only of a child that has been left as the other wants it: in one that we have just written the fields are ours.
    """
    for one in left:
        child = key_of(one.child)
        if known.fights.by(child):
            continue
        live = None if one.live is None else await ctx.cluster.get(child)
        names = managers(live, one.why, MANAGER) if live and one.why.startswith(".") else []
        what = one.why if one.live is not None else "deleted"
        known.fights.blame(child, f"{what} by {', '.join(names[:3]) or 'somebody'}")


def quarrels(known: Known, ctx: Context) -> str:
    """What the status says of children that somebody else keeps changing; "" if nobody does."""
    said = [
        f"{child.kind} {child.name} is changed back again and again: {by}"
        for child in sorted(known.fights.going_on(ctx.clock()))
        if (by := known.fights.by(child))
    ]
    return "; ".join(said[:3]) + ": let only one of them own it" if said else ""


def user_changed(meta: Meta) -> bool:
    return bool(meta.status.get("observedGeneration") != meta.generation)


async def mark(case: Case, costs: Mapping[str, int], pods: Sequence[PodView]) -> None:
    """Tells Kubernetes what the deletion of each pod would cost; only the lowering of `replicas` waits for it."""
    ctx = case.ctx
    for name, cost in costs.items():
        body = {"metadata": {"annotations": {DELETION_COST: str(cost)}}}
        pod = Key(POD, case.key.namespace, name)
        if await case.troubles.bear(calling(ctx.cluster.merge(pod, body, manager=MANAGER))):
            marked(name, pods, case.known.scaling, ctx.clock())


# --- the finalizer of drain.onDelete -------------------------------------------------------------------------------


def has_finalizer(bridge: Obj) -> bool:
    return FINALIZER in (bridge["metadata"].get("finalizers") or ())


async def hold(bridge: Obj, ctx: Context) -> None:
    """Keeps a deleted bridge there until its pods have drained; not one that has taken this one's name meanwhile."""
    key = key_of(bridge)
    meta = {**named(key), "uid": bridge["metadata"]["uid"], "finalizers": [FINALIZER]}
    body = {"apiVersion": API_VERSION, "kind": BRIDGE, "metadata": meta}
    try:
        written = await calling(ctx.cluster.apply(body, manager=FINALIZER_MANAGER))
    except (Stalled, ApiError):
        await still_there(bridge, ctx)  # an apply to one that is gone, or to another of its name, is refused too
        raise
    ctx.expectations.wrote(key, written, ctx.clock())


async def release(bridge: Obj, ctx: Context) -> None:
    """Takes the finalizer away, whoever else lists it: by a patch of the list in just this version."""
    key, meta = key_of(bridge), bridge["metadata"]
    kept = [name for name in meta["finalizers"] if name != FINALIZER]
    body = {"metadata": {"finalizers": kept, "resourceVersion": meta["resourceVersion"]}}
    written = await calling(ctx.cluster.merge(key, body, manager=FINALIZER_MANAGER))
    if written is not None and "deletionTimestamp" not in meta:
        ctx.expectations.wrote(key, written, ctx.clock())
    log.info("finalizer taken away", extra=fields(key))
