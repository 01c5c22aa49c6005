"""One stream through the AI Core's transcoder, in this process: frames in as fast as they go, by a clock that keeps the
stream's own time.
"""

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from auralink_aicore.codecs import Codec, Limits
from auralink_aicore.controller import Policy
from auralink_aicore.transcoder import Disposition, Frame, Mode, Session, Transcoder

from hack.lab.units import Unit

LEVEL = 7  # the default quality level
FLOOR_LOSS = 3.0  # VMAF points that it allows


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one frame."""

    payload: bytes
    key: bool
    ms: float


def without_floor(target: float) -> Policy:
    """Nothing but the feedback decides the saving."""
    return Policy(target_savings=target, quality_level=1, quality_floor=0, latency_budget_ms=1000, always=True)


def with_floor(target: float) -> Policy:
    """The default floor, whether it is worth it or not."""
    return Policy(target_savings=target, quality_level=LEVEL, latency_budget_ms=1000, always=True)


def recompress(
    codec: str, units: Sequence[Unit], fps: float, policy: Policy, keys_at: frozenset[int] = frozenset()
) -> list[Answer]:
    """An answer to every unit; `keys_at` are frames before which a receiver asks for a key.

    One thread. No deadline, so that no frame is skipped. Raises RuntimeError if one is not recompressed.
    """
    now = 0.0
    transcoder = Transcoder(Session(Codec[codec], policy, Limits(), screen=False), lambda: now)
    answers = []
    try:
        for number, unit in enumerate(units):
            now = number / fps
            if number in keys_at:
                transcoder.force_key()
            frame = Frame(number, unit.payload, unit.key, Mode.COMPRESS, now, math.inf)
            started = time.perf_counter()
            result = transcoder.receive(frame)
            ms = 1000 * (time.perf_counter() - started)
            if result.disposition is not Disposition.COMPRESSED:
                raise RuntimeError(f"{codec} frame {number} was not recompressed: {result.reason}")
            answers.append(Answer(result.payload, result.key, ms))
    finally:
        transcoder.close()
    return answers


@contextmanager
def one_core() -> Iterator[None]:
    """This thread on the last of its cores, and back."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
