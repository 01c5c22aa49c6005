"""What is seen around a bridge while it is reconciled: its pods with their reports, and what the cluster offers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PHASES = ("Starting", "Serving", "Draining")
PROBLEMS = (
    "AICoreUnavailable",
    "StandbyUnavailable",
    "RedisUnavailable",
    "PostgresUnavailable",
    "JitsiUnavailable",
    "LiveKitUnavailable",
    "CredentialsMissing",
    "ConfigInvalid",
    "LegNotOpen",
    "PacketLoss",
    "CompressionDisabled",
    "SyncLost",
)
"""What a pod may report of itself in `status.pods[].problems`."""

MAX_PODS = 256
"""Entries in `status.pods`."""
MAX_POD_NAME = 115
"""A pod's field manager is `auralink-pod.<name>`, of which Kubernetes takes 128 characters: the entry of a longer name
could never be removed. Names of a bridge's pods end at 62: auralink-<36>-<10>-<5>."""
POD_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""What Kubernetes calls a DNS-1123 subdomain, and takes as the name of a pod; it takes 253 characters of it."""
MAX_GENERATION = 2**53 - 1
"""More than anybody counts to, and exact in every reader of JSON."""
POD_FIGURES: Mapping[str, int] = {
    "configGeneration": MAX_GENERATION,
    "rooms": 1_000_000,
    "sessions": 1_000_000,
    "savedPercent": 100,
}
"""The most that a pod may report of each; the least is 0. Sums over all pods fit into any integer."""


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
    unknown: bool = False  # whether it lives nobody can say now

    @property
    def serving(self) -> bool:
        return self.ready and not self.deleting and self.entry.get("phase") == "Serving"

    @property
    def acked(self) -> int:
        return int(self.entry.get("configGeneration") or 0)


def nobody(name: str) -> PodView:
    """A pod of which nothing but its name is known."""
    return PodView(name, "", "", "", ready=False, deleting=False, entry={}, unknown=True)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Which optional kinds the cluster serves."""

    service_monitors: bool = False


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """Where peers reach one medium of a room's leg; `ip` or `hostname` is empty. `pod` is the room's owner."""

    ip: str
    hostname: str
    port: int
    pod: str


@dataclass(frozen=True, slots=True)
class Scene:
    """What a reconcile has decided before it renders.

    `owners`: plain-RTP room -> the pod that serves it. `replicas`: what the Deployment must say; None leaves the field
    to the HorizontalPodAutoscaler. `addresses`: by "<room>/<leg>/<medium>". `held_template`: the pod template as it
    was written last, to be kept while a rollout waits for its turn. `draining`: the bridge is being deleted and its
    pods drain first.
    """

    pods: tuple[PodView, ...] = ()
    owners: Mapping[str, PodView] = field(default_factory=dict)
    replicas: int | None = 1
    addresses: Mapping[str, PublicAddress] = field(default_factory=dict)
    capabilities: Capabilities = Capabilities()
    held_template: dict[str, Any] | None = None
    draining: bool = False


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
                entry=_bounded(reported.get((meta["name"], meta["uid"]), {})),
                unknown=state.get("phase") == "Unknown",
            )
        )
    return tuple(views)


def is_pod_name(name: str) -> bool:
    """Whether a pod can be called so: an entry that was written before its schema knew may be of no pod at all."""
    return len(name) <= 253 and re.fullmatch(POD_NAME, name) is not None


def _bounded(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """An entry that was written before its schema had bounds must not make a sum that its bridge's schema refuses."""
    figures = {name: min(max(int(entry[name] or 0), 0), most) for name, most in POD_FIGURES.items() if name in entry}
    return {**entry, **figures}
