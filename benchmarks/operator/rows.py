"""Table rows from what was measured and the budget file: the figure, what it may be at most, and how it came about."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.operator.audit import Request, by_verb, per_bridge, percentile
from benchmarks.operator.phases import Brought, Delays, Steady
from benchmarks.operator.scene import replicas_of
from hack.lab.report import Row

BUDGET = Path(__file__).resolve().parents[1] / "operator-budget.json"
RESYNC_S = 600.0
"""The operator's own default."""
STEADY = ("steady_reads", "steady_writes", "steady_requests", "status_writes_per_hour")


@dataclass(frozen=True, slots=True)
class Budget:
    what: str
    at_most: float
    unit: str


def budgets(path: Path = BUDGET) -> dict[str, Budget]:
    return {name: Budget(**fields) for name, fields in json.loads(path.read_text())["rows"].items()}


def row(name: str, value: float | None, note: str) -> Row:
    """A row of the budget file; no value means that it was not measured, and the note says why."""
    budget = budgets()[name]
    met = None if value is None else value <= budget.at_most
    what = f"{name}: {budget.what}"
    return Row(name, what, value, budget.unit, f"<= {budget.at_most:g} {budget.unit}".rstrip(), met, note)


def ready(brought: Brought, bare_s: float | None) -> Row:
    """Our own time: what the wall shows beyond the bare client, but never less than the operator's processor time."""
    used = ", ".join(f"{name} {cpu:.0f}" for name, cpu in sorted(brought.cpu_s.items(), key=lambda one: -one[1]))
    note = f"{brought.seconds:.1f} s from the first bridge to the last Ready; processor seconds: {used}."
    if bare_s is None:
        return row("ready_1000", brought.seconds, f"{note} The part of API server and controllers was not measured.")
    note += (
        f" A bare client that only applies the same objects takes {bare_s:.1f} s with the same controllers: their part."
        " The figure is the difference, or the operator's processor seconds if those are more."
    )
    own_cpu = sum(cpu for name, cpu in brought.cpu_s.items() if name.startswith("operator"))
    return row("ready_1000", max(own_cpu, brought.seconds - bare_s), note)


def new_bridge(brought: Brought) -> list[Row]:
    """The most of any bridge of one pod; each further pod has a deletion cost, and several have a budget."""
    every, status = per_bridge(brought.requests)
    single = {name: count for name, count in every.items() if replicas_of(name) == 1}
    mean, total = sum(single.values()) / len(single), len(brought.requests) / len(every)
    most = f"mean {mean:.1f}; of three pods at most {max(every.values())}"
    note = f"{most}; events, policies and lists included {total:.1f} each: "
    return [
        row("new_bridge_requests", max(single.values()), note + by_verb(brought.requests)),
        row("new_bridge_status_writes", max(status.values()), f"mean {sum(status.values()) / len(status):.2f}"),
    ]


def delay(name: str, found: Delays, note: str) -> Row:
    if not found.seconds:
        return row(name, None, f"not measured: no effect was seen for any of {found.missing}")
    p50, largest = percentile(found.seconds, 0.5), max(found.seconds)
    text = f"{len(found.seconds)} times, p50 {p50:.3f} s, slowest {largest:.3f} s; {note}"
    if not found.missing:
        return row(name, percentile(found.seconds, 0.99), text)
    lost = row(name, percentile(found.seconds, 0.99), f"{found.missing} without any effect! {text}")
    return Row(lost.id, lost.what, lost.value, lost.unit, lost.target, met=False, note=lost.note)


def own_time(before: Mapping[float, float], after: Mapping[float, float]) -> Row:
    """p99 of the reconciles between two readings of the operator's histogram, as the bound of the bucket it is in."""
    counts = {bound: count - before.get(bound, 0.0) for bound, count in after.items()}
    total = counts.get(float("inf"), 0.0)
    if not total:
        return row("reconcile_p99", None, "not measured: the operator reports no such time")
    bound = min(bound for bound, count in sorted(counts.items()) if count >= 0.99 * total)
    shares = ", ".join(f"<= {one:g} s {counts[one] / total:.2%}" for one in sorted(counts) if 0.01 <= one <= 0.25)
    note = f"{total:.0f} reconciles while bridges were edited and children spoilt; upper bound of the bucket: {shares}"
    return row("reconcile_p99", bound, note)


def at_rest(found: Steady, bridges: int, resync_s: float) -> list[Row]:
    """A reconcile itself must cost nothing. A resync (lists, and what kinds are served) costs something in its period:
    where that was made shorter to see one, the rate counts it as rarely as it comes by default."""
    resync = [one for one in found.requests if one.verb == "list" or one.resource.startswith("/")]
    rest = [one for one in found.requests if one not in resync]
    kept = [one for one in rest if one.verb != "watch" and one.resource != "leases"]
    reads, writes = [one for one in kept if not one.is_write], [one for one in kept if one.is_write]
    if not found.reconciles:
        return not_run(STEADY, "not measured: no reconcile in the time")
    about = f"{found.reconciles} reconciles in {found.seconds:.0f} s"
    leases = sum(one.resource == "leases" for one in rest)
    rate = (len(rest) + len(resync) * resync_s / RESYNC_S) / found.seconds
    parts = (
        f"two replicas, {found.seconds:.0f} s: {leases} of leases, {len(rest) - len(kept) - leases} watches,"
        f" {len(kept)} others, and {len(resync)} of resyncs each {resync_s:g} s (counted as one each {RESYNC_S:g} s)"
    )
    status = [one for one in writes if one.is_status and one.resource == "auralinkbridges"]
    per_hour = len(status) / bridges / found.seconds * 3600
    return [
        row("steady_reads", len(reads) / found.reconciles, f"{about}; {by_verb(reads) or 'none'}"),
        row("steady_writes", len(writes) / found.reconciles, f"{about}; {by_verb(writes) or 'none'}"),
        row("steady_requests", rate, parts),
        row("status_writes_per_hour", per_hour, f"{len(status)} in {found.seconds:.0f} s over {bridges} bridges"),
    ]


def memory(now_mb: float, highest_mb: float, objects: str) -> Row:
    return row("rss_1000", highest_mb, f"highest so far; {now_mb:.0f} MB at the end, with {objects} indexed")


def not_run(names: Iterable[str], why: str) -> list[Row]:
    return [row(name, None, why) for name in names]


def children(requests: Iterable[Request]) -> int:
    """How many child objects were written, by name."""
    return len(
        {(one.resource, one.namespace, one.name) for one in requests if one.verb == "patch" and not one.subresource}
    )
