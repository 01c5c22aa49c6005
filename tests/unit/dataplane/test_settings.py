"""Both sources of configuration: what loads, and what is said about what does not."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import auralink_dataplane
import pytest
from auralink_dataplane.settings import (
    ApiKey,
    ConfigError,
    Settings,
    from_cluster,
    from_file,
    parse_documents,
    secret_refs,
    split_address,
)

MINIMAL = """
auralink {
  service {
    name = "ingress-egress"
    region = "us-west-2"
    environment = "production"
    bridge_id = ${BRIDGE_ID}   # who we are
  }

  features {
    enable_aic = true
    enable_sip = false
    enable_rtmp = false
  }

  dashboard { url = "http://dashboard:8080", api_key = ${DASHBOARD_API_KEY} }

  ai_core {
    grpc_url = "ai-core:50051"
    enable_compression = true
    compression { target_savings = 0.4, quality_level = 7 }
  }

  webrtc_server { url = "http://webrtc:7880", api_key = ${WEBRTC_API_KEY} }

  database {
    url = "jdbc:postgresql://postgres:5432/auralink"
    username = "auralink"
    password = ${DB_PASSWORD}
  }

  redis { host = "redis", port = 6379 }
}
"""
ENV = {"BRIDGE_ID": "bridge-01", "DASHBOARD_API_KEY": "d", "WEBRTC_API_KEY": "key:secret", "DB_PASSWORD": 'p"$w'}


def errors_of(text: str, env: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        from_file(text, ENV if env is None else env)
    return caught.value.errors


def with_bridge(bridge: str) -> str:
    return f'auralink {{ service {{ bridge_id = "b" }}, bridge {{ {bridge} }} }}'


def with_video(video: str, **leg: str) -> str:
    legs = ", ".join(f"{{ name = {name}, rtp {{ video {{ {video} }} }} }}" for name in ("a", "b"))
    return with_bridge(f"rooms = [ {{ name = r, legs = [ {legs} ] }} ]")


# --- auralink.conf -------------------------------------------------------------------------------------------


def test_the_minimal_file_loads() -> None:
    settings = from_file(MINIMAL, ENV)
    assert settings.pod.bridge_id == "bridge-01"
    assert settings.config
    bridge = settings.config.bridge
    assert (bridge.region, bridge.environment) == ("us-west-2", "production")
    assert bridge.ai_core.addresses == ("ai-core:50051",)
    assert (bridge.compression.target_savings_percent, bridge.compression.quality_level) == (40, 7)
    assert bridge.compression.mode == "Auto"
    assert settings.unused == ("dashboard", "webrtc_server", "database", "redis")
    assert (settings.http_port, settings.metrics_port) == (8080, 9090)


def test_secrets_do_not_show_in_settings() -> None:
    text = repr(from_file(MINIMAL, ENV)) + repr(ApiKey.parse("key:hidden"))
    assert "hidden" not in text
    assert 'p"$w' not in text


@pytest.mark.parametrize(
    "section",
    ['redis { host = r }, database { url = "postgres://h/db", password = 4711 }', 'database { url = "pg://u:4711@h" }'],
)
def test_secrets_do_not_show_in_errors(section: str) -> None:
    errors = errors_of(f"auralink {{ service {{ bridge_id = b }}, {section} }}")
    assert errors
    assert "4711" not in "".join(errors)


@pytest.mark.parametrize(("text", "has_secret"), [("key", False), ("key:secret", True)])
def test_the_api_key_is_a_key_or_a_pair(text: str, has_secret: bool) -> None:
    parsed = ApiKey.parse(text)
    assert parsed.key == "key"
    assert (parsed.secret is not None) is has_secret


def test_every_unset_variable_is_named_with_its_line() -> None:
    errors = errors_of(MINIMAL, {})
    assert [re.sub(r"is not set.*", "", error) for error in errors] == [
        "line 7: ${BRIDGE_ID} ",
        "line 16: ${DASHBOARD_API_KEY} ",
        "line 24: ${WEBRTC_API_KEY} ",
        "line 29: ${DB_PASSWORD} ",
    ]
    assert "export BRIDGE_ID" in errors[0]


def test_variables_in_strings_and_comments_are_none() -> None:
    text = 'auralink { service { bridge_id = "${NOT_ONE}" } } # ${NOR_THIS}\n// ${NOR_THAT}'
    assert from_file(text, {}).pod.bridge_id == "${NOT_ONE}"


def test_optional_variables_may_be_absent() -> None:
    text = "auralink { service { bridge_id = b, region = ${?REGION} } }"
    assert from_file(text, {}).config.bridge.region == ""  # type: ignore[union-attr]
    assert from_file(text, {"REGION": "eu"}).config.bridge.region == "eu"  # type: ignore[union-attr]


@pytest.mark.parametrize("flag", ["ENABLE_SIP", "ENABLE_RTMP", "ENABLE_RECORDING"])
def test_features_that_are_not_built_are_refused(flag: str) -> None:
    [error] = errors_of(MINIMAL, {**ENV, flag: "true"})
    assert flag in error
    assert "set it to false" in error
    assert from_file(MINIMAL, {**ENV, flag: "false"})


@pytest.mark.parametrize(
    ("text", "env"),
    [
        (MINIMAL, {"ENABLE_AIC": "false"}),
        (MINIMAL.replace("enable_aic = true", "enable_aic = false"), {}),
        (MINIMAL.replace("enable_compression = true", "enable_compression = false"), {}),
    ],
)
def test_compression_can_be_switched_off_in_each_of_its_places(text: str, env: dict[str, str]) -> None:
    assert from_file(text, {**ENV, **env}).config.bridge.compression.mode == "Disabled"  # type: ignore[union-attr]


def test_all_errors_are_told_at_once() -> None:
    text = MINIMAL.replace("6379", "99999").replace('"ai-core:50051"', '"ai-core"').replace("0.4", "0.95")
    errors = errors_of(text, {**ENV, "HTTP_PORT": "zero"})
    for part in (
        "HTTP_PORT: ",
        "auralink.redis.port: must be at most 65535",
        'auralink.ai_core.grpc_url: write it as "host:port"',
        "auralink.ai_core.compression.target_savings: must be at most 0.9",
    ):
        assert any(error.startswith(part) for error in errors), (part, errors)
    assert len(errors) == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auralink {", "auralink.conf: is not HOCON"),
        ("", "auralink.service: is required"),
        ("auralink = 3", "auralink: must be a section, { }"),
        ('include required(file("/nowhere.conf"))', "includes what cannot be read"),
        (with_bridge("rooms { }"), "auralink.bridge.rooms: must be a list, [ ]"),
        (with_bridge("aiCore { tlsSecretName = \"../tls\" }"), "auralink.bridge.aiCore.tlsSecretName: must look like"),
        (with_bridge("api { tokenRef { name = \"..\", key = k } }"), "auralink.bridge.api.tokenRef.name: must look"),
        ("other { }\nauralink { service { bridge_id = b } }", "other: is not a section"),
        ("auralink { service { bridge_id = b, colour = red } }", "auralink.service.colour: is not a known field"),
        (MINIMAL.replace("jdbc:postgresql://", "mysql://"), "auralink.database.url: must look like"),
        (with_bridge("compression { mode = Sometimes }"), "auralink.bridge.compression.mode: must be 'Disabled'"),
        (with_bridge("rooms = [ { name = r, legs = [] } ]"), "auralink.bridge.rooms[0].legs: "),
        (with_video("payloads = [ { type = 96, codec = H264 } ]"), "listenPort (where media comes in), remote"),
        (with_video("remote = \"h:1\", payloads = [ { type = 96, codec = VP8 } ]"), "does not carry VP8"),
        (with_video("listenPort = 5000, payloads = [ { type = 96, codec = Opus } ]"), "Opus is not a codec for video"),
        (with_video("listenPort = 80, payloads = [ { type = 96, codec = H264 } ]"), "must be at least 1024"),
        (with_video("listenPort = 5000, payloads = [ { type = 96, codec = H264 } ]"), "UDP port 5000 is used twice"),
        (
            with_video("remote = \"h:1\", payloads = [ { type = 96, codec = H264 }, { type = 96, codec = H264 } ]"),
            "payload type 96 is given twice",
        ),
    ],
)  # fmt: skip
def test_each_mistake_is_named_with_its_path_and_remedy(text: str, expected: str) -> None:
    assert any(expected in error for error in errors_of(text)), errors_of(text)


def test_rtcp_counts_as_the_port_after_rtp() -> None:
    legs = "{ name = a, rtp { video { listenPort = 5000, payloads = [ { type = 96, codec = H264 } ] } } }, "
    legs += "{ name = b, rtp { video { listenPort = 5001, payloads = [ { type = 96, codec = H264 } ] } } }"
    text = with_bridge(f"rooms = [ {{ name = r, legs = [ {legs} ] }} ]")
    assert any("UDP port 5001 is used twice" in error for error in errors_of(text))
    assert from_file(text.replace("{ video", "{ rtcpMux = true, video"), {})


def test_the_bridge_section_wins_over_the_short_form() -> None:
    text = MINIMAL.replace(
        "  redis {",
        '  bridge { compression { targetSavingsPercent = 20, mode = Always }, aiCore { addresses = ["one:1", "two:2"] }'
        "}\n  redis {",
    )
    bridge = from_file(text, ENV).config.bridge  # type: ignore[union-attr]
    assert bridge.ai_core.addresses == ("one:1", "two:2")
    assert (bridge.compression.target_savings_percent, bridge.compression.quality_level) == (20, 7)
    assert bridge.compression.mode == "Always"


# --- Kubernetes ----------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"rtp": {**leg()["rtp"], "srtp": {"suite": "AEAD_AES_128_GCM", "keyRef": REF}}}, "has no SRTP"),
        (
            {"rtp": {"video": {"payloads": [{"type": 97, "codec": "AV1"}], "listenPort": 5000}}},
            "does not carry AV1",
        ),
    ],
)
def test_what_this_version_does_not_carry_is_said_of_the_room(change: dict[str, Any], why: str) -> None:
    """Outside Kubernetes it is a mistake in the file; in a bridge other rooms go on."""
    other = {"name": "b", "rtp": {"audio": {"payloads": [{"type": 98, "codec": "Opus"}], "listenPort": 6000}}}
    rooms = [{"name": "r", "legs": [leg(**change), other]}]
    found = parse_documents(document(rooms=rooms))
    assert found.config
    assert why in (found.config.bridge.rooms[0].unserved() or "")
    assert any(why in error for error in errors_of(with_bridge(f"rooms = {json.dumps(rooms)}")))


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
