"""Real video for the tests: FFmpeg's own pictures, encoded by its encoders, cut into access units.

`SENDERS` has one codec each: what does not depend on the codec is tested over all of them.
"""

import functools
import io
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
import imageio_ffmpeg
from auralink_aicore.codecs import Codec

MANDELBROT = "mandelbrot=s={size}:r=30"
TEST_CARD = "testsrc2=s={size}:r=30"
# A slow zoom under sensor noise: spends bytes evenly, as a camera does.
CAMERA = "mandelbrot=s={size}:r=30:maxiter=100,noise=alls=6:allf=t"
AV1_DELIMITER = b"\x12\0"
AV1_SEQUENCE_HEADER = 1


@dataclass(frozen=True, slots=True)
class Sender:
    """How FFmpeg sends one codec live: a key every 30 pictures and no others, nothing reordered."""

    codec: Codec
    encoder: str  # arguments
    muxer: str
    decoders: tuple[str, ...]  # the first decodes for the tests; none may complain about what we send
    cut: Callable[[bytes], tuple[bytes, ...]]  # the muxer's stream into frames as the data plane hands them over
    join: Callable[[Sequence[bytes]], bytes]
    is_key: Callable[[bytes], bool]
    usual_kbps: int | None  # None: constant quality
    rich_kbps: int  # at 320x240, enough to save 60 % above the quality floor's lowest
    poor_kbps: int  # so little that nothing is left to save
    cheaper_levels: int  # speeds that our encoder has beside its usual one

    def __str__(self) -> str:
        return self.codec.name

    def send(
        self,
        source: str = CAMERA,
        size: str = "320x240",
        frames: int = 60,
        arguments: str = "",
        kbps: int | None = None,
    ) -> tuple[bytes, ...]:
        """Frames of one stream."""
        return _send(self, source, size, frames, arguments, kbps or self.usual_kbps)

    def complaints(self, units: Sequence[bytes]) -> str:
        """What the decoders have to say about a stream, told to stop at the first error; empty when it is clean."""
        stream = self.join(units)
        return "".join(self._complaints_of(decoder, stream) for decoder in self.decoders)

    def _complaints_of(self, decoder: str, stream: bytes) -> str:
        ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
        command = f"-v error -xerror -err_detect explode -c:v {decoder} -f {self.muxer} -i - -f null -"
        done = subprocess.run([ffmpeg, *command.split()], input=stream, capture_output=True, timeout=120)
        return done.stderr.decode() or ("" if done.returncode == 0 else f"exit {done.returncode}")

    def decode(self, units: Sequence[bytes]) -> list[av.VideoFrame]:
        """The pictures of a stream."""
        decoder = cast("av.VideoCodecContext", av.VideoCodecContext.create(self.decoders[0], "r"))
        decoder.thread_count = 1
        pictures: list[av.VideoFrame] = []
        for unit in units:
            pictures += decoder.decode(av.Packet(unit))
        return pictures + decoder.decode(None)


@functools.cache
def _send(sender: Sender, source: str, size: str, frames: int, arguments: str, kbps: int | None) -> tuple[bytes, ...]:
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    command = f"-v error -f lavfi -i {source.format(size=size)} -frames:v {frames} -pix_fmt yuv420p"
    command += f" -c:v {sender.encoder} -threads 1 -g 30 -keyint_min 30"
    if kbps:
        command += f" -b:v {kbps}k -minrate {kbps}k -maxrate {kbps}k -bufsize {kbps // 2}k"
    command += f" {arguments} -f {sender.muxer} -"
    done = subprocess.run([ffmpeg, *command.split()], capture_output=True, check=True, timeout=120)
    return sender.cut(done.stdout)


def access_units(stream: bytes, codec: str = "h264") -> tuple[bytes, ...]:
    """Cut an Annex B stream."""
    with av.open(io.BytesIO(stream), "r", format=codec) as container:
        return tuple(bytes(packet) for packet in container.demux(video=0) if packet.size)


def ivf_frames(stream: bytes) -> tuple[bytes, ...]:
    """Cut an IVF file: a header of 32 bytes, then each frame's size and time in 12."""
    found, at = [], 32
    while at < len(stream):
        end = at + 12 + int.from_bytes(stream[at : at + 4], "little")
        found.append(stream[at + 12 : end])
        at = end
    return tuple(found)


def ivf(fourcc: bytes, units: Sequence[bytes]) -> bytes:
    """The other way; the decoder knows the size better."""
    u16, u32, u64 = (functools.partial(int.to_bytes, length=n, byteorder="little") for n in (2, 4, 8))
    header = b"DKIF" + u16(0) + u16(32) + fourcc + u16(320) + u16(240) + u32(30) + u32(1) + u32(len(units)) + u32(0)
    return header + b"".join(u32(len(unit)) + u64(number) + unit for number, unit in enumerate(units))


