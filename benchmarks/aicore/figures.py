"""The arithmetic of the rows: what of a stream was saved, lost, late. Pure; savings and losses in points."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

_BEYOND = 5.0  # points outside what was measured that a line may be drawn on


def saved(before: Sequence[int], after: Sequence[int]) -> float:
    """Percent of the bytes."""
    return 100 * (1 - sum(after) / sum(before))


def worst_window(before: Sequence[int], after: Sequence[int], window: int, aim: float) -> float:
    """Saving minus `aim`, of the `window` frames in a row where it is farthest off; of all frames if they are fewer."""
    last = max(len(before) - window, 0)
    errors = (saved(before[at : at + window], after[at : at + window]) - aim for at in range(last + 1))
    return max(errors, key=abs)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def loss_at(points: Sequence[tuple[float, float]], aim: float) -> float | None:
    """Loss where `aim` is saved, by straight lines through (saved, loss); None too far outside of what was measured."""
    ordered = sorted(points)
    if len(ordered) < 2 or not ordered[0][0] - _BEYOND <= aim <= ordered[-1][0] + _BEYOND:
        return None
    inside = ((left, right) for left, right in pairwise(ordered) if aim <= right[0])
    (x0, y0), (x1, y1) = next(inside, ordered[-2:])
    return y0 if x1 == x0 else y0 + (aim - x0) * (y1 - y0) / (x1 - x0)


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many."""

    part: int
    whole: int

    @property
    def percent(self) -> float:
        return 100 * self.part / self.whole if self.whole else 0.0

    def __add__(self, other: "Share") -> "Share":
        return Share(self.part + other.part, self.whole + other.whole)

    def __str__(self) -> str:
        return f"{self.part} of {self.whole}"


def mean(scores: Mapping[int, float], first: int) -> float:
    """Of the frames from `first` on."""
    counted = [score for frame, score in scores.items() if frame >= first]
    return sum(counted) / len(counted)


def windows_losing(
    before: Mapping[int, float], after: Mapping[int, float], first: int, window: int, more_than: float
) -> Share:
    """Of the windows of so many frames each, those that on average lose more than that. A window's scores are those of
    its frames that were scored; one without any, and a torn last one, do not count."""
    losing = [loss > more_than for loss in _window_losses(before, after, first, window)]
    return Share(sum(losing), len(losing))


def _window_losses(before: Mapping[int, float], after: Mapping[int, float], first: int, window: int) -> Iterator[float]:
    frames = sorted(before.keys() & after.keys())
    for start in range(first, frames[-1] + 2 - window, window):
        lost = [before[frame] - after[frame] for frame in frames if start <= frame < start + window]
        if lost:
            yield sum(lost) / len(lost)
