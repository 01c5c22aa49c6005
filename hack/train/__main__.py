"""``python -m hack.train``: makes the model file. `build` measures streams, `report` judges what can be learned from
them on clips held out, `fit` learns from all of them and writes the file; without a word, all three.

A codec's ceilings are medians over real clips. Trees, where they can be had, are in the file if rooms share their bytes
better by them than by constants. They move the quality floor only if no loss is held worse than by constants, and from
three points on better. See docs/model.md.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from auralink_aicore.controller import Curve

from hack.progress import say
from hack.train import build, fit, report, scenes, write
from hack.train.build import Measurement
from hack.train.report import Allocation, Errors, Judged
from hack.train.rows import halves
from hack.train.scenes import Scene
from hack.train.write import MOVES

SEED = 1
LEAST_GROUPS = 12  # that anyone can have; of fewer, trees learn the clips by heart
MADE = {"360p": 64, "720p": 10, "270p": 16}  # of 90 scenes put together
OUT = Path(__file__).resolve().parents[2] / "build" / "train"


def every_scene(made: int) -> Iterator[Scene]:
    """Real ones first, then so many others with all sizes mixed, so that a build cut short is of use."""
    yield from scenes.real()
    left = {size: iter(scenes.made(made, size, SEED)) for size in MADE}
    places = sorted((number / count, size) for size, count in MADE.items() for number in range(made))
    for _, size in places[:made]:
        yield next(left[size])


@dataclass(frozen=True, slots=True)
class Verdict:
    """One codec's report."""

    streams: Sequence[Measurement]
    errors: Sequence[Errors]
    room: Allocation
    curve: Curve

    @property
    def codec(self) -> str:
        return self.streams[0].codec

    @property
    def ships(self) -> bool:
        """Whether trees do."""
        return self.moves_floor or report.sharing_ships(self.room)

    @property
    def moves_floor(self) -> bool:
        return report.floor_ships(self.errors)

    @property
    def learned_from(self) -> list[Measurement]:
        return [one for one in self.streams if one.real or (self.ships and one.public)]

    @property
    def loss_error(self) -> float:
        """Of a predicted loss, on average over real clips that were held out."""
        return report.totals(self.errors)["real"]["loss"]

    @property
    def scores(self) -> dict[str, Any]:
        """As the model file has them."""
        found: dict[str, Any] = {name: _rounded(those) for name, those in report.totals(self.errors).items()}
        return {**found, "room": _rounded(asdict(self.room))}


def _rounded(those: Mapping[str, float]) -> dict[str, float]:
    """What was not measured, of a codec without trees, is left out."""
    return {key: round(value, 3) for key, value in those.items() if not math.isnan(value)}


def judge(streams: Sequence[Measurement]) -> Verdict:
    """What can be learned of the codec that all these streams are of."""
    found = [half for stream in streams for half in halves(stream)]
    curve = report.medians(found)
    groups = {stream.group for stream in streams if stream.public}
    trees = streams[0].codec in MOVES and len(groups) >= LEAST_GROUPS
    judged = report.held_out(streams, say) if trees else [Judged(half, {}) for half in found]
    return Verdict(streams, report.by_clip(judged), report.allocation(judged, curve), curve)


def model(verdicts: Sequence[Verdict]) -> bytes:
    """The file; a codec whose trees do not ship is left to the constants."""
    learned, errors, moves, told = {}, {}, {}, []
    for one in verdicts:
        codec = one.codec
        told += one.learned_from
        if one.ships:
            public = [half for stream in one.streams if stream.public for half in halves(stream)]
            learned[codec] = fit.boosters(public)
            errors[codec] = one.loss_error
            moves[codec] = MOVES[codec] if one.moves_floor else 0.0
    curves, scores = {one.codec: one.curve for one in verdicts}, {one.codec: one.scores for one in verdicts}
    return write.model(curves, learned, errors, moves, told, scores)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.train", description="Make the AI Core's model file.")
    parser.add_argument("what", nargs="?", choices=("build", "report", "fit", "all"), default="all")
    parser.add_argument("--codec", action="append", choices=tuple(build.CANDIDATES), help="all there are, if not said")
    parser.add_argument("--minutes", type=float, default=120.0, help="then a codec takes no new stream (120)")
    parser.add_argument("--scenes", type=int, default=0, help="put together beside the real clips, to learn trees (0)")
    parser.add_argument("--version", default="0.0.0", help="of the model (0.0.0)")
    parser.add_argument("--out", type=Path, default=OUT, help="the folder that it goes to")
    given = parser.parse_args()
    minutes = given.minutes if given.what in ("build", "all") else 0.0
    say("scenes")
    found, verdicts = list(every_scene(given.scenes)), []
    for codec in given.codec or tuple(build.CANDIDATES):
        streams = list(build.measured(found, codec, time.monotonic() + 60 * minutes))
        say(f"{codec}: {len(streams)} streams of {len({one.group for one in streams})} groups")
        if given.what == "build" or not streams:
            continue
        verdicts.append(judge(streams))
        print(f"\n{codec}\n" + "\n".join(report.lines(verdicts[-1].errors, verdicts[-1].room)))
        curve = verdicts[-1].curve
        pairs = zip(curve.losses, curve.ceilings, strict=True)
        print("medians of real clips: " + ", ".join(f"L={loss:g} q={q:.1f}" for loss, q in pairs))
        print("trees share rooms" if verdicts[-1].ships else "no trees share rooms")
        print("trees move the floor" if verdicts[-1].moves_floor else "no trees move the floor")
    if given.what in ("fit", "all"):
        path = given.out / f"auralink-q-{given.version}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model(verdicts))
        say(f"{path}, {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
