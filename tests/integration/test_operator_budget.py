"""What the operator may ask of the API server, counted by the API server. No time is asserted: counts need no fast
machine. `benchmarks/operator-budget.json` holds the numbers, `make bench-operator` measures the others."""

import asyncio
from collections.abc import Sequence

import pytest
from auralink_operator.index import Key
from auralink_operator.report import STATUS_EVERY_S

from benchmarks.operator.audit import AuditLog, Request, by_verb, per_bridge
from benchmarks.operator.rows import budgets
from tests.integration.kube_api import OPERATOR, ApiServer, eventually
from tests.integration.operator_bench import Bench, a_bridge, a_policy, bench

BRIDGES = [f"b{number:05d}" for number in range(25)]


def asked(audit: AuditLog, mark: int) -> list[Request]:
    """The operator's requests since, without what it costs to be there: watches and its Lease."""
    return [one for one in audit.since(mark) if one.verb != "watch" and one.resource != "leases"]


def details_told(requests: Sequence[Request], bridge: tuple[str, str]) -> int:
    """How many status writes may say no news: such a one comes two seconds after another at the earliest, so on a fast
    machine there is none."""
    times = [one.received for one in requests if one.is_status and one.bridge == bridge]
    return int((max(times) - min(times)) / STATUS_EVERY_S)


async def bring_up(found: Bench) -> None:
    async def one(name: str) -> None:
        await found.kube.create("auralinkbridges", a_bridge(name))
        await found.serve(name, (f"{name}-p1",))

    await found.kube.create("roompolicies", a_policy("everyone", targetSavingsPercent=30))
    async with asyncio.TaskGroup() as group:
        for name in BRIDGES:
            group.create_task(one(name))
    await found.quiet()


async def test_a_new_bridge_costs_no_more_requests_and_status_writes_than_budgeted(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(api_server, monkeypatch) as found:
        audit = AuditLog(api_server.audit_log, OPERATOR)
        mark = audit.mark()
        await bring_up(found)
        requests = asked(audit, mark)
        every, status = per_bridge(requests)
        assert sorted(every) == [(found.kube.namespace, name) for name in BRIDGES]
        for bridge, count in every.items():
            late = details_told(requests, bridge)
            assert count - late <= budgets()["new_bridge_requests"].at_most, by_verb(requests)
            assert status[bridge] - late <= budgets()["new_bridge_status_writes"].at_most, by_verb(requests)


async def test_looking_again_at_every_bridge_and_policy_asks_the_api_server_nothing(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(api_server, monkeypatch) as found:
        await bring_up(found)
        audit = AuditLog(api_server.audit_log, OPERATOR)
        mark = audit.mark()
        keys: list[Key] = [*map(found.key, BRIDGES), found.policy_key("everyone")]
        for _ in range(3):
            await found.look_again(*keys)
        assert [(one.verb, one.resource, one.name) for one in asked(audit, mark)] == []


async def test_a_policy_edit_costs_each_bridge_one_configuration_and_one_status(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(api_server, monkeypatch) as found:
        await bring_up(found)
        audit = AuditLog(api_server.audit_log, OPERATOR)
        mark = audit.mark()
        await found.kube.merge("roompolicies", "everyone", {"spec": {"compression": {"targetSavingsPercent": 20}}})
        for name in BRIDGES:
            pod = await found.kube.get("pods", f"{name}-p1")
            assert pod is not None
            await found.kube.report(name, pod, await acknowledged_next(found, name))
        await found.quiet()
        every, status = per_bridge(asked(audit, mark))
        assert max(every.values()) <= 3, by_verb(asked(audit, mark))
        assert max(status.values()) <= 2, by_verb(asked(audit, mark))
        policy = [one for one in asked(audit, mark) if one.resource == "roompolicies"]
        assert 1 <= len(policy) <= 3, by_verb(asked(audit, mark))


async def acknowledged_next(found: Bench, name: str) -> int:
    """The generation that follows the one that the bridge's pod has, once it is there."""
    before = (await found.bridge(name))["status"]["config"]["ackedGeneration"]

    async def newer() -> int | None:
        generation = await found.generation(name)
        return generation if generation > before else None

    return await eventually(newer, f"the next configuration of {name}")
