"""What an administrator can set, parsed once by `__main__` from flags and environment into one frozen value."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_ADDRESS = re.compile(r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?):[0-9]{1,5}$")
_NAMESPACE = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
_SHARD = re.compile(r"^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$")
_LABEL_NAME = re.compile(r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
_LABEL_VALUE = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")
_OWN_LABELS = ("auralink.io/", "app.kubernetes.io/")
_LEASE_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
_LEVELS = ("Debug", "Info", "Warning", "Error")


class SettingsError(ValueError):
    """Every wrong setting at once, one per line."""


@dataclass(frozen=True, slots=True)
class Settings:
    data_plane_image: str
    ai_core_address: str
    namespaces: tuple[str, ...] = ()
    shard: str = ""
    inherit_labels: tuple[str, ...] = ()
    monitor_labels: tuple[tuple[str, str], ...] = ()
    max_rollouts: int = 10
    nodes: bool = True
    paused: bool = False
    leader_elect: bool = False
    lease_namespace: str = ""
    lease_name: str = "auralink-operator"
    health_port: int = 8081
    log_level: str = "Info"
    workers: int = 64
    qps: float = 400.0
    burst: int = 800
    resync_s: float = 600.0
    kubeconfig: str = ""

    @property
    def lease(self) -> str:
        """Name of the Lease: each shard has a leader of its own."""
        return f"{self.lease_name}-{self.shard}" if self.shard else self.lease_name

    @property
    def shard_selector(self) -> str:
        """Label selector of what this operator is for; the one without a shard is for all that names none."""
        return f"auralink.io/shard={self.shard}" if self.shard else "!auralink.io/shard"


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: its flag (`--data-plane-image`), variable (`AURALINK_DATA_PLANE_IMAGE`), default and parser."""

    field: str
    help: str
    parse: Callable[[str], Any]
    default: str | None
    many: bool = False
    switch: bool = False

    @property
    def flag(self) -> str:
        return "--" + (self.field.removesuffix("s") if self.many else self.field).replace("_", "-")

    @property
    def variable(self) -> str:
        return "AURALINK_" + self.field.upper()


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value.strip()


def _address(value: str) -> str:
    if not _ADDRESS.match(value) or not 1 <= int(value.rpartition(":")[2]) <= 65535:
        raise ValueError("must be host:port with a port from 1 to 65535")
    return value


def _namespaces(value: str) -> tuple[str, ...]:
    names = tuple(sorted({name.strip() for name in value.split(",") if name.strip()}))
    for name in names:
        if not _NAMESPACE.match(name):
            raise ValueError(f"{name!r} is no namespace name")
    return names


def _label_names(value: str) -> tuple[str, ...]:
    names = tuple(sorted({name.strip() for name in value.split(",") if name.strip()}))
    for name in names:
        if not _LABEL_NAME.match(name) or name.startswith(_OWN_LABELS):
            raise ValueError(f"{name!r} is no label name, or one that the operator sets itself")
    return names


def _labels(value: str) -> tuple[tuple[str, str], ...]:
    """Labels as name=value; all that is wrong with them is said at once."""
    pairs = [part.strip().partition("=") for part in value.split(",") if part.strip()]
    wrong = [f"{''.join(pair)!r} is no label as name=value" for pair in pairs if not _is_label(*pair)]
    names = [name for name, _, _ in pairs]
    wrong += [f"{name!r} is one that the operator sets itself" for name in names if name.startswith(_OWN_LABELS)]
    wrong += [f"{name!r} stands there twice" for name in sorted(set(names)) if names.count(name) > 1]
    if wrong:
        raise ValueError("; ".join(wrong))
    return tuple(sorted((name, text) for name, _, text in pairs))


def _is_label(name: str, equals: str, value: str) -> bool:
    return bool(equals and _LABEL_NAME.match(name) and _LABEL_VALUE.match(value))


