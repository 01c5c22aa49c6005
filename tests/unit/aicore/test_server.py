"""What a client's opening words become, and that both ends count the same way."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from auralink_aicore import server, transcoder
from auralink_aicore.codecs import Codec
from auralink_aicore.codecs.h264 import Limits
from auralink_aicore.controller import Policy
from auralink_aicore.metrics import Metrics
from auralink_aicore.server import AiCore, BadRequestError, _Call, check_protocol, parse_open, parse_policy
from auralink_aicore.worker.admission import Load
from auralink_pb.aicore.v1 import aicore_pb2 as pb


@pytest.mark.parametrize(
    ("ours", "wire", "prefix"),
    [
        (Codec, pb.Codec, "CODEC_"),
        (transcoder.Mode, pb.Mode, "MODE_"),
        (transcoder.Disposition, pb.Disposition, "DISPOSITION_"),
        (transcoder.Advice, pb.Advice, "ADVICE_"),
    ],
)
def test_our_numbers_are_the_wires_numbers(ours: type, wire: object, prefix: str) -> None:
    named = {name.removeprefix(prefix): value for name, value in wire.items()}  # type: ignore[attr-defined]
    named.pop("UNSPECIFIED")
    assert named == {member.name: member.value for member in ours}  # type: ignore[attr-defined]


def test_an_unset_policy_is_the_default_and_zero_is_zero() -> None:
    assert parse_policy(pb.Policy()) == Policy()
    given = parse_policy(pb.Policy(target_savings=0, min_savings=0, quality_floor=0, always=True))
    assert given == Policy(target_savings=0.0, min_savings=0.0, quality_floor=0, always=True)


def test_a_session_takes_limits_and_content_from_its_opening() -> None:
    opening = pb.SessionOpen(
        codec=pb.CODEC_H264, content=pb.CONTENT_SCREEN, max_profile=pb.H264_PROFILE_CONSTRAINED_BASELINE, max_level=31
    )
    assert parse_open(opening) == transcoder.Session(Codec.H264, Policy(), Limits(1, 31), screen=True)


@pytest.mark.parametrize(
    ("width", "height", "served"),
    [(1920, 1080, True), (1080, 1920, True), (2560, 1440, False), (16, 640, False), (0, 0, True)],
)
def test_sizes_out_of_bounds_are_unsupported_from_the_start(width: int, height: int, served: bool) -> None:
    answer = parse_open(pb.SessionOpen(codec=pb.CODEC_H264, width=width, height=height))
    assert isinstance(answer, str) is not served


def test_an_unknown_codec_number_is_unsupported_not_an_error() -> None:
    assert "77" in str(parse_open(pb.SessionOpen(codec=77)))  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", [pb.Policy(quality_level=11), pb.Policy(min_savings=2), pb.Policy(model="x")])
def test_policies_out_of_range_are_the_clients_fault(policy: pb.Policy) -> None:
    with pytest.raises(BadRequestError):
        parse_policy(policy)


def test_the_service_has_the_name_of_the_contract() -> None:
    assert server.SERVICE == "auralink.aicore.v1.AICore"


def test_another_major_version_of_the_protocol_is_refused_and_a_newer_minor_is_not() -> None:
    check_protocol("1.0")
    check_protocol("1.7")
    with pytest.raises(BadRequestError, match=r"2\.0"):
        check_protocol("2.0")


def test_a_model_that_is_not_here_is_unsupported_not_an_error() -> None:
    """A policy may name any; an error would count against this server for all its streams."""
    opening = pb.SessionOpen(codec=pb.CODEC_H264, policy=pb.Policy(model="nonsense-1.0.0"))
    assert "nonsense-1.0.0" in str(parse_open(opening))


@pytest.mark.parametrize("opening", [{"max_fps": 4_000_000_000}, {"session_id": "x" * 600}, {"group_id": "x" * 600}])
def test_an_opening_that_would_take_all_room_is_refused(opening: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError, match=r"at most|up to"):
        parse_open(pb.SessionOpen(codec=pb.CODEC_H264, **opening))


async def test_a_call_that_never_opens_a_session_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    class Context:
        ended: grpc.StatusCode | None = None

        async def abort(self, code: grpc.StatusCode, _: str) -> None:
            self.ended = code

    async def says_nothing() -> AsyncIterator[pb.ClientMessage]:
        await asyncio.Event().wait()
        yield pb.ClientMessage()

    monkeypatch.setattr(server, "SILENT_S", 0.01)
    context = Context()
    await AiCore(1, Metrics()).Compress(says_nothing(), context)  # type: ignore[arg-type]
    assert context.ended is grpc.StatusCode.DEADLINE_EXCEEDED


# --- one call ------------------------------------------------------------------------------------------------


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
    call = _Call(AiCore(1, Metrics()), "test", Load(1280 * 720, 30))
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
