"""The verb: make what runs what is declared, and say how far that is. Called by the workers of `__main__` per key.

`reconcile` reads the index and decides; it calls the API only for a difference, so that a steady key costs no request.
`scene` looks around, `manifests` renders, `converge` writes, `status` says what it came to, `report` tells it.
Who is to act on an error is in its type: `Stalled` the user, `Waiting` nobody yet, any other us (the queue retries).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from auralink_operator.cluster import ApiError
from auralink_operator.context import (
    REQUESTED_AT,
    Context,
    Gone,
    Known,
    Losses,
    Troubles,
    bridge_id,
)
from auralink_operator.converge import (
    ACK_GRACE_S,
    Differences,
    converge,
    differences,
    has_finalizer,
    hold,
    mark,
    quarrels,
    release,
    user_changed,
)
from auralink_operator.index import (
    POLICY,
    Key,
    Obj,
    Observed,
    ObservedPolicy,
    carried_policies,
    key_of,
    observe,
    observe_policy,
)
from auralink_operator.manifests import (
    TEMPLATE_HASH,
    TEMPLATE_INPUTS,
    UnrenderableError,
    config_of,
    desired,
    moved,
    selector_text,
)
from auralink_operator.models import (
    Bridge,
    Compiled,
    InvalidSpecError,
    Meta,
    PodView,
    PublicAddress,
    RoomPolicy,
    check,
    meta_of,
    parse_bridge,
    parse_policy,
    pod_views,
)
from auralink_operator.policies import compile_policies
from auralink_operator.report import can_wait, forget_dead_pods, matched_elsewhere, write_policy_status, write_status
from auralink_operator.scaling import owners
from auralink_operator.scene import View, child_of, current_owners, is_still, look
from auralink_operator.sight import Asked, ask, with_children, with_deployment, with_hidden_pods
from auralink_operator.status import (
    FAILURES_TO_REPORT,
    MatchedBridge,
    Outcome,
    Problem,
    derive,
    derive_invalid,
    derive_policy,
    named,
    next_look_s,
    settled,
)

CONFIRM_S = 5.0
STATUS_EVERY_S = 1.0  # what says nothing new but details is told together
MAX_SILENT_PASSES = 3
QUEUED_S = 60.0  # a bridge that waits for its rollout is woken; this is for the case that nobody does
DRAIN_GRACE_S = 60.0


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
            ctx.ghost(indexed)
    ctx.expectations.forget(key)


# --- bridges -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """What converging came to; an `error` is the queue's to retry, once the status has been written."""

    view: View
    observed: Observed
    outcome: Outcome
    again_s: float | None = None
    error: ApiError | None = None


async def _reconcile_bridge(key: Key, ctx: Context) -> float | None:
    observed = observe(ctx.indices, key)
    if observed is None or (_leaving(observed.bridge) and not has_finalizer(observed.bridge)):
        raise Gone
    known = ctx.of(key)
    try:
        bridge = parse_bridge(observed.bridge)
    except InvalidSpecError as error:
        await _unreadable(key, observed, str(error), known, ctx)
        return None
    pods, troubles = await with_hidden_pods(key, observed, is_still(bridge, ctx), known, ctx)
    observed = pods.observed
    if _leaving(observed.bridge):
        observed = await with_deployment(observed, ctx)
    compiled = compile_policies(bridge, [p for obj in observed.policies if (p := _readable(obj)) is not None])
    _tell_policies(key, compiled, known, ctx)
    _wake(ctx.rollouts.saw(key, child_of(observed, "Deployment")), ctx)
    view = await look(bridge, observed, known, ctx)
    if _leaving(observed.bridge) and _drained(bridge, observed, view.scene.pods, ctx.now()):
        await release(observed.bridge, ctx)
        return None
    result = await _carry_out(key, bridge, observed, compiled, view, troubles, known, ctx)
    if result.outcome.stalled is None:
        await forget_dead_pods(key, pods.dead, known, ctx)
    return await _report(key, bridge, compiled, result, known, ctx)


