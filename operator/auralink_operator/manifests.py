"""What a bridge's children should be, and where a child differs from that. Pure; called by `reconcile`.

Two looks decide whether a child must be written. `auralink.io/applied-hash` tells that what we want has changed,
removals included. `differs` tells that somebody else changed what we want: leaf by leaf, so that fields which the API
server or other controllers add are left alone.
"""

import json
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import Any

from auralink_operator.index import (
    ANNOTATION_BRIDGE_UID,
    ANNOTATION_POLICIES,
    LABEL_BRIDGE,
    RESOURCES,
    Key,
    Obj,
    Observed,
)
from auralink_operator.models import API_VERSION, GROUP, Bridge, Compiled, PodView, Room
from auralink_operator.settings import Settings

MANAGED_BY = "auralink-operator"
APPLIED_HASH = "auralink.io/applied-hash"
CONFIG_GENERATION = "auralink.io/config-generation"
CONFIG_HASH = "auralink.io/config-hash"
CONFIG_LIMIT_BYTES = 900_000
HTTP_PORT, METRICS_PORT = 8080, 9090
_SECRETS = "/etc/auralink/secrets"

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


class ConfigTooLargeError(ValueError):
    """The configuration does not fit into a ConfigMap."""


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


def next_generation(wanted_hash: str, seen: Sequence[tuple[int, str]]) -> int:
    """The generation of a configuration, given every (generation, hash) found: a crash or a loss never lowers it."""
    generation, known_hash = max(seen, default=(0, ""))
    return generation if known_hash == wanted_hash else generation + 1


def owner_of(room: str, pods: Sequence[PodView]) -> PodView | None:
    """The pod that serves a plain-RTP room: rendezvous hashing, so that a pod that leaves moves only its own rooms."""
    candidates = [pod for pod in pods if pod.serving and pod.ip]
    return max(candidates, key=lambda pod: sha256(f"{room}\0{pod.name}".encode()).digest(), default=None)


def hot_spec(bridge: Bridge, settings: Settings) -> dict[str, Any]:
    """The part of the spec that pods apply while they run."""
    spec = bridge.spec.written_out()
    spec["aiCore"].setdefault("addresses", [settings.ai_core_address])
    return {name: spec[name] for name in ("region", "environment", "logLevel", "rooms", "aiCore", "compression", "api")}


def desired(
    bridge: Bridge, compiled: Compiled, observed: Observed, pods: Sequence[PodView], settings: Settings
) -> tuple[Obj, ...]:
    """Every child, in the order of writing, each with the hash of itself in an annotation."""
    children = [
        _service_account(bridge),
        _role(bridge),
        _role_binding(bridge),
        _config_map(bridge, compiled, observed, pods, settings),
        _service(bridge),
        *_rtp_service(bridge),
        *_endpoint_slices(bridge, observed, pods),
        *_disruption_budget(bridge),
        _deployment(bridge, settings),
    ]
    for child in children:
        annotations = child["metadata"].setdefault("annotations", {})
        annotations[APPLIED_HASH] = short_hash(child)
    return tuple(children)


def _child(bridge: Bridge, kind: str, name: str, **body: Any) -> Obj:
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


def _service_account(bridge: Bridge) -> Obj:
    return _child(bridge, "ServiceAccount", child_name(bridge.meta.name), automountServiceAccountToken=False)


