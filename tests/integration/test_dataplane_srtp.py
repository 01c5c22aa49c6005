"""Encrypted legs between the packet core and those who did not write it: libsrtp on both sides of it, over the rollover
of both, and FFmpeg, which opens the SDP that the leg writes. What it decides is tested in Rust
(`dataplane/native/tests/srtp.rs`)."""

import base64
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import auralink_native as native
import pytest
from auralink_dataplane.media.legs.plain_rtp import engine_config, sdp
from auralink_dataplane.media.legs.srtp import MASTER_BYTES, SrtpKeys
from auralink_dataplane.settings import LegSpec, MediumSpec, Payload, RtpSpec, SecretRef, SrtpSpec
from pylibsrtp import Policy, Session

from tests.integration.media import FFMPEG, free_ports
from tests.integration.peers import PAYLOAD_TYPE, WAIT_S, clip, frames, running, until_bound

PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AEAD_AES_128_GCM": Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
}
SUITES = list(MASTER_BYTES)
SSRC = 0x0B5E55ED
ROUND = 50  # packets under way at once: none is lost on loopback


def keys(suite: str) -> SrtpKeys:
    size = MASTER_BYTES[suite]
    spec = SrtpSpec(suite, SecretRef("call", "peer"), SecretRef("call", "bridge"))  # type: ignore[arg-type]
    return SrtpKeys(spec, bytes(range(1, 1 + size)), bytes(range(101, 101 + size)))


def libsrtp(suite: str, key: bytes, ssrc_type: int) -> Session:
    return Session(Policy(key=key, ssrc_type=ssrc_type, srtp_profile=PROFILES[suite]))


def leg(suite: str, payload: Payload, direction: str, remote: str | None, port: int | None = None) -> LegSpec:
    medium = MediumSpec((payload,), port, remote)
    media = {"audio" if payload.codec == "Opus" else "video": medium}
    return LegSpec(direction.lower(), RtpSpec(srtp=keys(suite).spec, **media), direction)  # type: ignore[arg-type]


@contextmanager
def bound(port: int = 0) -> Iterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", port))
        one.settimeout(WAIT_S)
        yield one


class Bridge:
    """The packet core with an encrypted leg of one medium on each side."""

    def __init__(self, suite: str, payload: Payload, into: int, out: int) -> None:
        self.engine = native.Engine()
        remote = f"127.0.0.1:{out}"
        self.outward = leg(suite, payload, "Send", remote)
        [medium] = self.outward.media
        inward = engine_config(leg(suite, payload, "Receive", None, into), {}, keys(suite))
        self.engine.open_leg("room", inward)
        self.outlet = self.engine.open_leg("room", engine_config(self.outward, {medium: remote}, keys(suite)))

    def link(self) -> int:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            select.select([self.engine.fileno()], [], [], 0.1)
            for item in self.engine.poll():
                if isinstance(item, native.StreamStarted):
                    out = self.engine.link(item.stream, self.outlet)
                    if item.media == "video":
                        self.engine.set_mode(item.stream, native.BYPASS)
                    return out
        raise AssertionError("no stream started")


def opus(number: int) -> bytes:
    """Counted beyond 16 bits, for the payload."""
    header = struct.pack("!BBHII", 0x80, 97, number & 0xFFFF, number * 960 & 0xFFFFFFFF, SSRC)
    return header + struct.pack("!Q", number) * 10


