"""Objects as the API server hands them out, for the operator's unit tests."""

from typing import Any

from auralink_operator.index import ANNOTATION_BRIDGE_UID, LABEL_BRIDGE, Obj
from auralink_operator.settings import Settings

SETTINGS = Settings(data_plane_image="data-plane:1", ai_core_address="ai-core:50051")
MANAGED_BY = "app.kubernetes.io/managed-by"


def medium(codec: str = "H264", listen: int | None = None, remote: str | None = None) -> Obj:
    found: Obj = {"payloads": [{"type": 96, "codec": codec}]}
    if listen:
        found["listenPort"] = listen
    if remote:
        found["remote"] = remote
    return found


def room(name: str = "demo", port: int = 5004, **more: Any) -> Obj:
    return {
        "name": name,
        "legs": [
            {"name": "in", "direction": "Receive", "rtp": {"video": medium(listen=port)}},
            {"name": "out", "direction": "Send", "rtp": {"video": medium(remote="peer:5004")}},
        ],
        **more,
    }


def bridge(
    name: str = "b", *, generation: int = 1, status: Obj | None = None, labels: Obj | None = None, **spec: Any
) -> Obj:
    return {
        "apiVersion": "auralink.io/v1alpha1",
        "kind": "AuraLinkBridge",
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"uid-{name}",
            "generation": generation,
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": labels or {},
        },
        "spec": {"rooms": [room()], **spec},
        "status": {"observedGeneration": -1} if status is None else status,
    }


def policy(
    name: str,
    priority: int = 0,
    *,
    created: str = "2026-01-01T00:00:00Z",
    rooms: Obj | None = None,
    selector: Obj | None = None,
    **compression: Any,
) -> Obj:
    spec: Obj = {"priority": priority, "rooms": rooms or {"names": ["*"]}, "compression": compression}
    if selector is not None:
        spec["bridgeSelector"] = {"matchLabels": selector}
    return {
        "apiVersion": "auralink.io/v1alpha1",
        "kind": "RoomPolicy",
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"uid-policy-{name}",
            "generation": 1,
            "resourceVersion": "1",
            "creationTimestamp": created,
        },
        "spec": spec,
        "status": {"observedGeneration": -1},
    }


def pod(name: str, *, of: str = "b", ready: bool = True, ip: str = "10.0.0.1", deleting: bool = False) -> Obj:
    meta: Obj = {
        "name": name,
        "namespace": "ns",
        "uid": f"uid-{name}",
        "resourceVersion": "1",
        "labels": {LABEL_BRIDGE: of, MANAGED_BY: "auralink-operator"},
        "annotations": {ANNOTATION_BRIDGE_UID: f"uid-{of}"},
    }
    if deleting:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"nodeName": "node-1"},
        "status": {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def entry(name: str, generation: int = 1, *, phase: str = "Serving", **more: Any) -> Obj:
    return {"name": name, "uid": f"uid-{name}", "phase": phase, "configGeneration": generation, **more}


def rolled_out(deployment: Obj, generation: int = 1) -> Obj:
    """A Deployment whose pods are all there."""
    count = deployment["spec"]["replicas"]
    names = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    meta = {**deployment["metadata"], "generation": generation}
    return {**deployment, "metadata": meta, "status": {"observedGeneration": generation, **dict.fromkeys(names, count)}}
