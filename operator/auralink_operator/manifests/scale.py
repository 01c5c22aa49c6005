"""How many pods there are at least and at most, said to the controllers that act on it: the budget and the HPA."""

from auralink_operator.index import Obj
from auralink_operator.manifests.labels import child_name, new_child, selector
from auralink_operator.models import Bridge, Driver, Scene
from auralink_operator.settings import Settings

SESSIONS_METRIC = "auralink_sessions_active"


def disruption_budget(bridge: Bridge, settings: Settings) -> list[Obj]:
    """From two sure replicas only: with one, a budget would keep its pod from being evicted for good."""
    scaling = bridge.spec.autoscaling
    sure = scaling.min_replicas if scaling else bridge.spec.wanted_replicas()
    if not bridge.spec.pod_disruption_budget or sure < 2:
        return []
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": selector(bridge.meta.name)},
    }
    return [new_child(bridge, settings, "PodDisruptionBudget", child_name(bridge.meta.name), spec=spec)]


def pod_autoscaler(bridge: Bridge, scene: Scene, settings: Settings) -> list[Obj]:
    """By live sessions, and by CPU where the cluster has no metric of them; a pod at a time on the way down.

    Not while the bridge is being deleted: its pods drain to none.
    """
    scaling, name = bridge.spec.autoscaling, child_name(bridge.meta.name)
    if scaling is None or scaling.driver is not Driver.HPA or scene.draining:
        return []
    sessions = {"type": "AverageValue", "averageValue": str(scaling.target_sessions_per_pod)}
    cpu = {"type": "Utilization", "averageUtilization": scaling.target_cpu_percent}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": scaling.min_replicas,
        "maxReplicas": scaling.max_replicas,
        "metrics": [
            {"type": "Pods", "pods": {"metric": {"name": SESSIONS_METRIC}, "target": sessions}},
            {"type": "Resource", "resource": {"name": "cpu", "target": cpu}},
        ],
        "behavior": {
            "scaleDown": {
                "stabilizationWindowSeconds": scaling.scale_down_stabilization_seconds,
                "selectPolicy": "Max",
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
            }
        },
    }
    return [new_child(bridge, settings, "HorizontalPodAutoscaler", name, spec=spec)]
