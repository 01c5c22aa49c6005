"""Secrets change without the operator: it may not read them, and their pods take them as the kubelet brings them."""

import base64
from collections.abc import Mapping

import pytest

from benchmarks.operator.audit import AuditLog
from tests.integration.kube_api import OPERATOR, ApiServer, Obj
from tests.integration.operator_bench import Bench, a_bridge, bench

KEEPS: Obj = {
    "aiCore": {"addresses": ["ai-core.example:50051"], "tlsSecretName": "core-tls"},
    "api": {"tokenRef": {"name": "api", "key": "token"}},
}


def secret(name: str, values: Mapping[str, str]) -> Obj:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


async def pods_are_made_of(at: Bench) -> Obj:
    deployment: Obj = await at.child("deployments", "auralink-b")
    template: Obj = deployment["spec"]["template"]
    return template


async def test_a_secret_that_comes_rotates_and_goes_costs_no_request_and_no_pod(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(api_server, monkeypatch) as at:
        await at.kube.create("auralinkbridges", a_bridge(**KEEPS))
        await at.serve()
        await at.quiet()
        before = await pods_are_made_of(at)
        audit = AuditLog(api_server.audit_log, OPERATOR)
        mark = audit.mark()

        await at.kube.create("secrets", secret("api", {"token": "first"}))
        await at.kube.create("secrets", secret("core-tls", {"ca.crt": "a", "tls.crt": "b", "tls.key": "c"}))
        await at.kube.merge("secrets", "api", {"data": secret("api", {"token": "second"})["data"]})
        await at.kube.delete("secrets", "core-tls")
        await at.look_again(at.key())

        asked = [(one.verb, one.resource) for one in audit.since(mark) if one.verb != "watch"]
        assert asked == []
        assert await pods_are_made_of(at) == before
        assert await at.condition("Ready") == ("True", "Succeeded")


async def test_secrets_are_mounted_in_the_way_that_the_kubelet_keeps_up_to_date(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable or a `subPath` of a Secret stays what it was when the container began."""
    async with bench(api_server, monkeypatch) as at:
        await at.kube.create("auralinkbridges", a_bridge(**KEEPS))
        spec = (await pods_are_made_of(at))["spec"]
        sources = [source for volume in spec["volumes"] for source in volume.get("projected", {}).get("sources", ())]
        mounted = {source["secret"]["name"]: source["secret"]["optional"] for source in sources}
        assert mounted == {"api": True, "core-tls": True}
        for container in spec["containers"]:
            assert all("subPath" not in mount for mount in container["volumeMounts"])
            assert "envFrom" not in container
            assert all("secretKeyRef" not in (one.get("valueFrom") or {}) for one in container["env"])


async def test_the_operator_may_not_read_a_secret(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(api_server, monkeypatch) as at:
        for verb in ("get", "list", "watch", "create", "patch"):
            attributes = {"namespace": at.kube.namespace, "verb": verb, "resource": "secrets"}
            review = {"spec": {"user": OPERATOR, "groups": ["operator"], "resourceAttributes": attributes}}
            kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
            answer = await at.kube.raw("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {**kind, **review})
            assert answer["status"]["allowed"] is False
