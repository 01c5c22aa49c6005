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
        (with_video("listenPort = 5000, payloads = [ { type = 96, codec = VP8 } ]"), "must be 'H264' or 'Opus'"),
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
    config, owners = parse_documents({**document(region="eu"), "owners.json": '{"r": "p-1"}'})
    assert (config.generation, config.bridge.region, owners) == (3, "eu", {"r": "p-1"})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, "config.json: is missing"),
        ({"config.json": "{"}, "config.json: is not JSON"),
        (document() | {"owners.json": "[]"}, "owners.json: "),
        (document(colour="red"), "config.json.bridge.colour: is not a known field"),
        (document(aiCore={"timeoutMs": 2}), "config.json.bridge.aiCore.timeoutMs: must be at least 5"),
        ({"config.json": '{"version": 2, "generation": 1, "bridge": {}}'}, "config.json.version: must be 1"),
    ],
)
def test_a_bad_configmap_says_what_is_wrong(data: dict[str, str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_documents(data)
    assert any(error.startswith(expected) for error in caught.value.errors), caught.value.errors


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
