"""Scenes come by chance, and the same chance makes the same scene."""

import random
from pathlib import Path

import pytest

from hack.train import scenes


def chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - to be repeatable


@pytest.mark.parametrize("size", scenes.SIZES)
def test_a_seed_always_makes_the_same_scene_and_another_seed_another(size: str) -> None:
    folder = Path("/photographs")
    first, again, other = (scenes._composed(chance(seed), folder, size) for seed in (1, 1, 2))
    assert first == again != other


def test_a_scene_has_a_background_and_something_else_before_it() -> None:
    for seed in range(50):
        back, settings = scenes._composed(chance(seed), Path("/photographs"), "360p")
        graph = settings[1]
        assert "overlay" in graph
        assert f"movie={back}" not in graph
