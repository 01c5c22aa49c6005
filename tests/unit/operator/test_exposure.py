"""Where peers reach a bridge, in each mode, and what is said while they cannot."""

from collections.abc import Mapping
from typing import Any

import pytest
from auralink_operator.exposure import addresses, nodes_needed, pending, required, rows
from auralink_operator.index import Obj, Observed, key_of
from auralink_operator.models import Bridge, PodView, PublicAddress, parse_bridge

from tests.unit.operator import samples

POD = PodView("p1", "uid-p1", "10.0.0.1", "node-1", ready=True, deleting=False, entry={"phase": "Serving"})
OWNERS = {"demo": POD}
NODE: Obj = {
    "status": {
        "addresses": [
            {"type": "InternalIP", "address": "10.9.0.1"},
            {"type": "Hostname", "address": "node-1"},
            {"type": "ExternalIP", "address": "198.51.100.1"},
        ]
    }
}
INSIDE: Obj = {"status": {"addresses": [{"type": "InternalIP", "address": "10.9.0.1"}]}}


def bridge(mode: str, **exposure: Any) -> Obj:
    return samples.bridge(exposure={"mode": mode, **exposure})


def service(kind: str, *, node_port: int | None = None, cluster_ip: str = "10.96.0.9", **balancer: Any) -> Obj:
    port: Obj = {"name": "p5004", "port": 5004, "protocol": "UDP"}
    if node_port:
        port["nodePort"] = node_port
    return {
        "kind": "Service",
        "metadata": {"name": "auralink-b-rtp", "namespace": "ns"},
        "spec": {"type": kind, "clusterIP": cluster_ip, "ports": [port]},
        "status": {"loadBalancer": balancer},
    }


class Look:
    """What exposure says of a bridge with this Service and these Nodes."""

    def __init__(
        self,
        obj: Obj,
        *children: Obj,
        nodes: Mapping[str, Obj] | None = None,
        owners: Mapping[str, PodView] | None = None,
    ) -> None:
        self.bridge: Bridge = parse_bridge(obj)
        observed = Observed(obj, {key_of(child): child for child in children}, (), ())
        serving = OWNERS if owners is None else owners
        self.found = addresses(self.bridge, observed, serving, nodes or {})
        self.pending = pending(self.bridge, observed, serving, self.found, nodes or {})
        self.nodes = nodes_needed(self.bridge, serving)


ADDRESS = "demo/in/video"


def test_within_the_cluster_it_is_the_service_and_nobody_waits_for_it() -> None:
    look = Look(bridge("ClusterIP"), service("ClusterIP"))
    assert look.found == {ADDRESS: PublicAddress("10.96.0.9", "", 5004, "p1")}
    assert not required(look.bridge)
    assert look.pending is None
    assert Look(bridge("ClusterIP")).pending is None
    assert Look(bridge("ClusterIP"), service("ClusterIP", cluster_ip="None")).found == {}
    assert Look(bridge("ClusterIP"), service("ClusterIP"), owners={}).found == {}


def test_a_node_port_is_on_the_owner_s_node() -> None:
    look = Look(bridge("NodePort"), service("NodePort", node_port=31004), nodes={"node-1": NODE})
    assert look.found == {ADDRESS: PublicAddress("198.51.100.1", "", 31004, "p1")}
    assert look.nodes == {"node-1"}
    assert look.pending is None


def test_a_service_without_node_ports_is_waited_for() -> None:
    for children in ((), (service("NodePort"),)):
        reason, message = Look(bridge("NodePort"), *children, nodes={"node-1": NODE}).pending or ("", "")
        assert reason == "AddressPending"
        assert "auralink-b-rtp" in message


@pytest.mark.parametrize(
    ("ingress", "ip", "hostname"),
    [
        ([{"ip": "203.0.113.5"}], "203.0.113.5", ""),
        ([{"hostname": "lb.example.com"}], "", "lb.example.com"),
        ([{}, {"ip": "203.0.113.5", "hostname": "lb.example.com"}], "203.0.113.5", ""),
    ],
)
def test_a_load_balancer_has_an_address_or_a_name(ingress: list[Obj], ip: str, hostname: str) -> None:
    look = Look(bridge("LoadBalancer"), service("LoadBalancer", ingress=ingress), owners={})
    assert look.found == {ADDRESS: PublicAddress(ip, hostname, 5004, "")}
    assert look.nodes == set()
    assert look.pending is None


def test_a_load_balancer_that_does_not_come_is_told_with_its_class() -> None:
    reason, message = Look(bridge("LoadBalancer", loadBalancerClass="x/y"), service("LoadBalancer")).pending or ("", "")
    assert reason == "AddressPending"
    assert "x/y" in message


