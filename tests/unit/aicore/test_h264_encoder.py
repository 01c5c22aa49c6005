"""What libx264 makes of pictures whose parts differ in how long they stay."""

import av
import numpy as np
import numpy.typing as npt
import pytest
from auralink_aicore.codecs import h264
from auralink_aicore.codecs.interface import OutputFormat

WIDTH, HEIGHT, HALF = 328, 248, 160  # neither side a multiple of a macroblock's 16
HIGH = 4
Luma = npt.NDArray[np.uint8]


def pictures(count: int) -> list[Luma]:
    """The left part stays, the right part is new each time; both of the same texture."""
    random = np.random.default_rng(7)
    texture = random.normal(128, 25, (count, HEIGHT, WIDTH)).clip(0, 255).astype(np.uint8)
    texture[:, :, :HALF] = texture[0, :, :HALF]
    return list(texture)


def frame(luma: Luma) -> av.VideoFrame:
    grey = np.full((HEIGHT // 2, WIDTH), 128, np.uint8)
    return av.VideoFrame.from_ndarray(np.vstack([luma, grey]), format="yuv420p")


def errors(encoder: h264.X264, shown: list[Luma], keys: frozenset[int] = frozenset({0})) -> tuple[float, float]:
    """Mean squared error of the last picture: of what stays, and of what changes."""
    decoder = av.VideoCodecContext.create("h264", "r")
    decoder.thread_count = 1
    units = [encoder.encode(frame(luma), 30, key=number in keys).data for number, luma in enumerate(shown)]
    encoder.close()
    decoded = [picture for unit in units for picture in decoder.decode(av.Packet(unit))] + decoder.decode(None)
    assert len(decoded) == len(shown)
    last = decoded[-1].to_ndarray(format="yuv420p")[:HEIGHT].astype(float) - shown[-1]
    return float((last[:, :HALF] ** 2).mean()), float((last[:, HALF:] ** 2).mean())


def opened() -> h264.X264:
    return h264.X264(OutputFormat(WIDTH, HEIGHT, profile=HIGH, level=31))


def test_what_stays_is_coded_finer_and_what_changes_coarser(monkeypatch: pytest.MonkeyPatch) -> None:
    coarse_key = frozenset({0, 2})  # the second leaves something to refine
    stays, changes = errors(opened(), pictures(20), coarse_key)
    monkeypatch.setattr(h264, "STILL_STRENGTH", 0.0)
    stays_flat, changes_flat = errors(opened(), pictures(20), coarse_key)
    assert stays < 0.7 * stays_flat
    assert changes > 1.2 * changes_flat


def test_where_everything_changes_nothing_is_coded_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    moving = list(np.random.default_rng(8).integers(0, 255, (6, HEIGHT, WIDTH), np.uint8))
    with_offsets = errors(opened(), moving)
    monkeypatch.setattr(h264, "STILL_STRENGTH", 0.0)
    assert with_offsets == errors(opened(), moving)


def test_a_key_amid_the_stream_is_coded_evenly_so_that_it_stays_small() -> None:
    shown = pictures(20)
    stays, changes = errors(opened(), shown, keys=frozenset({0, 19}))
    assert stays == pytest.approx(changes, rel=0.2)
