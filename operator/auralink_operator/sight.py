"""What the watches do not show although it is there: missing from the index is not absent.

A child or a pod leaves a watch when somebody takes a label off it, and all of them do when their bridge comes to
another shard. What would be decided without them (how many pods there are, who serves a room) would be wrong. So
whatever is missing is asked for before anything is written; what is there is looked at as if the watch had shown it,
and gets its labels back. Called by `reconcile`.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from auralink_operator.cluster import ApiError
from auralink_operator.context import (
    LONGEST_WAIT_S,
    MANAGER,
    Case,
    Context,
    Gone,
    Stalled,
    Troubles,
    Waiting,
    calling,
    fields,
    is_leaving,
    names_of,
)
from auralink_operator.index import (
    BRIDGE,
    LABEL_BRIDGE,
    POD,
    Key,
    Obj,
    Observed,
    is_owned_by,
    is_pod_of,
    key_of,
    slim,
)
from auralink_operator.manifests import LABEL_SHARD, MANAGED_BY, child_name, unwanted_names
from auralink_operator.models import is_pod_name
from auralink_operator.settings import Settings

log = logging.getLogger("auralink_operator.reconcile")

# A room has an EndpointSlice once it has an owner: that it is missing says nothing, and its name is nobody else's.
COMES_AND_GOES = "EndpointSlice"
STRANGER_S, LONGEST_STRANGER_S = 600.0, 86_400.0
_OVER = ("Succeeded", "Failed")


# --- our own writes ---


async def catch_up(key: Key, pending: Sequence[Key], troubles: Troubles, ctx: Context) -> frozenset[Key]:
    """The watch has not shown our writes in time: what is there is asked for, and counts as shown.

    Answers with what could not be asked for, of which the index may be behind."""
    unsure: set[Key] = set()
    for child in pending:
        try:
            live = await ctx.cluster.get(child)
        except ApiError as error:
            unsure.add(child)  # and asked for again by the next look
            if error.transient:
                troubles.add(error)
        else:
            _as_shown(child, live, ctx)
            ctx.expectations.settled(key, child)
    return frozenset(unsure)


def _as_shown(child: Key, live: Obj | None, ctx: Context) -> None:
    """Not what the watch does not select: nobody would tell of its end."""
    indexed = ctx.indices.get(child)
    if live is None:
        if indexed is not None:
            ctx.ghost(indexed)
    elif indexed is not None or is_watched(live, ctx.settings):
        ctx.indices.shown({**live, "kind": child.kind})


# --- children ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """What the API server says of missing children: `ours` are there after all, the `absent` are not; the
    `refused` must not be written, and why."""

    ours: Mapping[Key, Obj] = field(default_factory=dict)
    absent: frozenset[Key] = frozenset()
    refused: Mapping[Key, Exception] = field(default_factory=dict)

    def lets_write(self, child: Key) -> bool:
        """Whether a missing child may be written: only on the API server's word that it is not there."""
        return child not in self.refused and (child in self.absent or child.kind == COMES_AND_GOES)


async def ask(missing: Sequence[Obj], case: Case) -> Asked:
    """Looks up children that are wanted and not indexed. Raises Gone if the bridge itself is not there any more."""
    ours: dict[Key, Obj] = {}
    refused: dict[Key, Exception] = {}
    sure = [child for child in missing if child["kind"] != COMES_AND_GOES]
    if sure and (case.obj.get("status") or {}).get("conditions"):
        try:
            await still_there(case.obj, case.ctx)
        except (Stalled, Waiting, ApiError) as error:
            return Asked(refused={key_of(child): error for child in sure})
    uid = case.obj["metadata"]["uid"]
    await _ask_for(sure, uid, ours, refused, case.ctx)
    slices = [child for child in missing if child["kind"] == COMES_AND_GOES]
    if not ours:  # else the watch does not show these either
        slices = [child for child in slices if not child["endpoints"]]  # where the owner is only the one there can say
    await _ask_for(slices, uid, ours, refused, case.ctx)
    absent = frozenset(key_of(child) for child in sure) - ours.keys() - refused.keys()
    return Asked(ours, absent, refused)


async def _ask_for(
    children: Iterable[Obj], uid: str, ours: dict[Key, Obj], refused: dict[Key, Exception], ctx: Context
) -> None:
    for child in children:
        try:
            live = await own(child, uid, ctx)
        except (Stalled, Waiting, ApiError) as error:
            refused[key_of(child)] = error
        else:
            if live is not None:
                ours[key_of(child)] = live


