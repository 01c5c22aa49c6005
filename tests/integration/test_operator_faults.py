"""What goes wrong around a bridge, on a real API server: each time the status says it, and nothing floods or hangs."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.kube_api import ApiServer, Obj, eventually, hands
from tests.integration.operator_bench import Bench, a_bridge, a_policy, bench, grant, running


@pytest.fixture
async def at(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async with bench(api_server, monkeypatch) as found:
        yield found


async def message(at: Bench, of: str = "Ready", name: str = "b", plural: str = "auralinkbridges") -> str:
    found = await at.kube.get(plural, name) or {}
    conditions = found.get("status", {}).get("conditions", [])
    return str(next((c["message"] for c in conditions if c["type"] == of), ""))


def writes(at: Bench, what: str) -> int:
    """Writes of the operator to a path of this namespace."""
    path = f"/namespaces/{at.kube.namespace}/{what}"
    done = [event for event in at.server.requests("auralink-operator") if path in str(event["requestURI"])]
    return sum(event["verb"] in ("patch", "create", "delete") for event in done)


async def test_a_port_renumbered_by_hand_comes_back(at: Bench) -> None:
    """Another's list item beside ours is invalid, and an apply cannot take it away."""
    await at.kube.create("auralinkbridges", a_bridge())
    await at.serve()
    await at.quiet()
    ports = (await at.child("services", "auralink-b"))["spec"]["ports"]
    address = (await at.child("services", "auralink-b"))["spec"]["clusterIP"]
    edited = [{**port, "port": 81} if port["name"] == "http" else port for port in ports]
    await at.kube.merge("services", "auralink-b", {"spec": {"ports": edited}})

    async def repaired() -> bool:
        found = await at.child("services", "auralink-b")
        return [port["port"] for port in found["spec"]["ports"]] == [8080, 9090]

    await eventually(repaired, "the ports are as before")
    await at.quiet()
    await at.until("Ready", "True", "Succeeded")
    service = await at.child("services", "auralink-b")
    assert service["spec"]["clusterIP"] == address
    assert {field["manager"] for field in service["metadata"]["managedFields"]} == {"auralink-operator"}
    await at.quiet()
    before = at.calls()
    await at.look_again(at.key())
    assert at.calls() == before


async def test_a_container_renamed_by_hand_comes_back(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge())
    await at.serve()
    await at.quiet()
    template = (await at.child("deployments", "auralink-b"))["spec"]["template"]
    (container,) = template["spec"]["containers"]
    edited = {**container, "name": "theirs"}
    patch = {"spec": {"template": {"spec": {"containers": [edited]}}}}
    await at.kube.merge("deployments", "auralink-b", patch)

    async def repaired() -> bool:
        found = (await at.child("deployments", "auralink-b"))["spec"]["template"]
        return "data-plane" in {one["name"] for one in found["spec"]["containers"]}

    await eventually(repaired, "our container is back")
    await at.kube.roll_out("b")
    await at.until("Ready", "True", "Succeeded")


async def test_two_policies_of_one_priority_that_disagree_are_told_on_both_kinds(at: Bench) -> None:
    await at.kube.create("roompolicies", a_policy("careful", qualityLevel=9))
    await asyncio.sleep(1.1)  # creation times have a resolution of a second
    await at.kube.create("roompolicies", a_policy("thrifty", qualityLevel=2))
    await at.kube.create("auralinkbridges", a_bridge())
    await at.serve()
    await at.until("PolicyConflict", "True", "SamePriority")
    await at.until("Conflicted", "True", "SamePriority", "thrifty", "roompolicies")
    assert await at.condition("Conflicted", "careful", "roompolicies") == ("", "")
    assert "compression.qualityLevel" in await message(at, "Conflicted", "thrifty", "roompolicies")
    policy = await at.kube.get("roompolicies", "thrifty")
    assert policy is not None
    assert policy["status"]["matchedBridges"] == [{"name": "b", "conflicts": ["compression.qualityLevel: careful"]}]
    assert (await at.condition("Ready"))[0] == "True"
    await at.kube.merge("roompolicies", "thrifty", {"spec": {"priority": 7}})
    await at.until("Conflicted", "", "", "thrifty", "roompolicies")
    await at.kube.report("b", await at.child("pods", "p1"), await at.generation())
    await at.until("PolicyConflict", "", "")


