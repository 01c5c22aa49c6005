"""Kubernetes says after five minutes that a rollout is stuck, and then not why. The bridge says it at once."""

import pytest

from hack.lab.bridge import AICore, Bridge, example
from hack.lab.kube import Kube, condition, is_true, wait_for

NO_IMAGE = "localhost/auralink/nobody-built-this:1"


def blamed(bridge: Bridge, reason: str, word: str) -> str:
    """Ready's message, once it has that reason and word."""

    def said() -> str | None:
        ready = condition(bridge.resource(), "Ready")
        fits = ready is not None and ready["reason"] == reason and word in ready["message"]
        return str(ready["message"]) if ready is not None and fits else None

    return wait_for(f"Ready={reason} that says {word}", said, 60, 0.5, bridge.describe)


def test_an_image_that_does_not_exist_is_named(cluster: Kube, release: AICore, namespace: str) -> None:
    bridge = Bridge.of_example(cluster, namespace)
    cluster.apply(example(image=NO_IMAGE), namespace)
    assert "spec.image" in blamed(bridge, "ProgressingWithRetry", NO_IMAGE)
    cluster.apply(example(), namespace)
    bridge.wait_ready()


def test_a_quota_that_is_used_up_is_waited_for(cluster: Kube, release: AICore, namespace: str) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tiny"}, "spec": {"hard": {"pods": "0"}}}
    cluster.apply([quota], namespace)
    bridge = Bridge.of_example(cluster, namespace)
    cluster.apply(example(), namespace)
    assert "tiny" in blamed(bridge, "ProgressingWithRetry", "exceeded quota")
    cluster.kubectl("delete", "resourcequota", "tiny", "-n", namespace)
    bridge.wait_ready(timeout_s=120)  # the ReplicaSet tries again after a while of its own


@pytest.mark.parametrize("mode", ["HostPort", "HostNetwork"])
def test_pods_that_the_namespace_forbids_are_stalled_with_the_server_s_words(
    cluster: Kube, release: AICore, namespace: str, mode: str
) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    bridge = Bridge.of_example(cluster, namespace)
    cluster.apply(example(exposure={"mode": mode}), namespace)
    said = blamed(bridge, "PodSecurityForbidden", 'violates PodSecurity "restricted')
    assert "spec.exposure" in said
    assert is_true(bridge.resource(), "Stalled")
    cluster.apply(example(), namespace)
    bridge.wait_ready()