def is_key(unit: bytes) -> bool:
    """Whether an access unit of H.264 has an IDR slice."""
    return any(unit[at + 3] & 0x1F == 5 for at in starts(unit))


def is_h265_key(unit: bytes) -> bool:
    """Whether an access unit of H.265 is a random access point."""
    return any(16 <= unit[at + 3] >> 1 <= 21 for at in starts(unit)[:8] if at + 3 < len(unit))


def is_av1_key(unit: bytes) -> bool:
    """Whether a temporal unit of AV1 begins with a sequence header, as those of FFmpeg's encoders do at keys only."""
    return unit[:1] == bytes([AV1_SEQUENCE_HEADER << 3 | 2])


_REALTIME = "-deadline realtime -lag-in-frames 0 -auto-alt-ref 0"
H264 = Sender(
    codec=Codec.H264,
    encoder="libx264 -preset veryfast -bf 0 -sc_threshold 0",
    muxer="h264",
    decoders=("h264",),
    cut=access_units,
    join=b"".join,
    is_key=is_key,
    usual_kbps=None,
    rich_kbps=600,
    poor_kbps=150,
    cheaper_levels=1,
)
VP8 = Sender(
    codec=Codec.VP8,
    encoder=f"libvpx {_REALTIME} -cpu-used -6 -error-resilient 1 -max-intra-rate 450",
    muxer="ivf",
    decoders=("vp8", "libvpx"),
    cut=ivf_frames,
    join=functools.partial(ivf, b"VP80"),
    is_key=lambda unit: unit != b"" and not unit[0] & 1,
    usual_kbps=1200,
    rich_kbps=2000,
    poor_kbps=150,
    cheaper_levels=2,
)
VP9 = Sender(
    codec=Codec.VP9,
    encoder=f"libvpx-vp9 {_REALTIME} -cpu-used 7 -aq-mode 3",
    muxer="ivf",
    decoders=("vp9", "libvpx-vp9"),
    cut=ivf_frames,
    join=functools.partial(ivf, b"VP90"),
    is_key=lambda unit: unit != b"" and unit[0] & 0xFC == 0x80,  # profile 0, a frame of its own and intra
    usual_kbps=1200,
    rich_kbps=2000,
    poor_kbps=150,
    cheaper_levels=2,
)
_X265 = "log-level=error:pools=none:frame-threads=1:repeat-headers=1:scenecut=0:keyint=30:min-keyint=30"
H265 = Sender(
    codec=Codec.H265,
    encoder=f"libx265 -preset ultrafast -tune zerolatency -x265-params {_X265}",
    muxer="hevc",
    decoders=("hevc",),
    cut=functools.partial(access_units, codec="hevc"),
    join=b"".join,
    is_key=is_h265_key,
    usual_kbps=None,
    rich_kbps=3000,
    poor_kbps=150,
    cheaper_levels=0,
)
AV1 = Sender(
    codec=Codec.AV1,
    encoder="libaom-av1 -usage realtime -cpu-used 8 -lag-in-frames 0",
    muxer="ivf",
    decoders=("libdav1d", "libaom-av1"),
    cut=lambda stream: tuple(unit.removeprefix(AV1_DELIMITER) for unit in ivf_frames(stream)),
    join=lambda units: ivf(b"AV01", [AV1_DELIMITER + unit for unit in units]),
    is_key=is_av1_key,
    usual_kbps=1200,
    rich_kbps=2000,
    poor_kbps=150,
    cheaper_levels=0,
)
SENDERS = (H264, VP8, VP9, H265, AV1)


def h264(source: str = CAMERA, size: str = "320x240", frames: int = 60, arguments: str = "") -> tuple[bytes, ...]:
    """Access units of one stream of H.264, as `Sender.send` gives them."""
    return H264.send(source, size, frames, arguments)


def h265(parameters: str = "", arguments: str = "", *, size: str = "320x240", frames: int = 60) -> tuple[bytes, ...]:
    """Access units of one stream of H.265; `parameters` as libx265 spells them."""
    return H265.send(size=size, frames=frames, arguments=f"-x265-params {_X265}:{parameters} {arguments}")


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


def starts(unit: bytes) -> list[int]:
    """Where an access unit's start codes are."""
    found, at = [], unit.find(b"\0\0\1")
    while at >= 0:
        found.append(at)
        at = unit.find(b"\0\0\1", at + 3)
    return found


def nal_types(unit: bytes) -> list[int]:
    """The NAL unit types in it."""
    return [unit[at + 3] & 0x1F for at in starts(unit)]
