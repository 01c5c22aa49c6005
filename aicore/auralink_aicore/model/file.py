"""The model file: what is known of codecs before a stream is seen, and how a stream's looks change that.

``auralink-q-<semver>.json`` is canonical JSON (sorted keys, no spaces, a newline at the end). Its stem is the model's
id, whose hash goes out with every recompressed frame, and its SHA-256 stands in Capabilities: two AI Cores that show
the same decide the same. It holds

- ``schema``: SCHEMA; ``features``: `features.NAMES` as it was learned with;
- ``curves``: each codec's medians, the fields of `controller.Curve`;
- ``learned``: for some codecs two forests (`trees`), of ln(our bytes / the sender's) and of points of VMAF lost, in the
  half second to come, at the quantisers ``candidates``; ``psnr_falls``, dB per step; ``moves``, how many steps the
  learned curve may move the ceiling away from the medians'; ``error``, how far a predicted loss was from the true one,
  on average, for clips that were held out;
- ``clips``: which it was learned from; ``libraries``, ``scores``, ``seed``, which nobody here reads.

`hack.train` writes it; `__main__` reads it for the front, which hands it to the workers. Pure.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from auralink_aicore.controller import Curve
from auralink_aicore.features import NAMES, Window
from auralink_aicore.model.trees import BadTreesError, Forest

SCHEMA: Final = 1
MAX_BYTES: Final = 8 * 1024 * 1024  # of a file
MOST_CANDIDATES: Final = 32
SUFFIX: Final = ".json"

_MOST: Final = 1000.0  # of any number but the trees'

_NAME: Final = re.compile(r"auralink-q-(\d{1,5})\.(\d{1,5})\.(\d{1,5})\.json")

Floats = npt.NDArray[np.float64]


class BadModelError(ValueError):
    """The file is no model for this AI Core; the text says why."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one stream's next half second. Arrays are over the candidates, (n,), q ascending."""

    q: Floats
    ln_ratio: Floats  # ln(our bytes / the sender's), falling
    loss: Floats  # points of VMAF >= 0, rising

    def loss_at(self, q: float) -> float:
        """Straight lines between the candidates, the outermost value beyond them."""
        return float(np.interp(q, self.q, self.loss))

    def ln_ratio_at(self, q: float) -> float:
        """As `loss_at`."""
        return float(np.interp(q, self.q, self.ln_ratio))

    def ceiling(self, loss: float) -> float:
        """The highest q at which no more than `loss` is lost; the lowest candidate where all lose more."""
        within = np.flatnonzero(self.loss <= loss)
        if not len(within):
            return float(self.q[0])
        last = int(within[-1])
        if last == len(self.q) - 1:
            return float(self.q[-1])
        low, high = self.loss[last], self.loss[last + 1]
        return float(self.q[last] + (self.q[last + 1] - self.q[last]) * (loss - low) / (high - low))


@dataclass(frozen=True, slots=True)
class StreamCurves:
    """One stream by a prediction, through the point where it stands; for a room's allocation."""

    prediction: Prediction
    q: float
    byte_rate: float  # bytes per second at q

    def bytes_at(self, q: float) -> float:
        """Bytes per second."""
        return self.byte_rate * math.exp(self.prediction.ln_ratio_at(q) - self.prediction.ln_ratio_at(self.q))

    def loss_at(self, q: float) -> float:
        """Points of VMAF."""
        return self.prediction.loss_at(q)


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned of one codec."""

    candidates: tuple[float, ...]
    psnr_falls: float
    moves: float
    error: float
    ln_ratio: Forest
    loss: Forest

    def predict(self, window: Window, fps: float, pixels: int) -> Prediction:
        """Of a stream that looks like this; cheap: a few numpy calls."""
        return self.predict_rows(window.features(fps, pixels, self.candidates, self.psnr_falls))

    def predict_rows(self, rows: Floats) -> Prediction:
        """`rows` is (candidates, NAMES). Trees are monotone in q; the clip guards what was not learned so."""
        return Prediction(
            np.asarray(self.candidates),
            np.minimum.accumulate(self.ln_ratio.predict(rows)),
            np.maximum.accumulate(np.maximum(self.loss.predict(rows), 0.0)),
        )


@dataclass(frozen=True, slots=True)
class Model:
    """One model file, read."""

    id: str
    sha256: str
    curves: Mapping[str, Curve]  # by codec
    learned: Mapping[str, Learned]
    taught: Mapping[str, frozenset[str]]  # by codec, the names of the clips that it was learned from
    data: bytes  # the file, for a worker to read too

    @property
    def hash(self) -> int:
        """As results carry it."""
        return model_hash(self.id)


def model_hash(model: str) -> int:
    """h = 31 h + byte, mod 2^32, over the model's id."""
    value = 0
    for byte in model.encode():
        value = (31 * value + byte) & 0xFFFFFFFF
    return value


