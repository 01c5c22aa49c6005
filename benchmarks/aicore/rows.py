"""Table rows from what was measured and the budget file: a row for each codec, size and rate, its clips in the note."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TypeVar

from benchmarks import budget
from benchmarks.aicore import capacity, figures
from benchmarks.aicore.capacity import Step
from benchmarks.aicore.client import Answered
from benchmarks.aicore.failover import HANGS, Failure
from benchmarks.aicore.latency import Timed
from benchmarks.aicore.plan import Job
from benchmarks.aicore.quality import Measured
from benchmarks.aicore.served import Soaked
from benchmarks.budget import Budget
from hack.lab.report import Row

BUDGET = Path(__file__).resolve().parents[1] / "aicore-budget.json"
_Of = TypeVar("_Of", Measured, Timed)


def budgets(path: Path = BUDGET) -> Mapping[str, Budget]:
    """By row; `ROW CODEC`, `ROW CODEC SIZE` and `ROW CODEC SIZE KBPS` are bounds that hold for these alone."""
    return budget.read(path)


def row(name: str, value: float | None, note: str, job: Job | None = None, also: str = "", *, kept: bool = True) -> Row:
    """`kept` False is a miss whatever the value is. A row without a bound is neither kept nor missed."""
    known = budgets()
    special = [f"{name} {job.codec}", f"{name} {job.codec} {job.subject.size}", f"{name} {_group(job)}"] if job else []
    bound = next((known[one] for one in reversed(special) if one in known), known[name])
    where = f" {job.codec} {job.subject.size} {job.kbps / 1000:g} Mb/s" if job else ""
    title = f"{name}{where}{also}: {known[name].what}"
    met = None if value is None or not bound.bounded else kept and bound.kept(value)
    return Row(name, title, value, bound.unit, str(bound) if bound.bounded else "", met, note)


def not_run(name: str, why: str) -> Row:
    return Row(name, f"{name}: {budgets()[name].what}", None, note=f"not measured: {why}")


def _group(job: Job) -> str:
    return f"{job.codec} {job.subject.size} {job.kbps}"


def grouped(found: Iterable[Measured]) -> list[list[Measured]]:
    """By codec, size and rate, in the order they came in."""
    groups: defaultdict[str, list[Measured]] = defaultdict(list)
    for one in found:
        groups[_group(one.job)].append(one)
    return list(groups.values())


def saving(group: Sequence[Measured]) -> list[Row]:
    job = group[0].job

    def error(name: str, of: Callable[[Measured], float]) -> Row:
        each = f"the worst of {_named(group, of, '+.1f')}"
        return row(name, max(abs(of(one)) for one in group), each, job)

    return [
        error("m1_saving_error", lambda one: one.worst_saving),
        error("m1_start_error", lambda one: one.start_saving),
    ]


def loss(group: Sequence[Measured]) -> list[Row]:
    """Talking people, for whom the bounds are, apart from the rest."""
    people = [one for one in group if one.job.subject.conferencing]
    rest = [one for one in group if not one.job.subject.conferencing]
    made = [_loss(people, "")] if people else []
    return [*made, _loss(rest, ", other clips", bounded=False)] if rest else made


def _loss(group: Sequence[Measured], also: str, *, bounded: bool = True) -> Row:
    lost = {one.job.subject.name: one.our_loss for one in group}
    known = [value for value in lost.values() if value is not None]
    note = ", ".join(f"{name} {'out of reach' if value is None else f'{value:.2f}'}" for name, value in lost.items())
    note = f"mean of {note}; the sender's own score " + _named(group, lambda one: mean(one.scores.values()), ".1f")
    value = mean(known) if known else None
    found = row("m2_vmaf_loss", value, note, group[0].job, also, kept=len(known) == len(lost))
    return found if bounded else Row(found.id, found.what, found.value, found.unit, note=found.note)


def asking(group: Sequence[Measured]) -> list[Row]:
    pairs = {one.job.subject.name: (one.our_loss, one.asked_loss) for one in group}
    both = {name: (ours, theirs) for name, (ours, theirs) in pairs.items() if ours is not None and theirs is not None}
    won = sum(ours < theirs for ours, theirs in both.values())
    note = ", ".join(f"{name} {ours:.2f} to {theirs:.2f}" for name, (ours, theirs) in both.items())
    note = f"{won} of {len(pairs)}; VMAF lost by us, and by asking the sender for 60 %: {note}"
    return [row("m3_vs_asking_sender", 100 * won / len(pairs), note, group[0].job)]


def floor(group: Sequence[Measured]) -> list[Row]:
    shares = {one.job.subject.name: share for one in group if (share := one.violations) is not None}
    total = sum(shares.values(), figures.Share(0, 0))
    note = ", ".join(f"{name} {share}" for name, share in shares.items())
    note = f"{total} lose over a point more than level 7 allows: {note}"
    return [row("m6_floor_violations", total.percent, note, group[0].job)]


def decodable(group: Sequence[Measured]) -> list[Row]:
    """Of every run of ours with one codec."""
    takes = [take for one in group for take in [*one.ours.values(), *([one.floored] if one.floored else [])]]
    decoded = [take.decoded for take in takes if take.decoded is not None]
    frames, expected = sum(one.frames for one in decoded), sum(len(take.sizes) for take in takes)
    errors = [error for one in decoded for error in one.errors]
    note = "; ".join([f"{frames} of {expected}", *errors[:2]])
    return [row("decodable", 100 * frames / expected, note, also=f" {group[0].job.codec}", kept=not errors)]


def latency(timed: Sequence[Timed]) -> list[Row]:
    """Of one codec, size and rate."""
    job = timed[0].job
    slowest = max(timed, key=lambda one: one.p95)
    each = _named(timed, lambda one: one.p95, ".1f")
    ratio = mean(one.p50 / one.plain_p50 for one in timed)
    plain = mean(one.plain_p50 for one in timed)
    note = f"the slowest of {each}, its p50 {slowest.p50:.1f}; one pinned core, median of 3 repeats"
    keys = max(len(one.ms) - len(one.inter) for one in timed) - 1
    return [
        row("m5_latency", slowest.p95, note, job),
        row("m5_key", max(one.slowest_key for one in timed), f"{keys} of each clip, asked for by a receiver", job),
        row("m5_ratio", ratio, f"{slowest.plain} of PyAV, same pictures and bytes, {plain:.1f} ms", job),
    ]


def streams(steps: Sequence[Step], content: str) -> list[Row]:
    told = "; ".join(
        f"{step.sessions}: {100 * step.in_time / step.frames:.1f} % in time, p95 {step.p95_ms:.1f} ms"
        f"{f', {step.cheaper} at a cheaper speed' if step.cheaper else ''}"
        for step in steps
    )
    late = max(step.sent_late_ms for step in steps)
    note = f"{content}; {told}. Frames were sent up to {late:.1f} ms late (p95)"
    return [row("streams_per_core", capacity.most(steps), note)]


def hop(answers: Sequence[Answered], content: str) -> list[Row]:
    transport = [answer.transport_ms for answer in answers]
    whole = [answer.took_ms - answer.encoder_ms for answer in answers]
    all_but = ", ".join(f"p{100 * p:.0f} {figures.percentile(whole, p):.2f}" for p in (0.5, 0.95))
    note = f"{len(answers)} frames of {content}; with the hand-over to an idle worker {all_but} ms"
    return [row(f"hop_p{100 * p:.0f}", figures.percentile(transport, p), note) for p in (0.5, 0.95)]


def failovers(codec: str, found: Sequence[Failure]) -> list[Row]:
    """A picture that is damaged, or a native frame, makes a miss of the fastest takeover."""
    made = []
    for name, hung in (("m7_crash", False), ("m7_hang", True)):
        those = [one for one in found if (one.fault == HANGS) is hung]
        each = ", ".join(f"{one.late_ms:.0f}" for one in those)
        lowest = min(one.lowest_psnr_db for one in those)
        wrong = sum(one.complaints for one in those)
        note = f"{len(those)} times, 320x240: {each} ms; lowest PSNR {lowest:.1f} dB, {wrong} damaged or native"
        made.append(row(name, max(one.late_ms for one in those), note, also=f" {codec}", kept=not wrong))
    return made


def soaked(found: Soaked) -> list[Row]:
    each = ", ".join(f"{name} {a.good} of {a.sent}{f' ({a.broken})' if a.broken else ''}" for name, a in found.sessions)
    note = f"{found.minutes:g} min: {each}"
    missing = 100 * (1 - found.good / found.frames) if found.frames else 100.0
    if not found.resident_mb:
        memory = not_run("rss_growth", "too short")
    else:
        memory = row("rss_growth", found.growth, f"{found.resident_mb[-1]:.0f} MB at the end, server and workers")
    return [row("success", 100 - missing, note), row("fallback", missing, "policy `always`: all others"), memory]


def _named(group: Sequence[_Of], of: Callable[[_Of], float], digits: str) -> str:
    return ", ".join(f"{one.job.subject.name} {of(one):{digits}}" for one in group)
