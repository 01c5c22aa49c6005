"""Both kinds as typed classes: `crdgen` writes the CRDs from them, `reconcile` parses what the API server hands out.

Bounds are on everything, so that the API server can price each CEL rule. Objects with defaulted fields default to
themselves written out, because a rule over a literal `{}` default gets the CRD refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

GROUP, VERSION = "auralink.io", "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
MAX_POLICIES = 64

JsonSchema = dict[str, Any]
_T = TypeVar("_T", bound=BaseModel)


def rule(expression: str, message: str, field: str = "") -> JsonSchema:
    """One CEL rule; the message names the field and the remedy, because it is all that a user sees."""
    written = {"rule": expression, "message": message, "reason": "FieldValueInvalid"}
    return {**written, "fieldPath": field} if field else written


def _cel(*rules: JsonSchema, **more: Any) -> JsonSchema:
    return {"x-kubernetes-validations": list(rules), **more}


def _list_map(*keys: str) -> JsonSchema:
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


_SET: JsonSchema = {"x-kubernetes-list-type": "set"}


class Model(BaseModel):
    """Names are camelCase outside and snake_case inside; values never change once parsed."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    def written_out(self) -> dict[str, Any]:
        """The value as in a resource, defaults included."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


Text63 = Annotated[str, Field(max_length=63)]
Name253 = Annotated[str, Field(min_length=1, max_length=253)]
SecretName = Annotated[Name253, Field(pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")]
Percent = Annotated[int, Field(ge=0, le=100)]
Saving = Annotated[int, Field(ge=0, le=90)]
Quality = Annotated[int, Field(ge=1, le=10)]
Label = Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
RoomName = Annotated[str, Field(min_length=1, max_length=64)]
Address = Annotated[
    str,
    Field(
        max_length=260,
        pattern=r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?):[0-9]{1,5}$",
        description="host:port; an IPv6 host stands in brackets",
        json_schema_extra=_cel(
            # Beside the pattern, whose message is the pattern.
            rule(
                "self.matches('^.+:[0-9]{1,5}$') && int(self.substring(self.lastIndexOf(':') + 1)) >= 1"
                " && int(self.substring(self.lastIndexOf(':') + 1)) <= 65535",
                "an address is host:port with a port from 1 to 65535; an IPv6 host stands in brackets: write it so",
            )
        ),
    ),
]
Labels = Annotated[
    dict[str, Text63],
    Field(
        max_length=16,
        json_schema_extra=_cel(rule("self.all(k, k.size() <= 63)", "keys have up to 63 characters: shorten it")),
    ),
]


class LogLevel(StrEnum):
    DEBUG = "Debug"
    INFO = "Info"
    WARNING = "Warning"
    ERROR = "Error"


class Direction(StrEnum):
    BOTH = "Both"
    RECEIVE = "Receive"
    SEND = "Send"


class Codec(StrEnum):
    H264 = "H264"
    OPUS = "Opus"


class Feedback(StrEnum):
    NONE = "None"
    AVPF = "AVPF"


class Mode(StrEnum):
    DISABLED = "Disabled"
    AUTO = "Auto"
    ALWAYS = "Always"


class SecretKey(Model):
    name: Annotated[SecretName, Field(description="Secret in the namespace of the bridge")]
    key: Annotated[Name253, Field(pattern=r"^[-._a-zA-Z0-9]+$", description="key in that Secret")]


class Payload(Model):
    type: Annotated[int, Field(ge=0, le=127, description="RTP payload type")]
    codec: Codec
    fmtp: Annotated[str, Field(max_length=256, description="as in SDP a=fmtp, e.g. sprop-stereo=1")] | None = None


class Medium(Model):
    model_config = ConfigDict(
        json_schema_extra=_cel(
            rule(
                "has(self.listenPort) || has(self.remote)",
                "a medium needs listenPort (where the bridge receives) or remote (where it sends): set one of them",
            )
        )
    )
    payloads: Annotated[tuple[Payload, ...], Field(min_length=1, max_length=4, json_schema_extra=_list_map("type"))]
    listen_port: (
        Annotated[int, Field(ge=1024, le=65534, description="UDP port on which the bridge receives this medium")] | None
    ) = None
    remote: Annotated[Address, Field(description="peer that gets this medium, host:port")] | None = None


_VIDEO_ONLY = _cel(
    rule("self.payloads.all(p, p.codec != 'Opus')", "video.payloads: Opus is an audio codec; put it under audio")
)
_AUDIO_ONLY = _cel(
    rule("self.payloads.all(p, p.codec == 'Opus')", "audio.payloads: only Opus is audio; put video codecs under video")
)


class Rtp(Model):
    model_config = ConfigDict(
        json_schema_extra=_cel(
            rule("has(self.video) || has(self.audio)", "rtp needs video or audio: describe at least one medium")
        )
    )
    video: Annotated[Medium, Field(json_schema_extra=_VIDEO_ONLY)] | None = None
    audio: Annotated[Medium, Field(json_schema_extra=_AUDIO_ONLY)] | None = None
    rtcp_mux: Annotated[bool, Field(description="RTCP on the RTP port; else on the next one")] = False
    feedback: Annotated[Feedback, Field(description="AVPF: the peer takes NACK and PLI")] = Feedback.NONE
    extension_id: Annotated[int, Field(ge=1, le=14, description="id of the header extension on video")] = 14

    def media(self) -> tuple[Medium, ...]:
        return tuple(medium for medium in (self.video, self.audio) if medium)


class Leg(Model):
    model_config = ConfigDict(
        json_schema_extra=_cel(
            rule(
                "self.direction != 'Receive' || ((!has(self.rtp.video) || has(self.rtp.video.listenPort))"
                " && (!has(self.rtp.audio) || has(self.rtp.audio.listenPort)))",
                "a leg with direction Receive needs listenPort on each medium: set it, or change direction",
                ".rtp",
            )
        )
    )
    name: Label
    direction: Annotated[Direction, Field(description="seen from the bridge")] = Direction.BOTH
    rtp: Rtp


class Room(Model):
    name: RoomName
    labels: Labels = {}
    legs: Annotated[tuple[Leg, ...], Field(min_length=2, max_length=4, json_schema_extra=_list_map("name"))]

    def listen_ports(self) -> tuple[int, ...]:
        """UDP ports of the room, in order: RTP, and the next one for RTCP where it has its own."""
        ports: set[int] = set()
        for leg in self.legs:
            for medium in leg.rtp.media():
                if medium.listen_port is not None:
                    ports |= {medium.listen_port} if leg.rtp.rtcp_mux else {medium.listen_port, medium.listen_port + 1}
        return tuple(sorted(ports))


class Breaker(Model):
    failures: Annotated[int, Field(ge=1, le=100, description="failures in a row that open it")] = 5
    open_seconds: Annotated[int, Field(ge=1, le=3600, description="how long before it tries one frame again")] = 60


class AICore(Model):
    addresses: (
        Annotated[
            tuple[Address, ...],
            Field(min_length=1, max_length=4, json_schema_extra=_SET, description="unset: the operator's AI Core"),
        ]
        | None
    ) = None
    tls_secret_name: (
        Annotated[SecretName, Field(description="Secret with ca.crt and, for mutual TLS, tls.crt and tls.key")] | None
    ) = None
    timeout_ms: Annotated[int, Field(ge=5, le=1000, description="deadline per frame, milliseconds")] = 100
    breaker: Breaker = Breaker()


class Compression(Model):
    mode: Mode = Mode.AUTO
    target_savings_percent: Annotated[Saving, Field(description="bytes to save")] = 40
    min_savings_percent: Annotated[Saving, Field(description="below this Auto sends the native stream")] = 15
    quality_level: Annotated[Quality, Field(description="10 keeps the most quality")] = 7
    quality_floor: Annotated[Percent, Field(description="VMAF that compression must not fall below")] = 80
    model: Annotated[Text63, Field(description="compression model; empty: the AI Core's default")] = ""


class Api(Model):
    token_ref: Annotated[SecretKey, Field(description="bearer token of the pod's API")] | None = None


class Drain(Model):
    timeout_seconds: Annotated[int, Field(ge=0, le=86400, description="how long a leaving pod waits for sessions")] = (
        3600
    )
    propagation_seconds: Annotated[int, Field(ge=0, le=60, description="how long a leaving pod still takes media")] = 5


Quantities = Annotated[
    dict[str, str | int],
    Field(
        max_length=16,
        json_schema_extra={
            "additionalProperties": {
                "anyOf": [{"type": "integer"}, {"type": "string"}],
                "pattern": r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$",
                "x-kubernetes-int-or-string": True,
            }
        },
    ),
]


class Resources(Model):
    requests: Quantities = {"cpu": "500m", "memory": "512Mi"}
    limits: Quantities = {"memory": "1Gi"}


class BridgeSpec(Model):
    suspend: Annotated[bool, Field(description="look and report, change nothing")] = False
    region: Text63 = ""
    environment: Text63 = ""
    log_level: LogLevel = LogLevel.INFO
    rooms: Annotated[tuple[Room, ...], Field(max_length=128, json_schema_extra=_list_map("name"))] = ()
    ai_core: AICore = AICore()
    compression: Compression = Compression()
    api: Api = Api()
    replicas: Annotated[int, Field(ge=0, le=100, description="pods; absent: 1")] | None = None
    drain: Drain = Drain()
    pod_disruption_budget: bool = True
    image: Annotated[str, Field(max_length=512, description="data-plane image; empty: the operator's")] = ""
    resources: Resources = Resources()

    def wanted_replicas(self) -> int:
        return 1 if self.replicas is None else self.replicas


class PolicyRooms(Model):
    names: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=64)], ...],
        Field(min_length=1, max_length=64, json_schema_extra=_SET, description="globs on room names"),
    ] = ("*",)
    labels: Annotated[Labels, Field(description="labels that a room must have, as well as a name that fits")] = {}


class PolicyCompression(Model):
    """No field has a default: what a policy does not set is left to the next one, and last to the bridge."""

    mode: Mode | None = None
    target_savings_percent: Saving | None = None
    min_savings_percent: Saving | None = None
    quality_level: Quality | None = None
    quality_floor: Percent | None = None
    model: Text63 | None = None
    rooms_percent: (
        Annotated[Percent, Field(description="share of rooms, always the same ones, that get it; absent: 100")] | None
    ) = None


class BridgeSelector(Model):
    match_labels: Labels = {}


_EFFECTS = ("mode", "targetSavingsPercent", "minSavingsPercent", "qualityLevel", "qualityFloor", "model")


class PolicySpec(Model):
    model_config = ConfigDict(
        json_schema_extra=_cel(
            rule(
                "has(self.compression) && (" + " || ".join(f"has(self.compression.{name})" for name in _EFFECTS) + ")",
                f"a policy needs an effect: set at least one of compression.{{{', '.join(_EFFECTS)}}}",
            )
        )
    )
    bridge_selector: Annotated[BridgeSelector, Field(description="absent: every bridge of the namespace")] | None = None
    rooms: PolicyRooms = PolicyRooms()
    priority: Annotated[int, Field(ge=-1000, le=1000, description="higher wins")] = 0
    compression: PolicyCompression | None = None


@dataclass(frozen=True, slots=True)
class Meta:
    name: str
    namespace: str
    uid: str
    generation: int
    created: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Bridge:
    meta: Meta
    spec: BridgeSpec


@dataclass(frozen=True, slots=True)
class RoomPolicy:
    meta: Meta
    spec: PolicySpec


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """One policy as pods get it: the fields it sets, and for the bridge's status what it lost to whom."""

    name: str
    priority: int
    generation: int
    rooms: Mapping[str, Any]
    compression: Mapping[str, Any]
    overridden: tuple[str, ...] = ()

    def rendered(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "priority": self.priority,
            "rooms": dict(self.rooms),
            "compression": dict(self.compression),
        }


