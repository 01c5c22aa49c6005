"""Where peers reach the plain-RTP ports of a bridge from outside. Pure; called by `reconcile`.

A Service or a Node has the address, by the mode; `addressMap` then puts a public one in its place. What comes out goes
to the pods (RTCP, SDP) and into `status.endpoints`. WebRTC legs have no part in this: they are ICE clients.
"""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from auralink_operator.index import Key, Obj, Observed
from auralink_operator.models import Bridge, ExposureMode, Leg, Medium, PodView, PublicAddress, Room

MAX_ROWS = 256
_ON_NODES = (ExposureMode.NODE_PORT, ExposureMode.HOST_PORT, ExposureMode.HOST_NETWORK)
_ON_HOSTS = (ExposureMode.HOST_PORT, ExposureMode.HOST_NETWORK)


def addresses(
    bridge: Bridge, observed: Observed, owners: Mapping[str, PodView], nodes: Mapping[str, Obj]
) -> dict[str, PublicAddress]:
    """By "<room>/<leg>/<medium>", each medium whose address is known. `nodes`: those of `nodes_needed`, as far as
    there are any."""
    service = _service(bridge, observed)
    found: dict[str, PublicAddress] = {}
    for room, leg, name, medium in _listening(bridge):
        owner = owners.get(room.name)
        if address := _address(bridge, medium, owner, service, nodes):
            ip, hostname, port = address
            pod = owner.name if owner else ""
            found[f"{room.name}/{leg.name}/{name}"] = PublicAddress(_public(bridge, ip), hostname, port, pod)
    return found


def required(bridge: Bridge) -> bool:
    """Whether anybody outside the cluster is to be told an address."""
    return bridge.spec.exposure.mode is not ExposureMode.CLUSTER_IP and any(True for _ in _listening(bridge))


def nodes_needed(bridge: Bridge, owners: Mapping[str, PodView]) -> set[str]:
    """Names of the Nodes whose addresses count."""
    if bridge.spec.exposure.mode not in _ON_NODES:
        return set()
    rooms = {room.name for room, _, _, _ in _listening(bridge)}
    return {pod.node for room, pod in owners.items() if room in rooms and pod.node}


def pending(
    bridge: Bridge,
    observed: Observed,
    owners: Mapping[str, PodView],
    known: Mapping[str, PublicAddress],
    nodes: Mapping[str, Obj],
) -> tuple[str, str] | None:
    """Reason and message of ExposureReady=False; None if every address is known, or none is needed."""
    missing = without_address(bridge, known) if required(bridge) else ()
    if not missing:
        return None
    mode = bridge.spec.exposure.mode
    if mode is ExposureMode.LOAD_BALANCER:
        return "AddressPending", _no_load_balancer(bridge)
    if mode is ExposureMode.NODE_PORT and not _has_node_ports(_service(bridge, observed)):
        return "AddressPending", f"Service auralink-{bridge.meta.name}-rtp has no nodePorts yet"
    pods = [owners[room] for room in missing if room in owners]
    if names := {pod.node for pod in pods if pod.node}:
        return _no_node_address(bridge, names, nodes)
    return "AddressPending", _no_node(min(missing), min((pod.name for pod in pods), default=""))


def without_address(bridge: Bridge, known: Mapping[str, PublicAddress]) -> tuple[str, ...]:
    """Rooms of which some medium that listens has no address."""
    media = ((room.name, f"{room.name}/{leg.name}/{name}") for room, leg, name, _ in _listening(bridge))
    return tuple(dict.fromkeys(room for room, medium in media if medium not in known))


def rows(known: Mapping[str, PublicAddress]) -> list[Obj]:
    """`status.endpoints`."""
    return [
        {
            "name": name,
            **({"pod": found.pod} if found.pod else {}),
            **({"ip": found.ip} if found.ip else {"hostname": found.hostname}),
            "port": found.port,
            "protocol": "UDP",
        }
        for name, found in sorted(known.items())[:MAX_ROWS]
    ]


# --- addresses -----------------------------------------------------------------------------------------------------


def _listening(bridge: Bridge) -> Iterator[tuple[Room, Leg, str, Medium]]:
    for room in bridge.spec.rooms:
        for leg in room.legs:
            for name, medium in leg.media:
                if medium.listen_port is not None:
                    yield room, leg, name, medium


