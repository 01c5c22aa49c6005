"""Milliseconds of decode and encode of each frame on one pinned core, beside what a plain encoder takes for the same
pictures in the same run, so that machines can be compared by the ratio.
"""

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
from av.video.frame import PictureType, VideoFrame

from benchmarks.aicore import figures
from benchmarks.aicore.loop import one_core, recompress
from benchmarks.aicore.plan import Job
from hack.lab import sender
from hack.lab.sender import Sent

REPEATS = 3  # a frame's time is the median of its repeats: one that the host interrupted does not count
FRAMES = 100
KEY_EVERY = 25  # frames; a receiver asks, for the sender sends one key only
TARGET = 0.4

_DECODERS = {"H264": "h264", "H265": "hevc", "VP8": "vp8", "VP9": "vp9", "AV1": "libdav1d"}
_LIBVPX = {"deadline": "realtime", "lag-in-frames": "0"}
_PLAIN: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "H264": ("libx264", {"preset": "superfast", "tune": "zerolatency", "forced-idr": "1"}),
    "VP8": ("libvpx", {**_LIBVPX, "cpu-used": "-6"}),
    "VP9": ("libvpx-vp9", {**_LIBVPX, "cpu-used": "7"}),
    "H265": (
        "libx265",
        {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=error:pools=none:frame-threads=1"},
    ),
}
# PyAV brings no libaom: its nearest relative of the same kind.
_PLAIN_OF = {**{codec: codec for codec in _PLAIN}, "AV1": "VP9"}


@dataclass(frozen=True, slots=True)
class Timed:
    """Medians over the repeats."""

    job: Job
    keys: Sequence[bool]
    ms: Sequence[float]
    plain_ms: Sequence[float]  # encoding only

    @property
    def inter(self) -> list[float]:
        return [ms for ms, key in zip(self.ms, self.keys, strict=True) if not key]

    @property
    def p50(self) -> float:
        return figures.percentile(self.inter, 0.5)

    @property
    def p95(self) -> float:
        return figures.percentile(self.inter, 0.95)

    @property
    def slowest_key(self) -> float:
        """But for the first, which opens the codecs."""
        return max(ms for ms, key in list(zip(self.ms, self.keys, strict=True))[1:] if key)

    @property
    def plain_p50(self) -> float:
        return figures.percentile(self.plain_ms[1:], 0.5)

    @property
    def plain(self) -> str:
        return _PLAIN[_PLAIN_OF[self.job.codec]][0]

    def lines(self) -> Iterator[dict[str, Any]]:
        job = self.job
        base = {"codec": job.codec, "clip": job.subject.name, "size": job.subject.size, "sender_kbps": job.kbps}
        for frame, (ms, plain, key) in enumerate(zip(self.ms, self.plain_ms, self.keys, strict=True)):
            yield {**base, "frame": frame, "key": key, "ms": round(ms, 3), "plain_ms": round(plain, 3)}


def measure(job: Job) -> Timed:
    """Ours and the plain encoder in turn, so that what disturbs one disturbs both."""
    sent = sender.send(job.subject.clip, job.codec, job.kbps, min(FRAMES, job.frames))
    pictures = _pictures(sent)
    keys_at = frozenset(range(KEY_EVERY, len(pictures), KEY_EVERY))
    ours, plain = [], []
    with one_core():
        for _ in range(REPEATS):
            ours.append(recompress(job.codec, sent.units, job.fps, TARGET, floor=False, keys_at=keys_at))
            plain.append(_encode(_PLAIN_OF[job.codec], pictures, keys_at, round((1 - TARGET) * job.kbps), job))
    ms = [statistics.median(answer.ms for answer in answers) for answers in zip(*ours, strict=True)]
    plain_ms = [statistics.median(times) for times in zip(*plain, strict=True)]
    return Timed(job, [answer.key for answer in ours[0]], ms, plain_ms)


def _pictures(sent: Sent) -> list[VideoFrame]:
    decoder = cast("av.VideoCodecContext", av.CodecContext.create(_DECODERS[sent.codec], "r"))
    pictures = [frame for unit in sent.units for frame in decoder.decode(av.Packet(unit.payload))]
    return [*pictures, *decoder.decode(None)]


def _encode(codec: str, pictures: Sequence[VideoFrame], keys_at: frozenset[int], kbps: int, job: Job) -> list[float]:
    """Milliseconds of every picture."""
    name, options = _PLAIN[codec]
    encoder = cast("av.VideoCodecContext", av.CodecContext.create(name, "w"))
    encoder.width, encoder.height, encoder.pix_fmt = pictures[0].width, pictures[0].height, "yuv420p"
    encoder.framerate = job.subject.clip.fps
    encoder.time_base = 1 / Fraction(job.subject.clip.fps)
    encoder.bit_rate, encoder.thread_count, encoder.gop_size = 1000 * kbps, 1, 3000
    encoder.options = dict(options)
    times = []
    for number, shown in enumerate(pictures):
        shown.pts, shown.time_base = number, encoder.time_base
        shown.pict_type = PictureType.I if number in keys_at else PictureType.NONE
        started = time.perf_counter()
        encoder.encode(shown)
        times.append(1000 * (time.perf_counter() - started))
    return times
