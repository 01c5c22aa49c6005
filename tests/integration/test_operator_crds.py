"""What the API server itself refuses, and that its message names the field and the way out."""

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.kube_api import ApiServer, Kube, Obj, Refused, hands
from tests.integration.operator_bench import a_bridge, a_policy


@pytest.fixture(scope="module")
def numbers() -> list[int]:
    return []


@pytest.fixture
async def kube(api_server: ApiServer, numbers: list[int]) -> AsyncIterator[Kube]:
    numbers.append(0)
    async with hands(api_server, f"crds-{len(numbers)}") as found:
        yield found


def changed(obj: Obj, path: str, value: Any) -> Obj:
    """A copy with the value at a dotted path; a number is a list's index, and `...` removes."""
    found = copy.deepcopy(obj)
    node: Any = found
    *parents, last = path.split(".")
    for part in parents:
        node = node[int(part)] if part.isdigit() else node.setdefault(part, {})
    if value is ...:
        del node[last]
    elif last.isdigit():
        node[int(last)] = value
    else:
        node[last] = value
    return found


Wrong = tuple[str, Any, tuple[str, ...]]


def named(cases: tuple[Wrong, ...]) -> list[str]:
    return [f"{path}={value!r:.30}" for path, value, _ in cases]


LEG = "spec.rooms.0.legs.0"
H264_AUDIO = {"payloads": [{"type": 9, "codec": "H264"}], "listenPort": 5006}
NOWHERE = {"payloads": [{"type": 96, "codec": "H264"}]}
BRIDGES: tuple[Wrong, ...] = (
    ("metadata.name", "a" * 37, ("metadata.name", "36")),
    ("metadata.name", "1abc", ("metadata.name", "begin with a letter")),
    ("spec", ..., ("spec", "Required")),
    ("spec.compression.mode", "On", ("spec.compression.mode", "Disabled", "Auto", "Always")),
    ("spec.compression.mode", True, ("spec.compression.mode", "string")),
    ("spec.compression.targetSavingsPercent", 91, ("spec.compression.targetSavingsPercent", "90")),
    ("spec.compression.qualityLevel", 0, ("spec.compression.qualityLevel", "1")),
    ("spec.logLevel", "verbose", ("spec.logLevel", "Debug")),
    ("spec.replicas", 101, ("spec.replicas", "100")),
    ("spec.aiCore.addresses", ["ai-core"], ("spec.aiCore.addresses[0]", "host:port with a port from 1 to 65535")),
    ("spec.aiCore.addresses", ["ai-core:0"], ("spec.aiCore.addresses[0]", "host:port with a port from 1 to 65535")),
    ("spec.aiCore.tlsSecretName", "No Name", ("spec.aiCore.tlsSecretName", "should match")),
    ("spec.aiCore.addresses", [], ("spec.aiCore.addresses", "at least 1")),
    ("spec.aiCore.addresses", ["a:1", "a:1"], ("spec.aiCore.addresses[1]", "Duplicate")),
    ("spec.aiCore.timeoutMs", 1, ("spec.aiCore.timeoutMs", "5")),
    ("spec.drain.propagationSeconds", 61, ("spec.drain.propagationSeconds", "60")),
    ("spec.resources.requests", {"cpu": "lots"}, ("spec.resources.requests.cpu",)),
    ("spec.api.tokenRef", {"name": "s"}, ("spec.api.tokenRef.key", "Required")),
    ("spec.api.tokenRef", {"name": "s", "key": "../up"}, ("spec.api.tokenRef.key", "should match")),
    (f"{LEG}.name", "UPPER", (f"{LEG}.name".replace(".0", "[0]"), "should match")),
    (f"{LEG}.rtp", ..., ("legs[0]", "exactly one of endpoint and rtp")),
    (f"{LEG}.rtp", {}, ("legs[0].rtp", "video or audio")),
    (f"{LEG}.rtp.video.listenPort", ..., ("legs[0].rtp", "listenPort")),
    (f"{LEG}.rtp.video.listenPort", 80, ("legs[0].rtp.video.listenPort", "1024")),
    (f"{LEG}.rtp.video.payloads", [], ("legs[0].rtp.video.payloads", "at least 1")),
    (f"{LEG}.rtp.video.payloads.0.codec", "Opus", ("legs[0].rtp.video", "audio codec")),
    (f"{LEG}.rtp.video.payloads.0.codec", "MPEG2", ("codec", "H264", "Opus")),
    (
        f"{LEG}.rtp.audio",
        {"payloads": [{"type": 9, "codec": "H264"}], "listenPort": 5006},
        ("legs[0].rtp.audio", "Opus"),
    ),
    (f"{LEG}.rtp.extensionId", 15, ("legs[0].rtp.extensionId", "14")),
    (f"{LEG}.direction", "In", ("legs[0].direction", "Receive")),
    (
        "spec.rooms.0.legs.1.rtp.video",
        {"payloads": [{"type": 96, "codec": "H264"}]},
        ("legs[1].rtp.video", "listenPort"),
    ),
    ("spec.rooms.0.legs.1.rtp.video.remote", "peer", ("legs[1].rtp.video.remote", "host:port")),
    ("spec.rooms.0.legs.1.rtp.video.remote", "peer:65536", ("legs[1].rtp.video.remote", "from 1 to 65535")),
    ("spec.rooms.0.legs.1.name", "in", ("legs[1]", "Duplicate")),
    ("spec.rooms.0.labels", {"k" * 64: "v"}, ("rooms[0].labels", "63")),
)


