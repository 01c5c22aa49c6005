"""The children beside the Deployment: each with its switch, and all of them the same each time they are rendered."""

import copy
import json
from typing import Any

import pytest
from auralink_operator.index import BRIDGE, Key, Obj, key_of
from auralink_operator.manifests import (
    CHILDREN,
    TEMPLATE,
    TEMPLATE_HASH,
    TEMPLATE_INPUTS,
    TEMPLATE_LIMIT_BYTES,
    needs_write,
    noted_template,
    unwanted_names,
)
from auralink_operator.models import Capabilities, PublicAddress
from auralink_operator.settings import Settings
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st

from tests.unit.operator import samples
from tests.unit.operator.test_manifests import one, render
from tests.unit.operator.test_manifests_template import FULL

SERVED = Capabilities(service_monitors=True)


def kinds(children: list[Obj]) -> list[str]:
    return [child["kind"] for child in children]


def spec(kind: str, suffix: str = "", **fields: Any) -> Any:
    return one(render(samples.bridge(**fields), capabilities=SERVED), kind, suffix)["spec"]


# --- all of them ---------------------------------------------------------------------------------------------------


@st.composite
def rendered(draw: st.DrawFn) -> tuple[Obj, dict[str, Any]]:
    """A bridge with any choice of settings, and a scene that may surround it."""
    names = draw(st.sets(st.sampled_from(sorted(set(FULL) - {"rooms", "exposure", "replicas", "autoscaling"}))))
    chosen = {name: FULL[name] for name in names}
    scaled = draw(st.sampled_from([{}, {"replicas": 3}, {"autoscaling": FULL["autoscaling"]}]))
    mode = draw(st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "HostPort", "HostNetwork"]))
    rooms = draw(st.sampled_from([[], [samples.room()], [samples.room(), samples.room("other", 8080)]]))
    pods = draw(st.sampled_from([(), (samples.pod("p1"),), (samples.pod("p1"), samples.pod("p2", ip="fd00::2"))]))
    status = {"pods": [samples.entry(pod["metadata"]["name"]) for pod in pods]}
    bridge = samples.bridge(
        status=status, **{**chosen, **scaled, "rooms": rooms, "exposure": {**FULL["exposure"], "mode": mode}}
    )
    scene = {
        "pods": pods,
        "capabilities": draw(st.sampled_from([Capabilities(), SERVED])),
        "replicas": draw(st.sampled_from([None, 0, 1, 5])),
        "addresses": draw(st.sampled_from([{}, {"demo/in/video": PublicAddress("192.0.2.1", "", 5004, "p1")}])),
        "draining": draw(st.booleans()),
    }
    return bridge, scene


@runs(max_examples=40)
@given(rendered())
def test_the_same_bridge_renders_to_the_same_bytes(given_: tuple[Obj, dict[str, Any]]) -> None:
    bridge, scene = given_
    assert json.dumps(render(bridge, **scene)) == json.dumps(render(bridge, **scene))


SELECTORS = {"selector", "matchLabels", "nodeSelector", "podSelector", "namespaceSelector", "labelSelector"}
BY_KEY = {"containers", "env", "volumeMounts", "volumes", "imagePullSecrets"}
QUANTITIES = {"1": "1", "500m": "0.5", "512Mi": "536870912", "1Gi": "1024Mi", "64Mi": "67108864", "50": "5e1"}


def as_served(value: Any, name: str = "", inside: str = "") -> Any:
    """What a server makes of an object: defaults come, order and notation go, empty values vanish."""
    if isinstance(value, dict):
        kept = {key: as_served(item, key, name) for key, item in value.items() if item not in ({}, [], "")}
        return kept if name in SELECTORS else {**kept, "broughtByTheServer": {"x": 1}}
    if isinstance(value, list):
        items = [as_served(item, "", name) for item in value]
        return list(reversed(items)) if name in BY_KEY else items
    if inside in ("requests", "limits") or name in ("sizeLimit", "averageValue"):
        return QUANTITIES[value]
    return value


@runs(max_examples=40)
@given(rendered())
def test_what_was_applied_does_not_differ_however_the_server_shows_it(given_: tuple[Obj, dict[str, Any]]) -> None:
    bridge, scene = given_
    for child in render(bridge, **scene):
        if child["kind"] != "NetworkPolicy":  # there an empty selector means something, and the server keeps it
            assert needs_write(child, as_served(child)) is None
        assert needs_write(child, json.loads(json.dumps(child))) is None


