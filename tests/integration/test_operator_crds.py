"""What the API server itself refuses, and that its message names the field and the way out."""

import asyncio
import copy
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from auralink_operator import crdgen

from tests.integration.kube_api import ApiServer, Kube, Obj, Refused, eventually, hands
from tests.unit.operator.whole import BASES
from tests.unit.operator.wrong import RULES, Right, Wrong, rights, spots, wrongs

PLURAL = {"AuraLinkBridge": "auralinkbridges", "RoomPolicy": "roompolicies"}
SPOTS = list(spots(crdgen.crds()))
AT_ONCE = 16


@pytest.fixture(scope="module")
def numbers() -> list[int]:
    return []


@pytest.fixture
async def kube(api_server: ApiServer, numbers: list[int]) -> AsyncIterator[Kube]:
    numbers.append(0)
    async with hands(api_server, f"crds-{len(numbers)}") as found:
        yield found


async def tried(kube: Kube, obj: Obj) -> str:
    """What the API server says against an object; "" if nothing. It is not kept."""
    path = f"/apis/auralink.io/v1alpha1/namespaces/{kube.namespace}/{PLURAL[obj['kind']]}?dryRun=All"
    try:
        await kube.raw("POST", path, obj)
    except Refused as error:
        if error.status != 422:
            raise
        return error.message
    return ""


async def complaints(kube: Kube, rows: Sequence[Wrong]) -> list[str]:
    """The rows that the API server takes, or refuses without saying where and why."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(row: Wrong) -> str:
        async with free:
            message = await tried(kube, row.made())
        missing = [word for word in row.said if word not in message]
        return f"{row.name}: {message or 'accepted'} (lacks {missing})" if missing else ""

    return [found for found in await asyncio.gather(*(one(row) for row in rows)) if found]


def part_of(path: str) -> str:
    return path.split(".")[1].rstrip("[]{}") if "." in path else path


PARTS = sorted({(BASES[spot.base]["kind"], part_of(spot.path)) for spot in SPOTS})


@pytest.mark.parametrize(("kind", "part"), PARTS, ids=[f"{kind}.{part}" for kind, part in PARTS])
async def test_every_wrong_value_of_every_field_is_refused_by_name(kube: Kube, kind: str, part: str) -> None:
    mine = [spot for spot in SPOTS if BASES[spot.base]["kind"] == kind and part_of(spot.path) == part]
    rows = [row for spot in mine for row in wrongs(spot)]
    assert rows
    assert await complaints(kube, rows) == []


async def test_every_rule_refuses_with_the_way_out(kube: Kube) -> None:
    assert await complaints(kube, RULES) == []


async def test_objects_that_say_everything_are_taken_up_to_their_bounds(kube: Kube) -> None:
    free = asyncio.Semaphore(AT_ONCE)

    async def one(row: Right) -> str:
        async with free:
            return await tried(kube, row.made())

    for obj in BASES.values():
        assert await tried(kube, obj) == ""
    refused = await asyncio.gather(*(one(row) for spot in SPOTS for row in rights(spot)))
    assert [message for message in refused if message] == []


async def test_a_kind_without_spec_is_refused(kube: Kube) -> None:
    for base in ("fixed", "policy"):
        obj = {name: value for name, value in BASES[base].items() if name != "spec"}
        assert "spec: Required value" in await tried(kube, obj)


ONE_POD: tuple[Obj, ...] = ({}, {"replicas": 1}, {"replicas": 0}, {"autoscaling": {"minReplicas": 1, "maxReplicas": 1}})


@pytest.mark.parametrize("scale", ONE_POD, ids=str)
async def test_one_pod_needs_no_redis_for_rooms_of_endpoints(kube: Kube, scale: Obj) -> None:
    bridge = copy.deepcopy(BASES["fixed"])
    for name in ("redis", "replicas"):
        del bridge["spec"][name]
    bridge["spec"] |= scale
    assert await tried(kube, bridge) == ""


async def test_several_pods_need_no_redis_for_plain_rooms(kube: Kube) -> None:
    bridge = copy.deepcopy(BASES["scaled"])
    del bridge["spec"]["redis"]
    bridge["spec"]["rooms"] = bridge["spec"]["rooms"][:1]
    assert await tried(kube, bridge) == ""


async def test_defaults_are_written_out_and_a_new_bridge_is_not_observed_yet(kube: Kube) -> None:
    bridge = await kube.create("auralinkbridges", {**BASES["fixed"], "spec": {}})
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
            "latencyBudgetMs": 10,
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
        "podDisruptionBudget": True,
        "image": "",
        "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
        "pod": {"labels": {}, "annotations": {}, "nodeSelector": {}, "imagePullSecrets": []},
    }


async def test_defaults_of_parts_come_with_the_parts(kube: Kube) -> None:
    spec: Obj = {
        "autoscaling": {"maxReplicas": 5},
        "redis": {"addresses": ["redis:6379"]},
        "postgres": {"address": "postgres:5432", "passwordRef": {"name": "s", "key": "k"}},
    }
    bridge = (await kube.create("auralinkbridges", {**BASES["fixed"], "spec": spec}))["spec"]
    assert bridge["autoscaling"] == {
        "driver": "HPA",
        "minReplicas": 2,
        "maxReplicas": 5,
        "targetSessionsPerPod": 50,
        "targetCPUPercent": 60,
        "scaleDownStabilizationSeconds": 300,
    }
    assert bridge["redis"] == {"addresses": ["redis:6379"], "topology": "Standalone", "database": 0, "tls": False}
    assert (bridge["postgres"]["database"], bridge["postgres"]["user"]) == ("auralink", "auralink")


async def test_a_policy_sets_nothing_that_its_author_did_not(kube: Kube) -> None:
    policy = await kube.create("roompolicies", {**BASES["policy"], "spec": {"maxParticipants": 5}})
    assert policy["spec"] == {"maxParticipants": 5, "priority": 0, "rooms": {"names": ["*"], "labels": {}}}
    assert policy["status"] == {"observedGeneration": -1}


async def test_the_template_of_pods_keeps_what_no_schema_here_knows(kube: Kube) -> None:
    bridge = await kube.create("auralinkbridges", BASES["fixed"])
    assert bridge["spec"]["pod"]["template"] == BASES["fixed"]["spec"]["pod"]["template"]


async def test_the_largest_bridge_is_taken(kube: Kube) -> None:
    """128 rooms of four legs and eight endpoints: the price of every rule stays within the API server's budget."""
    big = copy.deepcopy(BASES["fixed"])
    meet = big["spec"]["endpoints"][0]
    big["spec"]["endpoints"] = [{**meet, "name": f"{number}".rjust(32, "e")} for number in range(8)]
    plain, named = big["spec"]["rooms"]
    labels = {f"{number}".rjust(63, "k"): "v" * 63 for number in range(16)}
    legs = [{**plain["legs"][0], "name": f"leg-{number}"} for number in range(4)]
    ends = [{"name": f"leg-{n}", "endpoint": "7".rjust(32, "e"), "room": "r" * 128} for n in range(4)]
    big["spec"]["rooms"] = [
        {**plain, "name": f"room-{number}", "labels": labels, "legs": legs}
        if number % 2
        else {**named, "name": f"room-{number}", "labels": labels, "legs": ends}
        for number in range(128)
    ]
    await kube.create("auralinkbridges", big)


