"""What a pod is told: who it is, and the bridge it serves. One model, two sources.

In Kubernetes the environment says who the pod is and names the ConfigMap that the operator keeps (`parse_documents`).
Elsewhere `auralink.conf` says both, with the bridge in the custom resource's own schema under `auralink.bridge`. Every
error is reported at once, with its path and what to do. Only `__main__` reads files and the environment; `app` calls
`parse_documents` again whenever the ConfigMap changes.
"""

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, Final, Literal, TypeVar, cast

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pyhocon import ConfigFactory
from pyhocon.exceptions import ConfigException
from pyparsing import ParseBaseException

from auralink_dataplane.policy import CAMEL, Compression, Policy

T = TypeVar("T")
_FILE: Final = ConfigDict(extra="forbid")

Direction = Literal["Both", "Receive", "Send"]
Medium = Literal["video", "audio"]
LogLevel = Literal["Debug", "Info", "Warning", "Error"]


class ConfigError(Exception):
    """The user's configuration cannot be used; every reason is in `errors`, "path: what is wrong and what to do"."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


def split_address(address: str) -> tuple[str, int]:
    """ "host:port", "[v6]:port". Raises ValueError."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f'write it as "host:port", not "{address}"')
    if ":" in host:
        ipaddress.IPv6Address(host)
    return host, int(port)


def _address(value: str) -> str:
    split_address(value)
    return value


