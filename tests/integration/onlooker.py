"""A whole pod in this process between FFmpeg, which sends, and a receiver that notes when each picture came and judges
it with a decoder: strictly, and against what the sender had shown."""

import asyncio
import itertools
import json
import math
import random
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import auralink_native as native
import av
import numpy as np
from auralink_dataplane.app import App, Host
from auralink_dataplane.media.aic import resolve_all
from auralink_dataplane.media.packets import NativePackets
from auralink_dataplane.media.pipeline import Pipeline
from auralink_dataplane.media.streams import Stream
from auralink_dataplane.settings import Pod, Settings, parse_documents

from hack.lab.codec import CODECS, Codec
from hack.lab.ffmpeg import send_video
from tests.integration.media import FFMPEG, free_ports, process

FPS = 25
TICKS = 90_000 // FPS
KEYS_APART = 50
PAYLOAD_TYPE = 96
DECODERS = {"H264": "h264", "H265": "hevc", "VP8": "vp8", "VP9": "vp9", "AV1": "libdav1d"}
GREY = "gray"


def encode(folder: Path, codec: Codec, seconds: int = 4) -> Path:
    """A moving picture under noise with a key each two seconds, as a file. One key more stands near the front: what a
    receiver knows a stream by is a packet or two of its first one."""
    path = folder / f"{codec.name}.{codec.container}"
    picture = f"testsrc2=size=320x240:rate={FPS},noise=alls=8:allf=t:all_seed=7"
    keys = ["-g", str(KEYS_APART), "-force_key_frames", "0.2"]
    command = [
        FFMPEG, "-v", "error", "-y", "-f", "lavfi", "-i", picture, "-t", str(seconds), "-pix_fmt", "yuv420p",
        "-c:v", *codec.encoder, *keys, "-b:v", "1200k", "-maxrate", "1200k", "-bufsize", "1200k",
        *codec.options, str(path),
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=120)
    return path


def pictures(path: Path) -> list["np.ndarray[Any, Any]"]:
    """Luma of each picture of a file."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format=GREY).astype(np.float32) for frame in container.decode(video=0)]


def _psnr_db(one: "np.ndarray[Any, Any]", other: "np.ndarray[Any, Any]") -> float:
    return 20 * math.log10(255 / max(1e-3, float(np.sqrt(np.mean(np.square(one - other))))))


@dataclass
class Received:
    frames: list[native.Frame] = field(default_factory=list)

    @property
    def since_key(self) -> int:
        """Frames behind the newest key."""
        return next((count for count, frame in enumerate(reversed(self.frames)) if frame.key), 0)

    def gap_s(self, around: float) -> float:
        """The longest time without a new picture that ended after this instant."""
        times = [frame.t_complete for frame in self.frames]
        return max(after - before for before, after in itertools.pairwise(times) if after >= around)

    def judge(self, codec: str, shown: Sequence["np.ndarray[Any, Any]"]) -> tuple[list[str], float]:
        """What a strict decoder complains about, and the lowest PSNR of a picture against the sender's, in dB."""
        complaints: list[str] = []
        decoder: Any = av.CodecContext.create(DECODERS[codec], "r")
        decoder.thread_count = 1
        decoder.options = {"err_detect": "explode"} if codec != "AV1" else {"max_frame_delay": "1"}
        first, began_with, worst, count = self.frames[0].rtp_ts, None, math.inf, 0
        packets = [self._packet(frame, index) for index, frame in enumerate(self.frames)]
        for packet in [*packets, None]:
            try:
                decoded = decoder.decode(packet)
            except av.error.FFmpegError as error:
                complaints.append(f"frame {packet.pts if packet else 'end'}: {error}")
                continue
            for picture in decoded:
                count += 1
                if picture.is_corrupt:
                    complaints.append(f"frame {picture.pts} is corrupt")
                luma = picture.to_ndarray(format=GREY).astype(np.float32)
                if began_with is None:
                    began_with = max(range(len(shown)), key=lambda index: _psnr_db(luma, shown[index]))
                passed = round((self.frames[picture.pts or 0].rtp_ts - first) / TICKS)
                worst = min(worst, _psnr_db(luma, shown[(began_with + passed) % len(shown)]))
        if count != len(self.frames):
            complaints.append(f"{count} pictures of {len(self.frames)} frames")
        return complaints, worst

    @staticmethod
    def _packet(frame: native.Frame, index: int) -> Any:
        packet: Any = av.Packet(frame.data)
        packet.pts = packet.dts = index
        return packet


