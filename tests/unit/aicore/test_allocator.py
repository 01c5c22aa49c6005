"""How a room's bytes are shared: properties over synthetic streams."""

import itertools
import math

import numpy as np
import pytest
from auralink_aicore.allocator import HIGHEST_TARGET, Stream, allocate
from hypothesis import example, given
from hypothesis import strategies as st

CANDIDATES = np.arange(16, 46)


def stream(rate: float, anchor: float, k: float, slope: float, allowed_loss: float) -> Stream:
    """Bytes fall by a factor e every k steps from the sender's at q = anchor; loss rises ever faster from there."""
    q = CANDIDATES.astype(float)
    loss = slope * np.maximum(q - anchor, 0.0) ** 1.5
    return Stream(rate, allowed_loss, (math.log(rate) - (q - anchor) / k).tolist(), loss.tolist())


def loss_at(one: Stream, target: float) -> float:
    """Straight lines between the candidates."""
    ln_left = math.log((1 - target) * one.input_rate)
    return float(np.interp(-ln_left, -np.asarray(one.ln_bytes), one.loss))


def left(streams: list[Stream], shares: list[float]) -> float:
    return sum((1 - share) * one.input_rate for one, share in zip(streams, shares, strict=True))


streams = st.builds(
    stream,
    rate=st.floats(2e4, 5e5),
    anchor=st.floats(16, 30),
    k=st.floats(5, 25),
    slope=st.floats(0.02, 1.0),
    allowed_loss=st.floats(0.5, 12),
)
rooms = st.lists(streams, min_size=2, max_size=8)
targets = st.floats(0.0, 0.85)


@given(rooms, targets)
def test_no_stream_loses_more_than_it_may(room: list[Stream], target: float) -> None:
    for one, share in zip(room, allocate(room, target), strict=True):
        assert 0 <= share <= HIGHEST_TARGET
        if any(
            loss <= one.allowed_loss and ln < math.log(one.input_rate)
            for ln, loss in zip(one.ln_bytes, one.loss, strict=True)
        ):
            assert loss_at(one, share) <= one.allowed_loss + 1e-6


@given(rooms, targets)
def test_the_room_meets_its_budget_or_every_stream_stands_at_a_bound(room: list[Stream], target: float) -> None:
    shares = allocate(room, target)
    budget = (1 - target) * sum(one.input_rate for one in room)
    if left(room, shares) == pytest.approx(budget, rel=1e-6):
        return
    spends_more = left(room, shares) > budget
    for one, share in zip(room, shares, strict=True):
        at_limit = math.exp(float(np.interp(one.allowed_loss, one.loss, one.ln_bytes)))
        fewest = max(at_limit, (1 - HIGHEST_TARGET) * one.input_rate)
        # At the fewest bytes that its loss allows, or as near to the sender's as its best candidate is.
        bound = min(fewest, one.input_rate) if spends_more else one.input_rate
        assert (1 - share) * one.input_rate == pytest.approx(bound, rel=0.25 if not spends_more else 1e-6)


@given(streams, st.integers(2, 6), targets)
def test_equal_streams_get_equal_shares(one: Stream, copies: int, target: float) -> None:
    shares = allocate([one] * copies, target)
    assert shares == [shares[0]] * copies


@given(rooms, targets, st.randoms(use_true_random=False))
def test_the_order_of_the_streams_does_not_matter(room: list[Stream], target: float, random: object) -> None:
    order = list(range(len(room)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shares = allocate(room, target)
    shuffled = allocate([room[number] for number in order], target)
    assert shuffled == pytest.approx([shares[number] for number in order], abs=1e-6)


@given(rooms, targets, targets)
def test_a_room_that_saves_more_takes_it_from_every_stream_or_leaves_it(
    room: list[Stream], one: float, other: float
) -> None:
    low, high = sorted((one, other))
    for less, more in zip(allocate(room, low), allocate(room, high), strict=True):
        assert more >= less - 1e-6


@example(
    [stream(20000.0, 16.0, 5.0, 1.0, 1.0)] * 3
    + [stream(20000.0, 16.0, 5.0, 1.0, 6.0), stream(82706.0, 16.5, 5.0, 1.0, 1.0)],
    0.5,
)
@given(rooms, targets)
def test_together_they_lose_no_more_than_with_one_share_for_all(room: list[Stream], target: float) -> None:
    """At equal bytes; where one share for all would break no stream's bound."""
    shares = allocate(room, target)
    equal = 1 - left(room, shares) / sum(one.input_rate for one in room)
    if all(loss_at(one, equal) <= one.allowed_loss for one in room):
        spent = sum(loss_at(one, share) for one, share in zip(room, shares, strict=True))
        # The candidates are steps: between two of them the sum may stand above the curve by a part of a step.
        assert spent <= sum(loss_at(one, equal) for one in room) + 0.5 * len(room)


def test_the_stream_that_loses_little_gives_more() -> None:
    calm, busy = stream(1e5, 20, 8.66, 0.05, 12), stream(1e5, 20, 8.66, 0.3, 12)
    shares = allocate([calm, busy], 0.4)
    assert shares[0] > 0.45 > 0.35 > shares[1]
    together = loss_at(calm, shares[0]) + loss_at(busy, shares[1])
    assert together < 0.9 * (loss_at(calm, 0.4) + loss_at(busy, 0.4))


def test_no_other_split_of_two_streams_is_better() -> None:
    """Against trying them all."""
    one, other = stream(1e5, 20, 8.66, 0.05, 4), stream(2e5, 22, 12.0, 0.2, 6)
    shares = allocate([one, other], 0.5)
    budget = 0.5 * 3e5
    best = math.inf
    for tried in np.linspace(0, 0.9, 2000):
        rest = 1 - (budget - (1 - tried) * 1e5) / 2e5
        if 0 <= rest <= 0.9 and loss_at(one, tried) <= 4 and loss_at(other, rest) <= 6:
            best = min(best, loss_at(one, tried) + loss_at(other, rest))
    assert loss_at(one, shares[0]) + loss_at(other, shares[1]) <= best + 0.05


def test_without_curves_every_stream_gets_the_rooms_target() -> None:
    known, unknown = stream(1e5, 20, 8.66, 0.05, 4), Stream(3e5, 3.0)
    assert allocate([], 0.4) == []
    assert allocate([unknown, unknown], 0.4) == [0.4, 0.4]
    assert allocate([known, unknown], 0.4) == [0.4, 0.4]
    with_one_unknown = allocate([known, unknown, stream(1e5, 20, 8.66, 0.3, 4)], 0.4)
    assert with_one_unknown[1] == 0.4
    assert with_one_unknown[0] > with_one_unknown[2]


def test_streams_with_candidates_of_different_number_share_as_well() -> None:
    long, short = stream(1e5, 20, 8.66, 0.05, 12), stream(1e5, 20, 8.66, 0.05, 12)
    cut = Stream(short.input_rate, short.allowed_loss, short.ln_bytes[:20], short.loss[:20])
    assert allocate([long, cut], 0.4) == pytest.approx(allocate([long, short], 0.4))


def test_a_room_of_a_hundred_streams_is_shared_in_a_moment() -> None:
    room = [stream(1e5 + number, 20, 8.66, 0.05 + number / 1000, 6) for number in range(100)]
    shares = allocate(room, 0.4)
    assert left(room, shares) == pytest.approx(0.6 * sum(one.input_rate for one in room))
    assert all(a > b for a, b in itertools.pairwise(shares[::20]))