def canonical(content: Mapping[str, Any]) -> bytes:
    """The file's bytes. Raises ValueError for a number that JSON has not."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def version_of(name: str) -> tuple[int, ...] | None:
    """Of a model file by its name; None if it is called otherwise."""
    said = _NAME.fullmatch(name)
    return tuple(map(int, said.groups())) if said else None


def read(name: str, data: bytes) -> Model:
    """A file by its name, without a folder. Raises BadModelError."""
    if version_of(name) is None:
        raise BadModelError(f"it is called {name!r}, expected auralink-q-<major>.<minor>.<patch>.json")
    if len(data) > MAX_BYTES:
        raise BadModelError(f"it has more than {MAX_BYTES} bytes")
    try:
        content = json.loads(data)
        is_canonical = isinstance(content, dict) and canonical(content) == data
    except (ValueError, RecursionError) as error:
        raise BadModelError(f"it is no JSON: {error}") from error
    if not is_canonical:
        raise BadModelError("it is not canonical JSON")
    if content.get("schema") != SCHEMA:
        raise BadModelError(f"its schema is {content.get('schema')!r}, {SCHEMA} is read here")
    if content.get("features") != list(NAMES):
        raise BadModelError("its features are not those that are taken here")
    curves = {codec: _curve(codec, of_codec) for codec, of_codec in _mapping(content, "curves").items()}
    if not curves:
        raise BadModelError("it has no curves")
    learned = {codec: _learned(codec, of_codec) for codec, of_codec in _mapping(content, "learned").items()}
    if not learned.keys() <= curves.keys():
        raise BadModelError("it has learned a codec that it has no curve of")
    return Model(name.removesuffix(SUFFIX), hashlib.sha256(data).hexdigest(), curves, learned, _taught(content), data)


def _curve(codec: str, given: Any) -> Curve:
    names = [field.name for field in fields(Curve)]
    if not isinstance(given, dict) or sorted(given) != sorted(names):
        raise BadModelError(f"the curve of {codec} needs exactly {', '.join(names)}")
    losses, ceilings = _numbers(codec, given, "losses"), _numbers(codec, given, "ceilings")
    if not 2 <= len(losses) == len(ceilings) <= MOST_CANDIDATES:
        raise BadModelError(f"{codec}: a ceiling for each of 2 to {MOST_CANDIDATES} losses is needed")
    lowest, highest = given["lowest_q"], given["highest_q"]
    if type(lowest) is not int or type(highest) is not int or not 0 <= lowest < highest <= 255:
        raise BadModelError(f"{codec}: lowest_q and highest_q are {lowest!r} and {highest!r}")
    return Curve(
        k=_number(codec, given, "k", low=0.1),
        lowest_q=lowest,
        highest_q=highest,
        first_q=_number(codec, given, "first_q"),
        losses=losses,
        ceilings=ceilings,
    )


def _learned(codec: str, given: Any) -> Learned:
    if not isinstance(given, dict):
        raise BadModelError(f"what was learned of {codec} is no object")
    candidates = _numbers(codec, given, "candidates")
    if not 2 <= len(candidates) <= MOST_CANDIDATES:
        raise BadModelError(f"{codec}: {len(candidates)} candidates, allowed are 2 to {MOST_CANDIDATES}")
    try:
        forests = [Forest(_sequence(given, name), len(NAMES)) for name in ("ln_ratio", "loss")]
    except BadTreesError as error:
        raise BadModelError(f"{codec}: {error}") from error
    return Learned(
        candidates,
        _number(codec, given, "psnr_falls", low=0.0),
        _number(codec, given, "moves", low=0.0),
        _number(codec, given, "error", low=0.0),
        *forests,
    )


def _taught(content: Mapping[str, Any]) -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for one in content.get("clips") or []:
        if not isinstance(one, dict) or not all(isinstance(one.get(name), str) for name in ("codec", "clip")):
            raise BadModelError("its clips are no list of objects with codec and clip")
        found.setdefault(one["codec"], set()).add(one["clip"])
    return {codec: frozenset(names) for codec, names in found.items()}


def _mapping(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = content.get(name)
    if not isinstance(found, dict):
        raise BadModelError(f"it has no object {name!r}")
    return found


def _sequence(content: Mapping[str, Any], name: str) -> Sequence[Any]:
    found = content.get(name)
    if not isinstance(found, list):
        raise BadTreesError(f"there is no list {name!r}")
    return found


def _number(codec: str, given: Mapping[str, Any], name: str, low: float = -1000.0) -> float:
    value = given.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= _MOST:
        raise BadModelError(f"{codec}: {name} is {value!r}, expected a number from {low:g} to {_MOST:g}")
    return float(value)


def _numbers(codec: str, given: Mapping[str, Any], name: str) -> tuple[float, ...]:
    values = given.get(name)
    if not isinstance(values, list) or len(values) > MOST_CANDIDATES:
        raise BadModelError(f"{codec}: {name} is no list of at most {MOST_CANDIDATES} numbers")
    found = tuple(_number(codec, {name: one}, name) for one in values)
    if any(a >= b for a, b in pairwise(found)):
        raise BadModelError(f"{codec}: {name} does not rise")
    return found
