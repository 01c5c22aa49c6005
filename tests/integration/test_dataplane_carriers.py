"""AuraLink's 16 bytes in the bitstream itself: FFmpeg shows what it would show without them, and whoever looks finds in
each picture what its header extension said. What stands where is tested in Rust (`native/tests/carriers.rs`)."""

import re
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import auralink_native as native
import av
import pytest

from tests.integration.media import ENCODERS, FFMPEG, FPS, free_ports
from tests.integration.peers import (
    AV1_DELIMITER,
    PAYLOAD_TYPE,
    SECONDS,
    SIZE,
    Core,
    complaints,
    description,
    receiving,
    running,
)

UUID = bytes.fromhex("bcb8166919505d0287dcd76cf549a98c")
CONTAINER = {"H264": "ts", "H265": "ts", "AV1": "ivf"}
RECORDED = {"H264": "h264", "H265": "hevc", "AV1": "ivf"}
HELD_BACK = 1
"""Pictures that FFmpeg's parser waits with for the next one to begin."""


def clip(folder: Path, codec: str, kbps: int) -> Path:
    """A moving picture with a key each second."""
    path = folder / f"{kbps}.{CONTAINER[codec]}"
    picture = f"testsrc2=size={SIZE}:rate={FPS},noise=alls=8:allf=t:all_seed=7"
    keys = ("-keyint_min", str(FPS), "-sc_threshold", "0")
    subprocess.run(
        [FFMPEG, "-v", "error", "-y", "-f", "lavfi", "-i", picture, "-t", str(SECONDS), "-c:v", *ENCODERS[codec], *keys,
         "-b:v", f"{kbps}k", "-pix_fmt", "yuv420p", str(path)],
        check=True,
    )  # fmt: skip
    return path


def encoded(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet).removeprefix(AV1_DELIMITER) for packet in container.demux(video=0) if packet.size]


def pictures(path: Path) -> list[str]:
    """A digest of each."""
    command = [FFMPEG, "-v", "error", "-i", str(path), "-f", "framemd5", "-"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split(",")[-1].strip() for line in lines if not line.startswith("#")]


def values(codec: str, recording: Path) -> list[bytes]:
    """What is found in a recording, by the specifications of the codecs."""
    if codec == "AV1":
        metadata = [payload for unit in encoded(recording) for kind, payload in obus(unit) if kind == 5]
        return [one[17:33] for one in metadata if one[:17] == b"\x1e" + UUID and one[33:] == b"\x80"]
    front = {"H264": b"\x06", "H265": b"\x4e\x01"}[codec]
    units = (unit.rstrip(b"\0") for unit in re.split(b"\0\0\1", recording.read_bytes())[1:])
    messages = (re.sub(b"\0\0\3", b"\0\0", unit) for unit in units if unit.startswith(front))
    start = front + b"\x05\x20" + UUID
    return [one[len(start) : -1] for one in messages if one.startswith(start) and one.endswith(b"\x80")]


def obus(unit: bytes) -> Iterator[tuple[int, bytes]]:
    """Types and payloads of OBUs with sizes."""
    at = 0
    while at < len(unit):
        header, at = unit[at], at + (2 if unit[at] & 4 else 1)
        size = shift = 0
        while True:
            byte, at = unit[at], at + 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        yield header >> 3 & 15, unit[at : at + size]
        at += size


@contextmanager
def recorder(codec: str, port: int, folder: Path) -> Iterator[Path]:
    path = folder / f"received.{RECORDED[codec]}"
    command = [FFMPEG, "-v", "warning", "-y", "-protocol_whitelist", "file,udp,rtp",
               "-i", str(description(folder, codec, port)), "-c", "copy", "-copyinkf", str(path)]  # fmt: skip
    with receiving(command, port, folder):
        yield path


@pytest.mark.parametrize("mode", [native.COMPRESS, native.BYPASS], ids=["compressed", "native"])
@pytest.mark.parametrize("codec", list(CONTAINER))
def test_rule_22_a_decoder_shows_every_picture_and_the_value_of_each_is_found(
    tmp_path: Path, codec: str, mode: int
) -> None:
    theirs, ours = clip(tmp_path, codec, 600), clip(tmp_path, codec, 200)
    answers = encoded(ours)
    keys = {at for at in range(SECONDS * FPS) if at % FPS == 0}

    def value(frame: native.Frame) -> bytes:
        return struct.pack("!BHHIB6x", 1, frame.frame_id, 0, 3, 0)

    [out] = free_ports(1, kind=socket.SOCK_DGRAM, step=2)
    send = [FFMPEG, "-v", "error", "-re", "-i", str(theirs), "-c", "copy", "-strict", "experimental",
            "-payload_type", str(PAYLOAD_TYPE), "-f", "rtp"]  # fmt: skip
    with recorder(codec, out, tmp_path) as recording:
        core = Core(codec, out, carrier="InBand")
        with running([*send, f"rtp://127.0.0.1:{core.port}?pkt_size=1200"]) as sender:
            core.run(sender, mode, lambda frame: answers[frame.frame_id], value)
        drops = core.engine.stats()["drops"]
        core.engine.close(bye=False)
    assert (core.refused, drops) == (0, {})
    assert complaints(recording) == ""
    found = values(codec, recording)
    assert len(found) >= SECONDS * FPS - HELD_BACK
    if mode == native.COMPRESS:
        expected = [struct.pack("!BHHIB6x", 1, at, 0, 3, 2 * (at in keys)) for at in range(len(found))]
    else:
        expected = [struct.pack("!BHHIB6x", 1, 0, 1000, 0, 1 | 2 * (at in keys)) for at in range(len(found))]
    assert found == expected
    assert pictures(recording)[: len(found)] == pictures(ours if mode == native.COMPRESS else theirs)[: len(found)]
