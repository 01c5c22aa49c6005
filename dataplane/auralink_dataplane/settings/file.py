"""`auralink.conf`: HOCON with variables, for a pod outside Kubernetes."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, Final, cast

from pydantic import AfterValidator, Field, SecretStr, TypeAdapter
from pydantic.dataclasses import dataclass
from pyhocon import ConfigFactory, ConfigParser, ConfigTree
from pyhocon.exceptions import ConfigException
from pyparsing import ParseBaseException

from auralink_dataplane.settings.addresses import Address, HttpUrl
from auralink_dataplane.settings.bridge import BridgeSpec, RoomSpec, ShortText
from auralink_dataplane.settings.database import Database
from auralink_dataplane.settings.documents import BridgeConfig
from auralink_dataplane.settings.pod import (
    STRICT,
    Features,
    Pod,
    Settings,
    flags_of,
    refused_features,
    settings_of,
    shared_environment,
)
from auralink_dataplane.settings.validation import ConfigError, understood, validated


@plain_dataclass(frozen=True, slots=True)
class ApiKey:
    """LiveKit's pair. The guide's WEBRTC_API_KEY is either the key alone or "key:secret"."""

    key: str
    secret: SecretStr | None

    @classmethod
    def parse(cls, text: str) -> "ApiKey":
        """Raises ValueError."""
        key, colon, secret = text.partition(":")
        if not key or (colon and not secret):
            raise ValueError('write it as "key" or "key:secret", neither of them empty')
        return cls(key, SecretStr(secret) if colon else None)


@dataclass(frozen=True, slots=True, config=STRICT)
class _Service:
    bridge_id: Annotated[str, Field(min_length=1, max_length=253)]
    name: str = "ingress-egress"
    region: ShortText = ""
    environment: ShortText = ""


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
    api_key: Annotated[str, AfterValidator(ApiKey.parse)]


@dataclass(frozen=True, slots=True, config=STRICT)
class _Database:
    url: PostgresUrl
    username: str = "auralink"
    password: SecretStr | None = None

    def __post_init__(self) -> None:
        self.parsed()

    def parsed(self) -> Database:
        return Database.from_url(self.url, self.username, self.password)


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


_ROOT: Final = "auralink"
_NO_USER_YET: Final = ("dashboard", "webrtc_server", "database", "redis")


def from_file(text: str, env: Mapping[str, str]) -> Settings:
    """`auralink.conf` and the environment it refers to. Raises ConfigError."""
    errors: list[str] = []
    shared = shared_environment(env, errors)
    tree = _read_hocon(text, env, errors)
    errors += [
        f"{key}: is not a section: everything stands inside {_ROOT} {{ }}" for key in sorted({*(tree or ())} - {_ROOT})
    ]
    section: Any = None if tree is None else _with_flags(tree.get(_ROOT), env)
    parsed = validated(_File, section, _ROOT, errors)
    errors += _not_served(section, env)
    if errors or parsed is None or shared is None:
        raise ConfigError(errors)
    pod = Pod(bridge_id=parsed.service.bridge_id, name=env.get("POD_NAME") or parsed.service.bridge_id)
    config = BridgeConfig(version=1, generation=1, bridge=_standalone_bridge(parsed, section))
    unused = tuple(name for name in _NO_USER_YET if getattr(parsed, name) is not None)
    database = parsed.database.parsed() if parsed.database else None
    return settings_of(pod, parsed.service.name, shared, config=config, database=database, unused=unused)


def _with_flags(section: Any, env: Mapping[str, str]) -> Any:
    """ENABLE_* of the environment wins over the section `features`. What is no section is left to be complained of."""
    if section is None:
        return {}
    features = section.get("features") if isinstance(section, dict) else ()
    if not isinstance(features, dict | None):
        return section
    return {**section, "features": {**(features or {}), **flags_of(env)}}


def _not_served(section: Any, env: Mapping[str, str]) -> Iterator[str]:
    """What this version does not have, of every flag and room that is well-formed, however the rest looks."""
    written = {name: understood(bool, value) for name, value in _section(section, "features").items()}
    yield from refused_features({**written, **flags_of(env)})
    rooms = _section(section, "bridge").get("rooms")
    for room in (understood(RoomSpec, one) for one in rooms) if isinstance(rooms, list) else ():
        if room and (why := room.unserved()):
            yield f"{_ROOT}.bridge.rooms: room {room.name}, {why}"


def _section(tree: Any, name: str) -> dict[str, Any]:
    """Empty where there is none."""
    found = tree.get(name) if isinstance(tree, dict) else None
    return found if isinstance(found, dict) else {}


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


def _read_hocon(text: str, env: Mapping[str, str], errors: list[str]) -> dict[str, Any] | None:
    """Without the variables, which come from `env` and no parser ever sees. None where the text cannot be read."""
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
    try:
        tree = ConfigFactory.parse_string(text, resolve=False)
        if not isinstance(tree, ConfigTree):
            errors.append(f"auralink.conf: is a list: everything stands inside {_ROOT} {{ }}")
            return None
        for name in given.keys() - tree.keys():
            tree.put(name, given[name])
        ConfigParser.resolve_substitutions(tree)
    except (OSError, UnicodeDecodeError, ImportError) as error:  # of a file that it includes
        errors.append(f"auralink.conf: includes what cannot be read: {error}")
        return None
    except (ConfigException, ParseBaseException, RecursionError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        errors.append(f"auralink.conf: is not HOCON: {first_line}")
        return None
    plain = cast(dict[str, Any], tree.as_plain_ordered_dict())
    return {key: value for key, value in plain.items() if key not in given}
