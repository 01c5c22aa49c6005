"""What a model is worth on clips that it has not seen: each group of clips is held out once, and judged by what was
learned from the others. What it has to beat are constants: the medians of the other real clips' ceilings.
"""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from auralink_aicore.allocator import Curves, Stream, allocate
from auralink_aicore.controller import CEILING_STEP, LEARNED_LOSSES, Curve, TableCurves
from auralink_aicore.features import NAMES, PSNR_FALLS
from auralink_aicore.model import Learned, Prediction, StreamCurves
from auralink_aicore.model.trees import Forest

from hack.train import fit
from hack.train.build import CANDIDATES, Measurement
from hack.train.curves import CURVES
from hack.train.rows import Half, halves
from hack.train.write import MOVES

LOSSES = (1.0, 2.0, 3.0, 5.0, 8.0)
PARTS = 10  # that scenes put together are held out in; real clips are held out one by one
SLACK = 1.0  # VMAF points above the floor's that make a violation
TARGET = 0.4
ROOMS, ROOM_SIZE = 200, 4
SEED = 1


@dataclass(frozen=True, slots=True)
class Judged:
    """One half second that was held out."""

    half: Half
    foreseen: Mapping[int, Prediction]  # by the number of the candidate that the stream stood at

    def from_near(self, q: float) -> Prediction:
        """What was foreseen where the stream stood nearest to q."""
        return self.foreseen[int(np.argmin(np.abs(self.half.q - q)))]


def learned(codec: str, boosters: Mapping[str, Any]) -> Learned:
    forests = [Forest(fit.forest(boosters[name]), len(NAMES)) for name in ("ln_ratio", "loss")]
    return Learned(tuple(map(float, CANDIDATES[codec])), PSNR_FALLS[codec], MOVES[codec], 0.0, *forests)


def held_out(streams: Sequence[Measurement], say: Callable[[str], None]) -> list[Judged]:
    """Every half second of every stream, as foreseen by what the public clips of all other groups teach."""
    found = [half for stream in streams for half in halves(stream)]
    fold = {group: number for number, group in enumerate(_groups(streams, real=True))}
    made = _groups(streams, real=False)
    fold |= {group: len(fold) + number % PARTS for number, group in enumerate(made)}
    judged = []
    for number in sorted(set(fold.values())):
        told = [half for half in found if half.stream.public and fold[half.stream.group] != number]
        model = learned(streams[0].codec, fit.boosters(told))
        out = [half for half in found if fold[half.stream.group] == number]
        judged += [judge(half, model) for half in out]
        say(f"held out {number + 1} of {max(fold.values()) + 1}")
    return judged


def _groups(streams: Sequence[Measurement], *, real: bool) -> list[str]:
    return sorted({stream.group for stream in streams if stream.real is real})


def judge(half: Half, model: Learned) -> Judged:
    """What a model foresees of it."""
    return Judged(half, {seen: model.predict_rows(half.rows(seen)) for seen in range(len(half.q))})


# --- the ceiling -------------------------------------------------------------------------------------------------


def true_loss(half: Half, q: float) -> float:
    return float(np.interp(q, half.q, half.loss))


def true_ceiling(half: Half, allowed: float) -> float:
    """The highest q at which no more is lost; one of the outermost candidates where it is beyond them."""
    rising = half.loss + 1e-9 * np.arange(len(half.q))
    return float(np.interp(allowed, rising, half.q))


def medians(found: Sequence[Half], but: str = "") -> Curve:
    """The constants by what was measured: medians over real groups, `but` one, of their medians over half seconds.
    In whole steps, as quantisers are.

    Scenes put together from photographs would pull them away from calls.
    """
    groups: dict[str, list[Half]] = defaultdict(list)
    for half in found:
        if half.stream.real and half.stream.group != but:
            groups[half.stream.group].append(half)
    curve = CURVES[found[0].stream.codec]
    if not groups:
        return curve
    ceilings_ = [
        float(np.median([np.median([true_ceiling(one, allowed) for one in those]) for those in groups.values()]))
        for allowed in LOSSES
    ]
    rising: list[float] = []
    for q in map(round, ceilings_):  # where all lie outside the candidates, the curve rises all the same
        rising.append(float(max(q, rising[-1] + 1) if rising else q))
    return replace(curve, losses=LOSSES, ceilings=tuple(rising))


