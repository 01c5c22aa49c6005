"""What a client may ask for: the words a session begins with, and policies. Pure: bounds are checked here, once."""

from enum import Enum, auto
from typing import Any

from auralink_pb.aicore.v1 import aicore_pb2 as pb

from auralink_aicore.codecs import MAX_PIXELS, MIN_SIDE, SERVED, Codec, Limits
from auralink_aicore.controller import Policy
from auralink_aicore.transcoder import Session

PROTOCOL_MINOR = 0
NAME_LIMIT = 512  # characters; a pod, a room and two numbers
FPS_LIMIT = 240  # a session of more would fill a worker by its own word


class Fault(Enum):
    """How a call ends; the names are gRPC's."""

    INVALID_ARGUMENT = auto()
    FAILED_PRECONDITION = auto()
    RESOURCE_EXHAUSTED = auto()
    DEADLINE_EXCEEDED = auto()
    INTERNAL = auto()
    UNAVAILABLE = auto()


class BadRequestError(ValueError):
    """The client broke the protocol; its call ends with this."""

    def __init__(self, text: str, fault: Fault = Fault.INVALID_ARGUMENT) -> None:
        super().__init__(text)
        self.fault = fault


def check_protocol(version: str) -> None:
    """Raises BadRequestError for a caller of another major version; minor ones only add."""
    if version.split(".")[0] != "1":
        text = f"protocol {version} is not spoken here, 1.{PROTOCOL_MINOR} is"
        raise BadRequestError(text, Fault.FAILED_PRECONDITION)


def parse_open(request: pb.SessionOpen, model: str) -> Session | str:
    """The session asked for, or why this kind of stream is not served. `model`: the id of the one in use.

    Raises BadRequestError.
    """
    if request.codec == pb.CODEC_UNSPECIFIED:
        raise BadRequestError("open needs a codec")
    if max(len(request.session_id), len(request.group_id)) > NAME_LIMIT:
        raise BadRequestError(f"session_id and group_id have at most {NAME_LIMIT} characters")
    if request.max_fps > FPS_LIMIT:
        raise BadRequestError(f"max_fps is {request.max_fps}, allowed are up to {FPS_LIMIT}; 0 is unknown")
    name = pb.Codec.Name(request.codec).removeprefix("CODEC_") if request.codec in pb.Codec.values() else request.codec
    if request.codec not in {int(codec) for codec in SERVED}:
        return f"codec {name} is not served by this AI Core"
    width, height = request.width, request.height
    if width and height and (min(width, height) < MIN_SIDE or width * height > MAX_PIXELS):
        return f"pictures of {width}x{height} are not served"
    if request.policy.model not in ("", model):
        return f"model {request.policy.model!r} is not here, {model!r} is"
    return Session(
        codec=Codec(request.codec),
        policy=parse_policy(request.policy, model),
        limits=Limits(int(request.max_profile), request.max_level),
        screen=request.content == pb.CONTENT_SCREEN,
    )


def parse_policy(policy: pb.Policy, model: str) -> Policy:
    """Unset fields are the defaults. `model`: the id of the one in use. Raises BadRequestError."""
    optional = (
        "target_savings",
        "min_savings",
        "quality_level",
        "quality_floor",
        "latency_budget_ms",
        "max_bitrate_bps",
    )
    given: dict[str, Any] = {name: getattr(policy, name) for name in optional if policy.HasField(name)}  # type: ignore[arg-type]
    if policy.model not in ("", model):
        raise BadRequestError(f"model {policy.model!r} is not here, {model!r} is")
    try:
        return Policy(always=policy.always, **given)
    except ValueError as error:
        raise BadRequestError(str(error)) from error
