"""Who may talk to a bridge's pods, and they to whom: the NetworkPolicy.

Egress is by port, not by address: an endpoint is a name whose addresses change, and a policy knows none. Every address
and URL of the spec opens its port; media goes to any UDP port, because an ICE peer chooses its own.
"""

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from auralink_operator.index import Obj
from auralink_operator.manifests.labels import HTTP_PORT, METRICS_PORT, child_name, new_child, selector
from auralink_operator.manifests.network import EVERYBODY, filtered_by_service, listen_ports
from auralink_operator.models import Bridge, ExposureMode
from auralink_operator.settings import Settings

_NOTE = "auralink.io/note"
_DNS, _HTTPS, _API_SERVER, _REDIS = 53, 443, 6443, 6379
_SCHEMES = {"http": 80, "ws": 80, "https": 443, "wss": 443}


def network_policy(bridge: Bridge, settings: Settings) -> list[Obj]:
    policy = bridge.spec.network_policy
    if not policy.enabled:
        return []
    spec = {
        "podSelector": {"matchLabels": selector(bridge.meta.name)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": _ingress(bridge),
        "egress": [{"ports": [{"protocol": "UDP"}, *_tcp(sorted(_egress_ports(bridge, settings)))]}],
    }
    found = new_child(bridge, settings, "NetworkPolicy", child_name(bridge.meta.name), spec=spec)
    if note := _note(bridge):
        found["metadata"]["annotations"][_NOTE] = note
    return [found]


def _note(bridge: Bridge) -> str:
    """What a reader of the policy would not expect."""
    if bridge.spec.exposure.mode is ExposureMode.HOST_NETWORK:
        return "these pods are on the network of their Node, where most network plugins do not enforce a NetworkPolicy"
    if filtered_by_service(bridge):
        return "media comes by way of Nodes, whose addresses are seen here: the load balancer looks who sends"
    return ""


def _ingress(bridge: Bridge) -> list[Obj]:
    policy = bridge.spec.network_policy
    webhooks = policy.media_from if policy.webhooks_from is None else policy.webhooks_from
    namespace = policy.monitoring_namespace
    named = {"matchLabels": {"kubernetes.io/metadata.name": namespace}} if namespace else {}
    media = [{"port": number, "protocol": "UDP"} for number in listen_ports(bridge)]
    rules: list[Obj] = []
    # A rule without ports would open all of them, and one without sources would let everybody in.
    if media and policy.media_from:
        sources = EVERYBODY if filtered_by_service(bridge) else policy.media_from
        rules.append({"from": _blocks(sources), "ports": media})
    if webhooks:
        rules.append({"from": _blocks(webhooks), "ports": _tcp([HTTP_PORT])})
    rules.append({"from": [{"namespaceSelector": named}], "ports": _tcp([HTTP_PORT, METRICS_PORT])})
    return rules


def _blocks(ranges: Sequence[str]) -> list[Obj]:
    return [{"ipBlock": {"cidr": block}} for block in ranges]


def _tcp(numbers: Sequence[int]) -> list[Obj]:
    return [{"port": number, "protocol": "TCP"} for number in numbers]


def _egress_ports(bridge: Bridge, settings: Settings) -> set[int]:
    """TCP ports that pods connect to. The API server's is the one behind its Service, as policies are looked up after
    that translation; a sentinel or a cluster node sends the client on to servers that the spec does not name."""
    spec = bridge.spec
    ports = {_DNS, _HTTPS, _API_SERVER, *map(_port, _addresses(bridge, settings)), *map(_url_port, _urls(bridge))}
    if spec.redis and spec.redis.topology.value != "Standalone":
        ports.add(_REDIS)
    return ports


def _addresses(bridge: Bridge, settings: Settings) -> Iterator[str]:
    spec = bridge.spec
    yield from spec.ai_core.addresses or (settings.ai_core_address,)
    if spec.redis:
        yield from spec.redis.addresses
    if spec.postgres:
        yield spec.postgres.address


def _urls(bridge: Bridge) -> Iterator[str]:
    spec = bridge.spec
    for endpoint in spec.endpoints:
        if endpoint.jitsi:
            yield endpoint.jitsi.xmpp_url
            if endpoint.jitsi.census_url:
                yield endpoint.jitsi.census_url
        if endpoint.livekit:
            yield endpoint.livekit.url
    yield from (service.url for service in (spec.dashboard, spec.communication) if service)


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _url_port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or _SCHEMES[parts.scheme]
