"""The measurements, each on a control plane where every bridge is Ready; `rows` makes table rows of what they find."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.operator import scene
from benchmarks.operator.api import Api
from benchmarks.operator.audit import AuditLog, Request, by_verb
from benchmarks.operator.scene import Name, Readiness
from benchmarks.operator.servers import Operator, Servers
from hack.progress import CommandError
from tests.integration.kube_api import OPERATOR, POD

Say = Callable[[str], None]
_SETTLE_S = 3.0
AGENT = "bench"  # the hands that edit, create and spoil; controllers share their user


@dataclass
class Bench:
    """What all measurements share."""

    servers: Servers
    api: Api
    readiness: Readiness
    audit: AuditLog
    bridges: list[Name]
    tree: Path
    say: Say
    operators: dict[str, Operator] = field(default_factory=dict)

    @property
    def leader(self) -> Operator:
        """The one that reconciles: the process that was started first, unless it was stopped."""
        return next(operator for operator in self.operators.values() if operator.process.running)

    def sample(self, count: int) -> list[Name]:
        """So many bridges, spread evenly over all."""
        step = max(1, len(self.bridges) // count)
        return self.bridges[::step][:count]

    async def quiet(self, seconds: float = _SETTLE_S, timeout_s: float = 300.0) -> None:
        """Until every bridge is Ready and neither operator nor pods have written for a while."""
        deadline = time.monotonic() + timeout_s
        mark, since = self.audit.mark(), time.monotonic()
        while time.monotonic() - since < seconds or not self.readiness.ready.keys() >= set(self.bridges):
            self.servers.check()
            if time.monotonic() > deadline:
                seen = by_verb(one for one in self.audit.since(mark, (POD,)) if one.is_write)
                raise CommandError(f"the operator does not come to rest in {timeout_s:.0f} s: {seen}")
            await asyncio.sleep(0.25)
            if any(one.is_write and one.resource != "leases" for one in self.audit.since(mark, (POD,))):
                mark, since = self.audit.mark(), time.monotonic()


@dataclass(frozen=True, slots=True)
class Brought:
    """Bringing up all bridges: seconds on the wall, processor seconds by process, what the operator asked for."""

    seconds: float
    cpu_s: Mapping[str, float]
    requests: Sequence[Request]


async def bring_up(bench: Bench, timeout_s: float) -> Brought:
    """Applies every bridge as fast as the API server takes them, and waits until the last is Ready."""
    mark, before = bench.audit.mark(), bench.servers.cpu_s()
    started = time.monotonic()

    async def create(name: Name) -> None:
        await bench.api.create("auralinkbridges", scene.bridge(name))

    await scene.each(bench.bridges, create)
    bench.say(f"{len(bench.bridges)} bridges are declared after {time.monotonic() - started:.1f} s")
    seconds = await bench.readiness.until(bench.bridges, timeout_s, bench.say) - started
    cpu = {name: used - before.get(name, 0.0) for name, used in bench.servers.cpu_s().items()}
    await bench.quiet()
    return Brought(seconds, cpu, list(bench.audit.since(mark)))


def _first(requests: Iterable[Request], wanted: Callable[[Request], bool], after: float) -> float | None:
    return min((one.done for one in requests if one.done >= after and one.code < 300 and wanted(one)), default=None)


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds from something done to its effect, one per time it was done; and how often no effect was seen."""

    seconds: list[float]
    missing: int = 0


async def spec_to_child(bench: Bench, count: int, per_second: float) -> Delays:
    """A spec edit that changes ConfigMap and Deployment: from its arrival at the API server to the later child patch.

    The rollout that follows moves the room and patches children once more: those are the pods' doing.
    """
    patch = {"spec": {"logLevel": "Debug", "resources": {"requests": {"cpu": "250m"}}}}
    edits, requests = await _edited(bench, count, per_second, patch)

    def patched(name: Name, at: float) -> float | None:
        ours = [one for one in requests[name] if one.user == OPERATOR]
        config = _first(ours, lambda one: one.resource == "configmaps", at)
        deployment = _first(ours, lambda one: one.resource == "deployments" and one.is_write, at)
        return max(config, deployment) if config is not None and deployment is not None else None

    return _delays(edits, patched)


async def config_to_acks(bench: Bench, count: int, per_second: float) -> Delays:
    """An edit of hot configuration: from its arrival to the last pod's acknowledgement in the bridge's status."""
    edits, requests = await _edited(bench, count, per_second, {"spec": {"compression": {"qualityLevel": 3}}})

    def acknowledged(name: Name, at: float) -> float | None:
        acks: dict[str, float] = {}
        for one in requests[name]:
            if one.user == POD and one.is_status and one.done >= at:
                acks.setdefault(one.manager, one.done)
        return max(acks.values()) if len(acks) >= scene.replicas_of(name) else None

    return _delays(edits, acknowledged)