class Onlooker:
    """The far end: the packet core takes packets apart, and hands up whole frames."""

    def __init__(self, codec: str) -> None:
        self.received = Received()
        payload: native.PayloadConfig = {"type": PAYLOAD_TYPE, "codec": codec, "clock_rate": 90000}
        self._engine = native.Engine()
        self._sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sink.bind(("127.0.0.1", 0))
        media: dict[str, native.MediumConfig] = {"video": {"payloads": [payload]}}
        inlet: Any = {"direction": "Receive", "bind": "127.0.0.1", "media": media}
        leg = self._engine.open_leg("r", inlet)
        media = {"video": {"payloads": [payload], "remote": f"127.0.0.1:{self._sink.getsockname()[1]}"}}
        outlet: Any = {"direction": "Send", "bind": "127.0.0.1", "media": media}
        self._out = self._engine.open_leg("r", outlet)
        self.port = self._engine.local_ports(leg)["video"]
        asyncio.get_running_loop().add_reader(self._engine.fileno(), self._pump)

    def _pump(self) -> None:
        for item in self._engine.poll():
            if isinstance(item, native.StreamStarted):
                self._engine.link(item.stream, self._out)
                self._engine.set_mode(item.stream, native.SHADOW)
            elif isinstance(item, native.Frame):
                self.received.frames.append(item)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._engine.fileno())
        self._engine.close(bye=False)
        self._sink.close()


class Scene:
    """A pod that carries one stream, and who looks on."""

    def __init__(self, app: App, onlooker: Onlooker) -> None:
        self.app = app
        self._onlooker = onlooker

    @property
    def received(self) -> Received:
        return self._onlooker.received

    @property
    def stream(self) -> Stream:
        [one] = self.app.streams
        return one

    @property
    def pipeline(self) -> Pipeline:
        assert self.stream.pipeline
        return self.stream.pipeline

    @property
    def out(self) -> dict[str, Any]:
        """The packet core's counters of what went out."""
        [one] = self.app.status()["aic_compression"]["streams"][0]["outs"]
        found: dict[str, Any] = one
        return found

    async def until(self, condition: Any, what: str, timeout_s: float = 15.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
            await asyncio.sleep(0.005)


@asynccontextmanager
async def scene(
    codec: Codec, clip: Path, addresses: Sequence[str], *, standby: bool, timeout_ms: int
) -> AsyncIterator[Scene]:
    """From here on the stream runs."""
    onlooker = Onlooker(codec.name)
    [port] = free_ports(1, kind=socket.SOCK_DGRAM, step=2)
    payload = {"type": PAYLOAD_TYPE, "codec": codec.name, **({"fmtp": codec.fmtp} if codec.fmtp else {})}
    video = {"payloads": [payload]}
    bridge = {
        "rooms": [
            {
                "name": "r",
                "legs": [
                    {"name": "in", "direction": "Receive", "rtp": {"video": {**video, "listenPort": port}}},
                    {
                        "name": "out",
                        "direction": "Send",
                        "rtp": {"video": {**video, "remote": f"127.0.0.1:{onlooker.port}"}},
                    },
                ],
            }
        ],
        "aiCore": {
            "addresses": list(addresses),
            "timeoutMs": timeout_ms,
            "failover": "Standby" if standby else "None",
        },
        "compression": {"mode": "Always", "qualityLevel": 5},
    }
    documents = parse_documents({"config.json": json.dumps({"version": 1, "generation": 1, "bridge": bridge})})
    assert documents.config, documents.errors
    settings = Settings(
        pod=Pod("ns/b", "pod", "ns", "uid", "node", "127.0.0.1"), service_name="ingress-egress", config_map=None,
        config=documents.config, http_port=0, metrics_port=0, drain_propagation_s=0, drain_timeout_s=0,
        secrets_dir="/nowhere",
    )  # fmt: skip
    host = Host(
        clock=time.monotonic, wall_ms=lambda: 0, started_at="2026-01-01T00:00:00Z", read_secret=lambda *_: None,
        jitter=random.random, resolve=resolve_all,
    )  # fmt: skip
    app = App(settings, host, NativePackets(), None)
    task = asyncio.create_task(app.run())
    found = Scene(app, onlooker)
    send = [FFMPEG, *send_video(str(clip), f"127.0.0.1:{port}", codec)[1:]]
    try:
        await found.until(lambda: len(app.aic.endpoints()) == len(addresses) and app.legs.open, "the pod")
        await app.aic.poll_once()
        async with process(*send, log=clip.with_suffix(".log")):
            yield found
    finally:
        app.request_stop()
        app.request_stop()
        await asyncio.gather(task, return_exceptions=True)
        onlooker.close()


__all__ = ["CODECS", "FPS", "Onlooker", "Received", "Scene", "encode", "pictures", "scene"]
