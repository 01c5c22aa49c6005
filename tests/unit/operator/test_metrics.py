"""What the metrics tell of bridges by name, and that it is bounded."""

from auralink_operator.metrics import Bridges, Metrics
from prometheus_client import generate_latest


def page(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


def acks(metrics: Metrics) -> tuple[float, float]:
    """How many acknowledgements were timed, and the sum of their seconds."""
    value = metrics.registry.get_sample_value
    name = "auralink_operator_config_ack_seconds"
    return value(f"{name}_count") or 0.0, value(f"{name}_sum") or 0.0


def test_a_configuration_is_timed_from_the_config_map_to_the_last_pod() -> None:
    metrics = Metrics()
    bridges = metrics.bridges
    bridges.pushed("ns/b", 1, 10.0)
    bridges.acknowledged("ns/b", [1, 1], 11.0)
    assert acks(metrics) == (0, 0)  # it may have been there for days when the operator started
    bridges.pushed("ns/b", 2, 20.0)
    bridges.acknowledged("ns/b", [2, 1], 20.2)
    assert acks(metrics) == (0, 0)
    bridges.acknowledged("ns/b", [2, 2], 20.5)
    bridges.acknowledged("ns/b", [2, 2], 29.0)
    assert acks(metrics) == (1, 0.5)


def test_a_bridge_without_pods_acknowledges_nothing() -> None:
    metrics = Metrics()
    metrics.bridges.pushed("ns/b", 1, 0.0)
    metrics.bridges.pushed("ns/b", 2, 1.0)
    metrics.bridges.acknowledged("ns/b", [], 2.0)
    assert acks(metrics) == (0, 0)


def test_conditions_come_and_go_with_the_bridge() -> None:
    metrics = Metrics()
    metrics.bridges.conditions("ns/b", {"Ready": True, "Stalled": True, "Other": True})
    metrics.bridges.conditions("ns/b", {"Ready": False})
    assert 'bridge_condition{bridge="ns/b",type="Ready"} 0.0' in page(metrics)
    assert "Stalled" not in page(metrics)
    assert "Other" not in page(metrics)
    metrics.bridges.pushed("ns/b", 3, 0.0)
    metrics.bridges.acknowledged("ns/b", [2], 0.0)
    assert 'bridge_config_generation{bridge="ns/b",state="acked"} 2.0' in page(metrics)
    metrics.bridges.forget("ns/b")
    metrics.bridges.forget("ns/never")
    assert "ns/b" not in page(metrics)


def test_no_more_bridges_than_the_limit_are_shown_by_name() -> None:
    metrics = Metrics()
    bridges = Bridges(metrics, limit=2)
    for name in ("ns/a", "ns/b", "ns/c"):
        bridges.pushed(name, 1, 0.0)
        bridges.conditions(name, {"Ready": True})
    assert "ns/c" not in page(metrics)
    bridges.forget("ns/a")
    bridges.conditions("ns/c", {"Ready": True})
    assert "ns/c" in page(metrics)


def test_every_metric_of_the_design_is_there() -> None:
    names = {metric.name for metric in Metrics().registry.collect()}
    wanted = (
        "reconcile reconcile_seconds reconcile_own_seconds queue_depth queue_wait_seconds api_requests errors"
        " drift_repaired ghosts watch_behind_seconds status_writes config_ack_seconds leader bridge_config_generation"
    )
    assert {f"auralink_operator_{name}" for name in wanted.split()} <= names
