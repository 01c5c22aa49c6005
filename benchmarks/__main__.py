"""`python -m benchmarks [NAME...]`: measures, writes build/bench/bench.json and prints the table from that file.

A benchmark that cannot run here (no cluster, say) is reported as not measured, with the reason, and makes the exit
code 1. A missed target is a finding, not a fault: machines differ by almost a factor of two.
"""

import argparse
import importlib
import sys
from pathlib import Path

from hack.lab import clip, report
from hack.lab.report import Row
from hack.progress import say

NAMES = ("aicore_short", "cpu_per_packet", "apply_to_ready", "policy_ack")
OUT = Path(__file__).resolve().parents[1] / "build" / "bench" / "bench.json"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the promised numbers.")
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME", help=f"of: {', '.join(NAMES)}")
    chosen = parser.parse_args().names or NAMES
    rows: list[Row] = []
    for name in chosen:
        say(f"benchmark {name}")
        try:
            rows += importlib.import_module(f"benchmarks.{name}").rows(say)
        except Exception as error:  # noqa: BLE001 - the others are still worth measuring
            say(f"{name} was not measured: {error}")
            rows.append(Row(name, name, None, met=False, note=f"not measured: {error}"))
    content = ", ".join(found.content for found in clip.clips())
    report.write(OUT, report.Report(report.conditions(content), rows))
    made = report.read(OUT)
    print(report.table(made))
    return 1 if any(row.value is None for row in made.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
