"""Has samples scored, one at a time, by a process that nobody waits for: what it cannot take is dropped, what takes too
long is killed, and how a score fails is counted. Nothing here is on a frame's way.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from auralink_aicore.evidence.sampling import Sample, Score

log = logging.getLogger(__name__)

WAITING: Final = 2  # samples beside the one in work
TIMEOUT_S: Final = 120.0  # it runs only where there is time to spare
PROBE_TIMEOUT_S: Final = 10.0
SCORER: Final = (sys.executable, "-m", "auralink_aicore.evidence.score")


class Outcome(StrEnum):
    """What became of a sample."""

    SCORED = "scored"
    DROPPED = "dropped"
    FAILED = "failed"
    TIMED_OUT = "timed_out"


@dataclass(frozen=True, slots=True)
class Job:
    sample: Sample
    done: Callable[[Sample, Score], None]


class Scorer:
    """`run` until cancelled."""

    def __init__(
        self,
        count: Callable[[Outcome], None],
        ffmpeg: str | None = None,
        command: Sequence[str] = SCORER,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`ffmpeg`: one that has libvmaf; None: no VMAF."""
        self._count = count
        self.ffmpeg = ffmpeg
        self._command = command
        self._timeout_s = timeout_s
        self._jobs: asyncio.Queue[Job] = asyncio.Queue(WAITING)

    def has_room(self) -> bool:
        """Whether a sample would not be dropped now."""
        return not self._jobs.full()

    def submit(self, job: Job) -> None:
        """Takes it or drops it; never waits."""
        try:
            self._jobs.put_nowait(job)
        except asyncio.QueueFull:
            self._count(Outcome.DROPPED)

    async def run(self) -> None:
        """One sample after the other."""
        while True:
            job = await self._jobs.get()
            try:
                score = await self._score(job.sample)
                job.done(job.sample, score)
                self._count(Outcome.SCORED)
            except TimeoutError:
                self._count(Outcome.TIMED_OUT)
                log.warning("scorer was too slow", extra={"codec": job.sample.codec.name})
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the samples after it
                self._count(Outcome.FAILED)
                log.warning("sample was not scored", extra={"codec": job.sample.codec.name, "reason": str(error)})

    async def _score(self, sample: Sample) -> Score:
        """Raises TimeoutError, OSError, or ValueError with what the child said last."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # so that its own children can be ended with it
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                out, err = await process.communicate(packed(sample, self.ffmpeg))
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        if process.returncode:
            last = err.decode(errors="replace").strip().rpartition("\n")[2][:300]
            raise ValueError(f"the scorer ended with {process.returncode}: {last}")
        return parsed(out)


def packed(sample: Sample, ffmpeg: str | None) -> bytes:
    """What the child reads."""
    sizes = {"senders": [len(unit) for unit in sample.senders], "ours": [len(unit) for unit in sample.ours]}
    head = json.dumps({"codec": int(sample.codec), "ffmpeg": ffmpeg, **sizes})
    return b"".join((head.encode(), b"\n", *sample.senders, *sample.ours))


def parsed(answer: bytes) -> Score:
    """Raises ValueError for what is no score."""
    try:
        fields = json.loads(answer)
        vmaf = fields["vmaf"]
        return Score(
            int(fields["pictures"]),
            float(fields["psnr_db"]),
            float(fields["ssim"]),
            None if vmaf is None else float(vmaf),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no score: {answer[:100]!r}") from error


async def with_libvmaf(ffmpeg: str) -> bool:
    """Whether this FFmpeg is there and has the filter."""
    try:
        process = await asyncio.create_subprocess_exec(
            ffmpeg, "-hide_banner", "-filters", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return False
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return False
    return b" libvmaf " in out
