"""The verb for a RoomPolicy: says which bridges it selects, and what it wins and loses there. Called by `reconcile`.

A policy has no children: what it asks for is rendered with its bridges, and only their reconciles find out what of it
loses against others (`context.Losses`).
"""

from collections.abc import Sequence

from auralink_operator.context import Context, Gone, Known, is_leaving
from auralink_operator.converge import ACK_GRACE_S
from auralink_operator.index import Key, ObservedPolicy, carried_policies, key_of, observe_policy
from auralink_operator.models import InvalidSpecError, RoomPolicy, meta_of, parse_policy
from auralink_operator.report import matched_elsewhere, write_policy_status, write_status
from auralink_operator.status import MatchedBridge, derive_invalid, derive_policy


async def reconcile_policy(key: Key, ctx: Context) -> float | None:
    observed = observe_policy(ctx.indices, key)
    if observed is None or is_leaving(observed.policy):
        raise Gone
    known = ctx.of(key, observed.policy["metadata"]["uid"])
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
        if is_leaving(bridge):
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
