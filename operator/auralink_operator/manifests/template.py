"""The pods of a bridge, as their Deployment makes them.

Nothing in here depends on what pods take from the ConfigMap: a change of that must not roll them.
"""

from typing import Any

from pydantic import BaseModel

from auralink_operator.index import ANNOTATION_BRIDGE_UID, Obj
from auralink_operator.manifests.labels import HTTP_PORT, METRICS_PORT, child_name, labels, selector
from auralink_operator.manifests.merge import TemplateError, merge_template
from auralink_operator.manifests.network import HOST_MODES, listen_ports
from auralink_operator.models import Bridge, ExposureMode, SecretKey
from auralink_operator.settings import Settings

_SECRETS = "/etc/auralink/secrets"
CONTAINER = "data-plane"


def pod_template(bridge: Bridge, settings: Settings) -> Obj:
    """What the user gives under `spec.pod` included. Raises UnrenderableError."""
    pod = bridge.spec.pod
    own: Obj = {
        "labels": labels(bridge.meta.name, settings.shard),
        "annotations": {ANNOTATION_BRIDGE_UID: bridge.meta.uid},
    }
    rendered = {
        "metadata": {
            "labels": {**pod.labels, **own["labels"]},
            "annotations": {**pod.annotations, **own["annotations"]},
        },
        "spec": _pod_spec(bridge, settings),
    }
    if not pod.template:
        return rendered
    merged = merge_template(rendered, pod.template)
    # What finds the pods again is not the user's, whatever is merged.
    meta = merged["metadata"] = _map(merged, "metadata", "spec.pod.template")
    for name, values in own.items():
        meta[name] = {**_map(meta, name, "spec.pod.template.metadata"), **values}
    return merged


def _map(holder: Obj, name: str, path: str) -> Obj:
    found = holder.get(name) or {}
    if not isinstance(found, dict):
        raise TemplateError(f"{path}.{name}: must be an object")
    return dict(found)


def _pod_spec(bridge: Bridge, settings: Settings) -> Obj:
    drain, pod, mode = bridge.spec.drain, bridge.spec.pod, bridge.spec.exposure.mode
    sources = _secret_sources(bridge)
    volumes: list[Obj] = [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]
    mounts: list[Obj] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - a path in the pod
    if sources:
        volumes.append({"name": "secrets", "projected": {"defaultMode": 0o440, "sources": sources}})
        mounts.append({"name": "secrets", "mountPath": _SECRETS, "readOnly": True})
    spec: Obj = {
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
        "topologySpreadConstraints": [_spread(bridge)],
        "volumes": volumes,
        "containers": [_container(bridge, settings, mounts)],
    }
    if pod.node_selector:
        spec["nodeSelector"] = dict(pod.node_selector)
    if pod.priority_class_name:
        spec["priorityClassName"] = pod.priority_class_name
    if pod.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": secret.name} for secret in pod.image_pull_secrets]
    if mode in HOST_MODES:
        spec["affinity"] = _one_per_node(bridge)
    if mode is ExposureMode.HOST_NETWORK:
        spec |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    return spec


def _spread(bridge: Bridge) -> Obj:
    return {
        "topologyKey": "topology.kubernetes.io/zone",
        "maxSkew": 1,
        "whenUnsatisfiable": "ScheduleAnyway",
        "matchLabelKeys": ["pod-template-hash"],
        "labelSelector": {"matchLabels": selector(bridge.meta.name)},
    }


def _one_per_node(bridge: Bridge) -> Obj:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": selector(bridge.meta.name)}}
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def _container(bridge: Bridge, settings: Settings, mounts: list[Obj]) -> Obj:
    return {
        "name": CONTAINER,
        "image": bridge.spec.image or settings.data_plane_image,
        "imagePullPolicy": "IfNotPresent",
        "env": _environment(bridge),
        "ports": _ports(bridge),
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


def _ports(bridge: Bridge) -> list[Obj]:
    """Media ports are named only where the Node has to give them: elsewhere they stay out of the template, and hot."""
    mode = bridge.spec.exposure.mode
    ports: list[Obj] = [
        {"name": name, "containerPort": number, "protocol": "TCP"}
        for name, number in (("http", HTTP_PORT), ("metrics", METRICS_PORT))
    ]
    if mode is ExposureMode.HOST_NETWORK:
        return [{**port, "hostPort": port["containerPort"]} for port in ports]
    if mode is ExposureMode.HOST_PORT:
        ports += [{"containerPort": n, "hostPort": n, "protocol": "UDP"} for n in listen_ports(bridge)]
    return ports


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
    for reference in _references(bridge.spec):
        keys.setdefault(reference.name, set()).add(reference.key)
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


def template_inputs(bridge: Bridge, settings: Settings) -> Obj:
    """What of the spec the pods are made of. If this is as before and the template is not, the change is ours.

    Without defaults, so that a field that a later version adds does not look like somebody's change.
    """
    spec = bridge.spec
    on_ports = spec.exposure.mode is ExposureMode.HOST_PORT
    return {
        **spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, include={"image", "resources", "pod"}),
        "drain": [spec.drain.propagation_seconds, spec.drain.timeout_seconds],
        "mode": spec.exposure.mode.value,
        "ports": listen_ports(bridge) if on_ports else [],
        "secrets": [source["secret"]["items"] for source in _secret_sources(bridge)],
        "shard": settings.shard,
    }


def _references(value: Any) -> list[SecretKey]:
    """Every Secret key that is named anywhere in a value: by its type, so that no field can be forgotten."""
    if isinstance(value, SecretKey):
        return [value]
    if isinstance(value, BaseModel):
        return [found for name in type(value).model_fields for found in _references(getattr(value, name))]
    if isinstance(value, tuple):
        return [found for item in value for found in _references(item)]
    return []
