"""Trees answer as their conditions say, and as the library that grew them does."""

import math
from typing import Any

import numpy as np
import pytest
from auralink_aicore.features import NAMES
from auralink_aicore.model.trees import Forest

ROOT_AND_LEFT: dict[str, list[Any]] = {
    # x0 <= 1 ? (x1 <= 5 ? 10 : 20) : 30
    "feature": [0, 1],
    "threshold": [1.0, 5.0],
    "nan_left": [0, 1],
    "strikes": [0b011, 0b001],
    "value": [10.0, 20.0, 30.0],
}


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ((1.0, 5.0), 10.0),
        ((1.0, 5.1), 20.0),
        ((1.1, 0.0), 30.0),
        ((math.nan, 0.0), 30.0),
        ((0.0, math.nan), 10.0),
        ((-math.inf, math.inf), 20.0),
    ],
)
def test_a_tree_is_gone_down_as_its_conditions_say(row: tuple[float, float], value: float) -> None:
    assert Forest([ROOT_AND_LEFT], 2).predict(np.array([row])).tolist() == [value]


def test_trees_of_different_sizes_are_summed_a_row_at_a_time() -> None:
    stump: dict[str, list[Any]] = {"feature": [], "threshold": [], "nan_left": [], "strikes": [], "value": [0.5]}
    found = Forest([ROOT_AND_LEFT, stump], 2).predict(np.array([(0.0, 0.0), (2.0, 0.0)]))
    assert found.tolist() == [10.5, 30.5]


def test_answers_are_lightgbms_own() -> None:
    pytest.importorskip("lightgbm")
    from hack.train import fit
    from hack.train.rows import Lesson

    chance = np.random.default_rng(3)
    rows = chance.normal(size=(3000, len(NAMES)))
    rows[chance.random(rows.shape) < 0.1] = math.nan
    rows[:, 0] = np.abs(chance.normal(size=3000))  # never NaN: there, LightGBM takes one for zero
    target = np.nan_to_num(rows[:, -2]) + np.nan_to_num(rows[:, 3]) * rows[:, 0]
    grown = fit.taught(Lesson(rows, -target, target, np.ones(3000)))
    asked = chance.normal(size=(1000, len(NAMES)))
    asked[chance.random(asked.shape) < 0.2] = math.nan
    asked[:50] = 0.0
    for name, booster in grown.items():
        ours = Forest(fit.forest(booster), len(NAMES)).predict(asked)
        assert np.abs(ours - booster.predict(asked)).max() < 1e-9, name


def test_the_same_lesson_gives_the_same_forest_bit_for_bit() -> None:
    pytest.importorskip("lightgbm")
    from hack.train import fit
    from hack.train.rows import Lesson

    chance = np.random.default_rng(4)
    rows = chance.normal(size=(500, len(NAMES)))
    lesson = Lesson(rows, -rows[:, 1], rows[:, 1], np.ones(500))
    first, second = (
        {name: fit.forest(booster) for name, booster in fit.taught(lesson, trees=10).items()} for _ in range(2)
    )
    assert first == second
