"""What a reconcile decides before anything is rendered: owners of rooms, replicas, addresses. Called by `reconcile`.

The deciding is `scaling`'s and `exposure`'s; here they get what they decide on. Nothing is written here, and Nodes are
all that is ever read.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from json import JSONDecodeError, loads
from typing import Any

from auralink_operator.cluster import ApiError
from auralink_operator.context import Case, Context, Known
from auralink_operator.exposure import addresses, node_ip, nodes_needed, pending
from auralink_operator.index import NODE, Key, Obj, Observed
from auralink_operator.manifests import ROOM, short_hash
from auralink_operator.models import Bridge, Driver, PodView, Scene, pod_views
from auralink_operator.scaling import (
    Replicas,
    autoscaled,
    deletion_costs,
    gated,
    owners,
    to_mark,
    under_hpa,
    unmarked,
)
from auralink_operator.status import Problem, observed_by_its_controller

log = logging.getLogger("auralink_operator.reconcile")

NODE_CACHE_S, NODE_AGAIN_S, _MAX_NODES = 600.0, 10.0, 10_000
_UNREAD = "unread"
_MARKING = "before pods go, each is marked with the sessions it has, so that the one with the fewest goes"


@dataclass(frozen=True, slots=True)
class View:
    """The scene, and what follows from it for the status and for the next look."""

    scene: Scene
    marks: Mapping[str, int]  # pods to be marked now with what their deletion would cost
    waiting: Problem | None = None
    exposure: Problem | None = None
    again_s: float | None = None


async def look(bridge: Bridge, case: Case) -> View:
    """Everything around the bridge; draining, if it is being deleted."""
    observed, known, ctx = case.observed, case.known, case.ctx
    pods = pod_views(observed.pods, case.obj.get("status") or {})
    draining = case.leaving
    target = bridge.spec.autoscaling.target_sessions_per_pod if bridge.spec.autoscaling else None
    rooms = [room.name for room in bridge.spec.rooms if room.listen_ports()]
    serving = owners(rooms, pods, current_owners(observed), target)
    live = child_of(observed, "Deployment")
    costs = deletion_costs(pods, _most(bridge, live))
    # While nothing is written no mark can be waited for: what would be done is only told.
    missing = [] if case.still and not draining else unmarked(costs, observed.pods)
    due, later_s = to_mark(missing, known.scaling, ctx.clock())
    found = Replicas(0, 0) if draining else _replicas(bridge, pods, live, bool(missing), known, ctx)
    nodes, nodes_s = await _nodes(bridge, serving, ctx)
    public = addresses(bridge, observed, serving, nodes)
    unknown = pending(bridge, observed, serving, public, nodes)
    again = [seconds for seconds in (found.again_s, later_s, nodes_s) if seconds is not None]
    return View(
        Scene(
            pods=pods,
            owners=serving,
            replicas=found.rendered,
            addresses=public,
            capabilities=ctx.capabilities,
            draining=draining,
        ),
        marks={name: costs[name] for name in due},
        waiting=Problem("Progressing", _MARKING) if found.held else None,
        exposure=Problem(*unknown) if unknown else None,
        again_s=min(again, default=None),
    )


def child_of(observed: Observed, kind: str) -> Obj | None:
    """The child of a kind that a bridge has one of."""
    return next((obj for key, obj in observed.children.items() if key.kind == kind), None)


def template_seen(case: Case) -> bool:
    """Whether the Deployment's controller is known to have seen the pod template that is there now: what it says of
    its pods is of the template that it saw last. A new process knows only what is still so."""
    live, known = child_of(case.observed, "Deployment"), case.known
    if live is None:
        return False
    template = short_hash(live["spec"].get("template"))
    if observed_by_its_controller(live):
        known.template = template
    return known.template == template


# --- owners --------------------------------------------------------------------------------------------------------


def current_owners(observed: Observed) -> dict[str, str]:
    """Room -> pod as pods have been told; where the ConfigMap is lost, as the EndpointSlices still say."""
    found: dict[str, str] = {}
    for key, obj in observed.children.items():
        if key.kind == "EndpointSlice":
            room = (obj["metadata"].get("annotations") or {}).get(ROOM)
            endpoint: Mapping[str, Any] = next(iter(obj.get("endpoints") or ()), {})
            if room and (pod := (endpoint.get("targetRef") or {}).get("name")):
                found.setdefault(str(room), str(pod))
    return found | _told(child_of(observed, "ConfigMap"))


def _told(config: Obj | None) -> dict[str, str]:
    """`owners.json`; whatever somebody made of it must not stop a reconcile that would repair it."""
    try:
        parsed = loads(((config or {}).get("data") or {}).get("owners.json") or "{}")
    except JSONDecodeError:
        return {}
    if not isinstance(parsed, dict):
        return {}
    return {room: pod for room, pod in parsed.items() if isinstance(pod, str)}


# --- replicas and costs --------------------------------------------------------------------------------------------


def _live_replicas(live: Obj | None) -> int | None:
    return None if live is None else int((live.get("spec") or {}).get("replicas", 1))


def _most(bridge: Bridge, live: Obj | None) -> int:
    """The largest number of pods among which one may have to be chosen."""
    rule = bridge.spec.autoscaling
    return max(rule.max_replicas if rule else bridge.spec.wanted_replicas(), _live_replicas(live) or 0)


def _replicas(
    bridge: Bridge, pods: tuple[PodView, ...], live: Obj | None, marks_missing: bool, known: Known, ctx: Context
) -> Replicas:
    """One of three decides: the user's number, the HPA, or the operator in its place."""
    rule, now = bridge.spec.autoscaling, _live_replicas(live)
    if rule is None:
        return gated(bridge.spec.wanted_replicas(), now, marks_missing)
    if rule.driver is Driver.HPA:
        owners_of_field = set((live or {}).get("metadata", {}).get("replicasManagers") or ())
        return under_hpa(rule.min_replicas, now, bool(owners_of_field - {"auralink-operator"}))
    wanted, again_s = autoscaled(rule, pods, now, known.scaling, ctx.clock())
    return gated(wanted, now, marks_missing, again_s)


