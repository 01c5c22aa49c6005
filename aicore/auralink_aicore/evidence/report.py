"""What `/evidence` tells of each room. Pure; `server` counts into it on its loop."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

from auralink_aicore.evidence.sampling import Score

ROOMS: Final = 64  # the last ones that something was heard of
QUALITY_UNKNOWN: Final = 65535


class Mean:
    """Of numbers as they come."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0.0
        self._least = 0.0

    def add(self, value: float) -> None:
        self._least = min(self._least, value) if self.count else value
        self.count += 1
        self._sum += value

    @property
    def value(self) -> float | None:
        """None before the first."""
        return self._sum / self.count if self.count else None

    def told(self) -> dict[str, float | int | None]:
        mean = self.value
        least = round(self._least, 2) if self.count else None
        return {"mean": None if mean is None else round(mean, 2), "least": least, "count": self.count}


@dataclass(slots=True)
class Coverage:
    """One codec of one room."""

    sessions: int = 0
    frames: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    psnr_db: Mean = field(default_factory=Mean)
    predicted_loss: Mean = field(default_factory=Mean)
    vmaf: Mean = field(default_factory=Mean)
    sample_psnr_db: Mean = field(default_factory=Mean)
    sample_ssim: Mean = field(default_factory=Mean)
    sampled_loss: Mean = field(default_factory=Mean)  # predicted, of the sampled frames alone

    def told(self) -> dict[str, Any]:
        vmaf = self.vmaf.value
        return {
            "sessions": self.sessions,
            "frames_compressed": self.frames,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "saved_percent": round(100 * (1 - self.bytes_out / self.bytes_in), 1) if self.bytes_in else None,
            "psnr_db_of_ours_against_senders": self.psnr_db.told(),
            "predicted_vmaf_loss": self.predicted_loss.told(),
            "samples": {
                "vmaf_of_ours_against_senders": self.vmaf.told(),
                "psnr_db_of_ours_against_senders": self.sample_psnr_db.told(),
                "ssim_of_ours_against_senders": self.sample_ssim.told(),
                "predicted_vmaf_loss": self.sampled_loss.told(),
                "measured_vmaf_loss": None if vmaf is None else round(100 - vmaf, 2),
            },
        }


Room = tuple[str, str]
"""(bridge, room)."""


class Report:
    """The last rooms."""

    def __init__(self) -> None:
        self._rooms: OrderedDict[Room, dict[str, Coverage]] = OrderedDict()

    def opened(self, room: Room, codec: str) -> None:
        """A session of it."""
        self._of(room, codec).sessions += 1

    def compressed(
        self, room: Room, codec: str, *, bytes_in: int, bytes_out: int, psnr_db: float | None, quality: int
    ) -> None:
        """One frame; `quality` as in the answer, 1000 x (1 - predicted loss / 100)."""
        one = self._of(room, codec)
        one.frames += 1
        one.bytes_in += bytes_in
        one.bytes_out += bytes_out
        if psnr_db is not None:
            one.psnr_db.add(psnr_db)
        if quality != QUALITY_UNKNOWN:
            one.predicted_loss.add(100 - quality / 10)

    def scored(self, room: Room, codec: str, score: Score, predicted_loss: float | None) -> None:
        """One sample."""
        one = self._of(room, codec)
        one.sample_psnr_db.add(score.psnr_db)
        one.sample_ssim.add(score.ssim)
        if score.vmaf is not None:
            one.vmaf.add(score.vmaf)
        if predicted_loss is not None:
            one.sampled_loss.add(predicted_loss)

    def told(self) -> list[dict[str, Any]]:
        """The room heard of last comes first."""
        return [
            {"bridge": bridge, "room": room, "codecs": {name: one.told() for name, one in sorted(codecs.items())}}
            for (bridge, room), codecs in reversed(self._rooms.items())
        ]

    def _of(self, room: Room, codec: str) -> Coverage:
        codecs = self._rooms.setdefault(room, {})
        self._rooms.move_to_end(room)
        if len(self._rooms) > ROOMS:
            self._rooms.popitem(last=False)
        return codecs.setdefault(codec, Coverage())
