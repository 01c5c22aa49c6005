"""Order, selection and merge of policies; the vectors hold the data plane to the same."""

import json
from pathlib import Path
from typing import Any

import pytest
from auralink_operator.models import CompiledPolicy, parse_bridge, parse_policy
from auralink_operator.policies import compile_policies, merge
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.operator import samples

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors/policy_merge.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_merge_as_in_the_vectors(vector: dict[str, Any]) -> None:
    policies = [
        CompiledPolicy(p["name"], p["priority"], 1, p["rooms"], {"compression": p["compression"]})
        for p in vector["policies"]
    ]
    room = vector["room"]
    assert (
        merge(vector["bridge"]["compression"], policies, room["name"], room["labels"])["compression"] == vector["want"]
    )


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


@given(st.permutations(range(6)))
def test_the_order_of_the_list_does_not_matter(order: list[int]) -> None:
    policies = [parse_policy(samples.policy(f"p{n}", n % 3, qualityLevel=n + 1)) for n in range(6)]
    bridge = parse_bridge(samples.bridge())
    assert compile_policies(bridge, [policies[n] for n in order]) == compile_policies(bridge, policies)
