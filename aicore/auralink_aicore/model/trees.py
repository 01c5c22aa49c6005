"""Boosted regression trees, read from plain lists and asked with numpy alone. Pure; used by `model`.

All conditions of all trees are looked at in one go, as in QuickScorer (Lucchese et al., SIGIR 2015): a tree's leaves
are numbered from left to right, a condition that does not hold strikes the leaves of its left branch, and of those that
remain the leftmost is the answer. So a handful of numpy calls answer for every row and tree, however deep.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

MAX_TREES: Final = 1000
MAX_LEAVES: Final = 16  # of a tree: a bit each

Floats = npt.NDArray[np.float64]

_ALL: Final = (1 << MAX_LEAVES) - 1


class BadTreesError(ValueError):
    """What was read is no forest; the text says why."""


class Forest:
    """Trees whose leaves' values are summed."""

    def __init__(self, trees: Sequence[Mapping[str, Sequence[Any]]], features: int) -> None:
        """Each tree: `feature`, `threshold`, `nan_left` and `strikes` by node, `value` by leaf from left to right.

        A row goes left where its feature is <= threshold, and where it is NaN and `nan_left` is set; NaN elsewhere
        goes right. `strikes` is a bit per leaf of the left branch. Raises BadTreesError.
        """
        if not 0 < len(trees) <= MAX_TREES:
            raise BadTreesError(f"{len(trees)} trees, allowed are 1 to {MAX_TREES}")
        widest = max(len(_list(tree, "feature")) for tree in trees)
        shape = (len(trees), max(widest, 1))
        self._feature = np.zeros(shape, np.intp)
        self._threshold = np.full(shape, np.inf)
        self._nan_left = np.ones(shape, bool)
        self._keeps = np.full(shape, _ALL, np.uint16)  # if the condition does not hold
        self._value = np.zeros((len(trees), MAX_LEAVES))
        for number, tree in enumerate(trees):
            self._read(number, tree, features)
        self._rows = np.arange(len(trees))

    def _read(self, number: int, tree: Mapping[str, Sequence[Any]], features: int) -> None:
        feature, threshold, nan_left, strikes, value = (
            _list(tree, name) for name in ("feature", "threshold", "nan_left", "strikes", "value")
        )
        nodes = len(feature)
        if not len(threshold) == len(nan_left) == len(strikes) == nodes == len(value) - 1 < MAX_LEAVES:
            raise BadTreesError(f"tree {number} has {nodes} nodes and {len(value)} leaves")
        if not all(type(one) is int and 0 <= one < features for one in feature):
            raise BadTreesError(f"tree {number} asks for a feature that there is not")
        if not all(type(one) is int and 0 < one < 1 << len(value) for one in strikes):
            raise BadTreesError(f"tree {number} strikes leaves that there are not")
        try:
            self._threshold[number, :nodes] = threshold
            self._value[number, : nodes + 1] = value
        except (TypeError, ValueError) as error:
            raise BadTreesError(f"tree {number} has something that is no number") from error
        if not (np.isfinite(self._threshold[number, :nodes]).all() and np.isfinite(self._value[number]).all()):
            raise BadTreesError(f"tree {number} has a number that is not finite")
        self._feature[number, :nodes] = feature
        self._nan_left[number, :nodes] = [bool(one) for one in nan_left]
        self._keeps[number, :nodes] = [_ALL & ~one for one in strikes]

    def predict(self, rows: Floats) -> Floats:
        """(n,) for (n, features)."""
        asked = rows[:, self._feature]  # (n, trees, nodes)
        holds = asked <= self._threshold
        if np.isnan(rows).any():
            holds |= np.isnan(asked) & self._nan_left
        left = np.bitwise_and.reduce(np.where(holds, np.uint16(_ALL), self._keeps), axis=2)
        leaf = _LOWEST_BIT[left]
        summed: Floats = self._value[self._rows, leaf].sum(axis=1)
        return summed


def _list(tree: Mapping[str, Sequence[Any]], name: str) -> Sequence[Any]:
    found = tree.get(name) if isinstance(tree, Mapping) else None
    if not isinstance(found, list):
        raise BadTreesError(f"a tree without a list {name!r}")
    return found


def _lowest_bits() -> npt.NDArray[np.intp]:
    numbers = np.arange(1 << MAX_LEAVES)
    lowest = numbers & -numbers
    lowest[0] = 1  # no leaf is left only in a tree that is none; the first is as good as any
    found: npt.NDArray[np.intp] = np.log2(lowest).astype(np.intp)
    return found


_LOWEST_BIT: Final = _lowest_bits()
