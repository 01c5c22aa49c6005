"""The scorer: ``python -m auralink_aicore.evidence.score``, one process per sample, started by `scorer` only.

In: one line of JSON, ``{"codec", "ffmpeg", "senders": [sizes], "ours": [sizes]}``, then the frames one after the
other. Out: one line of JSON, a `Score`. Any other end is a failure. It runs only when nobody else wants the processor,
and has a bounded time of it; FFmpeg, its child, inherits both.
"""

import contextlib
import json
import os
import re
import resource
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Final

import av
import av.logging
import numpy as np
import numpy.typing as npt

from auralink_aicore.codecs import MAX_PIXELS, SERVED, Codec, Limits
from auralink_aicore.evidence.sampling import MOST_BYTES, Score

CPU_S: Final = 30
_SSIM_BLOCK: Final = 8
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_VMAF: Final = re.compile(rb"VMAF score: ([0-9.]+)")

Planes = npt.NDArray[np.uint8]
"""One picture as yuv420p, (height * 3 / 2, width)."""
Floats = npt.NDArray[np.float64]


def decode(codec: Codec, units: Sequence[bytes]) -> list[Planes]:
    """Every picture. Raises FFmpegError or BitstreamError."""
    stream = SERVED[codec](Limits())
    decoder = stream.open_decoder(2 * MAX_PIXELS)
    pictures = [one for unit in units for one in decoder.decode(av.Packet(stream.read(unit).for_decoder))]
    pictures += decoder.decode(None)
    return [picture.to_ndarray(format="yuv420p").astype(np.uint8, copy=False) for picture in pictures]


def psnr_db(a: Planes, b: Planes) -> float:
    """Two planes; 100 for equal ones."""
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return min(10 * float(np.log10(255**2 / error)), 100.0) if error else 100.0


def ssim(a: Planes, b: Planes) -> float:
    """Mean over blocks that do not overlap."""
    x, y = _blocks(a), _blocks(b)
    mean_x, mean_y = x.mean(axis=1), y.mean(axis=1)
    var_x, var_y = x.var(axis=1), y.var(axis=1)
    both = (x * y).mean(axis=1) - mean_x * mean_y
    above = (2 * mean_x * mean_y + _C1) * (2 * both + _C2)
    return float(np.mean(above / ((mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2))))


def _blocks(plane: Planes) -> Floats:
    """(blocks, 64)."""
    n = _SSIM_BLOCK
    height, width = (side // n * n for side in plane.shape)
    cut = plane[:height, :width].astype(np.float64).reshape(height // n, n, width // n, n)
    return cut.swapaxes(1, 2).reshape(-1, n * n)


def vmaf(ffmpeg: str, ours: Sequence[Planes], senders: Sequence[Planes]) -> float:
    """By FFmpeg's libvmaf. Pictures go through pipes: they are large, and a container's /tmp small."""
    rows, width = ours[0].shape
    form = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{rows * 2 // 3}", "-r", "30"]
    ends = [os.pipe(), os.pipe()]
    command = [ffmpeg, "-v", "info", "-nostdin", "-threads", "1"]
    for read, _ in ends:
        command += [*form, "-i", f"pipe:{read}"]
    command += ["-lavfi", "[0:v][1:v]libvmaf=n_threads=1", "-f", "null", "-"]
    reading = tuple(read for read, _ in ends)
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=reading) as process:
        for read in reading:
            os.close(read)
        for (_, write), pictures in zip(ends, (ours, senders), strict=True):
            threading.Thread(target=_pour, args=(write, pictures), daemon=True).start()
        assert process.stderr is not None  # noqa: S101 - asked for
        said = process.stderr.read()
    found = _VMAF.search(said)
    if process.returncode or found is None:
        raise RuntimeError(f"FFmpeg ended with {process.returncode}: {said[-200:].decode(errors='replace')}")
    return float(found.group(1))


def _pour(write: int, pictures: Sequence[Planes]) -> None:
    try:
        with os.fdopen(write, "wb") as pipe:
            for picture in pictures:
                pipe.write(picture.tobytes())
    except BrokenPipeError:
        pass  # FFmpeg's end says why


def score(codec: Codec, senders: Sequence[bytes], ours: Sequence[bytes], ffmpeg: str | None) -> Score:
    """Raises ValueError where the two sides are not the same pictures."""
    theirs, mine = decode(codec, senders), decode(codec, ours)
    if len(theirs) != len(mine) or not mine or {one.shape for one in (*theirs, *mine)} != {mine[0].shape}:
        raise ValueError(f"{len(theirs)} pictures of the sender's and {len(mine)} of ours do not pair")
    luma = slice(0, mine[0].shape[0] * 2 // 3)
    pairs = [(a[luma], b[luma]) for a, b in zip(mine, theirs, strict=True)]
    return Score(
        pictures=len(mine),
        psnr_db=float(np.mean([psnr_db(a, b) for a, b in pairs])),
        ssim=float(np.mean([ssim(a, b) for a, b in pairs])),
        vmaf=vmaf(ffmpeg, mine, theirs) if ffmpeg else None,
    )


def step_back() -> None:
    """Run when nobody else does, for a bounded time, and be the first to go where memory is short."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    os.nice(19)
    with contextlib.suppress(OSError):  # where that is not allowed, nice is what there is
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def read_job(pipe: BinaryIO) -> tuple[dict[str, Any], list[bytes], list[bytes]]:
    """Raises ValueError for what is no job."""
    job: dict[str, Any] = json.loads(pipe.readline(1 << 16))
    if sum(job["senders"]) + sum(job["ours"]) > MOST_BYTES:
        raise ValueError("the sample is too large")
    senders, ours = ([pipe.read(size) for size in job[side]] for side in ("senders", "ours"))
    return job, senders, ours


def main() -> None:
    """Entry of the child process."""
    step_back()
    av.logging.set_level(av.logging.PANIC)
    job, senders, ours = read_job(sys.stdin.buffer)
    found = score(Codec(job["codec"]), senders, ours, job["ffmpeg"])
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
