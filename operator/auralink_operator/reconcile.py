"""The verb: make what runs what is declared, and say how far that is. Called by the workers of `__main__` per key.

`reconcile` reads the index and decides; it calls the API only for a difference, so that a steady key costs no request.
`scene` looks around, `manifests` renders, `converge` writes, `status` says what it came to, `report` tells it.
Who is to act on an error is in its type: `Stalled` the user, `Waiting` nobody yet, any other us (the queue retries).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from auralink_operator.cluster import ApiError
from auralink_operator.context import (
    FINALIZER,
    LONGEST_WAIT_S,
    REQUESTED_AT,
    Case,
    Context,
    Gone,
    Known,
    Losses,
    Stalled,
    Troubles,
    Waiting,
    bridge_id,
    is_leaving,
)
from auralink_operator.converge import (
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
    key_of,
    observe,
)
from auralink_operator.manifests import (
    UnrenderableError,
    config_name,
    config_of,
    desired,
    moved,
    rtp_name,
    selector_text,
    slice_name,
)
from auralink_operator.matching import reconcile_policy
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
    nobody,
    parse_bridge,
    parse_policy,
    pod_views,
)
from auralink_operator.policies import compile_policies
from auralink_operator.report import can_wait_s, forget_dead_pods, write_status
from auralink_operator.scaling import owners
from auralink_operator.scene import View, child_of, current_owners, look, template_seen
from auralink_operator.sight import (
    Asked,
    Entry,
    ask,
    catch_up,
    hidden_and_unwanted,
    with_children,
    with_deployment,
    with_hidden,
    with_hidden_pods,
)
from auralink_operator.status import (
    FAILURES_TO_REPORT,
    Outcome,
    Problem,
    derive,
    derive_invalid,
    next_look_s,
    settled,
)
from auralink_operator.turns import (
    as_it_is,
    held_template,
    may_roll,
    not_begun,
    note_asked,
    note_shown,
    out_of_turn,
    queued,
)

CONFIRM_S = 5.0
MAX_SILENT_PASSES = 3
QUEUED_S = 60.0  # a bridge that waits for its rollout is woken; this is for the case that nobody does
DRAIN_GRACE_S = 60.0


async def reconcile(key: Key, ctx: Context) -> float | None:
    """One look at one key; the answer is after how many seconds to look again without being told to."""
    troubles, unsure = Troubles(), frozenset[Key]()
    if pending := ctx.expectations.pending(key, ctx.indices):
        if (wait_s := ctx.expectations.remaining_s(key, ctx.clock())) > 0:
            return wait_s
        unsure = await catch_up(key, pending, troubles, ctx)
    try:
        if key.kind != POLICY:
            return await _reconcile_bridge(key, troubles, unsure, ctx)
        again_s = await reconcile_policy(key, ctx)
    except Gone:
        ctx.forget(key)
        return None
    if troubles.error is not None:
        raise troubles.error
    return again_s


# --- bridges -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """What converging came to; an `error` is the queue's to retry, once the status has been written."""

    case: Case
    view: View
    outcome: Outcome
    again_s: float | None = None
    error: ApiError | None = None


async def _reconcile_bridge(key: Key, troubles: Troubles, unsure: Collection[Key], ctx: Context) -> float | None:
    """`troubles` and `unsure`: what has been found out of our last writes."""
    observed = observe(ctx.indices, key)
    if observed is None or (is_leaving(observed.bridge) and not has_finalizer(observed.bridge)):
        raise Gone
    still = ctx.settings.paused or bool((observed.bridge.get("spec") or {}).get("suspend"))
    case = Case(key, observed, still, ctx.of(key, observed.bridge["metadata"]["uid"]), troubles, ctx)
    note_shown(case, unsure)
    case, dead = await with_hidden_pods(case)
    try:
        bridge = parse_bridge(case.obj)
    except InvalidSpecError as error:
        return await _unreadable(case, dead, str(error))
    sure = True
    if case.leaving:
        case, sure = await with_deployment(case)
    compiled = compile_policies(bridge, [p for obj in case.observed.policies if (p := _readable(obj)) is not None])
    _tell_policies(case, compiled)
    view = await look(bridge, case)
    if case.leaving and _drained(bridge, case, view.scene.pods, sure) and await _release(case):
        return None
    result = await _carry_out(case, bridge, compiled, view)
    again_s = await _report(bridge, compiled, result)
    await forget_dead_pods(result.case, dead)
    if result.error is not None:
        raise result.error
    return again_s


