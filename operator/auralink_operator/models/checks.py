"""Parses what the API server hands out, and finds what is wrong with a bridge that its schema lets through."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from auralink_operator.models.bridge import Bridge, BridgeSpec
from auralink_operator.models.policy import PolicySpec, RoomPolicy
from auralink_operator.models.reserved import reserved
from auralink_operator.models.rooms import Room
from auralink_operator.models.schema import Meta

_T = TypeVar("_T", bound=BaseModel)


class InvalidSpecError(ValueError):
    """The user's to fix: a spec that an older CRD let in, or one that no schema can refuse."""


def meta_of(obj: Mapping[str, Any]) -> Meta:
    meta = obj["metadata"]
    return Meta(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        generation=int(meta.get("generation") or 0),
        created=meta.get("creationTimestamp") or "",
        labels=meta.get("labels") or {},
        annotations=meta.get("annotations") or {},
        status=obj.get("status") or {},
    )


def parse_bridge(obj: Mapping[str, Any]) -> Bridge:
    return Bridge(meta_of(obj), _parse(BridgeSpec, obj))


def parse_policy(obj: Mapping[str, Any]) -> RoomPolicy:
    return RoomPolicy(meta_of(obj), _parse(PolicySpec, obj))


def _parse(model: type[_T], obj: Mapping[str, Any]) -> _T:
    try:
        return model.model_validate(obj.get("spec") or {})
    except ValidationError as error:
        found = (
            "spec"
            + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"])
            + ": "
            + item["msg"]
            for item in error.errors()
        )
        raise InvalidSpecError("; ".join(list(found)[:5])) from error


def check(bridge: Bridge) -> list[str]:
    """What is wrong with a bridge that its schema lets through, each with the way out."""
    return [
        *_shared_ports(bridge.spec),
        *(problem for room in bridge.spec.rooms for problem in _circles(room)),
        *reserved(bridge.spec.pod.template or {}),
    ]


def _shared_ports(spec: BridgeSpec) -> Iterator[str]:
    """Two sockets on one UDP port: any room may come to any pod, so ports are one space for all rooms."""
    users: dict[int, str] = {}
    for room in spec.rooms:
        for leg in room.legs:
            for kind, medium in leg.media:
                user = f"room {room.name}, leg {leg.name}, {kind}"
                for port in leg.ports(medium):
                    if port in users:
                        yield (
                            f"UDP port {port} is used by {users[port]} and by {user}: change one listenPort"
                            " (RTCP takes the next port unless rtcpMux is set)"
                        )
                    users.setdefault(port, user)


def _circles(room: Room) -> Iterator[str]:
    """Two legs into one conference: whatever is said there would come back."""
    seen: dict[tuple[str, str], str] = {}
    for leg in room.legs:
        if leg.endpoint is None:
            continue
        there = (leg.room or "{room}") if room.glob else (leg.room or "{room}").replace("{room}", room.name)
        other = seen.setdefault((leg.endpoint, there), leg.name)
        if other != leg.name:
            yield (
                f"room {room.name}: legs {other} and {leg.name} lead to the same room {there} of endpoint"
                f" {leg.endpoint}: change room or endpoint of one of them"
            )
