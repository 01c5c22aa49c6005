"""From packets to facts. Pure: packets of the two taps in, numbers and findings out.

A frame is found again on the other side by its RTP timestamp, which a bridge keeps. The sender plays its clip from
the first picture on and over again, so the timestamp also says which picture of the clip it is.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

from hack.lab.tap import Packet

EXTENSION_ID = 14
_ONE_BYTE_PROFILE = 0xBEDE  # RFC 8285 section 4.2

FALLBACK, KEY, SWITCHED, FLOOR_BINDS, SCREEN, DEGRADED, SKIPPED_BEFORE = (1 << bit for bit in range(7))


LATE_SHARE = 0.03
"""Of the pictures may be skipped by an AI Core that has too little CPU."""


@dataclass(frozen=True, slots=True)
class Extension:
    """The 16 bytes that a bridge puts on the first packet of a frame."""

    version: int
    saved: float  # fraction
    quality: float | None  # 1 = nothing lost
    model_hash: int
    flags: int

    @property
    def native(self) -> bool:
        return bool(self.flags & FALLBACK)

    @property
    def key(self) -> bool:
        return bool(self.flags & KEY)


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """The packets of one RTP timestamp, in order of sequence number."""

    timestamp: int  # unwrapped
    first_arrived_ns: int
    last_arrived_ns: int
    last_left_ns: int
    packets: int
    payload_bytes: int
    extension_bytes: int  # on all its packets
    extension: Extension | None  # of the first packet
    complete: bool  # no gap inside, marker on the last packet only


@dataclass(frozen=True, slots=True)
class Flow:
    """One medium as one tap saw it."""

    frames: tuple[SeenFrame, ...]  # in order of timestamp
    packets: int
    lost: int  # numbers between first and last that never came
    reordered: int
    ssrcs: tuple[int, ...]
    largest_packet: int
    by_timestamp: Mapping[int, SeenFrame] = field(repr=False, default_factory=dict)


def extension_element(block: bytes, wanted_id: int = EXTENSION_ID) -> bytes | None:
    """One element of a header extension block in the one-byte form; None where it is absent or malformed."""
    if len(block) < 4 or int.from_bytes(block[:2], "big") != _ONE_BYTE_PROFILE:
        return None
    at, end = 4, min(len(block), 4 + 4 * int.from_bytes(block[2:4], "big"))
    while at < end:
        element_id, length = block[at] >> 4, (block[at] & 0x0F) + 1
        if element_id == 0:
            at += 1
            continue
        if element_id == 15 or at + 1 + length > end:
            return None
        if element_id == wanted_id:
            return block[at + 1 : at + 1 + length]
        at += 1 + length
    return None


def parse_extension(block: bytes) -> Extension | None:
    element = extension_element(block)
    if element is None or len(element) != 16 or element[0] != 1:
        return None
    quality = int.from_bytes(element[3:5], "big")
    return Extension(
        version=element[0],
        saved=int.from_bytes(element[1:3], "big") / 1000,
        quality=None if quality == 0xFFFF else quality / 1000,
        model_hash=int.from_bytes(element[5:9], "big"),
        flags=element[9],
    )


def unwrap(values: Iterable[int], bits: int) -> list[int]:
    """Continues numbers that wrap at 2**bits; each is within half the range of the one before."""
    out: list[int] = []
    for value in values:
        if out:
            step = (value - out[-1]) % (1 << bits)
            value = out[-1] + (step - (1 << bits) if step >> (bits - 1) else step)
        out.append(value)
    return out


def flow(packets: Iterable[Packet], payload_type: int, near: int | None = None) -> Flow:
    """What one tap saw of one payload type. A new SSRC begins a new sequence; timestamps go on.

    `near`: a timestamp of the other tap's flow, so that both unwrap to the same numbers.
    """
    chosen = [p for p in packets if p.payload_type == payload_type]
    wire = [p.timestamp for p in chosen]
    timestamps = unwrap(wire, 32) if near is None else unwrap([near, *wire], 32)[1:]
    sequences: dict[int, int] = {}
    seen: dict[int, set[int]] = {}
    rows: list[tuple[int, int, int, Packet]] = []  # ssrc order of appearance, sequence, timestamp, packet
    reordered = 0
    for packet, timestamp in zip(chosen, timestamps, strict=True):
        last = sequences.get(packet.ssrc)
        sequence = packet.sequence if last is None else unwrap((last, packet.sequence), 16)[1]
        numbers = seen.setdefault(packet.ssrc, set())
        if last is not None and sequence < last:
            reordered += 1
        else:
            sequences[packet.ssrc] = sequence
        if sequence not in numbers:
            numbers.add(sequence)
            rows.append((list(seen).index(packet.ssrc), sequence, timestamp, packet))
    lost = sum(max(numbers) - min(numbers) + 1 - len(numbers) for numbers in seen.values())
    groups: dict[int, list[tuple[int, int, int, Packet]]] = {}
    for row in sorted(rows, key=lambda row: row[:3]):
        groups.setdefault(row[2], []).append(row)
    frames = tuple(_frame(timestamp, groups[timestamp]) for timestamp in sorted(groups))
    largest = max((p.size for p in chosen), default=0)
    return Flow(frames, len(chosen), lost, reordered, tuple(seen), largest, {f.timestamp: f for f in frames})


def _frame(timestamp: int, rows: Sequence[tuple[int, int, int, Packet]]) -> SeenFrame:
    packets = [row[3] for row in rows]
    markers = [p.marker for p in packets]
    contiguous = all(b[1] == a[1] + 1 for a, b in pairwise(rows))
    return SeenFrame(
        timestamp=timestamp,
        first_arrived_ns=min(p.arrived_ns for p in packets),
        last_arrived_ns=max(p.arrived_ns for p in packets),
        last_left_ns=max(p.left_ns for p in packets),
        packets=len(packets),
        payload_bytes=sum(p.payload_bytes for p in packets),
        extension_bytes=sum(len(p.extension) for p in packets),
        extension=parse_extension(packets[0].extension),
        complete=contiguous and markers[-1] and not any(markers[:-1]),
    )


@dataclass(frozen=True, slots=True)
class Distribution:
    """Percentiles of something, in its own unit."""

    count: int
    p50: float
    p95: float
    p99: float
    largest: float


def distribution(values: Iterable[float]) -> Distribution | None:
    """None of nothing. Nearest rank: each percentile is a value that occurred."""
    ordered = sorted(values)
    if not ordered:
        return None
    p50, p95, p99 = (ordered[max(0, math.ceil(q * len(ordered)) - 1)] for q in (0.50, 0.95, 0.99))
    return Distribution(len(ordered), p50, p95, p99, ordered[-1])


@dataclass(frozen=True, slots=True)
class Crossing:
    """A stretch of video as it went into a bridge and as it came out."""

    frames_in: int
    frames_out: int
    missing: int  # went in, never came out
    bytes_in: int  # RTP payload
    bytes_out: int  # RTP payload and header extensions
    native: int  # frames out with the fallback flag
    compressed: int  # frames out without it
    unmarked: int  # frames out whose first packet lacks the extension
    incomplete: int  # frames out with a gap or a misplaced marker
    hop: Distribution | None  # ms, last packet sent to last packet received

    @property
    def undisturbed(self) -> bool:
        """Whether the AI Core had the CPU that it needed: else pictures go native or are skipped."""
        return self.native == 0 and self.missing <= LATE_SHARE * self.frames_in

    @property
    def saved_percent(self) -> float:
        return 100 * (1 - self.bytes_out / self.bytes_in) if self.bytes_in else 0.0


def crossing(sent: Flow, received: Flow, first: int, last: int) -> Crossing:
    """Compares the frames with timestamps from `first` to `last`, both included."""
    into = [f for f in sent.frames if first <= f.timestamp <= last]
    out = [f for f in received.frames if first <= f.timestamp <= last]
    pairs = [(f, received.by_timestamp[f.timestamp]) for f in into if f.timestamp in received.by_timestamp]
    return Crossing(
        frames_in=len(into),
        frames_out=len(out),
        missing=len(into) - len(pairs),
        bytes_in=sum(f.payload_bytes for f in into),
        bytes_out=sum(f.payload_bytes + f.extension_bytes for f in out),
        native=sum(1 for f in out if f.extension is not None and f.extension.native),
        compressed=sum(1 for f in out if f.extension is not None and not f.extension.native),
        unmarked=sum(1 for f in out if f.extension is None),
        incomplete=sum(1 for f in out if not f.complete),
        hop=distribution((b.last_arrived_ns - a.last_left_ns) / 1e6 for a, b in pairs),
    )


@dataclass(frozen=True, slots=True)
class Payloads:
    """What became of packets that should pass untouched."""

    sent: int
    same: int
    changed: int
    missing: int


def untouched(sent: Iterable[Packet], received: Iterable[Packet], payload_type: int) -> Payloads:
    """Compares payloads by RTP timestamp, from the first to the last that was received."""
    arrived = {p.timestamp: p.payload_crc for p in received if p.payload_type == payload_type}
    went = [p for p in sent if p.payload_type == payload_type]
    there = [i for i, p in enumerate(went) if p.timestamp in arrived]
    span = went[there[0] : there[-1] + 1] if there else went
    same = sum(1 for p in span if arrived.get(p.timestamp) == p.payload_crc)
    missing = sum(1 for p in span if p.timestamp not in arrived)
    return Payloads(len(span), same, len(span) - same - missing, missing)


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive frames of one kind: native, or recompressed."""

    native: bool
    frames: int
    first: SeenFrame
    last: SeenFrame


