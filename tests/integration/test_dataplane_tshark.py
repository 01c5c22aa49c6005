"""Wireshark takes apart what the packet core sends: media of every codec, RTCP to both sides, header extensions in both
forms. It finds no fault and the numbers, ids and bytes that were sent."""

import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import auralink_native as native
import pytest

from tests.integration.media import ENCODERS, FFMPEG, FPS, free_ports
from tests.integration.peers import PAYLOAD_TYPE, SIZE, leg, running, tshark

pytestmark = tshark
SECONDS = {"video": 3, "audio": 6}
"""Long enough for reports, which are one or five seconds apart."""
ENCODER = {
    **ENCODERS,
    # x265's word about itself is an SEI in fragments, and Wireshark 4.0 reads five of the six bits of their type: it
    # would take them for a slice's.
    "H265": tuple(one.replace("log-level", "info=0:log-level") for one in ENCODERS["H265"]),
}
LOST_OF = 60
"""One of so many packets of the sender, and nobody sends it again."""
ORIENTATION = "urn:3gpp:video-orientation"
THEIR_ID, OUR_ID, HIGH_ID = 3, 14, 20  # the last does not fit the one-byte form
ERROR = 0x800000  # of Wireshark's severities
MALFORMED = f"_ws.malformed || _ws.expert.severity >= {ERROR}"


