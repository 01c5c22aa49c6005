"""Order, selection and merge of policies; the vectors hold the data plane to the same."""

import itertools
import json
from fnmatch import fnmatchcase
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import pytest
from auralink_operator.models import EFFECTS, LEAVES, Compiled, CompiledPolicy, parse_bridge, parse_policy
from auralink_operator.policies import compile_policies, merge, selects_room
from auralink_operator.policies.globs import Effort, OutOfEffortError, example
from auralink_operator.policies.merge import leaves_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.operator import samples

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors/policy_merge.json").read_text(encoding="utf-8")
)

# Every leaf with two values that differ.
DIFFERENT: list[tuple[str, Any, Any]] = [
    ("compression.mode", "Auto", "Always"),
    ("compression.targetSavingsPercent", 0, 90),
    ("compression.minSavingsPercent", 0, 10),
    ("compression.qualityLevel", 1, 10),
    ("compression.qualityFloor", 0, 100),
    ("compression.latencyBudgetMs", 1, 1000),
    ("compression.model", "", "m"),
    ("maxParticipants", 1, 1000),
    ("media.audio", "Allow", "Deny"),
    ("media.video", "Allow", "Deny"),
    ("media.screenShare", "Allow", "Deny"),
    ("media.data", "Allow", "Deny"),
    ("identity.privacy", "Full", "Hidden"),
    ("codecs", ["VP8"], ["VP8", "AV1"]),
]


def effect(name: str, leaf: str, value: Any) -> dict[str, Any]:
    """A policy that sets one leaf."""
    policy = samples.policy(name)
    parent, _, child = leaf.partition(".")
    del policy["spec"]["compression"]
    policy["spec"][parent] = {child: value} if child else value
    return policy


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_merge_as_in_the_vectors(vector: dict[str, Any]) -> None:
    policies = [
        CompiledPolicy(p["name"], p["priority"], 1, p["rooms"], {name: p[name] for name in EFFECTS if p.get(name)})
        for p in vector["policies"]
    ]
    room = vector["room"]
    assert merge(vector["bridge"]["compression"], policies, room["name"], room["labels"]) == vector["want"]


def test_the_vectors_leave_no_field_out() -> None:
    """What a policy can set, some vector has two policies disagree on: a new field cannot be forgotten."""
    disputed: set[str] = set()
    for vector in VECTORS:
        seen: dict[str, Any] = {}
        for policy in vector["policies"]:
            for name in EFFECTS:
                effect = policy.get(name)
                leaves = {f"{name}.{leaf}": value for leaf, value in effect.items()} if isinstance(effect, dict) else {}
                for leaf, value in (leaves or {name: effect}).items():
                    if value is not None and seen.setdefault(leaf, value) != value:
                        disputed.add(leaf)
    assert disputed - {"compression.roomsPercent"} == set(LEAVES)


def names(*policies: Any, bridge: Any = None) -> list[str]:
    compiled = compile_policies(parse_bridge(bridge or samples.bridge()), [parse_policy(p) for p in policies])
    return [policy.name for policy in compiled.policies]


def test_the_higher_priority_comes_first_then_the_older_then_the_name() -> None:
    low = samples.policy("a", 0, mode="Auto")
    younger = samples.policy("b", 5, created="2026-02-01T00:00:00Z", mode="Auto")
    older = samples.policy("z", 5, created="2026-01-01T00:00:00Z", mode="Auto")
    same_age = samples.policy("y", 5, created="2026-01-01T00:00:00Z", mode="Auto")
    assert names(low, younger, older, same_age) == ["y", "z", "b", "a"]


def test_a_selector_takes_only_bridges_with_its_labels() -> None:
    chosen = samples.policy("chosen", selector={"region": "eu"}, mode="Auto")
    assert names(chosen) == []
    assert names(chosen, bridge=samples.bridge(labels={"region": "eu", "x": "y"})) == ["chosen"]