def test_children_get_the_labels_that_an_administrator_lists_and_the_shard() -> None:
    settings = Settings(data_plane_image="i", ai_core_address="a:1", inherit_labels=("team",), shard="blue")
    labels = {"team": "calls", "argocd.argoproj.io/instance": "app", "auralink.io/bridge": "mine"}
    for child in render(samples.bridge(labels=labels), settings=settings, capabilities=SERVED):
        found = child["metadata"]["labels"]
        assert found["team"] == "calls"
        assert found["auralink.io/shard"] == "blue"
        assert found["auralink.io/bridge"] == "b"
        assert "argocd.argoproj.io/instance" not in found


# --- names that are always the same ----------------------------------------------------------------------------------

NAMED = Key(BRIDGE, "ns", "b")
ON: Obj = {"autoscaling": {"maxReplicas": 9, "minReplicas": 2}, "exposure": {"mode": "LoadBalancer"}}
OFF: Obj = {
    "rooms": [],
    "networkPolicy": {"enabled": False},
    "monitoring": {"serviceMonitor": "Disabled"},
    "podDisruptionBudget": False,
}


def keys(children: list[Obj]) -> set[Key]:
    """Those of which a bridge has one of a name; EndpointSlices are as many as there are rooms."""
    return {key_of(child) for child in children if child["kind"] != "EndpointSlice"}


EVERY = keys(render(samples.bridge(**ON), capabilities=SERVED))


def test_what_can_be_switched_off_has_a_name_to_ask_for() -> None:
    assert unwanted_names(render(samples.bridge(**ON), capabilities=SERVED), NAMED) == ()
    off = render(samples.bridge(**OFF))
    assert set(unwanted_names(off, NAMED)) == EVERY - keys(off)
    assert {key.kind for key in EVERY} == set(CHILDREN) - {"EndpointSlice"}
    assert {key.kind for key in unwanted_names(off, NAMED)} == {
        "Service",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
        "ServiceMonitor",
    }


@runs(max_examples=80)
@given(rendered())
def test_no_child_that_is_wanted_by_some_bridges_only_is_forgotten(given_: tuple[Obj, dict[str, Any]]) -> None:
    """Whatever a bridge is like: what is not rendered for it and is for others can be asked for."""
    bridge, scene = given_
    wanted = render(bridge, **scene)
    unwanted = set(unwanted_names(wanted, NAMED))
    assert keys(wanted) | unwanted == EVERY
    assert not keys(wanted) & unwanted


# --- Services ------------------------------------------------------------------------------------------------------


def test_media_goes_through_a_service_of_the_mode() -> None:
    assert spec("Service", "-rtp") == {
        "type": "ClusterIP",
        "ports": [
            {"name": "p5004", "port": 5004, "protocol": "UDP", "targetPort": 5004},
            {"name": "p5005", "port": 5005, "protocol": "UDP", "targetPort": 5005},
        ],
    }
    node_port = spec("Service", "-rtp", exposure={"mode": "NodePort", "loadBalancerClass": "x/y"})
    assert (node_port["type"], node_port["externalTrafficPolicy"]) == ("NodePort", "Cluster")
    assert "loadBalancerClass" not in node_port
    balancer = spec("Service", "-rtp", exposure={"mode": "LoadBalancer", "loadBalancerClass": "x/y"})
    assert (balancer["externalTrafficPolicy"], balancer["loadBalancerClass"]) == ("Cluster", "x/y")
    assert spec("Service", exposure={"mode": "LoadBalancer"})["type"] == "ClusterIP"


def test_annotations_of_the_media_service_cannot_hide_ours() -> None:
    given_ = {"mode": "LoadBalancer", "serviceAnnotations": {"cloud/lb": "udp", "auralink.io/applied-hash": "x"}}
    annotations = one(render(samples.bridge(exposure=given_)), "Service", "-rtp")["metadata"]["annotations"]
    assert annotations["cloud/lb"] == "udp"
    assert annotations["auralink.io/applied-hash"] != "x"
    assert "cloud/lb" not in one(render(samples.bridge(exposure=given_)), "Service")["metadata"]["annotations"]


