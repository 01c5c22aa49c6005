"""Forwards UDP datagrams unchanged and writes down what passed. Runs beside FFmpeg in the sender's and receiver's pods.

FFmpeg says nothing about packets; the tap tells which RTP timestamps, sizes, header extensions and payloads really went
over the wire and when. The standard library only: the image holds this one file. `read` is its other half.

One record per datagram, big-endian, `RECORD.size` bytes:

    arrived_ns u64 | left_ns u64 | port u16 | size u16 | payload_bytes u16 | payload_crc u32 | RTP header 12 B |
    extension length u8 | extension block (profile, length, elements) 28 B

Instants are nanoseconds of the system's real-time clock, arrival as the kernel stamped it: two taps on one machine
share that clock, and neither waits for this process to be scheduled.
"""

import argparse
import contextlib
import selectors
import signal
import socket
import struct
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

RECORD = struct.Struct(">QQHHHI12sB28s")
MAX_RECORDS = 600_000  # 20 minutes of 4 Mb/s with audio, 39 MB
_SO_TIMESTAMPNS = 35  # linux/socket.h; Python has no name for it
_FLUSH_S = 0.25
_RECEIVE_BUFFER = 4 << 20  # a key frame arrives in one burst; the kernel may grant less
_TIMESPEC = struct.Struct("@qq")


@dataclass(frozen=True, slots=True)
class Route:
    """Datagrams to `port` go on to `target`; without one they are only written down (RTCP that nobody wants)."""

    port: int
    target: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class Packet:
    """One RTP packet as the tap saw it."""

    arrived_ns: int
    left_ns: int
    port: int
    size: int
    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload_bytes: int
    payload_crc: int
    extension: bytes  # block with its 4-byte head, b"" = none; cut after 28 bytes


def parse_route(text: str) -> Route:
    """`PORT=HOST:PORT`, or `PORT=` to receive only."""
    port, _, target = text.partition("=")
    host, _, target_port = target.rpartition(":")
    return Route(int(port), (host, int(target_port)) if target else None)


def record(arrived_ns: int, left_ns: int, port: int, datagram: bytes) -> bytes:
    """What is written down of one datagram. Anything that is not RTP gets an empty header and the whole as payload."""
    start, extension = 0, b""
    if len(datagram) >= 12 and datagram[0] >> 6 == 2 and not 192 <= datagram[1] <= 223:
        start = 12 + 4 * (datagram[0] & 0x0F)
        if datagram[0] & 0x10 and len(datagram) >= start + 4:
            length = 4 + 4 * int.from_bytes(datagram[start + 2 : start + 4], "big")
            extension = datagram[start : start + length]
            start += length
    payload = datagram[start:]
    header = datagram[:12] if start else b""
    crc = zlib.crc32(payload)
    sizes = (len(datagram), len(payload))
    return RECORD.pack(arrived_ns, left_ns, port, *sizes, crc, header, min(len(extension), 28), extension[:28])


def read(data: bytes) -> Iterator[Packet]:
    """The RTP packets among the records. A record that is cut off at the end (the tap is still writing) is left out."""
    whole = len(data) - len(data) % RECORD.size
    for arrived, left, port, size, payload, crc, header, length, extension in RECORD.iter_unpack(data[:whole]):
        if header[0] >> 6 != 2:
            continue
        sequence, timestamp, ssrc = struct.unpack_from(">HII", header, 2)
        marker, payload_type = bool(header[1] & 0x80), header[1] & 0x7F
        yield Packet(
            arrived, left, port, size, payload_type, marker, sequence, timestamp, ssrc, payload, crc, extension[:length]
        )


def count_other(data: bytes, port: int) -> int:
    """How many datagrams to `port` were no RTP (on an RTCP port: the reports)."""
    whole = len(data) - len(data) % RECORD.size
    return sum(1 for row in RECORD.iter_unpack(data[:whole]) if row[2] == port and row[6][0] >> 6 != 2)


class Tap:
    """Sockets and file. `run` returns after `stop`, with everything written."""

    def __init__(self, routes: Sequence[Route], out: BinaryIO, max_records: int = MAX_RECORDS) -> None:
        self._out = out
        self._left = max_records
        self._running = True
        self._selector = selectors.DefaultSelector()
        for route in routes:
            incoming = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            incoming.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            with contextlib.suppress(OSError):
                incoming.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            incoming.setblocking(False)
            incoming.bind(("0.0.0.0", route.port))
            self._selector.register(incoming, selectors.EVENT_READ, (route, _outgoing(route)))

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        flush_at = time.monotonic() + _FLUSH_S
        while self._running:
            for key, _ in self._selector.select(_FLUSH_S):
                self._drain(key.fileobj, *key.data)  # type: ignore[arg-type]
            if time.monotonic() >= flush_at:
                self._out.flush()
                flush_at = time.monotonic() + _FLUSH_S
        self._out.flush()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _drain(self, incoming: socket.socket, route: Route, outgoing: socket.socket | None) -> None:
        for _ in range(64):
            try:
                datagram, ancillary, _flags, _source = incoming.recvmsg(65536, 64)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                continue
            if outgoing is not None:
                # Nobody listens there yet, or the queue is full: UDP loses packets, and the other tap will say so.
                with contextlib.suppress(OSError):
                    outgoing.send(datagram)
            left = time.time_ns()
            if self._left > 0:
                self._left -= 1
                self._out.write(record(_arrival(ancillary, left), left, route.port, datagram))


def _outgoing(route: Route) -> socket.socket | None:
    if route.target is None:
        return None
    outgoing = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    outgoing.connect(route.target)
    return outgoing


def _arrival(ancillary: Sequence[tuple[int, int, bytes]], fallback_ns: int) -> int:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) >= _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            return int(seconds * 1_000_000_000 + nanoseconds)
    return fallback_ns


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description="Forward UDP datagrams and write down what passed.")
    parser.add_argument("--out", type=Path, required=True, help="file for the records")
    parser.add_argument("--max-records", type=int, default=MAX_RECORDS)
    parser.add_argument("route", nargs="+", type=parse_route, help="PORT=HOST:PORT, or PORT= to receive only")
    options = parser.parse_args(arguments)
    with options.out.open("wb") as out:
        tap = Tap(options.route, out, options.max_records)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: tap.stop())
        tap.run()


if __name__ == "__main__":
    main(sys.argv[1:])
