"""What of a client's messages reaches the worker."""

from typing import Any

from auralink_aicore.metrics import Metrics
from auralink_aicore.server import AiCore
from auralink_aicore.server.call import Call
from auralink_aicore.worker.admission import Load
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


async def read(*messages: pb.ClientMessage) -> Seat:
    call = Call(AiCore(1, Metrics()), "test", Load(1280 * 720, 30))
    seat = Seat()
    call.seat = seat  # type: ignore[assignment]

    async def sent() -> Any:
        for message in messages:
            yield message

    await call.read(sent())
    return seat


def control(**fields: Any) -> pb.ClientMessage:
    return pb.ClientMessage(control=pb.Control(**fields))


def frame(number: int) -> pb.ClientMessage:
    return pb.ClientMessage(frame=pb.Frame(frame_id=number, payload=b"x", mode=pb.MODE_COMPRESS))


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
