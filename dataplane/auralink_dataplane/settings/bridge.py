"""The bridge, in the custom resource's schema: what pods take without a restart. The same in both sources."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass

from auralink_dataplane.policy import CAMEL, Compression
from auralink_dataplane.settings.addresses import Address, HttpUrl, ServerUrl, WebSocketUrl

T = TypeVar("T")

Direction = Literal["Both", "Receive", "Send"]
LogLevel = Literal["Debug", "Info", "Warning", "Error"]
DrainStrategy = Literal["Handover", "Wait"]
Codec = Literal["H264", "VP8", "VP9", "H265", "AV1", "Opus"]
IN_BAND = ("H264", "H265", "AV1")
"""Codecs whose bitstream has a place for what others wish to say."""

SecretName = Annotated[str, Field(max_length=253, pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")]
"""Also the name of the folder that it is mounted at, so it must not lead out of there."""
Label = Annotated[str, Field(max_length=32, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
ShortText = Annotated[str, Field(max_length=63)]
HostName = Annotated[str, Field(min_length=1, max_length=253)]


@dataclass(frozen=True, slots=True, config=CAMEL)
class SecretRef:
    name: SecretName
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]


# --- rooms --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, config=CAMEL)
class Payload:
    type: Annotated[int, Field(ge=0, le=127)]
    codec: Codec
    fmtp: Annotated[str, Field(max_length=256)] | None = None
    rtx_type: Annotated[int, Field(ge=0, le=127)] | None = None
    red_type: Annotated[int, Field(ge=0, le=127)] | None = None

    def __post_init__(self) -> None:
        if self.rtx_type is not None and self.codec == "Opus":
            raise ValueError("audio is not retransmitted: remove rtxType")
        if self.red_type is not None and self.codec != "Opus":
            raise ValueError("RED is for Opus: remove redType")

    @property
    def types(self) -> tuple[int, ...]:
        """All payload types that belong to it."""
        return tuple(one for one in (self.type, self.rtx_type, self.red_type) if one is not None)


@dataclass(frozen=True, slots=True, config=CAMEL)
class MediumSpec:
    payloads: Annotated[tuple[Payload, ...], Field(min_length=1, max_length=4)]
    listen_port: Annotated[int, Field(ge=1024, le=65534)] | None = None
    remote: Address | None = None

    def __post_init__(self) -> None:
        if self.listen_port is None and self.remote is None:
            raise ValueError("set listenPort (where media comes in), remote (where it goes) or both")
        if repeated := _repeated(one for payload in self.payloads for one in payload.types):
            raise ValueError(f"payload type {repeated[0]} is given twice: each type stands for one thing")


@dataclass(frozen=True, slots=True, config=CAMEL)
class SrtpSpec:
    suite: Literal["AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM"]
    key_ref: SecretRef
    send_key_ref: SecretRef | None = None


@dataclass(frozen=True, slots=True, config=CAMEL)
class ExtensionSpec:
    id: Annotated[int, Field(ge=1, le=255)]
    uri: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[!-~]+$")]


@dataclass(frozen=True, slots=True, config=CAMEL)
class RtpSpec:
    video: MediumSpec | None = None
    audio: MediumSpec | None = None
    rtcp_mux: bool = False
    feedback: Literal["None", "AVPF"] = "None"
    extension_id: Annotated[int, Field(ge=1, le=14)] = 14
    carrier: Literal["None", "InBand"] = "None"
    extensions: Annotated[tuple[ExtensionSpec, ...], Field(max_length=8)] = ()
    srtp: SrtpSpec | None = None

    def __post_init__(self) -> None:
        if not self.media:
            raise ValueError("set video, audio or both")
        for name, medium in self.media.items():
            for codec in (payload.codec for payload in medium.payloads):
                if (codec == "Opus") != (name == "audio"):
                    raise ValueError(f"{codec} is not a codec for {name}: move the payload to the other medium")
        if self.feedback != "AVPF" and any(
            one.rtx_type is not None for one in (self.video.payloads if self.video else ())
        ):
            raise ValueError(
                "nobody asks for retransmissions without feedback: set feedback to AVPF, or remove rtxType"
            )
        if self.carrier == "InBand" and not any(
            one.codec in IN_BAND for one in (self.video.payloads if self.video else ())
        ):
            raise ValueError(
                f"only {', '.join(IN_BAND)} carry the extension in band: set carrier to None, or give video one of them"
            )
        if 15 in (one.id for one in self.extensions):
            raise ValueError("extensions: id 15 is reserved (RFC 8285): choose another")
        if repeated := _repeated((self.extension_id, *(one.id for one in self.extensions))):
            raise ValueError(f"header extension id {repeated[0]} is given twice: each stands for one URI")
        if same := _repeated(one.uri for one in self.extensions):
            raise ValueError(f"header extension {same[0]} is given twice: each URI has one id")

    @property
    def media(self) -> dict[str, MediumSpec]:
        return {name: spec for name, spec in (("video", self.video), ("audio", self.audio)) if spec}


@dataclass(frozen=True, slots=True, config=CAMEL)
class LegSpec:
    """Plain RTP, or a room of an endpoint."""

    name: Label
    rtp: RtpSpec | None = None
    direction: Direction = "Both"
    endpoint: Annotated[str, Field(max_length=32)] | None = None
    room: Annotated[str, Field(max_length=128)] | None = None

    def __post_init__(self) -> None:
        if (self.rtp is None) == (self.endpoint is None):
            raise ValueError("set either rtp or endpoint")
        if self.room is not None and self.endpoint is None:
            raise ValueError("room is of endpoint legs only: remove it")

    @property
    def receives(self) -> bool:
        """Media comes in here; directions are seen from the bridge."""
        return self.direction != "Send"

    @property
    def sends(self) -> bool:
        return self.direction != "Receive"

    @property
    def both_ways(self) -> bool:
        return self.sends and self.receives

    @property
    def media(self) -> dict[str, MediumSpec]:
        """Of a plain-RTP leg; an endpoint's are negotiated."""
        return self.rtp.media if self.rtp else {}