def ceilings(of_stream: Sequence[Judged], allowed: float, curve: Curve) -> list[tuple[float, float]]:
    """(the constants', the learned) q for each half second of one stream, in order, as the controller would move it."""
    codec = of_stream[0].half.stream.codec
    usual = curve.ceiling(allowed)
    now, found = usual, []
    for judged in of_stream:
        if judged.foreseen and LEARNED_LOSSES[0] <= allowed <= LEARNED_LOSSES[1]:
            wanted = judged.from_near(now).ceiling(allowed)
            wanted = min(max(wanted, usual - MOVES[codec]), usual + MOVES[codec])
            now += min(max(wanted - now, -CEILING_STEP), CEILING_STEP)
        found.append((usual, now))
    return found


@dataclass(frozen=True, slots=True)
class Errors:
    """Means over half seconds of one clip; `usual` is the constants'."""

    clip: str
    real: bool
    windows: int
    usual: Mapping[float, float]  # by L: how far the loss at the ceiling is from L
    learned: Mapping[float, float]
    usual_violations: float  # share of half seconds at L = 3 that lose more than SLACK above it
    learned_violations: float
    saved_more: float  # mean of ln(bytes at the constants' ceiling / bytes at the learned one), L = 3
    ln_ratio: float  # mean error of ln(out/in), all candidates
    loss: float  # mean error of a predicted loss, candidates that lose 8 or less
    usual_loss: float  # the same of the constants


def by_clip(judged: Sequence[Judged]) -> list[Errors]:
    clips: dict[tuple[bool, str], dict[tuple[str, str, int], list[Judged]]] = defaultdict(lambda: defaultdict(list))
    for one in judged:
        stream = one.half.stream
        group = stream.group if stream.real else "put together"
        clips[not stream.real, group][stream.clip, stream.size, stream.kbps].append(one)
    every = [one.half for one in judged]
    return [
        _errors(name, not made, list(streams.values()), medians(every, but=name))
        for (made, name), streams in sorted(clips.items())
    ]


def _errors(clip: str, real: bool, streams: Sequence[Sequence[Judged]], curve: Curve) -> Errors:
    usual, ours = {}, {}
    sides = (0, 1) if streams[0][0].foreseen else (0,)  # where nothing was foreseen, what was learned stays NaN
    violations: tuple[list[bool], list[bool]] = ([], [])
    saved = []
    for allowed in LOSSES:
        misses: tuple[list[float], list[float]] = ([], [])
        for stream in streams:
            for one, pair in zip(stream, ceilings(stream, allowed, curve), strict=True):
                lost = [true_loss(one.half, q) for q in pair]
                for side in sides:
                    misses[side].append(abs(lost[side] - allowed))
                    if allowed == 3.0:
                        violations[side].append(lost[side] > allowed + SLACK)
                if allowed == 3.0 and 1 in sides:
                    ratio = [float(np.interp(q, one.half.q, one.half.ln_ratio)) for q in pair]
                    saved.append(ratio[0] - ratio[1])
        usual[allowed], ours[allowed] = _mean(misses[0]), _mean(misses[1])
    every = [one for stream in streams for one in stream]
    middle = len(every[0].half.q) // 2
    loss, usual_loss, bytes_ = [], [], []
    for one in every:
        half = one.half
        if one.foreseen:
            bytes_ += list(np.abs(half.ln_ratio - one.foreseen[middle].ln_ratio))
        for number in np.flatnonzero(half.loss <= 8.0):
            if one.foreseen:
                loss.append(abs(half.loss[number] - one.foreseen[int(number)].loss[number]))
            usual_loss.append(abs(half.loss[number] - curve.loss(float(half.q[number]))))
    return Errors(
        clip,
        real,
        len(every),
        usual,
        ours,
        _mean(violations[0]),
        _mean(violations[1]),
        _mean(saved),
        _mean(bytes_),
        _mean(loss),
        _mean(usual_loss),
    )


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return math.fsum(found) / len(found) if found else math.nan


# --- the room ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Allocation:
    """Mean and worst loss of ROOMS rooms of ROOM_SIZE streams, all at equal bytes."""

    constant: float  # each saves the same share
    medians: float  # shared by the codec's constants through where each stream stands
    learned: float
    oracle: float
    worst_constant: float
    worst_learned: float


