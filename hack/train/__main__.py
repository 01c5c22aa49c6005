"""``python -m hack.train``: makes the model file. `build` measures streams, `report` judges what can be learned from
them on clips held out, `fit` learns from all that anyone can have and writes the file; without a word, all three.

What was learned of a codec is in the file if rooms share their bytes better by it than by constants. It moves the
quality floor only if no loss is held worse than by constants, and from three points on better. See docs/model.md.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hack.progress import say
from hack.train import build, fit, report, scenes, write
from hack.train.build import Measurement
from hack.train.curves import CURVES
from hack.train.report import Allocation, Errors
from hack.train.rows import halves
from hack.train.scenes import Scene
from hack.train.write import MOVES

SEED = 1
MADE = {"360p": 64, "720p": 10, "270p": 16}  # scenes put together
OUT = Path(__file__).resolve().parents[2] / "build" / "train"


def every_scene() -> Iterator[Scene]:
    """Real ones first, then the others with all sizes mixed, so that a build cut short is of use."""
    yield from scenes.real()
    left = {size: iter(scenes.made(count, size, SEED)) for size, count in MADE.items()}
    places = sorted((number / count, size) for size, count in MADE.items() for number in range(count))
    for _, size in places:
        yield next(left[size])


@dataclass(frozen=True, slots=True)
class Verdict:
    """One codec's report."""

    streams: Sequence[Measurement]
    errors: Sequence[Errors]
    room: Allocation

    @property
    def ships(self) -> bool:
        return self.moves_floor or report.sharing_ships(self.room)

    @property
    def moves_floor(self) -> bool:
        return report.floor_ships(self.errors)

    @property
    def loss_error(self) -> float:
        """Of a predicted loss, on average over real clips that were held out."""
        return report.totals(self.errors)["real"]["loss"]

    @property
    def scores(self) -> dict[str, Any]:
        """As the model file has them."""
        found: dict[str, Any] = {
            name: {key: round(value, 3) for key, value in those.items()}
            for name, those in report.totals(self.errors).items()
        }
        return {**found, "room": {key: round(value, 3) for key, value in asdict(self.room).items()}}


def judge(streams: Sequence[Measurement]) -> Verdict:
    judged = report.held_out(streams, say)
    return Verdict(streams, report.by_clip(judged), report.allocation(judged, CURVES[streams[0].codec]))


def model(verdicts: Sequence[Verdict]) -> bytes:
    """The file; a codec that does not ship is left to the constants."""
    learned, errors, moves, told, scores = {}, {}, {}, [], {}
    for one in verdicts:
        codec = one.streams[0].codec
        scores[codec] = one.scores
        if one.ships:
            public = [stream for stream in one.streams if stream.public]
            learned[codec] = fit.boosters([half for stream in public for half in halves(stream)])
            errors[codec] = one.loss_error
            moves[codec] = MOVES[codec] if one.moves_floor else 0.0
            told += public
    return write.model(learned, errors, moves, told, scores)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.train", description="Make the AI Core's model file.")
    parser.add_argument("what", nargs="?", choices=("build", "report", "fit", "all"), default="all")
    parser.add_argument("--codec", action="append", choices=tuple(build.CANDIDATES), help="all there are, if not said")
    parser.add_argument("--minutes", type=float, default=120.0, help="then a codec takes no new stream (120)")
    parser.add_argument("--version", default="0.0.0", help="of the model (0.0.0)")
    parser.add_argument("--out", type=Path, default=OUT, help="the folder that it goes to")
    given = parser.parse_args()
    minutes = given.minutes if given.what in ("build", "all") else 0.0
    say("scenes")
    found, verdicts = list(every_scene()), []
    for codec in given.codec or tuple(build.CANDIDATES):
        streams = list(build.measured(found, codec, time.monotonic() + 60 * minutes))
        say(f"{codec}: {len(streams)} streams of {len({one.group for one in streams})} groups")
        if given.what == "build" or not streams:
            continue
        verdicts.append(judge(streams))
        print(f"\n{codec}\n" + "\n".join(report.lines(verdicts[-1].errors, verdicts[-1].room)))
        curve = report.medians([half for stream in streams for half in halves(stream)])
        pairs = zip(curve.losses, curve.ceilings, strict=True)
        print("medians of real clips: " + ", ".join(f"L={loss:g} q={q:.1f}" for loss, q in pairs))
        print("shares rooms" if verdicts[-1].ships else "shares no room: constants are as good")
        print("moves the floor" if verdicts[-1].moves_floor else "leaves the floor: constants are as good")
    if given.what in ("fit", "all"):
        path = given.out / f"auralink-q-{given.version}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model(verdicts))
        say(f"{path}, {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