def _service(bridge: Bridge, observed: Observed) -> Obj:
    return observed.children.get(Key("Service", bridge.meta.namespace, f"auralink-{bridge.meta.name}-rtp")) or {}


def _address(
    bridge: Bridge, medium: Medium, owner: PodView | None, service: Obj, nodes: Mapping[str, Obj]
) -> tuple[str, str, int] | None:
    """(ip, hostname, port), one of the first two empty."""
    mode, port = bridge.spec.exposure.mode, medium.listen_port
    if port is None:
        return None
    if owner is None and mode is ExposureMode.CLUSTER_IP:
        return None  # known a moment before its pod, it would be told twice, and nobody asks for it before
    if mode in _ON_NODES:
        outside = port if mode in _ON_HOSTS else _node_port(service, port)
        ip = node_ip(bridge, nodes.get(owner.node)) if owner else ""
        return (ip, "", outside) if ip and outside else None
    # Until a Service has the type that is wanted, it has an address of another.
    if (service.get("spec") or {}).get("type") != mode.value:
        return None
    ip, hostname = _cluster_ip(service) if mode is ExposureMode.CLUSTER_IP else _ingress(service)
    return (ip, hostname, port) if ip or hostname else None


def _cluster_ip(service: Obj) -> tuple[str, str]:
    ip = service["spec"].get("clusterIP") or ""
    return ("" if ip == "None" else ip), ""


def _ingress(service: Obj) -> tuple[str, str]:
    for entry in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
        if entry.get("ip") or entry.get("hostname"):
            return entry.get("ip") or "", "" if entry.get("ip") else entry["hostname"]
    return "", ""


def _node_port(service: Obj, port: int) -> int | None:
    for entry in (service.get("spec") or {}).get("ports") or ():
        if entry.get("port") == port and entry.get("protocol") == "UDP":
            number: int | None = entry.get("nodePort")
            return number
    return None


def _has_node_ports(service: Obj) -> bool:
    ports = (service.get("spec") or {}).get("ports") or ()
    return bool(ports) and all(port.get("nodePort") for port in ports)


def node_ip(bridge: Bridge, node: Obj | None) -> str:
    """The address of a Node that the bridge's peers use; "" if it has none of that type."""
    wanted = bridge.spec.exposure.node_address_type.value
    listed: list[dict[str, Any]] = ((node or {}).get("status") or {}).get("addresses") or []
    return next((str(entry.get("address") or "") for entry in listed if entry.get("type") == wanted), "")


def _public(bridge: Bridge, ip: str) -> str:
    """Compared as addresses: an IPv6 address has many spellings."""
    if not ip:
        return ip
    table = {ip_address(entry.discovered): entry.public for entry in bridge.spec.exposure.address_map}
    return table.get(ip_address(ip), ip)


# --- why there is none ---------------------------------------------------------------------------------------------


def _no_load_balancer(bridge: Bridge) -> str:
    wanted = bridge.spec.exposure.load_balancer_class
    return (
        f"Service auralink-{bridge.meta.name}-rtp has got no address from a load balancer yet. If it stays so, check"
        " that the cluster has a controller for them"
        + (f" of loadBalancerClass {wanted}" if wanted else "")
        + " which takes UDP, and kubectl describe the Service"
    )


def _no_node(room: str, pod: str) -> str:
    """A room on a Node has no address before it has a pod, and while nobody says where that is."""
    if not pod:
        return f"room {room} has no pod yet whose Node's address could be told"
    return (
        f"the Node of pod {pod} is not known: its entry in status.pods names none, and the API server does not say; let"
        " the operator get pods"
    )


def _no_node_address(bridge: Bridge, names: set[str], nodes: Mapping[str, Obj]) -> tuple[str, str]:
    wanted = bridge.spec.exposure.node_address_type
    unread = sorted(name for name in names if name not in nodes)
    if unread:
        return "AddressPending", (
            f"the address of Node {unread[0]} is not known: the operator needs the right to get Nodes (chart value"
            " rbac.nodes), and the Node must exist"
        )
    without = sorted(names)[0]
    other = " or set exposure.nodeAddressType to InternalIP if peers reach that" if wanted.value == "ExternalIP" else ""
    reason = "NoExternalIP" if wanted.value == "ExternalIP" else "AddressPending"
    return reason, f"Node {without} has no address of type {wanted.value}: give it one{other}"
