import time

from hack.lab.bridge import AICore, Bridge, example, install
from hack.lab.kube import RELEASE, SYSTEM_NAMESPACE, Kube, images, wait_for


def test_operator_then_resources_then_namespace_all_go(cluster: Kube, release: AICore, namespace: str) -> None:
    """No finalizer of ours waits for an operator that is gone."""
    bridge = Bridge.of_example(cluster, namespace)
    cluster.apply(example(), namespace)
    bridge.wait_ready()
    began = time.monotonic()

    cluster.helm("uninstall", RELEASE, "--namespace", SYSTEM_NAMESPACE, "--wait", "--timeout", "60s")
    try:
        bridge.delete(timeout_s=60)
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")
        gone = f"/api/v1/namespaces/{namespace}"
        wait_for("the end of the namespace", lambda: cluster.get(gone) is None, 60, 1.0)
        took = time.monotonic() - began
    finally:
        install(cluster, images())

    assert took < 120