def runs(frames: Sequence[SeenFrame]) -> list[Run]:
    """Frames without the extension count as native: nothing else tells."""
    out: list[Run] = []
    for frame in frames:
        native = frame.extension is None or frame.extension.native
        if out and out[-1].native == native:
            out[-1] = Run(native, out[-1].frames + 1, out[-1].first, frame)
        else:
            out.append(Run(native, 1, frame, frame))
    return out


def longest_silence_ms(frames: Sequence[SeenFrame]) -> float:
    """The longest time without a new picture."""
    gaps = (b.last_arrived_ns - a.last_arrived_ns for a, b in pairwise(frames))
    return max(gaps, default=0) / 1e6


@dataclass(frozen=True, slots=True)
class Timeline:
    """Which picture of a looped clip an RTP timestamp shows."""

    start: int  # RTP timestamp of the clip's first picture
    ticks_per_frame: Fraction
    frames: int

    def picture(self, timestamp: int) -> int:
        """0..frames-1."""
        return round((timestamp - self.start) / self.ticks_per_frame) % self.frames

    def whole_loops(self, until: int, count: int) -> tuple[int, int] | None:
        """First and last timestamp of the last `count` whole passes of the clip that end at or before `until`."""
        done = math.floor((until - self.start) / self.ticks_per_frame + 1) // self.frames
        if done < count:
            return None
        first = self.start + round((done - count) * self.frames * self.ticks_per_frame)
        return first, self.start + round((done * self.frames - 1) * self.ticks_per_frame)
