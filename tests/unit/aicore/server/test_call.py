"""What of a client's messages reaches the worker."""

import asyncio
import time
from typing import Any

import pytest
from auralink_aicore.codecs import Codec
from auralink_aicore.metrics import Metrics
from auralink_aicore.model import packaged
from auralink_aicore.server import AiCore
from auralink_aicore.server import call as call_module
from auralink_aicore.server.call import MAX_IN_FLIGHT_BYTES, REPORT_HOLDS_S, Call
from auralink_aicore.server.opening import BadRequestError, Fault
from auralink_aicore.transcoder import Disposition, Report, Result
from auralink_aicore.worker.admission import Load
from auralink_aicore.worker.wire import Timed
from auralink_pb.aicore.v1 import aicore_pb2 as pb


class Seat:
    """Writes down what would go to a worker."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.policies: list[Any] = []

    def frame(self, frame: Any) -> None:
        self.told.append(f"frame {frame.frame_id}")

    def policy(self, policy: Any) -> None:
        self.told.append("policy")
        self.policies.append(policy)

    def force_key(self) -> None:
        self.told.append("force_key")

    def promote(self) -> None:
        self.told.append("promote")


async def read(*messages: pb.ClientMessage, call: Call | None = None) -> Seat:
    call = call or new_call()
    seat = Seat()
    call.seat = seat  # type: ignore[assignment]

    async def sent() -> Any:
        for message in messages:
            yield message

    await call.read(sent())
    return seat


def new_call() -> Call:
    return Call(AiCore(1, Metrics()), "test", Load(Codec.H264, 1280 * 720, 30))


def control(**fields: Any) -> pb.ClientMessage:
    return pb.ClientMessage(control=pb.Control(**fields))


def frame(number: int, payload: bytes = b"x", mode: pb.Mode.ValueType = pb.MODE_COMPRESS) -> pb.ClientMessage:
    return pb.ClientMessage(frame=pb.Frame(frame_id=number, payload=payload, mode=mode))


async def test_of_a_flood_of_controls_only_the_newest_reach_the_worker_with_the_next_frame() -> None:
    flood = [
        one
        for number in range(500)
        for one in (
            control(force_key=pb.ForceKey()),
            control(policy=pb.Policy(quality_level=1 + number % 10, always=True)),
        )
    ]
    seat = await read(frame(0), *flood, frame(1), frame(2))
    assert seat.told == ["frame 0", "policy", "force_key", "frame 1", "frame 2"]
    assert seat.policies[0].quality_level == 10


async def test_a_promotion_takes_the_controls_before_it_along() -> None:
    seat = await read(control(force_key=pb.ForceKey()), control(promote=pb.Promote()))
    assert seat.told == ["force_key", "promote"]


async def test_frames_that_wait_for_an_answer_are_bounded_in_bytes_too() -> None:
    large = bytes(MAX_IN_FLIGHT_BYTES // 2)
    call = new_call()
    seat = await read(*(frame(number, large) for number in range(3)), call=call)
    assert seat.told == ["frame 0", "frame 1"]
    with pytest.raises(BadRequestError, match="bytes of frames") as error:
        await call.write(nobody)
    assert error.value.fault is Fault.RESOURCE_EXHAUSTED


async def test_what_is_answered_makes_room() -> None:
    large = bytes(MAX_IN_FLIGHT_BYTES // 2)
    call, seat = new_call(), None
    for number in range(5):
        seat = await read(frame(number, large), call=call)
        call.answered(Timed(Result(number, Disposition.COMPRESSED, b"y"), 5000, 100, 1280 * 720))
        assert seat.told == [f"frame {number}"]


@pytest.mark.parametrize(
    ("messages", "turns"),
    [
        ([frame(0), frame(1)], 0),
        ([frame(0, mode=pb.MODE_SHADOW), frame(1, mode=pb.MODE_SHADOW)], 0),
        ([frame(0, mode=pb.MODE_SHADOW), frame(1), frame(2)], 1),
        ([frame(0, mode=pb.MODE_SHADOW), control(promote=pb.Promote()), frame(1)], 1),
    ],
)
async def test_the_server_hears_when_a_standby_begins_to_compress(messages: list[Any], turns: int) -> None:
    class Core:
        turned_ = 0
        metrics = Metrics()
        model_id = packaged().id

        def turned(self, _: Call) -> None:
            self.turned_ += 1

        def count(self, *_: Any) -> None:
            raise AssertionError("nothing is answered here")

        def collects(self, *_: Any) -> None:
            raise AssertionError("no policy comes here")

    core = Core()
    call = Call(core, "test", Load(Codec.H264))
    await read(*messages, call=call)
    assert core.turned_ == turns
    assert call.load.shadow is (messages[-1].frame.mode == pb.MODE_SHADOW)


async def test_a_standby_that_is_shed_is_told_and_ends_without_an_error() -> None:
    call = new_call()
    call.shed("its room is needed")
    written: list[pb.ServerMessage] = []

    async def send(message: pb.ServerMessage) -> None:
        written.append(message)

    await call.write(send)
    assert [message.notice.kind for message in written] == [pb.Notice.KIND_SHED]


async def test_a_client_that_does_not_read_cannot_keep_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stuck(_: pb.ServerMessage) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(call_module, "LAST_WORDS_S", 0.01)
    call = new_call()
    call.notice(pb.Notice.KIND_DRAINING, "going")
    for _ in range(1000):  # a sweep finds it again and again
        call.fail(BadRequestError("nothing heard", Fault.DEADLINE_EXCEEDED))
    assert call._outgoing.qsize() == 2
    with pytest.raises(BadRequestError, match="does not read"):
        await call.run(stuck)


async def test_a_call_takes_part_in_its_room_while_it_compresses_and_reports() -> None:
    call = new_call()
    report = Report(1e5, 0.4, 3.0, (1.0,), (1.0,))
    now = time.monotonic()
    assert call.report(now) is None
    call.reported(report)
    assert call.report(now) is report
    assert call.report(now + REPORT_HOLDS_S + 1) is None
    call.load.shadow = True
    assert call.report(now) is None


async def nobody(_: pb.ServerMessage) -> None:
    """Results that nobody reads."""


async def test_a_frame_id_that_is_unanswered_does_not_come_again() -> None:
    """Two of them would count as one in what a client may have unanswered."""
    call = new_call()
    seat = await read(frame(7), frame(7), call=call)
    assert seat.told == ["frame 7"]
    with pytest.raises(BadRequestError, match="frame_id 7 came twice"):
        await call.write(nobody)
