"""A bridge's life on a real API server: children, repair, configuration, status, end."""

import json
from collections.abc import AsyncIterator

import pytest

from tests.integration.kube_api import ApiServer, Obj, eventually
from tests.integration.operator_bench import Bench, a_bridge, a_policy, bench, running


@pytest.fixture
async def at(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async with bench(api_server, monkeypatch) as found:
        yield found


CHILDREN = (
    ("deployments", "auralink-b"),
    ("services", "auralink-b"),
    ("services", "auralink-b-rtp"),
    ("configmaps", "auralink-b-config"),
    ("serviceaccounts", "auralink-b"),
    ("roles", "auralink-b"),
    ("rolebindings", "auralink-b"),
)


async def test_a_new_bridge_gets_its_children_within_twenty_requests(at: Bench) -> None:
    before = at.calls()
    created = await at.kube.create("auralinkbridges", a_bridge())
    for plural, name in CHILDREN:
        child = await at.child(plural, name)
        (owner,) = child["metadata"]["ownerReferences"]
        assert owner["uid"] == created["metadata"]["uid"]
        assert owner["controller"]
        assert owner["blockOwnerDeletion"]
    await at.until("Ready", "False", "Progressing")
    await at.quiet()
    assert at.calls() - before <= 20
    assert await at.kube.get("poddisruptionbudgets", "auralink-b") is None


async def test_a_bridge_is_ready_once_its_pods_serve_and_have_acknowledged(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge())
    (pod,) = await at.serve()
    status = (await at.bridge())["status"]
    assert status["readyReplicas"] == 1
    assert status["rooms"] == 1
    assert status["config"]["ackedGeneration"] == status["config"]["desiredGeneration"] == 1
    assert status["observedGeneration"] == 1
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "Ready": "True",
        "Available": "True",
        "ConfigAcked": "True",
        "ExposureReady": "True",
    }
    config = await at.child("configmaps", "auralink-b-config")
    assert config["data"]["owners.json"] == '{"demo":"p1"}'
    address = {"ip": (await at.child("services", "auralink-b-rtp"))["spec"]["clusterIP"], "port": 5004}
    assert json.loads(config["data"]["addresses.json"]) == {"demo/in/video": address}
    (room,) = [s for s in await at.kube.list("endpointslices") if s["metadata"]["name"].startswith("auralink-b-rtp-")]
    assert room["endpoints"][0]["addresses"] == ["10.1.0.1"]
    assert room["endpoints"][0]["targetRef"]["uid"] == pod["metadata"]["uid"]
    assert [port["port"] for port in room["ports"]] == [5004, 5005]
    assert room["metadata"]["labels"]["kubernetes.io/service-name"] == "auralink-b-rtp"


async def test_looking_at_a_steady_bridge_calls_nothing(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge(replicas=2, aiCore={"tlsSecretName": "tls"}))
    await at.kube.create("roompolicies", a_policy("saving", targetSavingsPercent=30))
    await at.serve(pods=("p1", "p2"))
    await at.until("Ready", "True", "Succeeded", "saving", "roompolicies")
    await at.quiet()
    before, version = at.calls(), (await at.bridge())["metadata"]["resourceVersion"]
    await at.look_again(at.key(), at.policy_key("saving"))
    assert at.calls() == before
    assert (await at.bridge())["metadata"]["resourceVersion"] == version


