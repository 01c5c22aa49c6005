"""The pod itself: who it is and where it listens. In Kubernetes all of it is in the environment."""

from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Final

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from auralink_dataplane.settings.database import Database
from auralink_dataplane.settings.documents import BridgeConfig
from auralink_dataplane.settings.validation import ConfigError, understood, validated

STRICT: Final = ConfigDict(extra="forbid")


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
    database: Database | None = None
    """Of `auralink.conf`; in Kubernetes it is the bridge's."""
    unused: tuple[str, ...] = ()
    """Sections of `auralink.conf` that were checked but have no user in this version."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Features:
    enable_aic: bool = True
    enable_sip: bool = False
    enable_rtmp: bool = False
    enable_recording: bool = False


NOT_BUILT: Final = ("enable_sip", "enable_rtmp", "enable_recording")


@dataclass(frozen=True, slots=True, config=STRICT)
class Environment:
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
    shared = shared_environment(env, errors)
    errors += refused_features(flags_of(env))
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
    return settings_of(pod, "ingress-egress", shared, config_map=env["CONFIG_MAP"])


def settings_of(
    pod: Pod,
    service_name: str,
    shared: Environment,
    *,
    config_map: str | None = None,
    config: BridgeConfig | None = None,
    database: Database | None = None,
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
        database=database,
        unused=unused,
    )


def shared_environment(env: Mapping[str, str], errors: list[str]) -> Environment | None:
    names = Environment.__dataclass_fields__
    given = {name: env[name.upper()] for name in names if env.get(name.upper()) not in (None, "")}
    return validated(Environment, given, "", errors, upper=True)


def flags_of(env: Mapping[str, str]) -> dict[str, bool]:
    """The ENABLE_* that are set and understood; what is wrong with the others `shared_environment` says."""
    said = {name: understood(bool, env.get(name.upper())) for name in Features.__dataclass_fields__}
    return {name: flag for name, flag in said.items() if flag is not None}


def refused_features(flags: Mapping[str, bool | None]) -> list[str]:
    return [
        f"auralink.features.{name} ({name.upper()}): this version does not have the feature; set it to false"
        for name in NOT_BUILT
        if flags.get(name)
    ]
