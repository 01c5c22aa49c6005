"""A peer of the compiled packet core over real sockets on 127.0.0.1, and the smallest H.264 that it takes."""

import socket
import struct
from typing import Any

SPS = bytes.fromhex("6764001facd9405005bb0110000003001000000303c0f183")
PPS = bytes.fromhex("68ce3c80")
IDR = bytes([0x65, 0x88, 0x84]) + bytes([0x55]) * 500
DELTA = bytes([0x41, 0x9A, 0x84]) + bytes([0x66]) * 500
START = b"\0\0\0\1"
WAIT_S = 5.0


class Peer:
    """A sender and a receiver of H.264 on 127.0.0.1."""

    def __init__(self) -> None:
        self.outlet = socket.socket(type=socket.SOCK_DGRAM)
        self.outlet.bind(("127.0.0.1", 0))
        self.sink = socket.socket(type=socket.SOCK_DGRAM)
        self.sink.bind(("127.0.0.1", 0))
        self.sink.settimeout(WAIT_S)
        self.sequence = 65534
        self.timestamp = 0xFFFFFF00

    def send(self, port: int, *payloads: bytes) -> int:
        """One frame; returns its timestamp."""
        timestamp = self.timestamp
        for index, payload in enumerate(payloads):
            marker = 0x80 if index == len(payloads) - 1 else 0
            header = struct.pack("!BBHII", 0x80, marker | 96, self.sequence, timestamp, 0x11223344)
            self.outlet.sendto(header + payload, ("127.0.0.1", port))
            self.sequence = (self.sequence + 1) & 0xFFFF
        self.timestamp = (timestamp + 3000) & 0xFFFFFFFF
        return timestamp

    def packet(self) -> tuple[int, int, bytes | None, bytes]:
        """Timestamp, marker, the 16 bytes, payload of the next RTP packet."""
        data = self.sink.recv(2048)
        first, second, _, timestamp, _ = struct.unpack_from("!BBHII", data)
        if not first & 0x10:
            return timestamp, second >> 7, None, data[12:]
        assert data[12:17] == bytes.fromhex("bede0005ef")
        return timestamp, second >> 7, data[17:33], data[36:]

    def frame(self) -> tuple[int, bytes | None, list[bytes]]:
        """Timestamp, the 16 bytes and payloads up to the marker."""
        timestamp, marker, extension, payload = self.packet()
        payloads = [payload]
        while not marker:
            _, marker, later, payload = self.packet()
            assert later is None
            payloads.append(payload)
        return timestamp, extension, payloads

    def close(self) -> None:
        self.outlet.close()
        self.sink.close()


def leg(direction: str, *, remote: str | None = None, **more: Any) -> Any:
    """A LegConfig, unless `more` spoils it."""
    payloads = [{"type": 96, "codec": "H264", "clock_rate": 90000, "fmtp": "packetization-mode=1"}]
    medium = {"payloads": payloads, "listen_port": 0, "remote": remote}
    base = {"name": direction, "direction": direction, "feedback": "None", "rtcp_mux": False, "extension_id": 14}
    return {**base, "bind": "127.0.0.1", "media": {"video": medium}, **more}
