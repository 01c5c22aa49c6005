"""How a bridge's pods are reached: the Services, and per room that listens an EndpointSlice that names its owner."""

from collections.abc import Sequence
from hashlib import sha256

from auralink_operator.index import Key, Obj, Observed
from auralink_operator.manifests.labels import HTTP_PORT, MANAGED_BY, METRICS_PORT, child_name, new_child, selector
from auralink_operator.models import Bridge, PodView, Room


def owner_of(room: str, pods: Sequence[PodView]) -> PodView | None:
    """The pod that serves a plain-RTP room: rendezvous hashing, so that a pod that leaves moves only its own rooms."""
    candidates = [pod for pod in pods if pod.serving and pod.ip]
    return max(candidates, key=lambda pod: sha256(f"{room}\0{pod.name}".encode()).digest(), default=None)


def service(bridge: Bridge) -> Obj:
    ports = (("http", HTTP_PORT), ("metrics", METRICS_PORT))
    return new_child(
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


def rtp_service(bridge: Bridge) -> list[Obj]:
    """One Service for all rooms, without selector: which pod gets which port is said by a room's EndpointSlice."""
    numbers = sorted({number for room in bridge.spec.rooms for number in room.listen_ports()})
    if not numbers:
        return []
    ports = [{**port, "targetPort": port["port"]} for port in _udp_ports(numbers)]
    return [
        new_child(bridge, "Service", f"{child_name(bridge.meta.name)}-rtp", spec={"type": "ClusterIP", "ports": ports})
    ]


def endpoint_slices(bridge: Bridge, observed: Observed, pods: Sequence[PodView]) -> list[Obj]:
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
    child = new_child(
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
