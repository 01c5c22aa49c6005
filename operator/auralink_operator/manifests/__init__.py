"""What a bridge's children should be, and where a child differs from that. Pure; called by `reconcile`.

A file per concern: `labels` what every child has, `access`, `config`, `network`, `workload` the children, `diff` when
one must be written.
"""

from collections.abc import Sequence

from auralink_operator.index import Obj, Observed
from auralink_operator.manifests.access import role, role_binding, service_account
from auralink_operator.manifests.config import (
    CONFIG_GENERATION,
    CONFIG_HASH,
    CONFIG_LIMIT_BYTES,
    ConfigTooLargeError,
    config_map,
    config_of,
    hot_spec,
    next_generation,
)
from auralink_operator.manifests.diff import differs, is_drift, needs_write
from auralink_operator.manifests.labels import (
    APPLIED_HASH,
    HTTP_PORT,
    MANAGED_BY,
    METRICS_PORT,
    child_name,
    labels,
    selector,
    selector_text,
    short_hash,
)
from auralink_operator.manifests.network import endpoint_slices, owner_of, rtp_service, service
from auralink_operator.manifests.workload import deployment, disruption_budget
from auralink_operator.models import Bridge, Compiled, PodView
from auralink_operator.settings import Settings

__all__ = [
    "APPLIED_HASH",
    "CHILDREN",
    "CONFIG_GENERATION",
    "CONFIG_HASH",
    "CONFIG_LIMIT_BYTES",
    "HTTP_PORT",
    "MANAGED_BY",
    "METRICS_PORT",
    "ConfigTooLargeError",
    "child_name",
    "config_of",
    "desired",
    "differs",
    "hot_spec",
    "is_drift",
    "labels",
    "needs_write",
    "next_generation",
    "owner_of",
    "prunable",
    "selector",
    "selector_text",
    "short_hash",
]

# In the order of writing: what a pod needs is there before the pod.
CHILDREN = (
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ConfigMap",
    "Service",
    "EndpointSlice",
    "PodDisruptionBudget",
    "Deployment",
)


def desired(
    bridge: Bridge, compiled: Compiled, observed: Observed, pods: Sequence[PodView], settings: Settings
) -> tuple[Obj, ...]:
    """Every child, in the order of writing, each with the hash of itself in an annotation."""
    children = [
        service_account(bridge),
        role(bridge),
        role_binding(bridge),
        config_map(bridge, compiled, observed, pods, settings),
        service(bridge),
        *rtp_service(bridge),
        *endpoint_slices(bridge, observed, pods),
        *disruption_budget(bridge),
        deployment(bridge, settings),
    ]
    for child in children:
        annotations = child["metadata"].setdefault("annotations", {})
        annotations[APPLIED_HASH] = short_hash(child)
    return tuple(children)


def prunable(wanted: Sequence[Obj], observed: Observed) -> list[Obj]:
    """Children of ours that are wanted no longer. Never the Deployment: it takes every session with it."""
    keep = {(child["kind"], child["metadata"]["name"]) for child in wanted}
    return [
        child
        for key, child in observed.children.items()
        if key.kind in CHILDREN
        and key.kind != "Deployment"
        and (key.kind, key.name) not in keep
        and (child["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by") == MANAGED_BY
        and "deletionTimestamp" not in child["metadata"]
    ]
