"""``python -m hack.train``: build, fit and report, all or one of them; see docs/model.md."""

import argparse
import sys
import time
from collections.abc import Iterator

from hack.progress import say
from hack.train import build, scenes
from hack.train.build import Measurement
from hack.train.scenes import Scene

SEED = 1
MADE = {"360p": 64, "720p": 10}  # scenes put together


def every_scene() -> Iterator[Scene]:
    """Real ones first, then the others, small and large ones mixed, so that a build cut short is of use."""
    yield from scenes.real()
    large = scenes.made(MADE["720p"], "720p", SEED)
    for number, small in enumerate(scenes.made(MADE["360p"], "360p", SEED)):
        yield small
        if number % 6 == 5:
            yield from (one for one in [next(large, None)] if one)


def measurements(codec: str, minutes: float) -> list[Measurement]:
    """What is in the cache, and what can be measured beside it in so many minutes."""
    say(f"{codec}: scenes")
    found = list(every_scene())
    return list(build.measured(found, codec, time.monotonic() + 60 * minutes))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.train", description=__doc__)
    parser.add_argument("what", choices=("build", "fit", "report", "all"))
    parser.add_argument("--codec", action="append", choices=tuple(build.CANDIDATES))
    parser.add_argument("--minutes", type=float, default=60.0, help="of building, for each codec")
    given = parser.parse_args()
    for codec in given.codec or ["H264"]:
        say(f"{codec}: {len(measurements(codec, given.minutes))} streams")
    return 0


if __name__ == "__main__":
    sys.exit(main())
