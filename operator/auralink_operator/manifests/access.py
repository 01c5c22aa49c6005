"""What a bridge's pods may do at the API server: an account, a role and their binding for each bridge."""

from auralink_operator.index import Obj
from auralink_operator.manifests.labels import child_name, new_child
from auralink_operator.models import GROUP, Bridge
from auralink_operator.settings import Settings


def service_account(bridge: Bridge, settings: Settings) -> Obj:
    return new_child(
        bridge, settings, "ServiceAccount", child_name(bridge.meta.name), automountServiceAccountToken=False
    )


def role(bridge: Bridge, settings: Settings) -> Obj:
    """A pod reads its own configuration and writes its own bridge's status: nothing else, and no Secret."""
    name = child_name(bridge.meta.name)
    return new_child(
        bridge,
        settings,
        "Role",
        name,
        rules=[
            {
                "apiGroups": [""],
                "resources": ["configmaps"],
                "resourceNames": [f"{name}-config"],
                "verbs": ["get", "list", "watch"],
            },
            {
                "apiGroups": [GROUP],
                "resources": ["auralinkbridges/status"],
                "resourceNames": [bridge.meta.name],
                "verbs": ["patch"],
            },
        ],
    )


def role_binding(bridge: Bridge, settings: Settings) -> Obj:
    name = child_name(bridge.meta.name)
    return new_child(
        bridge,
        settings,
        "RoleBinding",
        name,
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        subjects=[{"kind": "ServiceAccount", "name": name, "namespace": bridge.meta.namespace}],
    )
