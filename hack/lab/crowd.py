"""Many live senders and receivers in one process: a crowd of rooms, for what happens to them while pods come and go.

Every room has a sender (its own socket, SSRC and numbers; it plays the same pictures over and over and begins at a key
when it is asked for one) and a receiver, which puts pictures together again. Runs in a pod; standard library only: the
image holds this one file. `read` and `packets_of` are its halves outside.

It writes down what happened, one record per picture, big-endian, `RECORD.size` bytes:

    at_ns u64 | kind u8 | room u16 | SSRC u32 | RTP timestamp u32 | flags u8 | lost packets u16

and per room what a viewer would hand to a decoder: the complete pictures, as Annex B.
"""

import argparse
import contextlib
import heapq
import json
import random
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

RECORD = struct.Struct(">QBHIIBH")
SENT, RECEIVED, KEY_WANTED = range(3)
KEY, COMPLETE = 1, 2
PAYLOAD_TYPE = 96
PAYLOAD_LIMIT = 1100
RTP_HZ = 90_000
_HEADER = struct.Struct(">BBHII")
_NALU_IDR, _NALU_STAP_A, _NALU_FU_A = 5, 24, 28
_RTCP_PLI, _RTCP_FIR = (206, 1), (206, 4)
_RECEIVE_BUFFER = 1 << 20
_FLUSH_S = 0.25


@dataclass(frozen=True, slots=True)
class Happened:
    """One record."""

    at_ns: int
    kind: int
    room: int
    ssrc: int
    timestamp: int
    key: bool
    complete: bool
    lost: int
    """Numbers that are missing in front of the picture, from the same SSRC."""


def read(data: bytes) -> Iterator[Happened]:
    """A record that is cut off at the end (the crowd is still writing) is left out."""
    whole = len(data) - len(data) % RECORD.size
    for at, kind, room, ssrc, timestamp, flags, lost in RECORD.iter_unpack(data[:whole]):
        yield Happened(at, kind, room, ssrc, timestamp, bool(flags & KEY), bool(flags & COMPLETE), lost)


# --- pictures to packets and back ---------------------------------------------------------------------------------


def nal_units(annex_b: bytes) -> list[bytes]:
    parts = annex_b.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [part.rstrip(b"\0") or part for part in parts if part]


def packets_of(annex_b: bytes, limit: int = PAYLOAD_LIMIT) -> list[bytes]:
    """RTP payloads of one picture (RFC 6184, packetization-mode=1): single units and FU-A."""
    payloads: list[bytes] = []
    for unit in nal_units(annex_b):
        if len(unit) <= limit:
            payloads.append(unit)
            continue
        pieces = [unit[at : at + limit - 2] for at in range(1, len(unit), limit - 2)]
        for index, piece in enumerate(pieces):
            edge = 0x80 * (index == 0) | 0x40 * (index == len(pieces) - 1)
            payloads.append(bytes([unit[0] & 0xE0 | _NALU_FU_A, edge | unit[0] & 0x1F]) + piece)
    return payloads


def picture_of(payloads: Sequence[bytes]) -> tuple[bytes, bool]:
    """Annex B of a picture's payloads in order, and whether it is a key."""
    out = bytearray()
    key = False
    for payload in payloads:
        kind = payload[0] & 0x1F
        if kind == _NALU_STAP_A:
            at = 1
            while at + 2 < len(payload):
                size = int.from_bytes(payload[at : at + 2], "big")
                out += b"\0\0\0\1" + payload[at + 2 : at + 2 + size]
                key |= payload[at + 2] & 0x1F == _NALU_IDR
                at += 2 + size
        elif kind == _NALU_FU_A:
            if payload[1] & 0x80:
                out += b"\0\0\0\1" + bytes([payload[0] & 0xE0 | payload[1] & 0x1F])
            key |= payload[1] & 0x1F == _NALU_IDR
            out += payload[2:]
        else:
            out += b"\0\0\0\1" + payload
            key |= kind == _NALU_IDR
    return bytes(out), key


