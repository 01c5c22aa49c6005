"""How a pod goes: every line of the table, and that it always ends."""

from dataclasses import replace

import pytest
from auralink_dataplane.rooms.drain import Drain, Facts, Stage, Times, advance
from hypothesis import given
from hypothesis import strategies as st

TIMES = Times(propagation_s=5, timeout_s=60)
BUSY = Facts(asked=True, sessions=3)


def stages(*looks: tuple[float, Facts]) -> list[str]:
    drain, found = Drain(), []
    for now, facts in looks:
        drain = advance(drain, facts, TIMES, now)
        found.append(drain.stage.value)
    return found


def test_nothing_happens_until_somebody_asks() -> None:
    assert stages((0, Facts()), (1e9, Facts(sessions=5))) == ["serving", "serving"]


def test_media_flows_for_as_long_as_the_news_take_also_without_sessions() -> None:
    idle = Facts(asked=True)
    assert stages((10, idle), (14.9, idle), (15, idle)) == ["refuse", "refuse", "exit"]


def test_it_waits_while_rooms_move_and_ends_with_the_last() -> None:
    moving = replace(BUSY, moving=2)
    assert stages((0, BUSY), (5, moving), (30, moving), (31, replace(moving, moving=0, sessions=0))) == [
        "refuse", "handover", "handover", "exit",
    ]  # fmt: skip


def test_sessions_that_do_not_move_are_waited_for() -> None:
    assert stages((0, BUSY), (5, BUSY), (64, BUSY), (64.5, replace(BUSY, sessions=0))) == [
        "refuse", "wait", "wait", "exit",
    ]  # fmt: skip


def test_the_deadline_ends_it_whatever_is_left() -> None:
    assert stages((0, BUSY), (64.9, replace(BUSY, moving=1)), (65, replace(BUSY, moving=1)))[1:] == ["handover", "exit"]


def test_with_strategy_wait_nothing_is_handed_over() -> None:
    waiting = replace(BUSY, hands_over=False, moving=1)
    assert stages((0, waiting), (5, waiting)) == ["refuse", "wait"]


@pytest.mark.parametrize("at", [0.1, 5, 30])
def test_a_second_signal_ends_it_at_once(at: float) -> None:
    assert stages((0, BUSY), (at, replace(BUSY, forced=True)))[-1] == "exit"


def test_a_bridge_that_is_gone_is_not_waited_for() -> None:
    """It has been gone for as long as news take before anybody calls it abandoned."""
    assert stages((0, Facts(abandoned=True, sessions=9, moving=1))) == ["exit"]
    assert stages((0, BUSY), (5, BUSY), (6, replace(BUSY, abandoned=True)))[-1] == "exit"


FACTS = st.builds(
    Facts, st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 3), st.integers(0, 3)
)


@given(st.lists(st.tuples(st.floats(0, 20), FACTS), max_size=30))
def test_it_goes_one_way_only_and_is_over_by_the_deadline(looks: list[tuple[float, Facts]]) -> None:
    drain, now = Drain(), 0.0
    order = list(Stage)
    for wait, facts in looks:
        now += wait
        after = advance(drain, facts, TIMES, now)
        assert order.index(after.stage) >= order.index(drain.stage)
        assert advance(after, facts, TIMES, now) == after
        assert not after.draining or after.stage is Stage.EXIT or now < after.deadline(TIMES)
        drain = after
