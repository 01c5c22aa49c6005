"""What the operator gives a pod: its environment and the ConfigMap, and what is said of what is wrong with them."""

import json
import tomllib
from pathlib import Path
from typing import Any

import auralink_dataplane
import pytest
from auralink_dataplane.settings import (
    ConfigError,
    Settings,
    from_cluster,
    parse_documents,
    secret_refs,
    split_address,
)

CLUSTER_ENV = {
    "BRIDGE_ID": "ns/b", "POD_NAME": "p-1", "POD_UID": "u", "POD_NAMESPACE": "ns", "POD_IP": "10.0.0.1",
    "NODE_NAME": "n", "CONFIG_MAP": "auralink-b-config", "HTTP_PORT": "8080", "METRICS_PORT": "9090",
    "DRAIN_PROPAGATION_S": "7", "DRAIN_TIMEOUT_S": "60",
}  # fmt: skip


def test_the_operators_environment_says_who_the_pod_is() -> None:
    settings: Settings = from_cluster(CLUSTER_ENV)
    assert (settings.pod.namespace, settings.pod.bridge, settings.pod.node) == ("ns", "b", "n")
    assert (settings.drain_propagation_s, settings.drain_timeout_s) == (7, 60)
    assert settings.config is None


def test_every_missing_variable_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        from_cluster({"CONFIG_MAP": "c", "BRIDGE_ID": "no-slash", "ENABLE_SIP": "true"})
    assert [error.split(":")[0] for error in caught.value.errors] == [
        "auralink.features.enable_sip (ENABLE_SIP)", "POD_NAME", "POD_UID", "POD_NAMESPACE", "BRIDGE_ID",
    ]  # fmt: skip


def test_every_flag_is_refused_beside_any_other_mistake() -> None:
    with pytest.raises(ConfigError) as caught:
        from_cluster({**CLUSTER_ENV, "HTTP_PORT": "zero", "ENABLE_SIP": "true", "ENABLE_RTMP": "maybe"})
    assert [error.split(":")[0] for error in caught.value.errors] == [
        "HTTP_PORT", "ENABLE_RTMP", "auralink.features.enable_sip (ENABLE_SIP)",
    ]  # fmt: skip


def document(**bridge: Any) -> dict[str, str]:
    return {"config.json": json.dumps({"version": 1, "generation": 3, "bridge": bridge, "policies": []})}


def test_the_configmap_is_parsed_with_its_owners() -> None:
    found = parse_documents({**document(region="eu"), "owners.json": '{"r": "p-1"}'})
    assert found.config
    assert (found.config.generation, found.config.bridge.region, found.owners) == (3, "eu", {"r": "p-1"})
    assert not found.errors


def test_owners_and_addresses_count_also_beside_a_bad_configuration() -> None:
    addresses = {
        "r/in/video": {"ip": "203.0.113.1", "port": 30000, "later": 1},
        "r/in/audio": {"hostname": "h", "port": 1},
        "of another form": [{"ip": "10.0.0.1"}],
    }
    found = parse_documents(
        {**document(logLevel="Loud"), "owners.json": '{"r": "p-1"}', "addresses.json": json.dumps(addresses)}
    )
    assert found.config is None
    assert found.owners == {"r": "p-1"}
    assert {name: (one.host, one.port) for name, one in found.addresses.items()} == {
        "r/in/video": ("203.0.113.1", 30000), "r/in/audio": ("h", 1),
    }  # fmt: skip


def test_fields_of_a_newer_operator_are_left_out() -> None:
    """Pods are replaced one by one: the older ones must not lose their configuration meanwhile."""
    found = parse_documents(document(region="eu", colour="red", api={"tokenRef": {"name": "n", "key": "k", "x": 1}}))
    assert not found.errors
    assert found.config
    assert found.config.bridge.region == "eu"


REF = {"name": "s", "key": "k"}
SERVICES: dict[str, Any] = {
    "endpoints": [
        {
            "name": "meet",
            "type": "Jitsi",
            "jitsi": {
                "xmppUrl": "wss://meet.test/x", "domain": "meet.test", "mucDomain": "c.meet.test",
                "jwt": {"appId": "a", "keyRef": {"name": "jwt", "key": "k"}},
                "eventTokenRef": {"name": "event", "key": "k"}, "censusUrl": "http://meet.test:5280",
            },
        },
        {
            "name": "sfu",
            "type": "LiveKit",
            "livekit": {"url": "wss://sfu.test", "apiKeyRef": REF, "apiSecretRef": REF, "webhooks": False},
        },
    ],
    "rooms": [
        {"name": "all", "glob": "*", "legs": [{"name": "a", "endpoint": "meet"}, {"name": "b", "endpoint": "sfu"}]}
    ],
    "aiCore": {"addresses": ["core:1"], "failover": "Standby"},
    "redis": {
        "addresses": ["r-0:6379", "r-1:6379"], "topology": "Sentinel", "master": "m", "database": 3, "user": "u",
        "passwordRef": {"name": "redis", "key": "k"}, "tls": True, "caRef": {"name": "redis-ca", "key": "ca.crt"},
    },
    "postgres": {"address": "pg:5432", "passwordRef": {"name": "pg", "key": "k"}},
    "dashboard": {"url": "https://d.test", "apiKeyRef": {"name": "dash", "key": "k"}},
    "communication": {"url": "https://c.test", "tokenRef": {"name": "comm", "key": "k"}},
    "drain": {"strategy": "Wait"},
}  # fmt: skip


