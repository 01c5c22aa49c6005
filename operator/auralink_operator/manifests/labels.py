"""What children are called and known by, and the shell that every child has: names, labels, owner, hash."""

import json
from hashlib import sha256
from typing import Any

from auralink_operator.index import LABEL_BRIDGE, RESOURCES, Obj
from auralink_operator.models import API_VERSION, Bridge
from auralink_operator.settings import Settings

MANAGED_BY = "auralink-operator"
APPLIED_HASH = "auralink.io/applied-hash"
LABEL_SHARD = "auralink.io/shard"
HTTP_PORT, METRICS_PORT = 8080, 9090


class UnrenderableError(ValueError):
    """Children that cannot be made of this spec; the message tells the user what to change."""


def child_name(bridge: str) -> str:
    return f"auralink-{bridge}"


def rtp_name(bridge: str) -> str:
    """Of the Service that carries media."""
    return f"{child_name(bridge)}-rtp"


def selector(bridge: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": "auralink-data-plane", LABEL_BRIDGE: bridge}


def selector_text(bridge: str) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(selector(bridge).items()))


def labels(bridge: str, shard: str = "") -> dict[str, str]:
    return {
        **selector(bridge),
        "app.kubernetes.io/instance": bridge,
        "app.kubernetes.io/component": "data-plane",
        "app.kubernetes.io/part-of": "auralink",
        "app.kubernetes.io/managed-by": MANAGED_BY,
        **({LABEL_SHARD: shard} if shard else {}),
    }


def short_hash(value: Any) -> str:
    """A hash of what the value says, whatever the order of its keys."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def canonical(value: Any) -> str:
    """JSON as it stands in a ConfigMap or an annotation: the same value is the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def annotations_of(obj: Obj | None) -> dict[str, str]:
    return (obj or {}).get("metadata", {}).get("annotations") or {}


def new_child(bridge: Bridge, settings: Settings, kind: str, name: str, **body: Any) -> Obj:
    """A child's frame. Of the bridge's own labels it gets those that an administrator lists: a tool's tracking label
    that was copied would make the tool delete what it does not find in its source."""
    inherited = {name: bridge.meta.labels[name] for name in settings.inherit_labels if name in bridge.meta.labels}
    return {
        "apiVersion": RESOURCES[kind][0],
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": bridge.meta.namespace,
            "labels": {**inherited, **labels(bridge.meta.name, settings.shard)},
            # Argo CD would otherwise refresh the application at each change of a child's status.
            "annotations": {"argocd.argoproj.io/ignore-resource-updates": "true"},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "AuraLinkBridge",
                    "name": bridge.meta.name,
                    "uid": bridge.meta.uid,
                    "controller": True,
                    # One that is to drain outlives a foreground deletion: the garbage collector, which takes children
                    # first, must let go of it at once, so that those which it took can come back for the drain.
                    "blockOwnerDeletion": not bridge.spec.drain.on_delete,
                }
            ],
        },
        **body,
    }
