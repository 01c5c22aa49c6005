"""How well a participant is connected: figures, where they are from, and a short history of them. Pure.

No single source sees the whole way. An SFU ends RTCP, so:

| source | is about | says |
|---|---|---|
| own-leg | this pod and its peer: the SFU, or on a plain-RTP leg itself | loss, jitter, round trip, bandwidth |
| livekit | the participant and LiveKit, by LiveKit | a class and a MOS, no figures |
| jitsi | the participant and its bridge, by the participant's own client | loss, round trip, bandwidth |

A figure that a source does not give is None, never 0. Sources are kept apart and not averaged with each other.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from math import isfinite
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field

from auralink_dataplane.rooms import emodel
from auralink_dataplane.rooms.wire import WIRE

HISTORY: Final = 60  # samples of one participant by one source: five minutes at one report in 5 s
HISTORY_S: Final = 600.0

MAX_MS: Final = 600_000
MAX_KBPS: Final = 100_000_000
MAX_LINES: Final = 65_535
_MAX_JS_INTEGER: Final = (1 << 53) - 1

Percent = Annotated[float, Field(ge=0, le=100)]
Milliseconds = Annotated[float, Field(ge=0, le=MAX_MS)]
Kbps = Annotated[int, Field(ge=0, le=MAX_KBPS)]
Mos = Annotated[float, Field(ge=emodel.MIN_MOS, le=emodel.MAX_MOS)]
Timestamp = Annotated[int, Field(ge=0, le=_MAX_JS_INTEGER)]
"""Milliseconds since 1970."""


class QoSSource(Enum):
    OWN_LEG = "own-leg"
    LIVEKIT = "livekit"
    JITSI = "jitsi"


@dataclass(frozen=True, slots=True)
class QoSMetrics:
    """One sample, of the guide's names. `mos_score` is of speech (`emodel`), None where no audio is known to flow."""

    __pydantic_config__: ClassVar[ConfigDict] = WIRE

    source: QoSSource
    timestamp: Timestamp
    packet_loss_percent: Percent | None = None
    jitter_ms: Milliseconds | None = None
    rtt_ms: Annotated[int, Field(ge=0, le=MAX_MS)] | None = None
    bandwidth_kbps: Kbps | None = None
    mos_score: Mos | None = None


class LiveKitQuality(Enum):
    """`livekit.ConnectionQuality`; LiveKit calls it by its own score of 0..100: over 80, 40, 20, or less."""

    EXCELLENT = "EXCELLENT"
    GOOD = "GOOD"
    POOR = "POOR"
    LOST = "LOST"


_MIDDLE: Final = {
    LiveKitQuality.EXCELLENT: 90.0,
    LiveKitQuality.GOOD: 60.0,
    LiveKitQuality.POOR: 30.0,
    LiveKitQuality.LOST: 0.0,
}
"""Of the class, on LiveKit's scale, which it maps to a MOS as G.107 does R."""


def of_receiver_report(
    *,
    fraction_lost: int,
    jitter: int,
    clock_hz: int,
    rtt_ms: float | None,
    now_ms: int,
    bandwidth_kbps: float | None = None,
    codec: str = "",
) -> QoSMetrics:
    """From one report block (RFC 3550 6.4.1): `fraction_lost` in 1/256, `jitter` in units of `clock_hz`. `codec`: of an
    audio stream, as in SDP; empty for video."""
    loss = _within(fraction_lost * 100 / 256, 100.0)
    jitter_ms = _within(jitter * 1000 / clock_hz, MAX_MS) if clock_hz > 0 else None
    return _sample(QoSSource.OWN_LEG, now_ms, loss, jitter_ms, rtt_ms, bandwidth_kbps, emodel.CODECS.get(codec.lower()))


def of_livekit(quality: str, score: float | None, now_ms: int) -> QoSMetrics | None:
    """From `ConnectionQualityInfo`: the class by its protobuf name, and the score, a MOS (None or 0: an older server).
    None for a class that we do not know."""
    try:
        known = LiveKitQuality(quality)
    except ValueError:
        return None
    middle = emodel.mos_of(_MIDDLE[known])
    said = score if score is not None and emodel.MIN_MOS <= score <= emodel.MAX_MOS else middle
    return QoSMetrics(QoSSource.LIVEKIT, _at(now_ms), mos_score=round(said, 2))


def of_jitsi(values: Mapping[str, object], now_ms: int) -> QoSMetrics | None:
    """From an endpoint's `EndpointStats` (lib-jitsi-meet `ConnectionQuality`), which its own client wrote: `packetLoss`
    {total, upload, download} percent, `bitrate` {upload, download} kbit/s, `jvbRTT` ms. None if there is none of them.

    The MOS is of what the others hear, so of the upload. Its jitter is not told and taken as 0: an upper bound."""
    loss, bitrate = _mapping(values.get("packetLoss")), _mapping(values.get("bitrate"))
    upload, rtt = _number(loss.get("upload")), _number(values.get("jvbRTT"))
    total, kbps = _number(loss.get("total")), _number(bitrate.get("upload"))
    if upload is None and total is None and rtt is None and kbps is None:
        return None
    said = upload if upload is not None else total
    codec = emodel.OPUS if said is not None and rtt is not None else None
    return _sample(QoSSource.JITSI, now_ms, said, None, rtt, kbps, codec)


