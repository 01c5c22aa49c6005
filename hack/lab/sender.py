"""Live senders of the five codecs as clips are measured with: constant bitrate, one key at the start, one thread.

Not those of `hack.lab.codec`, which play in a loop and so need keys: these are set as browsers set them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.lab import units
from hack.lab.clip import Clip, encoded
from hack.lab.units import Unit

_KEY_EVERY = 3000  # frames: no second one in any clip
_LIBVPX = ("-deadline", "realtime", "-lag-in-frames", "0", "-auto-alt-ref", "0")
_X265 = "log-level=error:repeat-headers=1:scenecut=0:open-gop=0:pools=none:frame-threads=1"

_ENCODERS: Mapping[str, Sequence[str]] = {
    "H264": ("libopenh264", "-profile:v", "constrained_baseline", "-rc_mode", "bitrate"),
    "VP8": ("libvpx", *_LIBVPX, "-cpu-used", "-6", "-error-resilient", "1", "-max-intra-rate", "450"),
    "VP9": ("libvpx-vp9", *_LIBVPX, "-cpu-used", "7", "-aq-mode", "3"),
    "H265": ("libx265", "-preset", "ultrafast", "-tune", "zerolatency", "-x265-params", _X265),
    # FFmpeg's own option ends at 8; the library's takes 10.
    "AV1": ("libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-aom-params", "cpu-used=10", "-lag-in-frames", "0"),
}


@dataclass(frozen=True, slots=True)
class Sent:
    """What a sender made of a clip: a unit for each picture."""

    clip: Clip
    codec: str  # a name of `hack.lab.codec`
    kbps: int  # as it was told
    path: Path
    units: Sequence[Unit]

    @property
    def bitrate_kbps(self) -> float:
        """Of the payloads, on average."""
        return sum(len(unit.payload) for unit in self.units) * 8 * float(self.clip.fps) / len(self.units) / 1000


def send(clip: Clip, codec: str, kbps: int, frames: int) -> Sent:
    """The first `frames` pictures at that rate; encoded once, cached. Raises RuntimeError if a picture is left out."""
    frames = min(frames, clip.frames)
    rate = [word for name in ("b:v", "minrate", "maxrate", "bufsize") for word in (f"-{name}", f"{kbps}k")]
    settings = [
        *("-an", "-frames:v", f"{frames}", "-fps_mode", "passthrough", "-pix_fmt", "yuv420p", "-threads", "1"),
        *("-c:v", *_ENCODERS[codec], "-g", f"{_KEY_EVERY}", *rate),
    ]
    path = encoded(clip.path, settings, f"sent.{units.SUFFIXES[codec]}")
    made = units.cut(path, codec)
    if len(made) != frames or not made[0].key:
        raise RuntimeError(f"{codec} at {kbps} kb/s of {clip.name}: {len(made)} units of {frames} pictures")
    return Sent(clip, codec, kbps, path, made)
