"""Table rows from what was measured and the budget file. Every note says cores, content and duration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import budget
from benchmarks.budget import Budget
from hack.lab.report import Row

BUDGET = Path(__file__).resolve().parents[1] / "media-budget.json"
_TWO_CORES = "one core forwards, one makes the traffic"
_720P = "H.264, 30 frames/s of 2.5 Mb/s, a key of five times the size each 2 s"


def budgets(path: Path = BUDGET) -> dict[str, Budget]:
    return budget.read(path)


def row(name: str, value: float | None, note: str) -> Row:
    """A row of the budget file; no value means that it was not measured, and the note says why."""
    bound = budgets()[name]
    met = None if value is None else bound.kept(value)
    return Row(name, f"{name}: {bound.what}", value, bound.unit, str(bound), met, note)


def not_run(names: Sequence[str], why: str) -> list[Row]:
    return [row(name, None, f"not measured: {why}") for name in names]


def cpu(lines: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Of the crate's lines per peer."""
    us = {line["peer"]: float(line["cpu_us_per_packet"]) for line in lines}
    bare, packets = us["relay"], lines[0]["packets"]
    content = f"{packets} packets of 1200 B, H.264 frames of 15; {_TWO_CORES}"
    made = [
        row(name, us[peer] / bare, f"{us[peer]:.2f} us to {bare:.2f} us; {content}")
        for name, peer in (("cpu_per_packet", "bridge_compress"), ("cpu_per_packet_native", "bridge"))
    ]
    srtp = {peer: spent for peer, spent in us.items() if peer.startswith("bridge_srtp")}
    each = ", ".join(f"{peer.removeprefix('bridge_srtp_')} {spent:.2f} us" for peer, spent in srtp.items())
    return [*made, row("cpu_per_packet_srtp", max(srtp.values()), f"the slowest of {each}; {content}")]


@dataclass(frozen=True, slots=True)
class Rate:
    """Packets per second of CPU time and by the clock, and how many were lost."""

    per_core: float
    per_s: float
    lost: int


def middle(rates: Sequence[Rate]) -> Rate:
    """The median of rounds; a packet lost in one is lost."""
    return Rate(median(r.per_core for r in rates), median(r.per_s for r in rates), sum(r.lost for r in rates))


def capacity(ours: Sequence[Rate], theirs: Mapping[str, Sequence[Rate] | str]) -> list[Row]:
    """`theirs`: rounds of `rtpengine` and `asyncio`, or why there are none."""
    us = middle(ours)
    content = f"1200 B, H.264 frames of 15, in bursts of two; {len(ours)} rounds; {_TWO_CORES}"
    made = []
    for name, peer in (("packets_per_core", "rtpengine"), ("packets_per_core_asyncio", "asyncio")):
        rounds = theirs[peer]
        if isinstance(rounds, str):
            made += not_run([name], rounds)
            continue
        them = middle(rounds)
        by_clock = f"by the clock {us.per_s:,.0f} to {them.per_s:,.0f}"
        lost = "".join(f"{who} lost {rate.lost}! " for who, rate in (("bridge", us), (peer, them)) if rate.lost)
        note = f"{lost}{us.per_core:,.0f} to {them.per_core:,.0f} ({by_clock}); {content}"
        found = row(name, us.per_core / them.per_core, note)
        made.append(_missed(found) if us.lost else found)
    return made


def streams(lines: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Of the steps in rising order, the last without loss; the next one says why it ended."""
    clean = [line for line in lines if _clean(line)]
    last = lines[-1]
    note = f"{_720P}, {last['seconds']:.0f} s each; copies of 3 s kept; {_TWO_CORES}"
    if clean:
        rate = clean[-1]["packets"] / clean[-1]["seconds"]
        note = f"{100 * clean[-1]['cpu']:.0f} % of the core, {rate:,.0f} packets/s; {note}"
    if last not in clean:
        lost = f"{last['lost_frames']} of {last['frames']} frames, {last['holes']} holes, {last['dropped']} dropped"
        note += f". {last['streams']} lost {lost}; the sender was {last['late_ms']:.0f} ms late at worst"
    else:
        note += ". More was not tried"
    return [row("streams_720p_per_core", clean[-1]["streams"] if clean else 0, note)]


def _clean(line: Mapping[str, Any]) -> bool:
    return not (line["lost_frames"] or line["holes"] or line["dropped"]) and line["late_ms"] < 33


def latency(line: Mapping[str, Any], seconds: int) -> list[Row]:
    note = (
        f"p50 {line['added_p50_us']:.0f} us; {line['frames']} pairs of frames in a row, one through the bare relay (p99"
        f" {line['relay_p99_us']:.0f} us, {line['relay_waited_ms']:.0f} ms of the run without its core) and one through"
        f" the bridge (p99 {line['bridge_p99_us']:.0f} us, {line['bridge_waited_ms']:.0f} ms): H.264, 30 frames/s of"
        f" 2.3 Mb/s, {seconds} s; {_TWO_CORES}, both loads at once"
    )
    note += f". The bare relay lost {line['relay_lost']}" if line["relay_lost"] else ""
    found = row("pod_latency_p99", line["added_p99_us"] / 1000, note)
    return [_missed(found, f"{line['lost']} frames lost! ")] if line["lost"] else [found]


def loss(line: Mapping[str, Any]) -> list[Row]:
    note = (
        f"{line['decodable']} of {line['frames']} frames; virtual time, {line['seeds']} times {line['minutes']} minutes"
        f" of one stream of 2.3 Mb/s; {line['lost_packets']} packets lost, up- and downstream, RTCP too; keys only when"
        " asked for; no cores: nothing runs in real time"
    )
    return [row("delivered_at_5_loss", 100 * float(line["share"]), note)]


def memory(lines: Sequence[Mapping[str, Any]]) -> list[Row]:
    by_kind = {line["kind"]: line for line in lines}
    engine, core = by_kind["engine"], by_kind["core"]
    (_, soon), (end, at_end) = _first_after(engine["samples"], 10), engine["samples"][-1]
    (_, early), (hour, late) = _first_after(core["samples"], 60), core["samples"][-1]
    most = max(size for line in lines for _, size in line["samples"])
    note = (
        f"the most of two ways: {engine['streams']} streams of the engine, {soon / 1e6:.2f} MB after 10 s and"
        f" {at_end / 1e6:.2f} after {end} s; {core['streams']} of the packet core alone, {early / 1e6:.2f} after a"
        f" minute of virtual time and {late / 1e6:.2f} after {hour / 60:.0f}. {_720P}; one core;"
        " without the kernel's buffers"
    )
    growth = f"{core['streams']} streams, minute 1 to minute {hour / 60:.0f}, frames of varying size; one core"
    return [row("memory_per_stream", most / 1e6, note), row("memory_growth", 100 * (late / early - 1), growth)]


def _first_after(samples: Sequence[tuple[int, int]], second: int) -> tuple[int, int]:
    return next((sample for sample in samples if sample[0] >= second), samples[-1])


def python(line: Mapping[str, Any]) -> list[Row]:
    note = (
        f"the event loop is held {line['wall_us']:.0f} us by the clock, {line['cpu_us']:.0f} us of them CPU time:"
        f" {line['frames']} H.264 frames of 17.8 kB, {line['seconds']:.0f} s, fetched and given back at the packet"
        f" core's face; {line['cores']} cores for Python, packet core and traffic"
    )
    return [row("python_per_frame", float(line["wall_us"]), note)]


def _missed(found: Row, why: str = "") -> Row:
    return Row(found.id, found.what, found.value, found.unit, found.target, met=False, note=why + found.note)