@dataclass(slots=True)
class Assembly:
    """One receiver: packets in arrival order to pictures. A new SSRC begins anew."""

    ssrc: int | None = None
    expected: int = 0
    timestamp: int = 0
    payloads: list[bytes] = field(default_factory=list)
    whole: bool = True
    lost: int = 0

    def take(self, datagram: bytes) -> tuple[int, int, bytes, bool, bool, int] | None:
        """(SSRC, timestamp, Annex B, key, complete, lost before) with the packet that ends a picture."""
        if len(datagram) < 13 or datagram[0] >> 6 != 2 or datagram[1] & 0x7F != PAYLOAD_TYPE:
            return None
        _, second, sequence, timestamp, ssrc = _HEADER.unpack_from(datagram)
        if ssrc != self.ssrc:
            self.ssrc, self.expected, self.payloads, self.whole, self.lost = ssrc, sequence, [], True, 0
        missing = (sequence - self.expected) & 0xFFFF
        if missing >= 0x8000:
            return None  # late or repeated
        self.expected = (sequence + 1) & 0xFFFF
        if missing:
            self.lost += missing
            self.whole = False
        if timestamp != self.timestamp:
            self.timestamp, self.payloads = timestamp, []
        self.payloads.append(datagram[_body(datagram) :])
        if not second & 0x80:
            return None
        picture, key = picture_of(self.payloads)
        found = ssrc, timestamp, picture, key, self.whole, self.lost
        self.payloads, self.whole, self.lost = [], True, 0
        return found


def _body(datagram: bytes) -> int:
    """Where the payload begins."""
    start = 12 + 4 * (datagram[0] & 0x0F)
    if datagram[0] & 0x10:
        start += 4 + 4 * int.from_bytes(datagram[start + 2 : start + 4], "big")
    return start


def wants_key(datagram: bytes) -> bool:
    """Whether an RTCP compound packet holds a PLI or FIR."""
    at = 0
    while at + 4 <= len(datagram) and datagram[at] >> 6 == 2:
        if (datagram[at + 1], datagram[at] & 0x1F) in (_RTCP_PLI, _RTCP_FIR):
            return True
        at += 4 + 4 * int.from_bytes(datagram[at + 2 : at + 4], "big")
    return False


# --- the process ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Sender:
    room: int
    out: socket.socket
    ssrc: int
    sequence: int
    picture: int = 0
    sent: int = 0
    key_wanted: bool = False


