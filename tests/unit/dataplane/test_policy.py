"""What a room gets. The vectors are shared with the operator, which compiles what is merged here."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from auralink_dataplane.policy import (
    Compression,
    CompressionRule,
    IdentityRule,
    Media,
    MediaRule,
    Policy,
    RoomSelector,
    Rules,
    rules_for,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "policy_merge.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_rooms_get_what_both_sides_agree_on(vector: dict[str, Any]) -> None:
    bridge = TypeAdapter(Compression).validate_python(vector["bridge"]["compression"])
    policies = TypeAdapter(tuple[Policy, ...]).validate_python(vector["policies"])
    merged = rules_for(vector["room"]["name"], vector["room"]["labels"], bridge, policies)
    assert merged == effective(vector["want"])


def effective(want: dict[str, Any]) -> Rules:
    """What the vector wants, in full: of all but compression it names only what policies set."""
    named = {name: want[name] for name in ("compression", "maxParticipants", "media", "codecs") if name in want}
    return TypeAdapter(Rules).validate_python({**named, **want.get("identity", {})})


def compression_of(
    name: str, labels: Mapping[str, str], bridge: Compression, policies: Sequence[Policy]
) -> Compression:
    return rules_for(name, labels, bridge, policies).compression


def test_each_effect_is_taken_from_the_first_policy_that_has_it() -> None:
    strong = Policy(name="strong", media=MediaRule(audio="Deny"), max_participants=5)
    weak = Policy(
        name="weak", media=MediaRule(audio="Allow", video="Deny"), max_participants=9, codecs=("VP8",),
        identity=IdentityRule(privacy="Hidden"), rooms=RoomSelector(names=("r*",)),
    )  # fmt: skip
    merged = rules_for("r", {}, Compression(), [strong, weak])
    assert (merged.media.audio, merged.media.video, merged.media.data) == ("Deny", "Deny", "Allow")
    assert (merged.max_participants, merged.codecs, merged.privacy) == (5, ("VP8",), "Hidden")
    assert rules_for("other", {}, Compression(), [weak]) == Rules()


def test_a_share_of_rooms_limits_compression_only() -> None:
    canary = Policy(name="c", compression=CompressionRule(quality_level=1, rooms_percent=0), max_participants=3)
    merged = rules_for("r", {}, Compression(), [canary])
    assert (merged.compression.quality_level, merged.max_participants) == (7, 3)


@pytest.mark.parametrize(
    ("rules", "video", "audio"),
    [
        (Rules(), True, True),
        (Rules(media=Media(video="Deny")), False, True),
        (Rules(media=Media(audio="Deny")), True, False),
        (Rules(codecs=("VP8", "AV1")), False, True),
        (Rules(codecs=("H264",)), True, True),
    ],
)
def test_what_goes_nowhere_is_not_compressed(rules: Rules, video: bool, audio: bool) -> None:
    """Codecs are of video: audio has one, and no policy for it."""
    assert (rules.forwards("video", "H264"), rules.forwards("audio", "Opus")) == (video, audio)
    assert rules.compression_of("video", "H264").enabled is video


def rule(**fields: Any) -> Policy:
    return Policy(name="p", compression=CompressionRule(**fields))


def test_the_bridge_comes_last() -> None:
    merged = compression_of("r", {}, Compression(quality_level=3), [rule(target_savings_percent=20)])
    assert (merged.target_savings_percent, merged.quality_level) == (20, 3)


def test_the_minimum_is_clamped_to_the_target() -> None:
    assert compression_of("r", {}, Compression(), [rule(target_savings_percent=10)]).min_savings_percent == 10


def test_zero_and_empty_are_values() -> None:
    merged = compression_of("r", {}, Compression(model="m"), [rule(target_savings_percent=0, model="")])
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
        return compression_of(name, {}, Compression(), [policy]).quality_level == 1

    assert hit(percent + 1) or not hit(percent)
    assert hit(100)
    assert not hit(0)
