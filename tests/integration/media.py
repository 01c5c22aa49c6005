"""A pod outside Kubernetes with real neighbours on loopback: FFmpeg sends and records, the reference AI Core answers.

Used by the data plane's integration tests. Each process belongs to the test that started it and ends with it.
"""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import imageio_ffmpeg
from aiohttp import ClientError, ClientSession

REPOSITORY = Path(__file__).parents[2]
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
FPS = 25
_KEY_A_SECOND = ("-g", str(FPS))
_LIBVPX = ("-deadline", "realtime", "-cpu-used", "8", "-auto-alt-ref", "0", "-lag-in-frames", "0", *_KEY_A_SECOND)
ENCODERS: Mapping[str, tuple[str, ...]] = {
    "H264": (
        "libx264",
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-profile:v",
        "high",
        "-bf",
        "0",
        *_KEY_A_SECOND,
    ),
    "H265": ("libx265", "-preset", "ultrafast", "-x265-params", f"log-level=0:bframes=0:keyint={FPS}:min-keyint={FPS}"),
    "VP8": ("libvpx", *_LIBVPX),
    "VP9": ("libvpx-vp9", *_LIBVPX),
    "AV1": ("libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-lag-in-frames", "0", *_KEY_A_SECOND),
}
"""What FFmpeg encodes with, and how, for pictures that leave in the order they are shown in."""
_IN_BAND = {"H264": ("-bsf:v", "h264_mp4toannexb"), "H265": ("-bsf:v", "hevc_mp4toannexb")}
"""Parameter sets go before every key."""


def free_ports(count: int, *, kind: socket.SocketKind = socket.SOCK_STREAM, step: int = 1) -> list[int]:
    """Ports that nobody has now; with `step` 2 even ones whose successor is free too."""
    found: list[int] = []
    held: list[socket.socket] = []
    try:
        while len(found) < count:
            one = socket.socket(socket.AF_INET, kind)
            held.append(one)
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            if step == 1 or (port % 2 == 0 and port < 65000 and _free(port + 1, kind)):
                found.append(port)
    finally:
        for one in held:
            one.close()
    return found


def _free(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@asynccontextmanager
async def process(
    *command: str, log: Path, env: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as sink:
        one = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=sink, stderr=sink, env=dict(env) if env else None
        )
    try:
        yield one
    finally:
        if one.returncode is None:
            one.kill()
        await one.wait()


def python_env(**more: str) -> dict[str, str]:
    roots = os.pathsep.join(str(REPOSITORY / part) for part in ("dataplane", "aicore", "protos"))
    return {**os.environ, "PYTHONPATH": roots, "GRPC_VERBOSITY": "NONE", **more}


async def until(condition: Callable[[], Any], what: str, timeout_s: float = 20.0) -> None:
    for _ in range(int(timeout_s / 0.05)):
        found = condition()
        if await found if asyncio.iscoroutine(found) else found:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"waited {timeout_s} s for {what}")


