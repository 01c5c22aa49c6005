"""Measurements made up by a formula, so that what is to be learned is known."""

import math
import random

from auralink_aicore.features import Look

from hack.train.build import CANDIDATES, SUBSAMPLE, Measurement, Trial

FRAMES = 90


def stream(number: int, *, real: bool = False, public: bool = True, hard: float | None = None) -> Measurement:
    """Loss grows by `hard` points a step of q above 18, and the motion tells how hard it is."""
    chance = random.Random(number)  # noqa: S311 - to be repeatable
    hard = chance.uniform(0.1, 0.6) if hard is None else hard
    sizes = [round(chance.uniform(3000, 5000)) for _ in range(FRAMES)]
    scored = len(range(0, FRAMES, SUBSAMPLE))
    trials = [
        Trial(
            q,
            [round(size * 1.6 * math.exp(-(q - 18) / 8.66)) for size in sizes],
            [46 - 0.69 * (q - 18)] * FRAMES,
            [95.0 - hard * (q - 18)] * scored,
        )
        for q in CANDIDATES["H264"]
    ]
    return Measurement(
        clip=f"clip{number}",
        group=f"group{number}",
        size="360p",
        codec="H264",
        kbps=800,
        real=real,
        public=public,
        licence="none",
        sha256=f"{number:064x}",
        fps=30.0,
        pixels=640 * 360,
        sizes=sizes,
        looks=[Look(2.0, 0.1, 40.0, 5.0, sender_q=30.0, motion=hard, vectors=1.0)] * FRAMES,
        scores=[95.0] * scored,
        trials=trials,
    )
