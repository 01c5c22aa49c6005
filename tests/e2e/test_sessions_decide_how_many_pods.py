"""Autoscaling on live sessions: by the operator where the cluster has no metrics API, as the embedded one has none."""

from hack.lab.kube import Obj, bridge_path, condition, wait_for
from hack.lab.rooms import NAME, Rooms
from tests.e2e.crowd import everybody_goes_on


def test_more_sessions_than_pods_should_have_bring_more_pods(rooms: Rooms) -> None:
    """Twelve sessions on one pod; five for each are wanted, and three pods are the most there may be."""
    rooms.scale(1)
    path = bridge_path(rooms.namespace, NAME)
    scaling = {"driver": "Operator", "minReplicas": 1, "maxReplicas": rooms.replicas, "targetSessionsPerPod": 5}
    try:
        with rooms.watching() as told:
            rooms.kube.merge(path, {"spec": {"replicas": None, "autoscaling": scaling}})
            rooms.wait_settled(rooms.replicas)
            rooms.bridge.wait_ready()
        everybody_goes_on(told)
        assert "the operator itself scales them" in _ready(rooms)
        assert _autoscaler(rooms) is None, "exactly one acts"
    finally:
        rooms.kube.merge(path, {"spec": {"autoscaling": None, "replicas": rooms.replicas}})
        rooms.wait_settled(rooms.replicas)


def test_under_an_autoscaler_without_metrics_every_pod_stays(rooms: Rooms) -> None:
    """Kubernetes' own autoscaler acts now, and the operator no longer; this cluster has no metrics for it."""
    path = bridge_path(rooms.namespace, NAME)
    scaling = {"driver": "HPA", "minReplicas": 1, "maxReplicas": rooms.replicas}
    lives = rooms.bridge.lives()
    try:
        with rooms.watching() as told:
            rooms.kube.merge(path, {"spec": {"replicas": None, "autoscaling": scaling}})
            wait_for("the autoscaler's first look", lambda: _looked(rooms), 60, 1.0, rooms.bridge.describe)
            rooms.bridge.wait_ready()
        everybody_goes_on(told)
        assert "a HorizontalPodAutoscaler scales them" in _ready(rooms)
        assert rooms.bridge.lives() == lives
    finally:
        rooms.kube.merge(path, {"spec": {"autoscaling": None, "replicas": rooms.replicas}})
        rooms.wait_settled(rooms.replicas)
    wait_for("no autoscaler", lambda: _autoscaler(rooms) is None, 20)


def _autoscaler(rooms: Rooms) -> Obj | None:
    return rooms.kube.get(f"/apis/autoscaling/v2/namespaces/{rooms.namespace}/horizontalpodautoscalers/auralink-{NAME}")


def _looked(rooms: Rooms) -> bool:
    return condition(_autoscaler(rooms), "ScalingActive") is not None


def _ready(rooms: Rooms) -> str:
    found = condition(rooms.bridge.resource(), "Ready")
    assert found is not None
    return str(found["message"])