@dataclass(frozen=True, slots=True, config=CAMEL)
class RoomSpec:
    name: Annotated[str, Field(min_length=1, max_length=64)]
    legs: Annotated[tuple[LegSpec, ...], Field(min_length=2, max_length=4)]
    labels: Annotated[Mapping[str, str], Field(max_length=16)] = Field(default_factory=dict)
    glob: Annotated[str, Field(min_length=1, max_length=64)] | None = None

    def __post_init__(self) -> None:
        if repeated := _repeated(leg.name for leg in self.legs):
            raise ValueError(f'leg name "{repeated[0]}" is given twice: rename one')
        if self.glob is not None and any(leg.rtp for leg in self.legs):
            raise ValueError("glob is for rooms of endpoint legs only: a plain-RTP leg is one room")

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Those that its legs are rooms of; none makes it an rtp room, which the operator assigns to a pod."""
        return tuple(leg.endpoint for leg in self.legs if leg.endpoint is not None)

    def unserved(self) -> str | None:
        """What this version does not do for the room, which then stays closed rather than be served by half."""
        for leg in self.legs:
            if leg.endpoint is not None:
                return f"leg {leg.name}: this version does not bridge rooms of endpoints"
        return None


# --- services -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, config=CAMEL)
class JwtSpec:
    app_id: Annotated[str, Field(min_length=1, max_length=63)]
    key_ref: SecretRef


@dataclass(frozen=True, slots=True, config=CAMEL)
class JitsiSpec:
    xmpp_url: WebSocketUrl
    domain: HostName
    muc_domain: HostName | None = None
    jwt: JwtSpec | None = None
    event_token_ref: SecretRef | None = None
    census_url: HttpUrl | None = None


@dataclass(frozen=True, slots=True, config=CAMEL)
class LiveKitSpec:
    url: ServerUrl
    api_key_ref: SecretRef
    api_secret_ref: SecretRef
    webhooks: bool = True


@dataclass(frozen=True, slots=True, config=CAMEL)
class EndpointSpec:
    name: Label
    type: Literal["Jitsi", "LiveKit"]
    jitsi: JitsiSpec | None = None
    livekit: Annotated[LiveKitSpec | None, Field(alias="livekit")] = None

    def __post_init__(self) -> None:
        if (self.jitsi is not None, self.livekit is not None) != (self.type == "Jitsi", self.type == "LiveKit"):
            raise ValueError(f"an endpoint of type {self.type} needs the section {self.type.lower()}, and no other")


@dataclass(frozen=True, slots=True, config=CAMEL)
class BreakerSpec:
    failures: Annotated[int, Field(ge=1, le=100)] = 5
    open_seconds: Annotated[int, Field(ge=1, le=3600)] = 60


@dataclass(frozen=True, slots=True, config=CAMEL)
class AiCoreSpec:
    addresses: Annotated[tuple[Address, ...], Field(max_length=4)] = ()
    failover: Literal["None", "Standby"] = "None"
    tls_secret_name: SecretName | None = None
    timeout_ms: Annotated[int, Field(ge=5, le=1000)] = 100
    breaker: BreakerSpec = Field(default_factory=BreakerSpec)


@dataclass(frozen=True, slots=True, config=CAMEL)
class RedisSpec:
    addresses: Annotated[tuple[Address, ...], Field(min_length=1, max_length=8)]
    topology: Literal["Standalone", "Sentinel", "Cluster"] = "Standalone"
    master: ShortText = ""
    database: Annotated[int, Field(ge=0, le=15)] = 0
    user: ShortText = ""
    password_ref: SecretRef | None = None
    tls: bool = False
    ca_ref: SecretRef | None = None


@dataclass(frozen=True, slots=True, config=CAMEL)
class PostgresSpec:
    address: Address
    password_ref: SecretRef
    database: ShortText = "auralink"
    user: ShortText = "auralink"
    tls: bool = False
    ca_ref: SecretRef | None = None


@dataclass(frozen=True, slots=True, config=CAMEL)
class DashboardSpec:
    url: HttpUrl
    api_key_ref: SecretRef | None = None


@dataclass(frozen=True, slots=True, config=CAMEL)
class CommunicationSpec:
    url: HttpUrl
    token_ref: SecretRef | None = None


@dataclass(frozen=True, slots=True, config=CAMEL)
class ApiSpec:
    token_ref: SecretRef | None = None


@dataclass(frozen=True, slots=True, config=CAMEL)
class DrainSpec:
    """The times are the process's own, in its environment: they are part of the pod."""

    strategy: DrainStrategy = "Handover"