async def _unreadable(key: Key, observed: Observed, why: str, known: Known, ctx: Context) -> None:
    """Its children stay as they are. One that is being deleted cannot be drained without being understood."""
    obj, meta = observed.bridge, meta_of(observed.bridge)
    if _leaving(obj):
        await release(obj, ctx)
        return
    troubles = Troubles()
    if not ctx.settings.paused and not (obj.get("spec") or {}).get("suspend"):
        await converge(key, meta, _moved_rooms(meta, observed, None, {}), Asked(), troubles, known, ctx)
    await write_status(obj, derive_invalid(meta, why, ctx.now()), ctx)
    if troubles.error is not None:
        raise troubles.error


def _leaving(obj: Obj) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def _readable(obj: Obj) -> RoomPolicy | None:
    """A policy that cannot be read says so itself and must not keep a bridge from its others."""
    if _leaving(obj):
        return None
    try:
        return parse_policy(obj)
    except InvalidSpecError:
        return None


def _tell_policies(key: Key, compiled: Compiled, known: Known, ctx: Context) -> None:
    """Only the bridge finds out what a policy loses here; the policy's own status says it."""
    losses = Losses(compiled.conflicts, compiled.dropped)
    if losses != known.losses:
        _wake((Key(POLICY, key.namespace, n) for n in losses.policies() | known.losses.policies()), ctx)
        known.losses = losses


def _wake(keys: Iterable[Key], ctx: Context) -> None:
    for key in keys:
        ctx.queue.add(key)


def _drained(bridge: Bridge, observed: Observed, pods: Sequence[PodView], now: datetime) -> bool:
    """Whether a bridge that is being deleted may go: its pods are gone, its time is up, or nobody waits any more."""
    drain = bridge.spec.drain
    since = datetime.fromisoformat(observed.bridge["metadata"]["deletionTimestamp"])
    late = (now - since).total_seconds() > drain.propagation_seconds + drain.timeout_seconds + DRAIN_GRACE_S
    deployment = child_of(observed, "Deployment") or {"spec": {"replicas": 0}}
    empty = deployment["spec"].get("replicas") == 0 and not (deployment.get("status") or {}).get("replicas")
    return late or not drain.on_delete or (empty and not pods)


async def _carry_out(
    key: Key,
    bridge: Bridge,
    observed: Observed,
    compiled: Compiled,
    view: View,
    troubles: Troubles,
    known: Known,
    ctx: Context,
) -> Result:
    """Renders and converges, and turns what goes wrong into an outcome: the status is written in any case."""
    outcome = Outcome(
        selector=selector_text(bridge.meta.name),
        exposure=view.exposure,
        paused=ctx.settings.paused,
        handled=known.handled,
    )
    leaving = _leaving(observed.bridge)
    if not leaving and (problems := check(bridge)):
        outcome = replace(outcome, stalled=Problem("InvalidSpec", "; ".join(problems[:5])))
        return await _invalid(key, bridge, observed, view, outcome, troubles, known, ctx)
    try:
        plan = await _plan(key, bridge, observed, compiled, view, known, ctx)
        generation, wanted_hash = config_of(plan.children)
        outcome = replace(
            outcome,
            config_generation=generation,
            config_hash=wanted_hash,
            unapplied=plan.found.names(),
            waiting=plan.view.waiting,
            exposure=plan.view.exposure,
        )
        if leaving or not is_still(bridge, ctx):
            await _write(key, bridge, plan, troubles, known, ctx)
            outcome = replace(outcome, handled=known.handled)
    except UnrenderableError as error:
        outcome = replace(outcome, stalled=Problem("InvalidSpec", str(error)))
        return await _invalid(key, bridge, observed, view, outcome, troubles, known, ctx)
    except Gone:
        if not leaving:
            raise
        # Its namespace goes too: no child comes back, but its pods may drain.
        return Result(view, observed, outcome, CONFIRM_S)
    result = _result(key, bridge, plan.view, plan.observed, outcome, troubles, ctx)
    if said := quarrels(known, ctx):
        result = replace(result, outcome=replace(result.outcome, waiting=Problem("ProgressingWithRetry", said)))
    return replace(result, again_s=_soonest(result.again_s, known.fights.next_s(ctx.clock())))


