"""How speech sounds after a network: ITU-T G.107 (06/2015), the E-model, and what it takes from loss and delay. Pure.

    R = R0 - Is - Id - Ie-eff + A      0..100, higher is better
    MOS = 1 + 0.035 R + R (R - 60) (100 - R) 7e-6      1..4.5 (Annex B)

R0 (noise), Is (what happens with the voice) and A (advantage of access) are those of the default values of G.107
Table 2; Id comes from the one-way delay, Ie-eff from codec and loss. With no delay and no loss R is 93.2, MOS 4.41.

What it is not:
- A planning model of a telephone call between two people. It knows no video, no echo of the real room (the default
  65 dB talker echo loss is assumed), no listener's headset; it was never validated for conferences.
- Narrow-band: nothing is better than G.711, so wideband Opus gains nothing by being so. A MOS of G.107.2 (full band) is
  on another scale, and so are those of other products.
- Loss is random and before repair: what RED, in-band FEC or retransmission bring back is not known to be there.
- Beyond 500 ms of delay, 20 % of loss or a codec impairment of 40 it extrapolates (Table 2, permitted ranges). It stays
  monotone there.
"""

import math
from dataclasses import dataclass
from typing import Final

R0: Final = 94.769
IS: Final = 1.414
A: Final = 0.0

_NO_DBM0P: Final = -61.179  # sum of all noise, (7-3), of the default values
_TELR_DB: Final = 65.0  # talker echo loudness rating
_WEPL_DB: Final = 110.0  # weighted echo path loss
_RLR_DB: Final = 2.0  # receive loudness rating
_NOTICEABLE_MS: Final = 100.0  # mT: the least delay that is noticed, at the default delay sensitivity
_SENSITIVITY: Final = 6.0  # 6 sT, sT 1 by default
_LONGEST_MS: Final = 60_000.0  # nobody talks over more; keeps powers finite

MIN_MOS: Final = 1.0
MAX_MOS: Final = 4.5


@dataclass(frozen=True, slots=True)
class Codec:
    """`impairment` Ie: points of R lost without any loss; `robustness` Bpl: the loss in percent that costs half of
    what is left; `delay_ms`: packetisation and look-ahead."""

    impairment: float
    robustness: float
    delay_ms: float


OPUS: Final = Codec(2.0, 16.0, 26.5)
"""G.113 has no figures for Opus. These are of Alahmadi, Pocta, Melvin, "An Adaptive Bitrate Switching Algorithm for
Speech Applications in Context of WebRTC", ACM TOMM 17(4) 133, 2021, as published with it: the best on the narrow-band
scale, 11 kbit/s CBR under random loss (Ie 2.03, Bpl 15.95). Under bursts it has Bpl 10.7. 20 ms packets and 6.5 ms
look-ahead: RFC 6716."""

G711: Final = Codec(0.0, 25.1, 20.0)
"""G.113 (11/2007) Appendix I, Table I.3: with the packet loss concealment of G.711 Appendix I. 20 ms packets."""

CODECS: Final = {"opus": OPUS, "pcmu": G711, "pcma": G711}
"""By name in SDP, lower case. A codec that is not here has no figures, and its MOS is unknown."""


def mos(*, loss_percent: float, delay_ms: float, codec: Codec = OPUS, burst_ratio: float = 1.0) -> float:
    """1..4.5. `delay_ms` is one-way, from mouth to ear; what is out of range is brought into it."""
    return mos_of(rating(loss_percent=loss_percent, delay_ms=delay_ms, codec=codec, burst_ratio=burst_ratio))


def rating(*, loss_percent: float, delay_ms: float, codec: Codec = OPUS, burst_ratio: float = 1.0) -> float:
    """R, at least 0. (7-1)"""
    lost = equipment(codec, loss_percent, burst_ratio)
    return max(0.0, R0 - IS - delay(delay_ms) - lost + A)


def mos_of(r: float) -> float:
    """(B-4). Below an R of 6.5 the polynomial dips under 1, which no listener can answer."""
    r = min(100.0, max(0.0, r))
    return min(MAX_MOS, max(MIN_MOS, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6))


def equipment(codec: Codec, loss_percent: float, burst_ratio: float = 1.0) -> float:
    """Ie-eff, (7-29). `burst_ratio`: mean length of bursts over that of random loss; 1 is random loss."""
    loss = min(100.0, max(0.0, loss_percent))
    return codec.impairment + (95 - codec.impairment) * loss / (loss / max(1.0, burst_ratio) + codec.robustness)


def delay(one_way_ms: float) -> float:
    """Id = Idte + Idle + Idd, (7-18): talker echo, listener echo, and delay itself. T = Ta, Tr = 2 T."""
    t = min(_LONGEST_MS, max(0.0, one_way_ms))
    return _talker_echo(t) + _listener_echo(2 * t) + _absolute(t)


def mouth_to_ear_ms(rtt_ms: float, jitter_ms: float, codec: Codec = OPUS) -> float:
    """One-way delay where only the round trip is known: half of it, a jitter buffer of twice the jitter, the codec's
    own. A path that is slower one way than the other is not seen."""
    return max(0.0, rtt_ms) / 2 + 2 * max(0.0, jitter_ms) + codec.delay_ms


def _talker_echo(t: float) -> float:
    """Idte, (7-19) to (7-22)."""
    if t < 1:
        return 0.0
    echo = _TELR_DB - 40 * math.log10((1 + t / 10) / (1 + t / 150)) + 6 * math.exp(-0.3 * t * t)
    without, with_ = -1.5 * (_NO_DBM0P - _RLR_DB), 80 + 2.5 * (echo - 14)
    half = (without - with_) / 2
    return (half + math.hypot(half, 10) - 1) * (1 - math.exp(-t))


def _listener_echo(round_trip: float) -> float:
    """Idle, (7-25) and (7-26)."""
    half = (R0 - 10.5 * (_WEPL_DB + 7) * math.pow(round_trip + 1, -0.25)) / 2
    return half + math.hypot(half, 13)


def _absolute(t: float) -> float:
    """Idd, (7-27) and (7-28)."""
    if t <= _NOTICEABLE_MS:
        return 0.0
    x = math.log2(t / _NOTICEABLE_MS)
    return 25 * (_bend(x) - 3 * _bend(x / 3) + 2)


def _bend(x: float) -> float:
    return math.pow(1 + math.pow(x, _SENSITIVITY), 1 / _SENSITIVITY)
