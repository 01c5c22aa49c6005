"""VP8, VP9 and AV1 between the packet core and those who did not write it: FFmpeg and GStreamer pack frames for it and
take its packets apart, byte for byte. What it decides is tested in Rust, in virtual time (`dataplane/native/tests`)."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import auralink_native as native
import pytest

from tests.integration.media import FFMPEG, free_ports
from tests.integration.peers import (
    KEYS_APART,
    PAYLOAD_TYPE,
    SIZE,
    Core,
    carried_natively,
    clip,
    complaints,
    description,
    frames,
    gstreamer,
    receiving,
    running,
)

RICHER = {"AV1": "AV1 of hidden frames"}
"""Several frames in one temporal unit, and units of a header that shows one of them."""
PEERS = [
    ("VP8", "ffmpeg"),
    ("VP9", "ffmpeg"),
    ("AV1", "ffmpeg"),
    pytest.param("VP8", "gstreamer", marks=gstreamer),
    pytest.param("VP9", "gstreamer", marks=gstreamer),
]  # GStreamer's AV1 payloader is in none of Debian's plug-ins


def sends(tool: str, codec: str, path: Path, port: int) -> list[str]:
    """At the pace of the pictures. GStreamer numbers them with 7 bits of VP8's and 15 of VP9's."""
    if tool == "ffmpeg":
        to = f"rtp://127.0.0.1:{port}?pkt_size=1200"
        return [FFMPEG, "-v", "error", "-re", "-i", str(path), "-c", "copy", "-strict", "experimental",
                "-payload_type", str(PAYLOAD_TYPE), "-f", "rtp", to]  # fmt: skip
    bits = {"VP8": 1, "VP9": 2}[codec]
    pay = f"rtp{codec.lower()}pay pt={PAYLOAD_TYPE} mtu=1180 picture-id-mode={bits}"
    return f"gst-launch-1.0 -q filesrc location={path} ! ivfparse ! {pay} ! udpsink host=127.0.0.1 port={port}".split()


@contextmanager
def recorder(tool: str, codec: str, port: int, folder: Path) -> Iterator[Path]:
    """Takes packets apart until the end of the block, and leaves the frames as IVF."""
    path = folder / "received.ivf"
    container = path if tool == "ffmpeg" else folder / "received.mkv"
    if tool == "ffmpeg":  # which says of no VP9 frame that it is a key, and would copy none (-copyinkf)
        sdp = description(folder, codec, port)
        command = [FFMPEG, "-v", "warning", "-y", "-protocol_whitelist", "file,udp,rtp", "-i", str(sdp),
                   "-c", "copy", "-copyinkf", "-f", "ivf", str(container)]  # fmt: skip
    else:
        caps = f"application/x-rtp,media=video,clock-rate=90000,encoding-name={codec},payload={PAYLOAD_TYPE}"
        command = (
            f"gst-launch-1.0 -q -e udpsrc port={port} caps={caps} ! rtpjitterbuffer ! rtp{codec.lower()}depay".split()
        )
        command += ["!", "matroskamux", "!", "filesink", f"location={container}"]
    with receiving(command, port, folder):
        yield path
    if container != path:
        copy = [FFMPEG, "-v", "error", "-y", "-i", str(container), "-c", "copy", "-f", "ivf", str(path)]
        subprocess.run(copy, check=True)


@pytest.mark.parametrize(("codec", "tool"), PEERS)
def test_frames_come_out_byte_for_byte_whoever_packs_and_unpacks_them(tmp_path: Path, codec: str, tool: str) -> None:
    """Seconds of the sender's frames and of another encoder's take turns, on one stream without a seam."""
    theirs, ours = clip(tmp_path, RICHER.get(codec, codec), 600), clip(tmp_path, codec, 200)
    native_frames, other_frames = frames(theirs), frames(ours)
    seen: list[bytes] = []

    def answer(frame: native.Frame) -> bytes | None:
        seen.append(frame.data)
        assert frame.key == (frame.frame_id % KEYS_APART == 0)
        assert f"{frame.width}x{frame.height}" == SIZE
        return other_frames[frame.frame_id] if frame.frame_id // KEYS_APART % 2 == 0 else None

    [out] = free_ports(1, kind=socket.SOCK_DGRAM, step=2)
    with recorder(tool, codec, out, tmp_path) as recording:
        core = Core(codec, out)
        with running(sends(tool, codec, theirs, core.port)) as sender:
            core.run(sender, native.COMPRESS, answer)
        drops = core.engine.stats()["drops"]
        core.engine.close(bye=False)
    assert seen == native_frames, "the AI Core gets what the encoder made"
    assert (core.refused, drops) == (0, {})
    expected = [(other_frames if at // KEYS_APART % 2 == 0 else native_frames)[at] for at in range(len(native_frames))]
    assert frames(recording) == expected
    assert complaints(recording) == ""


@pytest.mark.parametrize(("codec", "tool"), PEERS)
def test_a_lossy_way_in_costs_frames_and_never_a_picture(tmp_path: Path, codec: str, tool: str) -> None:
    theirs = clip(tmp_path, codec, 600)
    [out] = free_ports(1, kind=socket.SOCK_DGRAM, step=2)
    with recorder(tool, codec, out, tmp_path) as recording:
        lost = carried_natively(codec, out, lambda port: sends(tool, codec, theirs, port), lose=0.01)
    received, sent = frames(recording), frames(theirs)
    print(f"{codec} {tool}: {lost} packets lost, {len(received)} of {len(sent)} frames received")
    assert lost > 0
    assert len(sent) / 10 < len(received) < len(sent)
    places = [sent.index(one) for one in received]
    assert places == sorted(places)
    for at, before in zip(places, [None, *places], strict=False):
        assert at % KEYS_APART == 0 or at - 1 == before, f"frame {at} refers to one that is not there"
    assert complaints(recording) == ""