# --- nodes ---------------------------------------------------------------------------------------------------------


async def _nodes(bridge: Bridge, serving: Mapping[str, PodView], ctx: Context) -> tuple[dict[str, Obj], float | None]:
    """Nodes by name, and after how many seconds to look again for an address that could not be had.

    An address that peers can be told hardly changes and is kept. No other answer is, beyond sparing the API server the
    bridges that ask the same at that moment: no watch tells when the address comes. Without the right to, none is read.
    """
    found: dict[str, Obj] = {}
    lacking: list[float] = []
    for name in sorted(nodes_needed(bridge, serving)) if ctx.settings.nodes else ():
        due, node = ctx.nodes.get(name, (float("-inf"), None))
        kept_for_another = due > ctx.clock() + NODE_AGAIN_S  # a bridge that wants another address of the same Node
        if due <= ctx.clock() or (kept_for_another and not node_ip(bridge, node)):
            node = await _node(name, ctx)
            good = node_ip(bridge, node) and not _is_unread(node)
            due = ctx.clock() + (NODE_CACHE_S if good else NODE_AGAIN_S)
            _remember(name, due, node, ctx)
        if node is not None and "status" in node:
            found[name] = node
        if not node_ip(bridge, node):
            lacking.append(max(1.0, due - ctx.clock()))
    return found, min(lacking, default=None)


def _remember(name: str, due: float, node: Obj | None, ctx: Context) -> None:
    ctx.nodes.pop(name, None)
    ctx.nodes[name] = (due, node)
    while len(ctx.nodes) > _MAX_NODES:
        del ctx.nodes[next(iter(ctx.nodes))]


def _is_unread(node: Obj | None) -> bool:
    return node is not None and _UNREAD in node


async def _node(name: str, ctx: Context) -> Obj | None:
    """What counts of a Node; None if there is none. If it cannot be read now, what was known of it goes on being
    served, marked as unread."""
    _, known = ctx.nodes.get(name, (0.0, None))
    try:
        live = await ctx.cluster.get(Key(NODE, "", name))
    except ApiError as error:
        if not _is_unread(known):
            log.warning("a Node cannot be read", extra={"node": name, "error": str(error)})
        return {**(known or {}), _UNREAD: True}
    if _is_unread(known):
        log.info("a Node can be read again", extra={"node": name})
    if live is None:
        return None
    meta = {"name": name, "labels": live["metadata"].get("labels") or {}}
    return {"metadata": meta, "status": {"addresses": (live.get("status") or {}).get("addresses") or []}}
