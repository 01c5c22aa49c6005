"""VP8, VP9 and AV1 between the packet core and those who did not write it: FFmpeg and GStreamer pack frames for it and
take its packets apart, byte for byte. What it decides is tested in Rust, in virtual time (`dataplane/native/tests`)."""

import random
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import auralink_native as native
import pytest

from tests.integration.media import FFMPEG, FPS, free_ports

SECONDS = 6
SIZE = "320x180"
KEYS_APART = FPS
_REALTIME = ("-cpu-used", "8", "-lag-in-frames", "0")
_LIBVPX = ("-deadline", "realtime", "-auto-alt-ref", "0", *_REALTIME)
ENCODERS = {
    "VP8": ("libvpx", *_LIBVPX),
    "VP9": ("libvpx-vp9", "-row-mt", "0", *_LIBVPX),
    "AV1": ("libaom-av1", "-usage", "realtime", "-row-mt", "0", *_REALTIME),
    "AV1 of hidden frames": ("libsvtav1", "-preset", "10", "-svtav1-params", "lp=1"),
}
RICHER = {"AV1": "AV1 of hidden frames"}
"""Several frames in one temporal unit, and units of a header that shows one of them."""
PAYLOAD_TYPE = 96
WAIT_S = 20.0
gstreamer = pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="gst-launch-1.0 is not installed")
PEERS = [
    ("VP8", "ffmpeg"),
    ("VP9", "ffmpeg"),
    ("AV1", "ffmpeg"),
    pytest.param("VP8", "gstreamer", marks=gstreamer),
    pytest.param("VP9", "gstreamer", marks=gstreamer),
]  # GStreamer's AV1 payloader is in none of Debian's plug-ins
AV1_DELIMITER = b"\x12\x00"


def clip(folder: Path, codec: str, kbps: int) -> Path:
    """A moving picture with a key each second, as IVF."""
    path = folder / f"{codec}-{kbps}.ivf"
    picture = f"testsrc2=size={SIZE}:rate={FPS},noise=alls=8:allf=t:all_seed=7"
    name, *settings = ENCODERS[codec]
    subprocess.run(
        [FFMPEG, "-v", "error", "-y", "-f", "lavfi", "-i", picture, "-t", str(SECONDS), "-c:v", name, *settings,
         "-g", str(KEYS_APART), "-keyint_min", str(KEYS_APART), "-b:v", f"{kbps}k", "-pix_fmt", "yuv420p", str(path)],
        check=True,
    )  # fmt: skip
    return path


def frames(ivf: Path) -> list[bytes]:
    """IVF: 32 bytes in front, and before each frame 4 of size and 8 of time. AV1's temporal delimiters are the
    container's, and left out."""
    data = ivf.read_bytes()
    in_front = AV1_DELIMITER if data[8:12] == b"AV01" else b""
    at, found = 32, []
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        found.append(data[at + 12 : at + 12 + size].removeprefix(in_front))
        at += 12 + size
    return found


