"""What runs a bridge's pods: the Deployment with its pod template, and the budget for disrupting them."""

from auralink_operator.index import ANNOTATION_BRIDGE_UID, Obj
from auralink_operator.manifests.labels import HTTP_PORT, METRICS_PORT, child_name, labels, new_child, selector
from auralink_operator.models import Bridge
from auralink_operator.settings import Settings

_SECRETS = "/etc/auralink/secrets"


def disruption_budget(bridge: Bridge) -> list[Obj]:
    """From two replicas only: with one, a budget would block the drain of its node for good."""
    if not bridge.spec.pod_disruption_budget or bridge.spec.wanted_replicas() < 2:
        return []
    return [
        new_child(
            bridge,
            "PodDisruptionBudget",
            child_name(bridge.meta.name),
            spec={
                "maxUnavailable": 1,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": selector(bridge.meta.name)},
            },
        )
    ]


def deployment(bridge: Bridge, settings: Settings) -> Obj:
    return new_child(
        bridge,
        "Deployment",
        child_name(bridge.meta.name),
        spec={
            "replicas": bridge.spec.wanted_replicas(),
            "progressDeadlineSeconds": 300,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": selector(bridge.meta.name)},
            # A new pod is there before an old one leaves: a rollout takes nobody's place away.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {
                    "labels": labels(bridge.meta.name),
                    "annotations": {ANNOTATION_BRIDGE_UID: bridge.meta.uid},
                },
                "spec": _pod_spec(bridge, settings),
            },
        },
    )


def _pod_spec(bridge: Bridge, settings: Settings) -> Obj:
    """Nothing here depends on what pods take from the ConfigMap: such a change must not roll them."""
    drain = bridge.spec.drain
    secrets = _secret_sources(bridge)
    volumes: list[Obj] = [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]
    mounts: list[Obj] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - a path in the pod
    if secrets:
        volumes.append({"name": "secrets", "projected": {"defaultMode": 0o440, "sources": secrets}})
        mounts.append({"name": "secrets", "mountPath": _SECRETS, "readOnly": True})
    return {
        "serviceAccountName": child_name(bridge.meta.name),
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": drain.propagation_seconds + drain.timeout_seconds + 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "topologyKey": "topology.kubernetes.io/zone",
                "maxSkew": 1,
                "whenUnsatisfiable": "ScheduleAnyway",
                "matchLabelKeys": ["pod-template-hash"],
                "labelSelector": {"matchLabels": selector(bridge.meta.name)},
            }
        ],
        "volumes": volumes,
        "containers": [_container(bridge, settings, mounts)],
    }


def _container(bridge: Bridge, settings: Settings, mounts: list[Obj]) -> Obj:
    return {
        "name": "data-plane",
        "image": bridge.spec.image or settings.data_plane_image,
        "imagePullPolicy": "IfNotPresent",
        "env": _environment(bridge),
        "ports": [
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
        ],
        "startupProbe": _probe("/health", 2, 60),
        "livenessProbe": _probe("/health", 10, 3),
        "readinessProbe": _probe("/ready", 5, 2),
        "resources": bridge.spec.resources.written_out(),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def _environment(bridge: Bridge) -> list[Obj]:
    fixed = {
        "BRIDGE_ID": f"{bridge.meta.namespace}/{bridge.meta.name}",
        "CONFIG_MAP": f"{child_name(bridge.meta.name)}-config",
        "HTTP_PORT": str(HTTP_PORT),
        "METRICS_PORT": str(METRICS_PORT),
        "DRAIN_PROPAGATION_S": str(bridge.spec.drain.propagation_seconds),
        "DRAIN_TIMEOUT_S": str(bridge.spec.drain.timeout_seconds),
    }
    own = {
        "POD_NAME": "metadata.name",
        "POD_UID": "metadata.uid",
        "POD_NAMESPACE": "metadata.namespace",
        "POD_IP": "status.podIP",
        "NODE_NAME": "spec.nodeName",
    }
    return [{"name": name, "value": value} for name, value in fixed.items()] + [
        {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}} for name, path in own.items()
    ]


def _probe(path: str, period_s: int, failures: int) -> Obj:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period_s,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _secret_sources(bridge: Bridge) -> list[Obj]:
    """Optional all: a pod without its credentials runs, says so and takes them when they come."""
    keys: dict[str, set[str]] = {}
    if bridge.spec.ai_core.tls_secret_name:
        keys.setdefault(bridge.spec.ai_core.tls_secret_name, set()).update(("ca.crt", "tls.crt", "tls.key"))
    if token := bridge.spec.api.token_ref:
        keys.setdefault(token.name, set()).add(token.key)
    return [
        {
            "secret": {
                "name": name,
                "optional": True,
                "items": [{"key": key, "path": f"{name}/{key}"} for key in sorted(wanted)],
            }
        }
        for name, wanted in sorted(keys.items())
    ]