async def columns(kube: Kube, plural: str) -> dict[str, int]:
    table = await kube.raw(
        "GET",
        f"/apis/auralink.io/v1alpha1/namespaces/{kube.namespace}/{plural}",
        accept="application/json;as=Table;v=v1;g=meta.k8s.io",
    )
    return {column["name"]: column["priority"] for column in table["columnDefinitions"]}


async def test_kubectl_get_shows_what_a_user_asks_first(kube: Kube) -> None:
    found = await columns(kube, "auralinkbridges")
    assert [name for name in found if found[name] == 0] == [
        "Name",
        "Ready",
        "Pods",
        "Rooms",
        "Sessions",
        "Saved%",
        "Age",
    ]
    assert [name for name in found if found[name] == 1] == [
        "Reason",
        "Draining",
        "Config",
        "Mode",
        "Version",
        "Message",
    ]
    found = await columns(kube, "roompolicies")
    assert [name for name in found if found[name] == 0] == ["Name", "Ready", "Priority", "Bridges", "Conflicted", "Age"]


async def test_both_kinds_have_short_names_and_one_category(kube: Kube) -> None:
    listed = (await kube.raw("GET", "/apis/auralink.io/v1alpha1"))["resources"]
    names = {item["name"]: (item["shortNames"], item["categories"]) for item in listed if "/" not in item["name"]}
    assert names == {"auralinkbridges": (["aub"], ["auralink"]), "roompolicies": (["rpol"], ["auralink"])}


async def test_bridges_can_be_selected_by_region_and_by_suspend(kube: Kube) -> None:
    for name, spec in (("east", {"region": "eu-east"}), ("west", {"region": "eu-west", "suspend": True})):
        await kube.create("auralinkbridges", {**BASES["fixed"], "metadata": {"name": name}, "spec": spec})
    path = f"/apis/auralink.io/v1alpha1/namespaces/{kube.namespace}/auralinkbridges"
    for selector, names in (("spec.region%3Deu-west", ["west"]), ("spec.suspend%3Dfalse", ["east"])):
        found = await kube.raw("GET", f"{path}?fieldSelector={selector}")
        assert [item["metadata"]["name"] for item in found["items"]] == names


