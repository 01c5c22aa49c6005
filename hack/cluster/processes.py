"""Long-running processes of the embedded cluster, found again by any later command.

A process is known by its pid *and* its start time (and the boot it belongs to): a bare pid may belong to a stranger by
the time somebody wants to stop it. `embedded` is the only caller.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Identity:
    """One incarnation of a pid. `start` is in clock ticks since boot (proc(5), field 22 of stat)."""

    pid: int
    start: int
    boot: str


def parse_start(stat: str) -> int:
    """Field 22 of /proc/<pid>/stat. The second field, the command in brackets, may itself hold spaces and brackets."""
    return int(stat.rpartition(")")[2].split()[19])


def _is_zombie(stat: str) -> bool:
    return stat.rpartition(")")[2].split()[0] in {"Z", "X"}


def identify(pid: int, proc: Path = Path("/proc")) -> Identity | None:
    """None when there is no such process, or only its zombie."""
    try:
        stat = (proc / str(pid) / "stat").read_text()
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if _is_zombie(stat) else Identity(pid, parse_start(stat), boot)


def save(identity: Identity, record: Path) -> None:
    temporary = record.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(identity)))
    temporary.replace(record)


def load(record: Path) -> Identity | None:
    """None when there is no record or it is damaged: then there is nothing that could safely be stopped by it."""
    try:
        fields = json.loads(record.read_text())
        return Identity(int(fields["pid"]), int(fields["start"]), str(fields["boot"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def is_alive(record: Path, proc: Path = Path("/proc")) -> bool:
    saved = load(record)
    return saved is not None and identify(saved.pid, proc) == saved


def start(name: str, argv: Sequence[str], environment: Mapping[str, str], pids: Path, logs: Path) -> None:
    """Starts a process in a session of its own, so that neither `make` nor a closed terminal takes it along."""
    with (logs / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=dict(environment),
            start_new_session=True,
        )
    identity = identify(process.pid)
    if identity is None:
        raise RuntimeError(f"{name} ended at once; see {logs / name}.log")
    save(identity, pids / f"{name}.json")
    process.returncode = 0  # it is not ours to wait for; keeps Popen's destructor quiet


def stop(identities: Sequence[Identity], grace_s: float) -> None:
    """SIGTERM to all at once, SIGKILL after the grace period to those still there."""
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        left = [identity for identity in identities if identify(identity.pid) == identity]
        for identity in left:
            try:
                os.kill(identity.pid, number)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + wait_s
        while any(identify(identity.pid) == identity for identity in left) and time.monotonic() < deadline:
            time.sleep(0.05)


def working_in(folders: Sequence[Path], programs: Sequence[str], proc: Path = Path("/proc")) -> list[Identity]:
    """Processes of these programs that were told to use something below these folders.

    Finds what no record names: containerd's shims, and servers whose records somebody deleted.
    """
    found = []
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            program, *arguments = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        told = any(f"{place}/" in argument for place in folders for argument in arguments)
        if told and Path(program).name in programs and (identity := identify(int(folder.name), proc)) is not None:
            found.append(identity)
    return found