@pytest.mark.parametrize("mode", ["HostPort", "HostNetwork"])
def test_on_hosts_no_service_carries_media(mode: str) -> None:
    bridge = samples.bridge(exposure={"mode": mode}, status={"pods": [samples.entry("p1")]})
    children = render(bridge, pods=(samples.pod("p1"),))
    assert [c["metadata"]["name"] for c in children if c["kind"] == "Service"] == ["auralink-b"]
    assert "EndpointSlice" not in kinds(children)
    assert one(children, "Deployment")["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}


def test_owners_and_addresses_are_told_without_a_new_generation() -> None:
    first = one(render(), "ConfigMap", "-config")
    known = {"demo/in/video": PublicAddress("192.0.2.1", "", 31004, "p1"), "x/y/z": PublicAddress("", "lb.test", 1, "")}
    pods = (samples.pod("p1"),)
    bridge = samples.bridge(status={"pods": [samples.entry("p1")]})
    second = one(render(bridge, first, pods=pods, addresses=known), "ConfigMap", "-config")
    assert json.loads(second["data"]["addresses.json"]) == {
        "demo/in/video": {"ip": "192.0.2.1", "port": 31004},
        "x/y/z": {"hostname": "lb.test", "port": 1},
    }
    assert json.loads(second["data"]["owners.json"]) == {"demo": "p1"}
    assert second["data"]["config.json"] == first["data"]["config.json"]


# --- the NetworkPolicy ---------------------------------------------------------------------------------------------


def egress_ports(**fields: Any) -> set[int]:
    (rule,) = spec("NetworkPolicy", **fields)["egress"]
    assert {"protocol": "UDP"} in rule["ports"]
    assert "to" not in rule
    return {port["port"] for port in rule["ports"] if port["protocol"] == "TCP"}


def test_media_comes_from_where_the_spec_says() -> None:
    media, webhooks, monitoring = spec("NetworkPolicy", networkPolicy={"mediaFrom": ["10.0.0.0/8"]})["ingress"]
    source = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    ports = [{"port": 5004, "protocol": "UDP"}, {"port": 5005, "protocol": "UDP"}]
    assert media == {"from": source, "ports": ports}
    assert webhooks == {"from": source, "ports": [{"port": 8080, "protocol": "TCP"}]}
    assert monitoring["from"] == [{"namespaceSelector": {}}]
    assert [port["port"] for port in monitoring["ports"]] == [8080, 9090]


def test_nobody_in_particular_is_not_everybody() -> None:
    """A rule without sources would let all in, and one without ports would open all."""
    policy = {"mediaFrom": [], "monitoringNamespace": "metrics"}
    (rule,) = spec("NetworkPolicy", networkPolicy=policy)["ingress"]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "metrics"}}}]
    no_ports = spec("NetworkPolicy", rooms=[])["ingress"]
    assert all(rule.get("from") and rule.get("ports") for rule in no_ports)
    apart = spec("NetworkPolicy", networkPolicy={"mediaFrom": [], "webhooksFrom": ["192.0.2.0/24"]})["ingress"]
    assert apart[0]["from"] == [{"ipBlock": {"cidr": "192.0.2.0/24"}}]


def test_every_address_and_url_of_the_spec_opens_its_port() -> None:
    always = {53, 443, 6443}
    assert egress_ports() == always | {50051}
    assert egress_ports(aiCore={"addresses": ["core:1234", "[fd00::1]:1235"]}) == always | {1234, 1235}
    jitsi = {"xmppUrl": "ws://meet:5280/x", "domain": "meet", "censusUrl": "http://meet/census"}
    endpoints = [
        {"name": "a", "type": "Jitsi", "jitsi": jitsi},
        {
            "name": "b",
            "type": "LiveKit",
            "livekit": {
                "url": "wss://livekit:7443",
                "apiKeyRef": {"name": "s", "key": "k"},
                "apiSecretRef": {"name": "s", "key": "k"},
            },
        },
    ]
    assert egress_ports(endpoints=endpoints) == always | {50051, 5280, 80, 7443}
    redis = {"addresses": ["redis:26379"], "topology": "Sentinel", "master": "m"}
    assert egress_ports(redis=redis) == always | {50051, 26379, 6379}
    assert egress_ports(redis={"addresses": ["redis:7000"]}) == always | {50051, 7000}
    postgres = {"address": "pg:5433", "passwordRef": {"name": "s", "key": "k"}}
    services = {"dashboard": {"url": "http://dash:8000/x"}, "communication": {"url": "https://comm"}}
    assert egress_ports(postgres=postgres, **services) == always | {50051, 5433, 8000}


def test_a_policy_that_the_host_s_network_escapes_says_so() -> None:
    children = render(samples.bridge(exposure={"mode": "HostNetwork"}))
    assert "not enforce" in one(children, "NetworkPolicy")["metadata"]["annotations"]["auralink.io/note"]
    assert "auralink.io/note" not in one(render(), "NetworkPolicy")["metadata"]["annotations"]


