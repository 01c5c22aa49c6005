"""What the whole AI Core adds to its codecs, and whether it lasts: the real server process over loopback gRPC."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import grpc.aio

from benchmarks.aicore import client
from benchmarks.aicore.client import Account, Answered
from hack.lab.aicore import aicore
from hack.lab.sender import Sent

_SAMPLE_S = 5.0
_MB = 1e6
FPS = 30.0


@dataclass(slots=True)
class Soaked:
    minutes: float
    sessions: list[tuple[str, Account]] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)  # server and workers, every five seconds

    @property
    def frames(self) -> int:
        return sum(account.sent for _, account in self.sessions)

    @property
    def good(self) -> int:
        return sum(account.good for _, account in self.sessions)

    @property
    def growth(self) -> float:
        """Percent, of the last fifth over the second."""
        fifth = max(len(self.resident_mb) // 5, 1)
        early, late = median(self.resident_mb[fifth : 2 * fifth] or self.resident_mb), median(self.resident_mb[-fifth:])
        return 100 * (late / early - 1)


async def hop(sent: Sent, seconds: float) -> list[Answered]:
    """One stream as a camera sends it; its answers but for the first second's."""
    account = Account()
    async with aicore(workers=1) as running, grpc.aio.insecure_channel(running.address) as channel:
        await client.play(channel, sent, FPS, seconds + 1, account)
    if account.broken or not account.answers:
        raise RuntimeError(account.broken or "nothing was answered")
    return [answer for answer in account.answers if answer.frame_id >= FPS]


async def soak(streams: Sequence[Sent], minutes: float, workers: int, say: Callable[[str], None]) -> Soaked:
    """All streams at once for so long. A stream that the server has no room for is left out, and says so."""
    found = Soaked(minutes)
    async with aicore(workers=workers) as running:
        watching = asyncio.create_task(_watch([running.process.pid, *running.worker_pids], found, say), name="memory")
        async with grpc.aio.insecure_channel(running.address) as channel, asyncio.TaskGroup() as players:
            for sent in streams:
                account = Account()
                name = f"{sent.codec} {sent.clip.width}x{sent.clip.height}"
                found.sessions.append((name, account))
                players.create_task(client.play(channel, sent, float(sent.clip.fps), 60 * minutes, account), name=name)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return found


async def _watch(pids: Sequence[int], found: Soaked, say: Callable[[str], None]) -> None:
    while True:
        await asyncio.sleep(_SAMPLE_S)
        found.resident_mb.append(sum(map(_resident_mb, pids)))
        if len(found.resident_mb) % 24 == 0:
            say(f"soak: {found.resident_mb[-1]:.0f} MB, {found.good} of {found.frames} frames answered in time")


def _resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / _MB
    return 0.0
