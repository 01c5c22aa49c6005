from hack.lab.bridge import AICore, Bridge, example
from hack.lab.kube import Kube, condition, wait_for


def test_the_status_names_the_secret_and_what_to_do(cluster: Kube, release: AICore, namespace: str) -> None:
    bridge = Bridge.of_example(cluster, namespace)
    cluster.apply(example(aiCore={"tlsSecretName": "nobody-made-this"}), namespace)

    def blamed() -> str | None:
        ready = condition(bridge.resource(), "Ready")
        found = ready is not None and ready["reason"] == "DependencyNotReady"
        return ready["message"] if ready is not None and found else None

    message = wait_for("the missing Secret in the status", blamed, 60, 0.5, bridge.describe)

    assert "nobody-made-this" in message
    assert "create" in message
    assert bridge.status()["readyReplicas"] == 1, "the bridge keeps serving what it can"
