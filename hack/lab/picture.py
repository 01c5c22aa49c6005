"""What a viewer would see: does a recording decode, and how far are its pictures from the original clip."""

import contextlib
import hashlib
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import av

from hack.lab.clip import Clip, SenderStream, ffmpeg, run_ffmpeg

_RTP_TICKS_PER_MS = 90


@dataclass(frozen=True, slots=True)
class Decoded:
    """A strict decode of a whole file by FFmpeg."""

    frames: int
    exit_code: int
    errors: tuple[str, ...]  # FFmpeg's error log, line by line

    @property
    def clean(self) -> bool:
        return self.exit_code == 0 and not self.errors and self.frames > 0


def decode_strictly(recording: Path) -> Decoded:
    """FFmpeg stops at the first error (`-xerror`) and logs nothing but errors, corrupt references included."""
    command = [
        *(str(ffmpeg()), "-nostdin", "-v", "error", "-xerror", "-err_detect", "explode", "-i", str(recording)),
        *("-map", "0:v:0", "-fps_mode", "passthrough", "-progress", "pipe:1", "-f", "null", "-"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    counts = [line.removeprefix("frame=") for line in done.stdout.splitlines() if line.startswith("frame=")]
    errors = tuple(line for line in done.stderr.splitlines() if line.strip())
    return Decoded(int(counts[-1]) if counts else 0, done.returncode, errors)


def cut(recording: Path, seconds: float, out: Path) -> Path:
    """The first `seconds` of a recording that is still being written, as a whole file: its torn end stays behind."""
    command = [str(ffmpeg()), "-nostdin", "-y", "-v", "quiet", "-i", str(recording), "-map", "0", "-c", "copy"]
    subprocess.run([*command, "-t", f"{seconds:.3f}", str(out)], check=True, timeout=120)
    return out


def picture_times(recording: Path, first_timestamp: int) -> list[int]:
    """The RTP timestamp of every recorded picture, to the millisecond that the container keeps.

    FFmpeg gives the first packet of a lone RTP stream time zero and counts from there (`-copyts` keeps that zero).
    """
    with av.open(str(recording)) as container:
        stream = container.streams.video[0]
        times = [packet.pts for packet in container.demux(stream) if packet.size and packet.pts is not None]
        scale = float(stream.time_base or 0) * 1000
    return [first_timestamp + round((pts - times[0]) * scale) * _RTP_TICKS_PER_MS for pts in times]


def fingerprints(recording: Path) -> list[str]:
    """One for each decoded picture, the same for the same pixels."""
    return [hashlib.sha256(pixels).hexdigest() for pixels in _decoded(recording)]


@dataclass(frozen=True, slots=True)
class Vmaf:
    scores: Mapping[int, float]  # of the scored frames, by their place in the recording

    @property
    def mean(self) -> float:
        return sum(self.scores.values()) / len(self.scores)

    @property
    def lowest(self) -> float:
        return min(self.scores.values())

    @property
    def frames(self) -> int:
        return len(self.scores)


def vmaf_of_sender(sent: SenderStream) -> Vmaf:
    """The sender's stream against its clip, picture by picture."""
    return vmaf_in_step(sent.path, sent.clip, sent.clip.frames)


def vmaf_in_step(recording: Path, clip: Clip, frames: int, subsample: int = 1) -> Vmaf:
    """VMAF v0.6.1 of a recording whose frame i shows the clip's picture i; the first `frames` of both.

    One thread scores every `subsample`-th frame, at the clip's size. Whatever the files say of time is ignored. Raises
    RuntimeError where the recording is shorter.
    """
    if frames < 1:
        raise ValueError(f"no picture of {recording} to score")
    in_step = f"trim=end_frame={frames},settb=1/1000,setpts=N"
    graph = f"[0:v]{in_step}[ours];[1:v]{in_step}[theirs];[ours][theirs]"
    inputs = ["-i", str(recording), "-i", str(clip.path)]
    scores = _scores(inputs, graph, subsample, lambda scorer: scorer.communicate(timeout=900)[1], [])
    if len(scores) != len(range(0, frames, subsample)):
        raise RuntimeError(f"{recording}: {len(scores)} pictures were scored of {frames}, every {subsample}.")
    return Vmaf(scores)


def vmaf_of_all(recordings: Sequence[Path], clip: Clip, frames: int, subsample: int = 1) -> list[Vmaf]:
    """As `vmaf_in_step`, of several recordings of one clip at once: the clip is decoded once."""
    in_step = f"trim=end_frame={frames},settb=1/1000,setpts=N"
    inputs = [word for path in (*recordings, clip.path) for word in ("-i", str(path))]
    copies = [f"clip{number}" for number in range(len(recordings))]
    with tempfile.TemporaryDirectory() as work:
        logs = [Path(work) / f"{number}.json" for number in range(len(recordings))]
        parts = [f"[{len(recordings)}:v]{in_step},split={len(copies)}{''.join(f'[{name}]' for name in copies)}"]
        for number, (name, log) in enumerate(zip(copies, logs, strict=True)):
            scorer = f"libvmaf=log_fmt=json:log_path={log}:n_threads=1:n_subsample={subsample}:shortest=1"
            parts += [f"[{number}:v]{in_step}[ours{number}]", f"[ours{number}][{name}]{scorer}[out{number}]"]
        outputs = [word for number in range(len(copies)) for word in ("-map", f"[out{number}]", "-f", "null", "-")]
        run_ffmpeg([*inputs, "-filter_complex", ";".join(parts), "-fps_mode", "passthrough", *outputs])
        found = [json.loads(log.read_text())["frames"] for log in logs]
    scored = [Vmaf({int(one["frameNum"]): one["metrics"]["vmaf"] for one in of_one}) for of_one in found]
    if any(one.frames != len(range(0, frames, subsample)) for one in scored):
        raise RuntimeError(f"{clip.path}: {[one.frames for one in scored]} pictures were scored of {frames}")
    return scored


def vmaf(recording: Path, pictures: Sequence[int | None], clip: Clip, subsample: int = 1) -> Vmaf:
    """VMAF v0.6.1 of a recording against the clip. `pictures[i]` is the clip's picture that frame i should show; None
    leaves frame i out. Every `subsample`-th frame that is left is scored; its place counts among those.

    Both sides are decoded here and handed to libvmaf as raw pictures, so that nothing but the list decides what is
    compared with what. It runs with low priority, for a live stream may be going on.
    """
    wanted = [picture for picture in pictures if picture is not None]
    if not wanted:
        raise ValueError(f"no picture of {recording} to score")
    chosen = (picture for index, picture in enumerate(_decoded(recording)) if _at(pictures, index) is not None)
    sides = [(chosen, *os.pipe()), (_looped(clip.path, wanted), *os.pipe())]
    raw = ("-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{clip.width}x{clip.height}", "-r", "25")
    inputs = [word for _, reader, _ in sides for word in (*raw, "-i", f"pipe:{reader}")]

    def feed(scorer: subprocess.Popen[str]) -> str:
        for _, reader, _ in sides:
            os.close(reader)
        writers = [threading.Thread(target=_feed, args=(source, os.fdopen(pipe, "wb"))) for source, _, pipe in sides]
        for writer in writers:
            writer.start()
        _, errors = scorer.communicate(timeout=900)
        for writer in writers:
            writer.join()
        return errors

    return Vmaf(_scores(inputs, "[0:v][1:v]", subsample, feed, [reader for _, reader, _ in sides]))


def _scores(
    inputs: Sequence[str],
    graph: str,
    subsample: int,
    finish: Callable[[subprocess.Popen[str]], str],
    fds: Sequence[int],
) -> dict[int, float]:
    """Frame -> VMAF. `finish` stays with FFmpeg to its end and returns what it complained of."""
    with tempfile.TemporaryDirectory() as work:
        log = Path(work) / "vmaf.json"
        graph += f"libvmaf=log_fmt=json:log_path={log}:n_threads=1:n_subsample={subsample}:shortest=1"
        command = ["nice", "-n", "15", str(ffmpeg()), "-nostdin", "-v", "error", *inputs, "-filter_complex", graph]
        command += ["-fps_mode", "passthrough", "-f", "null", "-"]
        scorer = subprocess.Popen(command, pass_fds=fds, stderr=subprocess.PIPE, text=True)
        errors = finish(scorer)
        if scorer.returncode != 0:
            raise RuntimeError(f"FFmpeg could not score {inputs}: {errors.strip()[-300:]}")
        return {int(frame["frameNum"]): frame["metrics"]["vmaf"] for frame in json.loads(log.read_text())["frames"]}


def _at(pictures: Sequence[int | None], index: int) -> int | None:
    return pictures[index] if index < len(pictures) else None


def _decoded(path: Path) -> Iterator[bytes]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="yuv420p").tobytes()


def _looped(path: Path, wanted: Sequence[int]) -> Iterator[bytes]:
    """The wanted pictures of a clip that plays over and over."""
    remaining = iter(wanted)
    goal = next(remaining, None)
    while goal is not None:
        for index, picture in enumerate(_decoded(path)):
            if index == goal:
                yield picture
                goal = next(remaining, None)
                if goal is None:
                    return


def _feed(source: Iterator[bytes], pipe: IO[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError), pipe:
        for picture in source:
            pipe.write(picture)
