"""What a room gains when its streams share its bytes as the AI Core shares them, of what the truth would gain (M4)."""

from collections.abc import Callable, Sequence

from auralink_aicore.model import packaged

from benchmarks.aicore.rows import row
from hack.lab.report import Row
from hack.train import build, report, scenes
from hack.train.build import Measurement
from hack.train.report import Allocation, Judged
from hack.train.rows import halves
from hack.train.scenes import Scene

FEWEST_CLIPS = 2
NAME = "m4_allocation"


def measure(codec: str, say: Callable[[str], None]) -> list[Row]:
    """As the AI Core shares: by what was learned of the codec, or by its medians."""
    say(f"allocation: {codec}")
    learned = packaged().learned.get(codec)
    streams = list(build.measured(_new_to(codec, list(scenes.real())), codec))
    found = [half for one in streams for half in halves(one)]
    judged = [report.judge(half, learned) if learned else Judged(half, {}) for half in found]
    return [_row(codec, streams, report.allocation(judged, packaged().curves[codec]), by_model=learned is not None)]


def _new_to(codec: str, found: Sequence[Scene]) -> list[Scene]:
    """The clips that the model has not learned from, if there are enough for a room; else all."""
    taught = packaged().taught.get(codec, frozenset())
    new = [one for one in found if one.clip.name not in taught]
    return new if len({one.group for one in new}) >= FEWEST_CLIPS else list(found)


def _row(codec: str, streams: Sequence[Measurement], room: Allocation, *, by_model: bool) -> Row:
    ours = room.learned if by_model else room.medians
    gained, possible = room.constant - ours, room.constant - room.oracle
    seen = any(one.clip in packaged().taught.get(codec, ()) for one in streams)
    clips = ", ".join(sorted({one.group for one in streams}))
    by = "the model" if by_model else "medians"
    note = (
        f"mean loss: equal shares {room.constant:.2f}, by {by} {ours:.2f}, by the truth "
        f"{room.oracle:.2f} (40 % saved, {report.ROOMS} rooms of up to {report.ROOM_SIZE} of {clips})"
        f"{'; the model learned from these' if seen else ''}"
    )
    return row(NAME, 100 * gained / possible if possible > 0 else None, note, also=f" {codec}")
