"""Real AV1 for the tests: FFmpeg's own pictures, encoded by its libaom or SVT-AV1, cut into temporal units."""

import functools
import io
import subprocess

import av
import imageio_ffmpeg
from auralink_aicore.codecs.av1_syntax import (
    FRAME_HEADERS,
    OBU_SEQUENCE_HEADER,
    TEMPORAL_DELIMITER,
    obus,
    parse_frame_start,
)

from tests.unit.aicore.clips import CAMERA

LIVE = "libaom-av1 -usage realtime -cpu-used 8 -lag-in-frames 0 -g 30 -keyint_min 30 -b:v 600k"
LIVE += " -maxrate 600k -minrate 600k"
HIDDEN = "libsvtav1 -preset 10 -g 30 -svtav1-params lp=1"  # some frames are shown later than they come


@functools.cache
def av1(encoder: str = LIVE, *, source: str = CAMERA, size: str = "320x240", frames: int = 60) -> tuple[bytes, ...]:
    """Temporal units of one stream, without delimiters; a key every 30 pictures."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    command = f"-v error -f lavfi -i {source.format(size=size)} -frames:v {frames} -pix_fmt yuv420p -threads 1"
    command += f" -c:v {encoder} -f ivf -"
    done = subprocess.run([ffmpeg, *command.split()], capture_output=True, check=True, timeout=120)
    with av.open(io.BytesIO(done.stdout), "r", format="ivf") as container:
        return tuple(
            bytes(packet).removeprefix(TEMPORAL_DELIMITER) for packet in container.demux(video=0) if packet.size
        )


def kinds(unit: bytes) -> list[int]:
    """The OBU types in it."""
    return [obu.kind for obu in obus(unit)]


def is_key(unit: bytes) -> bool:
    """Whether a decoder can begin with it."""
    start = next(obu for obu in obus(unit) if obu.kind in FRAME_HEADERS)
    frame = parse_frame_start(unit[start.start : start.end], reduced=False)
    return OBU_SEQUENCE_HEADER in kinds(unit) and frame.key and frame.shown


def ivf(units: list[bytes], size: tuple[int, int] = (320, 240)) -> bytes:
    """The stream in IVF, delimiters put back."""
    width, height = (side.to_bytes(2, "little") for side in size)
    parts = [b"DKIF\0\0\x20\0AV01", width, height, (30).to_bytes(4, "little"), (1).to_bytes(4, "little"), bytes(8)]
    for number, unit in enumerate(units):
        data = TEMPORAL_DELIMITER + unit
        parts += [len(data).to_bytes(4, "little"), number.to_bytes(8, "little"), data]
    return b"".join(parts)
