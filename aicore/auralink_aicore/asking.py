"""When a stream is better served by a sender that spends less than by recompressing what it sent. Pure; `transcoder`
runs it and tells the caller, who may or may not be able to ask the sender.

Measured (720p, 40 % saved, VMAF against the pristine picture): the same sender told to use 60 % of its rate loses
about half of what we lose with VP8, VP9, H.265 and AV1 (on one noisy clip we won with VP9), and costs no time. With
H.264 either wins about half the time, so that there the wish is said only where nothing can be saved here, or where the
sender is lavish.
"""

import math
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

EVERY_S: Final = 5.0  # a sender's rate control takes seconds to follow, and needs no more to be told
MEASURED_S: Final = 5.0  # bytes are seen so long before anything is said
WORTH: Final = 1.15  # a sender within this of the wish is left alone
LEAST_BITS_PER_PIXEL: Final = 0.04  # no sender is asked below: a thinner stream is not compressed either
LAVISH_BITS_PER_PIXEL: Final = 0.3  # three times what the measurements call well-fed; a judgement, not measured
_FRAMES: Final = 2000  # of the window; bounds absurd frame rates


class AskReason(IntEnum):
    """Numbered as on the wire."""

    NONE = 0
    CODEC = 1  # a codec that loses less by a lower rate at the sender than by recompression
    UNSERVED = 2  # it stays native here, for want of time or because of B-frames
    LAVISH = 3  # far more bits per pixel than a picture needs
    PATH = 4  # the way to the receivers carries less than it sends


@dataclass(frozen=True, slots=True)
class Ask:
    """A wish to the sender; `bps` 0 for none."""

    bps: int = 0
    reason: AskReason = AskReason.NONE


NOTHING: Final = Ask()


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a stream beside its rate."""

    recompresses_well: bool  # its codec, as H.264 does
    target: float  # T by its policy, 0..0.9
    limit_bps: int  # what the path to its receivers carries; 0 = not known
    pixels: int  # 0 = not known
    unserved: bool  # it stays native whatever its bytes
    screen: bool  # never asked for less: nothing was measured, and text suffers first


def wish(now_bps: float, most_bps: float, frame_rate: float, standing: Standing) -> Ask:
    """What to ask of a sender that spends `now_bps` now and spent up to `most_bps`, or NOTHING.

    The wish is a share of the most it spent, not of what it spends: a sender that did as asked is not asked again.
    """
    per_pixel = now_bps / (standing.pixels * frame_rate) if standing.pixels and frame_rate else 0.0
    reason = _reason(now_bps, per_pixel, standing)
    if reason is AskReason.NONE or standing.screen:
        return NOTHING
    bps = (1.0 - standing.target) * most_bps
    if standing.limit_bps:
        bps = min(bps, standing.limit_bps)
    bps = max(bps, LEAST_BITS_PER_PIXEL * standing.pixels * frame_rate)
    return Ask(round(bps), reason) if now_bps > WORTH * bps else NOTHING


def _reason(now_bps: float, per_pixel: float, standing: Standing) -> AskReason:
    able = standing.recompresses_well and not standing.unserved
    if 0 < standing.limit_bps < now_bps and not able:
        return AskReason.PATH
    if standing.target <= 0:
        return AskReason.NONE
    if standing.unserved:
        return AskReason.UNSERVED
    if not standing.recompresses_well:
        return AskReason.CODEC
    return AskReason.LAVISH if per_pixel > LAVISH_BITS_PER_PIXEL else AskReason.NONE


class Asking:
    """The rate of one sender, and when it was last wished lower."""

    def __init__(self) -> None:
        self._window: deque[tuple[float, int]] = deque(maxlen=_FRAMES)  # (when, bytes)
        self._bytes = 0
        self._since_s: float | None = None
        self._most_bps = 0.0
        self._pixels = 0
        self._asked_s = -math.inf

    def saw(self, now: float, size: int, standing: Standing) -> Ask:
        """Take note of one frame of the sender's, served or not; what to ask with it, at most once per EVERY_S."""
        if standing.pixels != self._pixels:
            self._pixels = standing.pixels
            self._forget()
        if self._since_s is None:
            self._since_s = now
        if len(self._window) == _FRAMES:
            self._bytes -= self._window[0][1]
        self._window.append((now, size))
        self._bytes += size
        while self._window[0][0] <= now - MEASURED_S:
            self._bytes -= self._window.popleft()[1]
        if now < max(self._since_s + MEASURED_S, self._asked_s + EVERY_S):
            return NOTHING
        span = now - self._window[0][0]
        if len(self._window) < 2 or span <= 0:
            return NOTHING
        now_bps = 8 * (self._bytes - self._window[0][1]) / span
        self._most_bps = max(self._most_bps, now_bps)
        found = wish(now_bps, self._most_bps, (len(self._window) - 1) / span, standing)
        if found.bps:
            self._asked_s = now
        return found

    def _forget(self) -> None:
        """Other pictures: what was spent on the old ones says nothing."""
        self._window.clear()
        self._bytes, self._since_s, self._most_bps = 0, None, 0.0