@dataclass(frozen=True, slots=True, config=CAMEL)
class BridgeSpec:
    region: ShortText = ""
    environment: ShortText = ""
    log_level: LogLevel = "Info"
    endpoints: Annotated[tuple[EndpointSpec, ...], Field(max_length=8)] = ()
    rooms: Annotated[tuple[RoomSpec, ...], Field(max_length=128)] = ()
    ai_core: AiCoreSpec = Field(default_factory=AiCoreSpec)
    compression: Compression = Field(default_factory=Compression)
    redis: RedisSpec | None = None
    postgres: PostgresSpec | None = None
    dashboard: DashboardSpec | None = None
    communication: CommunicationSpec | None = None
    api: ApiSpec = Field(default_factory=ApiSpec)
    drain: DrainSpec = Field(default_factory=DrainSpec)

    def __post_init__(self) -> None:
        if repeated := _repeated(room.name for room in self.rooms):
            raise ValueError(f'room name "{repeated[0]}" is given twice: rename one')
        if repeated := _repeated(endpoint.name for endpoint in self.endpoints):
            raise ValueError(f'endpoint name "{repeated[0]}" is given twice: rename one')
        known = {endpoint.name for endpoint in self.endpoints}
        if unknown := sorted({name for room in self.rooms for name in room.endpoints} - known):
            raise ValueError(f'a leg names the endpoint "{unknown[0]}", which is not in endpoints: add it there')
        if clash := _repeated(_ports(self.rooms)):
            raise ValueError(f"UDP port {clash[0]} is used twice (RTP or, without rtcpMux, RTCP on the port after it)")

    @property
    def without_user(self) -> tuple[str, ...]:
        """Sections that were checked but that nothing in this version uses."""
        return tuple(name for name in ("redis", "postgres", "dashboard", "communication") if getattr(self, name))


def secret_refs(value: Any, path: str = "") -> Iterator[tuple[str, SecretRef]]:
    """Every reference to a Secret's key inside a specification, with where it stands: ("redis.passwordRef", ..)."""
    if isinstance(value, SecretRef):
        yield path, value
    elif is_dataclass(value):
        for field in fields(value):
            part = to_camel(field.name)
            yield from secret_refs(getattr(value, field.name), f"{path}.{part}" if path else part)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from secret_refs(item, f"{path}[{getattr(item, 'name', index)}]")


def _ports(rooms: Iterable[RoomSpec]) -> Iterator[int]:
    for rtp in (leg.rtp for room in rooms for leg in room.legs if leg.rtp):
        for port in (spec.listen_port for spec in rtp.media.values() if spec.listen_port):
            yield port
            if not rtp.rtcp_mux:
                yield port + 1


def _repeated(values: Iterable[T]) -> list[T]:
    return [value for value, count in Counter(values).items() if count > 1]
