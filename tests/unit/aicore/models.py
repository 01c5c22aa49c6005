"""Model files made up for tests: H.264 with one condition on q, 27, on either side of which all is the same."""

from dataclasses import asdict
from typing import Any

from auralink_aicore.features import NAMES
from auralink_aicore.model import Model, packaged, read
from auralink_aicore.model.file import canonical

SPAN = 1.5
"""ln of the bytes below it over those above."""
CANDIDATES = [18, 21, 24, 26, 28, 30, 33, 37]


def tree(below: float, above: float, at: float = 27.0, feature: str = "q") -> dict[str, list[Any]]:
    index = list(NAMES).index(feature)
    return {"feature": [index], "threshold": [at], "nan_left": [1], "strikes": [1], "value": [below, above]}


def content(loss_below: float = 1.0, loss_above: float = 6.0) -> dict[str, Any]:
    learned = {
        "candidates": CANDIDATES,
        "psnr_falls": 0.5,
        "moves": 4.0,
        "error": 0.8,
        "ln_ratio": [tree(0.0, -SPAN)],
        "loss": [tree(loss_below, loss_above)],
    }
    return {
        "schema": 1,
        "features": list(NAMES),
        "curves": {codec: asdict(curve) for codec, curve in packaged().curves.items()},
        "learned": {"H264": learned},
    }


def medians() -> Model:
    """One that has learned nothing."""
    return read("auralink-q-9.0.0.json", canonical({**content(), "learned": {}}))


def made(loss_below: float = 1.0, loss_above: float = 6.0, name: str = "auralink-q-9.0.0.json") -> Model:
    return read(name, canonical(content(loss_below, loss_above)))
