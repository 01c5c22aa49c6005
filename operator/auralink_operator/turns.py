"""Whose pods may roll now: a bridge's part in `Rollouts`, as a look at it finds things. Called by `reconcile`.

A Deployment that the index lacks says nothing of its rollout: only what the API server says of it does.
"""

from collections.abc import Collection, Iterator

from auralink_operator.context import Case, Context, Stalled, bridge_id
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
    key = Key("Deployment", case.key.namespace, child_name(case.key.name))
    if key in asked.ours or key in asked.absent or isinstance(asked.refused.get(key), Stalled):
        _note(case, asked.ours.get(key))


def out_of_turn(case: Case) -> None:
    """Nothing will be rolled: the bridge waits no longer, and if it has no Deployment it keeps no turn either."""
    case.ctx.wake(case.ctx.rollouts.withdraw(case.key, case.ctx.clock()))
    if child_of(case.observed, "Deployment") is None:
        _note(case, None)


def not_begun(case: Case) -> None:
    """The Deployment could not be written: as it is, it gives its turn to others."""
    _note(case, child_of(case.observed, "Deployment"))


def _note(case: Case, deployment: Obj | None) -> None:
    case.ctx.wake(case.ctx.rollouts.saw(case.key, deployment, case.ctx.clock()))


def may_roll(case: Case, wanted: Obj, live: Obj, *, draining: bool) -> bool:
    """Whether a Deployment may become what is wanted now: what rolls pods by a default of the operator has its turn."""
    ctx = case.ctx
    if draining or case.still or not _rolls_by_default(wanted, live):
        ctx.wake(ctx.rollouts.withdraw(case.key, ctx.clock()))
        return True
    return ctx.rollouts.may_begin(case.key, lambda: _deployments(ctx.indices), ctx.clock())


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


def _deployments(indices: Indices) -> Iterator[tuple[Key, Obj]]:
    """Those of bridges that there are, by bridge."""
    for held in indices.of_kind("Deployment").values():
        bridge = indices.held(key := Key(BRIDGE, held.key.namespace, held.bridge))
        if bridge is not None and is_owned_by(deployment := held.open(), bridge.uid):
            yield key, deployment


def queued(ctx: Context) -> Problem:
    """Who only takes its time is not named: each change of it would be a write of every bridge that waits."""
    message = "a new default of the operator is being rolled out to other bridges first"
    if stuck := [bridge_id(key) for key in ctx.rollouts.stuck()]:
        message += (
            f", and does not come to its end in {named(stuck)}: make those bridges ready (their Ready conditions say"
            " why they are not), take the default back (helm rollback), or raise the operator's --max-rollouts"
        )
    return Problem("RolloutQueued", message)