def _result(
    key: Key, bridge: Bridge, view: View, observed: Observed, outcome: Outcome, troubles: Troubles, ctx: Context
) -> Result:
    """The outcome with all that went wrong: what the user must mend, what is waited for, and what the queue retries."""
    again_s = view.again_s
    if (stalled := troubles.stalled) and outcome.stalled is None:
        outcome = replace(outcome, stalled=Problem(stalled.reason, stalled.message))
    if waiting := troubles.waiting:
        outcome = replace(outcome, waiting=Problem(waiting.reason, waiting.message))
        again_s = _soonest(again_s, waiting.after_s)
    if (error := troubles.error) and ctx.queue.failures(key) + 1 >= FAILURES_TO_REPORT:
        said = f"the API server refuses or does not answer: {error.message}"
        outcome = replace(outcome, failing=settled(said, bridge.meta.status))
    return Result(view, observed, outcome, again_s, error)


async def _invalid(
    key: Key,
    bridge: Bridge,
    observed: Observed,
    view: View,
    outcome: Outcome,
    troubles: Troubles,
    known: Known,
    ctx: Context,
) -> Result:
    if not is_still(bridge, ctx):
        target = bridge.spec.autoscaling.target_sessions_per_pod if bridge.spec.autoscaling else None
        children = _moved_rooms(bridge.meta, observed, target, view.scene.addresses)
        await converge(key, bridge.meta, children, Asked(), troubles, known, ctx)
    return _result(key, bridge, view, observed, outcome, troubles, ctx)


def _moved_rooms(
    meta: Meta, observed: Observed, target: int | None, addresses: Mapping[str, PublicAddress]
) -> Differences:
    """What is done for a spec that nothing can be made of: rooms move with their pods, and nothing else happens."""
    current = current_owners(observed)
    found = owners(current, pod_views(observed.pods, meta.status), current, target)
    return replace(differences(moved(observed, found, addresses), observed), unwanted=())


@dataclass(frozen=True, slots=True)
class Plan:
    """What is wanted and what is there."""

    observed: Observed
    view: View
    children: tuple[Obj, ...]
    found: Differences
    asked: Asked


async def _plan(
    key: Key, bridge: Bridge, observed: Observed, compiled: Compiled, view: View, known: Known, ctx: Context
) -> Plan:
    """Renders, asks for what is missing, and renders anew if some of it is there after all: what is wanted depends on
    what there is."""
    view, children = _render(key, bridge, observed, compiled, view, ctx)
    found = differences(children, observed)
    if is_still(bridge, ctx) and not _leaving(observed.bridge):
        return Plan(observed, view, children, found, Asked())
    missing = [one.child for one in found.written if one.live is None]
    asked = await ask(
        [child for child in missing if not known.fights.pause_s(key_of(child), ctx.clock())], observed, ctx
    )
    if asked.ours:
        observed = with_children(observed, asked.ours)
        view, children = _render(key, bridge, observed, compiled, await look(bridge, observed, known, ctx), ctx)
        found = differences(children, observed)
    return Plan(observed, view, children, found, asked)


def _render(
    key: Key, bridge: Bridge, observed: Observed, compiled: Compiled, view: View, ctx: Context
) -> tuple[View, tuple[Obj, ...]]:
    """The children; where a new default of the operator would roll too many bridges at once, with the old template."""
    children = desired(bridge, compiled, observed, view.scene, ctx.settings)
    live = child_of(observed, "Deployment")
    wanted = next(child for child in children if child["kind"] == "Deployment")
    if live is None or view.scene.draining or is_still(bridge, ctx) or not _rolls_by_default(wanted, live):
        return view, children
    if ctx.rollouts.may_begin(key, lambda: [held.open() for held in ctx.indices.of_kind("Deployment").values()]):
        return view, children
    view = replace(
        view,
        scene=replace(view.scene, held_template=live["spec"]["template"]),
        waiting=view.waiting or _queued(ctx),
        again_s=_soonest(view.again_s, QUEUED_S),
    )
    return view, desired(bridge, compiled, observed, view.scene, ctx.settings)