class Studio:
    """Ports and files of one test."""

    def __init__(self, folder: Path, codec: str = "H264") -> None:
        self.folder = folder
        self.codec = codec
        self.core_port, self.core_http, self.http_port, self.metrics_port = free_ports(4)
        self.video_in, self.audio_in, self.video_out, self.audio_out = free_ports(4, kind=socket.SOCK_DGRAM, step=2)
        self.recording = folder / "received.mkv"

    # --- neighbours -----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def core(self, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """The reference AI Core."""
        settings = {
            "AICORE_LISTEN": f"127.0.0.1:{self.core_port}",
            "AICORE_HTTP_PORT": str(self.core_http),
            "AICORE_WORKERS": "1",
            **env,
        }
        command = (sys.executable, "-m", "auralink_aicore")
        async with process(*command, log=self.folder / "core.log", env=python_env(**settings)) as one:
            await until(lambda: self._answers(self.core_http, "/health"), "the AI Core", 60)
            yield one

    @asynccontextmanager
    async def pod(self, **compression: Any) -> AsyncIterator[asyncio.subprocess.Process]:
        """`python -m auralink_dataplane` with an auralink.conf."""
        conf = self.folder / "auralink.conf"
        conf.write_text(self._conf({"mode": "Always", "qualityLevel": 5, **compression}))
        env = python_env(
            HTTP_PORT=str(self.http_port), METRICS_PORT=str(self.metrics_port), BRIDGE_ID="loopback",
            DRAIN_PROPAGATION_S="0", DRAIN_TIMEOUT_S="0",
        )  # fmt: skip
        command = (sys.executable, "-m", "auralink_dataplane", "--config", str(conf))
        async with process(*command, log=self.folder / "pod.log", env=env) as one:
            await until(lambda: self._answers(self.http_port, "/ready"), "the pod", 30)
            yield one

    def _conf(self, compression: Mapping[str, Any]) -> str:
        def medium(kind: str, codec: str, **more: Any) -> dict[str, Any]:
            return {"payloads": [{"type": 96 if kind == "video" else 97, "codec": codec}], **more}

        legs = [
            {
                "name": "in",
                "direction": "Receive",
                "rtp": {
                    "video": medium("video", self.codec, listenPort=self.video_in),
                    "audio": medium("audio", "Opus", listenPort=self.audio_in),
                },
            },
            {
                "name": "out",
                "direction": "Send",
                "rtp": {
                    "video": medium("video", self.codec, remote=f"127.0.0.1:{self.video_out}"),
                    "audio": medium("audio", "Opus", remote=f"127.0.0.1:{self.audio_out}"),
                },
            },
        ]
        bridge = {
            "rooms": [{"name": "studio", "legs": legs}],
            "compression": compression,
            "aiCore": {"timeoutMs": 1000, "breaker": {"openSeconds": 2}},  # a busy machine is no failure
        }
        return f"""
auralink {{
  service {{ name = "ingress-egress", bridge_id = ${{BRIDGE_ID}} }}
  ai_core {{ grpc_url = "127.0.0.1:{self.core_port}" }}
  bridge = {json.dumps(bridge)}
}}
"""

    @asynccontextmanager
    async def sender(
        self, seconds: int, *, kbps: int = 3000, size: str = "640x360"
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """A moving picture without B-frames, a key a second, and a tone as Opus, at their own pace."""
        video = f"testsrc2=size={size}:rate={FPS},noise=alls=12:allf=t"
        encode = [
            "-c:v", *ENCODERS[self.codec],
            "-pix_fmt", "yuv420p", "-b:v", f"{kbps}k", "-maxrate", f"{kbps}k", "-bufsize", f"{kbps}k",
        ]  # fmt: skip
        clip = self.folder / "clip.mkv"
        make = [FFMPEG, "-v", "error", "-y", "-f", "lavfi", "-i", video, "-t", str(seconds), *encode, str(clip)]
        async with process(*make, log=self.folder / "clip.log") as one:
            assert await one.wait() == 0, (self.folder / "clip.log").read_text()
        in_band = _IN_BAND.get(self.codec, ())
        send = [
            FFMPEG, "-v", "error", "-re", "-i", str(clip),
            "-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000",
            "-map", "0:v", "-c:v", "copy", *in_band, "-strict", "experimental", "-t", str(seconds),
            "-payload_type", "96", "-f", "rtp", f"rtp://127.0.0.1:{self.video_in}?pkt_size=1200",
            "-map", "1:a", "-c:a", "libopus", "-b:a", "48k", "-payload_type", "97", "-t", str(seconds),
            "-f", "rtp", f"rtp://127.0.0.1:{self.audio_in}?pkt_size=1200",
        ]  # fmt: skip
        async with process(*send, log=self.folder / "sender.log") as one:
            yield one

    @asynccontextmanager
    async def receiver(self, seconds: int) -> AsyncIterator[asyncio.subprocess.Process]:
        """Records so many seconds of what comes, undecoded, and ends: less than the sender gives."""
        sdp = self.folder / "receiver.sdp"
        fmtp = "a=fmtp:96 packetization-mode=1\n" if self.codec == "H264" else ""
        sdp.write_text(
            "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\n"
            f"m=video {self.video_out} RTP/AVP 96\na=rtpmap:96 {self.codec}/90000\n{fmtp}"
            f"m=audio {self.audio_out} RTP/AVP 97\na=rtpmap:97 opus/48000/2\n"
        )
        from_the_start = ("-copyinkf:v",) if self.codec == "VP9" else ()  # of which FFmpeg says no frame is a key
        command = [
            FFMPEG, "-v", "warning", "-y", "-protocol_whitelist", "file,udp,rtp", "-analyzeduration", "2000000",
            "-i", str(sdp), "-t", str(seconds), "-c", "copy", *from_the_start, str(self.recording),
        ]  # fmt: skip
        async with process(*command, log=self.folder / "receiver.log") as one:
            yield one
            async with asyncio.timeout(seconds):
                await one.wait()

    # --- what came of it ------------------------------------------------------------------------------------

    async def status(self) -> dict[str, Any]:
        async with ClientSession() as http, http.get(f"http://127.0.0.1:{self.http_port}/status") as answer:
            document: dict[str, Any] = await answer.json()
            return document

    async def video(self) -> dict[str, Any] | None:
        """The video stream's line of /status."""
        streams = (await self.status())["aic_compression"]["streams"]
        return next((one for one in streams if one["media"] == "video"), None)

    async def mode_is(self, mode: str) -> bool:
        found = await self.video()
        return found is not None and found["mode"] == mode

    async def decode(self) -> tuple[int, str]:
        """Frames in the recording, and everything a strict decoder complains about."""
        command = [
            FFMPEG, "-v", "error", "-xerror", "-i", str(self.recording), "-map", "0:v", "-f", "framemd5", "-",
        ]  # fmt: skip
        one = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, errors = await one.communicate()
        frames = [line for line in out.decode().splitlines() if line and not line.startswith("#")]
        return len(frames), errors.decode()

    async def _answers(self, port: int, path: str) -> bool:
        try:
            async with ClientSession() as http, http.get(f"http://127.0.0.1:{port}{path}") as answer:
                return answer.status == 200
        except ClientError:
            return False
