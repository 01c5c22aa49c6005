"""One stream through the AI Core's transcoder, in this process: frames in as fast as they go, by a clock that keeps the
stream's own time.
"""

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from auralink_aicore.codecs import Codec, Limits
from auralink_aicore.controller import Policy
from auralink_aicore.model import Model, packaged
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


def recompress(
    codec: str, units: Sequence[Unit], fps: float, target: float, *, floor: bool, keys_at: frozenset[int] = frozenset()
) -> list[Answer]:
    """An answer to every unit, worth it or not; `keys_at` are frames before which a receiver asks for a key.

    `floor`: that of the default level; without, nothing but the feedback decides the saving. One thread. No deadline,
    so that no frame is skipped. Raises RuntimeError if one is not recompressed.
    """
    policy = Policy(target_savings=target, quality_level=LEVEL, latency_budget_ms=1000, always=True)
    model = packaged() if floor else floorless()
    now = 0.0
    transcoder = Transcoder(Session(Codec[codec], policy, Limits(), screen=False), lambda: now, model=model)
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


def floorless() -> Model:
    """The packaged model, but that no quantiser loses anything."""
    curves = {
        codec: replace(curve, losses=(0.0, 1.0), ceilings=(curve.highest_q - 1.0, float(curve.highest_q)))
        for codec, curve in packaged().curves.items()
    }
    return replace(packaged(), curves=curves)


@contextmanager
def one_core() -> Iterator[None]:
    """This thread on the last of its cores, and back."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
