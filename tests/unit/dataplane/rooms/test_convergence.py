"""Whatever is lost, doubled or late: after two listings the room is known as it is, and each side shows the other."""

import os

from auralink_dataplane.policy import Rules
from auralink_dataplane.rooms.events import Side
from auralink_dataplane.rooms.plan import plan
from auralink_dataplane.rooms.state import apply
from auralink_dataplane.rooms.tables import Outcome
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.dataplane.rooms.world import LONGEST_DELAY_S, Bridge, World, is_mirror_of_a_mirror

WORLDS = int(os.environ.get("AURALINK_WORLDS", "100"))
"""Of each property."""
worlds = settings(max_examples=WORLDS, deadline=None)
seeds = st.integers(0, 2**32 - 1)


@worlds
@given(seed=seeds, acts=st.integers(0, 60))
def test_any_order_loss_and_repetition_converges_to_the_truth_in_two_listings(seed: int, acts: int) -> None:
    bridge = Bridge(World(seed), acts=False)
    world = bridge.world
    for step in range(acts):
        bridge.second(acts=True)
        if step % 10 == 9:
            bridge.ask_both()
    for _ in range(int(LONGEST_DELAY_S) + 1):  # until the last straggler has come
        bridge.second()
    for _ in range(2):
        world.now += 1.0
        listings = [world.listing(side, world.now - 0.5) for side in Side]
        for listing in listings:
            bridge.take(listing)
        missing = {side: set(world.people[side]) - set(bridge.state.side(side).people) for side in Side}
        assert not any(missing.values())  # one listing is enough for that
    for side in Side:
        known = {name: one.participant for name, one in bridge.state.side(side).people.items()}
        assert known == world.people[side]
    for listing in listings:
        assert apply(bridge.state, listing, world.now)[0] is bridge.state
    assert Outcome.ILLEGAL not in {change.outcome for change in bridge.changes}


@worlds
@given(seed=seeds, acts=st.integers(0, 60), takeovers=st.sets(st.integers(0, 60), max_size=2))
def test_after_quiet_each_side_shows_the_others_people_and_nothing_is_left_to_do(
    seed: int, acts: int, takeovers: set[int]
) -> None:
    bridge = Bridge(World(seed))
    for step in range(acts):
        if step in takeovers:
            bridge.move_to_another_pod()
        bridge.second(acts=True)
        if step % 10 == 9:
            bridge.ask_both()
        for side in Side:
            assert not any(is_mirror_of_a_mirror(bridge.world, one) for one in bridge.world.mirrors(side))
    bridge.trouble = False
    quiet = int(LONGEST_DELAY_S) + 100
    for second in range(quiet):
        bridge.second()
        if second % 10 == 9:
            bridge.ask_both()
    for side in Side:
        shown = bridge.shown(side)
        assert len(shown) == len(set(shown))
        assert set(shown) == bridge.expected(side)
    assert plan(bridge.state, bridge.rules, bridge.world.now) == ()
    bridge.begun.clear()
    for _ in range(30):
        bridge.second()
    bridge.ask_both()
    bridge.second()
    assert bridge.begun == []
    assert Outcome.ILLEGAL not in {change.outcome for change in bridge.changes}


@worlds
@given(seed=seeds, acts=st.integers(0, 60), most=st.integers(1, 6))
def test_after_quiet_as_many_are_shown_as_the_policy_allows(seed: int, acts: int, most: int) -> None:
    bridge = Bridge(World(seed), Rules(max_participants=most))
    for step in range(acts):
        bridge.second(acts=True)
        if step % 10 == 9:
            bridge.ask_both()
    bridge.trouble = False
    for second in range(int(LONGEST_DELAY_S) + 100):
        bridge.second()
        if second % 10 == 9:
            bridge.ask_both()
    shown = [one for side in Side for one in bridge.shown(side)]
    expected = set.union(*(bridge.expected(side) for side in Side))
    assert len(shown) == min(most, len(expected))
    assert set(shown) <= expected


@worlds
@given(seed=seeds, most=st.integers(1, 6))
def test_no_more_than_the_policys_maximum_are_ever_held(seed: int, most: int) -> None:
    bridge = Bridge(World(seed), Rules(max_participants=most), trouble=False)
    for _ in range(60):
        bridge.second(acts=True)
        assert len(bridge.state.mirrors) <= most
    for second in range(60):
        bridge.second()
        if second % 10 == 9:
            bridge.ask_both()
    open_homes = [one for side in Side if bridge.world.sids[side.other] for one in bridge.world.real(side)]
    real = sum(len(bridge.world.real(side)) for side in Side)
    assert len(bridge.state.mirrors) <= min(most, len(open_homes))
    if all(bridge.world.sids.values()):
        assert len(bridge.state.mirrors) == min(most, real)


@worlds
@given(seed=seeds)
def test_where_every_event_comes_in_order_listings_correct_nothing(seed: int) -> None:
    bridge = Bridge(World(seed), trouble=False, acts=False)
    for step in range(60):
        bridge.second(acts=True)
        if step % 10 == 9:
            bridge.second()  # nothing is on its way when it is asked for
            bridge.ask_both()
    assert {change.outcome for change in bridge.changes if change.is_correction} == set()
