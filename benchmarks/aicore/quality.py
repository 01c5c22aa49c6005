"""What one sender's stream saves and loses: the closed loop at several targets, with the quality floor, and the sender
that was asked to send less instead.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.aicore import figures
from benchmarks.aicore.loop import FLOOR_LOSS, Answer, recompress
from benchmarks.aicore.plan import UNSCORED, Job
from hack.lab import picture, sender, units
from hack.lab.picture import Decoded
from hack.lab.sender import Sent

TARGET = 0.4
OTHER_TARGETS = (0.3, 0.5)  # between them the loss at exactly what is to be saved
ASKED_SHARES = (0.6, 0.45)  # of its rate; the first misses its mark by some percent, too

WINDOW_S = 10.0
START_S = 1.5
FLOOR_WINDOW_S = 0.5
FLOOR_SLACK = 1.0  # VMAF points above the floor's that make a violation


@dataclass(frozen=True, slots=True)
class Wants:
    """Which rows are to be had, for each needs runs of its own."""

    saving: bool
    loss: bool
    asking: bool
    floor: bool

    @property
    def scores(self) -> bool:
        return self.loss or self.asking or self.floor

    @property
    def any(self) -> bool:
        return self.saving or self.scores

    @property
    def runs(self) -> float:
        """How often the stream is gone through, scored runs as two."""
        curve = 2 * (1 + len(OTHER_TARGETS)) + 2 if self.loss or self.asking else 0
        return curve + (2 * len(ASKED_SHARES) if self.asking else 0) + (4 if self.floor else 0) or 1


@dataclass(frozen=True, slots=True)
class Take:
    """Our stream, or the sender's of a lower rate: bytes of each frame, and the scores of some."""

    name: str
    sizes: Sequence[int]
    scores: Mapping[int, float]
    answers: Sequence[Answer] = ()
    decoded: Decoded | None = None


@dataclass(slots=True)
class Measured:
    job: Job
    sizes: Sequence[int]  # the sender's
    scores: Mapping[int, float] = field(default_factory=dict)
    ours: dict[float, Take] = field(default_factory=dict)  # by target
    asked: list[Take] = field(default_factory=list)
    floored: Take | None = None

    def point(self, take: Take) -> tuple[float, float]:
        """(% saved, VMAF lost) over the frames that count."""
        lost = figures.mean(self.scores, UNSCORED) - figures.mean(take.scores, UNSCORED)
        return figures.saved(self.sizes[UNSCORED:], take.sizes[UNSCORED:]), lost

    @property
    def our_curve(self) -> list[tuple[float, float]]:
        return [self.point(take) for take in self.ours.values() if take.scores]

    @property
    def asked_curve(self) -> list[tuple[float, float]]:
        """From the sender as it is on."""
        return [(0.0, 0.0), *(self.point(take) for take in self.asked)]

    @property
    def our_loss(self) -> float | None:
        return figures.loss_at(self.our_curve, 100 * TARGET)

    @property
    def asked_loss(self) -> float | None:
        return figures.loss_at(self.asked_curve, 100 * TARGET) if self.asked else None

    @property
    def worst_saving(self) -> float:
        window = round(WINDOW_S * self.job.fps)
        return figures.worst_window(self.sizes, self.ours[TARGET].sizes, window, 100 * TARGET)

    @property
    def start_saving(self) -> float:
        first = round(START_S * self.job.fps)
        return figures.saved(self.sizes[:first], self.ours[TARGET].sizes[:first]) - 100 * TARGET

    @property
    def violations(self) -> figures.Share | None:
        if self.floored is None:
            return None
        window = round(FLOOR_WINDOW_S * self.job.fps)
        limit = FLOOR_LOSS + FLOOR_SLACK
        return figures.windows_losing(self.scores, self.floored.scores, UNSCORED, window, limit)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Every frame of every run. Several streams ran at once: these times are no latencies."""
        base = {
            "codec": self.job.codec,
            "clip": self.job.subject.name,
            "size": self.job.subject.size,
            "sender_kbps": self.job.kbps,
        }
        sent = Take("sender", self.sizes, self.scores)
        takes = [sent, *self.ours.values(), *self.asked, *([self.floored] if self.floored else [])]
        for take in takes:
            for frame, size in enumerate(take.sizes):
                line = {**base, "run": take.name, "frame": frame, "bytes": size, "vmaf": take.scores.get(frame)}
                if take.answers:
                    line |= {"key": take.answers[frame].key, "busy_ms": round(take.answers[frame].ms, 3)}
                yield line


def measure(job: Job, wants: Wants) -> Measured:
    """Everything that the wanted rows need of one stream."""
    sent = sender.send(job.subject.clip, job.codec, job.kbps, job.frames)
    found = Measured(job, [len(unit.payload) for unit in sent.units])
    if wants.scores:
        found.scores = _vmaf(sent.path, job)
    curve = wants.loss or wants.asking
    if curve or wants.saving:
        for target in (TARGET, *(OTHER_TARGETS if curve else ())):
            found.ours[target] = _ours(f"{target:g}", sent, job, target, floor=False, score=curve)
    if wants.floor:
        found.floored = _ours(f"{TARGET:g} with floor", sent, job, TARGET, floor=True, score=True)
    if wants.asking:
        found.asked = [_asked(share, job) for share in ASKED_SHARES]
    return found


def _ours(name: str, sent: Sent, job: Job, target: float, *, floor: bool, score: bool) -> Take:
    answers = recompress(job.codec, sent.units, job.fps, target, floor=floor)
    sizes = [len(answer.payload) for answer in answers]
    clip = job.subject.clip
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / f"ours.{units.SUFFIXES[job.codec]}"
        payloads = [answer.payload for answer in answers]
        units.join(path, job.codec, payloads, (clip.width, clip.height), clip.fps)
        decoded = picture.decode_strictly(path)
        return Take(name, sizes, _vmaf(path, job) if score else {}, answers, decoded)


def _asked(share: float, job: Job) -> Take:
    sent = sender.send(job.subject.clip, job.codec, round(share * job.kbps), job.frames)
    return Take(f"sender asked for {share:g}", [len(unit.payload) for unit in sent.units], _vmaf(sent.path, job))


def _vmaf(path: Path, job: Job) -> Mapping[int, float]:
    return picture.vmaf_in_step(path, job.subject.clip, job.frames, job.subsample).scores