class Crowd:
    """Plays `pictures` (Annex B each, the first a key) to `rooms` ports and listens on as many."""

    def __init__(self, pictures: Sequence[bytes], fps: float, targets: Sequence[tuple[str, int]], ports: Sequence[int],
                 folder: Path) -> None:  # fmt: skip
        self._pictures = [packets_of(picture) for picture in pictures]
        self._keys = [index for index, picture in enumerate(pictures) if picture_of(packets_of(picture))[1]]
        self._fps = fps
        self._log: BinaryIO = (folder / "crowd.log").open("wb")
        self._running = True
        self._selector = selectors.DefaultSelector()
        self._senders = [self._sender(room, target) for room, target in enumerate(targets)]
        self._assemblies = [Assembly() for _ in ports]
        self._recordings: list[BinaryIO] = [(folder / f"room-{n:02}.h264").open("wb") for n in range(len(ports))]
        for room, port in enumerate(ports):
            incoming = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            incoming.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            incoming.setblocking(False)
            incoming.bind(("0.0.0.0", port))
            self._selector.register(incoming, selectors.EVENT_READ, (self._received, room))

    def _sender(self, room: int, target: tuple[str, int]) -> Sender:
        out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        out.setblocking(False)
        out.connect(target)
        self._selector.register(out, selectors.EVENT_READ, (self._feedback, room))
        numbers = random.Random(room + 1)  # noqa: S311 - only different from room to room
        return Sender(room, out, numbers.getrandbits(32), numbers.getrandbits(15), picture=room % len(self._pictures))

    def send_to(self, targets: Sequence[tuple[str, int]]) -> None:
        """The rooms have another address now: the Service was made anew."""
        for sender, target in zip(self._senders, targets, strict=True):
            sender.out.connect(target)

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        """Until `stop`."""
        began = time.monotonic()
        interval = 1 / self._fps
        spread = interval / max(1, len(self._senders))
        due = [(began + sender.room * spread, sender.room) for sender in self._senders]
        heapq.heapify(due)
        flush_at = began + _FLUSH_S
        while self._running:
            now = time.monotonic()
            while due[0][0] <= now:
                at, room = heapq.heappop(due)
                self._send(self._senders[room])
                heapq.heappush(due, (at + interval, room))
            for key, _ in self._selector.select(max(0.0, due[0][0] - time.monotonic())):
                act, room = key.data
                act(room, key.fileobj)
            if now >= flush_at:
                self._flush()
                flush_at = now + _FLUSH_S
        self._flush()

    def _flush(self) -> None:
        for file in (self._log, *self._recordings):
            file.flush()

    def _send(self, sender: Sender) -> None:
        if sender.key_wanted and sender.picture not in self._keys:
            sender.picture = next((key for key in self._keys if key >= sender.picture), self._keys[0])
        sender.key_wanted = False
        packets = self._pictures[sender.picture]
        timestamp = round(sender.sent * RTP_HZ / self._fps) & 0xFFFFFFFF
        self._write(SENT, sender.room, sender.ssrc, timestamp, KEY * (sender.picture in self._keys), 0)
        for index, payload in enumerate(packets):
            marker = 0x80 * (index == len(packets) - 1)
            head = _HEADER.pack(0x80, marker | PAYLOAD_TYPE, sender.sequence, timestamp, sender.ssrc)
            with contextlib.suppress(OSError):  # nobody is there just now
                sender.out.send(head + payload)
            sender.sequence = (sender.sequence + 1) & 0xFFFF
        sender.sent += 1
        sender.picture = (sender.picture + 1) % len(self._pictures)

    def _feedback(self, room: int, out: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if wants_key(out.recv(2048)):
                self._senders[room].key_wanted = True
                self._write(KEY_WANTED, room, self._senders[room].ssrc, 0, 0, 0)

    def _received(self, room: int, incoming: socket.socket) -> None:
        for _ in range(64):
            try:
                datagram = incoming.recv(2048)
            except OSError:
                return
            if found := self._assemblies[room].take(datagram):
                ssrc, timestamp, picture, key, complete, lost = found
                self._write(RECEIVED, room, ssrc, timestamp, KEY * key | COMPLETE * complete, lost)
                if complete:
                    self._recordings[room].write(picture)

    def _write(self, kind: int, room: int, ssrc: int, timestamp: int, flags: int, lost: int) -> None:
        self._log.write(RECORD.pack(time.time_ns(), kind, room, ssrc, timestamp, flags, min(lost, 0xFFFF)))


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description="Play one clip to many rooms and watch what comes back.")
    parser.add_argument("--clip", type=Path, required=True, help="JSON: {fps, pictures: [hex of Annex B]}")
    parser.add_argument("--rooms", type=int, required=True)
    parser.add_argument("--target", required=True, help="host that the rooms listen at; looked up again on SIGHUP")
    parser.add_argument("--target-port", type=int, required=True, help="of the first room; two more for each")
    parser.add_argument("--port", type=int, required=True, help="of the first receiver; two more for each")
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args(arguments)
    clip = json.loads(options.clip.read_text())

    def targets() -> list[tuple[str, int]]:
        host = socket.getaddrinfo(options.target, None, socket.AF_INET)[0][4][0]
        return [(str(host), options.target_port + 2 * room) for room in range(options.rooms)]

    ports = [options.port + 2 * room for room in range(options.rooms)]
    crowd = Crowd([bytes.fromhex(one) for one in clip["pictures"]], clip["fps"], targets(), ports, options.folder)
    signal.signal(signal.SIGHUP, lambda *_: crowd.send_to(targets()))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: crowd.stop())
    crowd.run()


if __name__ == "__main__":
    main(sys.argv[1:])
