"""`make bench-operator`: measures the operator on a control plane of its own and prints one table.

Everything runs on this machine, on loopback ports, from one folder that is gone at the end. A row that cannot be
measured says why. A missed budget is a finding, not a fault of the command: it exits 1 only for what was not measured.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.operator import bare, failover, phases, rows, scene, servers, sessions
from benchmarks.operator.api import Refused, connected
from benchmarks.operator.audit import AuditLog
from benchmarks.operator.phases import Bench, Brought
from hack.lab import report
from hack.lab.report import Row
from hack.progress import CommandError, say
from tests.integration.kube_api import ADMIN_TOKEN, OPERATOR

GROUPS = {
    "ready": ("ready_1000", "new_bridge_requests", "new_bridge_status_writes"),
    "edits": ("reconcile_p99", "spec_to_child_p99", "config_ack_p99", "drift_repair_p99"),
    "steady": rows.STEADY,
    "failover": ("failover_crash", "failover_graceful"),
    "memory": ("rss_1000",),
    "sessions": ("sessions_dropped",),
}


# Such an edit rolls the bridge's pods, which costs the control plane a second of a core: faster than this two cores
# fall behind, and what is measured is their backlog.
_ROLLS_PER_S = 0.5


@dataclass(frozen=True, slots=True)
class Options:
    bridges: int
    namespaces: int
    only: frozenset[str]
    samples: int
    rate: float
    steady_s: float
    resync_s: float
    timeout_s: float
    tree: Path
    json: Path
    keep: bool

    def wants(self, group: str) -> bool:
        return not self.only or not self.only.isdisjoint(GROUPS[group])


def parse(arguments: Sequence[str]) -> Options:
    known = [name for names in GROUPS.values() for name in names]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operator", description="Measure the operator.")
    parser.add_argument("--bridges", type=int, default=1000, help="how many bridges (1000)")
    parser.add_argument("--namespaces", type=int, default=10, help="over so many namespaces (10)")
    parser.add_argument(
        "--only", action="append", default=[], choices=known, metavar="ROW", help="of: " + ", ".join(known)
    )
    parser.add_argument("--samples", type=int, default=100, help="edits, drifts and configuration changes (100 each)")
    parser.add_argument("--rate", type=float, default=2.0, help="of them per second (2)")
    parser.add_argument(
        "--steady-s", type=float, default=660.0, help="seconds without any change (660: a resync is in)"
    )
    parser.add_argument("--resync-s", type=float, default=600.0, help="the operator's resync period (600, its default)")
    parser.add_argument("--timeout-s", type=float, default=600.0, help="limit for bringing up all bridges (600)")
    parser.add_argument(
        "--tree", type=Path, default=servers.ROOT, help="source tree of the operator to measure (this one)"
    )
    parser.add_argument("--json", type=Path, default=servers.ROOT / "build/bench/operator.json", help="where rows go")
    parser.add_argument("--keep", action="store_true", help="leave logs and audit log for a look")
    given = vars(parser.parse_args(arguments))
    return Options(**{**given, "only": frozenset(given["only"]), "tree": given["tree"].resolve()})


async def measure(options: Options, control: servers.Servers) -> tuple[list[Row], str]:
    """All rows, and in words what they were measured on."""
    async with connected(control.url, ADMIN_TOKEN, phases.AGENT) as api:
        await scene.install(api, options.tree)
        servers.start_controllers(control)
        bridges = scene.names(options.bridges, options.namespaces)
        readiness = scene.Readiness(api)
        bench = Bench(control, api, readiness, AuditLog(control.api.audit_log, OPERATOR), bridges, options.tree, say)
        for namespace in sorted({name[0] for name in bridges}):
            await scene.create_namespace(api, namespace)
            await api.create("roompolicies", scene.policy(namespace))
        control.start_pods()
        await start_operator(bench, options, "operator-0")
        watch = asyncio.create_task(readiness.watch(), name="watch bridges")
        try:
            return await _phases(bench, options)
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch


async def start_operator(bench: Bench, options: Options, name: str) -> servers.Operator:
    flags = [f"--resync-s={options.resync_s:g}", "--leader-elect=true", f"--lease-namespace={scene.SYSTEM}"]
    operator = bench.servers.start_operator(name, options.tree, flags)
    bench.operators[name] = operator
    await operator.wait_ready(bench.servers)
    return operator


async def _phases(bench: Bench, options: Options) -> tuple[list[Row], str]:
    say(f"bringing up {options.bridges} bridges")
    brought = await phases.bring_up(bench, options.timeout_s)
    objects = rows.children(brought.requests)
    say(f"all Ready after {brought.seconds:.1f} s; {objects} children")
    scale = f"{options.bridges} bridges and {objects} children"
    made = await _attempt(options, "edits", lambda: _edits(bench, options))
    made += await _attempt(options, "memory", lambda: _memory(bench, scale))
    made += await _attempt(options, "steady", lambda: _steady(bench, options))
    made += await _attempt(options, "failover", lambda: _failovers(bench, options))
    made += await _attempt(options, "ready", lambda: _ready(bench, options, brought))
    order = list(rows.budgets())
    made.sort(key=lambda one: order.index(one.id))
    return (
        made,
        f"{scale} in {options.namespaces} namespaces; etcd, API server, controllers, kwok and operator share it",
    )


async def _attempt(options: Options, group: str, measure: Callable[[], Awaitable[list[Row]]]) -> list[Row]:
    """The rows of a group, if they are wanted; what goes wrong with one group is said in it and spoils no other."""
    if not options.wants(group):
        return []
    try:
        return await measure()
    except (CommandError, Refused, TimeoutError, ExceptionGroup) as error:
        say(f"{group}: {error}")
        return rows.not_run(GROUPS[group], f"not measured: {error}")


async def _ready(bench: Bench, options: Options, brought: Brought) -> list[Row]:
    return [rows.ready(brought, await _bare(bench, options)), *rows.new_bridge(brought)]


async def _memory(bench: Bench, scale: str) -> list[Row]:
    leader = bench.leader.process
    return [rows.memory(leader.memory_mb(), leader.memory_mb("VmHWM"), scale)]


async def _with_standby(bench: Bench, options: Options) -> None:
    if len(bench.operators) == 1:
        await start_operator(bench, options, "operator-1")


async def _steady(bench: Bench, options: Options) -> list[Row]:
    await _with_standby(bench, options)
    say(f"steady state for {options.steady_s:.0f} s")
    return rows.at_rest(await phases.steady(bench, options.steady_s), options.bridges, options.resync_s)


async def _edits(bench: Bench, options: Options) -> list[Row]:
    before, pace = await phases.own_times(bench), f"{options.rate:g} per second"
    rolls = min(options.rate, _ROLLS_PER_S)
    say(f"{options.samples} spec edits")
    edited = await phases.spec_to_child(bench, options.samples, rolls)
    say(f"{options.samples} configuration edits")
    acked = await phases.config_to_acks(bench, options.samples, options.rate)
    say(f"{options.samples} children edited or deleted")
    drifted = await phases.drift(bench, options.samples, options.rate)
    return [
        rows.own_time(before, await phases.own_times(bench)),
        rows.delay("spec_to_child_p99", edited, f"{rolls:g} per second; each rolls its pods"),
        rows.delay("config_ack_p99", acked, f"{pace}; pods of kwok, their acknowledgements played by a process"),
        rows.delay("drift_repair_p99", drifted, f"{pace}; seven ways in turn"),
    ]


async def _failovers(bench: Bench, options: Options) -> list[Row]:
    await _with_standby(bench, options)
    say("killing the leader")
    crash_s = await failover.hand_over(bench, bench.leader, graceful=False)
    await start_operator(bench, options, "operator-2")
    say("telling the leader to end")
    graceful_s = await failover.hand_over(bench, bench.leader, graceful=True)
    note = "from the signal to the next leader's first repair of a child, while one is spoilt every 100 ms"
    return [rows.row("failover_crash", crash_s, note), rows.row("failover_graceful", graceful_s, note)]


async def _bare(bench: Bench, options: Options) -> float:
    """The same load without an operator, after all operators have ended."""
    for name, operator in bench.operators.items():
        operator.process.stop()
        bench.servers.processes.pop(name, None)
    say("the same objects by a bare client")
    samples = {scene.replicas_of(name): name for name in reversed(bench.bridges)}
    templates = {count: await bare.template(bench.api, name) for count, name in samples.items()}
    return await bare.bring_up(bench, templates, options.timeout_s)


def main() -> int:
    options = parse(sys.argv[1:])
    load = os.getloadavg()[0]
    if options.wants("sessions") and (why := sessions.lacks()):
        say(f"sessions_dropped will not be measured: {why}")
    try:
        with servers.control_plane(options.keep) as control:
            found, scale = asyncio.run(measure(options, control))
        if options.wants("sessions"):
            say("live rooms while pods come and go, on the cluster")
            found.append(sessions.row())
    except CommandError as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    said = report.conditions(scale, load_before=round(load, 1))
    report.write(options.json, report.Report(said, found))
    made = report.read(options.json)
    print(report.table(made))
    return 1 if any(row.value is None and row.id != "sessions_dropped" for row in made.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
