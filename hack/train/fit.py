"""Learns the two forests of a codec, by LightGBM: seeded, on one thread; the same lesson gives the same bytes."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightgbm
from auralink_aicore.features import NAMES

from hack.train.rows import Half, Lesson, lesson

TREES = 150
SEED = 1
REAL_WEIGHT = 4.0  # of a clip that was not put together: there are few of them, and calls look like them

# Of the loss: more of it at a higher q, less where our picture is nearer to the sender's. Of the bytes: fewer at a
# higher q.
_MONOTONE = {"ln_ratio": {"q": -1}, "loss": {"q": 1, "psnr": -1}}
_SETTINGS: Mapping[str, Any] = {
    "objective": "l2",  # l1 knows no monotone features
    "num_leaves": 8,
    "feature_fraction": 0.6,  # a tree sees some of them: with all, the few clips' own looks are learned by heart
    "learning_rate": 0.06,
    "min_data_in_leaf": 60,  # each window is there three or four times
    "max_bin": 127,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "seed": SEED,
    "verbose": -1,
}


def boosters(found: Sequence[Half]) -> dict[str, lightgbm.Booster]:
    """`ln_ratio` and `loss`."""
    return taught(lesson(found, REAL_WEIGHT))


def taught(told: Lesson, trees: int = TREES) -> dict[str, lightgbm.Booster]:
    return {name: _booster(told, name, trees) for name in _MONOTONE}


def _booster(told: Lesson, name: str, trees: int) -> lightgbm.Booster:
    monotone = [_MONOTONE[name].get(feature, 0) for feature in NAMES]
    data = lightgbm.Dataset(told.rows, getattr(told, name), weight=told.weight, feature_name=list(NAMES))
    return lightgbm.train({**_SETTINGS, "monotone_constraints": monotone}, data, trees)


def forest(booster: lightgbm.Booster) -> list[dict[str, list[Any]]]:
    """The trees as `auralink_aicore.model.trees.Forest` reads them. Raises ValueError for what it cannot say."""
    return [_tree(one["tree_structure"]) for one in booster.dump_model()["tree_info"]]


def _tree(root: Mapping[str, Any]) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {name: [] for name in ("feature", "threshold", "nan_left", "strikes", "value")}

    def walk(node: Mapping[str, Any]) -> int:
        """The leaves below, as bits; they are numbered as they are met."""
        if "leaf_value" in node:
            out["value"].append(float(node["leaf_value"]))
            return 1 << len(out["value"]) - 1
        if node["decision_type"] != "<=":
            raise ValueError(f"a condition {node['decision_type']!r}")
        at = len(out["feature"])
        # Where learning met no NaN, LightGBM takes one for zero.
        nan_left = node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0
        out["feature"].append(int(node["split_feature"]))
        out["threshold"].append(float(node["threshold"]))
        out["nan_left"].append(int(nan_left))
        out["strikes"].append(0)
        left = walk(node["left_child"])
        out["strikes"][at] = left
        return left | walk(node["right_child"])

    walk(root)
    return out