async def _unreadable(case: Case, dead: Collection[Entry], why: str) -> float | None:
    """Its children stay as they are. One that is being deleted cannot be drained without being understood."""
    ctx, meta = case.ctx, meta_of(case.obj)
    if case.leaving and await _release(case):
        return None
    again_s = await out_of_turn(case)
    if not case.still and not case.leaving:
        case, found = await _moved_rooms(case, meta, None, {})
        await converge(case, meta, found, Asked())
    if stalled := case.troubles.stalled:
        why = f"{why}; {stalled.message}"
    await write_status(case.obj, derive_invalid(meta, why, ctx.now()), ctx)
    await forget_dead_pods(case, dead)
    if case.troubles.error is not None:
        raise case.troubles.error
    return _soonest(again_s, _waiting_s(case), _release_again_s(case))


def _readable(obj: Obj) -> RoomPolicy | None:
    """A policy that cannot be read says so itself and must not keep a bridge from its others."""
    if is_leaving(obj):
        return None
    try:
        return parse_policy(obj)
    except InvalidSpecError:
        return None


async def _release(case: Case) -> bool:
    """Whether a bridge that is being deleted could be let go; nothing but time tells when what is refused is not."""
    try:
        await release(case.obj, case.ctx)
    except Stalled as refused:
        said = f"the finalizer {FINALIZER} cannot be taken away, which is tried again every few minutes: {refused}"
        case.troubles.add(Stalled(refused.reason, said))
        case.known.refused.begin(case.ctx.clock())
        return False
    except (Waiting, ApiError) as trouble:
        case.troubles.add(trouble)
        return False
    return True


def _release_again_s(case: Case) -> float | None:
    return case.known.refused.next_s(case.ctx.clock(), 1.0, LONGEST_WAIT_S)


def _waiting_s(case: Case) -> float | None:
    """When to look again for what is waited for."""
    patience, now, waiting = case.known.waiting, case.ctx.clock(), case.troubles.waiting
    if waiting is None:
        patience.end()
        return None
    patience.begin(now, (waiting.reason, waiting.longest_s))
    return patience.next_s(now, waiting.after_s, waiting.longest_s)


def _tell_policies(case: Case, compiled: Compiled) -> None:
    """Only the bridge finds out what a policy loses here; the policy's own status says it."""
    known, losses = case.known, Losses(compiled.conflicts, compiled.dropped)
    if losses != known.losses:
        names = losses.policies() | known.losses.policies()
        case.ctx.wake(Key(POLICY, case.key.namespace, name) for name in names)
        known.losses = losses


def _drained(bridge: Bridge, case: Case, pods: Sequence[PodView], sure: bool) -> bool:
    """Whether a bridge that is being deleted may go: its pods are gone, its time is up, or nobody waits any more.

    `sure`: whether it is known what Deployment there is."""
    drain = bridge.spec.drain
    since = datetime.fromisoformat(case.obj["metadata"]["deletionTimestamp"])
    late = (case.ctx.now() - since).total_seconds() > drain.propagation_seconds + drain.timeout_seconds + DRAIN_GRACE_S
    deployment = child_of(case.observed, "Deployment") or {"spec": {"replicas": 0}}
    empty = deployment["spec"].get("replicas") == 0 and not (deployment.get("status") or {}).get("replicas")
    return late or not drain.on_delete or (sure and empty and not pods)


async def _carry_out(case: Case, bridge: Bridge, compiled: Compiled, view: View) -> Result:
    """Renders and converges, and turns what goes wrong into an outcome: the status is written in any case."""
    outcome = Outcome(
        selector=selector_text(bridge.meta.name),
        exposure=view.exposure,
        paused=case.ctx.settings.paused,
        handled=case.known.handled,
    )
    if not case.leaving and (problems := check(bridge)):
        outcome = replace(outcome, stalled=Problem("InvalidSpec", "; ".join(problems[:5])))
        return await _invalid(case, bridge, view, outcome)
    try:
        plan = await _plan(case, bridge, compiled, view)
    except UnrenderableError as error:
        outcome = replace(outcome, stalled=Problem("InvalidSpec", str(error)))
        return await _invalid(case, bridge, view, outcome)
    except Gone:
        return _of_a_namespace_that_goes(case, bridge, view, outcome)
    generation, wanted_hash = config_of(plan.children)
    outcome = replace(
        outcome,
        config_generation=generation,
        config_hash=wanted_hash,
        unapplied=plan.found.names(),
        waiting=plan.view.waiting,
        exposure=plan.view.exposure,
    )
    case = plan.case
    if case.leaving or not case.still:
        try:
            await _write(bridge, plan)
        except Gone:
            return _of_a_namespace_that_goes(case, bridge, view, outcome)
        outcome = replace(outcome, handled=case.known.handled)
    result = _result(case, bridge, plan.view, outcome)
    if said := quarrels(case.known, case.ctx):
        result = replace(result, outcome=replace(result.outcome, waiting=Problem("ProgressingWithRetry", said)))
    return replace(result, again_s=_soonest(result.again_s, case.known.fights.next_s(case.ctx.clock())))