@pytest.mark.parametrize(("path", "value", "said"), BRIDGES, ids=named(BRIDGES))
async def test_a_wrong_bridge_is_refused_by_name(kube: Kube, path: str, value: Any, said: tuple[str, ...]) -> None:
    with pytest.raises(Refused) as refused:
        await kube.create("auralinkbridges", changed(a_bridge(), path, value))
    assert refused.value.status == 422
    for word in said:
        assert word in refused.value.message


POLICIES: tuple[Wrong, ...] = (
    ("spec", {}, ("spec", "effect", "targetSavingsPercent")),
    ("spec.compression", {"roomsPercent": 50}, ("spec", "effect")),
    ("spec.compression.qualityFloor", 101, ("spec.compression.qualityFloor", "100")),
    ("spec.priority", 1001, ("spec.priority", "1000")),
    ("spec.rooms", {"names": []}, ("spec.rooms.names", "at least 1")),
    ("spec.rooms", {"names": ["x" * 65]}, ("spec.rooms.names[0]", "64")),
)


@pytest.mark.parametrize(("path", "value", "said"), POLICIES, ids=named(POLICIES))
async def test_a_wrong_policy_is_refused_by_name(kube: Kube, path: str, value: Any, said: tuple[str, ...]) -> None:
    with pytest.raises(Refused) as refused:
        await kube.create("roompolicies", changed(a_policy("p", mode="Auto"), path, value))
    assert refused.value.status == 422
    for word in said:
        assert word in refused.value.message


async def test_defaults_are_written_out_and_a_new_bridge_is_not_observed_yet(kube: Kube) -> None:
    bridge = await kube.create("auralinkbridges", {**a_bridge(), "spec": {}})
    assert bridge["status"] == {"observedGeneration": -1}
    assert bridge["spec"] == {
        "suspend": False,
        "region": "",
        "environment": "",
        "logLevel": "Info",
        "endpoints": [],
        "rooms": [],
        "aiCore": {"failover": "None", "timeoutMs": 100, "breaker": {"failures": 5, "openSeconds": 60}},
        "compression": {
            "mode": "Auto",
            "targetSavingsPercent": 40,
            "minSavingsPercent": 15,
            "qualityLevel": 7,
            "qualityFloor": 80,
            "model": "",
        },
        "api": {},
        "exposure": {
            "mode": "ClusterIP",
            "nodeAddressType": "ExternalIP",
            "serviceAnnotations": {},
            "addressMap": [],
        },
        "drain": {"strategy": "Handover", "timeoutSeconds": 3600, "propagationSeconds": 5, "onDelete": False},
        "networkPolicy": {"enabled": True, "mediaFrom": ["0.0.0.0/0", "::/0"], "monitoringNamespace": ""},
        "monitoring": {"serviceMonitor": "Auto"},
        "pod": {"labels": {}, "annotations": {}, "nodeSelector": {}, "imagePullSecrets": []},
        "podDisruptionBudget": True,
        "image": "",
        "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
    }


async def test_the_largest_bridge_is_taken(kube: Kube) -> None:
    """128 rooms of four legs: the price of every rule stays within the API server's budget."""
    big = a_bridge()
    (room,) = big["spec"]["rooms"]
    legs = []
    for number in range(4):
        leg = copy.deepcopy(room["legs"][0])
        leg["name"] = f"leg-{number}"
        leg["direction"] = "Both"
        legs.append(leg)
    big["spec"]["rooms"] = [{"name": f"room-{number}", "legs": legs} for number in range(128)]
    await kube.create("auralinkbridges", big)


async def test_kubectl_get_shows_what_a_user_asks_first(kube: Kube) -> None:
    await kube.create("auralinkbridges", a_bridge())
    table = await kube.raw(
        "GET",
        f"/apis/auralink.io/v1alpha1/namespaces/{kube.namespace}/auralinkbridges",
        accept="application/json;as=Table;v=v1;g=meta.k8s.io",
    )
    columns = [column["name"] for column in table["columnDefinitions"] if column["priority"] == 0]
    assert columns == ["Name", "Ready", "Pods", "Rooms", "Sessions", "Saved%", "Age"]


async def test_bridges_can_be_selected_by_region(kube: Kube) -> None:
    await kube.create("auralinkbridges", a_bridge("east", region="eu-east"))
    await kube.create("auralinkbridges", a_bridge("west", region="eu-west"))
    path = f"/apis/auralink.io/v1alpha1/namespaces/{kube.namespace}/auralinkbridges"
    found = await kube.raw("GET", f"{path}?fieldSelector=spec.region%3Deu-west")
    assert [item["metadata"]["name"] for item in found["items"]] == ["west"]
