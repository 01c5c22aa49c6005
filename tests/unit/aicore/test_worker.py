"""The worker's loop over a socketpair, without the process around it."""

import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from auralink_aicore.codecs import Codec, Limits
from auralink_aicore.controller import Policy
from auralink_aicore.model import packaged
from auralink_aicore.transcoder import Advice, Disposition, Frame, Mode, Session, Transcoder
from auralink_aicore.worker import wire
from auralink_aicore.worker.process import Worker
from auralink_aicore.worker.wire import Kind, Opening, Timed, Unpacker

from tests.unit.aicore import clips, models

SESSION = wire.pack_opening(Opening(Session(Codec.H264, Policy(always=True), Limits(), screen=False)))


class Front:
    """The other end of the socket."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.unpacker = Unpacker()
        self.records: list[tuple[Kind, int, bytes]] = []

    def record(self) -> tuple[Kind, int, bytes]:
        while not self.records:
            data = self.link.recv(65536)
            assert data, "the worker has ended"
            self.records += self.unpacker.feed(data)
        return self.records.pop(0)

    def result(self) -> tuple[int, Timed]:
        kind, number, body = self.record()
        assert kind is Kind.RESULT, kind
        return number, wire.unpack_result(body)


def frame(number: int, frame_id: int, deadline_s: float = math.inf, payload: bytes | None = None) -> bytes:
    payload = clips.h264()[frame_id] if payload is None else payload
    sent = Frame(frame_id, payload, clips.is_key(payload), Mode.COMPRESS, time.monotonic(), deadline_s)
    return wire.pack(Kind.FRAME, number, wire.frame_head(sent), payload)


@contextmanager
def running(first: bytes = b"") -> Iterator[Front]:
    """A worker that finds `first` waiting; it ends because the front closes."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    ours.sendall(first)
    thread = threading.Thread(target=Worker(theirs).run, kwargs={"calibrate": False})
    thread.start()
    front = Front(ours)
    try:
        assert front.record()[0] is Kind.READY
        yield front
    finally:
        ours.close()
        thread.join(20)
        theirs.close()
    assert not thread.is_alive()


def test_frames_are_answered_with_what_they_cost() -> None:
    with running() as front:
        front.link.sendall(wire.pack(Kind.OPEN, 5, SESSION) + frame(5, 0) + frame(5, 1))
        for frame_id in (0, 1):
            number, timed = front.result()
            assert (number, timed.result.frame_id) == (5, frame_id)
            assert timed.result.disposition is Disposition.COMPRESSED
            assert timed.encoder_us > 0
            assert timed.pixels == 320 * 240


def test_the_frame_that_is_due_first_is_served_first() -> None:
    now = time.monotonic()
    waiting = [wire.pack(Kind.OPEN, number, SESSION) for number in (1, 2, 3, 4)]
    waiting += [frame(4, 0)]  # without a deadline: taken as due in a second
    waiting += [frame(1, 0, now + 0.3), frame(2, 0, now + 0.1), frame(3, 0, now + 0.2), frame(2, 1, now + 0.4)]
    with running(b"".join(waiting)) as front:
        assert [front.result()[0] for _ in range(5)] == [2, 3, 1, 2, 4]


def test_controls_and_closing_keep_the_sessions_order() -> None:
    with running() as front:
        front.link.sendall(wire.pack(Kind.OPEN, 1, SESSION) + frame(1, 0) + frame(1, 1))
        front.link.sendall(wire.pack(Kind.FORCE_KEY, 1) + frame(1, 2) + wire.pack(Kind.PROMOTE, 1))
        front.link.sendall(wire.pack(Kind.POLICY, 1, wire.pack_policy(Policy(target_savings=0.2))) + frame(1, 3))
        keys = [(timed.result.frame_id, timed.result.key) for _, timed in (front.result() for _ in range(5))]
        assert keys == [(0, True), (1, False), (2, True), (2, True), (3, False)]
        front.link.sendall(wire.pack(Kind.CLOSE, 1) + frame(1, 4))
        front.link.sendall(wire.pack(Kind.OPEN, 2, SESSION) + frame(2, 0))
        assert front.result()[0] == 2


