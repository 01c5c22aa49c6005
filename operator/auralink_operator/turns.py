"""Whose pods may roll now: a bridge's part in `Rollouts`, as a look at it finds things. Called by `reconcile`.

A Deployment that the index lacks says nothing of its rollout: only what the API server says of it does.
"""

from collections.abc import Collection, Iterator

from auralink_operator.cluster import ApiError
from auralink_operator.context import LONGEST_WAIT_S, Case, Context, Stalled, Waiting, bridge_id, calling
from auralink_operator.index import BRIDGE, Indices, Key, Obj, is_owned_by, key_of
from auralink_operator.manifests import (
    APPLIED_HASH,
    TEMPLATE_HASH,
    TEMPLATE_INPUTS,
    annotations_of,
    child_name,
    differs,
    noted_template,
)
from auralink_operator.scene import child_of
from auralink_operator.sight import Asked
from auralink_operator.status import Problem, named


def note_shown(case: Case, unsure: Collection[Key]) -> None:
    """How far the rollout is by the index, unless that may be behind our own last write of it."""
    deployment = child_of(case.observed, "Deployment")
    if deployment is not None and key_of(deployment) not in unsure:
        _note(case, deployment)


def note_asked(case: Case, asked: Asked) -> None:
    """A Deployment that is out of sight goes on rolling; one that is not there, or another's, has no turn any more."""
    key = _deployment_of(case.key)
    if key in asked.ours or key in asked.absent or isinstance(asked.refused.get(key), Stalled):
        _note(case, asked.ours.get(key))


async def out_of_turn(case: Case) -> float | None:
    """Nothing will be rolled: the bridge waits no longer, and if it has no Deployment it keeps no turn either.

    One that the watch does not show may go on to roll: while the bridge has a turn it is asked for. Of its end nobody
    tells either: the answer is after how many seconds to look again."""
    ctx, unseen = case.ctx, case.known.unseen
    ctx.wake(ctx.rollouts.withdraw(case.key, ctx.clock()))
    if child_of(case.observed, "Deployment") is None and ctx.rollouts.holds_turn(case.key):
        await _ask_for_its_rollout(case)
        if ctx.rollouts.holds_turn(case.key):
            unseen.begin(ctx.clock())
            return unseen.next_s(ctx.clock(), 5.0, LONGEST_WAIT_S)
    unseen.end()
    return None


async def _ask_for_its_rollout(case: Case) -> None:
    try:
        live = await calling(case.ctx.cluster.get(_deployment_of(case.key)))
    except Stalled:
        live = None
    except (Waiting, ApiError) as error:
        case.troubles.add(error)  # so that it is asked for again
        return
    _note(case, live if live is not None and is_owned_by(live, case.obj["metadata"]["uid"]) else None)


def not_begun(case: Case) -> None:
    """The Deployment could not be written: as it is, it gives its turn to others."""
    _note(case, child_of(case.observed, "Deployment"))


def _deployment_of(bridge: Key) -> Key:
    return Key("Deployment", bridge.namespace, child_name(bridge.name))


def _note(case: Case, deployment: Obj | None) -> None:
    case.ctx.wake(case.ctx.rollouts.saw(case.key, deployment, case.ctx.clock()))


async def may_roll(case: Case, wanted: Obj, live: Obj, *, draining: bool) -> bool:
    """Whether a Deployment may become what is wanted now: what rolls pods by a default of the operator has its turn."""
    ctx = case.ctx
    if draining or case.still or not _rolls_by_default(wanted, live):
        ctx.wake(ctx.rollouts.withdraw(case.key, ctx.clock()))
        return True
    async with ctx.counting:
        if not ctx.rollouts.counted:
            hidden, unknown = await _out_of_sight(ctx)
            ctx.rollouts.count([*hidden, *_shown(ctx.indices)], unknown)
    return ctx.rollouts.may_begin(case.key, ctx.clock())


def held_template(live: Obj) -> Obj:
    """What the pods stay for now. As it was written, and by nobody else: what somebody makes of it meanwhile is drift,
    and what is not ours in it does not become ours by the next write of another field."""
    return noted_template(live) or live["spec"]["template"]


def as_it_is(held: Obj, live: Obj) -> Obj:
    """A Deployment whose template is held as it is there, for want of a note of what was written, without a write that
    would say nothing but that: the server's defaults are in it, and it is another text than what was written."""
    if noted_template(live) is not None:
        return held
    annotations = held["metadata"]["annotations"] | {
        name: noted for name, noted in annotations_of(live).items() if name == APPLIED_HASH
    }
    same = {**held, "metadata": {**held["metadata"], "annotations": annotations}}
    return same if differs(same, live) is None else held


def _rolls_by_default(wanted: Obj, live: Obj) -> bool:
    """Whether a Deployment's pods would be replaced although its bridge asks for the same as before."""
    new, old = wanted["metadata"]["annotations"], live["metadata"].get("annotations") or {}
    return new[TEMPLATE_HASH] != old.get(TEMPLATE_HASH) and old.get(TEMPLATE_INPUTS) in (None, new[TEMPLATE_INPUTS])


def _shown(indices: Indices) -> Iterator[tuple[Key, Obj]]:
    """The Deployments of bridges that there are, by bridge, as far as the watch shows them."""
    for held in indices.of_kind("Deployment").values():
        bridge = indices.held(key := Key(BRIDGE, held.key.namespace, held.bridge))
        if bridge is not None and is_owned_by(deployment := held.open(), bridge.uid):
            yield key, deployment


async def _out_of_sight(ctx: Context) -> tuple[list[tuple[Key, Obj]], list[Key]]:
    """The Deployments of bridges once looked at that the watch does not show, and the bridges of whose Deployment the
    API server does not say."""
    found: list[tuple[Key, Obj]] = []
    unknown: list[Key] = []
    for bridge in ctx.indices.of_kind(BRIDGE).values():
        name = _deployment_of(bridge.key)
        if ctx.indices.held(name) is not None or not (bridge.open().get("status") or {}).get("conditions"):
            continue
        try:
            live = await ctx.cluster.get(name)
        except ApiError as error:
            if error.transient:
                unknown.append(bridge.key)
            continue
        if live is not None and is_owned_by(live, bridge.uid):
            found.append((bridge.key, live))
    return found, unknown


def queued(ctx: Context) -> Problem:
    """Who only takes its time is not named: each change of it would be a write of every bridge that waits."""
    message = "a new default of the operator is being rolled out to other bridges first"
    if stuck := [bridge_id(key) for key in ctx.rollouts.stuck()]:
        message += (
            f", and does not come to its end in {named(stuck)}: make those bridges ready (their Ready conditions say"
            " why they are not), take the default back (helm rollback), or raise the operator's --max-rollouts"
        )
    return Problem("RolloutQueued", message)
