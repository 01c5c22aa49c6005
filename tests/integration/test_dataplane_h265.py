"""H.265 between the packet core and those who did not write it: FFmpeg and GStreamer pack pictures for it and take its
packets apart, NAL unit for NAL unit. What it decides is tested in Rust, in virtual time (`dataplane/native/tests`)."""

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import auralink_native as native
import pytest

from tests.integration.media import FFMPEG, FPS, free_ports
from tests.integration.peers import (
    KEYS_APART,
    PAYLOAD_TYPE,
    SECONDS,
    SIZE,
    Core,
    carried_natively,
    complaints,
    description,
    gstreamer,
    receiving,
    running,
)

SLICE = range(32)
LEADING = (8, 9)
KEY = range(16, 22)
SETS = (32, 33, 34)
DELIMITER = 35
ONE_BY_ONE = "bframes=0:open-gop=0"
"""Pictures leave in the order they are shown in, and keys are IDR."""
OPEN = "bframes=3:b-adapt=0:open-gop=1:keyint=27:min-keyint=27"
"""Pictures lead keys, which are CRA, and refer to what is in front of them."""
TOOLS = ["ffmpeg", pytest.param("gstreamer", marks=gstreamer)]
HELD_BACK = {"ffmpeg": 1, "gstreamer": 0}
"""Pictures that a receiver does not write: FFmpeg's parser waits for the next one to begin."""

Picture = tuple[bytes, ...]
"""NAL units without start codes."""


def clip(folder: Path, kbps: int, order: str) -> Path:
    """A moving picture with a key each second and its parameter sets in front, with the times it is shown at."""
    path = folder / f"{kbps}.ts"
    picture = f"testsrc2=size={SIZE}:rate={FPS},noise=alls=8:allf=t:all_seed=7"
    settings = f"log-level=0:keyint={KEYS_APART}:min-keyint={KEYS_APART}:scenecut=0:repeat-headers=1:{order}"
    subprocess.run(
        [FFMPEG, "-v", "error", "-y", "-f", "lavfi", "-i", picture, "-t", str(SECONDS), "-c:v", "libx265",
         "-preset", "ultrafast", "-x265-params", settings, "-b:v", f"{kbps}k", "-pix_fmt", "yuv420p", str(path)],
        check=True,
    )  # fmt: skip
    return path


