"""The front's side of the workers: starts them, gives sessions to them, starts a new one when one dies or hangs."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, cast

from auralink_aicore.controller import Policy
from auralink_aicore.model import Model
from auralink_aicore.transcoder import Frame, Report
from auralink_aicore.worker import wire
from auralink_aicore.worker.wire import Kind, Opening, Timed

log = logging.getLogger(__name__)

# Longest a worker may owe answers without giving any. Its slowest frame, a large key on a slow host, takes 0.1 s.
HANGS_AFTER_S = 5.0
RESTART_FIRST_S, RESTART_MOST_S = 0.1, 5.0
STABLE_AFTER_S = 10.0
START_TIMEOUT_S = 60.0


class Listener(Protocol):
    """Who wants to know about one session; called on the event loop, must not block."""

    def answered(self, timed: Timed) -> None:
        """One result."""

    def reported(self, report: Report) -> None:
        """What the room's allocation needs, once a second."""

    def lost(self, reason: str) -> None:
        """The worker died and the session's state with it; nothing more will come."""


class Watcher(Protocol):
    """Who wants to know about workers."""

    def worker_up(self, worker: int, calibration_ms: float) -> None:
        """It takes sessions now."""

    def worker_down(self, worker: int) -> None:
        """It died; its sessions have been told."""


@dataclass(slots=True, eq=False)
class Seat:
    """A session's place in a worker."""

    worker: "Child"
    number: int
    listener: Listener
    owed: int = 0  # results that have not come yet

    def frame(self, frame: Frame) -> None:
        """Hand over a frame; its result comes to the listener."""
        self.worker.owe(self)
        self.worker.send(Kind.FRAME, self.number, wire.frame_head(frame), frame.payload)

    def promote(self) -> None:
        """Ask for the last picture as a key; one result more comes."""
        self.worker.owe(self)
        self.worker.send(Kind.PROMOTE, self.number)

    def force_key(self) -> None:
        """The next result is a key."""
        self.worker.send(Kind.FORCE_KEY, self.number)

    def policy(self, policy: Policy) -> None:
        """In force from the next frame on."""
        self.worker.send(Kind.POLICY, self.number, wire.pack_policy(policy))

    def share(self, target: float | None) -> None:
        """T by the room's allocation; None: the policy's own."""
        self.worker.send(Kind.SHARE, self.number, wire.pack_share(target))

    def close(self) -> None:
        """Give the place back; nothing more comes. Harmless when it is lost already."""
        if self.worker.seats.pop(self.number, None) is not None:
            self.worker.send(Kind.CLOSE, self.number)


