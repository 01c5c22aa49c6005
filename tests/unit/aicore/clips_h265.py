"""Real H.265 for the tests: FFmpeg's own pictures, encoded by its libx265, cut into access units."""

import functools
import io
import subprocess

import av
import imageio_ffmpeg

from tests.unit.aicore.clips import CAMERA, starts

LIVE = "-tune zerolatency"  # as a live sender codes: no picture refers to a later one
_X265 = "log-level=error:pools=none:frame-threads=1:repeat-headers=1:scenecut=0:keyint=30:min-keyint=30"


@functools.cache
def h265(
    arguments: str = LIVE, parameters: str = "", *, source: str = CAMERA, size: str = "320x240", frames: int = 60
) -> tuple[bytes, ...]:
    """Access units of one stream, a key every 30 pictures; `parameters` as libx265 spells them."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    command = f"-v error -f lavfi -i {source.format(size=size)} -frames:v {frames} -pix_fmt yuv420p -c:v libx265"
    command += f" -preset ultrafast {arguments} -x265-params {_X265}:{parameters} -f hevc -"
    done = subprocess.run([ffmpeg, *command.split()], capture_output=True, check=True, timeout=120)
    with av.open(io.BytesIO(done.stdout), "r", format="hevc") as container:
        return tuple(bytes(packet) for packet in container.demux(video=0) if packet.size)


def nal_types(unit: bytes) -> list[int]:
    """The NAL unit types in it."""
    return [unit[at + 3] >> 1 & 0x3F for at in starts(unit)]


def is_key(unit: bytes) -> bool:
    """Whether it is a random access point."""
    return any(16 <= kind <= 21 for kind in nal_types(unit))
