"""A conference's media in one line, as the guide's MediaState has it. Pure.

| qualityLevel | the largest picture that is being sent, its shorter side in lines |
|---|---|
| UHD | 2160 and more |
| FHD | 1080 and more |
| HD | 720 and more |
| SD | less, or not known |
| AUDIO | no picture, sound only |
| NONE | nothing |
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from math import isfinite
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field

from auralink_dataplane.rooms.events import MAX_NAME
from auralink_dataplane.rooms.quality import MAX_KBPS, Kbps
from auralink_dataplane.rooms.wire import WIRE

MAX_STREAMS: Final = 1_000_000


class QualityLevel(Enum):
    UHD = "UHD"
    FHD = "FHD"
    HD = "HD"
    SD = "SD"
    AUDIO = "AUDIO"
    NONE = "NONE"


_LINES: Final = ((2160, QualityLevel.UHD), (1080, QualityLevel.FHD), (720, QualityLevel.HD), (0, QualityLevel.SD))


@dataclass(frozen=True, slots=True)
class StreamFigures:
    """One source of the room, of the last seconds. `native_kbps` came in, `sent_kbps` goes out, one copy each: how many
    receivers there are does not count. `under_aic`: its policy has compression on, whether or not frames fall back."""

    medium: str  # "audio" or "video"
    native_kbps: float
    sent_kbps: float
    width: int = 0  # pixels, 0 where unknown
    height: int = 0
    under_aic: bool = False

    @property
    def active(self) -> bool:
        return self.sent_kbps > 0


@dataclass(frozen=True, slots=True)
class MediaState:
    """The guide's, field for field. `compression_ratio`: the share of bytes saved, 0..1, of the video under AIC."""

    __pydantic_config__: ClassVar[ConfigDict] = WIRE

    conference_id: Annotated[str, Field(max_length=MAX_NAME)]
    active_streams: Annotated[int, Field(ge=0, le=MAX_STREAMS)] = 0
    total_bandwidth_kbps: Kbps = 0
    quality_level: QualityLevel = QualityLevel.NONE
    aic_enabled: bool = False
    compression_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0


def derive(conference_id: str, streams: Collection[StreamFigures], *, aic_enabled: bool) -> MediaState:
    """`aic_enabled`: the room's policy has compression on and there is an AI Core to ask. Streams that send nothing
    count for nothing."""
    active = [one for one in streams if one.active]
    return MediaState(
        conference_id=conference_id,
        active_streams=min(MAX_STREAMS, len(active)),
        total_bandwidth_kbps=round(min(MAX_KBPS, sum(one.sent_kbps for one in active))),
        quality_level=_level(active),
        aic_enabled=aic_enabled,
        compression_ratio=_saved([one for one in active if one.under_aic and one.medium == "video"]),
    )


def _level(active: Collection[StreamFigures]) -> QualityLevel:
    pictures = [min(one.width, one.height) for one in active if one.medium == "video"]
    if not pictures:
        return QualityLevel.AUDIO if active else QualityLevel.NONE
    lines = max(0, *pictures)
    return next(level for least, level in _LINES if lines >= least)


def _saved(streams: Collection[StreamFigures]) -> float:
    """A stream that grew counts against the others, but the whole is never negative: the guide's ratio is 0..1."""
    native, sent = sum(one.native_kbps for one in streams), sum(one.sent_kbps for one in streams)
    if not isfinite(native) or not isfinite(sent) or native <= 0:
        return 0.0
    return round(min(1.0, max(0.0, 1 - sent / native)), 3)
