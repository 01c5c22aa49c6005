"""Twin of the packet core: modes, holding, order of emission, and a receiver that notices garbage.

Frames come in by `feed`, not from sockets; what went out is in `outs`. It counts what a decoder would choke on.
"""

import contextlib
import os
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from auralink_dataplane.media.frames import (
    Event,
    Frame,
    FrameSent,
    KeyWanted,
    Mode,
    ModeApplied,
    StreamEnded,
    StreamFailed,
    StreamStarted,
    SubmitRefused,
)

if TYPE_CHECKING:
    from auralink_dataplane.media.packets import LegConfig, OutStats, Stats, StreamStats

IN_FLIGHT = 16


@dataclass(frozen=True)
class Sent:
    """One frame that left."""

    frame_id: int
    ours: bool
    key: bool
    size: int
    extension: bytes | None


@dataclass
class _Slot:
    frame_id: int
    key: bool
    size: int
    answered: bool
    ours: bool = False
    dropped: bool = False
    out_key: bool = False
    out_size: int = 0
    extension: bytes | None = None
    was_submitted: bool = False


@dataclass
class Source:
    leg: int
    media: str
    codec: str
    ssrc: int
    mode: Mode | None = None
    pending: tuple[Mode, int | None] | None = None
    held: bool = False
    ended: bool = False
    degraded: bool = False
    extension: bool = True
    next_id: int = 0
    frames: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    kept: list[tuple[bool, int, float, bytes]] = field(default_factory=list)
    slots: "OrderedDict[int, _Slot]" = field(default_factory=OrderedDict)
    may_reorder: bool = False
    run: bool | None = None  # whose references receivers hold: ours, the sender's, nobody's
    last_ours: bool | None = None
    sent: list[Sent] = field(default_factory=list)
    garbage: list[Sent] = field(default_factory=list)
    refused: int = 0  # answered frames that did not fit behind what had left
    illegal_switch: int = 0
    awaiting_key: int = 0
    key_requests: int = 0
    links: dict[int, int] = field(default_factory=dict)

    def left_out(self) -> None:
        """Native frames behind one that did not leave may reference it."""
        if self.run is False:
            self.run = None

    def refuse(self, ours: bool) -> str:
        self.refused += 1
        awaits = not ours and self.run is None and self.last_ours is False
        if awaits:
            self.awaiting_key += 1
            self.key_requests += 1
        else:
            self.illegal_switch += 1
        self.left_out()
        return "awaiting_key" if awaits else "illegal_switch"