def allocation(judged: Sequence[Judged], curve: Curve, target: float = TARGET, allowed: float = 8.0) -> Allocation:
    """Rooms drawn by seeded chance of real half seconds, a clip never twice. `curve`: the codec's medians.

    Where nothing was foreseen, what was learned says what the medians say.
    """
    chance = random.Random(SEED)  # noqa: S311 - to be repeatable
    groups: dict[str, list[Judged]] = defaultdict(list)
    for one in judged:
        if one.half.stream.real:
            groups[one.half.stream.group].append(one)
    size = min(ROOM_SIZE, len(groups))
    sums: tuple[list[float], ...] = ([], [], [], [])
    for _ in range(ROOMS):
        room = [chance.choice(groups[name]) for name in chance.sample(sorted(groups), size)]
        rates = [sum(one.half.stream.sizes) / len(one.half.stream.sizes) * one.half.stream.fps for one in room]
        truth, told, usual = [], [], []
        for one, rate in zip(room, rates, strict=True):
            truth.append(Stream(rate, allowed, _bytes(one.half.ln_ratio, rate), tuple(one.half.loss)))
            # The level of the bytes is measured where the stream stands; curves give the slope.
            stands, byte_rate = _q_for(one.half, target), rate * (1 - target)
            table = TableCurves(curve, stands, byte_rate)
            seen = StreamCurves(one.from_near(stands), stands, byte_rate) if one.foreseen else table
            usual.append(_stream(one.half, table, rate, allowed))
            told.append(_stream(one.half, seen, rate, allowed))
        shared = [[target] * size, *(allocate(those, target) for those in (usual, told, truth))]
        for number, shares in enumerate(shared):
            losses = [true_loss(one.half, _q_for(one.half, share)) for one, share in zip(room, shares, strict=True)]
            sums[number].append(_mean(losses))
            sums[number].append(max(losses))
    means, worst = [_mean(one[::2]) for one in sums], [_mean(one[1::2]) for one in sums]
    return Allocation(means[0], means[1], means[2], means[3], worst[0], worst[2])


def _stream(half: Half, curves: Curves, rate: float, allowed: float) -> Stream:
    sizes = tuple(math.log(curves.bytes_at(float(q))) for q in half.q)
    return Stream(rate, allowed, sizes, tuple(curves.loss_at(float(q)) for q in half.q))


def _bytes(ln_ratio: Any, rate: float) -> tuple[float, ...]:
    return tuple(float(one) + math.log(rate) for one in ln_ratio)


def _q_for(half: Half, share: float) -> float:
    """Where the stream saves that share: the feedback finds it. The outermost candidate where none does."""
    return float(np.interp(-math.log(max(1 - share, 1e-6)), -half.ln_ratio, half.q))


# --- whether it ships --------------------------------------------------------------------------------------------


def totals(errors: Sequence[Errors]) -> dict[str, dict[str, float]]:
    """Means over clips: of real ones, and of all."""
    found = {}
    for name, those in (("real", [one for one in errors if one.real]), ("all", list(errors))):
        found[name] = {
            **{f"usual L{loss:g}": _mean(one.usual[loss] for one in those) for loss in LOSSES},
            **{f"learned L{loss:g}": _mean(one.learned[loss] for one in those) for loss in LOSSES},
            "usual violations": _mean(one.usual_violations for one in those),
            "learned violations": _mean(one.learned_violations for one in those),
            "saved more": _mean(one.saved_more for one in those),
            "ln_ratio": _mean(one.ln_ratio for one in those),
            "loss": _mean(one.loss for one in those),
            "usual loss": _mean(one.usual_loss for one in those),
        }
    return found


def floor_ships(errors: Sequence[Errors]) -> bool:
    """Whether learned curves may move the floor: no L worse than by the constants, and those of LEARNED_LOSSES better,
    for real clips and for all.
    """
    for those in totals(errors).values():
        for loss in LOSSES:
            usual, ours = those[f"usual L{loss:g}"], those[f"learned L{loss:g}"]
            if not (ours < usual if loss >= LEARNED_LOSSES[0] else ours <= usual):  # nor where there are none: NaN
                return False
    return True


def sharing_ships(room: Allocation) -> bool:
    """Whether learned curves may share a room's bytes: they lose less than equal shares and than the constants."""
    return room.learned < min(room.constant, room.medians)


def _pair(usual: float, learned: float, form: str) -> str:
    return f"{usual:{form}}" + ("" if math.isnan(learned) else f">{learned:{form}}")


def lines(errors: Sequence[Errors], room: Allocation) -> list[str]:
    """For people."""
    made = [
        "clip              windows  ceiling error at L=1  2  3  5  8: constants > trees | violations | predicted loss"
    ]
    for one in errors:
        pairs = "  ".join(_pair(one.usual[loss], one.learned[loss], ".2f") for loss in LOSSES)
        violations = _pair(one.usual_violations, one.learned_violations, ".0%")
        made.append(
            f"{one.clip:<17} {one.windows:>7}  {pairs} | {violations} | {_pair(one.usual_loss, one.loss, '.2f')}"
        )
    for name, those in totals(errors).items():
        known = {key: value for key, value in those.items() if not math.isnan(value)}
        made.append(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in known.items()))
    made.append("room of four at equal bytes, mean loss: " + ", ".join(f"{k} {v:.2f}" for k, v in asdict(room).items()))
    return made
