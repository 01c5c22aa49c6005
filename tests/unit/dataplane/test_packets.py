"""That what the compiled packet core says arrives as our own values, over real loopback sockets."""

import select
import time
from collections.abc import Iterator
from typing import TypeVar

import pytest
from auralink_dataplane.media.frames import (
    Event,
    Frame,
    FrameSent,
    KeyWanted,
    Mode,
    ModeApplied,
    StreamEnded,
    StreamFailed,
    StreamStarted,
    SubmitRefused,
)
from auralink_dataplane.media.packets import NativePackets, PacketEngine

from tests.unit.dataplane.loopback import DELTA, IDR, PPS, SPS, START, WAIT_S, Peer, leg

T = TypeVar("T")


class Bench:
    """A source on one leg, a receiver on another."""

    def __init__(self) -> None:
        self.engine: PacketEngine = NativePackets()
        self.peer = Peer()
        self.seen: list[Frame | Event] = []
        self.inlet = self.engine.open_leg("room", leg("Receive"))
        self.remote = f"127.0.0.1:{self.peer.sink.getsockname()[1]}"
        self.outlet = self.engine.open_leg("room", leg("Send", remote=self.remote))

    def send(self, *payloads: bytes) -> None:
        self.peer.send(self.engine.local_ports(self.inlet)["video"], *payloads)

    def next(self, kind: type[T]) -> T:
        """The next value of a type; others are left aside."""
        deadline = time.monotonic() + WAIT_S
        while True:
            for index, item in enumerate(self.seen):
                if isinstance(item, kind):
                    self.seen = self.seen[index + 1 :]
                    return item
            left = deadline - time.monotonic()
            assert left > 0, f"no {kind.__name__} within {WAIT_S} s"
            select.select([self.engine.fileno()], [], [], left)
            self.seen += self.engine.poll()

    def compress(self) -> int:
        self.send(SPS, PPS, IDR)
        stream = self.next(StreamStarted).stream
        self.engine.link(stream, self.outlet)
        self.engine.set_mode(stream, Mode.COMPRESS, extension=True, degraded=False, at_frame=None)
        return stream


@pytest.fixture
def bench() -> Iterator[Bench]:
    one = Bench()
    yield one
    one.engine.close()
    one.peer.close()


def test_a_frame_goes_up_and_its_answer_is_told(bench: Bench) -> None:
    before = time.monotonic()
    bench.send(SPS, PPS, IDR)
    started = bench.next(StreamStarted)
    assert started == StreamStarted(bench.inlet, started.stream, 0x11223344, "H264", "video")
    bench.engine.link(started.stream, bench.outlet)
    bench.engine.set_mode(started.stream, Mode.COMPRESS, extension=True, degraded=False, at_frame=None)
    assert bench.next(ModeApplied) == ModeApplied(started.stream, Mode.COMPRESS, 0)
    frame = bench.next(Frame)
    assert (frame.stream, frame.frame_id, frame.codec, frame.mode) == (started.stream, 0, "H264", Mode.COMPRESS)
    assert (frame.key, frame.may_reorder, frame.rtp_ts & 0xFFFFFFFF) == (True, True, 0xFFFFFF00)
    assert frame.data == b"".join(START + part for part in (SPS, PPS, IDR))
    assert before <= frame.t_first <= frame.t_complete <= time.monotonic()
    bench.engine.submit(started.stream, 0, None, None, True)
    bench.send(DELTA)  # what wakes the reader
    sent = bench.next(FrameSent)
    assert (sent.stream, sent.frame_id, sent.packets) == (started.stream, 0, 3)
    assert frame.t_complete <= sent.t_sent <= time.monotonic()


def test_a_refused_answer_is_told(bench: Bench) -> None:
    stream = bench.compress()
    bench.next(Frame)
    bench.engine.submit(stream, 0, b"no frame", None, True)
    assert bench.next(SubmitRefused) == SubmitRefused(stream, 0, native=False, reason="bad_submit")


def test_an_out_that_joins_late_wants_a_key(bench: Bench) -> None:
    stream = bench.compress()
    bench.next(Frame)
    late = bench.engine.open_leg("room", leg("Send", remote=bench.remote) | {"name": "late"})
    bench.engine.link(stream, late)
    assert bench.next(KeyWanted) == KeyWanted(stream)


def test_frames_that_nobody_answers_fail_the_stream_and_a_closed_leg_ends_it(bench: Bench) -> None:
    stream = bench.compress()
    for _ in range(20):
        bench.send(DELTA)
        time.sleep(0.001)
    assert bench.next(StreamFailed).stream == stream
    bench.engine.close_leg(bench.inlet, bye=False)
    assert bench.next(StreamEnded) == StreamEnded(stream, "leg closed")