def annex_b(path: Path) -> bytes:
    command = [FFMPEG, "-v", "error", "-i", str(path), "-c", "copy", "-f", "hevc", "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def units(stream: bytes) -> list[bytes]:
    return [unit.rstrip(b"\0") for unit in re.split(b"\0\0\1", stream)[1:]]


def kind(unit: bytes) -> int:
    return unit[0] >> 1


def pictures(stream: bytes) -> list[Picture]:
    """Of one slice each, with what is in front of it; without delimiters, which a muxer may write."""
    found: list[Picture] = []
    gathered: list[bytes] = []
    for unit in units(stream):
        if kind(unit) != DELIMITER:
            gathered.append(unit)
        if kind(unit) in SLICE:
            found.append(tuple(gathered))
            gathered = []
    return found


def is_key(picture: Picture) -> bool:
    return kind(picture[-1]) in KEY


def sends(tool: str, path: Path, port: int) -> list[str]:
    """At the pace of the pictures."""
    if tool == "ffmpeg":
        to = f"rtp://127.0.0.1:{port}?pkt_size=1200"
        return [FFMPEG, "-v", "error", "-re", "-i", str(path), "-c", "copy",
                "-payload_type", str(PAYLOAD_TYPE), "-f", "rtp", to]  # fmt: skip
    pay = f"rtph265pay pt={PAYLOAD_TYPE} mtu=1180 aggregate-mode=max"
    source = f"filesrc location={path} ! tsdemux ! h265parse"
    return f"gst-launch-1.0 -q {source} ! {pay} ! udpsink host=127.0.0.1 port={port}".split()


@contextmanager
def recorder(tool: str, port: int, folder: Path) -> Iterator[Path]:
    """Takes packets apart until the end of the block, and leaves the pictures as Annex B."""
    path = folder / "received.h265"
    if tool == "ffmpeg":
        sdp = description(folder, "H265", port)
        command = [FFMPEG, "-v", "warning", "-y", "-protocol_whitelist", "file,udp,rtp", "-i", str(sdp),
                   "-c", "copy", "-copyinkf", "-f", "hevc", str(path)]  # fmt: skip
    else:
        caps = f"application/x-rtp,media=video,clock-rate=90000,encoding-name=H265,payload={PAYLOAD_TYPE}"
        depay = "rtph265depay ! video/x-h265,stream-format=byte-stream,alignment=au"
        command = f"gst-launch-1.0 -q -e udpsrc port={port} caps={caps} ! rtpjitterbuffer ! {depay}".split()
        command += ["!", "filesink", f"location={path}"]
    with receiving(command, port, folder):
        yield path


@pytest.mark.parametrize("tool", TOOLS)
def test_pictures_come_out_unit_for_unit_whoever_packs_and_unpacks_them(tmp_path: Path, tool: str) -> None:
    """Seconds of the sender's pictures and of another encoder's take turns, on one stream without a seam."""
    theirs, ours = clip(tmp_path, 600, ONE_BY_ONE), clip(tmp_path, 200, ONE_BY_ONE)
    native_pictures, other_pictures = pictures(annex_b(theirs)), pictures(annex_b(ours))
    seen: list[bytes] = []

    def answer(frame: native.Frame) -> bytes | None:
        seen.append(frame.data)
        assert frame.key == (frame.frame_id % KEYS_APART == 0)
        assert (f"{frame.width}x{frame.height}", frame.may_reorder) == (SIZE, False)
        if frame.frame_id // KEYS_APART % 2 == 1:
            return None
        return b"".join(b"\0\0\0\1" + unit for unit in other_pictures[frame.frame_id])

    [out] = free_ports(1, kind=socket.SOCK_DGRAM, step=2)
    with recorder(tool, out, tmp_path) as recording:
        core = Core("H265", out)
        with running(sends(tool, theirs, core.port)) as sender:
            core.run(sender, native.COMPRESS, answer)
        drops = core.engine.stats()["drops"]
        core.engine.close(bye=False)
    assert pictures(b"".join(seen)) == native_pictures, "the AI Core gets what the encoder made"
    assert (core.refused, drops) == (0, {})
    both = (other_pictures, native_pictures)
    expected = [both[at // KEYS_APART % 2][at] for at in range(len(native_pictures))]
    assert pictures(recording.read_bytes()) == expected[: -HELD_BACK[tool] or None]
    assert complaints(recording) == ""


@pytest.mark.parametrize("order", [ONE_BY_ONE, OPEN], ids=["one by one", "reordered"])
@pytest.mark.parametrize("tool", TOOLS)
def test_a_lossy_way_in_costs_pictures_and_never_one_that_is_shown(tmp_path: Path, tool: str, order: str) -> None:
    theirs = clip(tmp_path, 600, order)
    sent = pictures(annex_b(theirs))
    reordered = order == OPEN
    assert any(kind(one[-1]) in LEADING for one in sent) == reordered
    received, lost = carried(tmp_path, tool, theirs, lose=0.01)
    print(f"{tool}, {order}: {lost} packets lost, {len(received)} of {len(sent)} pictures received")
    assert lost > 0
    assert len(sent) / 10 < len(received) < len(sent)
    places = [sent.index(one) for one in received]
    assert places == sorted(places)
    key: int | None = None
    whole_before = False
    for at, before in zip(places, [None, *places], strict=False):
        follows = before is not None and at - 1 == before
        if is_key(sent[at]):
            key, whole_before = at, follows
        elif kind(sent[at][-1]) in LEADING:
            assert whole_before, f"picture {at} leads {key} and refers to what is in front of it"
        else:
            assert before is not None
            between = [kind(one[-1]) for one in sent[before + 1 : at]]
            assert all(one in LEADING for one in between), f"picture {at} refers to one that is not there"
    assert complaints(tmp_path / "received.h265") == ""


@pytest.mark.parametrize("tool", TOOLS)
def test_pictures_that_lead_a_key_come_out_but_for_the_first(tmp_path: Path, tool: str) -> None:
    theirs = clip(tmp_path, 600, OPEN)
    sent = pictures(annex_b(theirs))
    [start, following] = [at for at, one in enumerate(sent) if is_key(one)][1:3]
    received, _ = carried(tmp_path, tool, theirs, late=20)
    led = [one for one in sent[start:following] if kind(one[-1]) in LEADING]
    assert led
    expected = [one for one in sent[start:] if one not in led]
    assert received == expected[: -HELD_BACK[tool] or None]
    assert complaints(tmp_path / "received.h265") == ""


def carried(folder: Path, tool: str, path: Path, *, lose: float = 0, late: int = 0) -> tuple[list[Picture], int]:
    """What comes out of the core natively, and how many packets were lost on the way in; so many at first."""
    [out] = free_ports(1, kind=socket.SOCK_DGRAM, step=2)
    with recorder(tool, out, folder) as recording:
        lost = carried_natively("H265", out, lambda port: sends(tool, path, port), lose=lose, late=late)
    return pictures(recording.read_bytes()), lost