def _queued(ctx: Context) -> Problem:
    """Who only takes its time is not named: each change of it would be a write of every bridge that waits."""
    message = "a new default of the operator is being rolled out to other bridges first"
    if stuck := [bridge_id(key) for key in ctx.rollouts.stuck()]:
        message += (
            f", and does not come to its end in {named(stuck)}: make those bridges ready (their Ready conditions say"
            " why they are not), take the default back (helm rollback), or raise the operator's --max-rollouts"
        )
    return Problem("RolloutQueued", message)


def _rolls_by_default(wanted: Obj, live: Obj) -> bool:
    """Whether a Deployment's pods would be replaced although its bridge asks for the same as before."""
    new, old = wanted["metadata"]["annotations"], live["metadata"].get("annotations") or {}
    return new[TEMPLATE_HASH] != old.get(TEMPLATE_HASH) and old.get(TEMPLATE_INPUTS) in (None, new[TEMPLATE_INPUTS])


async def _write(key: Key, bridge: Bridge, plan: Plan, troubles: Troubles, known: Known, ctx: Context) -> None:
    """Everything that is to be written of a bridge but its status. A forced reconcile trusts no comparison, once."""
    draining, found = plan.view.scene.draining, plan.found
    if not draining and bridge.spec.drain.on_delete != has_finalizer(plan.observed.bridge):
        await troubles.bear((hold if bridge.spec.drain.on_delete else release)(plan.observed.bridge, ctx))
    request = bridge.meta.annotations.get(REQUESTED_AT, "")[:253]
    if request and request not in (bridge.meta.status.get("lastHandledReconcileAt"), known.handled):
        found = differences(plan.children, plan.observed, all_of_them=True)
    await converge(key, bridge.meta, found, plan.asked, troubles, known, ctx)
    await mark(plan.view.marks, key, plan.view.scene.pods, troubles, known, ctx)
    if not troubles:
        known.handled = request


async def _report(
    key: Key, bridge: Bridge, compiled: Compiled, result: Result, known: Known, ctx: Context
) -> float | None:
    """Writes the status, unless it would only say that what has just been written is on its way."""
    pods, outcome, observed = result.view.scene.pods, result.outcome, result.observed
    status = derive(bridge, observed, result.view.scene, compiled, outcome, ctx.now())
    _measure(key, pods, outcome, ctx)
    if result.error is None and _to_be_confirmed(bridge, outcome, known, ctx):
        return CONFIRM_S
    if (grace_s := _grace_s(bridge, pods, outcome, known, ctx)) > 0:
        if result.error is not None:
            raise result.error
        return _soonest(grace_s, result.again_s)
    if (left_s := known.written_at + STATUS_EVERY_S - ctx.clock()) > 0 and can_wait(bridge.meta.status, status):
        later_s: float | None = left_s
    else:
        later_s = None
        if await write_status(observed.bridge, status, ctx):
            known.written_at = ctx.clock()
    if result.error is not None:
        raise result.error
    return _soonest(
        later_s, result.again_s, next_look_s(status, observed, ctx.now()), _drain_ends_s(bridge, observed, ctx)
    )


def _measure(key: Key, pods: Sequence[PodView], outcome: Outcome, ctx: Context) -> None:
    if outcome.config_generation:
        bridges, name = ctx.metrics.bridges, bridge_id(key)
        bridges.pushed(name, outcome.config_generation, ctx.clock())
        bridges.acknowledged(name, [pod.acked for pod in pods if pod.serving], ctx.clock())


