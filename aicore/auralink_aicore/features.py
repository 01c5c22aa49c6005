"""What a learned model is told of a stream: means over the last half second, cheap enough to take of every picture.

Pure; `transcoder` feeds a `Window` with what it decoded and coded, and `hack.train` does the same with streams whose
loss is known, so that a model is asked in the very words it was taught in. A figure that a codec does not give is NaN,
which the model's trees have a branch for.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

FRAMES: Final = 15  # of a window: half a second
STRIDE: Final = 8  # between the luma samples that are looked at, both ways
CHANGED_BY: Final = 4  # luma steps; less is a sensor's noise

NAMES: Final = (
    "ln_bits_per_pixel",  # the sender's
    "size_variation",  # standard deviation of frame sizes over their mean
    "sender_q",  # mean quantiser of the sender's blocks, on its codec's own scale
    "motion",  # mean length of the sender's motion vectors, pixels
    "vectors",  # of those per block of 16x16
    "difference",  # mean luma steps to the picture before
    "changed",  # share of samples that changed by more than CHANGED_BY
    "spread",  # standard deviation of luma
    "gradient",  # mean luma steps between neighbours in a row
    "fps",
    "ln_pixels",
    "q",  # ours, the candidate
    "psnr",  # of ours against the decoded sender's picture at that q, dB
)
PSNR_FALLS: Final = {"H264": 0.69, "VP8": 0.26, "VP9": 0.33}
"""dB per step of q, medians of measured streams: takes the PSNR measured at one q to another."""

Luma = npt.NDArray[np.uint8]

# AVVideoEncParams (libavutil/video_enc_params.h): its head, then a record per block.
_PARAMS_HEAD: Final = 64  # bytes
_PARAMS_BLOCK: Final = 5  # int32: x, y, width, height, quantiser above the picture's
# AVMotionVector (libavutil/motion_vector.h), 40 bytes.
_VECTOR: Final = np.dtype(
    {
        "names": ["x", "y", "scale"],
        "formats": ["<i4", "<i4", "<u2"],
        "offsets": [24, 28, 32],
        "itemsize": 40,
    }
)


@dataclass(frozen=True, slots=True)
class Look:
    """What one picture of the sender's looks like."""

    difference: float
    changed: float
    spread: float
    gradient: float
    sender_q: float = math.nan
    motion: float = math.nan
    vectors: float = math.nan


class Eye:
    """Looks at the pictures of one stream, one after the other."""

    def __init__(self) -> None:
        self._before: npt.NDArray[np.int16] | None = None

    def look(
        self,
        luma: Luma,
        parameters: bytes | memoryview = b"",
        vectors: bytes | memoryview = b"",
        sender_q: float = math.nan,
    ) -> Look:
        """`luma` is (height, width); then as far as known: libavcodec's side data, raw, and the header's quantiser."""
        grid = luma[::STRIDE, ::STRIDE].astype(np.int16)
        beside = luma[::STRIDE, 1::STRIDE].astype(np.int16)
        gradient = np.abs(beside - grid[:, : beside.shape[1]])
        before, self._before = self._before, grid
        difference = changed = 0.0
        if before is not None and before.shape == grid.shape:
            moved = np.abs(grid - before)
            difference, changed = float(moved.mean()), float((moved > CHANGED_BY).mean())
        blocks = luma.size / 256
        motion, count = motion_of(vectors)
        return Look(
            difference,
            changed,
            float(grid.std()),
            float(gradient.mean()),
            quantiser_of(parameters) if parameters else sender_q,
            motion,
            count / blocks if vectors else math.nan,
        )


def quantiser_of(parameters: bytes | memoryview) -> float:
    """Mean quantiser by VIDEO_ENC_PARAMS; NaN without it."""
    if len(parameters) < _PARAMS_HEAD:
        return math.nan
    numbers = np.frombuffer(parameters, np.int32)
    blocks, picture = int(numbers[0]), float(numbers[7])
    records = numbers[_PARAMS_HEAD // 4 :]
    if not 0 < blocks <= len(records) // _PARAMS_BLOCK:
        return picture
    return picture + float(records[: blocks * _PARAMS_BLOCK].reshape(-1, _PARAMS_BLOCK)[:, 4].mean())


def motion_of(vectors: bytes | memoryview) -> tuple[float, int]:
    """(mean length in pixels, number) by MOTION_VECTORS; (NaN, 0) without it."""
    count = len(vectors) // _VECTOR.itemsize
    if not count:
        return math.nan, 0
    found = np.frombuffer(vectors, _VECTOR, count)
    scale = np.maximum(found["scale"], 1)
    return float(np.hypot(found["x"] / scale, found["y"] / scale).mean()), count


@dataclass(frozen=True, slots=True)
class _Taken:
    source_bytes: int
    key: bool
    look: Look
    q: float
    psnr: float


class Window:
    """The last FRAMES pictures of one stream."""

    def __init__(self) -> None:
        self._taken: deque[_Taken] = deque(maxlen=FRAMES)

    @property
    def full(self) -> bool:
        """Whether there is enough to ask a model with."""
        return len(self._taken) == FRAMES

    def take(self, source_bytes: int, look: Look, *, key: bool, q: float = math.nan, psnr: float = math.nan) -> None:
        """One picture; q and PSNR are those of ours, NaN where there is none. Keys' sizes do not count."""
        self._taken.append(_Taken(source_bytes, key, look, q, psnr))

    def features(
        self, fps: float, pixels: int, candidates: Sequence[float], psnr_falls: float
    ) -> npt.NDArray[np.float64]:
        """(candidates, NAMES). `psnr_falls`: dB per step of q, NaN where PSNR means nothing."""
        sizes = np.array([one.source_bytes for one in self._taken if not one.key] or [0], dtype=np.float64)
        mean = max(float(sizes.mean()), 1.0)
        looks = [one.look for one in self._taken]
        q, psnr = _mean([one.q for one in self._taken]), _mean([one.psnr for one in self._taken])
        row = [
            math.log(8 * mean / pixels),
            float(sizes.std()) / mean,
            *(_mean([getattr(one, name) for one in looks]) for name in NAMES[2:9]),
            fps,
            math.log(pixels),
        ]
        made = np.empty((len(candidates), len(NAMES)))
        made[:, : len(row)] = row
        made[:, -2] = candidates
        made[:, -1] = psnr - psnr_falls * (np.asarray(candidates) - q)
        return made


def _mean(values: Sequence[float]) -> float:
    """Of what is known; NaN where nothing is."""
    known = [value for value in values if value == value]
    return math.fsum(known) / len(known) if known else math.nan
