"""Measures what a model has to know: senders' streams coded by the AI Core's own encoders at eight quantisers, and what
VMAF says of each. A stream's measurements are kept in the cache, so that a build goes on where it was stopped.
"""

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
from auralink_aicore.codecs import SERVED, Codec, Limits
from auralink_aicore.codecs.interface import Coded, OutputFormat
from auralink_aicore.features import Eye, Look
from auralink_aicore.insight import look_at
from av.video.frame import VideoFrame

from hack.lab import picture, sender, units
from hack.lab.clip import cache_folder
from hack.lab.sender import Sent
from hack.progress import say
from hack.train.scenes import FRAMES, Scene

KBPS = {"720p": (2500, 1500), "360p": (800, 500), "270p": (800, 350)}
CANDIDATES = {
    "H264": (18, 21, 24, 26, 28, 30, 33, 37),
    "H265": (16, 19, 22, 25, 28, 31, 34, 38),
    "VP8": (6, 13, 20, 26, 32, 38, 44, 52),
    "VP9": (8, 14, 20, 25, 30, 35, 41, 48),
    "AV1": (8, 14, 20, 25, 30, 35, 41, 48),
}
"""Quantisers that are measured; between them a straight line is drawn."""
SMALL_ONLY = ("H265", "AV1")  # not at 720p, where a picture of theirs takes longer than a bridge waits
SUBSAMPLE = 3  # pictures between scored ones

_FORMAT = 2  # of what is kept; a change of what is measured needs a new one


@dataclass(frozen=True, slots=True)
class Trial:
    """One stream of ours, at one quantiser. Per frame, but for the scores, which some have."""

    q: int
    sizes: Sequence[int]
    psnr: Sequence[float]  # NaN where the library does not say
    scores: Sequence[float]  # of every SUBSAMPLE-th frame


@dataclass(frozen=True, slots=True)
class Measurement:
    """One sender's stream."""

    clip: str
    group: str
    size: str
    codec: str
    kbps: int
    real: bool
    public: bool
    licence: str
    sha256: str  # of the sender's frames, one after the other
    fps: float
    pixels: int
    sizes: Sequence[int]
    looks: Sequence[Look]
    scores: Sequence[float]
    trials: Sequence[Trial]


def measured(scenes: Sequence[Scene], codec: str, until_s: float = math.inf) -> Iterator[Measurement]:
    """Every scene at its two rates: what the cache has, and the rest until that time of the monotonic clock."""
    here = [scene for scene in scenes if codec not in SMALL_ONLY or scene.size != "720p"]
    jobs = [(scene, kbps) for scene in here for kbps in KBPS[scene.size]]
    for number, (scene, kbps) in enumerate(jobs, 1):
        started = time.monotonic()
        kept = _kept(scene, codec, kbps)
        if not kept.is_file():
            if started > until_s:
                continue
            try:
                made = _measure(scene, sender.send(scene.clip, codec, kbps, FRAMES))
            except RuntimeError as error:  # a sender that leaves pictures out
                say(f"left out: {scene.clip.name} at {kbps} kb/s: {error}")
                continue
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_suffix(".part")
            part.write_text(json.dumps(asdict(made)))
            part.replace(kept)
            say(f"{codec} {number} of {len(jobs)}: {scene.clip.name} {kbps} kb/s, {time.monotonic() - started:.1f} s")
        yield _read(kept)


def _kept(scene: Scene, codec: str, kbps: int) -> Path:
    clip = hashlib.sha256(scene.clip.path.read_bytes()).hexdigest()
    key = json.dumps([_FORMAT, clip, codec, kbps, CANDIDATES[codec], SUBSAMPLE, FRAMES, asdict_of(scene)])
    return cache_folder() / "train" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def asdict_of(scene: Scene) -> list[Any]:
    """What a measurement says of its scene beside the pictures."""
    return [scene.clip.name, scene.group, scene.size, scene.real, scene.public, scene.licence]


def _read(path: Path) -> Measurement:
    fields = json.loads(path.read_text())
    looks = [Look(**look) for look in fields.pop("looks")]
    trials = [Trial(**trial) for trial in fields.pop("trials")]
    return Measurement(**fields, looks=looks, trials=trials)


def _measure(scene: Scene, sent: Sent) -> Measurement:
    clip, codec = scene.clip, sent.codec
    pictures, looks, output = _decoded(sent)
    size = (pictures[0].width, pictures[0].height)
    with tempfile.TemporaryDirectory() as work:
        coded = {q: _coded(codec, output, pictures, q) for q in CANDIDATES[codec]}
        suffix = units.SUFFIXES[codec]
        paths = [
            units.join(Path(work) / f"{q}.{suffix}", codec, [one.data for one in frames], size, clip.fps)
            for q, frames in coded.items()
        ]
        theirs, *ours = picture.vmaf_of_all([sent.path, *paths], clip, len(pictures), SUBSAMPLE)
    payload = hashlib.sha256(b"".join(unit.payload for unit in sent.units)).hexdigest()
    return Measurement(
        clip=clip.name,
        group=scene.group,
        size=scene.size,
        codec=codec,
        kbps=sent.kbps,
        real=scene.real,
        public=scene.public,
        licence=scene.licence,
        sha256=payload,
        fps=float(clip.fps),
        pixels=size[0] * size[1],
        sizes=[len(unit.payload) for unit in sent.units],
        looks=looks,
        scores=[theirs.scores[at] for at in sorted(theirs.scores)],
        trials=[
            Trial(
                q,
                [len(one.data) for one in coded[q]],
                [math.nan if one.psnr_db is None else round(one.psnr_db, 3) for one in coded[q]],
                [score.scores[at] for at in sorted(score.scores)],
            )
            for q, score in zip(coded, ours, strict=True)
        ],
    )


def _decoded(sent: Sent) -> tuple[list[VideoFrame], list[Look], OutputFormat]:
    """Every picture, what it looks like, and what an encoder is to be opened with for them.

    Raises RuntimeError where one does not come out.
    """
    stream = SERVED[Codec[sent.codec]](Limits())
    decoder = stream.open_decoder(1 << 24, features=True)
    eye = Eye()
    pictures, looks = [], []
    for unit in sent.units:
        read = stream.read(unit.payload)
        out = decoder.decode(av.Packet(read.for_decoder))
        if len(out) != 1:
            raise RuntimeError(f"{len(out)} pictures came out of one frame")
        pictures.append(out[0])
        looks.append(look_at(eye, out[0], read.sender_q))
    return pictures, looks, stream.output_for(pictures[0])


def _coded(codec: str, output: OutputFormat, pictures: Sequence[VideoFrame], q: int) -> list[Coded]:
    encoder = SERVED[Codec[codec]](Limits()).open_encoder(output, 1)
    try:
        return [encoder.encode(one, q, key=number == 0) for number, one in enumerate(pictures)]
    finally:
        encoder.close()
