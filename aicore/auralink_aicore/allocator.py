"""Shares one room's byte budget over its streams: who loses least by a byte less gives it. Pure; `server` runs it.

Every stream saving the same share T is a poor deal: at equal bytes some streams lose far more than others. With each
stream's own curves, bytes and loss at each candidate quantiser, the sum of losses + lambda x bytes is smallest where
every stream stands at its own minimum of ``loss + lambda x bytes``; lambda is bisected until the bytes are the
room's. A loss allowed per stream bounds what it may give: without it the worst stream pays for all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

HIGHEST_TARGET: Final = 0.9  # as a policy's
FEWEST: Final = 2  # streams with curves; one alone has nobody to share with

_LAMBDAS: Final = (1e-6, 1e6)  # points of loss per room's worth of bytes
_ROUNDS: Final = 60  # halvings of ln lambda: beyond the precision of a float

Floats = npt.NDArray[np.float64]


class Curves(Protocol):
    """What is known of one stream: how its bytes and its loss follow the quantiser."""

    def bytes_at(self, q: float) -> float:
        """Bytes per second, > 0, falling in q."""

    def loss_at(self, q: float) -> float:
        """Points of VMAF lost, >= 0, rising in q."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of a room. The arrays are over its candidate quantisers, ascending, (n,) float."""

    input_rate: float  # bytes per second that come from its sender, > 0
    allowed_loss: float  # L
    ln_bytes: Sequence[float] = ()  # per second, as `input_rate`; empty when nothing was learned of this stream
    loss: Sequence[float] = ()  # never falling


def allocate(streams: Sequence[Stream], target: float) -> list[float]:
    """Each stream's T, 0..HIGHEST_TARGET, in the order given; `target` is the room's.

    Streams without curves get `target`, and so do all when fewer than FEWEST have some. The rest meet
    ``(1 - target) x their input`` together, or come as close as their allowed losses let them.
    """
    shares = [target] * len(streams)
    able = [number for number, stream in enumerate(streams) if len(stream.ln_bytes) and stream.input_rate > 0]
    if len(able) < FEWEST:
        return shares
    room = [streams[number] for number in able]
    for number, left in zip(able, _bytes(room, target), strict=True):
        share = 1.0 - float(left) / streams[number].input_rate
        shares[number] = min(max(share, 0.0), HIGHEST_TARGET)
    return shares


def _bytes(room: Sequence[Stream], target: float) -> Floats:
    """Bytes per second for each stream."""
    total = math.fsum(stream.input_rate for stream in room)
    budget = (1.0 - target) * total
    sizes, losses = _candidates(room)
    weights = sizes / total
    rows = np.arange(len(room))

    def at(price: float) -> Floats:
        chosen: Floats = sizes[rows, np.argmin(losses + price * weights, axis=1)]
        return chosen

    low, high = _LAMBDAS
    most, least = at(low), at(high)
    if math.fsum(most) <= budget:
        return most
    if math.fsum(least) >= budget:
        return least
    for _ in range(_ROUNDS):
        price = math.sqrt(low * high)
        there = at(price)
        if math.fsum(there) > budget:
            low, most = price, there
        else:
            high, least = price, there
    # Candidates are steps: at the price where some streams take theirs, all of those go the same part of the way.
    gap = math.fsum(most) - math.fsum(least)
    part = (math.fsum(most) - budget) / gap if gap > 0 else 0.0
    return most + part * (least - most)


def _candidates(room: Sequence[Stream]) -> tuple[Floats, Floats]:
    """(streams, n + 1) bytes and losses; what a stream may not lose, or has no candidate for, loses infinitely much.

    The last column is the point between two candidates where just what is allowed is lost.
    """
    widest = max(len(stream.ln_bytes) for stream in room)
    sizes = np.ones((len(room), widest + 1))
    losses = np.full((len(room), widest + 1), np.inf)
    for row, stream in enumerate(room):
        n = len(stream.ln_bytes)
        given = np.asarray(stream.loss, dtype=np.float64)
        ln_bytes = np.asarray(stream.ln_bytes, dtype=np.float64)
        losses[row, :n] = np.where(given <= stream.allowed_loss, given, np.inf)
        sizes[row, :n] = np.exp(ln_bytes)
        # At or below its lowest loss that is the first candidate, allowed or not: there is none better.
        losses[row, widest] = np.clip(stream.allowed_loss, given[0], given[-1])
        sizes[row, widest] = math.exp(float(np.interp(stream.allowed_loss, given, ln_bytes)))
        # More than the sender spends is never sent, and less than HIGHEST_TARGET leaves is never asked for.
        sizes[row] = np.clip(sizes[row], (1.0 - HIGHEST_TARGET) * stream.input_rate, stream.input_rate)
    return sizes, losses