def test_every_service_of_a_bridge_is_understood() -> None:
    found = parse_documents(document(**SERVICES))
    assert not found.errors
    assert found.config
    bridge = found.config.bridge
    assert [endpoint.type for endpoint in bridge.endpoints] == ["Jitsi", "LiveKit"]
    assert bridge.rooms[0].endpoints == ("meet", "sfu")
    assert bridge.redis
    assert (bridge.redis.topology, bridge.redis.database, bridge.drain.strategy) == ("Sentinel", 3, "Wait")
    assert bridge.without_user == ("redis", "postgres", "dashboard", "communication")
    assert {path: ref.name for path, ref in secret_refs(bridge)} == {
        "endpoints[meet].jitsi.jwt.keyRef": "jwt", "endpoints[meet].jitsi.eventTokenRef": "event",
        "endpoints[sfu].livekit.apiKeyRef": "s", "endpoints[sfu].livekit.apiSecretRef": "s",
        "redis.passwordRef": "redis", "redis.caRef": "redis-ca", "postgres.passwordRef": "pg",
        "dashboard.apiKeyRef": "dash", "communication.tokenRef": "comm",
    }  # fmt: skip


def leg(**more: Any) -> dict[str, Any]:
    video = {"payloads": [{"type": 96, "codec": "H264"}], "listenPort": 5000}
    return {"name": "a", "rtp": {"video": video}, **more}


@pytest.mark.parametrize(
    ("bridge", "expected"),
    [
        ({"endpoints": [{"name": "m", "type": "Jitsi"}]}, "endpoints[0]: an endpoint of type Jitsi needs the section"),
        ({"redis": {"addresses": []}}, "redis.addresses: "),
        ({"redis": {"addresses": ["r"]}}, 'redis.addresses[0]: write it as "host:port"'),
        ({"postgres": {"address": "pg:1"}}, "postgres.passwordRef: is required"),
        ({"dashboard": {"url": "ftp://x"}}, "dashboard.url: must look like"),
        ({"drain": {"strategy": "Never"}}, "drain.strategy: must be 'Handover' or 'Wait'"),
        ({"aiCore": {"failover": "Maybe"}}, "aiCore.failover: must be 'None' or 'Standby'"),
        ({"rooms": [{"name": "r", "legs": [leg(endpoint="m"), leg(name="b")]}]}, "set either rtp or endpoint"),
        ({"rooms": [{"name": "r", "legs": [leg(room="m"), leg(name="b")]}]}, "room is of endpoint legs only"),
        ({"rooms": [{"name": "r", "glob": "*", "legs": [leg(), leg(name="b")]}]}, "glob is for rooms of endpoint legs"),
        (
            {"rooms": [{"name": "r", "legs": [{"name": n, "endpoint": "gone"} for n in "ab"]}]},
            'a leg names the endpoint "gone", which is not in endpoints',
        ),
    ],
)
def test_each_mistake_in_the_services_is_named(bridge: dict[str, Any], expected: str) -> None:
    errors = parse_documents(document(**bridge)).errors
    assert any(expected in error for error in errors), errors


def test_what_this_version_does_not_carry_is_said_of_the_room() -> None:
    """Other rooms go on."""
    rooms = [{"name": "r", "legs": [{"name": name, "endpoint": "m"} for name in "ab"]}]
    endpoints = [
        {"name": "m", "type": "LiveKit", "livekit": {"url": "wss://sfu.test", "apiKeyRef": REF, "apiSecretRef": REF}}
    ]
    found = parse_documents(document(rooms=rooms, endpoints=endpoints))
    assert found.config
    assert "does not bridge rooms of endpoints" in (found.config.bridge.rooms[0].unserved() or "")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, "config.json: is missing"),
        ({"config.json": "{"}, "config.json: is not JSON"),
        (document() | {"owners.json": "[]"}, "owners.json: "),
        (document(aiCore={"timeoutMs": 2}), "config.json.bridge.aiCore.timeoutMs: must be at least 5"),
        ({"config.json": '{"version": 2, "generation": 1, "bridge": {}}'}, "config.json.version: must be 1"),
    ],
)
def test_a_bad_configmap_says_what_is_wrong(data: dict[str, str], expected: str) -> None:
    errors = parse_documents(data).errors
    assert any(error.startswith(expected) for error in errors), errors


@pytest.mark.parametrize(
    ("text", "parsed"), [("h:1", ("h", 1)), ("[::1]:65535", ("::1", 65535)), ("10.0.0.1:50051", ("10.0.0.1", 50051))]
)
def test_addresses(text: str, parsed: tuple[str, int]) -> None:
    assert split_address(text) == parsed


@pytest.mark.parametrize("text", ["h", "h:", ":1", "h:0", "h:65536", "h:x", "::1:x", "[zz::]:1"])
def test_bad_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|IPv6|permitted|Expected"):
        split_address(text)


def test_the_version_is_the_distributions() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert auralink_dataplane.__version__ == project["version"]