async def hidden_and_unwanted(wanted: Sequence[Obj], asked: Asked, case: Case) -> tuple[tuple[Obj, ...], Asked]:
    """Where the watch does not show some children it may not show such as are wanted no longer either: they are asked
    for by their names, and EndpointSlices, which have many, by the bridge's label.

    If that fails the others must not come into sight yet, after which nobody would ask again."""
    uid, ctx, found = case.obj["metadata"]["uid"], case.ctx, list[Obj]()
    keep = {key_of(child) for child in wanted} | case.observed.children.keys()
    try:
        for key in unwanted_names(wanted, case.key):
            if key not in keep and (live := await calling(ctx.cluster.get(key))) is not None:
                found.append({**live, "kind": key.kind})
        selector = f"{LABEL_BRIDGE}={case.key.name}"
        async for live in ctx.cluster.list_metadata(COMES_AND_GOES, case.key.namespace, selector):
            if key_of(obj := {**live, "kind": COMES_AND_GOES}) not in keep:
                found.append(obj)
    except (Stalled, Waiting, ApiError) as error:
        return (), replace(asked, refused={**asked.refused, **dict.fromkeys(asked.ours, error)})
    return tuple(obj for obj in found if is_owned_by(obj, uid) and not is_leaving(obj)), asked


def with_children(observed: Observed, found: Mapping[Key, Obj]) -> Observed:
    return replace(observed, children={**observed.children, **found})


async def with_deployment(case: Case) -> tuple[Case, bool]:
    """Whether a deleted bridge still has pods to wait for must not be read off an index that lacks its Deployment.

    False: the API server does not say, so it may have.
    """
    case, unsure = await with_hidden(case, [Key("Deployment", case.key.namespace, child_name(case.key.name))])
    return case, not unsure


async def with_hidden(case: Case, wanted: Iterable[Key]) -> tuple[Case, frozenset[Key]]:
    """Those of some children which are there though the watch does not show them; and those of which the API server
    does not say whether they are."""
    found: dict[Key, Obj] = {}
    unsure: set[Key] = set()
    for key in wanted:
        if key in case.observed.children:
            continue
        try:
            live = await calling(case.ctx.cluster.get(key))
        except (Stalled, Waiting, ApiError) as error:
            case.troubles.add(error)
            unsure.add(key)
            continue
        if live is not None and is_owned_by(live, case.obj["metadata"]["uid"]):
            found[key] = slim({**live, "kind": key.kind})
    return case.seeing(with_children(case.observed, found)), frozenset(unsure)


async def still_there(bridge: Obj, ctx: Context) -> None:
    """A missing child may mean that the bridge is gone and the watch does not know: asked before children come back.

    Raises Gone if it is."""
    live = await calling(ctx.cluster.get(key_of(bridge)))
    if live is None or live["metadata"]["uid"] != bridge["metadata"]["uid"]:
        ctx.ghost(bridge)
        raise Gone
    if is_leaving(live) and not is_leaving(bridge):
        raise Gone


async def own(child: Obj, uid: str, ctx: Context) -> Obj | None:
    """A child as it is, None if it is not there. One of somebody else's is never taken over: Stalled."""
    live = await calling(ctx.cluster.get(key_of(child)))
    if live is None:
        return None
    if is_owned_by(live, uid):
        return slim({**live, "kind": child["kind"]})
    name = child["metadata"]["ownerReferences"][0]["name"]
    owners = live["metadata"].get("ownerReferences") or ()
    if any(owner.get("kind") == BRIDGE and owner.get("name") == name for owner in owners):
        said = f"{names_of(child)} of an earlier bridge of this name is about to go: if Kubernetes leaves it, delete it"
        raise Waiting("Progressing", said, 2.0, longest_s=LONGEST_WAIT_S)
    raise Stalled(
        "NameConflict",
        f"{names_of(child)} exists and is not this bridge's: delete or rename it, or rename the bridge",
    )


# --- pods ----------------------------------------------------------------------------------------------------------

Entry = tuple[str, str]  # name and uid of a pod in `status.pods`


