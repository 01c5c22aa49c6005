"""What a client's opening words become, and that both ends count the same way."""

from typing import Any

import pytest
from auralink_aicore import transcoder
from auralink_aicore.codecs import Codec, Limits
from auralink_aicore.controller import Policy
from auralink_aicore.server import BadRequestError
from auralink_aicore.server.opening import check_protocol, parse_open, parse_policy
from auralink_pb.aicore.v1 import aicore_pb2 as pb

MODEL = "auralink-q-1.0.0"


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
    assert parse_policy(pb.Policy(), MODEL) == Policy()
    given = parse_policy(pb.Policy(target_savings=0, min_savings=0, quality_floor=0, always=True), MODEL)
    assert given == Policy(target_savings=0.0, min_savings=0.0, quality_floor=0, always=True)


def test_a_session_takes_limits_and_content_from_its_opening() -> None:
    opening = pb.SessionOpen(
        codec=pb.CODEC_H264, content=pb.CONTENT_SCREEN, max_profile=pb.H264_PROFILE_CONSTRAINED_BASELINE, max_level=31
    )
    assert parse_open(opening, MODEL) == transcoder.Session(Codec.H264, Policy(), Limits(1, 31), screen=True)


@pytest.mark.parametrize(
    ("width", "height", "served"),
    [(1920, 1080, True), (1080, 1920, True), (2560, 1440, False), (16, 640, False), (0, 0, True)],
)
def test_sizes_out_of_bounds_are_unsupported_from_the_start(width: int, height: int, served: bool) -> None:
    answer = parse_open(pb.SessionOpen(codec=pb.CODEC_H264, width=width, height=height), MODEL)
    assert isinstance(answer, str) is not served


def test_an_unknown_codec_number_is_unsupported_not_an_error() -> None:
    assert "77" in str(parse_open(pb.SessionOpen(codec=77), MODEL))  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", [pb.Policy(quality_level=11), pb.Policy(min_savings=2), pb.Policy(model="x")])
def test_policies_out_of_range_are_the_clients_fault(policy: pb.Policy) -> None:
    with pytest.raises(BadRequestError):
        parse_policy(policy, MODEL)


def test_another_major_version_of_the_protocol_is_refused_and_a_newer_minor_is_not() -> None:
    check_protocol("1.0")
    check_protocol("1.7")
    with pytest.raises(BadRequestError, match=r"2\.0"):
        check_protocol("2.0")


def test_a_model_that_is_not_here_is_unsupported_not_an_error() -> None:
    """A policy may name any; an error would count against this server for all its streams."""
    opening = pb.SessionOpen(codec=pb.CODEC_H264, policy=pb.Policy(model="nonsense-1.0.0"))
    assert "nonsense-1.0.0" in str(parse_open(opening, MODEL))


@pytest.mark.parametrize("opening", [{"max_fps": 4_000_000_000}, {"session_id": "x" * 600}, {"group_id": "x" * 600}])
def test_an_opening_that_would_take_all_room_is_refused(opening: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError, match=r"at most|up to"):
        parse_open(pb.SessionOpen(codec=pb.CODEC_H264, **opening), MODEL)
