"""The AI Core's work on one core: time per frame, saving against its target, and what it costs in quality.

Real senders' streams go through the transcoder as a worker runs it, in this process pinned to one core, with the
quality floor off, so that nothing but the feedback decides the saving. Alone:
`python -m benchmarks.aicore_h264 [--clip FILE]... [--seconds N]`.
"""

import argparse
import hashlib
import math
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
from auralink_aicore.codecs import Codec, Limits
from auralink_aicore.controller import Policy
from auralink_aicore.transcoder import Disposition, Frame, Mode, Result, Session, Transcoder
from auralink_aicore.worker.admission import CALIBRATION_MS
from auralink_aicore.worker.calibration import picture_ms
from av.bitstream import BitStreamFilterContext

from hack.lab import clip as lab
from hack.lab import picture, report
from hack.lab.clip import Clip, SenderStream
from hack.lab.report import Row
from hack.progress import say as announce

ID = "aicore_h264"
OUT = Path(__file__).resolve().parents[1] / "build" / "bench" / f"{ID}.json"

SENDERS_KBPS = (4000, 2500)
TARGET = 0.4
SHORT_SIDE = 720
LEAST_FRAMES = 75
SETTLED_S = 1.5  # the feedback's first seconds are not what lasts
REPEATS = 3  # a frame's time is the median of its repeats: one that the host interrupted does not count
BUDGET_MS = 10.0  # the default latency budget of a policy
SAVING_WITHIN = 3.0  # points
LOSS_WITHIN = 3.0  # VMAF points at 40 % saved: the default quality level's


def rows(say: Callable[[str], None], clips: Sequence[Clip] | None = None, seconds: float = 10.0) -> list[Row]:
    """Every 720p clip at both rates."""
    found = [_at_720p(clip) for clip in (clips or lab.clips()) if _fits(clip)]
    out: list[Row] = []
    for clip in found:
        for kbps in SENDERS_KBPS:
            say(f"H.264 recompression of {clip.name} at {kbps} kb/s")
            out += _measure(clip, kbps, seconds)
    with _one_core():
        factor = picture_ms(time.perf_counter) / CALIBRATION_MS
    out.append(Row(ID, "this core's time per picture over the reference core's", factor, "x"))
    return out


