"""CPU time per packet: the whole packet path of a bridge against a bare relay and against asyncio.

The crate's own benchmark (`dataplane/native/benches/relay.rs`) measures the first two: 1200-byte packets on loopback
through reorder, assembly, re-packetisation and extension, and through recvmmsg and sendmmsg alone.
The asyncio relay gets the same size of packet, in bursts of the same length, and only forwards.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hack.lab.report import Row

_ROOT = Path(__file__).resolve().parents[1]
_PACKET_BYTES = 1200
_BURST = 60  # packets; the next burst waits for the last one, so that none is lost
_PACKETS = 60_000
_LIMIT = 2.0  # times the bare relay
_SRTP_LIMIT_US = 15.0  # a bare str0m relay with SRTP on both sides takes 11.6 us and does nothing else


def rows(say: Callable[[str], None]) -> list[Row]:
    say("packet path and bare relay (Rust, release build)")
    measured = crate()
    say("asyncio relay")
    plain = asyncio_us()
    bare, native, compressed = (measured[peer] for peer in ("relay", "bridge", "bridge_compress"))
    times = compressed / bare
    encrypted = [measured[peer] for peer in ("bridge_srtp_cm", "bridge_srtp_gcm")]
    return [
        Row("cpu_per_packet", "CPU per packet, bare recvmmsg/sendmmsg relay", bare, "us"),
        Row("cpu_per_packet", "CPU per packet, bridge, native frames", native, "us"),
        Row("cpu_per_packet", "CPU per packet, bridge, recompressed frames", compressed, "us"),
        *(
            Row(
                "cpu_per_packet",
                f"CPU per packet, bridge, native frames, {suite} on both sides",
                us,
                "us",
                f"<= {_SRTP_LIMIT_US:g}",
                us <= _SRTP_LIMIT_US,
            )
            for suite, us in zip(("AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM"), encrypted, strict=True)
        ),
        Row("cpu_per_packet", "CPU per packet, asyncio relay", plain, "us"),
        Row(
            "cpu_per_packet",
            "bridge with recompressed frames / bare relay",
            times,
            "x",
            f"<= {_LIMIT:g}",
            times <= _LIMIT,
        ),
        Row("cpu_per_packet", "asyncio relay / bridge with recompressed frames", plain / compressed, "x"),
    ]


def crate() -> dict[str, float]:
    """Microseconds of CPU per packet by peer, from the JSON lines that the crate's benchmark prints."""
    command = ["cargo", "bench", "--quiet", "--locked", "--no-default-features", "--bench", "relay"]
    done = subprocess.run(command, cwd=_ROOT / "dataplane" / "native", capture_output=True, text=True, timeout=900)
    if done.returncode != 0:
        raise RuntimeError(f"cargo bench failed: {done.stderr.strip()[-400:]}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["peer"]: float(line["cpu_us_per_packet"]) for line in lines}


def asyncio_us() -> float:
    """Microseconds of CPU per packet of an asyncio relay in a process of its own."""
    with socket.socket(type=socket.SOCK_DGRAM) as sink, socket.socket(type=socket.SOCK_DGRAM) as source:
        sink.bind(("127.0.0.1", 0))
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sink.settimeout(5)
        command = [sys.executable, "-m", "benchmarks.asyncio_relay", str(sink.getsockname()[1])]
        relay = subprocess.Popen(
            [*_pinned(), *command], cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert relay.stdout is not None
        port = int(relay.stdout.readline())
        source.connect(("127.0.0.1", port))
        packet = os.urandom(_PACKET_BYTES)
        try:
            for _ in range(_PACKETS // _BURST):
                for _ in range(_BURST):
                    source.send(packet)
                for _ in range(_BURST):
                    sink.recv(2048)
            out, _ = relay.communicate(timeout=10)
        finally:
            relay.kill()
            relay.wait()
    spent = json.loads(out)
    return 1e6 * float(spent["cpu_s"]) / int(spent["packets"])


def _pinned() -> list[str]:
    cores = sorted(os.sched_getaffinity(0))
    tool = shutil.which("taskset")
    return [tool, "-c", str(cores[-1])] if tool and len(cores) > 1 else []


if __name__ == "__main__":
    began = time.monotonic()
    for row in rows(lambda text: print(f"[{time.monotonic() - began:5.1f} s] {text}", file=sys.stderr)):
        print(f"{row.what}: {row.value:.2f} {row.unit}")