async def _edited(
    bench: Bench, count: int, per_second: float, patch: dict[str, Any]
) -> tuple[dict[Name, float], dict[Name, list[Request]]]:
    """Edits bridges at a pace; answers with the arrival of each edit and all later requests by bridge."""
    chosen, mark = bench.sample(count), bench.audit.mark()

    async def edit(name: Name) -> None:
        await bench.api.merge("auralinkbridges", *name, patch)

    await scene.paced(chosen, edit, per_second)
    await bench.quiet()
    found: dict[Name, list[Request]] = {name: [] for name in chosen}
    edits: dict[Name, float] = {}
    for one in bench.audit.since(mark, (POD, "admin")):
        if (name := one.bridge) in found:
            found[name].append(one)
            if one.agent == AGENT and one.verb == "patch" and one.resource == "auralinkbridges":
                edits.setdefault(name, one.received)
    return edits, found


def _delays(starts: Mapping[Name, float], effect: Callable[[Name, float], float | None]) -> Delays:
    found = [(effect(name, at), at) for name, at in starts.items()]
    return Delays([end - at for end, at in found if end is not None], sum(1 for end, _ in found if end is None))


_DRIFTS: tuple[tuple[str, str, dict[str, Any] | None], ...] = (
    ("services", "", {"spec": {"sessionAffinity": "ClientIP", "ports": [{"name": "http", "port": 81}]}}),
    ("configmaps", "-config", None),
    ("roles", "", {"rules": []}),
    ("rolebindings", "", None),
    ("deployments", "", {"spec": {"progressDeadlineSeconds": 900}}),
    ("services", "-rtp", None),
    ("configmaps", "-config", {"data": {"config.json": "{}"}}),
)


async def drift(bench: Bench, count: int, per_second: float) -> Delays:
    """A child edited or deleted by somebody else: from the arrival of that request to the child's repair."""
    mark = bench.audit.mark()
    chosen = [(name, *_DRIFTS[number % len(_DRIFTS)]) for number, name in enumerate(bench.sample(count))]

    async def spoil(what: tuple[Name, str, str, dict[str, Any] | None]) -> None:
        (namespace, bridge), plural, suffix, patch = what
        child = f"auralink-{bridge}{suffix}"
        if patch is None:
            await bench.api.delete(plural, namespace, child)
        else:
            await bench.api.merge(plural, namespace, child, patch)

    await scene.paced(chosen, spoil, per_second)
    await bench.quiet()
    spoilt: dict[Name, Request] = {}
    repairs: dict[Name, list[Request]] = {}
    for one in bench.audit.since(mark, ("admin",)):
        if (name := one.bridge) is None:
            continue
        if one.user == OPERATOR and one.is_write:
            repairs.setdefault(name, []).append(one)
        elif one.agent == AGENT and one.is_write:
            spoilt[name] = one

    def repaired(name: Name, at: float) -> float | None:
        done = spoilt[name]
        return _first(repairs.get(name, ()), lambda one: (one.resource, one.name) == (done.resource, done.name), at)

    return _delays({name: one.received for name, one in spoilt.items()}, repaired)


@dataclass(frozen=True, slots=True)
class Steady:
    """A while in which nobody changes anything: all requests of the operator, and how many reconciles it did."""

    seconds: float
    requests: Sequence[Request]
    reconciles: int


async def steady(bench: Bench, seconds: float) -> Steady:
    await bench.quiet(10.0)
    mark, reconciles = bench.audit.mark(), await reconciled(bench)
    started = said = time.monotonic()
    while (now := time.monotonic()) - started < seconds:
        bench.servers.check()
        if now - said >= 30:
            said = now
            bench.say(f"steady for {now - started:.0f} of {seconds:.0f} s")
        await asyncio.sleep(0.5)
    took = time.monotonic() - started
    return Steady(took, list(bench.audit.since(mark)), await reconciled(bench) - reconciles)


async def metrics(operator: Operator) -> dict[str, list[tuple[Mapping[str, str], float]]]:
    """Samples of the operator's own page by name: only for what no outsider can see."""
    async with aiohttp.ClientSession() as session, session.get(f"{operator.url}/metrics") as answer:
        text = await answer.text()
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            found.setdefault(one.name, []).append((one.labels, one.value))
    return found


async def reconciled(bench: Bench) -> int:
    page = await metrics(bench.leader)
    return int(sum(value for _, value in page.get("auralink_operator_reconcile_total", ())))


OWN = "auralink_operator_reconcile_own_seconds_bucket"


async def own_times(bench: Bench) -> dict[float, float]:
    """Queue and work without API wait: upper bound of a bucket -> reconciles up to it. Empty if it is not told."""
    return {float(labels["le"]): value for labels, value in (await metrics(bench.leader)).get(OWN, ())}