async def test_a_restarted_operator_writes_nothing_where_nothing_changed(
    at: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await at.kube.create("auralinkbridges", a_bridge())
    await at.serve()
    await at.quiet()
    before = {name: (await at.child(plural, name))["metadata"]["resourceVersion"] for plural, name in CHILDREN}
    async with running(at.server, monkeypatch, at.kube.namespace, AURALINK_HEALTH_PORT="18182") as second:
        again = Bench(at.kube, at.server, second)
        await again.quiet()
        verbs = {
            sample.labels["verb"]
            for metric in second.metrics.api_requests.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }
    assert verbs == {"GET"}
    assert before == {name: (await at.child(plural, name))["metadata"]["resourceVersion"] for plural, name in CHILDREN}


async def test_an_operator_is_ready_beside_what_other_controllers_label_like_us(
    at: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Service's own EndpointSlices copy its labels: not ours, and not to be waited for."""
    await at.kube.create("auralinkbridges", a_bridge())
    labels = (await at.child("services", "auralink-b"))["metadata"]["labels"]
    copied = {**labels, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}
    other = {"metadata": {"name": "auralink-b-x7", "labels": copied}, "addressType": "IPv4", "endpoints": []}
    await at.kube.create("endpointslices", other)
    async with running(at.server, monkeypatch, at.kube.namespace, AURALINK_HEALTH_PORT="18182") as second:
        assert second.full


@pytest.mark.parametrize(("plural", "name"), CHILDREN)
async def test_a_deleted_child_comes_back(at: Bench, plural: str, name: str) -> None:
    await at.kube.create("auralinkbridges", a_bridge())
    await at.serve()
    await at.quiet()
    old = await at.child(plural, name)
    await at.kube.delete(plural, name)

    async def new() -> bool:
        found = await at.kube.get(plural, name)
        return found is not None and found["metadata"]["uid"] != old["metadata"]["uid"]

    await eventually(new, f"{plural}/{name} is back")


EDITS: tuple[tuple[str, str, Obj], ...] = (
    ("deployments", "auralink-b", {"spec": {"replicas": 5}}),
    ("deployments", "auralink-b", {"metadata": {"labels": {"app.kubernetes.io/part-of": None}}}),
    ("configmaps", "auralink-b-config", {"data": {"config.json": "{}"}}),
    ("services", "auralink-b", {"spec": {"selector": {"app.kubernetes.io/name": "else"}}}),
    ("roles", "auralink-b", {"rules": []}),
    ("services", "auralink-b", {"metadata": {"labels": {"auralink.io/bridge": "other"}}}),
    ("configmaps", "auralink-b-config", {"metadata": {"labels": {"auralink.io/bridge": None}}}),
    ("roles", "auralink-b", {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}),
)


@pytest.mark.parametrize(("plural", "name", "patch"), EDITS)
async def test_a_changed_child_is_repaired(at: Bench, plural: str, name: str, patch: Obj) -> None:
    await at.kube.create("auralinkbridges", a_bridge())
    await at.serve()
    await at.quiet()
    wanted = await at.child(plural, name)
    await at.kube.merge(plural, name, patch)

    async def repaired() -> bool:
        found = await at.child(plural, name)
        parts = ("spec", "data", "rules")
        return all(found.get(part) == wanted.get(part) for part in parts) and (
            found["metadata"]["labels"] == wanted["metadata"]["labels"]
        )

    await eventually(repaired, f"{plural}/{name} is as before")
    await at.kube.roll_out("b")
    await at.until("Ready", "True", "Succeeded")


async def test_what_others_add_to_a_child_stays(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge())
    await at.serve()
    await at.kube.merge("services", "auralink-b", {"metadata": {"labels": {"team": "video"}}})
    await at.quiet()
    before = at.calls()
    await at.look_again(at.key())
    assert at.calls() == before
    assert (await at.child("services", "auralink-b"))["metadata"]["labels"]["team"] == "video"


async def test_a_policy_reaches_the_configuration_and_ready_does_not_flap(at: Bench) -> None:
    await at.kube.create("roompolicies", a_policy("saving", targetSavingsPercent=40))
    await at.kube.create("auralinkbridges", a_bridge())
    (pod,) = await at.serve()
    await at.quiet()
    generation = await at.generation()
    template = (await at.child("deployments", "auralink-b"))["spec"]["template"]
    flip = [c for c in (await at.bridge())["status"]["conditions"] if c["type"] == "Ready"]

    await at.kube.merge("roompolicies", "saving", {"spec": {"compression": {"targetSavingsPercent": 20}}})

    async def pushed() -> bool:
        return await at.generation() == generation + 1

    await eventually(pushed, "the next generation")
    await at.kube.report("b", pod, generation + 1)

    async def acked() -> bool:
        return bool((await at.bridge())["status"]["config"]["ackedGeneration"] == generation + 1)

    await eventually(acked, "the acknowledgement shows")
    assert [c for c in (await at.bridge())["status"]["conditions"] if c["type"] == "Ready"] == flip
    assert (await at.child("deployments", "auralink-b"))["spec"]["template"] == template
    (applied,) = (await at.bridge())["status"]["appliedPolicies"]
    assert applied == {"name": "saving", "priority": 0, "observedGeneration": 2}
    policy = await at.kube.get("roompolicies", "saving")
    assert policy is not None
    assert policy["status"]["matchedBridges"] == [{"name": "b"}]
    assert policy["status"]["matchedBridgeCount"] == 1


async def test_pods_that_do_not_acknowledge_keep_a_bridge_from_ready(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge())
    (pod,) = await at.serve()
    await at.kube.merge("auralinkbridges", "b", {"spec": {"compression": {"qualityLevel": 3}}})
    await at.until("Ready", "False", "ConfigPropagating")
    assert await at.condition("ConfigAcked") == ("False", "PodsBehind")
    await at.kube.report("b", pod, 2)
    await at.until("Ready", "True", "Succeeded")


async def test_a_lost_config_map_comes_back_with_its_generation(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge())
    (pod,) = await at.serve()
    await at.kube.merge("auralinkbridges", "b", {"spec": {"compression": {"qualityLevel": 3}}})
    await at.until("Ready", "False", "ConfigPropagating")
    await at.kube.report("b", pod, 2)
    await at.until("Ready", "True", "Succeeded")
    await at.kube.delete("configmaps", "auralink-b-config")

    async def back() -> bool:
        return await at.kube.get("configmaps", "auralink-b-config") is not None

    await eventually(back, "the ConfigMap is back")
    assert await at.generation() == 2


async def test_a_child_of_somebody_else_is_left_alone_and_reported(at: Bench) -> None:
    foreign = {"metadata": {"name": "auralink-b-config"}, "data": {"theirs": "1"}}
    await at.kube.create("configmaps", foreign)
    await at.kube.create("auralinkbridges", a_bridge())
    await at.until("Stalled", "True", "NameConflict")
    assert await at.condition("Ready") == ("False", "NameConflict")
    assert (await at.child("configmaps", "auralink-b-config"))["data"] == {"theirs": "1"}
    await at.child("deployments", "auralink-b")


async def test_nothing_of_a_deleted_bridge_is_made_again(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge())
    await at.serve()
    await at.quiet()
    await at.kube.delete("auralinkbridges", "b")
    assert await at.kube.get("auralinkbridges", "b") is None  # no finalizer holds it
    await at.kube.delete("configmaps", "auralink-b-config")
    await at.kube.delete("deployments", "auralink-b")
    await at.quiet()
    assert await at.kube.get("configmaps", "auralink-b-config") is None
    assert await at.kube.get("deployments", "auralink-b") is None


async def test_a_bridge_that_is_being_deleted_is_left_alone(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge())
    await at.serve()
    await at.quiet()
    await at.kube.delete("auralinkbridges", "b", propagationPolicy="Foreground")
    await at.kube.delete("services", "auralink-b")
    await at.quiet()
    assert await at.kube.get("services", "auralink-b") is None


async def test_the_entry_of_a_dead_pod_is_removed_with_its_manager(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge())
    await at.serve(pods=("p1", "p2"))
    await at.kube.remove_pod("p2")

    async def removed() -> bool:
        bridge = await at.bridge()
        managers = {field["manager"] for field in bridge["metadata"]["managedFields"]}
        return [p["name"] for p in bridge["status"]["pods"]] == ["p1"] and "auralink-pod.p2" not in managers

    await eventually(removed, "p2 is gone from status and managedFields")


async def test_a_room_moves_when_its_owner_is_not_ready(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge(replicas=2))
    await at.serve(pods=("p1", "p2"))

    async def owner() -> str:
        config = await at.child("configmaps", "auralink-b-config")
        return str(config["data"]["owners.json"])

    first = await owner()
    leaving, staying = ("p1", "p2") if "p1" in first else ("p2", "p1")
    generation = await at.generation()
    await at.kube.set_ready(leaving, "10.1.0.1" if leaving == "p1" else "10.1.0.2", ready=False)

    async def moved() -> bool:
        return await owner() == f'{{"demo":"{staying}"}}'

    await eventually(moved, "the room has the other owner")
    assert await at.generation() == generation  # who owns what needs no acknowledgement


async def test_problems_of_pods_show_with_what_to_do(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge())
    (pod,) = await at.serve()
    await at.kube.report("b", pod, 1, problems=["AICoreUnavailable"])
    await at.until("Degraded", "True", "AICoreUnavailable")
    assert (await at.condition("Ready"))[0] == "True"
    message = next(c["message"] for c in (await at.bridge())["status"]["conditions"] if c["type"] == "Degraded")
    assert "p1" in message
    assert "spec.aiCore.addresses" in message
    await at.kube.report("b", pod, 1)
    await at.until("Degraded", "", "")
    await at.kube.report("b", pod, 1, problems=["CredentialsMissing"], message="Secret tls has no key ca.crt")
    await at.until("Ready", "False", "DependencyNotReady")

    async def told() -> bool:
        reasons = {event["reason"] for event in await at.kube.list("events")}
        return {"AICoreUnavailable", "Succeeded", "DependencyNotReady"} <= reasons

    await eventually(told, "an event per flip")


async def test_suspend_reports_a_difference_and_changes_nothing(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge())
    await at.serve()
    await at.kube.merge("auralinkbridges", "b", {"spec": {"suspend": True}})
    await at.until("Suspended", "True", "SuspendedByUser")
    await at.kube.merge("auralinkbridges", "b", {"spec": {"replicas": 3}})
    await at.until("Ready", "False", "Suspended")
    assert (await at.child("deployments", "auralink-b"))["spec"]["replicas"] == 1
    await at.kube.merge("auralinkbridges", "b", {"spec": {"suspend": False}})

    async def scaled() -> bool:
        return bool((await at.child("deployments", "auralink-b"))["spec"]["replicas"] == 3)

    await eventually(scaled, "three replicas")
    await at.child("poddisruptionbudgets", "auralink-b")
    await at.kube.merge("auralinkbridges", "b", {"spec": {"replicas": 1}})

    async def pruned() -> bool:
        return await at.kube.get("poddisruptionbudgets", "auralink-b") is None

    await eventually(pruned, "no budget for one replica")


async def test_two_media_on_one_port_are_refused_with_the_port(at: Bench) -> None:
    clash = a_bridge()
    other = {"payloads": [{"type": 97, "codec": "Opus"}], "listenPort": 5005}
    clash["spec"]["rooms"][0]["legs"][0]["rtp"]["audio"] = other
    await at.kube.create("auralinkbridges", clash)
    await at.until("Stalled", "True", "InvalidSpec")
    message = next(c["message"] for c in (await at.bridge())["status"]["conditions"] if c["type"] == "Stalled")
    assert "5005" in message


async def test_scale_changes_the_replicas(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge(replicas=1))
    await at.serve()
    scale = await at.kube.raw(
        "GET", f"/apis/auralink.io/v1alpha1/namespaces/{at.kube.namespace}/auralinkbridges/b/scale"
    )
    assert scale["status"]["selector"] == "app.kubernetes.io/name=auralink-data-plane,auralink.io/bridge=b"
    await at.kube.merge("auralinkbridges", "b", {"spec": {"replicas": 2}}, "scale")

    async def scaled() -> bool:
        return bool((await at.child("deployments", "auralink-b"))["spec"]["replicas"] == 2)

    await eventually(scaled, "two replicas")


async def test_kopf_writes_nothing_and_our_client_only_what_the_chart_allows(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge())
    await at.serve()
    await at.quiet()
    path = f"/namespaces/{at.kube.namespace}/"
    done = [event for event in at.server.requests("") if path in str(event["requestURI"])]
    by_operator = [event for event in done if event["user"]["username"] == "test-operator"]  # type: ignore[index]
    writes = {str(event["userAgent"]) for event in by_operator if event["verb"] not in ("get", "list", "watch")}
    assert writes
    assert all(agent.startswith("auralink-operator") for agent in writes)
    refused = [event for event in by_operator if event["responseStatus"]["code"] in (401, 403)]  # type: ignore[index]
    assert refused == []
