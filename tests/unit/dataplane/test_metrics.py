"""What Prometheus reads, and the percentiles of the last seconds."""

from collections.abc import Mapping

import pytest
from auralink_dataplane.metrics import Metrics, RecentWindow


def values(metrics: Metrics) -> dict[str, float]:
    lines = (line for line in metrics.text().decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_the_drain_stage_is_one_of_one() -> None:
    metrics = Metrics()
    for stage in ("serving", "refuse", "wait"):
        found = {name: value for name, value in values(metrics).items() if name.startswith("auralink_drain_stage")}
        assert list(found.values()) == [1.0]
        metrics.draining(stage)
    assert values(metrics)['auralink_drain_stage{stage="wait"}'] == 1.0


def test_packets_are_read_at_each_scrape() -> None:
    counters: dict[str, Mapping[str, int]] = {}
    metrics = Metrics()
    metrics.observe_packets(lambda: counters)
    assert not any(name.startswith("auralink_packets") for name in values(metrics))
    counters |= {"drops": {"not_rtp": 3}, "packets": {"in": 7, "out": 5}}
    found = values(metrics)
    assert found['auralink_packets_dropped_total{reason="not_rtp"}'] == 3.0
    assert found['auralink_packets_total{direction="in"}'] == 7.0
    assert found['auralink_packets_total{direction="out"}'] == 5.0


def test_two_pods_in_one_process_do_not_share_counters() -> None:
    one, other = Metrics(), Metrics()
    one.frames_compressed.inc()
    assert values(other)["auralink_aic_frames_compressed_total"] == 0.0


@pytest.mark.parametrize(
    ("added", "percentiles"),
    [
        ([], (None, None, None, 0)),
        ([5.0], (5.0, 5.0, 5.0, 1)),
        ([float(value) for value in range(100, 0, -1)], (51.0, 96.0, 100.0, 100)),
    ],
)
def test_percentiles_of_what_came_in_any_order(added: list[float], percentiles: tuple[float | None, ...]) -> None:
    window = RecentWindow()
    for value in added:
        window.add(0.0, value)
    found = window.percentiles(1.0)
    assert (found["p50"], found["p95"], found["p99"], found["count"]) == percentiles


def test_old_values_leave_the_window_and_it_never_grows_beyond_its_size() -> None:
    window = RecentWindow(span_s=10.0, size=4)
    for second in range(8):
        window.add(float(second), float(second))
    assert window.percentiles(8.0)["count"] == 4
    assert window.percentiles(16.5)["p50"] == 7.0
    assert window.percentiles(60.0)["count"] == 0