def test_policies_of_other_namespaces_do_not_count() -> None:
    other = samples.policy("other", mode="Auto")
    other["metadata"]["namespace"] = "elsewhere"
    assert names(other) == []


def test_past_the_limit_the_least_important_drop_out() -> None:
    policies = [parse_policy(samples.policy(f"p{n:03}", n, mode="Auto")) for n in range(70)]
    compiled = compile_policies(parse_bridge(samples.bridge()), policies)
    assert len(compiled.policies) == 64
    assert compiled.dropped == ("p005", "p004", "p003", "p002", "p001", "p000")


def test_what_a_policy_loses_names_field_and_winner() -> None:
    policies = [
        parse_policy(samples.policy("high", 10, mode="Always", qualityLevel=9)),
        parse_policy(samples.policy("low", 0, mode="Disabled", qualityFloor=50)),
    ]
    high, low = compile_policies(parse_bridge(samples.bridge()), policies).policies
    assert high.overridden == ()
    assert low.overridden == ("compression.mode: high",)


def test_a_policy_for_other_rooms_takes_nothing_from_anyone() -> None:
    policies = [
        parse_policy(samples.policy("high", 10, rooms={"names": ["elsewhere"]}, mode="Always")),
        parse_policy(samples.policy("low", 0, mode="Disabled")),
    ]
    assert [p.overridden for p in compile_policies(parse_bridge(samples.bridge()), policies).policies] == [(), ()]


def compiled(*policies: Any, rooms: Any = None) -> Compiled:
    bridge = samples.bridge(**({"rooms": rooms} if rooms is not None else {}))
    return compile_policies(parse_bridge(bridge), [parse_policy(policy) for policy in policies])


def found(*policies: Any) -> list[tuple[str, str, str]]:
    return [(conflict.field, conflict.winner, conflict.loser) for conflict in compiled(*policies).conflicts]


def test_equals_that_want_different_things_are_in_conflict_and_the_message_says_why() -> None:
    older = samples.policy("older", 7, created="2026-01-01T00:00:00Z", mode="Always", rooms={"names": ["town-*"]})
    newer = samples.policy("newer", 7, created="2026-02-01T00:00:00Z", mode="Disabled", rooms={"names": ["*-hall"]})
    (conflict,) = compiled(newer, older).conflicts
    assert (conflict.field, conflict.winner, conflict.loser) == ("compression.mode", "older", "newer")
    assert conflict.why == 'both have priority 7 and can select rooms such as "town-hall"; older is older'


def test_equals_of_one_age_are_told_apart_by_name() -> None:
    (conflict,) = compiled(samples.policy("b", mode="Always"), samples.policy("a", mode="Auto")).conflicts
    assert (conflict.winner, conflict.loser) == ("a", "b")
    assert conflict.why.endswith("a comes first by name")


@pytest.mark.parametrize(("leaf", "one", "other"), DIFFERENT, ids=[leaf for leaf, _, _ in DIFFERENT])
def test_every_field_can_be_fought_over(leaf: str, one: Any, other: Any) -> None:
    assert found(effect("a", leaf, one), effect("b", leaf, other)) == [(leaf, "a", "b")]
    assert found(effect("a", leaf, one), effect("b", leaf, one)) == []
    (_, lost) = compiled(effect("a", leaf, one), effect("b", leaf, other)).policies
    assert lost.overridden == (f"{leaf}: a",)


def test_every_field_is_among_those_that_can_be_fought_over() -> None:
    assert [leaf for leaf, _, _ in DIFFERENT] == list(LEAVES)


def test_policies_that_agree_are_not_in_conflict_however_they_list_their_codecs() -> None:
    assert found(effect("a", "codecs", ["VP8", "AV1"]), effect("b", "codecs", ["AV1", "VP8"])) == []


def test_to_lose_to_a_higher_priority_is_no_conflict() -> None:
    assert found(samples.policy("a", 1, mode="Always"), samples.policy("b", 0, mode="Auto")) == []


