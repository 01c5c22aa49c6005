"""The child: ``python -m auralink_aicore.worker.process <socket fd> <calibrate 0|1> <cores>``, started by
`pool` only; `cores` may work on one picture.

One thread. Whatever has arrived is sorted into its session's lane first; then the lane whose next frame is due
first gets the codecs. Controls wait in the lane too, so they keep their place between frames. The child ends when
the front closes the socket.
"""

import gc
import math
import signal
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field

import av.logging

from auralink_aicore.controller import Policy
from auralink_aicore.model import Model
from auralink_aicore.transcoder import Frame, Result, Transcoder
from auralink_aicore.worker import wire
from auralink_aicore.worker.calibration import picture_ms
from auralink_aicore.worker.costs import Host, refusal
from auralink_aicore.worker.wire import Kind

# Frames without a deadline of their own are taken as if they had this much time, so that none starves.
NO_DEADLINE_S = 1.0
READ_BYTES = 1 << 20
REPORT_EVERY_S = 1.0


@dataclass(slots=True)
class _Item:
    kind: Kind
    due_s: float
    body: bytes = b""
    frame: Frame | None = None


@dataclass(slots=True)
class _Lane:
    transcoder: Transcoder
    reports_s: float  # when the room's allocation next wants to hear of it; infinite for never
    items: deque[_Item] = field(default_factory=deque)


class Worker:
    """Sessions of one process, and the socket to the front."""

    def __init__(self, link: socket.socket, cores: int = 1) -> None:
        """`cores`: how many may work on one picture."""
        self._link = link
        self._cores = cores
        self._model: Model | None = None  # until the front says one
        self._unpacker = wire.Unpacker()
        self._lanes: dict[int, _Lane] = {}
        self._buffer = memoryview(bytearray(READ_BYTES))

    def run(self, *, calibrate: bool) -> None:
        """Serve until the front is gone."""
        # Of this thread's own time: how fast the machine is, not what else runs on it while everything starts.
        calibration_ms = picture_ms(time.thread_time) if calibrate else 0.0
        gc.collect()
        gc.freeze()  # what the imports made stays; a collection that looks through it stops all streams for 30 ms
        try:
            self._link.sendall(wire.pack(Kind.READY, 0, wire.pack_ready(calibration_ms)))
            while self._take_in(wait=not self._due()):
                due = self._due()
                if due:
                    number = min(due, key=lambda number: self._lanes[number].items[0].due_s)
                    self._serve(number, self._lanes[number])
        except ConnectionError:
            return  # the front went while we were answering

    def _due(self) -> list[int]:
        return [number for number, lane in self._lanes.items() if lane.items]

    def _take_in(self, *, wait: bool) -> bool:
        """Sort what has arrived into the lanes; False when the front is gone."""
        flags = 0 if wait else socket.MSG_DONTWAIT
        while True:
            try:
                size = self._link.recv_into(self._buffer, 0, flags)
            except BlockingIOError:
                return True
            except ConnectionError:
                return False
            if size == 0:
                return False
            for kind, number, body in self._unpacker.feed(self._buffer[:size]):
                self._sort_in(kind, number, body)
            flags = socket.MSG_DONTWAIT

    def _sort_in(self, kind: Kind, number: int, body: bytes) -> None:
        if kind is Kind.OPEN:
            self._lanes[number] = self._open(wire.unpack_opening(body))
            return
        if kind is Kind.MODEL:
            self._model = wire.unpack_model(body)
            for each in self._lanes.values():
                each.transcoder.use(self._model)
            return
        if number not in self._lanes:
            return
        lane = self._lanes[number]
        if kind is Kind.CLOSE:
            lane.transcoder.close()
            del self._lanes[number]
        elif kind is Kind.FRAME:
            frame = wire.unpack_frame(body)
            lane.items.append(_Item(kind, min(frame.deadline_s, frame.arrived_s + NO_DEADLINE_S), frame=frame))
        else:
            lane.items.append(_Item(kind, time.monotonic(), body))

    def _open(self, opening: wire.Opening) -> _Lane:
        session, host = opening.session, Host(opening.host_factor, self._cores)

        def judge(width: int, height: int, policy: Policy) -> str:
            return refusal(session.codec, width, height, policy, host)

        transcoder = Transcoder(session, time.monotonic, self._cores, judge, self._model)
        return _Lane(transcoder, -math.inf if opening.reports else math.inf)

    def _serve(self, number: int, lane: _Lane) -> None:
        item = lane.items.popleft()
        started = time.monotonic()
        transcoder = lane.transcoder
        try:
            result = _apply(item, transcoder)
        except Exception as error:  # noqa: BLE001 - one stream's fault must not cost the others their worker
            frame_id = item.frame.frame_id if item.frame else 0
            result = transcoder.fail(frame_id, f"internal error: {type(error).__name__}: {error}")
        if result is None:
            return
        timed = wire.Timed(
            result,
            encoder_us=_microseconds(time.monotonic() - started),
            queue_us=_microseconds(started - item.frame.arrived_s) if item.frame else 0,
            pixels=transcoder.pixels,
            refused=transcoder.refused,
        )
        self._link.sendall(wire.pack(Kind.RESULT, number, wire.result_head(timed), result.payload))
        if started >= lane.reports_s and (report := transcoder.report()) is not None:
            lane.reports_s = started + REPORT_EVERY_S
            self._link.sendall(wire.pack(Kind.REPORT, number, wire.pack_report(report)))


def _microseconds(seconds: float) -> int:
    """As the record holds them: a machine that slept must not break it."""
    return min(max(round(1e6 * seconds), 0), 2**32 - 1)


def _apply(item: _Item, transcoder: Transcoder) -> Result | None:
    """What one frame or control leads to; only frames and promotions are answered."""
    if item.kind is Kind.FRAME and item.frame is not None:
        return transcoder.receive(item.frame)
    if item.kind is Kind.PROMOTE:
        return transcoder.promote()
    if item.kind is Kind.FORCE_KEY:
        transcoder.force_key()
    elif item.kind is Kind.POLICY:
        transcoder.apply(wire.unpack_policy(item.body))
    elif item.kind is Kind.SHARE:
        transcoder.share(wire.unpack_share(item.body))
    return None


def main() -> None:
    """Entry of the child process."""
    # Ctrl-C and a group's SIGTERM are the front's to handle: it still needs us while it drains.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    av.logging.set_level(av.logging.PANIC)  # libav's remarks on broken input; results carry the reason
    with socket.socket(fileno=int(sys.argv[1])) as link:
        Worker(link, cores=int(sys.argv[3])).run(calibrate=sys.argv[2] == "1")


if __name__ == "__main__":
    main()
