"""What children are called and known by, and the shell that every child has: names, labels, owner, hash."""

import json
from hashlib import sha256
from typing import Any

from auralink_operator.index import LABEL_BRIDGE, RESOURCES, Obj
from auralink_operator.models import API_VERSION, Bridge

MANAGED_BY = "auralink-operator"
APPLIED_HASH = "auralink.io/applied-hash"
HTTP_PORT, METRICS_PORT = 8080, 9090


def child_name(bridge: str) -> str:
    return f"auralink-{bridge}"


def selector(bridge: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": "auralink-data-plane", LABEL_BRIDGE: bridge}


def selector_text(bridge: str) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(selector(bridge).items()))


def labels(bridge: str) -> dict[str, str]:
    return {
        **selector(bridge),
        "app.kubernetes.io/instance": bridge,
        "app.kubernetes.io/component": "data-plane",
        "app.kubernetes.io/part-of": "auralink",
        "app.kubernetes.io/managed-by": MANAGED_BY,
    }


def short_hash(value: Any) -> str:
    """A hash of what the value says, whatever the order of its keys."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def canonical(value: Any) -> str:
    """JSON as it stands in a ConfigMap or an annotation: the same value is the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def annotations_of(obj: Obj | None) -> dict[str, str]:
    return (obj or {}).get("metadata", {}).get("annotations") or {}


def new_child(bridge: Bridge, kind: str, name: str, **body: Any) -> Obj:
    return {
        "apiVersion": RESOURCES[kind][0],
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": bridge.meta.namespace,
            "labels": labels(bridge.meta.name),
            # Argo CD would otherwise refresh the application at each change of a child's status.
            "annotations": {"argocd.argoproj.io/ignore-resource-updates": "true"},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "AuraLinkBridge",
                    "name": bridge.meta.name,
                    "uid": bridge.meta.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        **body,
    }