async def with_hidden_pods(case: Case) -> tuple[Case, tuple[Entry, ...]]:
    """Asks for each pod that `status.pods` names and the index lacks, before its rooms are given to others; answers
    with the entries of those that are dead.

    A pod of which the API server does not say whether it lives keeps its rooms: to move one that is well costs every
    receiver a moment of picture. One that the watch shows to have ended, and a name that no pod can have, need no
    asking. An entry may be none of ours, by a live pod or by a manager that we do not know: such a one is asked for
    more and more seldom. While nothing may be changed a pod does not get its labels back.
    """
    observed, known, ctx = case.observed, case.known, case.ctx
    over = {_entry(pod) for pod in observed.pods if _is_over(pod)}
    indexed = {pod["metadata"]["name"] for pod in observed.pods if not _is_over(pod)}
    entries = {(str(e.get("name")), str(e.get("uid"))): e for e in (case.obj.get("status") or {}).get("pods") or ()}
    left = {entry: said for entry, said in entries.items() if entry[0] not in indexed}
    known.strangers = {entry: when for entry, when in known.strangers.items() if entry in left}
    found, dead, now = list(observed.pods), [], ctx.clock()
    for (name, uid), said in left.items():
        if (name, uid) in known.strangers and now < known.strangers[name, uid][0]:
            continue
        if (name, uid) in over or not is_pod_name(name):
            dead.append((name, uid))
            continue
        try:
            live = await calling(ctx.cluster.get(Key(POD, case.key.namespace, name)))
        except (Stalled, Waiting, ApiError) as error:
            case.troubles.add(error)
            found.append(_as_reported(said, observed))
            continue
        if live is None or _is_over(live):
            dead.append((name, uid))
        elif live["metadata"]["uid"] == uid and _serves(live, observed.bridge):
            ctx.ghosts.seen(uid)
            found.append(slim({**live, "kind": POD}))
            await _bring_into_sight(live, case)
        else:
            leave_alone((name, uid), case)
    found.sort(key=lambda pod: str(pod["metadata"]["name"]))
    return case.seeing(replace(observed, pods=tuple(found))), tuple(dead)


def leave_alone(entry: Entry, case: Case) -> None:
    """An entry that stays whatever is done: after twice as long as the last time it is asked for again."""
    _, before_s = case.known.strangers.get(entry, (0.0, STRANGER_S / 2))
    pause_s = min(LONGEST_STRANGER_S, 2 * before_s)
    case.known.strangers[entry] = case.ctx.clock() + pause_s, pause_s


def _entry(pod: Obj) -> Entry:
    return str(pod["metadata"]["name"]), str(pod["metadata"]["uid"])


def _is_over(pod: Obj) -> bool:
    """Whether it has ended and will not report again; one that was evicted stays there, for its end to be read."""
    return (pod.get("status") or {}).get("phase") in _OVER


def _as_reported(entry: Mapping[str, Any], observed: Observed) -> Obj:
    """A pod as it was when it was last heard of: ready, and where the EndpointSlices of its rooms say."""
    slices = (child for key, child in observed.children.items() if key.kind == COMES_AND_GOES)
    endpoints = (endpoint for child in slices for endpoint in child.get("endpoints") or ())
    addresses = (
        endpoint["addresses"][0]
        for endpoint in endpoints
        if (endpoint.get("targetRef") or {}).get("name") == entry["name"] and endpoint.get("addresses")
    )
    return {
        "kind": POD,
        "metadata": {"namespace": observed.bridge["metadata"]["namespace"], "name": entry["name"], "uid": entry["uid"]},
        "spec": {"nodeName": entry.get("node") or ""},
        "status": {
            "phase": "Unknown",
            "podIP": next(addresses, ""),
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def _serves(pod: Obj, bridge: Obj) -> bool:
    label = (pod["metadata"].get("labels") or {}).get(LABEL_BRIDGE)
    return bool(label == bridge["metadata"]["name"] and is_pod_of(pod, bridge))


async def _bring_into_sight(pod: Obj, case: Case) -> None:
    """Labels that the watch asks for; what has them is shown in a moment, and the next look waits for it."""
    key, ctx = case.key, case.ctx
    if is_watched(pod, ctx.settings):
        ctx.expectations.wrote(key, {**pod, "kind": POD}, ctx.clock())
        return
    if case.still:
        return
    shown = {"app.kubernetes.io/managed-by": MANAGED_BY, LABEL_SHARD: ctx.settings.shard or None}
    name = Key(POD, key.namespace, pod["metadata"]["name"])
    try:
        written = await calling(ctx.cluster.merge(name, {"metadata": {"labels": shown}}, manager=MANAGER))
    except (Stalled, Waiting, ApiError) as error:
        case.troubles.add(error)
        return
    if written is not None:
        ctx.expectations.wrote(key, written, ctx.clock())
        log.info("a pod that the watch did not show has its labels again", extra=fields(key, pod=name.name))


def is_watched(obj: Obj, settings: Settings) -> bool:
    """Whether the watches select a child or a pod."""
    labels = obj["metadata"].get("labels") or {}
    managed = labels.get("app.kubernetes.io/managed-by") == MANAGED_BY
    return managed and labels.get(LABEL_SHARD) == (settings.shard or None)
