"""What a bridge's children should be, and where a child differs from that. Pure; called by `reconcile`.

A file per concern: `labels` what every child has, `access`, `config`, `network`, `firewall`, `scale`, `workload` the
children, `template` and `merge` what pods are like, `diff` when a child must be written, `moved` what is
done for rooms while a spec is invalid.
"""

from collections.abc import Iterator, Sequence

from auralink_operator.index import Key, Obj, Observed, is_owned_by, key_of
from auralink_operator.manifests.access import role, role_binding, service_account
from auralink_operator.manifests.config import (
    CONFIG_GENERATION,
    CONFIG_HASH,
    CONFIG_LIMIT_BYTES,
    ConfigTooLargeError,
    config_map,
    config_name,
    config_of,
    hot_spec,
    next_generation,
)
from auralink_operator.manifests.diff import differs, is_drift, needs_write
from auralink_operator.manifests.firewall import network_policy
from auralink_operator.manifests.labels import (
    APPLIED_HASH,
    HTTP_PORT,
    LABEL_SHARD,
    MANAGED_BY,
    METRICS_PORT,
    UnrenderableError,
    annotations_of,
    child_name,
    labels,
    rtp_name,
    selector,
    selector_text,
    short_hash,
)
from auralink_operator.manifests.merge import TemplateError, merge_template
from auralink_operator.manifests.moved import moved
from auralink_operator.manifests.network import (
    ROOM,
    endpoint_slices,
    rtp_service,
    service,
    service_monitor,
    slice_name,
)
from auralink_operator.manifests.scale import SESSIONS_METRIC, disruption_budget, pod_autoscaler
from auralink_operator.manifests.template import CONTAINER, pod_template
from auralink_operator.manifests.workload import (
    TEMPLATE,
    TEMPLATE_HASH,
    TEMPLATE_INPUTS,
    TEMPLATE_LIMIT_BYTES,
    deployment,
    noted_template,
)
from auralink_operator.models import Bridge, Compiled, Scene
from auralink_operator.settings import Settings

__all__ = [
    "APPLIED_HASH",
    "CHILDREN",
    "CONFIG_GENERATION",
    "CONFIG_HASH",
    "CONFIG_LIMIT_BYTES",
    "CONTAINER",
    "HTTP_PORT",
    "LABEL_SHARD",
    "MANAGED_BY",
    "METRICS_PORT",
    "ROOM",
    "SESSIONS_METRIC",
    "TEMPLATE",
    "TEMPLATE_HASH",
    "TEMPLATE_INPUTS",
    "TEMPLATE_LIMIT_BYTES",
    "ConfigTooLargeError",
    "TemplateError",
    "UnrenderableError",
    "annotations_of",
    "child_name",
    "config_name",
    "config_of",
    "desired",
    "differs",
    "hot_spec",
    "is_drift",
    "labels",
    "merge_template",
    "moved",
    "needs_write",
    "next_generation",
    "noted_template",
    "pod_template",
    "prunable",
    "rtp_name",
    "selector",
    "selector_text",
    "short_hash",
    "slice_name",
    "unwanted_names",
]

# In the order of writing: what a pod needs is there before the pod, and a room's new owner has its configuration
# before packets are sent to it. These two come first and together: rooms that must move wait for nothing else.
CHILDREN = (
    "ConfigMap",
    "EndpointSlice",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "Service",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "Deployment",
    "HorizontalPodAutoscaler",
    "ServiceMonitor",
)
# What a bridge has or has not, by its settings, and its name, which is the same each time: it can be asked for.
_SWITCHED = (
    ("Service", rtp_name),
    ("NetworkPolicy", child_name),
    ("PodDisruptionBudget", child_name),
    ("HorizontalPodAutoscaler", child_name),
    ("ServiceMonitor", child_name),
)


def desired(
    bridge: Bridge, compiled: Compiled, observed: Observed, scene: Scene, settings: Settings
) -> tuple[Obj, ...]:
    """Every child, in the order of writing, each with the hash of itself in an annotation. Raises UnrenderableError."""
    children = [
        config_map(bridge, compiled, observed, scene, settings),
        *endpoint_slices(bridge, observed, scene, settings),
        service_account(bridge, settings),
        role(bridge, settings),
        role_binding(bridge, settings),
        service(bridge, settings),
        *rtp_service(bridge, settings),
        *network_policy(bridge, settings),
        *disruption_budget(bridge, settings),
        deployment(bridge, observed, scene, settings),
        *pod_autoscaler(bridge, scene, settings),
        *service_monitor(bridge, scene, settings),
    ]
    for child in children:
        child["metadata"]["annotations"][APPLIED_HASH] = short_hash(child)
    return tuple(children)


def unwanted_names(wanted: Sequence[Obj], bridge: Key) -> tuple[Key, ...]:
    """The children of fixed names that are not wanted: where a watch hides children, one of these may be there too."""
    keep = {key_of(child) for child in wanted}
    return tuple(key for key in _switched(bridge) if key not in keep)


def _switched(bridge: Key) -> Iterator[Key]:
    for kind, name in _SWITCHED:
        yield Key(kind, bridge.namespace, name(bridge.name))


def prunable(wanted: Sequence[Obj], observed: Observed) -> list[Obj]:
    """Children of ours that are wanted no longer. Never the Deployment: it takes every session with it.

    What has a name of ours and this bridge for its owner is ours; its labels may be gone. Of what else has this owner
    some may be a user's, who wants it to go with the bridge: there the label tells.
    """
    keep = {key_of(child) for child in wanted}
    uid, ours = observed.bridge["metadata"]["uid"], set(_switched(key_of(observed.bridge)))
    return [
        child
        for key, child in observed.children.items()
        if key.kind in CHILDREN
        and key.kind != "Deployment"
        and key not in keep
        and is_owned_by(child, uid)
        and (key in ours or (child["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by") == MANAGED_BY)
        and "deletionTimestamp" not in child["metadata"]
    ]
