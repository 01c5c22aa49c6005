"""What is seen around a bridge while it is reconciled: its pods with their reports, and what the cluster offers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PHASES = ("Starting", "Serving", "Draining")
PROBLEMS = (
    "AICoreUnavailable",
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
    to the HorizontalPodAutoscaler. `addresses`: by "<room>/<leg>/<medium>". `held_template`: the live pod template, to
    be kept while a rollout waits for its turn. `draining`: the bridge is being deleted and its pods drain first.
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
                entry=reported.get((meta["name"], meta["uid"]), {}),
            )
        )
    return tuple(views)
