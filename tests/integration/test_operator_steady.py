"""Policies that select the same bridges and disagree come to rest: what that may cost is in the operator's budget."""

import asyncio
import time

import pytest

from benchmarks.operator.audit import AuditLog, Request, by_verb
from benchmarks.operator.rows import budgets
from tests.integration.kube_api import OPERATOR, ApiServer
from tests.integration.operator_bench import Bench, a_bridge, a_policy, bench

BRIDGES, POLICIES, ROUNDS, LOOKS, WATCHED_S = ("b1", "b2", "b3"), ("first", "second", "third"), 3, 4, 3.0


def asked(audit: AuditLog, mark: int) -> list[Request]:
    """The operator's requests since, without what it costs to be there: watches and its Lease."""
    return [one for one in audit.since(mark) if one.verb != "watch" and one.resource != "leases"]


async def edit(at: Bench, number: int) -> None:
    """All policies change at once, each to another value than the others': every pair is a conflict."""
    async with asyncio.TaskGroup() as group:
        for place, name in enumerate(POLICIES):
            effects = {"targetSavingsPercent": 10 * number + place, "qualityLevel": 1 + place}
            group.create_task(at.kube.merge("roompolicies", name, {"spec": {"compression": effects}}))
    await at.quiet()
    for name in BRIDGES:
        pod = await at.kube.get("pods", f"{name}-p1")
        assert pod is not None
        await at.kube.report(name, pod, await at.generation(name))
        await at.until("Ready", "True", "Succeeded", name)
        await at.until("PolicyConflict", "True", "SamePriority", name)
    await at.quiet()


async def within_budget(at: Bench, audit: AuditLog) -> None:
    """Left alone it asks no more than is allowed per second, and looking again no more than is allowed per look."""
    allowed = {name: budget.at_most for name, budget in budgets().items()}
    began, mark = time.monotonic(), audit.mark()
    await asyncio.sleep(WATCHED_S)
    requests = asked(audit, mark)
    assert len(requests) <= allowed["steady_requests"] * (time.monotonic() - began), by_verb(requests)
    mark = audit.mark()
    keys = [*map(at.key, BRIDGES), *map(at.policy_key, POLICIES)]
    for _ in range(LOOKS):
        await at.look_again(*keys)
    requests, looks = asked(audit, mark), LOOKS * len(keys)
    writes = sum(one.is_write for one in requests)
    assert len(requests) - writes <= allowed["steady_reads"] * looks, by_verb(requests)
    assert writes <= allowed["steady_writes"] * looks, by_verb(requests)


async def test_policies_that_disagree_and_change_together_come_to_rest(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy's status is made of its bridges', and theirs of the policies: neither may keep waking the other."""
    async with bench(api_server, monkeypatch) as at:
        for name in POLICIES:
            await at.kube.create("roompolicies", a_policy(name, targetSavingsPercent=30))
        for name in BRIDGES:
            await at.kube.create("auralinkbridges", a_bridge(name))
            await at.serve(name, (f"{name}-p1",))
        audit = AuditLog(api_server.audit_log, OPERATOR)
        for number in range(1, ROUNDS + 1):
            await edit(at, number)
            await within_budget(at, audit)
