"""What operator and data plane agree on, without importing each other: one renders it, the other parses it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import auralink_dataplane
import pytest
import yaml
from auralink_dataplane import __version__
from auralink_dataplane.policy import rules_for
from auralink_dataplane.settings import BridgeConfig, Settings, from_cluster, parse_documents, secret_refs
from auralink_dataplane.status_reporter import Snapshot, StatusReporter
from auralink_operator import manifests
from auralink_operator.index import Obj, Observed
from auralink_operator.models import PROBLEMS, PodView, PublicAddress, Scene, parse_bridge, parse_policy
from auralink_operator.models.schema import CLOSED, NOT_YET
from auralink_operator.policies import compile_policies
from auralink_operator.settings import Settings as OperatorSettings

CRDS = Path(__file__).parents[2] / "crds"
SOURCE = Path(auralink_dataplane.__file__).parent
OPERATOR = OperatorSettings(data_plane_image="registry.test/data-plane:1", ai_core_address="ai-core.system:50051")


def bridge(spec: dict[str, Any]) -> Obj:
    meta = {"name": "eu-west", "namespace": "calls", "uid": "u-1", "generation": 1}
    return {"metadata": meta, "spec": spec}


def policy(name: str, spec: dict[str, Any]) -> Obj:
    return {"metadata": {"name": name, "namespace": "calls", "uid": name, "generation": 4}, "spec": spec}


def medium(payload: int, codec: str, **rest: Any) -> Obj:
    return {"payloads": [{"type": payload, "codec": codec}], **rest}


FULL: Obj = {
    "region": "eu",
    "environment": "production",
    "logLevel": "Debug",
    "rooms": [
        {
            "name": "demo",
            "labels": {"tier": "gold"},
            "legs": [
                {
                    "name": "studio",
                    "direction": "Receive",
                    "rtp": {"video": medium(96, "H264", listenPort=5004), "audio": medium(97, "Opus", listenPort=5006)},
                },
                {
                    "name": "audience",
                    "direction": "Send",
                    "rtp": {
                        "video": {
                            "payloads": [{"type": 96, "codec": "H264", "rtxType": 98}],
                            "remote": "receiver:5004",
                        },
                        "audio": {
                            "payloads": [{"type": 97, "codec": "Opus", "redType": 99}],
                            "remote": "receiver:5006",
                        },
                        "extensions": [{"id": 1, "uri": "urn:3gpp:video-orientation"}],
                        "rtcpMux": True,
                        "feedback": "AVPF",
                        "extensionId": 7,
                        "carrier": "InBand",
                    },
                },
            ],
        }
    ],
    "aiCore": {"tlsSecretName": "core-tls", "timeoutMs": 80, "breaker": {"failures": 3, "openSeconds": 5}},
    "compression": {"mode": "Always", "targetSavingsPercent": 30, "qualityLevel": 5, "latencyBudgetMs": 33},
    "api": {"tokenRef": {"name": "token", "key": "bearer"}},
    "drain": {"timeoutSeconds": 120, "propagationSeconds": 3},
}

REF: Obj = {"name": "secret", "key": "key"}

SERVICES: Obj = {
    "endpoints": [
        {
            "name": "meet",
            "type": "Jitsi",
            "jitsi": {
                "xmppUrl": "wss://meet.test/xmpp-websocket",
                "domain": "meet.test",
                "mucDomain": "conference.meet.test",
                "jwt": {"appId": "auralink", "keyRef": REF},
                "eventTokenRef": REF,
                "censusUrl": "http://meet.test:5280",
            },
        },
        {"name": "sfu", "type": "LiveKit", "livekit": {"url": "wss://sfu.test", "apiKeyRef": REF, "apiSecretRef": REF}},
    ],
    "rooms": [
        {
            "name": "calls",
            "glob": "call-*",
            "legs": [{"name": "a", "endpoint": "meet"}, {"name": "b", "endpoint": "sfu", "room": "x-{room}"}],
        },
        {
            "name": "secure",
            "legs": [
                {
                    "name": name,
                    "rtp": {
                        "video": medium(97, "AV1", listenPort=port),
                        "srtp": {"suite": "AEAD_AES_128_GCM", "keyRef": REF, "sendKeyRef": REF},
                    },
                }
                for name, port in (("in", 6000), ("out", 6010))
            ],
        },
    ],
    "aiCore": {"addresses": ["core:50051"], "failover": "Standby"},
    "redis": {
        "addresses": ["redis-0:26379"],
        "topology": "Sentinel",
        "master": "main",
        "user": "auralink",
        "passwordRef": REF,
        "tls": True,
        "caRef": REF,
    },
    "postgres": {"address": "pg:5432", "passwordRef": REF, "tls": True, "caRef": REF},
    "dashboard": {"url": "https://dashboard.test", "apiKeyRef": REF},
    "communication": {"url": "https://communication.test", "tokenRef": REF},
    "drain": {"strategy": "Wait"},
}

SAVE_MORE: Obj = {
    "rooms": {"names": ["d*"], "labels": {"tier": "gold"}},
    "priority": 10,
    "compression": {"targetSavingsPercent": 50, "roomsPercent": 25},
}


STRICT: Obj = {
    "compression": {"mode": "Disabled", "latencyBudgetMs": 250},
    "maxParticipants": 7,
    "media": {"audio": "Deny", "screenShare": "Deny"},
    "identity": {"privacy": "Pseudonym"},
    "codecs": ["AV1", "H264"],
}


def rendered(spec: Obj, *policies: Obj) -> dict[str, Obj]:
    parsed = parse_bridge(bridge(spec))
    pod = PodView("pod-1", "p-1", "10.0.0.7", "node", ready=True, deleting=False, entry={"phase": "Serving"})
    rtp_rooms = [room.name for room in parsed.spec.rooms if not room.glob]
    reached = {"demo/studio/video": PublicAddress(ip="203.0.113.7", hostname="", port=30004, pod="pod-1")}
    scene = Scene(pods=(pod,), owners=dict.fromkeys(rtp_rooms, pod), addresses=reached)
    compiled = compile_policies(parsed, [parse_policy(item) for item in policies])
    observed = Observed(bridge(spec), {}, (), ())
    return {item["kind"]: item for item in manifests.desired(parsed, compiled, observed, scene, OPERATOR)}


def configured(spec: Obj, *policies: Obj) -> tuple[BridgeConfig, Mapping[str, str]]:
    """What a pod makes of the rendered ConfigMap, where it takes all of it."""
    found = parse_documents(rendered(spec, *policies)["ConfigMap"]["data"])
    assert not found.errors
    assert found.config is not None
    assert found.owners is not None
    return found.config, found.owners


def started(spec: Obj) -> Settings:
    """Settings of a pod that Kubernetes started from the rendered Deployment."""
    container = rendered(spec)["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    fields = {
        "metadata.name": "pod-1",
        "metadata.uid": "p-1",
        "metadata.namespace": "calls",
        "status.podIP": "10.0.0.7",
        "spec.nodeName": "node",
    }
    env = {
        item["name"]: item.get("value") or fields[item["valueFrom"]["fieldRef"]["fieldPath"]]
        for item in container["env"]
    }
    return from_cluster(env)


def test_a_pod_understands_the_environment_it_is_started_with() -> None:
    settings = started(FULL)
    assert (settings.pod.bridge_id, settings.pod.name, settings.pod.uid) == ("calls/eu-west", "pod-1", "p-1")
    assert (settings.pod.node, settings.pod.ip) == ("node", "10.0.0.7")
    assert settings.config_map == rendered(FULL)["ConfigMap"]["metadata"]["name"]
    assert (settings.http_port, settings.metrics_port) == (8080, 9090)
    assert (settings.drain_propagation_s, settings.drain_timeout_s) == (3, 120)


@pytest.mark.parametrize("spec", [{}, FULL, SERVICES], ids=["all defaults", "plain rooms", "every service"])
def test_a_pod_understands_the_configuration_of_any_valid_bridge(spec: Obj) -> None:
    config, owners = configured(spec)
    assert config.generation == 1
    assert owners == {room["name"]: "pod-1" for room in spec.get("rooms", []) if "glob" not in room}


def test_nothing_of_the_spec_is_lost_on_the_way() -> None:
    config, _ = configured(FULL)
    spec = config.bridge
    room = spec.rooms[0]
    audience = room.legs[1]
    assert (spec.region, spec.environment, spec.log_level) == ("eu", "production", "Debug")
    assert (room.name, dict(room.labels)) == ("demo", {"tier": "gold"})
    assert [leg.direction for leg in room.legs] == ["Receive", "Send"]
    assert audience.rtp is not None
    assert (audience.rtp.rtcp_mux, audience.rtp.feedback, audience.rtp.extension_id) == (True, "AVPF", 7)
    assert audience.rtp.carrier == "InBand"
    assert audience.rtp.media["video"].remote == "receiver:5004"
    assert spec.ai_core.tls_secret_name == "core-tls"  # noqa: S105 - a name
    assert (spec.ai_core.timeout_ms, spec.ai_core.breaker.failures, spec.ai_core.breaker.open_seconds) == (80, 3, 5)
    assert (spec.compression.target_savings_percent, spec.compression.quality_level) == (30, 5)
    assert spec.compression.latency_budget_ms == 33
    assert spec.api.token_ref is not None
    assert (spec.api.token_ref.name, spec.api.token_ref.key) == ("token", "bearer")


def test_every_service_reaches_the_pods() -> None:
    spec = configured(SERVICES)[0].bridge
    meet, sfu = spec.endpoints
    assert meet.jitsi is not None
    assert meet.jitsi.jwt is not None
    assert (meet.jitsi.xmpp_url, meet.jitsi.jwt.app_id) == ("wss://meet.test/xmpp-websocket", "auralink")
    assert sfu.livekit is not None
    assert (sfu.livekit.url, sfu.livekit.webhooks) == ("wss://sfu.test", True)
    assert [(leg.endpoint, leg.room) for leg in spec.rooms[0].legs] == [("meet", None), ("sfu", "x-{room}")]
    assert spec.rooms[0].glob == "call-*"
    assert spec.rooms[1].legs[0].rtp is not None
    assert spec.rooms[1].legs[0].rtp.srtp is not None
    assert spec.rooms[1].legs[0].rtp.srtp.send_key_ref is not None
    assert spec.redis is not None
    assert (spec.redis.topology, spec.redis.master, spec.redis.database, spec.redis.tls) == (
        "Sentinel",
        "main",
        0,
        True,
    )
    assert spec.postgres is not None
    assert (spec.postgres.address, spec.postgres.database) == ("pg:5432", "auralink")
    assert spec.dashboard is not None
    assert spec.communication is not None
    assert (spec.dashboard.url, spec.communication.url) == ("https://dashboard.test", "https://communication.test")
    assert (spec.ai_core.failover, spec.drain.strategy) == ("Standby", "Wait")


# --- what pods write into the status --------------------------------------------------------------------------------

ENDS = pytest.mark.parametrize("most", [True, False], ids=["the most", "the least"])


def entry_schema() -> Obj:
    spec = yaml.safe_load((CRDS / "auralinkbridges.auralink.io.yaml").read_text())["spec"]
    root = spec["versions"][0]["schema"]["openAPIV3Schema"]
    found: Obj = root["properties"]["status"]["properties"]["pods"]["items"]
    return found


def breaks(schema: Obj, value: Any, path: str = "") -> list[str]:
    """What of a value the API server would refuse, as far as entries have such bounds."""
    found = [path for name in schema.get("required", ()) if name not in value]
    if schema["type"] == "object":
        found += [f"{path}.{name} unknown" for name in value if name not in schema["properties"]]
        known = {name: item for name, item in value.items() if name in schema["properties"]}
        return found + [e for n, item in known.items() for e in breaks(schema["properties"][n], item, f"{path}.{n}")]
    if schema["type"] == "array":
        found += [f"{path} length"] if len(value) > schema["maxItems"] else []
        return found + [
            e for number, item in enumerate(value) for e in breaks(schema["items"], item, f"{path}[{number}]")
        ]
    if schema["type"] == "integer":
        return [] if schema["minimum"] <= value <= schema["maximum"] else [f"{path} = {value}"]
    fits = len(value) <= schema.get("maxLength", len(value)) and value in schema.get("enum", (value,))
    return [] if fits else [f"{path} = {value}"]


@ENDS
async def test_whatever_a_pod_has_to_report_fits_into_its_entry(most: bool) -> None:
    written: list[Obj] = []

    class Writer:
        async def apply_pod_entry(self, entry: Mapping[str, Any] | None) -> None:
            written.append(dict(entry or {}))

    many = 2**63 if most else -(2**63)
    said = Snapshot("Serving", many, many, many, float(many), dict.fromkeys(PROBLEMS, "\N{GRINNING FACE}" * 1000))
    now = [0.0]
    fixed = {
        "name": "p" * 62,
        "uid": "u" * 36,
        "node": "n" * 253,
        "version": __version__,
        "since": "2026-01-01T00:00:00Z",
    }
    reporter = StatusReporter(Writer(), lambda: said, fixed, clock=lambda: now[0])
    for _ in range(100):
        await reporter.report()
        now[0] += 1.0
    assert written[-1]["problems"] == sorted(PROBLEMS)
    assert [broken for entry in written for broken in breaks(entry_schema(), entry)] == []
    assert {"savedPercent", "message"} <= written[-1].keys()


def test_pods_report_no_problem_that_the_resource_does_not_know() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (SOURCE / "app").glob("*.py"))
    named = set(re.findall(r'found(?:\.setdefault\(|\[)"([A-Z]\w+)"', sources))
    assert {"AICoreUnavailable", "ConfigInvalid"} <= named <= set(PROBLEMS)


def test_the_resource_says_what_pods_of_this_version_do_nothing_with() -> None:
    spec = yaml.safe_load((CRDS / "auralinkbridges.auralink.io.yaml").read_text())["spec"]
    fields = spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    config, _ = configured(SERVICES)
    idle = {*config.bridge.without_user, "endpoints"}
    assert {name for name, field in fields.items() if NOT_YET in field["description"]} == idle
    room = fields["rooms"]["items"]["properties"]["legs"]["items"]["properties"]
    assert [bool(one.unserved()) for one in config.bridge.rooms] == [True, False]  # the second is plain RTP
    assert CLOSED in room["endpoint"]["description"]


def test_every_effect_of_a_policy_reaches_the_rooms() -> None:
    config, _ = configured(FULL, policy("strict", STRICT))
    rules = rules_for("demo", {"tier": "gold"}, config.bridge.compression, config.policies)
    assert (rules.compression.mode, rules.max_participants, rules.privacy) == ("Disabled", 7, "Pseudonym")
    assert rules.compression.latency_budget_ms == 250
    assert (rules.media.audio, rules.media.video, rules.media.screen_share) == ("Deny", "Allow", "Deny")
    assert rules.codecs is not None
    assert set(rules.codecs) == {"AV1", "H264"}


def test_pods_know_where_a_medium_is_reached_from_outside() -> None:
    found = parse_documents(rendered(FULL)["ConfigMap"]["data"]).addresses["demo/studio/video"]
    assert (found.host, found.port) == ("203.0.113.7", 30004)


def test_a_bridge_without_addresses_uses_the_operators_ai_core() -> None:
    assert configured({})[0].bridge.ai_core.addresses == ("ai-core.system:50051",)


def test_policies_arrive_in_merge_order_with_only_what_they_set() -> None:
    low = policy("low", {"compression": {"mode": "Disabled"}})
    config, _ = configured(FULL, low, policy("save-more", SAVE_MORE))
    assert [item.name for item in config.policies] == ["save-more", "low"]
    sent = json.loads(rendered(FULL, low)["ConfigMap"]["data"]["config.json"])["policies"]
    assert sent[0]["compression"] == {"mode": "Disabled"}


def test_every_secret_that_pods_look_for_is_mounted() -> None:
    volumes = rendered(SERVICES)["Deployment"]["spec"]["template"]["spec"]["volumes"]
    sources = next(v for v in volumes if v["name"] == "secrets")["projected"]["sources"]
    mounted = {item["path"] for source in sources for item in source["secret"]["items"]}
    wanted = {f"{ref.name}/{ref.key}" for _, ref in secret_refs(configured(SERVICES)[0].bridge)}
    assert wanted <= mounted


def test_secrets_are_where_the_pod_looks_for_them() -> None:
    pod = rendered(FULL)["Deployment"]["spec"]["template"]["spec"]
    mount = next(m["mountPath"] for m in pod["containers"][0]["volumeMounts"] if m["name"] == "secrets")
    sources = next(v for v in pod["volumes"] if v["name"] == "secrets")["projected"]["sources"]
    paths = {f"{mount}/{item['path']}" for source in sources for item in source["secret"]["items"]}
    root = started(FULL).secrets_dir
    assert {f"{root}/core-tls/ca.crt", f"{root}/core-tls/tls.crt", f"{root}/core-tls/tls.key"} <= paths
    assert f"{root}/token/bearer" in paths
    assert all(source["secret"]["optional"] for source in sources)
