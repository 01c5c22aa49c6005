"""Which compression a room gets. The vectors are shared with the operator, which compiles what is merged here."""

import json
from pathlib import Path
from typing import Any

import pytest
from auralink_dataplane.policy import Compression, CompressionRule, Policy, RoomSelector, compression_for
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "policy_merge.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_rooms_get_what_both_sides_agree_on(vector: dict[str, Any]) -> None:
    bridge = TypeAdapter(Compression).validate_python(vector["bridge"]["compression"])
    policies = TypeAdapter(tuple[Policy, ...]).validate_python(vector["policies"])
    want = TypeAdapter(Compression).validate_python(vector["want"])
    assert compression_for(vector["room"]["name"], vector["room"]["labels"], bridge, policies) == want


def rule(**fields: Any) -> Policy:
    return Policy(name="p", compression=CompressionRule(**fields))


def test_the_bridge_comes_last() -> None:
    merged = compression_for("r", {}, Compression(quality_level=3), [rule(target_savings_percent=20)])
    assert (merged.target_savings_percent, merged.quality_level) == (20, 3)


def test_the_minimum_is_clamped_to_the_target() -> None:
    assert compression_for("r", {}, Compression(), [rule(target_savings_percent=10)]).min_savings_percent == 10


def test_zero_and_empty_are_values() -> None:
    merged = compression_for("r", {}, Compression(model="m"), [rule(target_savings_percent=0, model="")])
    assert (merged.target_savings_percent, merged.model) == (0, "")


@pytest.mark.parametrize(
    ("selector", "name", "labels", "selected"),
    [
        (RoomSelector(), "any", {}, True),
        (RoomSelector(names=("de*",)), "demo", {}, True),
        (RoomSelector(names=("DE*",)), "demo", {}, False),
        (RoomSelector(names=("a", "d?mo")), "demo", {}, True),
        (RoomSelector(labels={"tier": "gold"}), "demo", {"tier": "gold", "x": "y"}, True),
        (RoomSelector(labels={"tier": "gold"}), "demo", {"tier": "tin"}, False),
        (RoomSelector(names=("a*",), labels={"tier": "gold"}), "demo", {"tier": "gold"}, False),
    ],
)
def test_a_room_is_selected_by_name_and_labels(
    selector: RoomSelector, name: str, labels: dict[str, str], selected: bool
) -> None:
    assert selector.selects(name, labels) is selected


@given(st.text(min_size=1, max_size=20), st.integers(0, 99))
def test_a_canary_only_grows(name: str, percent: int) -> None:
    def hit(share: int) -> bool:
        policy = rule(quality_level=1, rooms_percent=share)
        return compression_for(name, {}, Compression(), [policy]).quality_level == 1

    assert hit(percent + 1) or not hit(percent)
    assert hit(100)
    assert not hit(0)