@dataclass
class Capture:
    """Datagrams by the port that they came to."""

    rtp: int
    packets: list[tuple[int, bytes]] = field(default_factory=list)

    def of(self, port: int) -> list[bytes]:
        return [data for to, data in self.packets if to == port]

    def write(self, path: Path) -> Path:
        """As pcap of raw IPv4 (link type 101), a packet a millisecond."""
        out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)]
        for number, (port, data) in enumerate(self.packets):
            udp = struct.pack("!HHHH", 9, port, 8 + len(data), 0) + data
            home = socket.inet_aton("127.0.0.1")
            ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, home, home) + udp
            out.append(struct.pack("<IIII", number // 1000, number % 1000 * 1000, len(ip), len(ip)) + ip)
        path.write_bytes(b"".join(out))
        return path


@cache
def dissectors() -> frozenset[str]:
    listed = subprocess.run(["tshark", "-G", "protocols"], capture_output=True, text=True, check=True).stdout
    return frozenset(line.split("\t")[2] for line in listed.splitlines())


def dissected(capture: Capture, folder: Path, codec: str, fields: tuple[str, ...], wanted: str) -> list[list[str]]:
    """The fields of each packet that `wanted` lets through; payloads as far as this Wireshark knows the codec."""
    path = capture.write(folder / f"{capture.rtp}.pcap")
    decode = [f"udp.port=={capture.rtp},rtp", f"udp.port=={capture.rtp + 1},rtcp"]
    if codec.lower() in dissectors():
        decode.append(f"rtp.pt=={PAYLOAD_TYPE},{codec.lower()}")
    command = ["tshark", "-n", "-r", str(path), "-Y", wanted, "-T", "fields", "-E", "aggregator=;"]
    command += [part for one in decode for part in ("-d", one)] + [part for one in fields for part in ("-e", one)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


@contextmanager
def bound(*ports: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in ports]
        for one, port in zip(sockets, ports, strict=True):
            one.bind(("127.0.0.1", port))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        yield sockets


def sends(codec: str, port: int) -> list[str]:
    to = [
        "-payload_type",
        str(PAYLOAD_TYPE),
        "-strict",
        "experimental",
        "-f",
        "rtp",
        f"rtp://127.0.0.1:{port}?pkt_size=1200",
    ]
    medium = "audio" if codec == "Opus" else "video"
    head = [FFMPEG, "-v", "error", "-re", "-f", "lavfi", "-t", str(SECONDS[medium]), "-i"]
    if medium == "audio":
        return [*head, "sine=frequency=440:sample_rate=48000", "-c:a", "libopus", *to]
    picture = f"testsrc2=size={SIZE}:rate={FPS}"
    return [*head, picture, "-c:v", *ENCODER[codec], "-b:v", "800k", "-pix_fmt", "yuv420p", *to]


def turned(packet: bytes) -> bytes:
    """With a picture's orientation."""
    extension = struct.pack("!HHBBH", 0xBEDE, 1, THEIR_ID << 4, 3, 0)
    return bytes([packet[0] | 0x10]) + packet[1:12] + extension + packet[12:]


def call(codec: str, **outlet: Any) -> tuple[Capture, Capture]:
    """What the receiver and the sender get of a call that loses some of the sender's packets."""
    into, back, out = free_ports(3, kind=socket.SOCK_DGRAM, step=2)
    at_receiver, at_sender = Capture(out), Capture(back)
    engine = native.Engine()
    medium, rate = ("audio", 48000) if codec == "Opus" else ("video", 90000)
    payload = {"type": PAYLOAD_TYPE, "codec": codec, "clock_rate": rate}
    more: dict[str, Any] = {"feedback": "AVPF"}
    inward = leg(codec, "Receive", extensions={THEIR_ID: ORIENTATION}, **more)
    outward = leg(codec, "Send", **more, **outlet)
    inward["media"] = {medium: {"payloads": [payload]}}  # type: ignore[list-item]
    outward["media"] = {medium: {"payloads": [payload], "remote": f"127.0.0.1:{out}"}}  # type: ignore[list-item]
    inlet, target = engine.open_leg("room", inward), engine.open_leg("room", outward)
    to = ("127.0.0.1", engine.local_ports(inlet)[medium])
    with bound(into, back, back + 1, out, out + 1) as (tool, sender, *others):
        ears = dict(zip((sender, *others), (at_sender, at_sender, at_receiver, at_receiver), strict=True))
        watched: list[Any] = [engine.fileno(), tool, *ears]
        linked, came, ended = False, 0, float("inf")
        with running(sends(codec, into)) as process:
            while time.monotonic() < ended + 1.5:
                ready = select.select(watched, [], [], 0.05)[0]
                if tool in ready:
                    packet = tool.recv(2048)
                    came += linked
                    if came % LOST_OF != LOST_OF // 2:
                        sender.sendto(turned(packet) if medium == "video" else packet, to)
                for one, capture in ears.items():
                    if one in ready:
                        capture.packets.append((one.getsockname()[1], one.recv(2048)))
                for item in engine.poll():
                    if isinstance(item, native.StreamStarted):
                        engine.link(item.stream, target)
                        if medium == "video":
                            engine.set_mode(item.stream, native.BYPASS)
                        linked = True
                if process.poll() is not None and ended == float("inf"):
                    ended = time.monotonic()
                    engine.close_leg(inlet)
        engine.close()
    return at_receiver, at_sender


def elements(packet: bytes) -> list[tuple[int, bytes]]:
    """Ids and values of a header extension, in either form (RFC 8285)."""
    if not packet[0] & 0x10:
        return []
    profile, words = struct.unpack("!HH", packet[12:16])
    body, found = packet[16 : 16 + 4 * words], []
    at = 0
    while at < len(body):
        if body[at] == 0:
            at += 1
            continue
        number, size, at = (
            (body[at] >> 4, (body[at] & 15) + 1, at + 1) if profile == 0xBEDE else (body[at], body[at + 1], at + 2)
        )
        found.append((number, body[at : at + size]))
        at += size
    return found


@pytest.mark.parametrize("codec", ["H264", "H265", "VP8", "VP9", "AV1", "Opus"])
def test_rule_18_wireshark_finds_no_fault_and_what_was_sent(tmp_path: Path, codec: str) -> None:
    video = codec != "Opus"
    outlet = {"extensions": {HIGH_ID: ORIENTATION}, "carrier": "InBand"} if video else {}
    at_receiver, at_sender = call(codec, **outlet)
    for capture in (at_receiver, at_sender):
        faults = dissected(capture, tmp_path, codec, ("frame.number", "_ws.expert.message"), MALFORMED)
        assert faults == []
    sent = at_receiver.of(at_receiver.rtp)
    fields = ("rtp.seq", "rtp.marker", "rtp.ext.profile", "rtp.ext.rfc5285.id", "rtp.ext.rfc5285.data")
    seen = dissected(at_receiver, tmp_path, codec, fields, "rtp")
    told = [(int.from_bytes(packet[2:4], "big"), packet[1] >> 7, elements(packet)) for packet in sent]
    assert len(told) > 50
    assert [(int(one[0]), int(one[1] in ("1", "True"))) for one in seen] == [one[:2] for one in told]
    assert [values(one) for one in seen] == [one[2] for one in told]
    if video:
        forms = {packet[12:14] for packet in sent if packet[0] & 0x10}
        assert forms == {b"\xbe\xde", b"\x10\x00"}
        firsts = [value for _, _, found in told for number, value in found if number == OUR_ID]
        assert len(firsts) > FPS / 2
        assert {value[:9] for value in firsts} == {bytes.fromhex("01000003e800000000")}
    types = {int(one) for row in reports(at_receiver, tmp_path, codec) for one in row if one}
    assert types >= {200, 202, 203}, "sender reports, names, BYE"
    answered = {int(one) for row in reports(at_sender, tmp_path, codec) for one in row if one}
    assert answered >= ({201, 202, 205} if video else {201, 202}), "receiver reports, names, NACKs"


def values(row: list[str]) -> list[tuple[int, bytes]]:
    """Elements as Wireshark found them."""
    if len(row) < 5 or not row[3]:
        return []
    return [
        (int(number), bytes.fromhex(value.replace(":", "")))
        for number, value in zip(row[3].split(";"), row[4].split(";"), strict=True)
    ]


def reports(capture: Capture, folder: Path, codec: str) -> list[list[str]]:
    """RTCP packet types of each compound."""
    rows = dissected(capture, folder, codec, ("rtcp.pt",), "rtcp")
    return [row[0].split(";") for row in rows]


@pytest.mark.parametrize(
    "broken", ["78 0003 65 8884 0009 41 88", "67 64 00"], ids=["a unit beyond its end", "half a set"]
)
def test_wireshark_finds_what_is_broken(tmp_path: Path, broken: str) -> None:
    """What finds no fault must be able to."""
    header = struct.pack("!HHII", 0x8060, 1, 0, 7)
    capture = Capture(5004, [(5004, header + bytes.fromhex(payload)) for payload in ("41 8884", broken)])
    assert [row[0] for row in dissected(capture, tmp_path, "H264", ("frame.number",), MALFORMED)] == ["2"]


def test_wireshark_looks_into_the_payloads_of_those_that_the_oldest_supported_one_knows() -> None:
    """Or it would take them for bytes, and find no fault in any. VP9 and AV1 came later."""
    assert {"h264", "h265", "vp8", "opus"} <= dissectors()
