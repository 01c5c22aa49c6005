"""What a participant's client can send and take, and what a whole room can. Pure; the guide's MediaCapabilities.

Neither side tells all of it. What is not told is empty, 0 or False, and does not narrow the room:

| | LiveKit | Jitsi |
|---|---|---|
| codecs | `Room.enabled_codecs`, and those of its tracks | presence `jitsi_participant_codecList` (video), and Opus |
| largest picture | of its tracks | of its tracks, or `maxEnabledResolution` of its statistics |
| frame rate, bitrate | of its layers, where the caller knows them | - |
| simulcast | `TrackInfo.simulcast` | SIM groups of its sources |

`supports_aic`: some codec of its video is one that an AI Core recompresses, and none of its tracks is end-to-end
encrypted.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field

from auralink_dataplane.rooms.events import Participant, Track, TrackSource
from auralink_dataplane.rooms.quality import MAX_KBPS
from auralink_dataplane.rooms.wire import WIRE

MAX_CODECS: Final = 16
MAX_FRAME_RATE: Final = 1000

VIDEO_CODECS: Final = {"h264": "H.264", "vp8": "VP8", "vp9": "VP9", "h265": "H.265", "hevc": "H.265", "av1": "AV1"}
AUDIO_CODECS: Final = {"opus": "Opus", "red": "RED", "g722": "G.722", "pcmu": "PCMU", "pcma": "PCMA"}
"""The guide's names, by those of SDP without punctuation, in the order in which a room's are told."""

AIC_CODECS: Final = frozenset(VIDEO_CODECS.values())
"""What the reference AI Core takes."""

RESOLUTIONS: Final = (4320, 2160, 1440, 1080, 720, 540, 480, 360, 270, 240, 180, 144)
"""Lines that have a name ("1080p"); another picture has that of the next smaller one."""

_PICTURES: Final = frozenset({TrackSource.CAMERA, TrackSource.SCREEN})

Codecs = Annotated[tuple[Annotated[str, Field(max_length=16)], ...], Field(max_length=MAX_CODECS)]


@dataclass(frozen=True, slots=True)
class MediaCapabilities:
    """`max_resolution`: "1080p", empty where unknown; `max_frame_rate` 1/s and `max_bitrate` kbit/s are 0 there."""

    __pydantic_config__: ClassVar[ConfigDict] = WIRE

    video_codecs: Codecs = ()
    audio_codecs: Codecs = ()
    max_resolution: Annotated[str, Field(max_length=8)] = ""
    max_frame_rate: Annotated[int, Field(ge=0, le=MAX_FRAME_RATE)] = 0
    max_bitrate: Annotated[int, Field(ge=0, le=MAX_KBPS)] = 0
    supports_aic: Annotated[bool, Field(alias="supportsAIC")] = False
    supports_simulcast: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """What a caller has seen of a participant's streams beside its facts."""

    max_lines: int = 0  # Jitsi `maxEnabledResolution`
    frame_rate: float = 0.0
    bitrate_kbps: float = 0.0
    simulcast: bool = False


def of_livekit(
    participant: Participant, enabled_codecs: Iterable[str], measured: Measured | None = None
) -> MediaCapabilities:
    """`enabled_codecs`: mime types of `Room.enabled_codecs`."""
    return _of(participant, enabled_codecs, measured or Measured())


def of_jitsi(participant: Participant, codec_list: str, measured: Measured | None = None) -> MediaCapabilities:
    """`codec_list`: text of `<jitsi_participant_codecList>`, "av1,vp9,vp8,h264", the client's preference first."""
    return _of(participant, (*codec_list.split(",", MAX_CODECS)[:MAX_CODECS], "opus"), measured or Measured())


def intersect(capabilities: Collection[MediaCapabilities]) -> MediaCapabilities:
    """What everybody of a room can do, whatever their order. Who has not told something has no say in it."""
    return MediaCapabilities(
        video_codecs=_common([one.video_codecs for one in capabilities], VIDEO_CODECS.values()),
        audio_codecs=_common([one.audio_codecs for one in capabilities], AUDIO_CODECS.values()),
        max_resolution=resolution(_least(lines_of(one.max_resolution) for one in capabilities)),
        max_frame_rate=_least(one.max_frame_rate for one in capabilities),
        max_bitrate=_least(one.max_bitrate for one in capabilities),
        supports_aic=bool(capabilities) and all(one.supports_aic for one in capabilities),
        supports_simulcast=bool(capabilities) and all(one.supports_simulcast for one in capabilities),
    )


def resolution(lines: int) -> str:
    """ "1080p" of 1088 lines; empty of 0. Below the smallest name it is that one."""
    if lines <= 0:
        return ""
    return f"{next((one for one in RESOLUTIONS if lines >= one), RESOLUTIONS[-1])}p"


def lines_of(name: str) -> int:
    """0 for what is no name."""
    number = name.removesuffix("p")
    return int(number) if name.endswith("p") and number.isascii() and number.isdecimal() and len(number) < 6 else 0


def codec_name(text: str) -> str:
    """The guide's name of a mime type or SDP name ("video/H264", "vp8"); empty for what we do not know."""
    plain = text.rpartition("/")[2].strip().lower().replace(".", "")
    return VIDEO_CODECS.get(plain) or AUDIO_CODECS.get(plain) or ""


def _of(participant: Participant, said: Iterable[str], measured: Measured) -> MediaCapabilities:
    tracks = participant.tracks
    names = tuple(dict.fromkeys(codec_name(one) for one in (*said, *(track.mime for track in tracks))))
    video = tuple(name for name in names if name in VIDEO_CODECS.values())
    return MediaCapabilities(
        video_codecs=video,
        audio_codecs=tuple(name for name in names if name in AUDIO_CODECS.values()),
        max_resolution=resolution(max(measured.max_lines, *(_lines(one) for one in tracks), 0)),
        max_frame_rate=round(min(MAX_FRAME_RATE, max(0.0, measured.frame_rate))),
        max_bitrate=round(min(MAX_KBPS, max(0.0, measured.bitrate_kbps))),
        supports_aic=any(name in AIC_CODECS for name in video) and not any(one.encrypted for one in tracks),
        supports_simulcast=measured.simulcast,
    )


def _lines(track: Track) -> int:
    return min(track.width, track.height) if track.source in _PICTURES else 0


def _common(said: Iterable[tuple[str, ...]], order: Iterable[str]) -> tuple[str, ...]:
    told = [frozenset(codecs) for codecs in said if codecs]
    everywhere = frozenset.intersection(*told) if told else frozenset()
    return tuple(name for name in dict.fromkeys(order) if name in everywhere)


def _least(figures: Iterable[int]) -> int:
    return min((one for one in figures if one > 0), default=0)
