"""Python's time per frame at the face of the packet core: a frame is fetched (`poll`) and given back (`submit`), as it
would be with an AI Core that answers at once. A process of its own: `python -m benchmarks.media.frames PROGRAM FRAMES`.

Prints one JSON line: frames, seconds, and microseconds per frame by the thread's CPU time and by the clock, without the
time in which there was nothing to do. The clock's figure holds whatever keeps the event loop: waits, and threads that
get its core instead. The traffic sleeps while it waits for frames, as it would elsewhere in a pod's life.
"""

import json
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auralink_dataplane.media.frames import Frame, Mode, StreamStarted, SubmitRefused
from auralink_dataplane.media.packets import NativePackets

from benchmarks.media.crate import free_port

if TYPE_CHECKING:
    from auralink_native import MediumConfig, PayloadConfig

_EXT = bytes([1, 1, 0x90, 3, 0x98, *bytes(11)])
_WAIT_S = 0.2
_WARM = 200
"""Frames that are not counted."""


@dataclass
class Spent:
    frames: int = 0
    cpu_ns: int = 0
    wall_ns: int = 0


def serve(packets: NativePackets, outlet: int, load: subprocess.Popen[str], frames: int) -> Spent:
    """Answers every frame until the load has ended."""
    spent, seen = Spent(), 0
    while load.poll() is None:
        select.select([packets.fileno()], [], [], _WAIT_S)
        cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
        answered = 0
        for event in packets.poll():
            if isinstance(event, Frame):
                packets.submit(event.stream, event.frame_id, event.data, _EXT, event.key)
                answered += 1
            elif isinstance(event, StreamStarted):
                packets.link(event.stream, outlet)
                packets.set_mode(event.stream, Mode.COMPRESS, extension=True, degraded=False, at_frame=None)
            elif isinstance(event, SubmitRefused):
                raise SystemExit(f"frame {event.frame_id} was refused: {event.reason}")
        cpu, wall = time.thread_time_ns() - cpu, time.perf_counter_ns() - wall
        seen += answered
        if _WARM < seen <= frames:
            spent = Spent(spent.frames + answered, spent.cpu_ns + cpu, spent.wall_ns + wall)
    return spent


def main(program: str, frames: int) -> None:
    packets = NativePackets()  # its thread may run anywhere, as in a pod
    payload: PayloadConfig = {"type": 96, "codec": "H264", "clock_rate": 90_000}
    sink, sender = free_port(), free_port()
    source: MediumConfig = {"payloads": [payload]}
    target: MediumConfig = {"payloads": [payload], "remote": f"127.0.0.1:{sink}"}
    inlet = packets.open_leg("bench", {"direction": "Receive", "bind": "127.0.0.1", "media": {"video": source}})
    outlet = packets.open_leg("bench", {"direction": "Send", "bind": "127.0.0.1", "media": {"video": target}})
    port = packets.local_ports(inlet)["video"]
    flags = [f"--to={port}", f"--from={sender}", f"--sink={sink}", f"--frames={frames}", "--key=1", "--sleepy=1"]
    with subprocess.Popen([program, "load", *flags], stdout=subprocess.PIPE, text=True) as load:
        spent = serve(packets, outlet, load, frames)
        out, _ = load.communicate(timeout=10)
    packets.close()
    per_frame = {"cpu_us": spent.cpu_ns / 1e3 / spent.frames, "wall_us": spent.wall_ns / 1e3 / spent.frames}
    said = {"frames": spent.frames, "seconds": json.loads(out)["seconds"], "cores": len(os.sched_getaffinity(0))}
    print(json.dumps({**said, **per_frame}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
