"""The packet core's own measurements (`dataplane/native/benches`): built once, run by name, read as lines of JSON."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hack.progress import CommandError

ROOT = Path(__file__).resolve().parents[2]
_NATIVE = ROOT / "dataplane" / "native"
_BUILD_S = 1200.0
Line = dict[str, Any]


def build() -> Path:
    """The release build of the measurements; seconds if nothing changed."""
    command = ["cargo", "bench", "--no-run", "--locked", "--no-default-features", "--bench", "relay"]
    done = subprocess.run(
        [*command, "--message-format=json"], cwd=_NATIVE, capture_output=True, text=True, timeout=_BUILD_S
    )
    found = [json.loads(line).get("executable") for line in done.stdout.splitlines() if line.startswith("{")]
    made = [path for path in found if path]
    if done.returncode != 0 or not made:
        raise CommandError(f"cargo bench --no-run failed: {done.stderr.strip()[-400:]}")
    return Path(made[-1])


def run(program: Path, what: str, timeout_s: float, **numbers: int) -> list[Line]:
    """`what` is empty for the CPU per packet."""
    flags = [f"--{name.replace('_', '-')}={number}" for name, number in numbers.items()]
    command = [str(program), *([what] if what else []), *flags]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{what or 'cpu'}: not done within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        raise CommandError(f"{what or 'cpu'}: {done.stderr.strip()[-300:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- other forwarders beside it ----------------------------------------------------------------------------------


def pinned(command: Sequence[str]) -> list[str]:
    """On the first core, where the packet core runs too; the traffic has the second."""
    cores = sorted(os.sched_getaffinity(0))
    tool = shutil.which("taskset")
    return [tool, "-c", str(cores[0]), *command] if tool and len(cores) > 1 else list(command)


def free_port(count: int = 1) -> int:
    """The first of so many UDP ports of 127.0.0.1, the first one even, that nobody has."""
    for _ in range(100):
        with socket.socket(type=socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            first = int(probe.getsockname()[1])
        first += first % 2
        if first + count <= 65_536 and all(_is_free(port) for port in range(first, first + count)):
            return first
    raise CommandError(f"no {count} free UDP ports in a row")


def _is_free(port: int) -> bool:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def cpu_s(pid: int) -> float:
    """What all threads of a process have used."""
    spent = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        spent += int((thread / "schedstat").read_text().split()[0])
    return spent / 1e9
