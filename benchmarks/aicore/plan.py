"""What is measured: clips in sizes, senders' rates, how many frames. Pure but for `subjects`, which makes the clips."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.lab import clip as lab
from hack.lab import pristine
from hack.lab.clip import Clip
from hack.lab.pristine import SENSOR_NOISE, Form

SHORT_SIDE: Mapping[str, int] = {"720p": 720, "360p": 360}
SENDERS_KBPS: Mapping[str, tuple[int, ...]] = {"720p": (2500, 1500), "360p": (800, 500)}
SMALLEST_SIDE = 240  # pixels; rates for 360p are plenty below

UNSCORED = 15  # frames: the first key and what refines it say little of a stream that lasts
LEAST_SCORED = 75
MOST_SUBSAMPLE = 3

NOISE = "-noise"
CONFERENCING = frozenset({"presenter1", "presenter2", f"presenter1{NOISE}"})
_ALSO_NOISY = frozenset({"presenter1"})


@dataclass(frozen=True, slots=True)
class Subject:
    """A clip at one of the two sizes."""

    clip: Clip
    size: str

    @property
    def name(self) -> str:
        return pristine.plain_name(self.clip)

    @property
    def conferencing(self) -> bool:
        return self.name in CONFERENCING


@dataclass(frozen=True, slots=True)
class Job:
    """One sender's stream."""

    codec: str
    subject: Subject
    kbps: int
    frames: int

    @property
    def subsample(self) -> int:
        return subsample(self.frames)

    @property
    def fps(self) -> float:
        return float(self.subject.clip.fps)

    def __str__(self) -> str:
        return f"{self.codec} {self.subject.size} {self.kbps} kb/s {self.subject.name}"


def subsample(frames: int) -> int:
    """Every how many frames VMAF is taken, so that enough are scored."""
    enough = (n for n in range(MOST_SUBSAMPLE, 0, -1) if len(scored(frames, n)) >= LEAST_SCORED)
    return next(enough, 1)


def scored(frames: int, every: int) -> list[int]:
    """The frames whose score counts."""
    return [number for number in range(0, frames, every) if number >= UNSCORED]


def long_enough(clip: Clip) -> bool:
    return clip.frames >= UNSCORED + LEAST_SCORED


def jobs(
    subjects: Sequence[Subject], codecs: Sequence[str], rates: Mapping[str, Sequence[int]], seconds: float
) -> list[Job]:
    """Every codec with every subject at its rates, the first `seconds` of it, but never too few frames."""

    def frames(clip: Clip) -> int:
        return min(clip.frames, max(round(seconds * clip.fps), UNSCORED + LEAST_SCORED))

    return [
        Job(codec, subject, kbps, frames(subject.clip))
        for codec in codecs
        for subject in subjects
        for kbps in rates[subject.size]
    ]


def subjects(names: Sequence[str], sizes: Sequence[str], say: Callable[[str], None]) -> list[Subject]:
    """All clips, or those of these names (files, too), at every size that they have the pixels for."""
    if not names:
        return [subject for clip in lab.clips() for subject in _of(clip, sizes, frozenset(), say)]
    found: list[Subject] = []
    for clip in _named(names):
        found += _of(clip, sizes, frozenset(names), say)
    return found


def _named(names: Sequence[str]) -> list[Clip]:
    files = [lab.probe(lab.one_track(Path(name))) for name in names if Path(name).is_file()]
    asked = {name.removesuffix(NOISE) for name in names}
    packaged = [lab.packaged(name) for name in lab.PACKAGED if name in asked]
    known = {clip.name for clip in packaged}
    return [*files, *packaged, *(c for c in lab.clips() if pristine.plain_name(c) in asked and c.name not in known)]


def _of(clip: Clip, sizes: Sequence[str], only: frozenset[str], say: Callable[[str], None]) -> list[Subject]:
    name = pristine.plain_name(clip)
    if not long_enough(clip):
        say(f"{name} is left out: {clip.frames} frames are too few")
        return []
    side = min(clip.width, clip.height)
    here = [size for size in sizes if _fits(side, size, named=bool(only))]
    noises = [0, SENSOR_NOISE] if name in _ALSO_NOISY else [0]
    if only:
        noises = [noise for noise in noises if not only.isdisjoint({f"{name}{NOISE if noise else ''}", str(clip.path)})]
    forms = [(size, Form(SHORT_SIDE[size], noise)) for size in here for noise in noises]
    return [Subject(pristine.shaped(clip, form), size) for size, form in forms]


def _fits(side: int, size: str, *, named: bool) -> bool:
    """Nothing is enlarged; a small clip that was asked for by name goes with the smaller size as it is."""
    return side >= (SHORT_SIDE[size] if size == "720p" else 0 if named else SMALLEST_SIDE)
