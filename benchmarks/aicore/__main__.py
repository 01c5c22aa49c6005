"""`make bench-aicore`: measures what the AI Core saves and what that costs, and prints one table.

Quality figures do not depend on the machine and are taken on all cores at once; what has a time in it has the machine
to itself. A row that cannot be measured says why, one that was not asked for is left out. A missed target is a finding,
not a fault of the command: it exits 1 only for what was not measured.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auralink_aicore.codecs import SERVED
from auralink_aicore.worker.admission import CALIBRATION_MS
from auralink_aicore.worker.calibration import picture_ms

from benchmarks.aicore import allocation, capacity, failover, latency, plan, plots, quality, rows, served
from benchmarks.aicore.loop import one_core
from benchmarks.aicore.plan import Job, Subject
from benchmarks.aicore.quality import Measured, Wants
from hack.lab import report, sender
from hack.lab.report import Row
from hack.lab.sender import Sent
from hack.progress import CommandError, say
from hack.train import build, scenes

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "bench"

GROUPS = {
    "latency": ("m5_latency",),
    "streams": ("streams_per_core",),
    "hop": ("hop",),
    "failover": ("m7_failover",),
    "soak": ("fallback_and_success",),
    "quality": ("m1_saving_error", "m2_vmaf_loss", "m3_vs_asking_sender", "m6_floor_violations"),
    "allocation": ("m4_allocation",),
}
_SECONDS = 12.0
_QUICK_SECONDS = 4.0
_STEP_S = 6.0
_HOP_S = 15.0
_FAILOVER_S = 75.0
_SOAKED_KBPS = 500

# Seconds of a quiet core for a 720p picture, to say beforehand how long it will take.
_CODING_S = {"H264": 0.007, "VP8": 0.007, "VP9": 0.010, "H265": 0.025, "AV1": 0.014}
_SCORING_S, _READING_S = 0.022, 0.006
_PIXELS = 1280 * 720


@dataclass(frozen=True, slots=True)
class Options:
    codecs: tuple[str, ...]
    clips: tuple[str, ...] = ()
    only: frozenset[str] = frozenset()
    seconds: float = _SECONDS
    quick: bool = False
    soak_minutes: float = 0.0
    json: Path = OUT / "aicore.json"

    def wants(self, name: str) -> bool:
        if name == "fallback_and_success":
            return self.soak_minutes > 0
        return not self.only or name in self.only

    @property
    def quality(self) -> Wants:
        return Wants(*(self.wants(name) for name in GROUPS["quality"]))

    @property
    def rates(self) -> Mapping[str, tuple[int, ...]]:
        return {size: rates[:1] if self.quick else rates for size, rates in plan.SENDERS_KBPS.items()}


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to measure, and where frames are written down."""

    options: Options
    subjects: Sequence[Subject]
    folder: Path

    def jobs(self) -> list[Job]:
        return plan.jobs(self.subjects, self.options.codecs, self.options.rates, self.options.seconds)

    def first_at(self, size: str) -> Subject:
        """Somebody talking, if there is such a clip."""
        here = [subject for subject in self.subjects if subject.size == size]
        if not here:
            raise CommandError(f"no clip for {size}")
        return next((subject for subject in here if subject.conferencing), here[0])

    def stream(self, codec: str, size: str, kbps: int) -> Sent:
        subject = self.first_at(size)
        [job] = plan.jobs([subject], [codec], {size: (kbps,)}, self.options.seconds)
        return sender.send(subject.clip, codec, kbps, job.frames)

    def record(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """JSON lines, one for each frame."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / name).open("w") as out:
            out.writelines(json.dumps(line) + "\n" for line in lines)


def parse(arguments: Sequence[str]) -> Options:
    here = tuple(codec.name for codec in SERVED)
    names = [name for group in GROUPS.values() for name in group]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.aicore", description="Measure the AI Core.")
    parser.add_argument("--codec", action="append", choices=here, help="of: " + ", ".join(here))
    parser.add_argument("--clip", action="append", default=[], help="name or file; instead of all there are")
    parser.add_argument("--rows", action="append", choices=names, metavar="ROW", help="of: " + ", ".join(names))
    parser.add_argument("--seconds", type=float, default=0.0, help=f"of each clip ({_SECONDS:g})")
    parser.add_argument("--quick", action="store_true", help="one rate and little of each clip, to see that it runs")
    parser.add_argument("--soak", type=float, default=0.0, metavar="MINUTES", help="all codecs for so long, too")
    parser.add_argument("--json", type=Path, default=OUT / "aicore.json", help="where rows go")
    given = parser.parse_args(arguments)
    if given.rows and "fallback_and_success" in given.rows and not given.soak:
        parser.error("fallback_and_success needs --soak MINUTES")
    seconds = given.seconds or (_QUICK_SECONDS if given.quick else _SECONDS)
    only = frozenset(given.rows or ())
    codecs = tuple(given.codec or here)
    return Options(codecs, tuple(given.clip), only, seconds, given.quick, given.soak, given.json)


# --- the groups --------------------------------------------------------------------------------------------------


def measure_latency(scene: Scene) -> list[Row]:
    """At the higher rate: more bytes take longer."""
    timed = []
    for job in scene.jobs():
        if job.kbps == max(plan.SENDERS_KBPS[job.subject.size]):
            say(f"latency: {job}")
            timed.append(latency.measure(job))
    scene.record("latency.jsonl", (line for one in timed for line in one.lines()))
    found: list[Row] = []
    for codec in scene.options.codecs:
        of_codec = [one for one in timed if one.job.codec == codec]
        plots.write(scene.folder / f"latency-{codec}.svg", plots.latencies(of_codec))
        for size in dict.fromkeys(one.job.subject.size for one in of_codec):
            found += rows.latency([one for one in of_codec if one.job.subject.size == size])
    return found


def measure_streams(scene: Scene) -> list[Row]:
    if "H264" not in scene.options.codecs:
        return []
    kbps = max(plan.SENDERS_KBPS["720p"])
    sent = scene.stream("H264", "720p", kbps)
    steps = asyncio.run(capacity.measure(sent, 2 if scene.options.quick else _STEP_S, say))
    content = f"H.264 {sent.clip.width}x{sent.clip.height} at {kbps / 1000:g} Mb/s, deadline 20 ms, keys 33"
    return rows.streams(steps, content)


def measure_hop(scene: Scene) -> list[Row]:
    codec, kbps = scene.options.codecs[0], max(plan.SENDERS_KBPS["720p"])
    sent = scene.stream(codec, "720p", kbps)
    seconds = 3 if scene.options.quick else _HOP_S
    say(f"gRPC there and back, {seconds:g} s")
    answers = asyncio.run(served.hop(sent, seconds))
    size = sum(len(unit.payload) for unit in sent.units) / len(sent.units) / 1000
    return rows.hop(answers, f"{codec} 720p, {size:.1f} kB each, 30 a second, one stream on loopback")


def measure_failover(scene: Scene) -> list[Row]:
    codecs = scene.options.codecs
    return [row for codec in codecs for row in rows.failovers(codec, asyncio.run(failover.measure(codec, say)))]


def measure_soak(scene: Scene) -> list[Row]:
    say(f"{scene.options.soak_minutes:g} minutes of all codecs at once")
    streams = [scene.stream(codec, "360p", _SOAKED_KBPS) for codec in scene.options.codecs]
    cores = len(os.sched_getaffinity(0))
    return rows.soaked(asyncio.run(served.soak(streams, scene.options.soak_minutes, cores, say)))


def measure_quality(scene: Scene) -> list[Row]:
    """All cores at once, a stream each; what each row shows is decided there."""
    wants, jobs = scene.options.quality, scene.jobs()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found: list[Measured] = []
        for one in pool.map(lambda job: quality.measure(job, wants), jobs):
            found.append(one)
            say(f"quality {len(found)} of {len(jobs)}: {one.job}")
    scene.record("quality.jsonl", (line for one in found for line in one.lines()))
    _plot(scene, found)
    groups = rows.grouped(found)
    makers = [(wants.saving, rows.saving), (wants.loss, rows.loss), (wants.asking, rows.asking)]
    makers += [(wants.floor, rows.floor)]
    made = [row for wanted, maker in makers if wanted for group in groups for row in maker(group)]
    of_codec = [[one for one in found if one.job.codec == codec] for codec in scene.options.codecs]
    return [*made, *(row for group in of_codec if group for row in rows.decodable(group))]


def measure_allocation(scene: Scene) -> list[Row]:
    """Of its own clips, at quantisers that stand still: the feedback would only find the same."""
    codecs = [codec for codec in scene.options.codecs if codec in build.CANDIDATES]
    return [row for codec in codecs for row in allocation.measure(codec, say)]


def _plot(scene: Scene, found: Sequence[Measured]) -> None:
    for codec in scene.options.codecs:
        for size in plan.SHORT_SIDE:
            here = [one for one in found if (one.job.codec, one.job.subject.size) == (codec, size) and one.our_curve]
            if here:
                plots.write(scene.folder / f"rate-distortion-{codec}-{size}.svg", plots.rate_distortion(here))


MEASUREMENTS: dict[str, Callable[[Scene], list[Row]]] = {
    "latency": measure_latency,
    "streams": measure_streams,
    "hop": measure_hop,
    "failover": measure_failover,
    "soak": measure_soak,
    "quality": measure_quality,
    "allocation": measure_allocation,
}


# --- the command -------------------------------------------------------------------------------------------------


def measure(scene: Scene) -> list[Row]:
    """The rows that are wanted; what goes wrong with one group is said in it and spoils no other."""
    found: list[Row] = []
    for group, act in MEASUREMENTS.items():
        if not any(map(scene.options.wants, GROUPS[group])):
            continue
        try:
            found += act(scene)
        except (CommandError, OSError, RuntimeError, ValueError, LookupError, subprocess.SubprocessError) as error:
            say(f"{group}: {error}")
            found += [
                Row(name, name, None, note=f"not measured: {error}")
                for name in GROUPS[group]
                if scene.options.wants(name)
            ]
    return found


def estimate_s(scene: Scene, host_factor: float, cores: int) -> float:
    """About how long it will take where senders' streams are in the cache; without, half as long again."""
    options, total = scene.options, 0.0
    for job in scene.jobs():
        clip = job.subject.clip
        pixels = clip.width * clip.height / _PIXELS
        coding = _CODING_S[job.codec]
        scoring = _SCORING_S / job.subsample + _READING_S
        if options.quality.any:
            total += pixels * job.frames * options.quality.runs * (coding + scoring) / 2 / cores
        if options.wants("m5_latency") and job.kbps == max(options.rates[job.subject.size]):
            total += pixels * latency.FRAMES * 2 * latency.REPEATS * coding
    if options.wants("m4_allocation"):
        total += sum(map(_allocation_s, scene.jobs()))
    total *= host_factor
    total += 6 * _STEP_S if options.wants("streams_per_core") else 0
    total += _HOP_S if options.wants("hop") else 0
    total += _FAILOVER_S * len(options.codecs) if options.wants("m7_failover") else 0
    return total + 60 * options.soak_minutes


def _allocation_s(job: Job) -> float:
    """Of a job's clip and codec at one rate, coded and scored at all quantisers; if it is not in the cache."""
    pixels = job.subject.clip.width * job.subject.clip.height / _PIXELS
    each = _CODING_S[job.codec] + _SCORING_S / build.SUBSAMPLE + _READING_S
    return pixels * scenes.FRAMES * len(build.CANDIDATES.get(job.codec, ())) * each


def host_factor() -> float:
    """This core's time for a picture over the reference core's."""
    with one_core():
        return picture_ms(time.perf_counter) / CALIBRATION_MS


def machine(factor: float) -> Row:
    return Row("host_factor", "host_factor: this core's time per picture over the reference core's", factor, "x")


def main() -> int:
    options = parse(sys.argv[1:])
    load = os.getloadavg()[0]
    say(f"{len(options.codecs)} codecs; how long they take is said as soon as the clips are there, a minute at first")
    factor = host_factor()
    subjects = plan.subjects(options.clips, tuple(plan.SHORT_SIDE), say)
    scene = Scene(options, subjects, options.json.parent / options.json.stem)
    minutes = estimate_s(scene, factor, len(os.sched_getaffinity(0))) / 60
    say(f"about {minutes:.0f} minutes; the first time half as long again, for the senders' streams")
    if not subjects:
        print("not measured: no clip that is long and large enough", file=sys.stderr)
        return 1
    found = [*measure(scene), machine(factor)]
    content = ", ".join(f"{one.name} {one.clip.width}x{one.clip.height}" for one in subjects)
    said = report.conditions(content, load_before=round(load, 1), host_factor=round(factor, 2))
    report.write(options.json, report.Report(said, found))
    made = report.read(options.json)
    print(report.table(made))
    print(f"each frame, and pictures: {scene.folder}", file=sys.stderr)
    return 1 if any(one.value is None for one in made.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