@pytest.mark.parametrize("suite", SUITES)
def test_libsrtp_encrypts_for_us_and_decrypts_ours_over_both_rollovers(suite: str) -> None:
    into, out = free_ports(2, kind=socket.SOCK_DGRAM, step=2)
    theirs = libsrtp(suite, keys(suite).rx, Policy.SSRC_ANY_OUTBOUND)
    ours = libsrtp(suite, keys(suite).tx, Policy.SSRC_ANY_INBOUND)
    with bound() as peer, bound(out) as sink, bound(out + 1) as reports:
        bridge = Bridge(suite, Payload(97, "Opus"), into, out)
        to = ("127.0.0.1", into)
        for number in range(65_000, 65_003):
            peer.sendto(theirs.protect(opus(number)), to)
        linked = bridge.link()
        sequences = []
        for first in range(65_003, 65_003 + 70_000, ROUND):
            sent = [opus(number) for number in range(first, first + ROUND)]
            for packet in sent:
                peer.sendto(theirs.protect(packet), to)
            received = [ours.unprotect(sink.recv(2048)) for _ in sent]
            assert [packet[12:] for packet in received] == [packet[12:] for packet in sent]
            sequences += [struct.unpack("!H", packet[2:4])[0] for packet in received]
        assert 0 in sequences, "ours has wrapped too"

        report = ours.unprotect_rtcp(reports.recv(2048))
        [ssrc] = struct.unpack("!I", report[4:8])
        assert (report[1], ssrc) == (200, bridge.engine.stats()["outs"][linked]["ssrc"])
        sender_report = struct.pack("!BBHIQIII", 0x80, 200, 6, SSRC, 5 << 32, 0, 0, 0)
        peer.sendto(theirs.protect_rtcp(sender_report), ("127.0.0.1", into + 1))
        last = theirs.protect(opus(65_003 + 70_000))
        foreign = libsrtp(suite, keys(suite).tx, Policy.SSRC_ANY_OUTBOUND).protect(opus(65_003 + 70_001))
        for packet in (last, last, foreign):
            peer.sendto(packet, to)
        assert ours.unprotect(sink.recv(2048))[12:] == opus(65_003 + 70_000)[12:]
        stats = bridge.engine.stats()
        deadline = time.monotonic() + WAIT_S
        while stats["drops"].get("srtp_unauthentic", 0) == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
            stats = bridge.engine.stats()
        bridge.engine.close()
    assert stats["drops"] == {"not_linked": 3, "srtp_replayed": 1, "srtp_unauthentic": 1}


@contextmanager
def recorder(text: str, port: int, folder: Path) -> Iterator[Path]:
    """FFmpeg opens an SDP and leaves the frames as IVF."""
    path, description = folder / "received.ivf", folder / "receiver.sdp"
    description.write_text(text)
    command = [FFMPEG, "-v", "warning", "-y", "-protocol_whitelist", "file,udp,rtp,srtp,crypto",
               "-i", str(description), "-c", "copy", "-copyinkf", "-f", "ivf", str(path)]  # fmt: skip
    with running(command) as one:
        until_bound(port)
        yield path
        time.sleep(1)  # for what it has not written
        one.terminate()
        one.wait(WAIT_S)


def test_ffmpeg_sends_to_an_encrypted_leg_and_opens_its_sdp_byte_for_byte(tmp_path: Path) -> None:
    """FFmpeg has no GCM."""
    suite, payload = "AES_CM_128_HMAC_SHA1_80", Payload(PAYLOAD_TYPE, "VP8")
    into, out = free_ports(2, kind=socket.SOCK_DGRAM, step=2)
    sent = clip(tmp_path, "VP8", 600)
    bridge = Bridge(suite, payload, into, out)
    with recorder(sdp("room", bridge.outward, {"video": ("127.0.0.1", out)}, keys(suite)), out, tmp_path) as recording:
        key = base64.b64encode(keys(suite).rx).decode()
        command = [FFMPEG, "-v", "error", "-re", "-i", str(sent), "-c", "copy", "-payload_type", str(PAYLOAD_TYPE),
                   "-f", "rtp", "-srtp_out_suite", suite, "-srtp_out_params", key,
                   f"srtp://127.0.0.1:{into}?pkt_size=1200"]  # fmt: skip
        with running(command) as sender:
            bridge.link()
            sender.wait(WAIT_S)
        time.sleep(1)  # for what is on its way
        drops = bridge.engine.stats()["drops"]
        bridge.engine.close(bye=False)
    assert drops == {}
    assert frames(recording) == frames(sent)