def test_fields_that_only_one_of_them_sets_are_nobody_s_loss() -> None:
    assert found(samples.policy("a", mode="Always"), samples.policy("b", qualityLevel=3)) == []


def test_policies_whose_rooms_cannot_be_the_same_are_not_in_conflict() -> None:
    def pair(one: Any, other: Any) -> list[tuple[str, str, str]]:
        return found(samples.policy("a", rooms=one, mode="Auto"), samples.policy("b", rooms=other, mode="Always"))

    assert pair({"names": ["a*"]}, {"names": ["b*", "[!a]*"]}) == []
    assert pair({"labels": {"tier": "gold"}}, {"labels": {"tier": "silver"}}) == []
    assert len(pair({"labels": {"tier": "gold"}}, {"labels": {"site": "berlin"}})) == 1
    assert len(pair({"names": ["x", "a?c"]}, {"names": ["y", "*bc"]})) == 1


def test_each_field_is_lost_once_to_the_first_that_takes_it() -> None:
    policies = [samples.policy(name, qualityLevel=level) for name, level in (("a", 1), ("b", 2), ("c", 3))]
    assert found(*policies) == [("compression.qualityLevel", "a", "b"), ("compression.qualityLevel", "a", "c")]


def test_a_share_of_no_rooms_fights_for_nothing() -> None:
    assert found(samples.policy("a", mode="Auto", roomsPercent=0), samples.policy("b", mode="Always")) == []


def test_a_named_room_outside_of_the_share_is_not_fought_over() -> None:
    """CRC-32 of `demo` modulo 100 is known: the canary has that room or has it not."""
    share = crc32(b"demo") % 100
    for percent, expected in ((share, 0), (share + 1, 1)):
        canary = samples.policy("a", rooms={"names": ["demo"]}, mode="Auto", roomsPercent=percent)
        assert len(found(canary, samples.policy("b", mode="Always"))) == expected


def test_names_past_all_comparing_count_as_the_same_and_say_so() -> None:
    def tangled(end: str) -> Any:
        return {"names": [f"{number:02}" + "*a?" * 18 + f"*{end}" for number in range(64)]}

    policies = [
        samples.policy("a", rooms=tangled("x"), mode="Auto"),
        samples.policy("b", rooms=tangled("y"), mode="Always"),
    ]
    (conflict,) = compiled(*policies).conflicts
    assert "too many to be compared" in conflict.why


def endpoint_room(glob: str, **more: Any) -> dict[str, Any]:
    legs = [{"name": name, "endpoint": name} for name in ("jitsi", "livekit")]
    return {"name": "rooms", "glob": glob, "legs": legs, **more}


def test_in_rooms_known_by_glob_the_first_that_can_select_one_as_well_wins() -> None:
    high = samples.policy("high", 9, rooms={"names": ["team-*"]}, mode="Always")
    low = samples.policy("low", 1, rooms={"names": ["*-eu"]}, mode="Auto", qualityLevel=3)
    assert compiled(high, low, rooms=[endpoint_room("*")]).policies[1].overridden == ("compression.mode: high",)
    assert compiled(high, low, rooms=[endpoint_room("room-*")]).policies[1].overridden == ()
    labelled = samples.policy("high", 9, rooms={"labels": {"tier": "gold"}}, mode="Always")
    assert compiled(labelled, low, rooms=[endpoint_room("*")]).policies[1].overridden == ()
    gold = endpoint_room("*", labels={"tier": "gold"})
    assert compiled(labelled, low, rooms=[gold]).policies[1].overridden == ("compression.mode: high",)


some_names = st.lists(st.text("ab*?", min_size=1, max_size=3), min_size=1, max_size=2)
some_policies = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]),
        some_names,
        st.sampled_from([{}, {"tier": "gold"}, {"tier": "silver"}]),
        st.sampled_from(DIFFERENT),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@given(some_policies, st.randoms(use_true_random=False), st.text("ab", min_size=1, max_size=3))
