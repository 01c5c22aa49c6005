"""`make bench-media`: measures the packet core beside a bare relay, rtpengine and asyncio, and prints one table.

Everything runs on this machine, on ephemeral ports of loopback. A row that cannot be measured says why. A missed budget
is a finding, not a fault of the command: it exits 1 only for what was not measured.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.media import crate, relay, rows, rtpengine
from benchmarks.media.rows import Rate
from hack.lab import report
from hack.lab.report import Row
from hack.progress import CommandError, say

GROUPS = {
    "cpu": ("cpu_per_packet", "cpu_per_packet_native", "cpu_per_packet_srtp"),
    "capacity": ("packets_per_core", "packets_per_core_asyncio"),
    "streams": ("streams_720p_per_core",),
    "latency": ("pod_latency_p99",),
    "loss": ("delivered_at_5_loss",),
    "memory": ("memory_per_stream", "memory_growth"),
    "python": ("python_per_frame",),
}
_ROUNDS = 3
_FRAMES = 15  # packets each
_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Options:
    only: frozenset[str]
    quick: bool
    json: Path

    def wants(self, group: str) -> bool:
        return not self.only or not self.only.isdisjoint(GROUPS[group])

    def few(self, number: int) -> int:
        """A tenth of it where the figures need not be good."""
        return max(1, number // 10) if self.quick else number


class Peer(Protocol):
    """Somebody else's forwarding process."""

    @property
    def inlet(self) -> int: ...
    @property
    def sink(self) -> int: ...
    def cpu_s(self) -> float: ...


def parse(arguments: Sequence[str]) -> Options:
    known = list(rows.budgets())
    parser = argparse.ArgumentParser(prog="python -m benchmarks.media", description="Measure the packet core.")
    parser.add_argument(
        "--only", action="append", default=[], choices=known, metavar="ROW", help="of: " + ", ".join(known)
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to see that it runs")
    parser.add_argument("--json", type=Path, default=crate.ROOT / "build/bench/media.json", help="where rows go")
    given = parser.parse_args(arguments)
    return Options(frozenset(given.only), given.quick, given.json)


def cpu(program: Path, options: Options) -> list[Row]:
    say("CPU per packet, beside a bare relay")
    return rows.cpu(crate.run(program, "", _LIMIT_S, rounds=options.few(10)))


def capacity(program: Path, options: Options) -> list[Row]:
    """All peers in each round, so that what disturbs one disturbs all."""
    frames = options.few(20_000)
    ours: list[Rate] = []
    theirs: dict[str, list[Rate] | str] = {"rtpengine": [], "asyncio": []}
    for number in range(1 if options.quick else _ROUNDS):
        say(f"packets per core, round {number + 1}")
        bridge = crate.run(program, "capacity", _LIMIT_S, frames=frames, rounds=1)[-1]
        ours.append(Rate(bridge["packets_per_core"], bridge["packets_per_s"], bridge["lost"]))
        for name, start in (("rtpengine", rtpengine.started), ("asyncio", relay.started)):
            found = theirs[name]
            if isinstance(found, str):
                continue
            try:
                found.append(fed(program, start(), frames // 4))
            except (CommandError, OSError) as error:
                say(f"{name}: {error}")
                theirs[name] = str(error)
    return rows.capacity(ours, theirs)


def fed(program: Path, start: AbstractContextManager[Peer], frames: int) -> Rate:
    """What another forwarder does with the same traffic."""
    with start as peer:
        ports = {"to": peer.inlet, "sink": peer.sink, "from": getattr(peer, "sender", 0)}
        crate.run(program, "load", _LIMIT_S, frames=200, **ports)  # learns addresses, warms up
        before = peer.cpu_s()
        [line] = crate.run(program, "load", _LIMIT_S, frames=frames, **ports)
        spent = peer.cpu_s() - before
    if spent <= 0 or line["received"] == 0:
        raise CommandError("nothing came through")
    return Rate(line["received"] / spent, line["received"] / line["seconds"], line["lost"])


def streams(program: Path, options: Options) -> list[Row]:
    say("720p streams on one core, more and more")
    return rows.streams(crate.run(program, "streams", _LIMIT_S, seconds=options.few(6), first=300, step=100, most=1200))


def latency(program: Path, options: Options) -> list[Row]:
    seconds = options.few(20)
    say(f"latency at 100 streams, {seconds} s")
    return rows.latency(crate.run(program, "latency", _LIMIT_S, streams=100, seconds=seconds)[0], seconds)


def loss(program: Path, options: Options) -> list[Row]:
    say("5 % loss on either side, in virtual time")
    return rows.loss(crate.run(program, "loss", _LIMIT_S, minutes=options.few(20), seeds=3)[0])


def memory(program: Path, options: Options) -> list[Row]:
    say("memory per stream, a minute, then an hour of virtual time")
    numbers = {"streams": 100, "seconds": options.few(60), "virtual_streams": 10, "virtual_minutes": options.few(60)}
    return rows.memory(crate.run(program, "memory", 2 * _LIMIT_S, **numbers))


def python(program: Path, options: Options) -> list[Row]:
    say("Python per frame")
    command = [sys.executable, "-m", "benchmarks.media.frames", str(program), str(options.few(20_000))]
    done = subprocess.run(command, cwd=crate.ROOT, capture_output=True, text=True, timeout=_LIMIT_S)
    if done.returncode != 0:
        raise CommandError(done.stderr.strip()[-300:])
    return rows.python(json.loads(done.stdout))


MEASUREMENTS: dict[str, Callable[[Path, Options], list[Row]]] = {
    "cpu": cpu,
    "capacity": capacity,
    "streams": streams,
    "latency": latency,
    "loss": loss,
    "memory": memory,
    "python": python,
}


def measure(options: Options) -> list[Row]:
    """The rows that are wanted; what goes wrong with one group is said in it and spoils no other."""
    say("building the packet core's measurements")
    program = crate.build()
    found: list[Row] = []
    for group, act in MEASUREMENTS.items():
        if not options.wants(group):
            continue
        try:
            found += act(program, options)
        except (CommandError, OSError, subprocess.TimeoutExpired, LookupError, ValueError) as error:
            say(f"{group}: {error}")
            found += rows.not_run(GROUPS[group], str(error))
    return [one for one in found if not options.only or one.id in options.only]


def main() -> int:
    options = parse(sys.argv[1:])
    load = os.getloadavg()[0]
    try:
        found = measure(options)
    except CommandError as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    said = report.conditions("all on loopback; each figure with its own content and cores", load_before=round(load, 1))
    report.write(options.json, report.Report(said, found))
    made = report.read(options.json)
    print(report.table(made))
    return 1 if any(one.value is None for one in made.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
