"""What a room gains when its streams share its bytes by the packaged model, of what the truth would gain (M4)."""

from collections.abc import Callable, Sequence

from auralink_aicore.model import packaged

from benchmarks.aicore.rows import row
from hack.lab.report import Row
from hack.train import build, report, scenes
from hack.train.build import Measurement
from hack.train.report import Allocation
from hack.train.rows import halves
from hack.train.scenes import Scene

FEWEST_CLIPS = 2
NAME = "m4_allocation"


def measure(codec: str, say: Callable[[str], None]) -> list[Row]:
    """Nothing for a codec that nothing was learned of: its streams share by the medians, which is not at all."""
    learned = packaged().learned.get(codec)
    if learned is None:
        return []
    say(f"allocation: {codec}")
    streams = list(build.measured(_new_to(codec, list(scenes.real())), codec))
    room = report.allocation([report.judge(half, learned) for one in streams for half in halves(one)])
    return [_row(codec, streams, room)]


def _new_to(codec: str, found: Sequence[Scene]) -> list[Scene]:
    """The clips that the model has not learned from, if there are enough for a room; else all."""
    taught = packaged().taught[codec]
    new = [one for one in found if one.clip.name not in taught]
    return new if len({one.group for one in new}) >= FEWEST_CLIPS else list(found)


def _row(codec: str, streams: Sequence[Measurement], room: Allocation) -> Row:
    gained, possible = room.constant - room.learned, room.constant - room.oracle
    seen = any(one.clip in packaged().taught[codec] for one in streams)
    clips = ", ".join(sorted({one.group for one in streams}))
    note = (
        f"mean loss: equal shares {room.constant:.2f}, by the model {room.learned:.2f}, by the truth {room.oracle:.2f} "
        f"(40 % saved, {report.ROOMS} rooms of up to {report.ROOM_SIZE} of {clips})"
        f"{'; the model learned from these' if seen else ''}"
    )
    return row(NAME, 100 * gained / possible if possible > 0 else None, note, also=f" {codec}")