class FakePackets:
    def __init__(self) -> None:
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK)
        self.events: deque[Frame | Event] = deque()
        self.legs: dict[int, tuple[str, LegConfig]] = {}
        self.closed_legs: list[int] = []
        self.byes: list[int] = []
        self.remotes: list[tuple[int, str, str]] = []
        self.sources: dict[int, Source] = {}
        self.refuse_port: int | None = None
        self.closed = False
        self._next = 0
        self.now = 0.0

    # --- the test's side ------------------------------------------------------------------------------------

    def start_stream(self, leg: int, *, media: str = "video", codec: str = "H264") -> int:
        stream = self._new_id()
        self.sources[stream] = Source(leg, media, codec, ssrc=1000 + stream)
        self._tell(StreamStarted(leg, stream, 1000 + stream, codec, media))
        return stream

    def end_stream(self, stream: int, reason: str = "bye") -> None:
        self.sources[stream].kept.clear()
        self.sources[stream].ended = True
        self._tell(StreamEnded(stream, reason))

    def feed(self, stream: int, *, key: bool, size: int = 1000, data: bytes | None = None, now: float = 0.0) -> None:
        """A native frame is complete."""
        source = self.sources[stream]
        self.now = now
        source.frames += 1
        source.bytes_in += size
        payload = data if data is not None else bytes(size)
        if source.mode is None and source.pending is None:
            if (source.kept or key) and len(source.kept) < IN_FLIGHT:
                source.kept.append((key, size, now, payload))
            return
        self._arrive(stream, source, key, size, now, payload)

    def want_key(self, stream: int) -> None:
        self._tell(KeyWanted(stream))

    # --- PacketEngine ---------------------------------------------------------------------------------------

    def fileno(self) -> int:
        return self._eventfd

    def poll(self) -> list[Frame | Event]:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._eventfd)
        found = list(self.events)
        self.events.clear()
        return found

    def open_leg(self, room: str, config: "LegConfig") -> int:
        ports = [medium.get("listen_port") for medium in config["media"].values()]
        if self.refuse_port is not None and self.refuse_port in ports:
            raise OSError(98, f"port {self.refuse_port} is taken")
        leg = self._new_id()
        self.legs[leg] = (room, config)
        return leg

    def close_leg(self, leg: int, *, bye: bool = True) -> None:
        self.closed_legs.append(leg)
        if bye:
            self.byes.append(leg)
        self.legs.pop(leg, None)
        for stream, source in self.sources.items():
            if source.leg == leg and not source.ended:
                self.end_stream(stream, "leg closed")

    def set_remote(self, leg: int, medium: str, remote: str) -> None:
        self.remotes.append((leg, medium, remote))

    def local_ports(self, leg: int) -> Mapping[str, int]:
        media = self.legs[leg][1]["media"]
        return {name: medium.get("listen_port") or 40000 + leg for name, medium in media.items()}

    def link(self, stream: int, leg: int) -> int:
        if self.sources[stream].ended:
            raise ValueError(f"no stream {stream}")
        if leg not in self.legs:
            raise ValueError(f"no leg {leg}")
        out = self._new_id()
        self.sources[stream].links[leg] = out
        return out

    def unlink(self, out: int) -> None:
        for source in self.sources.values():
            source.links = {leg: one for leg, one in source.links.items() if one != out}

    def set_mode(self, stream: int, mode: Mode, *, extension: bool, degraded: bool, at_frame: int | None) -> None:
        source = self.sources[stream]
        source.extension, source.degraded = extension, degraded
        source.pending = (mode, at_frame if at_frame is not None and at_frame >= source.next_id else None)
        kept, source.kept = source.kept, []
        for key, size, now, payload in kept:
            self._arrive(stream, source, key, size, now, payload)

    def hold(self, stream: int) -> None:
        source = self.sources[stream]
        source.slots.clear()
        source.held = True
        source.run = None

    def submit(self, stream: int, frame_id: int, data: bytes | None, ext16: bytes | None, key: bool) -> None:
        source = self.sources[stream]
        slot = source.slots.get(frame_id)
        ours = data is not None
        if slot is None or slot.answered:
            self._tell(SubmitRefused(stream, frame_id, native=not ours, reason="unknown_frame"))
            return
        slot.answered, slot.was_submitted, slot.ours = True, True, ours
        slot.out_key = key if ours else slot.key
        slot.out_size = len(data) if data is not None else slot.size
        slot.extension = ext16
        self._flush(stream, source)

    def drop(self, stream: int, frame_id: int) -> None:
        source = self.sources[stream]
        slot = source.slots.get(frame_id)
        if slot and not slot.answered:
            slot.answered = slot.dropped = True
            self._flush(stream, source)

    def request_key(self, stream: int) -> None:
        self.sources[stream].key_requests += 1

    def stats(self) -> "Stats":
        return {
            "drops": {"not_rtp": 3},
            "legs": {},
            "streams": {stream: _counted(one) for stream, one in self.sources.items()},
            "outs": {
                out: _sent(stream, leg, one) for stream, one in self.sources.items() for leg, out in one.links.items()
            },
        }

    def close(self, *, bye: bool = True) -> None:
        if bye:
            self.byes += self.legs
        if not self.closed:
            os.close(self._eventfd)
        self.closed = True

    # --- inside ---------------------------------------------------------------------------------------------

    def _new_id(self) -> int:
        self._next += 1
        return self._next

    def _tell(self, event: Frame | Event) -> None:
        self.events.append(event)
        os.eventfd_write(self._eventfd, 1)

    def _arrive(self, stream: int, source: Source, key: bool, size: int, now: float, payload: bytes) -> None:
        frame_id = source.next_id
        source.next_id += 1
        if source.pending:
            mode, at_frame = source.pending
            due = key if at_frame is None or source.held else frame_id >= at_frame
            if due:
                source.mode, source.pending, source.held = mode, None, False
                self._tell(ModeApplied(stream, mode, frame_id))
        if source.held or source.mode is None:
            return
        compress = source.mode is Mode.COMPRESS
        source.slots[frame_id] = _Slot(frame_id, key, size, answered=not compress, out_key=key, out_size=size)
        if source.mode is not Mode.BYPASS:
            self._tell(
                Frame(
                    *(stream, frame_id, source.mode, source.codec, frame_id * 3000, key, now, now),
                    may_reorder=source.may_reorder,
                    native_bytes=size,
                    data=payload,
                )
            )
        if sum(not slot.answered for slot in source.slots.values()) > IN_FLIGHT:
            self.hold(stream)
            self._tell(StreamFailed(stream, "queue full"))
        self._flush(stream, source)

    def _flush(self, stream: int, source: Source) -> None:
        while source.slots:
            slot = next(iter(source.slots.values()))
            if not slot.answered:
                return
            del source.slots[slot.frame_id]
            if slot.dropped:
                source.left_out()
            elif not slot.out_key and source.run != slot.ours:
                why = source.refuse(slot.ours)
                if slot.was_submitted:
                    self._tell(SubmitRefused(stream, slot.frame_id, native=not slot.ours, reason=why))
            else:
                self._send(stream, source, slot)

    def _send(self, stream: int, source: Source, slot: _Slot) -> None:
        sent = Sent(slot.frame_id, slot.ours, slot.out_key, slot.out_size, slot.extension)
        if not sent.key and source.last_ours != sent.ours:
            source.garbage.append(sent)
        source.run = source.last_ours = sent.ours
        source.sent.append(sent)
        source.bytes_out += sent.size
        if slot.was_submitted:
            self._tell(FrameSent(stream, slot.frame_id, self.now, sent.size * len(source.links), packets=1))


def _counted(source: Source) -> "StreamStats":
    found: StreamStats = {
        "leg": source.leg,
        "codec": source.codec,
        "media": source.media,
        "ssrc": source.ssrc,
        "packets": source.frames,
        "payload_bytes": source.bytes_in,
        "lost_packets": 0,
        "mode": source.mode,
    }
    if source.media == "video":
        found["frames"] = source.frames
    return found


def _sent(stream: int, leg: int, source: Source) -> "OutStats":
    ours = sum(one.ours for one in source.sent)
    return {
        "stream": stream,
        "leg": leg,
        "codec": source.codec,
        "ssrc": source.ssrc,
        "packets": len(source.sent),
        "payload_bytes": source.bytes_out,
        "frames": len(source.sent),
        "native_frames": len(source.sent) - ours,
        "compressed_frames": ours,
        "dropped_frames": 0,
        "illegal_switch": source.illegal_switch,
        "resent_packets": 0,
        "key_requests": 0,
        "last_rtp_ts": None,
        "round_trip_ms": None,
        "latency_ms": {"le": [], "count": [0]},
    }
