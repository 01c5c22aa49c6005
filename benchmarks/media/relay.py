"""The asyncio relay as a process of its own, for as long as the measurement takes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.media.crate import ROOT, cpu_s, free_port, pinned


@dataclass(frozen=True, slots=True)
class Relay:
    """What comes to port `inlet` goes to port `sink`."""

    pid: int
    inlet: int
    sink: int

    def cpu_s(self) -> float:
        return cpu_s(self.pid)


@contextmanager
def started() -> Iterator[Relay]:
    sink = free_port()
    command = pinned([sys.executable, "-m", "benchmarks.asyncio_relay", str(sink)])
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Relay(process.pid, int(process.stdout.readline()), sink)
    finally:
        process.kill()
        process.communicate()