def _role(bridge: Bridge) -> Obj:
    """A pod reads its own configuration and writes its own bridge's status: nothing else, and no Secret."""
    name = child_name(bridge.meta.name)
    return _child(
        bridge,
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


def _role_binding(bridge: Bridge) -> Obj:
    name = child_name(bridge.meta.name)
    return _child(
        bridge,
        "RoleBinding",
        name,
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        subjects=[{"kind": "ServiceAccount", "name": name, "namespace": bridge.meta.namespace}],
    )


def _config_map(
    bridge: Bridge, compiled: Compiled, observed: Observed, pods: Sequence[PodView], settings: Settings
) -> Obj:
    name = f"{child_name(bridge.meta.name)}-config"
    hot = {
        "bridge": hot_spec(bridge, settings),
        "policies": [policy.rendered() for policy in compiled.policies],
    }
    wanted = short_hash(hot)
    live = observed.children.get(Key("ConfigMap", bridge.meta.namespace, name))
    generation = next_generation(wanted, _seen_generations(bridge, live))
    config = _json({"version": 1, "generation": generation, **hot})
    owners = {room.name: pod.name for room in bridge.spec.rooms if (pod := owner_of(room.name, pods))}
    addresses = {pod.name: [{"ip": pod.ip, "port": HTTP_PORT}] for pod in pods if pod.serving and pod.ip}
    child = _child(
        bridge,
        "ConfigMap",
        name,
        data={"config.json": config, "owners.json": _json(owners), "addresses.json": _json(addresses)},
    )
    if sum(len(text.encode()) for text in child["data"].values()) > CONFIG_LIMIT_BYTES:
        raise ConfigTooLargeError(
            f"the configuration is larger than {CONFIG_LIMIT_BYTES} bytes: use fewer rooms or policies per bridge"
        )
    child["metadata"]["annotations"] |= {
        CONFIG_GENERATION: str(generation),
        CONFIG_HASH: wanted,
        ANNOTATION_POLICIES: _json({policy.name: policy.generation for policy in compiled.policies}),
    }
    return child


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _seen_generations(bridge: Bridge, live: Obj | None) -> list[tuple[int, str]]:
    annotations = _annotations(live)
    config = bridge.meta.status.get("config") or {}
    found = [
        (str(annotations.get(CONFIG_GENERATION)), str(annotations.get(CONFIG_HASH) or "")),
        (str(config.get("desiredGeneration")), str(config.get("hash") or "")),
    ]
    return [(int(number), known) for number, known in found if number.isdigit()]


def config_of(children: Sequence[Obj]) -> tuple[int, str]:
    """Generation and hash of the rendered configuration."""
    for child in children:
        if child["kind"] == "ConfigMap":
            annotations = child["metadata"]["annotations"]
            return int(annotations[CONFIG_GENERATION]), annotations[CONFIG_HASH]
    raise LookupError("no ConfigMap among the children")


def _service(bridge: Bridge) -> Obj:
    ports = (("http", HTTP_PORT), ("metrics", METRICS_PORT))
    return _child(
        bridge,
        "Service",
        child_name(bridge.meta.name),
        spec={
            "type": "ClusterIP",
            "selector": selector(bridge.meta.name),
            "ports": [{"name": name, "port": port, "targetPort": name, "protocol": "TCP"} for name, port in ports],
        },
    )


def _udp_ports(numbers: Sequence[int]) -> list[Obj]:
    return [{"name": f"p{number}", "port": number, "protocol": "UDP"} for number in numbers]


def _rtp_service(bridge: Bridge) -> list[Obj]:
    """One Service for all rooms, without selector: which pod gets which port is said by a room's EndpointSlice."""
    numbers = sorted({number for room in bridge.spec.rooms for number in room.listen_ports()})
    if not numbers:
        return []
    ports = [{**port, "targetPort": port["port"]} for port in _udp_ports(numbers)]
    return [
        _child(bridge, "Service", f"{child_name(bridge.meta.name)}-rtp", spec={"type": "ClusterIP", "ports": ports})
    ]


def _endpoint_slices(bridge: Bridge, observed: Observed, pods: Sequence[PodView]) -> list[Obj]:
    """A slice per room that listens; it stays, empty, while the room has no owner."""
    service = f"{child_name(bridge.meta.name)}-rtp"
    slices = []
    for room in bridge.spec.rooms:
        name = f"{service}-{sha256(room.name.encode()).hexdigest()[:10]}"
        owner = owner_of(room.name, pods)
        live = observed.children.get(Key("EndpointSlice", bridge.meta.namespace, name))
        if room.listen_ports() and (owner or live):
            slices.append(_endpoint_slice(bridge, room, name, service, owner, live))
    return slices


def _endpoint_slice(
    bridge: Bridge, room: Room, name: str, service: str, owner: PodView | None, live: Obj | None
) -> Obj:
    child = _child(
        bridge,
        "EndpointSlice",
        name,
        addressType=live["addressType"] if live else "IPv6" if owner and ":" in owner.ip else "IPv4",
        ports=_udp_ports(room.listen_ports()),
        endpoints=[_endpoint(bridge, owner)] if owner else [],
    )
    child["metadata"]["annotations"]["auralink.io/room"] = room.name
    child["metadata"]["labels"] |= {
        "kubernetes.io/service-name": service,
        "endpointslice.kubernetes.io/managed-by": MANAGED_BY,
    }
    return child


def _endpoint(bridge: Bridge, pod: PodView) -> Obj:
    return {
        "addresses": [pod.ip],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        **({"nodeName": pod.node} if pod.node else {}),
        "targetRef": {"kind": "Pod", "namespace": bridge.meta.namespace, "name": pod.name, "uid": pod.uid},
    }


def _disruption_budget(bridge: Bridge) -> list[Obj]:
    """From two replicas only: with one, a budget would block the drain of its node for good."""
    if not bridge.spec.pod_disruption_budget or bridge.spec.wanted_replicas() < 2:
        return []
    return [
        _child(
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


def _deployment(bridge: Bridge, settings: Settings) -> Obj:
    return _child(
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


# --- where a child differs ---------------------------------------------------------------------------------------

_LIST_KEYS = ("name", "mountPath", "uid", "containerPort")
_QUANTITY = re.compile(r"^([+-]?[0-9.]+)(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?[0-9]+|)$")
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


def differs(want: Obj, have: Obj) -> str | None:
    """The path of the first leaf that is not as wanted; None if all are. What `have` has beyond that is not ours."""
    return _differs(want, have, "")


def _differs(want: Any, have: Any, path: str) -> str | None:
    if not want and not have and not isinstance(want, (bool, int)) and not isinstance(have, (bool, int)):
        return None  # [], {} and "" come back as nothing
    if isinstance(want, dict):
        if not isinstance(have, dict):
            return path or "."
        for name, value in want.items():
            if found := _differs(value, have.get(name), f"{path}.{name}"):
                return found
        return None
    if isinstance(want, list):
        return _differs_list(want, have, path)
    if want == have and isinstance(want, bool) == isinstance(have, bool):
        return None
    return None if _same_quantity(want, have, path) else path


def _differs_list(want: list[Any], have: Any, path: str) -> str | None:
    if not isinstance(have, list):
        return path
    if key := next((k for k in _LIST_KEYS if _keyed(want, k) and _keyed(have, k)), None):
        by_key = {item[key]: item for item in have}
        for item in want:
            if found := _differs(item, by_key.get(item[key]), f"{path}[{item[key]}]"):
                return found
        return None
    if len(want) != len(have):
        return path
    for number, (wanted, found_item) in enumerate(zip(want, have, strict=True)):
        if found := _differs(wanted, found_item, f"{path}[{number}]"):
            return found
    return None


def _keyed(items: list[Any], key: str) -> bool:
    """Whether a list is a map by that key; lists that Kubernetes replaces as a whole have none of the keys."""
    values = [item.get(key) for item in items if isinstance(item, dict)]
    return len(values) == len(items) and None not in values and len(set(values)) == len(values)


def _same_quantity(want: Any, have: Any, path: str) -> bool:
    """The API server writes 0.5 as 500m."""
    if not any(part in path for part in (".requests.", ".limits.", ".sizeLimit")):
        return False
    wanted, found = _quantity(str(want)), _quantity(str(have))
    return wanted is not None and wanted == found


def _quantity(text: str) -> Decimal | None:
    match = _QUANTITY.match(text)
    if not match:
        return None
    number, unit = match.groups()
    try:
        value: Decimal = Decimal(number)
    except InvalidOperation:
        return None
    if unit in _BINARY:
        return value * Decimal(1024) ** _BINARY[unit]
    exponent = _DECIMAL[unit] if unit in _DECIMAL else int(unit[1:])
    return value.scaleb(exponent)


def needs_write(want: Obj, have: Obj | None) -> str | None:
    """Why a child must be applied; None if it must not."""
    if have is None:
        return "missing"
    return differs(want, have)


def is_drift(want: Obj, have: Obj) -> bool:
    """Whether a difference is somebody else's doing: what we last wrote is still what we want."""
    return bool(want["metadata"]["annotations"][APPLIED_HASH] == _annotations(have).get(APPLIED_HASH))


def _annotations(obj: Obj | None) -> dict[str, str]:
    return (obj or {}).get("metadata", {}).get("annotations") or {}


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
