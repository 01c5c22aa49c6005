"""`auralink.conf`: what loads, and what is said about what does not."""

import re
from collections.abc import Mapping

import pytest
from auralink_dataplane.settings import ApiKey, ConfigError, from_file
from hypothesis import given, settings
from hypothesis import strategies as st

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


@pytest.mark.parametrize("text", [":", "key:", ":secret", ""])
def test_half_an_api_key_is_refused(text: str) -> None:
    [error] = errors_of(MINIMAL, {**ENV, "WEBRTC_API_KEY": text})
    assert error == 'auralink.webrtc_server.api_key: write it as "key" or "key:secret", neither of them empty'


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


def test_what_is_not_built_is_told_beside_every_other_mistake() -> None:
    """Flags and rooms are looked at one by one, whatever else is wrong."""
    rooms = (
        "rooms = [ 7, { name = r, legs = [ { name = a, endpoint = x }, { name = b, endpoint = x } ] } ], logLevel = x"
    )
    text = MINIMAL.replace("enable_rtmp = false", "enable_rtmp = true\n enable_aic = maybe")
    text = text.replace("  redis {", f"  bridge {{ {rooms} }}\n  redis {{").replace("6379", "99999")
    assert {error.split(": ")[0] for error in errors_of(text, {**ENV, "ENABLE_SIP": "true"})} == {
        "auralink.features.enable_aic", "auralink.features.enable_rtmp (ENABLE_RTMP)", "auralink.redis.port",
        "auralink.features.enable_sip (ENABLE_SIP)", "auralink.bridge.logLevel", "auralink.bridge.rooms[0]",
        "auralink.bridge.rooms",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["auralink { features = 3 }", "auralink = 3", "auralink { service = = }", "[1, 2]"])
def test_a_flag_of_the_environment_is_refused_whatever_the_file_is(text: str) -> None:
    errors = errors_of(text, {"ENABLE_SIP": "true", "ENABLE_AIC": "false"})
    assert any("ENABLE_SIP" in error for error in errors)
    assert len(errors) >= 2


def test_a_flag_that_is_no_flag_is_told_once() -> None:
    [error] = errors_of(MINIMAL, {**ENV, "ENABLE_AIC": "maybe"})
    assert error.startswith("ENABLE_AIC: ")


def test_a_syntax_error_names_the_line_of_the_file() -> None:
    broken = MINIMAL.replace("port = 6379", "port = = 6379")
    line = 1 + broken[: broken.index("port = =")].count("\n")
    [error] = errors_of(broken)
    assert f"(line:{line}, " in error


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_a_variable_arrives_as_it_is(value: str) -> None:
    """No parser looks at it: quotes, backslashes, ${ }, line breaks and letters of any script mean nothing."""
    assert from_file("auralink { service { bridge_id = ${ID} } }", {"ID": value}).pod.bridge_id == value


def test_letters_of_any_script_may_stand_in_the_file() -> None:
    text = 'auralink { service { bridge_id = "brücke-${x}", region = zürich, environment = "前"${?SUFFIX} } }'
    found = from_file(text, {"SUFFIX": "\N{BRIDGE AT NIGHT}"})
    assert found.config
    assert (found.pod.bridge_id, found.config.bridge.region) == ("brücke-${x}", "zürich")
    assert found.config.bridge.environment == "前\N{BRIDGE AT NIGHT}"


_EDIT = st.tuples(
    st.integers(0, len(MINIMAL)),
    st.integers(0, 12),
    st.sampled_from(
        [
            "",
            "{",
            "}",
            "[",
            "]",
            "=",
            ",",
            '"',
            "${DB_PASSWORD}",
            "${?NONE}",
            "#",
            "3",
            "null",
            "x",
            'include package("a")',
        ]
    ),
)


@given(st.lists(_EDIT, min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_any_file_loads_or_is_refused_with_reasons(edits: list[tuple[int, int, str]]) -> None:
    text = MINIMAL
    for at, length, written in edits:
        text = text[:at] + written + text[at + length :]
    came_of_it: object
    try:
        came_of_it = from_file(text, {**ENV, "ENABLE_AIC": "true"}).config
    except ConfigError as error:
        came_of_it = error.errors
    assert came_of_it


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auralink {", "auralink.conf: is not HOCON"),
        ("[1, 2]", "auralink.conf: is a list: everything stands inside auralink { }"),
        ("auralink = null", "auralink.service: is required"),
        ("auralink { service { bridge_id = b }, features = 3 }", "auralink.features: must be a section, { }"),
        ('include package("x")', "auralink.conf: is not HOCON"),
        ('include package("no.such:x")', "includes what cannot be read"),
        (f"auralink {{ service {{ bridge_id = b, region = {'r' * 64} }} }}", "auralink.service.region: "),
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
        (
            with_video("remote = \"h:1\", payloads = [ { type = 96, codec = H264 } ]").replace(
                "{ video", "{ srtp { suite = AES_256, keyRef { name = s, key = k } }, video"
            ),
            "srtp.suite: must be 'AES_CM_128_HMAC_SHA1_80' or 'AEAD_AES_128_GCM'",
        ),
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
