"""What the pods of a bridge are like, and which fields of a spec may roll them: every field is in one table or the
other, because the tables are read from the models."""

import copy
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from auralink_operator.index import Obj
from auralink_operator.manifests import TemplateError, pod_template
from auralink_operator.manifests.template import template_inputs
from auralink_operator.models import Bridge, BridgeSpec, Meta, Model
from auralink_operator.settings import Settings
from pydantic import ValidationError

from tests.unit.operator import samples

META = Meta("b", "ns", "uid-b", 1, "2026-01-01T00:00:00Z", {}, {}, {})


def reference(name: str) -> Obj:
    return {"name": name, "key": "value"}


def medium(codec: str, port: int) -> Obj:
    payload = {"type": 96, "codec": codec, "fmtp": "a=1", "redType" if codec == "Opus" else "rtxType": 97}
    return {"payloads": [payload], "listenPort": port, "remote": "peer:5004"}


FULL: Obj = {
    "suspend": False,
    "region": "eu",
    "environment": "prod",
    "logLevel": "Info",
    "endpoints": [
        {
            "name": "meet",
            "type": "Jitsi",
            "jitsi": {
                "xmppUrl": "wss://meet.test/xmpp",
                "domain": "meet.test",
                "mucDomain": "conference.meet.test",
                "jwt": {"appId": "app", "keyRef": reference("jwt")},
                "eventTokenRef": reference("events"),
                "censusUrl": "https://meet.test/census",
            },
            "livekit": {
                "url": "wss://livekit.test",
                "apiKeyRef": reference("lk-key"),
                "apiSecretRef": reference("lk-secret"),
                "webhooks": True,
            },
        }
    ],
    "rooms": [
        {
            "name": "demo",
            "labels": {"a": "b"},
            "glob": "demo-*",
            "legs": [
                {
                    "name": "in",
                    "direction": "Both",
                    "endpoint": "meet",
                    "room": "x",
                    "rtp": {
                        "video": medium("H264", 5004),
                        "audio": medium("Opus", 5008),
                        "rtcpMux": False,
                        "feedback": "None",
                        "extensionId": 7,
                        "carrier": "None",
                        "extensions": [{"id": 1, "uri": "urn:a"}],
                        "srtp": {
                            "suite": "AEAD_AES_128_GCM",
                            "keyRef": reference("srtp"),
                            "sendKeyRef": reference("srtp-send"),
                        },
                    },
                },
                {"name": "out", "endpoint": "meet"},
            ],
        }
    ],
    "aiCore": {
        "addresses": ["core:1"],
        "failover": "None",
        "tlsSecretName": "tls",
        "timeoutMs": 100,
        "breaker": {"failures": 5, "openSeconds": 60},
    },
    "compression": {
        "mode": "Auto",
        "targetSavingsPercent": 40,
        "minSavingsPercent": 15,
        "qualityLevel": 7,
        "qualityFloor": 80,
        "latencyBudgetMs": 10,
        "model": "m",
    },
    "redis": {
        "addresses": ["redis:6379"],
        "topology": "Sentinel",
        "master": "m",
        "database": 0,
        "user": "u",
        "passwordRef": reference("redis"),
        "tls": True,
        "caRef": reference("redis-ca"),
    },
    "postgres": {
        "address": "pg:5432",
        "database": "d",
        "user": "u",
        "passwordRef": reference("pg"),
        "tls": True,
        "caRef": reference("pg-ca"),
    },
    "dashboard": {"url": "https://dash.test", "apiKeyRef": reference("dash")},
    "communication": {"url": "https://comm.test", "tokenRef": reference("comm")},
    "api": {"tokenRef": reference("api")},
    "replicas": 3,
    "autoscaling": {
        "driver": "HPA",
        "minReplicas": 2,
        "maxReplicas": 9,
        "targetSessionsPerPod": 50,
        "targetCPUPercent": 60,
        "scaleDownStabilizationSeconds": 300,
    },
    "exposure": {
        "mode": "ClusterIP",
        "nodeAddressType": "ExternalIP",
        "loadBalancerClass": "x/y",
        "serviceAnnotations": {"a": "b"},
        "addressMap": [{"discovered": "10.0.0.1", "public": "192.0.2.1"}],
    },
    "drain": {"strategy": "Handover", "timeoutSeconds": 3600, "propagationSeconds": 5, "onDelete": False},
    "networkPolicy": {
        "enabled": True,
        "mediaFrom": ["10.0.0.0/8"],
        "monitoringNamespace": "monitoring",
        "webhooksFrom": ["10.0.0.0/8"],
    },
    "monitoring": {"serviceMonitor": "Auto"},
    "podDisruptionBudget": True,
    "image": "i:1",
    "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
    "pod": {
        "labels": {"a": "b"},
        "annotations": {"a": "b"},
        "nodeSelector": {"a": "b"},
        "priorityClassName": "p",
        "imagePullSecrets": [{"name": "pull"}],
        "template": {"spec": {"hostname": "h"}},
    },
}