def test_a_fault_in_one_stream_fails_that_stream_only(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Transcoder.receive

    def faulty(self: Transcoder, frame: Frame) -> object:
        if frame.payload == b"poison":
            raise ZeroDivisionError("a fault of ours")
        return real(self, frame)

    monkeypatch.setattr(Transcoder, "receive", faulty)
    with running() as front:
        front.link.sendall(wire.pack(Kind.OPEN, 1, SESSION) + wire.pack(Kind.OPEN, 2, SESSION))
        front.link.sendall(frame(1, 0, payload=b"poison") + frame(2, 0) + frame(1, 1))
        answers = sorted(((n, t.result.frame_id), t.result) for n, t in (front.result() for _ in range(3)))
    assert [result.disposition for _, result in answers] == [
        Disposition.FAILED,
        Disposition.FAILED,
        Disposition.COMPRESSED,
    ]
    assert "a fault of ours" in answers[0][1].reason


def opened(number: int, policy: Policy, **fields: object) -> bytes:
    session = Session(Codec.H264, policy, Limits(), screen=False)
    return wire.pack(Kind.OPEN, number, wire.pack_opening(Opening(session, **fields)))  # type: ignore[arg-type]


def test_a_size_that_is_too_much_for_the_host_is_judged_when_the_key_shows_it() -> None:
    with running() as front:
        front.link.sendall(opened(1, Policy(latency_budget_ms=1), host_factor=20.0) + frame(1, 0) + frame(1, 1))
        front.link.sendall(opened(2, Policy(latency_budget_ms=1, always=True), host_factor=20.0) + frame(2, 0))
        answers = sorted(((n, t.result.frame_id), t) for n, t in (front.result() for _ in range(3)))
    for _, timed in answers[:2]:
        assert (timed.result.disposition, timed.result.advice) == (Disposition.UNCHANGED, Advice.NATIVE)
        assert "H264 at 320x240 takes" in timed.result.reason
        assert timed.refused
    assert answers[2][1].result.disposition is Disposition.COMPRESSED


def test_a_session_of_a_room_reports_once_a_second_and_takes_its_share() -> None:
    reports = []
    with running() as front:
        front.link.sendall(opened(1, Policy(always=True), reports=True))
        for frame_id in range(5):
            front.link.sendall(wire.pack(Kind.SHARE, 1, wire.pack_share(0.3)) + frame(1, frame_id))
        results = 0
        while results < 5:
            kind, _, body = front.record()
            results += kind is Kind.RESULT
            reports += [wire.unpack_report(body)] if kind is Kind.REPORT else []
    (report,) = reports
    assert report.target == 0.4
    assert len(report.loss) == len(report.ln_bytes) > 20
    assert list(report.ln_bytes) == sorted(report.ln_bytes, reverse=True)
    assert list(report.loss) == sorted(report.loss)


def test_a_session_of_no_room_reports_nothing() -> None:
    with running() as front:
        front.link.sendall(opened(1, Policy(always=True)) + b"".join(frame(1, frame_id) for frame_id in range(5)))
        assert [front.record()[0] for _ in range(5)] == 5 * [Kind.RESULT]


def test_sessions_change_to_a_new_model_and_later_ones_begin_with_it() -> None:
    """Its id stands in every result."""
    other = models.made()
    with running() as front:
        front.link.sendall(wire.pack(Kind.OPEN, 1, SESSION) + b"".join(frame(1, number) for number in range(10)))
        assert {front.result()[1].result.model_hash for _ in range(10)} == {packaged().hash}
        front.link.sendall(wire.pack(Kind.MODEL, 0, wire.pack_model(other)) + wire.pack(Kind.OPEN, 2, SESSION))
        front.link.sendall(frame(2, 0) + b"".join(frame(1, number) for number in range(10, 30)))
        hashes: dict[int, list[int]] = {1: [], 2: []}
        for _ in range(21):
            number, timed = front.result()
            hashes[number].append(timed.result.model_hash)
    assert hashes[2] == [other.hash]
    assert hashes[1] == [packaged().hash] * 5 + [other.hash] * 15
