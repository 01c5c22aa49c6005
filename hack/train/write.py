"""Puts a model file together."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import lightgbm
from auralink_aicore.controller import Curve
from auralink_aicore.features import NAMES, PSNR_FALLS
from auralink_aicore.model.file import SCHEMA, canonical

from hack.lab.clip import ffmpeg
from hack.train import fit
from hack.train.build import CANDIDATES, Measurement
from hack.train.curves import CURVES

MOVES = {"H264": 4.0, "VP8": 8.0, "VP9": 8.0}  # steps from the medians' ceiling, of the codecs that can have trees


def model(
    curves: Mapping[str, Curve],
    learned: Mapping[str, Mapping[str, lightgbm.Booster]],
    errors: Mapping[str, float],
    moves: Mapping[str, float],
    streams: Sequence[Measurement],
    scores: Mapping[str, Any],
) -> bytes:
    """The file. By codec: `curves` that were measured, `errors` of a predicted loss, how far the floor `moves`.
    `streams`: those learned from.
    """
    return canonical(
        {
            "schema": SCHEMA,
            "features": list(NAMES),
            "curves": {codec: asdict(curve) for codec, curve in {**CURVES, **curves}.items()},
            "learned": {
                codec: _learned(codec, of_codec, errors[codec], moves[codec]) for codec, of_codec in learned.items()
            },
            "clips": _clips(streams),
            "libraries": _libraries(),
            "scores": scores,
            "seed": fit.SEED,
        }
    )


def _learned(codec: str, boosters: Mapping[str, lightgbm.Booster], error: float, moves: float) -> dict[str, Any]:
    return {
        "candidates": list(CANDIDATES[codec]),
        "psnr_falls": PSNR_FALLS[codec],
        "moves": moves,
        "error": round(error, 3),
        **{name: fit.forest(booster) for name, booster in boosters.items()},
    }


def _clips(streams: Sequence[Measurement]) -> list[dict[str, str]]:
    """One for each sender's stream: what was learned from are its frames, and their hash does not depend on a file's
    container."""
    told = sorted(streams, key=lambda one: (one.codec, one.clip, one.size, one.kbps))
    return [
        {
            "clip": one.clip,
            "codec": one.codec,
            "licence": one.licence,
            "sha256": one.sha256,
            "stream": f"{one.size} {one.kbps} kb/s",
        }
        for one in told
    ]


def _libraries() -> dict[str, str]:
    names = ("lightgbm", "numpy", "av", "imageio-ffmpeg")
    return {
        **{name: version(name) for name in names},
        "ffmpeg": ffmpeg().name,
        "python": platform.python_version(),
    }
