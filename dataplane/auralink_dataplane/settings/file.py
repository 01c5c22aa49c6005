"""`auralink.conf`: HOCON with variables, for a pod outside Kubernetes."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, Final, cast

from pydantic import AfterValidator, Field, SecretStr, TypeAdapter
from pydantic.dataclasses import dataclass
from pyhocon import ConfigFactory
from pyhocon.exceptions import ConfigException
from pyparsing import ParseBaseException

from auralink_dataplane.settings.addresses import Address, HttpUrl
from auralink_dataplane.settings.bridge import BridgeSpec
from auralink_dataplane.settings.documents import BridgeConfig
from auralink_dataplane.settings.pod import (
    NOT_BUILT,
    STRICT,
    Features,
    Pod,
    Settings,
    refused_features,
    settings_of,
    shared_environment,
)
from auralink_dataplane.settings.validation import ConfigError, validated


@plain_dataclass(frozen=True, slots=True)
class ApiKey:
    """LiveKit's pair. The guide's WEBRTC_API_KEY is either the key alone or "key:secret"."""

    key: str
    secret: SecretStr | None

    @classmethod
    def parse(cls, text: str) -> "ApiKey":
        key, colon, secret = text.partition(":")
        return cls(key, SecretStr(secret) if colon else None)


@dataclass(frozen=True, slots=True, config=STRICT)
class _Service:
    bridge_id: Annotated[str, Field(min_length=1, max_length=253)]
    name: str = "ingress-egress"
    region: str = ""
    environment: str = ""


@dataclass(frozen=True, slots=True, config=STRICT)
class _FileCompression:
    target_savings: Annotated[float, Field(ge=0, le=0.9)] | None = None
    quality_level: Annotated[int, Field(ge=1, le=10)] | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class _AiCore:
    grpc_url: Address | None = None
    enable_compression: bool = True
    compression: _FileCompression = Field(default_factory=_FileCompression)


PostgresUrl = Annotated[str, Field(max_length=512, pattern=r"^(jdbc:)?postgres(ql)?://[^/\s]+/\w+")]


@dataclass(frozen=True, slots=True, config=STRICT)
class _Dashboard:
    url: HttpUrl
    api_key: SecretStr | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class _WebrtcServer:
    url: HttpUrl
    api_key: Annotated[str, Field(min_length=1), AfterValidator(ApiKey.parse)]


@dataclass(frozen=True, slots=True, config=STRICT)
class _Database:
    url: PostgresUrl
    username: str = "auralink"
    password: SecretStr | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class _Redis:
    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 6379


@dataclass(frozen=True, slots=True, config=STRICT)
class _File:
    service: _Service
    features: Features = Field(default_factory=Features)
    ai_core: _AiCore = Field(default_factory=_AiCore)
    dashboard: _Dashboard | None = None
    webrtc_server: _WebrtcServer | None = None
    database: _Database | None = None
    redis: _Redis | None = None
    bridge: BridgeSpec = Field(default_factory=BridgeSpec)


_NO_USER_YET: Final = ("dashboard", "webrtc_server", "database", "redis")


def from_file(text: str, env: Mapping[str, str]) -> Settings:
    """`auralink.conf` and the environment it refers to. Raises ConfigError."""
    errors: list[str] = []
    shared = shared_environment(env, errors)
    tree = _read_hocon(text, env, errors)
    unknown = sorted(set(tree) - {"auralink"})
    errors += [f"{key}: is not a section: everything stands inside auralink {{ }}" for key in unknown]
    section = tree.get("auralink", {}) if isinstance(tree, dict) else {}
    overrides = {
        name: env[name.upper()] for name in ("enable_aic", *NOT_BUILT) if env.get(name.upper()) not in (None, "")
    }
    if overrides and isinstance(section, dict):
        section = {**section, "features": {**(section.get("features") or {}), **overrides}}
    parsed = validated(_File, section, "auralink", errors) if tree or not errors else None
    if parsed:
        errors += refused_features(parsed.features)
        errors += [
            f"auralink.bridge.rooms: room {room.name}, {why}"
            for room in parsed.bridge.rooms
            if (why := room.unserved())
        ]
    if errors or parsed is None or shared is None:
        raise ConfigError(errors)
    pod = Pod(bridge_id=parsed.service.bridge_id, name=env.get("POD_NAME") or parsed.service.bridge_id)
    config = BridgeConfig(version=1, generation=1, bridge=_standalone_bridge(parsed, section))
    unused = tuple(name for name in _NO_USER_YET if getattr(parsed, name) is not None)
    return settings_of(pod, parsed.service.name, shared, config=config, unused=unused)


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
