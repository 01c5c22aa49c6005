"""A transcoder of any codec on a clock of its own, and decoders to judge what comes out of it."""

import math
import subprocess
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import av
import imageio_ffmpeg
from auralink_aicore.codecs import Codec, Limits
from auralink_aicore.controller import Policy
from auralink_aicore.transcoder import Disposition, Frame, Mode, Result, Session, Transcoder

GENEROUS = Policy(always=True, quality_level=1, quality_floor=0)


class Bench:
    """30 frames a second; encoding takes no time."""

    def __init__(self, codec: Codec, is_key: Callable[[bytes], bool], policy: Policy = GENEROUS) -> None:
        self.now = 100.0
        self._next_id = 0
        self._is_key = is_key
        self.transcoder = Transcoder(Session(codec, policy, Limits(), screen=False), lambda: self.now)

    def frame(self, unit: bytes, mode: Mode = Mode.COMPRESS, *, marked: bool | None = None) -> Result:
        """`marked`: as a key, where the unit cannot tell."""
        self.now += 1 / 30
        key = self._is_key(unit) if marked is None else marked
        frame = Frame(self._next_id, unit, key, mode, self.now, math.inf)
        self._next_id += 1
        return self.transcoder.receive(frame)

    def run(self, units: Iterable[bytes], mode: Mode = Mode.COMPRESS) -> list[Result]:
        return [self.frame(unit, mode) for unit in units]


def sent(results: Iterable[Result]) -> list[bytes]:
    return [result.payload for result in results if result.disposition is Disposition.COMPRESSED]


def saved(units: Sequence[bytes], results: Sequence[Result]) -> float:
    return 1 - sum(len(r.payload) for r in results) / sum(map(len, units))


def decode(decoder: str, units: Iterable[bytes], **options: str) -> list[av.VideoFrame]:
    """The pictures of a stream, one for each unit at once, none of them damaged; else AssertionError."""
    context = cast("av.VideoCodecContext", av.VideoCodecContext.create(decoder, "r"))
    context.thread_count = 1
    context.options = {"err_detect": "explode", **options}
    pictures: list[av.VideoFrame] = []
    for unit in units:
        (picture,) = context.decode(av.Packet(unit))
        assert not picture.is_corrupt
        pictures.append(picture)
    return pictures


def complaints(container: str, stream: bytes) -> str:
    """What FFmpeg has to say about a stream, told to stop at the first error; empty when it is clean."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    command = f"-v error -xerror -err_detect explode -f {container} -i - -f null -"
    done = subprocess.run([ffmpeg, *command.split()], input=stream, capture_output=True, timeout=120)
    return done.stderr.decode() or ("" if done.returncode == 0 else f"exit {done.returncode}")
