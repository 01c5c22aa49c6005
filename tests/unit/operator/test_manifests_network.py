"""Who may send media, where the packets come by way of others; and how Prometheus finds the pods."""

from typing import Any

import pytest
from auralink_operator.index import Obj
from auralink_operator.models import Capabilities
from auralink_operator.settings import Settings

from tests.unit.operator import samples
from tests.unit.operator.test_manifests import one, render

PEERS = ["203.0.113.0/24", "2001:db8::/32"]
EVERYBODY = ["0.0.0.0/0", "::/0"]


def children(mode: str, **policy: Any) -> list[Obj]:
    return render(samples.bridge(exposure={"mode": mode}, networkPolicy=policy))


def ranges(found: list[Obj]) -> list[str] | None:
    said: list[str] | None = one(found, "Service", "-rtp")["spec"].get("loadBalancerSourceRanges")
    return said


def media_sources(found: list[Obj]) -> list[str]:
    """Who the NetworkPolicy lets send to listenPorts."""
    rules = one(found, "NetworkPolicy")["spec"]["ingress"]
    return [
        source["ipBlock"]["cidr"]
        for rule in rules
        if any(port["protocol"] == "UDP" for port in rule["ports"])
        for source in rule["from"]
    ]


def test_peers_that_a_load_balancer_lets_in_are_not_shut_out_behind_it() -> None:
    """By way of a Node a packet comes from the Node: a policy of peers' addresses would refuse every one of them."""
    found = children("LoadBalancer", mediaFrom=PEERS)
    assert ranges(found) == PEERS
    assert media_sources(found) == EVERYBODY
    assert "load balancer" in one(found, "NetworkPolicy")["metadata"]["annotations"]["auralink.io/note"]
    webhooks = one(found, "NetworkPolicy")["spec"]["ingress"][1]
    assert webhooks["ports"] == [{"port": 8080, "protocol": "TCP"}]
    assert [source["ipBlock"]["cidr"] for source in webhooks["from"]] == PEERS


@pytest.mark.parametrize("everybody", [EVERYBODY, EVERYBODY[::-1], [*EVERYBODY, *PEERS]])
def test_a_load_balancer_for_everybody_has_no_list_of_peers(everybody: list[str]) -> None:
    for found in (children("LoadBalancer"), children("LoadBalancer", mediaFrom=everybody)):
        assert ranges(found) is None
        assert "auralink.io/note" not in one(found, "NetworkPolicy")["metadata"]["annotations"]
        assert set(EVERYBODY) <= set(media_sources(found))


def test_nobody_is_not_everybody_to_a_load_balancer() -> None:
    """An empty list of ranges lets all in: that nobody may send is said by the policy, which has no rule for media."""
    found = children("LoadBalancer", mediaFrom=[])
    assert ranges(found) is None
    assert media_sources(found) == []


@pytest.mark.parametrize("mode", ["ClusterIP", "NodePort"])
def test_a_service_that_cannot_filter_leaves_it_to_the_policy(mode: str) -> None:
    found = children(mode, mediaFrom=PEERS)
    assert ranges(found) is None
    assert media_sources(found) == PEERS


def test_without_a_policy_a_load_balancer_filters_nothing_either() -> None:
    assert ranges(children("LoadBalancer", enabled=False, mediaFrom=PEERS)) is None


def test_prometheus_finds_bridges_by_the_labels_that_it_selects() -> None:
    """And none of them can hide the labels by which the operator finds its own."""
    chosen = (("app.kubernetes.io/managed-by", "somebody"), ("release", "prometheus"))
    settings = Settings(data_plane_image="i", ai_core_address="a:1", monitor_labels=chosen)
    found = render(settings=settings, capabilities=Capabilities(service_monitors=True))
    labels = one(found, "ServiceMonitor")["metadata"]["labels"]
    assert labels["release"] == "prometheus"
    assert labels["app.kubernetes.io/managed-by"] == "auralink-operator"
    assert all("release" not in child["metadata"]["labels"] for child in found if child["kind"] != "ServiceMonitor")
    assert "release" not in one(found, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
