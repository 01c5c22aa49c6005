"""The release under test and one bridge on it: what a user does with them, and what they say of themselves."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hack.lab.kube import (
    RELEASE,
    ROOT,
    SYSTEM_NAMESPACE,
    Kube,
    KubeError,
    NotInTime,
    Obj,
    bridge_path,
    condition,
    deployment_path,
    is_true,
    pods_path,
    policy_path,
    wait_for,
)

CHART = ROOT / "charts" / "auralink"
QUICKSTART = ROOT / "examples" / "quickstart.yaml"
_HTTP_PORT = 8080
_BESIDE_OTHERS = {"requests": {"cpu": "50m", "memory": "64Mi"}}
"""What a pod without media needs; the default half core would find no place beside a live stream and a crowd."""


def example(path: Path = QUICKSTART, **spec: object) -> list[Obj]:
    """An example's documents, its bridge changed by these fields of the spec and small enough to run beside others."""
    documents = list(yaml.safe_load_all(path.read_text()))
    for document in documents:
        if document["kind"] == "AuraLinkBridge":
            document["spec"] |= {"resources": _BESIDE_OTHERS, **spec}
    return documents


def install(kube: Kube, images: Mapping[str, str], more: Mapping[str, str] | None = None) -> None:
    """Installs the chart with these images and these values beside, or brings an older release up to it, and waits
    until it is up."""
    values = {
        "operator.image": images["operator"],
        "dataPlane.image": images["data-plane"],
        "aiCore.image": images["ai-core"],
        "aiCore.resources.requests.cpu": "250m",  # two cores carry two bridges and an AI Core being replaced
        **(more or {}),
    }
    options = [word for key, value in values.items() for word in ("--set-string", f"{key}={value}")]
    where = ["--namespace", SYSTEM_NAMESPACE, "--create-namespace"]
    kube.helm("upgrade", "--install", RELEASE, str(CHART), *where, *options)
    wait_for("the release", lambda: _rolled_out(kube), 120, 0.5, lambda: _ailing(kube, SYSTEM_NAMESPACE))


def _rolled_out(kube: Kube) -> bool:
    """Every Deployment of the release runs its present template, and nothing else."""

    def done(deployment: Obj) -> bool:
        status, wanted = deployment.get("status") or {}, deployment["spec"]["replicas"]
        counts = {status.get(count, 0) for count in ("replicas", "updatedReplicas", "availableReplicas")}
        return status.get("observedGeneration") == deployment["metadata"]["generation"] and counts == {wanted}

    return all(done(deployment) for deployment in kube.items(deployment_path(SYSTEM_NAMESPACE)))


def _ailing(kube: Kube, namespace: str) -> str:
    """Containers that wait or crashed, with the reason and the last thing they said."""
    found = []
    for pod in kube.items(pods_path(namespace)):
        name = pod["metadata"]["name"]
        for container in pod["status"].get("containerStatuses", []):
            if container["ready"]:
                continue
            state = container["state"].get("waiting") or container["state"].get("terminated") or {}
            found.append(
                f"{name} {state.get('reason', 'not ready')}{_last_words(kube, namespace, name, container['name'])}"
            )
        found += [
            f"{name} {condition['reason']}: {condition['message']}"
            for condition in pod["status"].get("conditions", [])
            if condition["type"] == "PodScheduled" and condition["status"] == "False"
        ]
    return "; ".join(found)


def _last_words(kube: Kube, namespace: str, pod: str, container: str) -> str:
    try:
        line = kube.kubectl("logs", "-n", namespace, pod, "-c", container, "--tail=1").decode().strip()
    except KubeError:
        return ""  # it has not started yet
    return f", last log line: {line[-400:]}" if line else ""


@dataclass(frozen=True, slots=True)
class AICore:
    """The reference AI Core's Deployment."""

    kube: Kube
    name: str = f"{RELEASE}-ai-core"

    def scale(self, replicas: int) -> None:
        target = f"deployment/{self.name}"
        self.kube.kubectl("scale", target, "-n", SYSTEM_NAMESPACE, f"--replicas={replicas}")

    def ready(self) -> int:
        found = self.kube.get(deployment_path(SYSTEM_NAMESPACE, self.name))
        if found is None:
            raise KubeError(f"there is no Deployment {self.name} in {SYSTEM_NAMESPACE}")
        return int((found.get("status") or {}).get("readyReplicas") or 0)

    def wait_ready(self, replicas: int, timeout_s: float = 60) -> None:
        wait_for(f"{replicas} ready AI Core pods", lambda: self.ready() == replicas, timeout_s)


