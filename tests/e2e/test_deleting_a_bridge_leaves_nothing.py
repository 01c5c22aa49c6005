from hack.lab.bridge import AICore, Bridge, example
from hack.lab.kube import Kube


def test_everything_of_a_deleted_bridge_is_gone_within_a_minute(cluster: Kube, release: AICore, namespace: str) -> None:
    bridge = Bridge.of_example(cluster, namespace)
    cluster.apply(example(), namespace)
    bridge.wait_ready()
    assert bridge.remains()

    assert bridge.delete(timeout_s=60) < 60
    assert bridge.resource() is None