def _measure(clip: Clip, kbps: int, seconds: float) -> list[Row]:
    sent = lab.sender_stream(clip, kbps)
    fps = float(clip.fps)
    units = _access_units(sent)[: round(seconds * fps)]
    with _one_core():
        runs = [_transcode(units, fps) for _ in range(REPEATS)]
    results = runs[0][0]
    times = [statistics.median(run[1][i] for run in runs) for i in range(len(units))]
    inter = sorted(ms for (_, key), ms in zip(units, times, strict=True) if not key)
    keys = [ms for (_, key), ms in zip(units, times, strict=True) if key]
    p50, p95 = inter[len(inter) // 2], inter[int(0.95 * len(inter))]
    settled = round(SETTLED_S * fps)
    before = sum(len(unit) for unit, _ in units[settled:])
    saved = 100 * (1 - sum(len(result.payload) for result in results[settled:]) / before)
    shown = range(len(units))
    vmaf_in = picture.vmaf(sent.path, shown, clip, subsample=2)
    with tempfile.TemporaryDirectory() as work:
        recording = Path(work) / "ours.h264"
        recording.write_bytes(b"".join(result.payload for result in results))
        clean = picture.decode_strictly(recording)
        vmaf_out = picture.vmaf(recording, shown, clip, subsample=2)
    name = f"{clip.name} {clip.width}x{clip.height} {kbps / 1000:g} Mb/s"
    lost = vmaf_in.mean - vmaf_out.mean
    aim = 100 * TARGET
    return [
        Row(ID, f"{name}: decode + encode, p50", p50, "ms", f"<= {BUDGET_MS:g}", p50 <= BUDGET_MS),
        Row(ID, f"{name}: decode + encode, p95", p95, "ms", f"<= {BUDGET_MS:g}", p95 <= BUDGET_MS),
        Row(ID, f"{name}: slowest key", max(keys), "ms"),
        Row(
            ID,
            f"{name}: saved",
            saved,
            "%",
            f"{aim:g} +-{SAVING_WITHIN:g}",
            abs(saved - aim) <= SAVING_WITHIN,
            f"after {SETTLED_S:g} s, of {len(units)} frames; keys as the sender's, every {sent.key_every_s:g} s",
        ),
        Row(ID, f"{name}: VMAF of the input", vmaf_in.mean),
        Row(ID, f"{name}: VMAF of the output", vmaf_out.mean, note=f"lowest picture {vmaf_out.lowest:.1f}"),
        Row(ID, f"{name}: VMAF lost", lost, "", f"<= {LOSS_WITHIN:g}", lost <= LOSS_WITHIN),
        Row(
            ID,
            f"{name}: frames out, decoded without error",
            clean.frames,
            "",
            f"{len(units)}",
            clean.clean and clean.frames == len(units),
            "; ".join(clean.errors[:2]),
        ),
    ]


def _transcode(units: Sequence[tuple[bytes, bool]], fps: float) -> tuple[list[Result], list[float]]:
    """Results and milliseconds of every frame. The stream's own clock is virtual: frames come as fast as they go."""
    now = 0.0
    policy = Policy(target_savings=TARGET, quality_level=1, quality_floor=0, latency_budget_ms=1000, always=True)
    transcoder = Transcoder(Session(Codec.H264, policy, Limits(), screen=False), lambda: now)
    results, times = [], []
    for number, (unit, key) in enumerate(units):
        now = number / fps
        frame = Frame(number, unit, key, Mode.COMPRESS, now, math.inf)
        started = time.perf_counter()
        result = transcoder.receive(frame)
        times.append(1000 * (time.perf_counter() - started))
        if result.disposition is not Disposition.COMPRESSED:
            raise RuntimeError(f"frame {number} was not compressed: {result.reason}")
        results.append(result)
    transcoder.close()
    return results, times


def _access_units(sent: SenderStream) -> list[tuple[bytes, bool]]:
    """(Annex B access unit, whether it is a key) of every frame, as the bridge would hand them over."""
    units = []
    with av.open(str(sent.path)) as container:
        stream = container.streams.video[0]
        to_annex_b = BitStreamFilterContext("h264_mp4toannexb", stream)
        for packet in container.demux(stream):
            if packet.size:
                key = packet.is_keyframe
                units += [(bytes(filtered), key) for filtered in to_annex_b.filter(packet)]
    return units


def _fits(clip: Clip) -> bool:
    return min(clip.width, clip.height) >= SHORT_SIDE and clip.frames >= LEAST_FRAMES


def _at_720p(clip: Clip) -> Clip:
    """The clip itself, or a lossless copy with 720 pixels on the short side, kept in the cache."""
    if min(clip.width, clip.height) == SHORT_SIDE:
        return clip
    size = f"{SHORT_SIDE}:-2" if clip.width < clip.height else f"-2:{SHORT_SIDE}"
    name = hashlib.sha256(clip.path.read_bytes() + size.encode()).hexdigest()[:16]
    path = lab.cache_folder() / "clips" / f"{name}" / f"{clip.name.partition('_')[0]}.mkv"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.mkv")
        lossless = ["-an", "-vf", f"scale={size}:flags=lanczos", "-pix_fmt", "yuv420p", "-c:v", "libx264", "-qp", "0"]
        command = [str(lab.ffmpeg()), "-nostdin", "-y", "-v", "error", "-i", str(clip.path), *lossless]
        subprocess.run([*command, "-preset", "ultrafast", str(part)], check=True, timeout=600)
        part.replace(path)
    return lab.probe(path)


@contextmanager
def _one_core() -> Iterator[None]:
    """This thread on the last of its cores, and back."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.aicore_h264", description=__doc__.split("\n")[0])
    parser.add_argument("--clip", action="append", type=Path, help="instead of the default and AURALINK_CLIPS")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each clip")
    options = parser.parse_args()
    clips = [lab.probe(path) for path in options.clip] if options.clip else lab.clips()
    measured = rows(announce, clips, options.seconds)
    content = ", ".join(clip.content for clip in clips if _fits(clip))
    report.write(OUT, report.Report(report.conditions(content), measured))
    print(report.table(report.read(OUT)))


if __name__ == "__main__":
    main()
