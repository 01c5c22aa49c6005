"""Real H.264 for the tests: FFmpeg's own pictures, encoded by its libx264, cut into access units."""

import functools
import io
import os
import subprocess
from pathlib import Path

import av
import imageio_ffmpeg

MANDELBROT = "mandelbrot=s={size}:r=30"
TEST_CARD = "testsrc2=s={size}:r=30"
# A slow zoom under sensor noise: spends bytes evenly, as a camera does.
CAMERA = "mandelbrot=s={size}:r=30:maxiter=100,noise=alls=6:allf=t"


@functools.cache
def h264(source: str = CAMERA, size: str = "320x240", frames: int = 60, arguments: str = "") -> tuple[bytes, ...]:
    """Access units of one stream; a key every 30 pictures, no B-frames unless `arguments` ask for them."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    command = f"-v error -f lavfi -i {source.format(size=size)} -frames:v {frames} -pix_fmt yuv420p -c:v libx264"
    command += f" -preset veryfast -threads 1 -bf 0 -g 30 -keyint_min 30 -sc_threshold 0 {arguments} -f h264 -"
    done = subprocess.run([ffmpeg, *command.split()], capture_output=True, check=True, timeout=120)
    return access_units(done.stdout)


@functools.cache
def openh264(size: str = "320x240", frames: int = 60) -> tuple[bytes, ...]:
    """The same pictures from the encoder that most browsers send with: constrained baseline, rate control."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    command = f"-v fatal -f lavfi -i {CAMERA.format(size=size)} -frames:v {frames} -pix_fmt yuv420p -c:v libopenh264"
    command += " -b:v 600k -rc_mode bitrate -g 30 -f h264 -"
    done = subprocess.run([ffmpeg, *command.split()], capture_output=True, check=True, timeout=120)
    return access_units(done.stdout)


def local() -> list[Path]:
    """H.264 files in the folder that AURALINK_CLIPS names; none without it."""
    folder = os.environ.get("AURALINK_CLIPS")
    return sorted(path for path in Path(folder).iterdir() if path.suffix in (".264", ".h264")) if folder else []


def access_units(stream: bytes) -> tuple[bytes, ...]:
    """Cut an Annex B stream."""
    with av.open(io.BytesIO(stream), "r", format="h264") as container:
        return tuple(bytes(packet) for packet in container.demux(video=0) if packet.size)


def is_key(unit: bytes) -> bool:
    """Whether it has an IDR slice."""
    return any(unit[at + 3] & 0x1F == 5 for at in starts(unit))


def starts(unit: bytes) -> list[int]:
    """Where its start codes are."""
    found, at = [], unit.find(b"\0\0\1")
    while at >= 0:
        found.append(at)
        at = unit.find(b"\0\0\1", at + 3)
    return found


def nal_types(unit: bytes) -> list[int]:
    """The NAL unit types in it."""
    return [unit[at + 3] & 0x1F for at in starts(unit)]


def complaints(units: list[bytes]) -> str:
    """What FFmpeg has to say about a stream, told to stop at the first error; empty when it is clean."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    command = "-v error -xerror -err_detect explode -f h264 -i - -f null -"
    done = subprocess.run([ffmpeg, *command.split()], input=b"".join(units), capture_output=True, timeout=120)
    return done.stderr.decode() or ("" if done.returncode == 0 else f"exit {done.returncode}")


def decode(units: list[bytes]) -> list[av.VideoFrame]:
    """The pictures of a stream."""
    decoder = av.VideoCodecContext.create("h264", "r")
    decoder.thread_count = 1
    pictures: list[av.VideoFrame] = []
    for unit in units:
        pictures += decoder.decode(av.Packet(unit))
    return pictures + decoder.decode(None)