def _sample(
    source: QoSSource,
    now_ms: int,
    loss: float | None,
    jitter_ms: float | None,
    rtt_ms: float | None,
    kbps: float | None,
    codec: emodel.Codec | None,
) -> QoSMetrics:
    loss, jitter_ms = _within(loss, 100.0), _within(jitter_ms, MAX_MS)
    rtt_ms, kbps = _within(rtt_ms, MAX_MS), _within(kbps, MAX_KBPS)
    mos = None
    if codec is not None and loss is not None:
        one_way = emodel.mouth_to_ear_ms(rtt_ms or 0.0, jitter_ms or 0.0, codec)
        mos = round(emodel.mos(loss_percent=loss, delay_ms=one_way, codec=codec), 2)
    return QoSMetrics(
        source=source,
        timestamp=_at(now_ms),
        packet_loss_percent=None if loss is None else round(loss, 2),
        jitter_ms=None if jitter_ms is None else round(jitter_ms, 2),
        rtt_ms=None if rtt_ms is None else round(rtt_ms),
        bandwidth_kbps=None if kbps is None else round(kbps),
        mos_score=mos,
    )


def max_enabled_lines(values: Mapping[str, object]) -> int:
    """`maxEnabledResolution` of the same message: lines of the largest picture that the client may send; 0: unknown."""
    lines = _number(values.get("maxEnabledResolution"))
    return round(min(MAX_LINES, max(0.0, lines))) if lines is not None else 0


class QoSHistory:
    """Of one participant and each source the last `HISTORY` samples, none older than `HISTORY_S`: a source that tells
    often pushes out none that tells seldom. Time is that of the samples."""

    def __init__(self) -> None:
        self._samples: dict[QoSSource, deque[QoSMetrics]] = {one: deque(maxlen=HISTORY) for one in QoSSource}

    def __len__(self) -> int:
        return sum(map(len, self._samples.values()))

    def add(self, sample: QoSMetrics) -> bool:
        """False, and nothing happens, for a sample that is not newer than what its source has said already."""
        known = self.latest(sample.source)
        if known is not None and sample.timestamp <= known.timestamp:
            return False
        self._samples[sample.source].append(sample)
        return True

    def forget_before(self, now_ms: int) -> None:
        """Drops what is older than `HISTORY_S` at `now_ms`."""
        for samples in self._samples.values():
            while samples and samples[0].timestamp < now_ms - HISTORY_S * 1000:
                samples.popleft()

    def latest(self, source: QoSSource | None = None) -> QoSMetrics | None:
        """The newest of a source, or of all; of two of one time that of the source that `QoSSource` names first."""
        return next(iter(self.last(1, source)), None)

    def last(self, limit: int, source: QoSSource | None = None) -> tuple[QoSMetrics, ...]:
        """At most `limit`, newest first (the guide's `getQoSHistory`)."""
        return tuple(sorted(self._of(source), key=lambda one: -one.timestamp)[: max(0, limit)])

    def mean(self, source: QoSSource, since_ms: int = 0) -> QoSMetrics | None:
        """Field by field over the samples of one source that have it; the time is that of the newest."""
        samples = [one for one in self._of(source) if one.timestamp >= since_ms]
        if not samples:
            return None
        rtt, kbps = _mean(samples, lambda one: one.rtt_ms), _mean(samples, lambda one: one.bandwidth_kbps)
        return QoSMetrics(
            source=source,
            timestamp=max(one.timestamp for one in samples),
            packet_loss_percent=_mean(samples, lambda one: one.packet_loss_percent),
            jitter_ms=_mean(samples, lambda one: one.jitter_ms),
            rtt_ms=None if rtt is None else round(rtt),
            bandwidth_kbps=None if kbps is None else round(kbps),
            mos_score=_mean(samples, lambda one: one.mos_score),
        )

    def _of(self, source: QoSSource | None) -> list[QoSMetrics]:
        return [one for name, samples in self._samples.items() for one in samples if source in (None, name)]


def _mean(samples: Iterable[QoSMetrics], figure: Callable[[QoSMetrics], float | None]) -> float | None:
    said = [value for value in map(figure, samples) if value is not None]
    return round(sum(said) / len(said), 2) if said else None


def _within(value: float | None, most: float) -> float | None:
    return None if value is None or not isfinite(value) else min(most, max(0.0, value))


def _at(now_ms: int) -> int:
    return min(_MAX_JS_INTEGER, max(0, now_ms))


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float | None:
    """None for what is no finite number; a client may send anything."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None
