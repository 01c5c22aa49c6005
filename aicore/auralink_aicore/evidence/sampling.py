"""Which frames of a session are kept to be scored: the sender's and ours, as they were coded. Pure.

A sample begins where both sides begin anew, at a key of the sender's that we answered by one of ours: from anywhere
else a decoder of ours, or of the sender's, could not start. So a sender without keys is sampled at its start only.
"""

import math
from dataclasses import dataclass, field
from typing import Final

from auralink_aicore.codecs import Codec

FRAMES: Final = 30
FEWEST: Final = 10  # of a sample that a skipped frame cut short
EVERY_S: Final = 60.0  # per session, from the end of one sample to the begin of the next
MOST_BYTES: Final = 4 << 20  # both sides of one sample


@dataclass(slots=True)
class Sample:
    """Frames of both sides, the same pictures in the same order."""

    codec: Codec
    senders: list[bytes] = field(default_factory=list)
    ours: list[bytes] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # predicted, points of VMAF; without those that are unknown

    @property
    def predicted_loss(self) -> float | None:
        return sum(self.losses) / len(self.losses) if self.losses else None


@dataclass(frozen=True, slots=True)
class Score:
    """Means over a sample's pictures, of ours against the sender's."""

    pictures: int
    psnr_db: float  # of luma
    ssim: float  # of luma, over blocks of 8x8
    vmaf: float | None  # None where no FFmpeg with libvmaf is at hand


class Sampling:
    """One session's."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._sample: Sample | None = None
        self._bytes = 0
        self._next_s = -math.inf

    @property
    def running(self) -> bool:
        """Whether one is being gathered."""
        return self._sample is not None

    def wants(self, now: float, *, senders_key: bool, our_key: bool) -> bool:
        """Whether a sample would begin with this pair."""
        return self._sample is None and senders_key and our_key and now >= self._next_s

    def begin(self) -> None:
        """With the pair that `took` gets next."""
        self._sample, self._bytes = Sample(self._codec), 0

    def took(self, now: float, senders: bytes, ours: bytes, predicted_loss: float | None) -> Sample | None:
        """One pair; the sample when it is complete."""
        sample = self._sample
        if sample is None:
            return None
        self._bytes += len(senders) + len(ours)
        if self._bytes > MOST_BYTES:
            return self.cut(now)
        sample.senders.append(senders)
        sample.ours.append(ours)
        if predicted_loss is not None:
            sample.losses.append(predicted_loss)
        return self.cut(now) if len(sample.ours) == FRAMES else None

    def cut(self, now: float) -> Sample | None:
        """The pairs end here: what there is, where it is enough."""
        sample, self._sample = self._sample, None
        if sample is None:
            return None
        self._next_s = now + EVERY_S
        return sample if len(sample.ours) >= FEWEST else None
