"""rtpengine's userspace forwarding (Debian package `rtpengine-daemon`): started for the measurement alone, as a process
on loopback with a configuration of its own, driven by its ng protocol (bencoded dictionaries over UDP), stopped by its
pid. The kernel module is not used: table -1.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.media.crate import cpu_s, free_port, pinned
from hack.progress import CommandError, wait

_PORTS = 40
_START_S = 10.0
_REPLY_S = 3.0
_CONFIG = """[rtpengine]
table = -1
interface = 127.0.0.1
listen-ng = 127.0.0.1:{ng}
port-min = {first}
port-max = {last}
num-threads = 1
foreground = true
log-stderr = true
log-level = 3
"""


class Forwarder:
    """One call of one medium: what comes from port `sender` at `inlet` goes to port `sink`."""

    def __init__(self, process: subprocess.Popen[bytes], ng: int) -> None:
        self._process = process
        self._ng = ng
        self.sender = self.sink = self.inlet = 0

    def alive(self) -> bool:
        try:
            return self._ask({"command": "ping"}).get("result") == "pong"
        except (OSError, ValueError):
            return False

    def connect(self) -> None:
        self.sender, self.sink = free_port(), free_port()
        call = {"call-id": "bench", "from-tag": "sender", "ICE": "remove"}
        self._call({**call, "command": "offer", "sdp": _sdp(self.sender)})
        answer = self._call({**call, "command": "answer", "to-tag": "sink", "sdp": _sdp(self.sink)})
        lines = str(answer["sdp"]).splitlines()
        self.inlet = int(next(line for line in lines if line.startswith("m=video")).split()[1])

    def cpu_s(self) -> float:
        return cpu_s(self._process.pid)

    def _call(self, request: dict[str, Any]) -> dict[str, Any]:
        reply = self._ask(request)
        if reply.get("result") != "ok":
            raise CommandError(f"rtpengine refused {request['command']}: {reply}")
        return reply

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        cookie = b"%d " % time.monotonic_ns()
        with socket.socket(type=socket.SOCK_DGRAM) as ng:
            ng.settimeout(_REPLY_S)
            ng.connect(("127.0.0.1", self._ng))
            ng.send(cookie + bencode(request))
            reply, _ = bdecode(ng.recv(65_535).removeprefix(cookie))
        return dict(reply)


@contextmanager
def started() -> Iterator[Forwarder]:
    program = shutil.which("rtpengine")
    if program is None:
        raise CommandError("rtpengine is not installed here and could not be had (Debian package rtpengine-daemon)")
    first = free_port(_PORTS + 2)
    with TemporaryDirectory(prefix="auralink-bench-") as folder:
        config, log = Path(folder) / "rtpengine.conf", Path(folder) / "log"
        config.write_text(_CONFIG.format(ng=first, first=first + 2, last=first + _PORTS))
        with log.open("wb") as said:
            process = subprocess.Popen(pinned([program, f"--config-file={config}"]), stdout=said, stderr=said)
            try:
                forwarder = Forwarder(process, first)
                if not wait("rtpengine", lambda: process.poll() is not None or forwarder.alive(), _START_S):
                    raise CommandError("rtpengine does not answer its ng port")
                if process.poll() is not None:
                    raise CommandError(f"rtpengine did not start: {log.read_text(errors='replace')[-200:]}")
                forwarder.connect()
                yield forwarder
            finally:
                process.terminate()
                try:
                    process.wait(timeout=5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _sdp(port: int) -> str:
    lines = ("v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0", f"m=video {port} RTP/AVP 96")
    return "".join(f"{line}\r\n" for line in (*lines, "a=rtpmap:96 H264/90000", "a=sendrecv"))


def bencode(value: Any) -> bytes:
    match value:
        case int():
            return b"i%de" % value
        case str():
            return bencode(value.encode())
        case bytes():
            return b"%d:%b" % (len(value), value)
        case list():
            return b"l%be" % b"".join(map(bencode, value))
        case dict():
            return b"d%be" % b"".join(bencode(key) + bencode(value[key]) for key in sorted(value))
    raise TypeError(type(value).__name__)


def bdecode(data: bytes) -> tuple[Any, bytes]:
    """The first value and what is behind it; texts as str."""
    kind, rest = data[:1], data[1:]
    if kind == b"i":
        number, _, rest = rest.partition(b"e")
        return int(number), rest
    if kind in (b"l", b"d"):
        items = []
        while not rest.startswith(b"e"):
            item, rest = bdecode(rest)
            items.append(item)
        return (items if kind == b"l" else dict(zip(items[::2], items[1::2], strict=True))), rest[1:]
    length, _, rest = data.partition(b":")
    end = int(length)
    if len(rest) < end:
        raise ValueError("cut short")
    return rest[:end].decode(), rest[end:]
