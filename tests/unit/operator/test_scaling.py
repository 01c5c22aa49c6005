"""Who serves which room, how many pods there are, which goes first: without need nothing moves."""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

import pytest
from auralink_operator.models import Autoscaling, Driver, PodView
from auralink_operator.scaling import (
    DELETION_COST,
    PACE_DOWN_S,
    Memory,
    Replicas,
    autoscaled,
    deletion_costs,
    gated,
    marked,
    owners,
    recommended,
    to_mark,
    under_hpa,
    unmarked,
    upper_bound,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.operator import samples

BUCKETS = (0, 1, 2, 5, 10, 20, 50, 100, 200)
ROOMS = [f"room-{number}" for number in range(60)]


def pod(name: str, sessions: int = 1, phase: str = "Serving", *, ready: bool = True, deleting: bool = False) -> PodView:
    entry = {"phase": phase, "sessions": sessions} if phase else {}
    return PodView(name, f"uid-{name}", f"10.0.0.{name[1:]}", "node-1", ready, deleting, entry)


@st.composite
def pods(draw: st.DrawFn, least: int = 0) -> list[PodView]:
    numbers = draw(st.lists(st.integers(0, 20), min_size=least, max_size=8, unique=True))
    return [
        pod(
            f"p{number}",
            draw(st.sampled_from(BUCKETS)),
            draw(st.sampled_from(("Serving", "Serving", "Starting", "Draining", ""))),
            ready=draw(st.sampled_from((True, True, False))),
            deleting=draw(st.sampled_from((False, False, True))),
        )
        for number in numbers
    ]


targets = st.one_of(st.none(), st.integers(1, 200))


def names(found: dict[str, PodView]) -> dict[str, str]:
    return {room: owner.name for room, owner in found.items()}


# --- owners --------------------------------------------------------------------------------------------------------


@given(pods(), st.dictionaries(st.sampled_from(ROOMS), st.sampled_from([f"p{n}" for n in range(21)])), targets)
def test_a_second_look_moves_nothing(there: list[PodView], current: dict[str, str], target: int | None) -> None:
    once = names(owners(ROOMS, there, current, target))
    assert names(owners(ROOMS, there, once, target)) == once
    assert names(owners(ROOMS, list(reversed(there)), once, target)) == once


@given(pods(), st.dictionaries(st.sampled_from(ROOMS), st.sampled_from([f"p{n}" for n in range(21)])), targets)
def test_a_room_has_an_owner_that_serves_as_soon_as_one_does(
    there: list[PodView], current: dict[str, str], target: int | None
) -> None:
    found = owners(ROOMS, there, current, target)
    if any(one.serving for one in there):
        assert set(found) == set(ROOMS)
        assert all(owner.serving for owner in found.values())
    else:
        assert names(found) == {room: name for room, name in current.items() if name in {one.name for one in there}}


@given(pods(), pods(), targets)
def test_a_room_leaves_a_serving_pod_only_if_that_is_idle_or_crowded(
    before: list[PodView], after: list[PodView], target: int | None
) -> None:
    first = names(owners(ROOMS, before, {}, target))
    now = {one.name: one for one in after}
    for room, owner in owners(ROOMS, after, first, target).items():
        had = now.get(first.get(room, ""))
        if had is not None and had.serving and owner is not had:
            reported = int(had.entry["sessions"])
            assert reported == 0 or (target is not None and upper_bound(reported) > target)
            assert target is None or upper_bound(int(owner.entry["sessions"])) <= target


def test_a_pod_that_comes_up_takes_nothing_from_pods_with_sessions() -> None:
    first = names(owners(ROOMS, [pod("p1", 5), pod("p2", 5)]))
    assert names(owners(ROOMS, [pod("p1", 5), pod("p2", 5), pod("p3", 0)], first, 50)) == first


def test_a_pod_that_comes_up_takes_its_share_from_idle_pods() -> None:
    first = names(owners(ROOMS, [pod("p1", 0), pod("p2", 0)]))
    then = names(owners(ROOMS, [pod("p1", 0), pod("p2", 0), pod("p3", 0)], first))
    moved = {room for room in ROOMS if then[room] != first[room]}
    assert {then[room] for room in moved} == {"p3"}
    assert 10 <= len(moved) <= 30


def test_a_scale_up_relieves_the_pod_that_has_too_much() -> None:
    first = names(owners(ROOMS, [pod("p1", 50)]))
    then = names(owners(ROOMS, [pod("p1", 50), pod("p2", 0)], first, 50))
    assert 20 <= sum(owner == "p2" for owner in then.values()) <= 40
    relieved = names(owners(ROOMS, [pod("p1", 20), pod("p2", 20)], then, 50))
    assert relieved == then


def test_a_pod_that_leaves_moves_its_own_rooms_only() -> None:
    three = [pod("p1"), pod("p2"), pod("p3")]
    first = names(owners(ROOMS, three))
    assert set(first.values()) == {"p1", "p2", "p3"}
    for leaving in (pod("p2", 1, "Draining"), pod("p2", deleting=True), pod("p2", ready=False)):
        then = names(owners(ROOMS, [three[0], leaving, three[2]], first))
        assert {room for room in ROOMS if then[room] != first[room]} == {r for r in ROOMS if first[r] == "p2"}
        assert "p2" not in then.values()


def test_the_last_pod_keeps_its_rooms_while_it_leaves() -> None:
    first = names(owners(ROOMS, [pod("p1")]))
    leaving = pod("p1", 1, "Draining", ready=False, deleting=True)
    assert names(owners(ROOMS, [leaving], first)) == first
    assert names(owners(ROOMS, [leaving, pod("p2", 0, "Starting", ready=False)], first)) == first
    assert set(names(owners(ROOMS, [leaving, pod("p2", 0)], first)).values()) == {"p2"}
    assert owners(ROOMS, [], first) == {}


# --- costs ---------------------------------------------------------------------------------------------------------


def annotated(name: str, cost: str | None) -> dict[str, object]:
    found = samples.pod(name)
    if cost is not None:
        found["metadata"]["annotations"][DELETION_COST] = cost
    return found


def test_a_pod_costs_what_it_reports() -> None:
    there = [pod("p1", 5), pod("p2", 0), pod("p3", 20, deleting=True), pod("p4", phase="")]
    assert deletion_costs(there, 3) == {"p1": 5, "p2": 0, "p4": 0}
    assert deletion_costs(there, 1) == {}


def test_only_a_cost_that_has_changed_is_written() -> None:
    there = [annotated("p1", "5"), annotated("p2", None), annotated("p3", "2"), annotated("p4", None)]
    assert unmarked({"p1": 5, "p2": 0, "p3": 5, "p4": 1}, there) == ["p3", "p4"]


def test_a_pod_is_marked_at_most_once_in_ten_seconds() -> None:
    memory = Memory()
    there = [pod("p1"), pod("p2")]
    assert to_mark(["p1"], memory, 100.0) == (["p1"], None)
    marked("p1", there, memory, 100.0)
    assert to_mark(["p1", "p2"], memory, 104.0) == (["p2"], 6.0)
    marked("p2", there, memory, 104.0)
    assert to_mark(["p1", "p2"], memory, 110.0) == (["p1"], 4.0)
    marked("p2", [pod("p2")], memory, 200.0)
    assert list(memory.costs_written) == ["p2"]


@pytest.mark.parametrize(
    ("wanted", "live", "missing", "rendered"),
    [(2, 3, True, 3), (2, 3, False, 2), (4, 3, True, 4), (0, 3, True, 0), (2, None, True, 2), (3, 3, True, 3)],
)
def test_replicas_are_lowered_only_when_every_pod_shows_its_cost(
    wanted: int, live: int | None, missing: bool, rendered: int
) -> None:
    found = gated(wanted, live, missing)
    assert (found.wanted, found.rendered) == (wanted, rendered)
    assert found.held == (rendered != wanted)


# --- drivers -------------------------------------------------------------------------------------------------------


def test_replicas_go_over_to_the_hpa() -> None:
    assert under_hpa(2, None, others_own_it=False) == Replicas(2, 2)
    assert under_hpa(2, 5, others_own_it=False) == Replicas(5, 5)
    assert under_hpa(2, 0, others_own_it=False) == Replicas(2, 2)
    assert under_hpa(2, 5, others_own_it=True) == Replicas(None, None)
    assert under_hpa(2, 0, others_own_it=True) == Replicas(2, 2)  # else nobody would ever start it again


def test_the_upper_bound_of_a_bucket_ends_below_the_next() -> None:
    assert [upper_bound(bucket) for bucket in (0, 1, 2, 5, 10, 20, 50, 100)] == [0, 1, 4, 9, 19, 49, 99, 199]
    assert upper_bound(50_000) == 100_000


def rule(least: int = 1, most: int = 10) -> Autoscaling:
    return Autoscaling(driver=Driver.OPERATOR, min_replicas=least, max_replicas=most)


def serving(*sessions: int) -> list[PodView]:
    return [pod(f"p{number}", count) for number, count in enumerate(sessions, 1)]


@pytest.mark.parametrize(
    ("buckets", "target", "wanted"),
    [
        ((20,), 50, 1),  # 49 of 50: within the tolerance
        ((50,), 50, 2),  # 99
        ((50, 50), 50, 4),
        ((10, 10), 50, 1),  # 38
        ((20, 20), 45, 2),  # 98 of 90: 9 % over
        ((20, 20), 44, 3),  # 98 of 88: 11 % over
        ((0, 0, 0), 50, 0),
    ],
)
def test_as_many_pods_as_the_sessions_need(buckets: tuple[int, ...], target: int, wanted: int) -> None:
    assert recommended(serving(*buckets), len(buckets), target) == wanted


def test_pods_that_say_nothing_yet_count_against_a_change() -> None:
    starting = pod("p9", 0, "Starting", ready=False)
    assert recommended([*serving(50), starting], 2, 50) == 2  # 99 on 2: enough once the other is there
    assert recommended([*serving(200), starting], 2, 50) == 10  # 499
    assert recommended([*serving(1), starting], 2, 50) == 2  # 1 and 50 at the most
    assert recommended([*serving(1, 1), starting], 3, 50) == 2
    assert recommended([starting], 3, 50) == 3


def test_pods_on_their_way_out_do_not_count() -> None:
    leaving = [pod("p8", 100, deleting=True), pod("p9", 100, "Draining")]
    assert recommended([*serving(20), *leaving], 3, 50) == 3
    assert recommended([*serving(10), *leaving], 3, 50) == 1


@given(st.lists(st.sampled_from(BUCKETS), min_size=1, max_size=10), st.integers(1, 300))
def test_without_silent_pods_the_number_is_sessions_by_target(buckets: list[int], target: int) -> None:
    total = sum(upper_bound(bucket) for bucket in buckets)
    found = recommended(serving(*buckets), len(buckets), target)
    assert found == ceil(total / target) or (found == len(buckets) and abs(total / (target * len(buckets)) - 1) <= 0.1)


def test_more_at_once_and_within_bounds() -> None:
    assert autoscaled(rule(most=12), serving(200), 1, Memory(), 0.0) == (10, None)
    assert autoscaled(rule(most=5), serving(200), 1, Memory(), 0.0) == (5, None)
    assert autoscaled(rule(3), serving(0), 1, Memory(), 0.0) == (3, None)
    assert autoscaled(rule(most=4), serving(200) * 6, 6, Memory(), 0.0) == (4, None)
    assert autoscaled(rule(2), [], None, Memory(), 0.0) == (2, None)


def run(bounds: Autoscaling, load: Sequence[tuple[float, int]], live: int, until: float) -> list[tuple[float, int]]:
    """Looks every second at pods that share `load`: (from when, sessions per pod); answers when it changed to what."""
    memory, changes = Memory(), []
    now = 0.0
    while now <= until:
        bucket = next(sessions for since, sessions in reversed(load) if since <= now)
        wanted, _ = autoscaled(bounds, serving(*[bucket] * live), live, memory, now)
        if wanted != live:
            live = wanted
            changes.append((now, live))
        now += 1.0
    return changes


def test_fewer_only_after_the_window_and_one_a_minute() -> None:
    assert run(rule(2), [(0, 0)], 4, 600) == [(300, 3), (301 + PACE_DOWN_S, 2)]  # seen a second later


def test_a_peak_within_the_window_holds_the_number() -> None:
    changes = run(rule(), [(0, 0), (200, 20), (202, 0)], 2, 700)
    assert changes == [(501, 1)]


def test_a_restarted_operator_waits_a_whole_window_before_it_lowers() -> None:
    assert autoscaled(rule(), serving(0, 0), 2, Memory(), 5000.0) == (2, 300.0)


def test_the_next_look_is_when_the_answer_may_change() -> None:
    memory = Memory()
    live, after_s = autoscaled(rule(), serving(0, 0, 0), 3, memory, 0.0)
    assert (live, after_s) == (3, 300.0)
    assert autoscaled(rule(), serving(0, 0, 0), 3, memory, 300.0) == (2, PACE_DOWN_S)
    assert autoscaled(rule(), serving(0, 0), 2, memory, 310.0) == (2, 60.0)
    assert autoscaled(rule(), serving(0, 0), 2, memory, 370.0)[0] == 1


@given(st.lists(st.tuples(st.floats(0, 60), st.sampled_from(BUCKETS)), max_size=200))
def test_what_is_remembered_has_a_bound_and_the_answer_stays_within_the_bounds(
    steps: list[tuple[float, int]],
) -> None:
    memory, now, live, bounds = Memory(), 0.0, 3, rule(2)
    for passed, bucket in steps:
        now += passed
        wanted, after_s = autoscaled(bounds, serving(*[bucket] * live), live, memory, now)
        assert 2 <= wanted <= 10
        assert wanted >= live - 1
        assert after_s is None or after_s > 0
        assert len(memory.recommended) <= 11
        live = wanted


def test_the_memory_of_a_lowering_by_somebody_else_counts_too() -> None:
    memory = Memory()
    autoscaled(rule(), serving(0, 0, 0, 0), 4, memory, 0.0)
    assert autoscaled(rule(), serving(0, 0, 0), 3, memory, 300.0) == (3, PACE_DOWN_S)


def test_pods_are_equal_by_what_they_are() -> None:
    """Sticky owners compare names, not objects: a pod with a newer entry is the same pod."""
    first = names(owners(ROOMS, [pod("p1")]))
    newer = replace(pod("p1"), entry={"phase": "Serving", "sessions": 2})
    assert names(owners(ROOMS, [newer], first)) == first
