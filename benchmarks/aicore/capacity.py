"""How many streams one worker serves in time: the real process on a core of its own, frames as cameras send them.

One session more at a time, until frames come too late.
"""

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from auralink_aicore.codecs import Codec, Limits
from auralink_aicore.controller import Policy
from auralink_aicore.transcoder import FLAG_DEGRADED, Disposition, Frame, Mode, Report, Session
from auralink_aicore.worker.pool import Pool
from auralink_aicore.worker.wire import Opening, Timed

from benchmarks.aicore import figures
from hack.lab.sender import Sent

FPS = 30
DEADLINE_S, KEY_DEADLINE_S = 0.020, 0.033  # as the data plane sets them
IN_TIME = 0.99
WARM_UP_S = 1.0
MOST = 12
OUR_LATENESS_S = 0.005  # our own pacing; later than this nothing is proven


@dataclass(frozen=True, slots=True)
class Step:
    """So many sessions at once."""

    sessions: int
    frames: int
    in_time: int
    cheaper: int  # frames of a lowered speed setting
    p95_ms: float
    sent_late_ms: float  # p95 of our own lateness

    @property
    def good(self) -> bool:
        return self.in_time >= IN_TIME * self.frames and self.sent_late_ms < 1000 * OUR_LATENESS_S


@dataclass(slots=True)
class _Listener:
    """Answers of one session."""

    now: Callable[[], float]
    due: dict[int, tuple[float, float]] = field(default_factory=dict)  # frame -> (sent, deadline)
    took_s: list[float] = field(default_factory=list)
    in_time: int = 0
    cheaper: int = 0
    broken: str = ""

    def answered(self, timed: Timed) -> None:
        now = self.now()
        sent, deadline = self.due.pop(timed.result.frame_id, (-1.0, 0.0))
        if sent < 0:
            return  # of the warm-up
        self.took_s.append(now - sent)
        self.in_time += timed.result.disposition is Disposition.COMPRESSED and now <= deadline
        self.cheaper += bool(timed.result.flags & FLAG_DEGRADED)

    def reported(self, report: Report) -> None:
        """Nothing to do: no room shares bytes here."""

    def lost(self, reason: str) -> None:
        self.broken = reason


class _Watcher:
    def worker_up(self, worker: int, calibration_ms: float) -> None:
        """Nothing to do: `Pool.start` waits for it."""

    def worker_down(self, worker: int) -> None:
        """The listeners are told."""


async def measure(sent: Sent, seconds: float, say: Callable[[str], None]) -> list[Step]:
    """Steps in rising order; the last one is the first that failed, or MOST."""
    pool = Pool(1, _Watcher())
    await pool.start()
    try:
        with _apart(next(iter(pool.pids.values()))):
            steps: list[Step] = []
            while len(steps) < MOST and (not steps or steps[-1].good):
                steps.append(await _step(pool, sent, len(steps) + 1, seconds))
                say(f"{len(steps)} x 720p30 on one core: {steps[-1].in_time} of {steps[-1].frames} frames in time")
            return steps
    finally:
        await pool.stop()


async def _step(pool: Pool, sent: Sent, count: int, seconds: float) -> Step:
    loop = asyncio.get_running_loop()
    listeners = [_Listener(loop.time) for _ in range(count)]
    opening = Opening(Session(Codec[sent.codec], Policy(always=True), Limits(), screen=False))
    seats = [pool.seat(0, opening, listener) for listener in listeners]
    start = loop.time() + 0.05
    late: list[float] = []

    async def play(number: int) -> None:
        listener, seat = listeners[number], seats[number]
        for frame_id in range(round((WARM_UP_S + seconds) * FPS)):
            unit = sent.units[frame_id % len(sent.units)]
            when = start + (frame_id + number / count) / FPS
            await asyncio.sleep(when - loop.time())
            now = loop.time()
            deadline = now + (KEY_DEADLINE_S if unit.key else DEADLINE_S)
            if frame_id >= WARM_UP_S * FPS:
                late.append(now - when)
                listener.due[frame_id] = (now, deadline)
            seat.frame(Frame(frame_id, unit.payload, unit.key, Mode.COMPRESS, now, deadline))

    try:
        async with asyncio.TaskGroup() as players:
            for number in range(count):
                players.create_task(play(number), name=f"stream-{number}")
        await asyncio.sleep(0.5)
    finally:
        for seat in seats:
            seat.close()
    broken = [listener.broken for listener in listeners if listener.broken]
    if broken:
        raise RuntimeError(broken[0])
    took = [value for listener in listeners for value in listener.took_s]
    frames = round(seconds * FPS) * count
    in_time, cheaper = sum(one.in_time for one in listeners), sum(one.cheaper for one in listeners)
    slow = 1000 * figures.percentile(took, 0.95) if took else float("inf")
    return Step(count, frames, in_time, cheaper, slow, 1000 * figures.percentile(late, 0.95))


@contextmanager
def _apart(worker: int) -> Iterator[None]:
    """The worker on the last core, and we, who make its traffic, on the others."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(worker, {max(cores)})
    os.sched_setaffinity(0, cores - {max(cores)} or cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def most(steps: Sequence[Step]) -> int:
    """Sessions of the last step that was good."""
    return max((step.sessions for step in steps if step.good), default=0)