@dataclass(slots=True, eq=False)
class Child(asyncio.Protocol):
    """One child as the front sees it."""

    index: int
    ready: Callable[["Child", float], None]
    clock: Callable[[], float]
    seats: dict[int, Seat] = field(default_factory=dict)
    unpacker: wire.Unpacker = field(default_factory=wire.Unpacker)
    transport: asyncio.WriteTransport | None = None
    process: asyncio.subprocess.Process | None = None
    born_s: float = 0.0
    is_ready: bool = False
    moved_s: float = 0.0  # when a result last came, or the first owed one was asked for

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)  # a stream socket's; uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self.moved_s = self.clock()
        for kind, number, body in self.unpacker.feed(data):
            if kind is Kind.RESULT:
                seat = self.seats.get(number)  # none any more when it was closed with frames under way
                if seat is not None:
                    seat.owed -= 1
                    seat.listener.answered(wire.unpack_result(body))
            elif kind is Kind.REPORT:
                if number in self.seats:
                    self.seats[number].listener.reported(wire.unpack_report(body))
            elif kind is Kind.READY:
                self.is_ready = True
                self.ready(self, wire.unpack_ready(body))

    @property
    def owed(self) -> int:
        return sum(seat.owed for seat in self.seats.values())

    def owe(self, seat: Seat) -> None:
        if self.owed == 0:
            self.moved_s = self.clock()
        seat.owed += 1

    def hangs(self) -> bool:
        now = self.clock()
        if not self.is_ready:
            return now - self.born_s > START_TIMEOUT_S
        return self.owed > 0 and now - self.moved_s > HANGS_AFTER_S

    def send(self, kind: Kind, number: int, *parts: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(wire.pack(kind, number, *parts))


class Pool:
    """All workers. `start` returns when every one has been ready once."""

    def __init__(self, size: int, watcher: Watcher, model: Model | None = None, cores: int = 1) -> None:
        """`model`: None for the packaged one; `cores`: how many may work on one picture."""
        self._model = model
        self._size = size
        self._cores = cores
        self._watcher = watcher
        self._workers: dict[int, Child] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._next_number = 0
        self._all_ready = asyncio.Event()

    @property
    def pids(self) -> dict[int, int]:
        """Process id of every worker that is up."""
        return {index: worker.process.pid for index, worker in self._workers.items() if worker.process}

    async def start(self) -> None:
        """Start the children. Raises RuntimeError when they do not come up."""
        self._keepers = [asyncio.create_task(self._keep(index), name=f"worker-{index}") for index in range(self._size)]
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._all_ready.wait()
        except TimeoutError:
            up = f"{len(self._workers)} of {self._size} workers came up within {START_TIMEOUT_S:.0f} s"
            raise RuntimeError(f"{up}; why the others did not stands above") from None

    async def stop(self) -> None:
        """End the children; they go when their socket closes."""
        for task in self._keepers:
            task.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    def use(self, model: Model) -> None:
        """Another model for all sessions, those to come too."""
        self._model = model
        for worker in self._workers.values():
            worker.send(Kind.MODEL, 0, wire.pack_model(model))

    def seat(self, index: int, opening: Opening, listener: Listener) -> Seat:
        """A place for a session in a worker that is up."""
        worker = self._workers[index]
        self._next_number += 1
        seat = Seat(worker, self._next_number, listener)
        worker.seats[seat.number] = seat
        worker.send(Kind.OPEN, seat.number, wire.pack_opening(opening))
        return seat

    async def _keep(self, index: int) -> None:
        """Run one worker after another."""
        pause_s = RESTART_FIRST_S
        loop = asyncio.get_running_loop()
        calibrate = True
        while True:
            started = loop.time()
            try:
                reason = await self._run(index, calibrate=calibrate)
            except OSError as error:  # no process, no descriptor, no memory: the next try may have them
                reason = f"cannot start: {error}"
            calibrate = False
            log.error("worker died", extra={"worker": index, "reason": reason})
            pause_s = RESTART_FIRST_S if loop.time() - started > STABLE_AFTER_S else min(2 * pause_s, RESTART_MOST_S)
            await asyncio.sleep(pause_s)

    async def _run(self, index: int, *, calibrate: bool) -> str:
        """Start one child and stay with it; returns why it ended."""
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        worker = Child(index, self._ready, loop.time)
        worker.born_s = loop.time()
        arguments = (
            "-m",
            "auralink_aicore.worker.process",
            str(theirs.fileno()),
            str(int(calibrate)),
            str(self._cores),
        )
        with theirs:
            try:
                worker.process = await asyncio.create_subprocess_exec(
                    sys.executable, *arguments, pass_fds=[theirs.fileno()]
                )
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        transport, _ = await loop.create_unix_connection(lambda: worker, sock=ours)
        watch = asyncio.create_task(self._watch(worker), name=f"worker-{index}-watch")
        try:
            code = await worker.process.wait()
            return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
        finally:
            watch.cancel()
            transport.close()
            self._gone(worker)
            if worker.process.returncode is None:
                await self._end(worker.process)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        try:
            async with asyncio.timeout(1.0):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _watch(self, worker: Child) -> None:
        """Kill a worker that owes answers and gives none."""
        while True:
            await asyncio.sleep(1.0)
            if worker.hangs() and worker.process is not None:
                log.error("worker hangs", extra={"worker": worker.index, "owed": worker.owed})
                worker.process.kill()

    def _ready(self, worker: Child, calibration_ms: float) -> None:
        self._workers[worker.index] = worker
        if self._model is not None:
            worker.send(Kind.MODEL, 0, wire.pack_model(self._model))
        log.info("worker ready", extra={"worker": worker.index, "pid": worker.process.pid if worker.process else 0})
        self._watcher.worker_up(worker.index, calibration_ms)
        if len(self._workers) == self._size:
            self._all_ready.set()

    def _gone(self, worker: Child) -> None:
        if self._workers.get(worker.index) is not worker:
            return
        del self._workers[worker.index]
        seats, worker.seats = list(worker.seats.values()), {}
        for seat in seats:
            seat.listener.lost("the worker process of this session ended")
        self._watcher.worker_down(worker.index)
