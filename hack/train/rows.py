"""Measured streams as what a model learns from: what a window looked like, and what came of each q after it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from auralink_aicore.features import FRAMES, PSNR_FALLS, Window

from hack.train.build import SUBSAMPLE, Measurement

Floats = npt.NDArray[np.float64]

SEEN_AT = (-2, 0, 2)  # candidates away from the one that is asked about: where a live stream may stand


@dataclass(frozen=True, slots=True)
class Half:
    """One half second of a stream, and the window before it. Arrays are over the candidates."""

    stream: Measurement
    number: int  # of the half second in its stream
    q: Floats
    ln_ratio: Floats
    loss: Floats

    def rows(self, seen: int | None) -> Floats:
        """What a model is told where the stream stood at candidate number `seen`; None: it was only watched."""
        stream, start = self.stream, self.number * FRAMES
        window = Window()
        trial = None if seen is None else stream.trials[seen]
        for at in range(start - FRAMES, start):
            key = at == 0
            told = {} if trial is None or key else {"q": float(trial.q), "psnr": trial.psnr[at]}
            window.take(stream.sizes[at], stream.looks[at], key=key, **told)
        return window.features(stream.fps, stream.pixels, list(self.q), PSNR_FALLS[stream.codec])


def halves(stream: Measurement) -> Iterator[Half]:
    """Every half second but the first, whose key says little of a stream that lasts."""
    q = np.array([trial.q for trial in stream.trials], dtype=np.float64)
    for number in range(1, len(stream.sizes) // FRAMES):
        part = slice(number * FRAMES, (number + 1) * FRAMES)
        scored = slice(math.ceil(part.start / SUBSAMPLE), math.ceil(part.stop / SUBSAMPLE))
        source, theirs = sum(stream.sizes[part]), float(np.mean(stream.scores[scored]))
        ours = [math.log(sum(trial.sizes[part]) / source) for trial in stream.trials]
        loss = np.array([theirs - float(np.mean(trial.scores[scored])) for trial in stream.trials])
        yield Half(stream, number, q, np.array(ours), np.maximum.accumulate(np.maximum(loss, 0.0)))


@dataclass(frozen=True, slots=True)
class Lesson:
    """(n, NAMES) and (n,)."""

    rows: Floats
    ln_ratio: Floats
    loss: Floats
    weight: Floats


def lesson(found: Sequence[Half], real_weight: float) -> Lesson:
    """Every half second as it is seen from where the stream may have stood. `real_weight`: of a real clip's."""
    rows, ratios, losses, weights = [], [], [], []
    for half in found:
        n = len(half.q)
        seen_from = [half.rows(seen) for seen in range(n)]
        watched = half.rows(None)
        for asked in range(n):
            views = [seen_from[asked + away][asked] for away in SEEN_AT if 0 <= asked + away < n] + [watched[asked]]
            rows += views
            ratios += [half.ln_ratio[asked]] * len(views)
            losses += [half.loss[asked]] * len(views)
            weights += [real_weight if half.stream.real else 1.0] * len(views)
    return Lesson(np.array(rows), np.array(ratios), np.array(losses), np.array(weights))