async def test_a_quota_that_is_used_up_is_told_and_made_up_for_later(at: Bench) -> None:
    hard = {"count/deployments.apps": "0"}
    await at.kube.create("resourcequotas", {"metadata": {"name": "none"}, "spec": {"hard": hard}})
    state = {"status": {"hard": hard, "used": {"count/deployments.apps": "0"}}}
    await at.kube.merge("resourcequotas", "none", state, "status")
    await at.kube.create("auralinkbridges", a_bridge())

    async def told() -> bool:
        return "quota" in await message(at)

    await eventually(told, "the message names the quota")
    assert await at.condition("Stalled") == ("", "")
    assert await at.kube.get("deployments", "auralink-b") is None
    await at.quiet()
    before = at.calls()
    await asyncio.sleep(2.0)
    assert at.calls() - before == 0  # it is tried again later, not all the time
    await at.kube.delete("resourcequotas", "none")
    await at.look_again(at.key())
    await at.serve()


async def test_pods_that_are_forbidden_are_the_user_s_to_mend(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge(exposure={"mode": "HostNetwork"}))
    await at.child("deployments", "auralink-b")
    said = 'pods "auralink-b-x" is forbidden: violates PodSecurity "restricted:latest": host namespaces'
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": said}
    state = {"observedGeneration": 1, "conditions": [failure]}
    await at.kube.merge("deployments", "auralink-b", {"status": state}, "status")
    await at.until("Stalled", "True", "PodSecurityForbidden")
    assert "host namespaces" in await message(at)


async def test_an_image_that_is_not_there_is_told_and_the_old_pods_count_on(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge())
    await at.serve()
    await at.kube.merge("auralinkbridges", "b", {"spec": {"image": "nowhere/image:0"}})
    await at.until("Ready", "False", "Progressing")
    await at.kube.merge("deployments", "auralink-b", {"status": {"observedGeneration": 2, "replicas": 2}}, "status")
    pod = await at.kube.run_pod("b", "p2", "10.1.0.2", ready=False)
    waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "nowhere/image:0"'}
    container = {"name": "data-plane", "image": "nowhere/image:0", "imageID": "", "ready": False, "restartCount": 0}
    state = {"containerStatuses": [{**container, "state": {"waiting": waiting}}]}
    await at.kube.merge("pods", pod["metadata"]["name"], {"status": state}, "status")

    async def told() -> bool:
        return "nowhere/image:0" in await message(at)

    try:
        await eventually(told, "the message names the image")
    except AssertionError:
        raise AssertionError((await at.bridge())["status"]) from None
    assert await at.condition("Available") == ("True", "PodServing")