async def test_kubectl_scale_works_once_replicas_is_set(kube: Kube) -> None:
    await kube.create("auralinkbridges", BASES["fixed"])
    scaled = await kube.merge("auralinkbridges", "whole", {"spec": {"replicas": 5}}, "scale")
    assert (scaled["kind"], scaled["spec"]["replicas"]) == ("Scale", 5)
    await kube.merge("auralinkbridges", "whole", {"status": {"replicas": 4, "selector": "a=b"}}, "status")
    path = f"/apis/auralink.io/v1alpha1/namespaces/{kube.namespace}/auralinkbridges/whole/scale"
    assert (await kube.raw("GET", path))["status"] == {"replicas": 4, "selector": "a=b"}


async def test_a_write_of_the_spec_leaves_the_status_alone_and_the_other_way_round(kube: Kube) -> None:
    await kube.create("auralinkbridges", BASES["fixed"])
    changed = await kube.merge("auralinkbridges", "whole", {"spec": {"region": "x"}, "status": {"rooms": 5}})
    assert "rooms" not in changed["status"]
    changed = await kube.merge("auralinkbridges", "whole", {"spec": {"region": "y"}, "status": {"rooms": 5}}, "status")
    assert (changed["spec"]["region"], changed["status"]["rooms"]) == ("x", 5)


# --- from an older CRD ----------------------------------------------------------------------------------------------

OLD = "older.auralink.io"


def _apart(crd: Obj) -> Obj:
    """The CRD under names of its own, so that nothing else here takes its objects for bridges."""
    found = copy.deepcopy(crd)
    found["spec"] |= {"group": OLD}
    found["spec"]["names"] = {"kind": "Older", "listKind": "OlderList", "plural": "olders", "singular": "older"}
    found["metadata"]["name"] = f"olders.{OLD}"
    return found


def _older(crd: Obj) -> Obj:
    """The CRD as it was: fewer fields, a laxer address, and fewer rules."""
    found = copy.deepcopy(crd)
    root = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec = root["properties"]["spec"]
    for name in ("endpoints", "exposure", "networkPolicy", "monitoring", "pod", "autoscaling", "redis"):
        del spec["properties"][name]
    del spec["x-kubernetes-validations"]
    addresses = spec["properties"]["aiCore"]["properties"]["addresses"]["items"]
    addresses["pattern"] = "^.+:[0-9]+$"
    room = spec["properties"]["rooms"]["items"]
    del room["properties"]["glob"], room["x-kubernetes-validations"]
    leg = room["properties"]["legs"]["items"]
    del leg["properties"]["endpoint"], leg["properties"]["room"], leg["x-kubernetes-validations"]
    return found


def _url(crd: Obj) -> str:
    return f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"


@pytest.fixture
async def older(kube: Kube) -> AsyncIterator[Obj]:
    crd = _apart(crdgen.crds()["auralinkbridges.auralink.io.yaml"])
    yield crd
    await kube.raw("DELETE", _url(crd))


async def _install(kube: Kube, crd: Obj) -> None:
    url = _url(crd)
    await kube.raw("PATCH", f"{url}?fieldManager=test&force=true", crd, "application/apply-patch+yaml")

    async def served() -> bool:
        found = await kube.raw("GET", url)
        conditions = found.get("status", {}).get("conditions") or []
        return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)

    await eventually(served, f"{crd['metadata']['name']} is served")


async def test_an_object_of_an_older_crd_lives_on_under_the_new_one(kube: Kube, older: Obj) -> None:
    """It gets the new defaults, its status can be written, and a value that is refused today may stay as it is."""
    path = f"/apis/{OLD}/v1alpha1/namespaces/{kube.namespace}/olders"
    await _install(kube, _older(older))
    spec: Obj = {"aiCore": {"addresses": ["a..b:1"]}, "rooms": BASES["fixed"]["spec"]["rooms"][:1], "replicas": 2}
    body = {"apiVersion": f"{OLD}/v1alpha1", "kind": "Older", "metadata": {"name": "kept"}, "spec": spec}

    async def created() -> bool:
        try:
            await kube.raw("POST", path, body)
        except Refused as error:
            if error.status != 404:  # not served yet
                raise
            return False
        return True

    await eventually(created, "the older object is stored")
    await _install(kube, older)

    async def upgraded() -> Obj | None:
        found = await kube.raw("GET", f"{path}/kept")
        return found if "exposure" in found["spec"] else None

    found = await eventually(upgraded, "the new defaults show")
    assert found["spec"]["exposure"]["mode"] == "ClusterIP"
    assert found["spec"]["endpoints"] == []

    async def patch(change: Obj, subresource: str = "") -> Any:
        return await kube.raw("PATCH", f"{path}/kept{subresource}", change, "application/merge-patch+json")

    await patch({"status": {"observedGeneration": 1}}, "/status")
    assert (await patch({"spec": {"region": "eu"}}))["spec"]["aiCore"]["addresses"] == ["a..b:1"]
    with pytest.raises(Refused, match="should match"):
        await patch({"spec": {"aiCore": {"addresses": ["c..d:1"]}}})
    await patch({"spec": {"aiCore": {"addresses": ["a.b:1"]}}})
