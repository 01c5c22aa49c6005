"""Measured numbers as a file, and as a table that is printed from that file and nothing else.

Every benchmark and the demo write the same form: {"conditions": {...}, "rows": [{id, what, value, unit, target, met,
note}]}.
"""

import json
import os
import platform
import subprocess
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_WIDTH = 118
_VERSIONS = ("av", "grpcio", "imageio-ffmpeg", "kopf")


@dataclass(frozen=True, slots=True)
class Row:
    """One number. `met` is None where there is no target."""

    id: str
    what: str
    value: float | int | str | None
    unit: str = ""
    target: str = ""
    met: bool | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    conditions: Mapping[str, Any]
    rows: Sequence[Row]

    @property
    def missed(self) -> list[Row]:
        return [row for row in self.rows if row.met is False]


def conditions(content: str, **more: Any) -> dict[str, Any]:
    """What anybody needs to know to compare with these numbers."""
    versions = {"auralink": _commit(), "python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in _VERSIONS}
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "content": content,
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "kernel": platform.release(),
        "load_average": round(os.getloadavg()[0], 1),
        "versions": versions,
        **more,
    }


def write(path: Path, report: Report) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"conditions": dict(report.conditions), "rows": [_rounded(row) for row in report.rows]}
    part = path.with_suffix(".tmp")
    part.write_text(json.dumps(document, indent=1) + "\n")
    part.replace(path)


def _rounded(row: Row) -> dict[str, Any]:
    made = asdict(row)
    return made | {"value": round(row.value, 3)} if isinstance(row.value, float) else made


def read(path: Path) -> Report:
    document = json.loads(path.read_text())
    return Report(document["conditions"], [Row(**row) for row in document["rows"]])


def table(report: Report) -> str:
    """Conditions, then one line per row."""
    return "\n".join([*heading(report.conditions), *lines(report.rows)])


def heading(seen: Mapping[str, Any]) -> list[str]:
    """The conditions, wrapped."""
    versions = ", ".join(f"{name} {version}" for name, version in seen["versions"].items())
    machine = f"{seen['cores']} cores ({seen['cpu']}), load {seen['load_average']}"
    return textwrap.wrap(" | ".join((seen["date"], machine, seen["content"], versions)), _WIDTH)


def lines(rows: Sequence[Row]) -> list[str]:
    """Aligned columns; notes are wrapped under their row."""
    titles = ("what", "measured", "target", "met")
    cells = [(row.what, shown(row), row.target, {True: "yes", False: "NO", None: ""}[row.met]) for row in rows]
    widths = [max(len(line[i]) for line in (titles, *cells)) for i in range(len(titles))]

    def line(what: str, value: str, target: str, met: str) -> str:
        columns = (what.ljust(widths[0]), value.rjust(widths[1]), target.ljust(widths[2]), met)
        return "  " + "  ".join(columns).rstrip()

    out = [line(*titles), "  " + "-" * (sum(widths) + 2 * (len(widths) - 1))]
    for row, values in zip(rows, cells, strict=True):
        out.append(line(*values))
        out += textwrap.wrap(row.note, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return out


def shown(row: Row) -> str:
    """Value and unit with the digits that mean something."""
    if row.value is None:
        return "not measured"
    if isinstance(row.value, float):
        digits = 0 if abs(row.value) >= 1000 else 1 if abs(row.value) >= 10 else 2
        text = f"{row.value:,.{digits}f}"
    elif isinstance(row.value, int) and not isinstance(row.value, bool):
        text = f"{row.value:,}"
    else:
        text = str(row.value)
    return f"{text} {row.unit}".rstrip()


def _commit() -> str:
    """The commit, with a plus if files differ from it."""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=10", "--match=v[0-9]*"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
