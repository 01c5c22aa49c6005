"""How a bridge's pods are reached: the Services, and per room that listens an EndpointSlice that names its owner.

In the modes HostPort and HostNetwork peers come to the Node of a room's pod, and no Service carries media.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from auralink_operator.index import Key, Obj, Observed
from auralink_operator.manifests.labels import (
    HTTP_PORT,
    MANAGED_BY,
    METRICS_PORT,
    child_name,
    new_child,
    rtp_name,
    selector,
)
from auralink_operator.models import Bridge, ExposureMode, PodView, Room, Scene, ServiceMonitorMode
from auralink_operator.settings import Settings

ROOM = "auralink.io/room"  # annotation of a room's EndpointSlice
HOST_MODES = (ExposureMode.HOST_PORT, ExposureMode.HOST_NETWORK)
EVERYBODY = ("0.0.0.0/0", "::/0")


def service(bridge: Bridge, settings: Settings) -> Obj:
    ports = (("http", HTTP_PORT), ("metrics", METRICS_PORT))
    return new_child(
        bridge,
        settings,
        "Service",
        child_name(bridge.meta.name),
        spec={
            "type": "ClusterIP",
            "selector": selector(bridge.meta.name),
            "ports": [{"name": name, "port": port, "targetPort": name, "protocol": "TCP"} for name, port in ports],
        },
    )


def listen_ports(bridge: Bridge) -> list[int]:
    return sorted({number for room in bridge.spec.rooms for number in room.listen_ports()})


def udp_ports(numbers: Sequence[int]) -> list[Obj]:
    return [{"name": f"p{number}", "port": number, "protocol": "UDP"} for number in numbers]


def rtp_service(bridge: Bridge, settings: Settings) -> list[Obj]:
    """One Service for all rooms, without selector: which pod gets which port is said by a room's EndpointSlice.

    externalTrafficPolicy is Cluster, because the pod of a room is seldom on the Node that a packet comes to.
    """
    exposure, numbers = bridge.spec.exposure, listen_ports(bridge)
    if not numbers or exposure.mode in HOST_MODES:
        return []
    ports = [{**port, "targetPort": port["port"]} for port in udp_ports(numbers)]
    spec: dict[str, Any] = {"type": exposure.mode.value, "ports": ports}
    if exposure.mode is not ExposureMode.CLUSTER_IP:
        spec["externalTrafficPolicy"] = "Cluster"
    if exposure.mode is ExposureMode.LOAD_BALANCER and exposure.load_balancer_class:
        spec["loadBalancerClass"] = exposure.load_balancer_class
    if filtered_by_service(bridge):
        spec["loadBalancerSourceRanges"] = list(bridge.spec.network_policy.media_from)
    found = new_child(bridge, settings, "Service", rtp_name(bridge.meta.name), spec=spec)
    found["metadata"]["annotations"] = {**exposure.service_annotations, **found["metadata"]["annotations"]}
    return [found]


def filtered_by_service(bridge: Bridge) -> bool:
    """Whether the load balancer is to look who sends: a NetworkPolicy behind it sees the Node that passed a packet on.

    An empty list would mean everybody to it, and means nobody to a bridge: that is the policy's to say.
    """
    policy = bridge.spec.network_policy
    restricted = bool(policy.media_from) and not set(EVERYBODY) <= set(policy.media_from)
    return policy.enabled and restricted and bridge.spec.exposure.mode is ExposureMode.LOAD_BALANCER


def endpoint_slices(bridge: Bridge, observed: Observed, scene: Scene, settings: Settings) -> list[Obj]:
    """A slice per room that listens; it stays, empty, while the room has no owner."""
    if bridge.spec.exposure.mode in HOST_MODES:
        return []
    slices = []
    for room in bridge.spec.rooms:
        name = slice_name(bridge.meta.name, room.name)
        owner = scene.owners.get(room.name)
        live = observed.children.get(Key("EndpointSlice", bridge.meta.namespace, name))
        if room.listen_ports() and (owner or live):
            slices.append(_endpoint_slice(bridge, room, name, owner, live, settings))
    return slices


def slice_name(bridge: str, room: str) -> str:
    return f"{rtp_name(bridge)}-{sha256(room.encode()).hexdigest()[:10]}"


def _endpoint_slice(
    bridge: Bridge, room: Room, name: str, owner: PodView | None, live: Obj | None, settings: Settings
) -> Obj:
    found = new_child(
        bridge,
        settings,
        "EndpointSlice",
        name,
        addressType=live["addressType"] if live else "IPv6" if owner and ":" in owner.ip else "IPv4",
        ports=udp_ports(room.listen_ports()),
        endpoints=_endpoints(bridge.meta.namespace, owner, live),
    )
    found["metadata"]["annotations"][ROOM] = room.name
    found["metadata"]["labels"] |= {
        "kubernetes.io/service-name": rtp_name(bridge.meta.name),
        "endpointslice.kubernetes.io/managed-by": MANAGED_BY,
    }
    return found


def _endpoints(namespace: str, owner: PodView | None, live: Obj | None) -> list[Obj]:
    """An owner that nobody can ask for where it is is where it was."""
    if owner is None:
        return []
    if owner.ip:
        return [endpoint(namespace, owner)]
    told: list[Obj] = (live or {}).get("endpoints") or []
    return [one for one in told if (one.get("targetRef") or {}).get("name") == owner.name]


def endpoint(namespace: str, pod: PodView) -> Obj:
    return {
        "addresses": [pod.ip],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        **({"nodeName": pod.node} if pod.node else {}),
        "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod.name, "uid": pod.uid},
    }


def service_monitor(bridge: Bridge, scene: Scene, settings: Settings) -> list[Obj]:
    """Only where the cluster knows the kind. The Service `-rtp` has the labels too, but no port `metrics`."""
    wanted = bridge.spec.monitoring.service_monitor is ServiceMonitorMode.AUTO
    if not wanted or not scene.capabilities.service_monitors:
        return []
    spec = {
        "selector": {"matchLabels": selector(bridge.meta.name)},
        "endpoints": [{"port": "metrics", "path": "/metrics"}],
    }
    found = new_child(bridge, settings, "ServiceMonitor", child_name(bridge.meta.name), spec=spec)
    found["metadata"]["labels"] = {**dict(settings.monitor_labels), **found["metadata"]["labels"]}
    return [found]