def test_a_service_of_the_mode_before_gives_no_address() -> None:
    left = service("LoadBalancer", ingress=[{"ip": "203.0.113.5"}])
    assert Look(bridge("ClusterIP"), left).found == {}
    assert Look(bridge("LoadBalancer"), service("ClusterIP", ingress=[{"ip": "203.0.113.5"}])).found == {}


@pytest.mark.parametrize("mode", ["HostPort", "HostNetwork"])
def test_on_a_host_it_is_the_owner_s_node_and_the_port_itself(mode: str) -> None:
    look = Look(bridge(mode), nodes={"node-1": NODE})
    assert look.found == {ADDRESS: PublicAddress("198.51.100.1", "", 5004, "p1")}
    inside = Look(bridge(mode, nodeAddressType="InternalIP"), nodes={"node-1": NODE})
    assert inside.found[ADDRESS].ip == "10.9.0.1"


def test_a_node_without_such_an_address_is_told_from_one_that_cannot_be_read() -> None:
    reason, message = Look(bridge("HostPort"), nodes={"node-1": INSIDE}).pending or ("", "")
    assert reason == "NoExternalIP"
    assert "nodeAddressType" in message
    reason, message = Look(bridge("HostPort")).pending or ("", "")
    assert reason == "AddressPending"
    assert "rbac.nodes" in message
    reason, message = Look(bridge("HostPort", nodeAddressType="InternalIP"), nodes={"node-1": {}}).pending or ("", "")
    assert (reason, "InternalIP" in message) == ("AddressPending", True)


@pytest.mark.parametrize("mode", ["NodePort", "HostPort", "HostNetwork"])
def test_a_room_without_a_pod_or_whose_pod_is_nobody_knows_where_has_no_address(mode: str) -> None:
    """Whatever is known of the other rooms."""
    found = {"nodes": {"node-1": NODE}}
    two = samples.bridge(exposure={"mode": mode}, rooms=[samples.room(), samples.room("other", 5014)])
    ports = service("NodePort", node_port=31004)
    ports["spec"]["ports"].append({"name": "p5014", "port": 5014, "protocol": "UDP", "nodePort": 31014})
    lost = PodView("p2", "uid-p2", "", "", ready=True, deleting=False, entry={"phase": "Serving"}, unknown=True)
    assert Look(two, ports, owners={"demo": POD, "other": POD}, **found).pending is None
    for others, said in (({}, "room other has no pod"), ({"other": lost}, "the Node of pod p2 is not known")):
        reason, message = Look(two, ports, owners={"demo": POD, **others}, **found).pending or ("", "")
        assert reason == "AddressPending"
        assert said in message
    assert Look(bridge("LoadBalancer"), owners={}).pending is not None


def test_a_node_without_an_address_is_told_before_a_pod_that_nobody_knows_the_node_of() -> None:
    two = samples.bridge(exposure={"mode": "HostPort"}, rooms=[samples.room(), samples.room("other", 5014)])
    lost = PodView("p2", "uid-p2", "", "", ready=True, deleting=False, entry={}, unknown=True)
    reason, _ = Look(two, owners={"demo": POD, "other": lost}, nodes={"node-1": INSIDE}).pending or ("", "")
    assert reason == "NoExternalIP"


def test_a_bridge_without_listening_rooms_needs_no_address() -> None:
    look = Look(samples.bridge(rooms=[], exposure={"mode": "LoadBalancer"}))
    assert (look.pending, look.found, required(look.bridge)) == (None, {}, False)


@pytest.mark.parametrize(
    ("discovered", "node", "public"),
    [
        ("198.51.100.1", "198.51.100.1", "192.0.2.7"),
        ("198.51.100.2", "198.51.100.1", "198.51.100.1"),
        ("2001:DB8:0::1", "2001:db8::1", "192.0.2.7"),
    ],
)
def test_a_mapped_address_is_put_in_place_of_the_one_that_is_found(discovered: str, node: str, public: str) -> None:
    nodes = {"node-1": {"status": {"addresses": [{"type": "ExternalIP", "address": node}]}}}
    table = [{"discovered": discovered, "public": "192.0.2.7"}]
    assert Look(bridge("HostPort", addressMap=table), nodes=nodes).found[ADDRESS].ip == public


def test_the_status_lists_them_by_name_and_not_without_end() -> None:
    known = {f"room-{n:03}/in/video": PublicAddress("192.0.2.1", "", 5004 + n, "p1") for n in range(300)}
    listed = rows({**known, "a/in/audio": PublicAddress("", "lb.example.com", 9, "")})
    assert listed[0] == {"name": "a/in/audio", "hostname": "lb.example.com", "port": 9, "protocol": "UDP"}
    assert listed[1] == {"name": "room-000/in/video", "pod": "p1", "ip": "192.0.2.1", "port": 5004, "protocol": "UDP"}
    assert len(listed) == 256
