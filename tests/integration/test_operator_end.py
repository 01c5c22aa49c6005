"""Taking things away in any order: nothing hangs, because nothing holds a finalizer."""

import asyncio

import pytest

from tests.integration.kube_api import OPERATOR, ApiServer, Kube, eventually, hands
from tests.integration.operator_bench import Bench, a_bridge, a_policy, bench, chart_rules, grant, running


async def test_bridges_go_at_once_when_the_operator_is_gone(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(api_server, monkeypatch) as at:
        await at.kube.create("roompolicies", a_policy("saving", mode="Auto"))
        await at.kube.create("auralinkbridges", a_bridge())
        await at.serve()
        await at.quiet()
        kube = at.kube
        for plural, name in (("auralinkbridges", "b"), ("roompolicies", "saving"), ("configmaps", "auralink-b-config")):
            found = await kube.get(plural, name)
            assert found is not None
            assert "finalizers" not in found["metadata"]
    async with hands(api_server, "test-end") as other:
        other.namespace = kube.namespace
        await other.delete("auralinkbridges", "b")
        await other.delete("roompolicies", "saving")
        assert await other.get("auralinkbridges", "b") is None
        assert await other.get("roompolicies", "saving") is None


async def test_a_namespace_that_is_being_deleted_gets_nothing_new(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(api_server, monkeypatch) as at:
        await at.kube.create("auralinkbridges", a_bridge())
        await at.serve()
        await at.quiet()
        await at.kube.raw("DELETE", f"/api/v1/namespaces/{at.kube.namespace}")
        await at.kube.delete("configmaps", "auralink-b-config")
        await asyncio.sleep(0.5)
        await at.quiet()
        assert await at.kube.get("configmaps", "auralink-b-config") is None
        assert at.operator.queue.failures(at.key()) == 0


async def test_what_vanished_while_nobody_watched_is_found_by_the_resync(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kopf keeps what vanished between two lists; a comparison with the API server finds it."""
    async with bench(api_server, monkeypatch, AURALINK_RESYNC_S="5") as at:
        await at.kube.create("auralinkbridges", a_bridge())
        await at.serve()
        await at.quiet()
        bridge = at.operator.indices.get(at.key())
        assert bridge is not None
        phantom = {**bridge, "metadata": {**bridge["metadata"], "name": "phantom", "uid": "gone"}}
        at.operator.store.put(phantom)

        async def hidden() -> bool:
            return "gone" in at.operator.ghosts

        await eventually(hidden, "the phantom is a ghost")
        await at.quiet()
        assert await at.kube.get("deployments", "auralink-phantom") is None
        assert at.operator.full


async def test_an_operator_for_the_whole_cluster_keeps_bridges_everywhere(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hands(api_server, "wide-1") as one, hands(api_server, "wide-2") as two:
        await _cluster_wide(one)
        async with running(api_server, monkeypatch, "", AURALINK_HEALTH_PORT="18183") as operator:
            for kube in (one, two):
                await kube.create("auralinkbridges", a_bridge())
                await Bench(kube, api_server, operator).child("deployments", "auralink-b")


async def test_kinds_that_come_later_are_waited_for(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chart may start the operator before the API server serves what it has just been given."""
    async with hands(api_server, "later") as kube:
        name = "roompolicies.auralink.io"
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
        crd = await kube.raw("GET", path)
        await kube.raw("DELETE", path)

        async def gone() -> bool:
            try:
                await kube.list("roompolicies")
            except Exception:  # noqa: BLE001 - any refusal will do
                return True
            return False

        await eventually(gone, "the kind is gone")
        await grant(kube)
        starting = asyncio.create_task(_started(api_server, monkeypatch))
        await asyncio.sleep(1.5)
        assert not starting.done()
        fresh = {key: crd[key] for key in ("apiVersion", "kind", "spec")}
        await kube.raw("POST", path.rpartition("/")[0], {**fresh, "metadata": {"name": name}})
        assert await starting


async def _started(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> bool:
    async with running(api_server, monkeypatch, "later", AURALINK_HEALTH_PORT="18184") as operator:
        return operator.full


async def _cluster_wide(kube: Kube) -> None:
    prefix = "/apis/rbac.authorization.k8s.io/v1"
    role = {"metadata": {"name": OPERATOR}, "rules": chart_rules()}
    await kube.raw("POST", f"{prefix}/clusterroles", role)
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": OPERATOR}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": OPERATOR}
    binding = {"metadata": {"name": OPERATOR}, "roleRef": reference, "subjects": [subject]}
    await kube.raw("POST", f"{prefix}/clusterrolebindings", binding)
