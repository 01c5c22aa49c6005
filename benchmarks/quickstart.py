"""The quick start's bridge on the running cluster, without a stream. For `apply_to_ready` and `policy_ack`."""

from collections.abc import Iterator
from contextlib import contextmanager

from hack.lab import kube
from hack.lab.bridge import QUICKSTART, Bridge, install

NAMESPACE = "auralink-bench"


@contextmanager
def installed() -> Iterator[Bridge]:
    """The release is up and no bridge exists in the benchmark's namespace, before and after."""
    cluster = kube.Kube(kube.access())
    install(cluster, kube.images())
    cluster.namespace(NAMESPACE)
    bridge = Bridge.of_example(cluster, NAMESPACE)
    bridge.delete()
    try:
        yield bridge
    finally:
        bridge.delete()


def apply(bridge: Bridge) -> None:
    bridge.kube.apply(QUICKSTART, bridge.namespace)