async def test_a_bridge_deleted_while_the_operator_was_down_leaves_no_child_behind(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The garbage collector takes the children; the next operator makes none again."""
    async with hands(api_server, "while-down") as kube:
        await grant(kube)
        async with running(api_server, monkeypatch, kube.namespace) as first:
            at = Bench(kube, api_server, first)
            await kube.create("auralinkbridges", a_bridge())
            await at.serve()
            await at.quiet()
        await kube.delete("auralinkbridges", "b")
        await kube.delete("configmaps", "auralink-b-config")
        async with running(api_server, monkeypatch, kube.namespace) as second:
            await Bench(kube, api_server, second).quiet()
            assert await kube.get("configmaps", "auralink-b-config") is None
            assert await kube.get("auralinkbridges", "b") is None


async def test_a_deleted_namespace_gets_nothing_and_nothing_is_tried_for_ever(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge())
    await at.serve()
    await at.quiet()
    await at.kube.raw("DELETE", f"/api/v1/namespaces/{at.kube.namespace}")
    for plural, name in (("configmaps", "auralink-b-config"), ("services", "auralink-b")):
        await at.kube.delete(plural, name)
    await at.quiet()
    before = at.calls()
    await asyncio.sleep(2.0)
    assert at.calls() == before
    assert await at.kube.get("configmaps", "auralink-b-config") is None


async def test_a_forced_reconcile_writes_every_child_and_says_that_it_has(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge())
    await at.serve()
    await at.quiet()
    before = writes(at, "deployments")
    version = (await at.child("deployments", "auralink-b"))["metadata"]["resourceVersion"]
    annotation = {"annotations": {"reconcile.fluxcd.io/requestedAt": "2026-01-01T00:00:00Z"}}
    await at.kube.merge("auralinkbridges", "b", {"metadata": annotation})

    async def handled() -> bool:
        found = (await at.bridge())["status"].get("lastHandledReconcileAt")
        return bool(found == "2026-01-01T00:00:00Z")

    await eventually(handled, "the request is said to be handled")
    await at.quiet()
    assert writes(at, "deployments") - before == 1
    assert (await at.child("deployments", "auralink-b"))["metadata"]["resourceVersion"] == version
    assert await at.condition("Ready") == ("True", "Succeeded")


async def drained(at: Bench) -> list[Obj]:
    await at.kube.create("auralinkbridges", a_bridge(replicas=2, drain={"onDelete": True, "timeoutSeconds": 30}))
    pods = await at.serve(pods=("p1", "p2"))
    assert (await at.bridge())["metadata"]["finalizers"] == ["auralink.io/drain"]
    await at.kube.delete("auralinkbridges", "b", propagationPolicy="Foreground")
    return pods


async def replicas(at: Bench) -> int:
    return int((await at.child("deployments", "auralink-b"))["spec"]["replicas"])


async def test_a_bridge_that_is_to_drain_stays_until_its_pods_are_gone(at: Bench) -> None:
    await drained(at)

    async def scaled() -> bool:
        return await replicas(at) == 0

    await eventually(scaled, "no pod is wanted any more")
    await at.kube.delete("configmaps", "auralink-b-config")  # as the garbage collector does first
    await at.child("configmaps", "auralink-b-config")
    await at.until("Ready", "False", "Progressing")
    assert await at.kube.get("configmaps", "auralink-b-config") is not None
    (owner,) = (await at.child("deployments", "auralink-b"))["metadata"]["ownerReferences"]
    assert owner["blockOwnerDeletion"] is False  # or a foreground deletion takes what comes back for the drain too
    await at.kube.roll_out("b")
    for name in ("p1", "p2"):
        assert await at.kube.get("auralinkbridges", "b") is not None
        await at.kube.remove_pod(name)

    async def released() -> bool:
        found = await at.kube.get("auralinkbridges", "b")
        return found is None or "auralink.io/drain" not in found["metadata"].get("finalizers", [])

    await eventually(released, "our finalizer is gone")


async def test_a_deleted_bridge_that_nobody_wants_drained_any_more_goes_at_once(at: Bench) -> None:
    await drained(at)
    await at.kube.merge("auralinkbridges", "b", {"spec": {"drain": {"onDelete": False}}})

    async def released() -> bool:
        found = await at.kube.get("auralinkbridges", "b")
        return found is None or "auralink.io/drain" not in found["metadata"].get("finalizers", [])

    await eventually(released, "our finalizer is gone")


AUTO: dict[str, Any] = {"minReplicas": 2, "maxReplicas": 6}


async def test_replicas_go_to_the_hpa_and_come_back(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge(autoscaling=AUTO))
    assert await replicas(at) == 2
    await at.child("horizontalpodautoscalers", "auralink-b")
    await at.kube.merge("deployments", "auralink-b", {"spec": {"replicas": 4}}, "scale")
    await at.quiet()
    assert await replicas(at) == 4
    fields = (await at.child("deployments", "auralink-b"))["metadata"]["managedFields"]
    ours = next(f for f in fields if f["manager"] == "auralink-operator")
    assert "f:replicas" not in ours["fieldsV1"]["f:spec"]
    await at.kube.merge("auralinkbridges", "b", {"spec": {"autoscaling": None, "replicas": 1}})

    async def back() -> bool:
        return await replicas(at) == 1 and await at.kube.get("horizontalpodautoscalers", "auralink-b") is None

    await eventually(back, "one replica, and no HPA")


async def test_pods_carry_their_cost_before_there_are_fewer(at: Bench) -> None:
    await at.kube.create("auralinkbridges", a_bridge(replicas=2))
    first, second = await at.serve(pods=("p1", "p2"))
    await at.quiet()
    await at.kube.report("b", first, 1, sessions=20)
    await at.kube.report("b", second, 1, sessions=0)
    await at.kube.merge("auralinkbridges", "b", {"spec": {"replicas": 1}})

    async def lowered() -> bool:
        return await replicas(at) == 1

    await eventually(lowered, "one replica", timeout_s=25)
    costs = {}
    for name in ("p1", "p2"):
        annotations = (await at.child("pods", name))["metadata"].get("annotations", {})
        costs[name] = int(annotations.get("controller.kubernetes.io/pod-deletion-cost", "0"))
    assert costs == {"p1": 20, "p2": 0}