def _of_a_namespace_that_goes(case: Case, bridge: Bridge, view: View, outcome: Outcome) -> Result:
    """No child comes back, but the pods of a bridge that goes too may drain: events tell when they have. Raises Gone
    for another bridge."""
    if not case.leaving:
        raise Gone
    return _result(case, bridge, replace(view, again_s=None), outcome)


def _result(case: Case, bridge: Bridge, view: View, outcome: Outcome) -> Result:
    """The outcome with all that went wrong: what the user must mend, what is waited for, and what the queue retries."""
    again_s, troubles = view.again_s, case.troubles
    if (stalled := troubles.stalled) and outcome.stalled is None:
        outcome = replace(outcome, stalled=Problem(stalled.reason, stalled.message))
    if waiting := troubles.waiting:
        outcome = replace(outcome, waiting=Problem(waiting.reason, waiting.message))
    again_s = _soonest(again_s, _waiting_s(case))
    if (error := troubles.error) and case.ctx.queue.failures(case.key) + 1 >= FAILURES_TO_REPORT:
        said = f"the API server refuses or does not answer: {error.message}"
        outcome = replace(outcome, failing=settled(said, bridge.meta.status))
    return Result(case, view, outcome, again_s, error)


async def _invalid(case: Case, bridge: Bridge, view: View, outcome: Outcome) -> Result:
    view = replace(view, again_s=_soonest(view.again_s, await out_of_turn(case)))
    if not case.still:
        target = bridge.spec.autoscaling.target_sessions_per_pod if bridge.spec.autoscaling else None
        case, found = await _moved_rooms(case, bridge.meta, target, view.scene.addresses)
        await converge(case, bridge.meta, found, Asked())
    return _result(case, bridge, view, outcome)


async def _moved_rooms(
    case: Case, meta: Meta, target: int | None, addresses: Mapping[str, PublicAddress]
) -> tuple[Case, Differences]:
    """What is done for a spec that nothing can be made of: rooms move with their pods, and nothing else happens.

    What says where they are is asked for if the watch does not show it. A room of which the API server does not say
    where its packets are led stays: they would go on to the pod that it has now.
    """
    name, namespace = case.key.name, case.key.namespace
    config = Key("ConfigMap", namespace, config_name(name))
    in_sight = config in case.observed.children
    case, unsure = await with_hidden(case, [config])
    if unsure:
        return case, Differences((), ())
    led = any(key.kind == "EndpointSlice" or key.name == rtp_name(name) for key in case.observed.children)
    rooms = {Key("EndpointSlice", namespace, slice_name(name, room)): room for room in current_owners(case.observed)}
    case, unsure = await with_hidden(case, rooms if led or not in_sight else ())
    current, pods = current_owners(case.observed), pod_views(case.observed.pods, meta.status)
    found = owners(current, pods, current, target)
    for key in unsure:
        owner = current[rooms[key]]
        found[rooms[key]] = next((pod for pod in pods if pod.name == owner), nobody(owner))
    children = moved(case.observed, found, addresses, case.ctx.settings.shard)
    return case, replace(differences(children, case.observed), unwanted=())


@dataclass(frozen=True, slots=True)
class Plan:
    """What is wanted and what is there."""

    case: Case
    view: View
    children: tuple[Obj, ...]
    found: Differences
    asked: Asked


async def _plan(case: Case, bridge: Bridge, compiled: Compiled, view: View) -> Plan:
    """Renders, asks for what is missing, and renders anew if some of it is there after all: what is wanted depends on
    what there is."""
    view, children = await _render(case, bridge, compiled, view)
    found = differences(children, case.observed)
    if case.still and not case.leaving:
        view = replace(view, again_s=_soonest(view.again_s, await out_of_turn(case)))
        return Plan(case, view, children, found, Asked())
    missing = [one.child for one in found.written if one.live is None]
    now = case.ctx.clock()
    asked = await ask([child for child in missing if not case.known.fights.pause_s(key_of(child), now)], case)
    note_asked(case, asked)
    if asked.ours:
        case = case.seeing(with_children(case.observed, asked.ours))
        view, children = await _render(case, bridge, compiled, await look(bridge, case))
        hidden, asked = await hidden_and_unwanted(children, asked, case)
        found = replace(differences(children, case.observed), hidden=hidden)
    return Plan(case, view, children, found, asked)


