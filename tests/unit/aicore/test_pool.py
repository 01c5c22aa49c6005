"""When a worker counts as hanging, on a virtual clock; and what happens when none can be started."""

import asyncio
from typing import NoReturn

import pytest
from auralink_aicore.transcoder import Disposition, Frame, Mode, Report, Result
from auralink_aicore.worker import wire
from auralink_aicore.worker.pool import HANGS_AFTER_S, START_TIMEOUT_S, Child, Pool, Seat
from auralink_aicore.worker.wire import Kind, Timed

FRAME = Frame(0, b"", False, Mode.COMPRESS, 0.0, 0.0)


class Listener:
    def __init__(self) -> None:
        self.heard: list[int] = []

    def answered(self, timed: Timed) -> None:
        self.heard.append(timed.result.frame_id)

    def reported(self, report: Report) -> None:
        raise AssertionError(report)

    def lost(self, reason: str) -> None:
        raise AssertionError(reason)


class Scene:
    """A worker that is ready, and one session in it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.child = Child(0, lambda *_: None, lambda: self.now)
        self.child.data_received(wire.pack(Kind.READY, 0, wire.pack_ready(0.0)))
        self.listener = Listener()
        self.seat = Seat(self.child, 7, self.listener)
        self.child.seats[7] = self.seat

    def answer(self, frame_id: int) -> None:
        timed = Timed(Result(frame_id, Disposition.SKIPPED), 0, 0, 0)
        self.child.data_received(wire.pack(Kind.RESULT, 7, wire.result_head(timed)))


def test_a_worker_that_owes_nothing_never_hangs() -> None:
    scene = Scene()
    scene.now = 1e6
    assert not scene.child.hangs()


def test_a_worker_that_owes_and_gives_nothing_hangs_after_a_while() -> None:
    scene = Scene()
    scene.now = 100.0
    scene.seat.frame(FRAME)
    scene.now += HANGS_AFTER_S
    assert not scene.child.hangs()
    scene.now += 0.1
    assert scene.child.hangs()


def test_a_slow_worker_that_gives_something_does_not_hang() -> None:
    scene = Scene()
    for _ in range(3):
        scene.seat.frame(FRAME)
    scene.now += HANGS_AFTER_S
    scene.answer(0)
    scene.now += HANGS_AFTER_S
    assert not scene.child.hangs()
    assert scene.listener.heard == [0]


def test_frames_of_a_session_that_was_closed_are_owed_no_more() -> None:
    scene = Scene()
    scene.seat.frame(FRAME)
    scene.seat.close()
    scene.answer(0)
    scene.now += 10 * HANGS_AFTER_S
    assert not scene.child.hangs()
    assert scene.listener.heard == []


def test_a_worker_that_never_gets_ready_hangs_too() -> None:
    now = 0.0
    child = Child(0, lambda *_: None, lambda: now)
    now = START_TIMEOUT_S + 1
    assert child.hangs()


class Nobody:
    def worker_up(self, worker: int, calibration_ms: float) -> None:
        raise AssertionError(worker)

    def worker_down(self, worker: int) -> None:
        raise AssertionError(worker)


async def test_a_worker_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = asyncio.Event()
    tries = 0

    async def refuse(*_: object, **__: object) -> NoReturn:
        nonlocal tries
        tries += 1
        if tries == 2:
            tried.set()
        raise BlockingIOError(11, "no more processes")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    pool = Pool(1, Nobody())
    starting = asyncio.create_task(pool.start())
    async with asyncio.timeout(5):
        await tried.wait()
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await pool.stop()