# Every other field is applied by running pods, or is none of theirs.
ROLLING = {
    "endpoints.jitsi.jwt.keyRef",
    "endpoints.jitsi.eventTokenRef",
    "endpoints.livekit.apiKeyRef",
    "endpoints.livekit.apiSecretRef",
    "rooms.legs.rtp.srtp.keyRef",
    "rooms.legs.rtp.srtp.sendKeyRef",
    "aiCore.tlsSecretName",
    "redis.passwordRef",
    "redis.caRef",
    "postgres.passwordRef",
    "postgres.caRef",
    "dashboard.apiKeyRef",
    "communication.tokenRef",
    "api.tokenRef",
    "exposure.mode",
    "drain.timeoutSeconds",
    "drain.propagationSeconds",
    "image",
    "resources",
    "pod",
}
ROLLING_ON_HOST_PORTS = ROLLING | {
    "rooms.legs.rtp.video.listenPort",
    "rooms.legs.rtp.audio.listenPort",
    "rooms.legs.rtp.rtcpMux",
}


def models_in(annotation: Any) -> Iterator[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def fields(model: type[Model], path: str = "") -> Iterator[str]:
    """Every leaf of a model, by its path outside; items of a list count once."""
    for name, info in model.model_fields.items():
        here = f"{path}{info.alias or name}"
        inner = list(models_in(info.annotation))
        if not inner:
            yield here
        for one in inner:
            yield from fields(one, f"{here}.")


def places(value: Any, path: str) -> Iterator[tuple[Any, Any]]:
    """Container and key of every value at a path, through lists."""
    name, _, rest = path.partition(".")
    for one in value if isinstance(value, list) else [value]:
        if name in one and not rest:
            yield one, name
        elif name in one:
            yield from places(one[name], rest)


OTHERS = ("other", "other:1", "https://other.test", "wss://other.test", "203.0.113.0/24", "203.0.113.9")


def others(value: Any) -> Iterator[Any]:
    """Values that a field of such a value may also have."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value - 1)
    elif isinstance(value, str):
        yield from ("HostNetwork", "InternalIP", "Operator", "LiveKit", "Send", "AVPF", "InBand", "Standby", "Always")
        yield from ("Cluster", "Wait", "Disabled", "Debug", "AES_CM_128_HMAC_SHA1_80", "VP8", "H265", *OTHERS)
    elif isinstance(value, list):
        yield from ([other] for other in OTHERS)
    elif isinstance(value, dict):
        yield from ({"other": "1"}, {"spec": {"hostname": "other"}})


def spec_of(obj: Obj) -> BridgeSpec:
    return BridgeSpec.model_validate(obj)


def changed(base: Obj, path: str) -> Obj:
    """The spec with another value at one path."""
    for number in range(30):
        obj = copy.deepcopy(base)
        found = list(places(obj, path))
        assert found, f"{path} has no value in FULL: add one"
        for holder, name in found:
            candidates = list(others(holder[name]))
            if number >= len(candidates):
                raise AssertionError(f"no other value for {path} is known here: add one to others()")
            holder[name] = candidates[number]
        try:
            if spec_of(obj) != spec_of(base):
                return obj
        except ValidationError:
            continue
    raise AssertionError(path)


def rolls(path: str, table: set[str]) -> bool:
    return any(path == entry or path.startswith(f"{entry}.") for entry in table)


@pytest.mark.parametrize("path", list(fields(BridgeSpec)))
@pytest.mark.parametrize(
    ("mode", "table"), [("ClusterIP", ROLLING), ("HostPort", ROLLING_ON_HOST_PORTS)], ids=["Service", "HostPort"]
)
def test_a_field_rolls_the_pods_exactly_if_it_says_so(path: str, mode: str, table: set[str]) -> None:
    base = {**FULL, "exposure": {**FULL["exposure"], "mode": mode}}
    other = changed(base, path)
    before, after = Bridge(META, spec_of(base)), Bridge(META, spec_of(other))
    assert (pod_template(before, samples.SETTINGS) != pod_template(after, samples.SETTINGS)) == rolls(path, table)
    inputs = [template_inputs(bridge, samples.SETTINGS) for bridge in (before, after)]
    assert (inputs[0] != inputs[1]) == rolls(path, table)


def test_every_entry_of_the_table_names_a_field() -> None:
    known = set(fields(BridgeSpec))
    assert all(any(path == entry or path.startswith(f"{entry}.") for path in known) for entry in ROLLING_ON_HOST_PORTS)


def test_a_new_default_of_the_operator_is_no_input_of_the_user() -> None:
    bridge = Bridge(META, spec_of({}))
    new = Settings(data_plane_image="data-plane:2", ai_core_address="ai-core:50051")
    assert pod_template(bridge, samples.SETTINGS) != pod_template(bridge, new)
    assert template_inputs(bridge, samples.SETTINGS) == template_inputs(bridge, new)


# --- what is in it -------------------------------------------------------------------------------------------------


def template(settings: Settings = samples.SETTINGS, **spec: Any) -> Any:
    return pod_template(Bridge(META, spec_of({"rooms": [samples.room()], **spec})), settings)


def test_every_secret_that_the_spec_names_is_in_the_volume() -> None:
    (volume,) = [
        v
        for v in pod_template(Bridge(META, spec_of(FULL)), samples.SETTINGS)["spec"]["volumes"]
        if v["name"] == "secrets"
    ]
    sources = {source["secret"]["name"]: source["secret"] for source in volume["projected"]["sources"]}
    named = {
        "jwt",
        "events",
        "lk-key",
        "lk-secret",
        "srtp",
        "srtp-send",
        "redis",
        "redis-ca",
        "pg",
        "pg-ca",
        "dash",
        "comm",
        "api",
    }
    assert set(sources) == {*named, "tls"}
    assert all(source["optional"] for source in sources.values())
    assert sources["pg"]["items"] == [{"key": "value", "path": "pg/value"}]


def test_host_ports_are_the_listen_ports_and_pods_keep_apart() -> None:
    spec = template(exposure={"mode": "HostPort"})["spec"]
    ports = spec["containers"][0]["ports"]
    assert [(p["hostPort"], p["protocol"]) for p in ports if "hostPort" in p] == [(5004, "UDP"), (5005, "UDP")]
    (term,) = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert "hostNetwork" not in spec


def test_on_the_host_s_network_every_listen_port_is_hot() -> None:
    spec = template(exposure={"mode": "HostNetwork"})["spec"]
    assert spec["hostNetwork"]
    assert spec["dnsPolicy"] == "ClusterFirstWithHostNet"
    assert [p["hostPort"] for p in spec["containers"][0]["ports"]] == [8080, 9090]
    assert template(exposure={"mode": "HostNetwork"}, rooms=[])["spec"] == spec


def test_pod_settings_are_the_user_s_and_what_finds_the_pods_is_not() -> None:
    found = template(
        pod={
            "labels": {"team": "a"},
            "annotations": {"note": "b"},
            "priorityClassName": "high",
            "template": {
                "metadata": {
                    "labels": {"auralink.io/bridge": "other", "more": "c"},
                    "annotations": {"auralink.io/bridge-uid": None},
                }
            },
        }
    )
    assert found["metadata"]["labels"]["team"] == "a"
    assert found["metadata"]["labels"]["more"] == "c"
    assert found["metadata"]["labels"]["auralink.io/bridge"] == "b"
    assert found["metadata"]["annotations"] == {"note": "b", "auralink.io/bridge-uid": "uid-b"}
    assert found["spec"]["priorityClassName"] == "high"


def test_pods_carry_the_shard_and_roll_when_their_bridge_moves() -> None:
    blue = Settings(data_plane_image="data-plane:1", ai_core_address="ai-core:50051", shard="blue")
    assert template(blue)["metadata"]["labels"]["auralink.io/shard"] == "blue"
    assert "auralink.io/shard" not in template()["metadata"]["labels"]


def test_a_template_that_cannot_be_merged_names_its_field() -> None:
    with pytest.raises(TemplateError, match=r"spec.pod.template.spec.containers"):
        template(pod={"template": {"spec": {"containers": [{"image": "nameless"}]}}})


@pytest.mark.parametrize("metadata", ["x", {"labels": ["x"]}, {"annotations": 5}])
def test_metadata_that_is_none_is_refused_and_not_guessed(metadata: Any) -> None:
    with pytest.raises(TemplateError, match=r"spec\.pod\.template\.metadata.*must be an object"):
        template(pod={"template": {"metadata": metadata}})