# --- switches ------------------------------------------------------------------------------------------------------

SCALED = {"maxReplicas": 9, "minReplicas": 2}


@pytest.mark.parametrize(
    ("kind", "fields", "there"),
    [
        ("NetworkPolicy", {}, True),
        ("NetworkPolicy", {"networkPolicy": {"enabled": False}}, False),
        ("ServiceMonitor", {}, True),
        ("ServiceMonitor", {"monitoring": {"serviceMonitor": "Disabled"}}, False),
        ("HorizontalPodAutoscaler", {}, False),
        ("HorizontalPodAutoscaler", {"autoscaling": SCALED}, True),
        ("HorizontalPodAutoscaler", {"autoscaling": {**SCALED, "driver": "Operator"}}, False),
        ("PodDisruptionBudget", {"autoscaling": SCALED}, True),
        ("PodDisruptionBudget", {"autoscaling": {**SCALED, "minReplicas": 1}}, False),
        ("PodDisruptionBudget", {"autoscaling": SCALED, "podDisruptionBudget": False}, False),
    ],
)
def test_a_child_is_there_if_the_spec_wants_it(kind: str, fields: Obj, there: bool) -> None:
    assert (kind in kinds(render(samples.bridge(**fields), capabilities=SERVED))) == there


def test_a_kind_that_the_cluster_does_not_serve_is_not_rendered() -> None:
    assert "ServiceMonitor" not in kinds(render(capabilities=Capabilities()))


def test_the_autoscaler_goes_while_a_deleted_bridge_drains() -> None:
    children = render(samples.bridge(autoscaling=SCALED), draining=True, replicas=0)
    assert "HorizontalPodAutoscaler" not in kinds(children)
    assert one(children, "Deployment")["spec"]["replicas"] == 0


def test_the_autoscaler_goes_down_a_pod_a_minute_by_sessions_or_cpu() -> None:
    found = spec("HorizontalPodAutoscaler", autoscaling={**SCALED, "targetSessionsPerPod": 20, "targetCPUPercent": 70})
    assert (found["minReplicas"], found["maxReplicas"]) == (2, 9)
    pods, cpu = found["metrics"]
    assert pods["pods"] == {
        "metric": {"name": "auralink_sessions_active"},
        "target": {"type": "AverageValue", "averageValue": "20"},
    }
    assert cpu["resource"]["target"] == {"type": "Utilization", "averageUtilization": 70}
    down = found["behavior"]["scaleDown"]
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]
    assert down["stabilizationWindowSeconds"] == 300


def test_replicas_that_the_autoscaler_owns_are_not_rendered() -> None:
    assert "replicas" not in one(render(replicas=None), "Deployment")["spec"]


def test_a_held_template_keeps_its_notes() -> None:
    """So the next look knows still what the live pods were made of, and for whom the rollout waits."""
    before = one(render(), "Deployment")
    held = {**before["spec"]["template"], "broughtByTheServer": 1}
    new = Settings(data_plane_image="data-plane:2", ai_core_address="ai-core:50051")
    kept = one(render(None, before, settings=new, held_template=held), "Deployment")
    rolled = one(render(None, before, settings=new), "Deployment")
    assert kept["spec"]["template"] == held
    for note in (TEMPLATE_HASH, TEMPLATE_INPUTS, TEMPLATE):
        assert kept["metadata"]["annotations"][note] == before["metadata"]["annotations"][note]
    assert rolled["metadata"]["annotations"][TEMPLATE_HASH] != before["metadata"]["annotations"][TEMPLATE_HASH]
    assert rolled["metadata"]["annotations"][TEMPLATE_INPUTS] == before["metadata"]["annotations"][TEMPLATE_INPUTS]


def test_a_deployment_tells_which_template_was_written() -> None:
    found = one(render(), "Deployment")
    written = copy.deepcopy(found["spec"]["template"])
    found["spec"]["template"]["spec"]["enableServiceLinks"] = True
    assert noted_template(found) == written


def test_a_template_too_large_to_be_noted_is_not() -> None:
    many = [{"name": f"V{number}", "value": "x" * 1000} for number in range(TEMPLATE_LIMIT_BYTES // 1000)]
    pod = {"template": {"spec": {"containers": [{"name": "data-plane", "env": many}]}}}
    found = one(render(samples.bridge(pod=pod)), "Deployment")
    assert TEMPLATE not in found["metadata"]["annotations"]
    assert noted_template(found) is None
