"""The video codecs that a sender of ours can send: how FFmpeg encodes each as a live sender would, and packs it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

_LIBVPX = ("-deadline", "realtime", "-cpu-used", "8", "-lag-in-frames", "0", "-auto-alt-ref", "0")
_X265 = "repeat-headers=1:open-gop=0:scenecut=0:bframes=0:log-level=error"


@dataclass(frozen=True, slots=True)
class Codec:
    """`name` as a bridge's `payloads` has it. One reference direction: nothing is delayed, no key at scene cuts."""

    name: str
    encoder: Sequence[str]
    container: str = "mp4"  # FFmpeg's MP4 takes no VP8
    rtp_name: str = ""
    fmtp: str = ""
    keys_unseen: bool = False  # FFmpeg's receiver flags no frame as a key, and would copy none
    options: Sequence[str] = field(default=())  # for FFmpeg to pack or unpack it

    @property
    def encoding(self) -> str:
        """As in `a=rtpmap`."""
        return f"{self.rtp_name or self.name}/90000"


H264 = Codec(
    "H264",
    (
        *("libx264", "-preset", "veryfast", "-tune", "zerolatency", "-profile:v", "high"),
        *("-sc_threshold", "0", "-bf", "0", "-x264-params", "repeat-headers=1"),
    ),
    fmtp="packetization-mode=1",
)
CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        codec.name: codec
        for codec in (
            H264,
            Codec("H265", ("libx265", "-preset", "ultrafast", "-tune", "zerolatency", "-x265-params", _X265)),
            Codec("VP8", ("libvpx", *_LIBVPX), container="mkv"),
            Codec("VP9", ("libvpx-vp9", *_LIBVPX), keys_unseen=True, options=("-strict", "experimental")),
            Codec(
                "AV1",
                ("libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-lag-in-frames", "0", "-row-mt", "1"),
                options=("-strict", "experimental"),
            ),
        )
    }
)