@dataclass(frozen=True, slots=True)
class Compiled:
    policies: tuple[CompiledPolicy, ...] = ()
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod and what it reports about itself; `entry` is empty until its first report."""

    name: str
    uid: str
    ip: str
    node: str
    ready: bool
    deleting: bool
    entry: Mapping[str, Any]

    @property
    def serving(self) -> bool:
        return self.ready and not self.deleting and self.entry.get("phase") == "Serving"

    @property
    def acked(self) -> int:
        return int(self.entry.get("configGeneration") or 0)


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
    """What is wrong with a bridge that its schema lets through: two sockets on one port."""
    users: dict[int, str] = {}
    found: list[str] = []
    for room in bridge.spec.rooms:
        for leg in room.legs:
            for kind, medium in (("video", leg.rtp.video), ("audio", leg.rtp.audio)):
                if medium is None or medium.listen_port is None:
                    continue
                user = f"room {room.name}, leg {leg.name}, {kind}"
                for port in (medium.listen_port,) if leg.rtp.rtcp_mux else (medium.listen_port, medium.listen_port + 1):
                    if port in users:
                        found.append(
                            f"UDP port {port} is used by {users[port]} and by {user}: change one listenPort"
                            " (RTCP takes the next port unless rtcpMux is set)"
                        )
                    users.setdefault(port, user)
    return found


def pod_views(pods: Sequence[Mapping[str, Any]], status: Mapping[str, Any]) -> tuple[PodView, ...]:
    """Pods joined with their entries in `status.pods`: an entry counts only with the name and uid of a live pod."""
    reported = {(entry.get("name"), entry.get("uid")): entry for entry in status.get("pods") or ()}
    views = []
    for pod in pods:
        meta, state = pod["metadata"], pod.get("status") or {}
        if state.get("phase") in ("Succeeded", "Failed"):
            continue
        ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in state.get("conditions") or ())
        views.append(
            PodView(
                name=meta["name"],
                uid=meta["uid"],
                ip=state.get("podIP") or "",
                node=(pod.get("spec") or {}).get("nodeName") or "",
                ready=ready,
                deleting="deletionTimestamp" in meta,
                entry=reported.get((meta["name"], meta["uid"]), {}),
            )
        )
    return tuple(views)