def test_the_order_of_the_list_does_not_matter(drawn: list[Any], random: Random, room: str) -> None:
    """Neither to the order, nor to conflicts, nor to what any room comes to."""
    policies = []
    for number, (priority, created, names, labels, (leaf, one, other), first) in enumerate(drawn):
        policy = effect(f"p{number}", leaf, one if first else other)
        policy["metadata"]["creationTimestamp"] = created
        policy["spec"] |= {"priority": priority, "rooms": {"names": names, "labels": labels}}
        policies.append(parse_policy(policy))
    bridge = parse_bridge(samples.bridge(rooms=[samples.room(room, labels={"tier": "gold"})]))
    shuffled = list(policies)
    random.shuffle(shuffled)
    want, have = compile_policies(bridge, policies), compile_policies(bridge, shuffled)
    assert have == want
    own = bridge.spec.compression.written_out()
    assert merge(own, have.policies, room, {"tier": "gold"}) == merge(own, want.policies, room, {"tier": "gold"})


@given(some_policies, st.text("ab", min_size=1, max_size=3))
def test_whoever_loses_a_room_by_chance_is_told(drawn: list[Any], room: str) -> None:
    """In any room at all: where equals disagree on a field that none stronger settles, a conflict names it."""
    policies = []
    for number, (priority, created, names, _, (leaf, one, other), first) in enumerate(drawn):
        policy = effect(f"p{number}", leaf, one if first else other)
        policy["metadata"]["creationTimestamp"] = created
        policy["spec"] |= {"priority": priority, "rooms": {"names": names}}
        policies.append(parse_policy(policy))
    result = compile_policies(parse_bridge(samples.bridge()), policies)
    named = {(conflict.field, conflict.loser) for conflict in result.conflicts}
    won: dict[str, tuple[int, Any]] = {}
    for chosen in result.policies:
        if selects_room(chosen.rooms, room, {}):
            for leaf, value in leaves_of(chosen, room).items():
                priority, winner = won.setdefault(leaf, (chosen.priority, value))
                assert priority != chosen.priority or winner == value or (leaf, chosen.name) in named


short = st.text("ab-]![*?", min_size=1, max_size=5)
NAMES = ["".join(name) for length in range(1, 5) for name in itertools.product("ab-]", repeat=length)]


@settings(max_examples=400)
@given(st.lists(short, min_size=2, max_size=3))
def test_globs_overlap_exactly_where_a_name_fits_all_of_them(globs: list[str]) -> None:
    name = example(globs, Effort(100_000))
    fitting = [each for each in NAMES if all(fnmatchcase(each, glob) for glob in globs)]
    if name is None:
        assert fitting == []
    else:
        assert name
        assert all(fnmatchcase(name, glob) for glob in globs)
        assert all(len(name) <= len(each) for each in fitting)


@pytest.mark.parametrize(
    ("globs", "name"),
    [
        (("*", "*"), "a"),
        (("a[b-d]", "a[d-f]"), "ad"),
        (("a[!a-z]", "a?"), "a0"),
        (("[b-a]", "*"), None),
        (("[!b-a]", "*"), "a"),
        (("[]]", "*"), "]"),
        (("[a", "*"), "[a"),
        (("a*b*c", "*x*"), "axbc"),
        (("??", "???"), None),
        (("[ab]", "[bc]", "[ac]"), None),
    ],
)
def test_globs_are_read_as_pods_read_them(globs: tuple[str, ...], name: str | None) -> None:
    assert example(globs, Effort(1000)) == name
    assert name is None or all(fnmatchcase(name, glob) for glob in globs)


def test_what_globs_of_strangers_may_cost_is_bounded() -> None:
    with pytest.raises(OutOfEffortError):
        example(("*a*b*c" * 10, "*a?b*" * 12), Effort(50))