def _soonest(*seconds: float | None) -> float | None:
    return min((one for one in seconds if one is not None), default=None)


def _drain_ends_s(bridge: Bridge, observed: Observed, ctx: Context) -> float | None:
    if not _leaving(observed.bridge):
        return None
    since = datetime.fromisoformat(observed.bridge["metadata"]["deletionTimestamp"])
    drain = bridge.spec.drain
    longest_s = drain.propagation_seconds + drain.timeout_seconds + DRAIN_GRACE_S
    return max(1.0, longest_s - (ctx.now() - since).total_seconds() + 1.0)


def _to_be_confirmed(bridge: Bridge, outcome: Outcome, known: Known, ctx: Context) -> bool:
    """Whether the status can wait for the watch to show what has just been written: the next look is milliseconds away.

    Only so many times in a row, lest a child that somebody else keeps changing keeps the bridge silent.
    """
    fine = outcome.stalled is None and outcome.waiting is None and not outcome.failing and not is_still(bridge, ctx)
    passes, known.passes = known.passes + 1, 0
    if not outcome.unapplied or not fine or passes > MAX_SILENT_PASSES:
        return False
    known.passes = passes
    return True


def _grace_s(bridge: Bridge, pods: Sequence[PodView], outcome: Outcome, known: Known, ctx: Context) -> float:
    """How long the status may still wait for pods to acknowledge a policy change, so that Ready need not flap."""
    if known.grace_until is None:
        return 0.0
    behind = any(pod.acked < outcome.config_generation for pod in pods if pod.serving)
    left_s = known.grace_until - ctx.clock()
    if left_s > 0 and outcome.stalled is None and not user_changed(bridge.meta) and (behind or outcome.unapplied):
        return left_s
    known.grace_until = None
    return 0.0


# --- policies ------------------------------------------------------------------------------------------------------


async def _reconcile_policy(key: Key, ctx: Context) -> float | None:
    observed = observe_policy(ctx.indices, key)
    if observed is None or _leaving(observed.policy):
        raise Gone
    known = ctx.of(key)
    try:
        policy = parse_policy(observed.policy)
    except InvalidSpecError as error:
        if not ctx.settings.shard:
            await write_status(observed.policy, derive_invalid(meta_of(observed.policy), str(error), ctx.now()), ctx)
        return None
    matched = _matched(key, observed, ctx)
    if (left_s := _policy_grace_s(policy, matched, known, ctx)) > 0:
        return left_s
    elsewhere = matched_elsewhere(observed.policy, [bridge.name for bridge in matched], known)
    await write_policy_status(observed.policy, derive_policy(policy, matched, ctx.now(), elsewhere), known, ctx)
    return None


def _matched(key: Key, observed: ObservedPolicy, ctx: Context) -> list[MatchedBridge]:
    found = []
    for bridge in observed.bridges:
        if _leaving(bridge):
            continue
        name, nothing = bridge["metadata"]["name"], Known()
        losses = ctx.known.get(key_of(bridge), nothing).losses
        found.append(
            MatchedBridge(
                name,
                carried_policies(observed.config_maps.get(name)).get(key.name),
                conflicts=tuple(conflict for conflict in losses.conflicts if conflict.loser == key.name),
                dropped=key.name in losses.dropped,
                suspended=bool((bridge.get("spec") or {}).get("suspend")),
                stalled=bool((bridge.get("status") or {}).get("stalled")),
            )
        )
    return found


def _policy_grace_s(policy: RoomPolicy, matched: Sequence[MatchedBridge], known: Known, ctx: Context) -> float:
    """The bridges are being reconciled at this moment: no word of it unless it takes longer than usual."""
    if all(bridge.carries == policy.meta.generation for bridge in matched):
        known.grace_until = None
        return 0.0
    if known.grace_until is None:
        known.grace_until = ctx.clock() + ACK_GRACE_S
    return known.grace_until - ctx.clock()