def _optional(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value and not pattern.match(value):
            raise ValueError(f"must be {what}")
        return value

    return parse


def _switch(value: str) -> bool:
    if value not in ("true", "false"):
        raise ValueError("must be true or false")
    return value == "true"


def _level(value: str) -> str:
    if value not in _LEVELS:
        raise ValueError(f"must be one of {', '.join(_LEVELS)}")
    return value


def _between(low: float, high: float, of: type[int] | type[float]) -> Callable[[str], int | float]:
    def parse(value: str) -> int | float:
        try:
            number = of(value)
        except ValueError:
            raise ValueError(f"must be a number from {low:g} to {high:g}") from None
        if not low <= number <= high:
            raise ValueError(f"must be from {low:g} to {high:g}")
        return number

    return parse


OPTIONS = (
    Option("data_plane_image", "image of data-plane pods whose bridge sets none", _text, None),
    Option("ai_core_address", "host:port of the AI Core for bridges that set none", _address, None),
    Option("namespaces", "namespace to watch (repeatable; none: all of the cluster)", _namespaces, "", many=True),
    Option(
        "shard",
        "keep the bridges with this value of the label auralink.io/shard (none: those without it)",
        _optional(_SHARD, "a DNS label of at most 32 characters"),
        "",
    ),
    Option("inherit_labels", "label that children copy from their bridge (repeatable)", _label_names, "", many=True),
    Option(
        "monitor_labels",
        "label name=value of bridges' ServiceMonitors, by which Prometheus finds them (repeatable)",
        _labels,
        "",
        many=True,
    ),
    Option(
        "max_rollouts",
        "bridges that roll at the same time after a change of the operator's own defaults",
        _between(1, 1000, int),
        "10",
    ),
    Option(
        "nodes",
        "true where the operator may read Nodes (public addresses in host and NodePort modes)",
        _switch,
        "true",
        switch=True,
    ),
    Option(
        "paused",
        "true: report as usual, but change nothing, as if every bridge were suspended",
        _switch,
        "false",
        switch=True,
    ),
    Option(
        "leader_elect",
        "true: only the holder of a Lease works, for more than one replica",
        _switch,
        "false",
        switch=True,
    ),
    Option(
        "lease_namespace", "namespace of that Lease: the operator's own", _optional(_NAMESPACE, "a namespace name"), ""
    ),
    Option(
        "lease_name",
        "name of that Lease; a shard's name is appended",
        _optional(_LEASE_NAME, "a DNS label"),
        "auralink-operator",
    ),
    Option("health_port", "port of /healthz /readyz /metrics", _between(1, 65535, int), "8081"),
    Option("log_level", "Debug, Info, Warning or Error", _level, "Info"),
    Option("workers", "reconciles at the same time", _between(1, 256, int), "64"),
    Option("qps", "requests per second to the API server, sustained", _between(1, 10000, float), "400"),
    Option("burst", "requests to the API server at once", _between(1, 20000, int), "800"),
    Option("resync_s", "seconds between two comparisons of index and API server", _between(5, 86400, float), "600"),
)


def from_env(values: Mapping[str, str]) -> Settings:
    """Settings of a mapping by `Option.variable`; raises SettingsError that names everything wrong in it."""
    parsed: dict[str, Any] = {}
    errors: list[str] = []
    for option in OPTIONS:
        raw = values.get(option.variable, option.default)
        if raw is None:
            errors.append(f"{option.flag} (or {option.variable}) is required: {option.help}")
            continue
        try:
            parsed[option.field] = option.parse(raw)
        except ValueError as error:
            errors.append(f"{option.flag} (or {option.variable}) = {raw!r}: {error}")
    if parsed.get("leader_elect") and not parsed.get("lease_namespace"):
        errors.append("--lease-namespace (or AURALINK_LEASE_NAMESPACE) is required with --leader-elect=true")
    if errors:
        raise SettingsError("\n".join(errors))
    return Settings(**parsed, kubeconfig=values.get("KUBECONFIG", ""))
