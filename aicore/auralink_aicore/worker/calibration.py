"""How fast this machine is, in terms of the one the codecs' costs were measured on; used by `process` at start."""

from collections.abc import Callable, Iterator

import av
import numpy as np

from auralink_aicore.codecs.h264 import X264
from auralink_aicore.codecs.interface import OutputFormat

WIDTH, HEIGHT = 1280, 720
PICTURES = 60
WARM_UP = 5


def picture_ms(clock: Callable[[], float]) -> float:
    """Median milliseconds to encode one 720p picture of a fixed, moderately busy, moving scene at CRF 28."""
    encoder = X264(OutputFormat(WIDTH, HEIGHT, profile=4, level=31, colour=(0, 2, 2, 2)))
    times = []
    try:
        for number, picture in enumerate(_scene()):
            started = clock()
            encoder.encode(picture, 28, key=number == 0)
            times.append(clock() - started)
    finally:
        encoder.close()
    return 1000 * float(np.median(times[WARM_UP:]))


def _scene() -> Iterator[av.VideoFrame]:
    """A smooth random texture that drifts, under a little sensor noise."""
    random = np.random.default_rng(1)
    coarse = random.integers(40, 216, (HEIGHT // 16 + 12, WIDTH // 16 + 12), dtype=np.uint8)
    large = np.kron(coarse, np.ones((16, 16), np.uint8)).astype(np.uint16)
    for axis in (0, 1):
        large = np.sum([np.roll(large, shift, axis) for shift in range(0, 16, 4)], axis=0) // 4
    noise = random.integers(0, 5, (HEIGHT, WIDTH), dtype=np.uint8)
    for number in range(PICTURES):
        x, y = 2 * number, number
        luma = large[y : y + HEIGHT, x : x + WIDTH].astype(np.uint8) + np.roll(noise, 7 * number, 1)
        planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
        planes[:HEIGHT] = luma
        yield av.VideoFrame.from_ndarray(planes, "yuv420p")