Address = Annotated[str, Field(max_length=260), AfterValidator(_address)]
SecretName = Annotated[str, Field(max_length=253, pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")]
"""Also the name of the folder that it is mounted at, so it must not lead out of there."""
Label = Annotated[str, Field(max_length=32, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]

# --- the bridge, in the custom resource's schema ------------------------------------------------------------


@dataclass(frozen=True, slots=True, config=CAMEL)
class Payload:
    type: Annotated[int, Field(ge=0, le=127)]
    codec: Literal["H264", "Opus"]
    fmtp: Annotated[str, Field(max_length=256)] | None = None


@dataclass(frozen=True, slots=True, config=CAMEL)
class MediumSpec:
    payloads: Annotated[tuple[Payload, ...], Field(min_length=1, max_length=4)]
    listen_port: Annotated[int, Field(ge=1024, le=65534)] | None = None
    remote: Address | None = None

    def __post_init__(self) -> None:
        if self.listen_port is None and self.remote is None:
            raise ValueError("set listenPort (where media comes in), remote (where it goes) or both")
        if repeated := _repeated(payload.type for payload in self.payloads):
            raise ValueError(f"payload type {repeated[0]} is given twice: each type names one codec")


@dataclass(frozen=True, slots=True, config=CAMEL)
class RtpSpec:
    video: MediumSpec | None = None
    audio: MediumSpec | None = None
    rtcp_mux: bool = False
    feedback: Literal["None", "AVPF"] = "None"
    extension_id: Annotated[int, Field(ge=1, le=14)] = 14

    def __post_init__(self) -> None:
        if not self.media:
            raise ValueError("set video, audio or both")
        for medium, codec in (("video", "Opus"), ("audio", "H264")):
            if medium in self.media and any(payload.codec == codec for payload in self.media[medium].payloads):
                raise ValueError(f"{codec} is not a codec for {medium}: move the payload to the other medium")

    @property
    def media(self) -> dict[str, MediumSpec]:
        return {name: spec for name, spec in (("video", self.video), ("audio", self.audio)) if spec}


@dataclass(frozen=True, slots=True, config=CAMEL)
class LegSpec:
    name: Label
    rtp: RtpSpec
    direction: Direction = "Both"

    @property
    def receives(self) -> bool:
        """Media comes in here; directions are seen from the bridge."""
        return self.direction != "Send"

    @property
    def sends(self) -> bool:
        return self.direction != "Receive"


@dataclass(frozen=True, slots=True, config=CAMEL)
class RoomSpec:
    name: Annotated[str, Field(min_length=1, max_length=64)]
    legs: Annotated[tuple[LegSpec, ...], Field(min_length=2, max_length=4)]
    labels: Annotated[Mapping[str, str], Field(max_length=16)] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        if repeated := _repeated(leg.name for leg in self.legs):
            raise ValueError(f'leg name "{repeated[0]}" is given twice: rename one')


@dataclass(frozen=True, slots=True, config=CAMEL)
class BreakerSpec:
    failures: Annotated[int, Field(ge=1, le=100)] = 5
    open_seconds: Annotated[int, Field(ge=1, le=3600)] = 60


@dataclass(frozen=True, slots=True, config=CAMEL)
class AiCoreSpec:
    addresses: Annotated[tuple[Address, ...], Field(max_length=4)] = ()
    tls_secret_name: SecretName | None = None
    timeout_ms: Annotated[int, Field(ge=5, le=1000)] = 100
    breaker: BreakerSpec = Field(default_factory=BreakerSpec)


@dataclass(frozen=True, slots=True, config=CAMEL)
class SecretRef:
    name: SecretName
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]


@dataclass(frozen=True, slots=True, config=CAMEL)
class ApiSpec:
    token_ref: SecretRef | None = None


@dataclass(frozen=True, slots=True, config=CAMEL)
class BridgeSpec:
    region: str = ""
    environment: str = ""
    log_level: LogLevel = "Info"
    rooms: Annotated[tuple[RoomSpec, ...], Field(max_length=128)] = ()
    ai_core: AiCoreSpec = Field(default_factory=AiCoreSpec)
    compression: Compression = Field(default_factory=Compression)
    api: ApiSpec = Field(default_factory=ApiSpec)

    def __post_init__(self) -> None:
        if repeated := _repeated(room.name for room in self.rooms):
            raise ValueError(f'room name "{repeated[0]}" is given twice: rename one')
        if clash := _repeated(_ports(self.rooms)):
            raise ValueError(f"UDP port {clash[0]} is used twice (RTP or, without rtcpMux, RTCP on the port after it)")


@dataclass(frozen=True, slots=True, config=CAMEL)
class BridgeConfig:
    """`config.json` of the ConfigMap."""

    version: Literal[1]
    generation: Annotated[int, Field(ge=1)]
    bridge: BridgeSpec
    policies: tuple[Policy, ...] = ()


def _ports(rooms: tuple[RoomSpec, ...]) -> Iterator[int]:
    for rtp in (leg.rtp for room in rooms for leg in room.legs):
        for port in (spec.listen_port for spec in rtp.media.values() if spec.listen_port):
            yield port
            if not rtp.rtcp_mux:
                yield port + 1


def _repeated(values: Iterator[T]) -> list[T]:
    return [value for value, count in Counter(values).items() if count > 1]


def parse_documents(data: Mapping[str, str]) -> tuple[BridgeConfig, dict[str, str]]:
    """The ConfigMap's `config.json`, and `owners.json`: which pod serves which room. Raises ConfigError."""
    errors: list[str] = []
    config = _validated(BridgeConfig, _json(data, "config.json", errors), "config.json", errors)
    owners = _validated(dict[str, str], _json(data, "owners.json", errors, default={}), "owners.json", errors)
    if errors or config is None or owners is None:
        raise ConfigError(errors)
    return config, owners


def _json(data: Mapping[str, str], name: str, errors: list[str], default: Any = None) -> Any:
    if name not in data:
        if default is None:
            errors.append(f"{name}: is missing from the ConfigMap; the operator writes it")
        return default
    try:
        return json.loads(data[name])
    except ValueError as error:
        errors.append(f"{name}: is not JSON: {error}")
        return None


# --- the pod ------------------------------------------------------------------------------------------------


@plain_dataclass(frozen=True, slots=True)
class Pod:
    """Outside Kubernetes `name` is the bridge id, and there is neither a namespace nor a uid."""

    bridge_id: str
    name: str
    namespace: str = ""
    uid: str = ""
    node: str = ""
    ip: str = ""

    @property
    def bridge(self) -> str:
        return self.bridge_id.rpartition("/")[2]


@plain_dataclass(frozen=True, slots=True)
class ApiKey:
    """LiveKit's pair. The guide's WEBRTC_API_KEY is either the key alone or "key:secret"."""

    key: str
    secret: SecretStr | None

    @classmethod
    def parse(cls, text: str) -> "ApiKey":
        key, colon, secret = text.partition(":")
        return cls(key, SecretStr(secret) if colon else None)


@plain_dataclass(frozen=True, slots=True)
class Settings:
    pod: Pod
    service_name: str
    config_map: str | None  # the Kubernetes source
    config: BridgeConfig | None  # the other source
    http_port: int
    metrics_port: int
    drain_propagation_s: int
    drain_timeout_s: int
    secrets_dir: str
    unused: tuple[str, ...] = ()
    """Sections of `auralink.conf` that were checked but have no user in this version."""


@dataclass(frozen=True, slots=True, config=_FILE)
class _Service:
    bridge_id: Annotated[str, Field(min_length=1, max_length=253)]
    name: str = "ingress-egress"
    region: str = ""
    environment: str = ""


@dataclass(frozen=True, slots=True, config=_FILE)
class _Features:
    enable_aic: bool = True
    enable_sip: bool = False
    enable_rtmp: bool = False
    enable_recording: bool = False


@dataclass(frozen=True, slots=True, config=_FILE)
class _FileCompression:
    target_savings: Annotated[float, Field(ge=0, le=0.9)] | None = None
    quality_level: Annotated[int, Field(ge=1, le=10)] | None = None


@dataclass(frozen=True, slots=True, config=_FILE)
class _AiCore:
    grpc_url: Address | None = None
    enable_compression: bool = True
    compression: _FileCompression = Field(default_factory=_FileCompression)


Url = Annotated[str, Field(max_length=512, pattern=r"^https?://[^/\s]+")]
PostgresUrl = Annotated[str, Field(max_length=512, pattern=r"^(jdbc:)?postgres(ql)?://[^/\s]+/\w+")]


@dataclass(frozen=True, slots=True, config=_FILE)
class _Dashboard:
    url: Url
    api_key: SecretStr | None = None


@dataclass(frozen=True, slots=True, config=_FILE)
class _WebrtcServer:
    url: Url
    api_key: Annotated[str, Field(min_length=1), AfterValidator(ApiKey.parse)]


@dataclass(frozen=True, slots=True, config=_FILE)
class _Database:
    url: PostgresUrl
    username: str = "auralink"
    password: SecretStr | None = None


@dataclass(frozen=True, slots=True, config=_FILE)
class _Redis:
    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 6379


@dataclass(frozen=True, slots=True, config=_FILE)
class _File:
    service: _Service
    features: _Features = Field(default_factory=_Features)
    ai_core: _AiCore = Field(default_factory=_AiCore)
    dashboard: _Dashboard | None = None
    webrtc_server: _WebrtcServer | None = None
    database: _Database | None = None
    redis: _Redis | None = None
    bridge: BridgeSpec = Field(default_factory=BridgeSpec)


_NOT_BUILT: Final = ("enable_sip", "enable_rtmp", "enable_recording")
_NO_USER_YET: Final = ("dashboard", "webrtc_server", "database", "redis")


@dataclass(frozen=True, slots=True, config=_FILE)
class _Environment:
    """Variables both sources share, by their lower-case names."""

    http_port: Annotated[int, Field(ge=1, le=65535)] = 8080
    metrics_port: Annotated[int, Field(ge=1, le=65535)] = 9090
    drain_propagation_s: Annotated[int, Field(ge=0, le=60)] = 5
    drain_timeout_s: Annotated[int, Field(ge=0, le=86400)] = 3600
    secrets_dir: str = "/etc/auralink/secrets"
    enable_aic: bool | None = None
    enable_sip: bool | None = None
    enable_rtmp: bool | None = None
    enable_recording: bool | None = None


_IN_CLUSTER: Final = ("BRIDGE_ID", "POD_NAME", "POD_UID", "POD_NAMESPACE")


def from_cluster(env: Mapping[str, str]) -> Settings:
    """The pod as the operator renders it. Raises ConfigError."""
    errors: list[str] = []
    shared = _shared(env, errors)
    errors += [f"{name}: is not set; the operator's Deployment sets it" for name in _IN_CLUSTER if not env.get(name)]
    if env.get("BRIDGE_ID") and env["BRIDGE_ID"].count("/") != 1:
        errors.append(f'BRIDGE_ID: must be "<namespace>/<bridge>" in Kubernetes, not "{env["BRIDGE_ID"]}"')
    if errors or shared is None:
        raise ConfigError(errors)
    pod = Pod(
        bridge_id=env["BRIDGE_ID"],
        name=env["POD_NAME"],
        namespace=env["POD_NAMESPACE"],
        uid=env["POD_UID"],
        node=env.get("NODE_NAME", ""),
        ip=env.get("POD_IP", ""),
    )
    return _settings(pod, "ingress-egress", shared, config_map=env["CONFIG_MAP"])


def from_file(text: str, env: Mapping[str, str]) -> Settings:
    """`auralink.conf` and the environment it refers to. Raises ConfigError."""
    errors: list[str] = []
    shared = _shared(env, errors)
    tree = _read_hocon(text, env, errors)
    unknown = sorted(set(tree) - {"auralink"})
    errors += [f"{key}: is not a section: everything stands inside auralink {{ }}" for key in unknown]
    section = tree.get("auralink", {}) if isinstance(tree, dict) else {}
    overrides = {
        name: env[name.upper()] for name in ("enable_aic", *_NOT_BUILT) if env.get(name.upper()) not in (None, "")
    }
    if overrides and isinstance(section, dict):
        section = {**section, "features": {**(section.get("features") or {}), **overrides}}
    parsed = _validated(_File, section, "auralink", errors) if tree or not errors else None
    if parsed:
        errors += _refused_features(parsed.features)
    if errors or parsed is None or shared is None:
        raise ConfigError(errors)
    pod = Pod(bridge_id=parsed.service.bridge_id, name=env.get("POD_NAME") or parsed.service.bridge_id)
    config = BridgeConfig(version=1, generation=1, bridge=_standalone_bridge(parsed, section))
    unused = tuple(name for name in _NO_USER_YET if getattr(parsed, name) is not None)
    return _settings(pod, parsed.service.name, shared, config=config, unused=unused)


def _settings(
    pod: Pod,
    service_name: str,
    shared: _Environment,
    *,
    config_map: str | None = None,
    config: BridgeConfig | None = None,
    unused: tuple[str, ...] = (),
) -> Settings:
    return Settings(
        pod=pod,
        service_name=service_name,
        config_map=config_map,
        config=config,
        http_port=shared.http_port,
        metrics_port=shared.metrics_port,
        drain_propagation_s=shared.drain_propagation_s,
        drain_timeout_s=shared.drain_timeout_s,
        secrets_dir=shared.secrets_dir,
        unused=unused,
    )


def _shared(env: Mapping[str, str], errors: list[str]) -> _Environment | None:
    names = _Environment.__dataclass_fields__
    given = {name: env[name.upper()] for name in names if env.get(name.upper()) not in (None, "")}
    shared = _validated(_Environment, given, "", errors, upper=True)
    if shared and "CONFIG_MAP" in env:
        flags = {name: getattr(shared, name) or False for name in _NOT_BUILT}
        errors += _refused_features(_Features(**flags))
    return shared


def _refused_features(features: _Features) -> list[str]:
    return [
        f"auralink.features.{name} ({name.upper()}): this version does not have the feature; set it to false"
        for name in _NOT_BUILT
        if getattr(features, name)
    ]


def _standalone_bridge(parsed: _File, section: Mapping[str, Any]) -> BridgeSpec:
    """The guide's own sections fill in what `auralink.bridge` leaves open."""
    written = dict(section.get("bridge") or {})
    written.setdefault("region", parsed.service.region)
    written.setdefault("environment", parsed.service.environment)
    compression: dict[str, Any] = {}
    if (target := parsed.ai_core.compression.target_savings) is not None:
        compression["targetSavingsPercent"] = round(target * 100)
    if (level := parsed.ai_core.compression.quality_level) is not None:
        compression["qualityLevel"] = level
    compression |= dict(written.get("compression") or {})
    if not (parsed.features.enable_aic and parsed.ai_core.enable_compression):
        compression["mode"] = "Disabled"
    ai_core = dict(written.get("aiCore") or {})
    if parsed.ai_core.grpc_url and not ai_core.get("addresses"):
        ai_core["addresses"] = [parsed.ai_core.grpc_url]
    return TypeAdapter(BridgeSpec).validate_python({**written, "compression": compression, "aiCore": ai_core})


_HOCON_TOKEN: Final = re.compile(
    r'"""[\s\S]*?"""|"(?:\\.|[^"\\\n])*"|(?:\#|//)[^\n]*|\$\{(?P<optional>\??)(?P<name>[A-Z_][A-Z0-9_]*)\}'
)
"""Strings and comments are matched too, so that a ${NAME} inside them is none."""


def _read_hocon(text: str, env: Mapping[str, str], errors: list[str]) -> dict[str, Any]:
    """Variables come from `env`: they are written in front of the file, where HOCON finds them first."""
    given: dict[str, str] = {}
    for match in _HOCON_TOKEN.finditer(text):
        name = match["name"]
        if name and name in env:
            given[name] = env[name]
        elif name and not match["optional"] and name not in given:
            line = text.count("\n", 0, match.start()) + 1
            errors.append(
                f"line {line}: ${{{name}}} is not set: export {name}, or write ${{?{name}}} if it may be absent"
            )
            given[name] = "unset"
    head = "".join(f"{name} = {json.dumps(value)}\n" for name, value in given.items())
    try:
        tree = ConfigFactory.parse_string(head + text).as_plain_ordered_dict()
    except (OSError, UnicodeDecodeError) as error:  # of a file that it includes
        errors.append(f"auralink.conf: includes what cannot be read: {error}")
        return {}
    except (ConfigException, ParseBaseException, RecursionError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        errors.append(f"auralink.conf: is not HOCON: {first_line}")
        return {}
    return {key: value for key, value in cast(dict[str, Any], tree).items() if key not in given}


def _validated(kind: type[T], value: Any, path: str, errors: list[str], *, upper: bool = False) -> T | None:
    """Appends one line per error; `path` is where `value` stands."""
    if value is None:
        return None
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        details = error.errors(include_url=False)
        for detail in details:
            if detail["type"] == "too_short" and any(
                other is not detail and other["loc"][: len(detail["loc"])] == detail["loc"] for other in details
            ):
                continue  # its items are at fault, not their number
            where = path
            for part in detail["loc"]:
                where += f"[{part}]" if isinstance(part, int) else f"{'.' if where else ''}{part}"
            errors.append(f"{where.upper() if upper else where}: {_remedy(detail)}")
        return None


_SECRETS: Final = ("api_key", "password")


def _remedy(detail: Any) -> str:
    context = detail.get("ctx", {})
    given = detail.get("input")
    secret = (detail["loc"] and detail["loc"][-1] in _SECRETS) or "@" in str(given)  # a URL may hold a password
    shown = f', not "{given}"' if isinstance(given, str | int | float) and not secret else ""
    match detail["type"]:
        case "missing":
            return "is required; add it"
        case "unexpected_keyword_argument" | "extra_forbidden":
            return "is not a known field; remove it or correct its spelling"
        case "literal_error":
            return f"must be {context['expected']}{shown}"
        case "greater_than_equal":
            return f"must be at least {context['ge']}{shown}"
        case "less_than_equal":
            return f"must be at most {context['le']}{shown}"
        case "string_pattern_mismatch":
            return f"must look like {context['pattern']}{shown}"
        case "value_error":
            return str(context["error"])
        case "dataclass_type" | "dict_type":
            return f"must be a section, {{ }}{shown}"
        case "tuple_type":
            return f"must be a list, [ ]{shown}"
        case _:
            return f"{detail['msg'][0].lower()}{detail['msg'][1:]}{shown}"