async def _render(case: Case, bridge: Bridge, compiled: Compiled, view: View) -> tuple[View, tuple[Obj, ...]]:
    """The children; where a new default of the operator would roll too many bridges at once, with the old template."""
    ctx = case.ctx
    children = desired(bridge, compiled, case.observed, view.scene, ctx.settings)
    live = child_of(case.observed, "Deployment")
    wanted = next(child for child in children if child["kind"] == "Deployment")
    if live is None or await may_roll(case, wanted, live, draining=view.scene.draining):
        return view, children
    view = replace(
        view,
        scene=replace(view.scene, held_template=held_template(live)),
        waiting=view.waiting or queued(ctx),
        again_s=_soonest(view.again_s, QUEUED_S),
    )
    held = desired(bridge, compiled, case.observed, view.scene, ctx.settings)
    return view, tuple(as_it_is(child, live) if child["kind"] == "Deployment" else child for child in held)


async def _write(bridge: Bridge, plan: Plan) -> None:
    """Everything that is to be written of a bridge but its status. A forced reconcile trusts no comparison, once."""
    case, found = plan.case, plan.found
    known, ctx = case.known, case.ctx
    if not case.leaving and bridge.spec.drain.on_delete != has_finalizer(case.obj):
        await case.troubles.bear((hold if bridge.spec.drain.on_delete else release)(case.obj, ctx))
    request = bridge.meta.annotations.get(REQUESTED_AT, "")[:253]
    if request and request not in (bridge.meta.status.get("lastHandledReconcileAt"), known.handled):
        found = differences(plan.children, case.observed, all_of_them=True)
    written = await converge(case, bridge.meta, found, plan.asked)
    if any(
        one.live and one.child["kind"] == "Deployment" and key_of(one.child) not in written for one in found.written
    ):
        not_begun(case)
    await mark(case, plan.view.marks, plan.view.scene.pods)
    if not case.troubles:
        known.handled = request


async def _report(bridge: Bridge, compiled: Compiled, result: Result) -> float | None:
    """Writes the status, unless it would only say that what has just been written is on its way."""
    case, outcome, pods = result.case, result.outcome, result.view.scene.pods
    known, observed, ctx = case.known, case.observed, case.ctx
    outcome = replace(outcome, template_seen=template_seen(case))
    status = derive(bridge, observed, result.view.scene, compiled, outcome, ctx.now())
    _measure(case.key, pods, outcome, ctx)
    if result.error is None and _to_be_confirmed(case, outcome):
        return CONFIRM_S
    if (grace_s := _grace_s(bridge, pods, outcome, known, ctx)) > 0:
        return _soonest(grace_s, result.again_s)
    later_s: float | None = None
    if (left_s := known.written_at + can_wait_s(bridge.meta.status, status) - ctx.clock()) > 0:
        later_s = left_s
    elif await write_status(observed.bridge, status, ctx):
        known.written_at = ctx.clock()
    return _soonest(later_s, result.again_s, next_look_s(status, observed, ctx.now()), _drain_ends_s(bridge, case, ctx))


def _measure(key: Key, pods: Sequence[PodView], outcome: Outcome, ctx: Context) -> None:
    if outcome.config_generation:
        bridges, name = ctx.metrics.bridges, bridge_id(key)
        bridges.pushed(name, outcome.config_generation, ctx.clock())
        bridges.acknowledged(name, [pod.acked for pod in pods if pod.serving], ctx.clock())


def _soonest(*seconds: float | None) -> float | None:
    return min((one for one in seconds if one is not None), default=None)


def _drain_ends_s(bridge: Bridge, case: Case, ctx: Context) -> float | None:
    if not case.leaving:
        return None
    since = datetime.fromisoformat(case.obj["metadata"]["deletionTimestamp"])
    drain = bridge.spec.drain
    longest_s = drain.propagation_seconds + drain.timeout_seconds + DRAIN_GRACE_S
    again_s = _release_again_s(case)
    return max(1.0, longest_s - (ctx.now() - since).total_seconds() + 1.0) if again_s is None else again_s


def _to_be_confirmed(case: Case, outcome: Outcome) -> bool:
    """Whether the status can wait for the watch to show what has just been written: the next look is milliseconds away.

    Only so many times in a row, lest a child that somebody else keeps changing keeps the bridge silent.
    """
    known = case.known
    fine = outcome.stalled is None and outcome.waiting is None and not outcome.failing and not case.still
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