@dataclass(frozen=True, slots=True)
class Bridge:
    """One AuraLinkBridge and the RoomPolicy beside it."""

    kube: Kube
    namespace: str
    name: str
    policy: str

    @classmethod
    def of_example(cls, kube: Kube, namespace: str, example: Path = QUICKSTART) -> "Bridge":
        kinds = {document["kind"]: document["metadata"]["name"] for document in yaml.safe_load_all(example.read_text())}
        return cls(kube, namespace, kinds["AuraLinkBridge"], kinds["RoomPolicy"])

    @property
    def rtp_service(self) -> str:
        return f"auralink-{self.name}-rtp"

    def resource(self) -> Obj | None:
        return self.kube.get(bridge_path(self.namespace, self.name))

    def status(self) -> Obj:
        return dict((self.resource() or {}).get("status") or {})

    def wait_ready(self, timeout_s: float = 90) -> Obj:
        """The resource, once it is Ready for its present generation."""
        return wait_for(f"AuraLinkBridge {self.name} Ready", self._ready, timeout_s, seen=self.describe)

    def _ready(self) -> Obj | None:
        found = self.resource()
        current = (
            found is not None
            and (found.get("status") or {}).get("observedGeneration") == found["metadata"]["generation"]
        )
        return found if current and is_true(found, "Ready") else None

    def wait_condition(self, kind: str, *, true: bool, timeout_s: float) -> Obj | None:
        """The condition once it is True; with `true=False` returns (None) once it no longer is."""

        def look() -> tuple[Obj | None] | None:
            found = condition(self.resource(), kind)
            holds = found is not None and found["status"] == "True"
            return (found if true else None,) if holds == true else None

        what = f"{kind}={'True' if true else 'False'} of AuraLinkBridge {self.name}"
        return wait_for(what, look, timeout_s, every_s=0.5, seen=self.describe)[0]

    def describe(self) -> str:
        """Its conditions in one line, for messages."""
        conditions = self.status().get("conditions") or []
        return (
            "; ".join(f"{c['type']}={c['status']} {c['reason']}: {c['message']}" for c in conditions) or "no status yet"
        )

    def line(self) -> str:
        """What `kubectl get auralinkbridges` prints."""
        return self.kube.kubectl("get", "auralinkbridges", self.name, "-n", self.namespace).decode().rstrip()

    def pods(self) -> list[Obj]:
        """Data-plane pods that are not on their way out."""
        found = self.kube.items(pods_path(self.namespace, f"auralink.io/bridge={self.name}"))
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def lives(self) -> dict[str, int]:
        """Restarts by pod uid: the same mapping later means that no pod was replaced or restarted."""
        return {
            pod["metadata"]["uid"]: sum(c["restartCount"] for c in pod["status"].get("containerStatuses", []))
            for pod in self.pods()
        }

    def own_words(self) -> Obj:
        """`/status` of its first pod."""
        pods = self.pods()
        if not pods:
            raise NotInTime(f"AuraLinkBridge {self.name} has no pod")
        pod = pods[0]["metadata"]["name"]
        answer = self.kube.get(f"/api/v1/namespaces/{self.namespace}/pods/{pod}:{_HTTP_PORT}/proxy/status")
        if answer is None:
            raise KubeError(f"pod {pod} has no /status")
        return answer

    def streams(self) -> list[Obj]:
        """What its first pod says of each video stream."""
        streams: list[Obj] = self.own_words()["aic_compression"]["streams"]
        return [stream for stream in streams if stream["media"] == "video"]

    def drops(self) -> dict[str, int]:
        """Packets that its first pod threw away, by reason."""
        return {str(reason): int(count) for reason, count in self.own_words()["packets"]["drops"].items()}

    def wait_mode(self, mode: str, timeout_s: float) -> None:
        """Until every video stream is in this mode: bypass, shadow, compress or hold."""

        def look() -> bool:
            modes = [str(stream["mode"]) for stream in self.streams()]
            return bool(modes) and all(found == mode for found in modes)

        wait_for(f"mode {mode}", look, timeout_s, every_s=0.5, seen=lambda: str([s["mode"] for s in self.streams()]))

    def aim(self, saved_percent: int) -> float:
        """Edits the policy's target; seconds until every pod has acknowledged the new configuration."""
        before = int((self.status().get("config") or {}).get("desiredGeneration") or 0)
        started = time.monotonic()
        self.kube.merge(policy_path(self.namespace, self.policy), target(saved_percent))
        self.wait_acknowledged(after=before, timeout_s=30)
        return time.monotonic() - started

    def wait_acknowledged(self, after: int, timeout_s: float) -> int:
        """The generation, higher than `after`, that all serving pods have applied."""

        def look() -> int | None:
            config: dict[str, Any] = self.status().get("config") or {}
            acked = int(config.get("ackedGeneration") or 0)
            return acked if acked > after and acked == config.get("desiredGeneration") else None

        return wait_for("the acknowledgement of the new configuration", look, timeout_s, 0.02, self.describe)

    def remains(self) -> list[str]:
        """Objects of its namespace that carry its label."""
        kinds = "deployments,replicasets,pods,services,endpointslices,configmaps,serviceaccounts,roles,rolebindings,pdb"
        listing = self.kube.kubectl(
            *("get", kinds, "-n", self.namespace, "-l", f"auralink.io/bridge={self.name}", "-o", "name")
        )
        return listing.decode().split()

    def delete(self, timeout_s: float = 60) -> float:
        """Deletes bridge and policy; seconds until nothing of them is left."""
        started = time.monotonic()
        for kind, name in (("auralinkbridge", self.name), ("roompolicy", self.policy)):
            self.kube.kubectl("delete", kind, name, "-n", self.namespace, "--ignore-not-found", "--timeout=60s")
        gone: Callable[[], bool] = lambda: not self.remains()  # noqa: E731
        wait_for("the end of the bridge's objects", gone, timeout_s, 1.0, lambda: ", ".join(self.remains()))
        return time.monotonic() - started


def target(saved_percent: int) -> Obj:
    """The edit of a RoomPolicy that changes its target."""
    return {"spec": {"compression": {"targetSavingsPercent": saved_percent}}}