def complaints(ivf: Path) -> str:
    """Everything that a strict decoder has to say."""
    command = [FFMPEG, "-v", "error", "-xerror", "-i", str(ivf), "-f", "null", "-"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def sends(tool: str, codec: str, path: Path, port: int) -> list[str]:
    """At the pace of the pictures. GStreamer numbers them with 7 bits of VP8's and 15 of VP9's."""
    if tool == "ffmpeg":
        to = f"rtp://127.0.0.1:{port}?pkt_size=1200"
        return [FFMPEG, "-v", "error", "-re", "-i", str(path), "-c", "copy", "-strict", "experimental",
                "-payload_type", str(PAYLOAD_TYPE), "-f", "rtp", to]  # fmt: skip
    bits = {"VP8": 1, "VP9": 2}[codec]
    pay = f"rtp{codec.lower()}pay pt={PAYLOAD_TYPE} mtu=1180 picture-id-mode={bits}"
    return f"gst-launch-1.0 -q filesrc location={path} ! ivfparse ! {pay} ! udpsink host=127.0.0.1 port={port}".split()


def until_bound(port: int) -> None:
    """Somebody takes datagrams there."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        table = "".join(Path(f"/proc/net/{name}").read_text() for name in ("udp", "udp6"))
        if f":{port:04X} " in table:
            return
        time.sleep(0.02)
    raise AssertionError(f"nobody bound {port} within {WAIT_S} s")


@contextmanager
def recorder(tool: str, codec: str, port: int, folder: Path) -> Iterator[Path]:
    """Takes packets apart until the end of the block, and leaves the frames as IVF."""
    path = folder / "received.ivf"
    container = path if tool == "ffmpeg" else folder / "received.mkv"
    sdp = folder / "receiver.sdp"
    sdp.write_text(
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=video {port} RTP/AVP {PAYLOAD_TYPE}\na=rtpmap:{PAYLOAD_TYPE} {codec}/90000\n"
    )
    if tool == "ffmpeg":  # which says of no VP9 frame that it is a key, and would copy none (-copyinkf)
        command = [FFMPEG, "-v", "warning", "-y", "-protocol_whitelist", "file,udp,rtp", "-i", str(sdp),
                   "-c", "copy", "-copyinkf", "-f", "ivf", str(container)]  # fmt: skip
    else:
        caps = f"application/x-rtp,media=video,clock-rate=90000,encoding-name={codec},payload={PAYLOAD_TYPE}"
        command = (
            f"gst-launch-1.0 -q -e udpsrc port={port} caps={caps} ! rtpjitterbuffer ! rtp{codec.lower()}depay".split()
        )
        command += ["!", "matroskamux", "!", "filesink", f"location={container}"]
    with (folder / "receiver.log").open("wb") as log:
        one = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            until_bound(port)
            yield path
            time.sleep(1)  # for what it has not written
            one.send_signal(signal.SIGINT)
            one.wait(WAIT_S)
        finally:
            one.kill()
            one.wait()
    if container != path:
        copy = [FFMPEG, "-v", "error", "-y", "-i", str(container), "-c", "copy", "-f", "ivf", str(path)]
        subprocess.run(copy, check=True)


def leg(codec: str, direction: str, remote: str | None = None) -> "native.LegConfig":
    payload: native.PayloadConfig = {"type": PAYLOAD_TYPE, "codec": codec, "clock_rate": 90000}
    media: dict[str, native.MediumConfig] = {"video": {"payloads": [payload], "remote": remote}}
    return {"direction": "Receive" if direction == "Receive" else "Send", "bind": "127.0.0.1", "media": media}


class Core:
    """The packet core between a sender and a receiver, and what it is told about each frame."""

    def __init__(self, codec: str, to: int) -> None:
        self.engine = native.Engine()
        self.inlet = self.engine.open_leg("room", leg(codec, "Receive"))
        self.outlet = self.engine.open_leg("room", leg(codec, "Send", f"127.0.0.1:{to}"))
        self.port = self.engine.local_ports(self.inlet)["video"]
        self.refused = 0

    def run(self, sender: "subprocess.Popen[bytes]", mode: int, answer: Callable[[native.Frame], bytes | None]) -> None:
        """Until the sender has ended."""
        ended_at = float("inf")
        while time.monotonic() < ended_at + 1:
            select.select([self.engine.fileno()], [], [], 0.1)
            for item in self.engine.poll():
                if isinstance(item, native.StreamStarted):
                    self.engine.link(item.stream, self.outlet)
                    self.engine.set_mode(item.stream, mode)
                elif isinstance(item, native.Frame):
                    ours = answer(item)
                    taken = self.engine.submit(item.stream, item.frame_id, ours, None, item.key)
                    self.refused += not taken
            if sender.poll() is not None and ended_at == float("inf"):
                ended_at = time.monotonic()


@contextmanager
def running(command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    one = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield one
    finally:
        one.kill()
        one.wait()


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
    dice = random.Random(5)  # noqa: S311
    [out] = free_ports(1, kind=socket.SOCK_DGRAM, step=2)
    with socket.socket(type=socket.SOCK_DGRAM) as inlet, recorder(tool, codec, out, tmp_path) as recording:
        inlet.bind(("127.0.0.1", 0))
        core = Core(codec, out)
        lost = 0
        with running(sends(tool, codec, theirs, inlet.getsockname()[1])) as sender:
            linked = False
            while sender.poll() is None or select.select([inlet], [], [], 0.5)[0]:
                if select.select([inlet], [], [], 0.05)[0]:
                    packet = inlet.recv(2048)
                    if linked and dice.random() < 0.01:
                        lost += 1
                        continue
                    inlet.sendto(packet, ("127.0.0.1", core.port))
                for item in core.engine.poll():
                    if isinstance(item, native.StreamStarted):
                        core.engine.link(item.stream, core.outlet)
                        core.engine.set_mode(item.stream, native.BYPASS)
                        linked = True
        time.sleep(0.5)
        core.engine.close(bye=False)
    received, sent = frames(recording), frames(theirs)
    print(f"{codec} {tool}: {lost} packets lost, {len(received)} of {len(sent)} frames received")
    assert lost > 0
    assert len(sent) / 10 < len(received) < len(sent)
    places = [sent.index(one) for one in received]
    assert places == sorted(places)
    for at, before in zip(places, [None, *places], strict=False):
        assert at % KEYS_APART == 0 or at - 1 == before, f"frame {at} refers to one that is not there"
    assert complaints(recording) == ""
