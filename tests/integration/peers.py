"""The packet core on loopback between those who did not write it: what sends to it and takes its packets apart, with or
without a lossy way in, and clips for that. Each process ends with its block."""

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
from typing import Any

import auralink_native as native
import pytest

from tests.integration.media import FFMPEG, FPS

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
PAYLOAD_TYPE = 96
WAIT_S = 20.0
gstreamer = pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="gst-launch-1.0 is not installed")
tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
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


def complaints(path: Path) -> str:
    """Everything that a strict decoder has to say."""
    command = [FFMPEG, "-v", "error", "-xerror", "-i", str(path), "-f", "null", "-"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


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
def running(command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    one = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield one
    finally:
        one.kill()
        one.wait()


def description(folder: Path, codec: str, port: int) -> Path:
    """What FFmpeg opens to receive."""
    sdp = folder / "receiver.sdp"
    sdp.write_text(
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=video {port} RTP/AVP {PAYLOAD_TYPE}\na=rtpmap:{PAYLOAD_TYPE} {codec}/90000\n"
    )
    return sdp


@contextmanager
def receiving(command: list[str], port: int, folder: Path) -> Iterator[None]:
    """A receiver that writes what comes until the end of the block."""
    with (folder / "receiver.log").open("wb") as log:
        one = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            until_bound(port)
            yield
            time.sleep(1)  # for what it has not written
            one.send_signal(signal.SIGINT)
            one.wait(WAIT_S)
        finally:
            one.kill()
            one.wait()


def leg(codec: str, direction: str, remote: str | None = None, **more: Any) -> "native.LegConfig":
    payload: native.PayloadConfig = {"type": PAYLOAD_TYPE, "codec": codec, "clock_rate": 90000}
    media: dict[str, native.MediumConfig] = {"video": {"payloads": [payload], "remote": remote}}
    config: Any = {"direction": direction, "bind": "127.0.0.1", "media": media, **more}
    return config  # type: ignore[no-any-return]


class Core:
    """The packet core between a sender and a receiver, and what it is told about each frame. `outlet`: more of the leg
    to the receiver."""

    def __init__(self, codec: str, to: int, **outlet: Any) -> None:
        self.engine = native.Engine()
        self.inlet = self.engine.open_leg("room", leg(codec, "Receive"))
        self.outlet = self.engine.open_leg("room", leg(codec, "Send", f"127.0.0.1:{to}", **outlet))
        self.port = self.engine.local_ports(self.inlet)["video"]
        self.refused = 0

    def run(
        self,
        sender: "subprocess.Popen[bytes]",
        mode: int,
        answer: Callable[[native.Frame], bytes | None],
        value: Callable[[native.Frame], bytes | None] = lambda _: None,
    ) -> None:
        """Until the sender has ended. `value`: the 16 bytes of an answer."""
        ended_at = float("inf")
        while time.monotonic() < ended_at + 1:
            select.select([self.engine.fileno()], [], [], 0.1)
            for item in self.engine.poll():
                if isinstance(item, native.StreamStarted):
                    self.engine.link(item.stream, self.outlet)
                    self.engine.set_mode(item.stream, mode)
                elif isinstance(item, native.Frame):
                    ours = answer(item)
                    self.engine.submit(item.stream, item.frame_id, ours, value(item), item.key)
                elif isinstance(item, native.SubmitRefused):
                    self.refused += 1
            if sender.poll() is not None and ended_at == float("inf"):
                ended_at = time.monotonic()


def carried_natively(
    codec: str, out: int, sender: Callable[[int], list[str]], *, lose: float = 0, late: int = 0
) -> int:
    """Everything of the sender through the core to a port; how many packets were lost on the way in: so many at first,
    and a share of those behind the first that the core knows a stream by."""
    dice = random.Random(5)  # noqa: S311
    core, lost, sent, linked = Core(codec, out), 0, 0, False
    with socket.socket(type=socket.SOCK_DGRAM) as inlet:
        inlet.bind(("127.0.0.1", 0))
        with running(sender(inlet.getsockname()[1])) as process:
            while process.poll() is None or select.select([inlet], [], [], 0.5)[0]:
                if select.select([inlet], [], [], 0.05)[0]:
                    packet = inlet.recv(2048)
                    sent += 1
                    if sent <= late or (linked and dice.random() < lose):
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
    return lost
