"""The promises to users, on the cluster that `make cluster` started with the images that `make images` built.

One live stream serves all tests that want one; a test that changes something (the policy, the AI Core) puts it back.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hack import audit
from hack.lab import clip, kube
from hack.lab.bridge import QUICKSTART, AICore, Bridge, install
from hack.lab.rooms import Rooms
from hack.lab.stage import Stage
from tests.e2e.live import Live

NAMESPACE = "auralink-e2e"
ROOMS_NAMESPACE = "auralink-rooms"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def cluster() -> kube.Kube:
    try:
        return kube.Kube(kube.access())
    except kube.KubeError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def every_status_keeps_the_rules(cluster: kube.Kube) -> Iterator[None]:
    """The last step of a run: what the API server says was written in it, not what a test happened to look at."""
    began = datetime.now(UTC)
    yield
    report = audit.check(cluster.access.audit_log, began)
    print(f"\naudit log: {report}")
    if report.violations:
        pytest.fail("statuses that break a rule:\n" + "\n".join(report.violations[:50]), pytrace=False)


@pytest.fixture(scope="session")
def release(cluster: kube.Kube) -> AICore:
    """The chart, installed with the present images."""
    install(cluster, kube.images())
    ai_core = AICore(cluster)
    ai_core.scale(1)
    ai_core.wait_ready(1)
    return ai_core


@pytest.fixture
def namespace(cluster: kube.Kube, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty namespace, deleted afterwards without waiting for it."""
    name = f"e2e-{request.node.name[5:50].rstrip('_').replace('_', '-')}"
    cluster.kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=60s", timeout_s=70)
    cluster.namespace(name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")


@pytest.fixture(scope="session")
def live(cluster: kube.Kube, release: AICore) -> Iterator[Live]:
    stream = clip.sender_stream(clip.default_clip())
    bridge = Bridge.of_example(cluster, NAMESPACE)
    stage = Stage(cluster, NAMESPACE, kube.images()["media-tools"], stream)
    cluster.namespace(NAMESPACE)
    stage.remove()
    bridge.delete()
    stage.receive()
    cluster.apply(QUICKSTART, NAMESPACE)
    bridge.wait_ready()
    stage.send(bridge.rtp_service)
    bridge.wait_mode("compress", timeout_s=20)
    yield Live(bridge, release, stage, stream)
    stage.remove()
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")


@pytest.fixture(scope="session")
def rooms(cluster: kube.Kube, release: AICore) -> Iterator[Rooms]:
    """Many live rooms over three pods; a test that takes pods away brings them back."""
    cluster.kubectl("delete", "namespace", ROOMS_NAMESPACE, "--ignore-not-found", "--timeout=90s", timeout_s=100)
    cluster.namespace(ROOMS_NAMESPACE)
    crowd = Rooms(cluster, ROOMS_NAMESPACE, kube.images()["media-tools"])
    crowd.start()
    yield crowd
    cluster.kubectl("delete", "namespace", ROOMS_NAMESPACE, "--ignore-not-found", "--wait=false")
