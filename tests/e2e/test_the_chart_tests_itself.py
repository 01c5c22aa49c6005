"""`helm test` says whether an installation works: on one that does, and on one that does not."""

import pytest

from hack.lab.bridge import AICore
from hack.lab.kube import RELEASE, SYSTEM_NAMESPACE, Kube, KubeError, Obj, bridge_path, deployment_path, wait_for

_OPERATOR = f"{RELEASE}-operator"
_LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/{_OPERATOR}"


def test_an_installation_that_works_passes(cluster: Kube, release: AICore) -> None:
    said = cluster.helm("test", RELEASE, "--namespace", SYSTEM_NAMESPACE, "--timeout", "90s").decode()

    assert "Phase:          Succeeded" in said
    assert cluster.get(f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods/{RELEASE}-test") is None, "it tidies up"
    assert cluster.get(bridge_path(SYSTEM_NAMESPACE, "installation-test")) is None, "its bridge was a dry run"


def test_an_installation_without_an_operator_fails(cluster: Kube, release: AICore) -> None:
    target = f"deployment/{_OPERATOR}"
    before = _operator(cluster)["spec"]["replicas"]
    cluster.kubectl("scale", target, "-n", SYSTEM_NAMESPACE, "--replicas=0")
    try:
        wait_for("the operator's end", lambda: not (_operator(cluster).get("status") or {}).get("replicas"), 60)
        with pytest.raises(KubeError, match=f"pod {RELEASE}-test failed"):
            cluster.helm("test", RELEASE, "--namespace", SYSTEM_NAMESPACE, "--timeout", "90s")
        log = cluster.kubectl("logs", "-n", SYSTEM_NAMESPACE, f"{RELEASE}-test").decode()
        assert "FAILED: the operator is ready" in log
        assert "ok: a bridge is accepted" in log
    finally:
        cluster.kubectl("scale", target, "-n", SYSTEM_NAMESPACE, f"--replicas={before}")
        cluster.kubectl("rollout", "status", target, "-n", SYSTEM_NAMESPACE, "--timeout=60s", timeout_s=70)


def test_two_operators_run_and_one_of_them_leads(cluster: Kube, release: AICore) -> None:
    assert _operator(cluster)["status"]["readyReplicas"] == 2
    pods = cluster.kubectl(
        *("get", "pods", "-n", SYSTEM_NAMESPACE, "-l", "app.kubernetes.io/name=auralink-operator"),
        *("-o", "jsonpath={.items[*].metadata.name}"),
    )

    def led() -> bool:
        holder = ((cluster.get(_LEASE) or {}).get("spec") or {}).get("holderIdentity") or ""
        return holder.partition("_")[0] in pods.decode().split()

    wait_for("a leader among them", led, 30)


def test_who_has_a_namespace_has_its_bridges(cluster: Kube, release: AICore, namespace: str) -> None:
    """The aggregated roles reach Kubernetes' own `view` and `edit`."""
    for right in ("view", "edit"):
        cluster.kubectl("create", "rolebinding", right, f"--clusterrole={right}", f"--user={right}or", "-n", namespace)

    def may(who: str, verb: str, what: str) -> bool:
        try:
            cluster.kubectl("auth", "can-i", verb, what, "-n", namespace, f"--as={who}")
        except KubeError:
            return False
        return True

    for who in ("viewor", "editor"):
        wait_for(f"{who} may look", lambda who=who: may(who, "get", "auralinkbridges"), 20)  # type: ignore[misc]
        for verb, what in (("create", "auralinkbridges"), ("delete", "roompolicies")):
            assert may(who, verb, what) == (who == "editor"), verb


def _operator(cluster: Kube) -> Obj:
    found = cluster.get(deployment_path(SYSTEM_NAMESPACE, _OPERATOR))
    assert found is not None
    return found
