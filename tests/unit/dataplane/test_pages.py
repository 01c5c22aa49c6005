"""That `docs/pod-endpoints.md` and the pod say the same."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from aiohttp import web
from auralink_dataplane.http import Pod, api, metrics
from auralink_dataplane.metrics import Metrics
from prometheus_client.metrics import MetricWrapperBase

from tests.unit.dataplane.whole import PodUnderTest

PAGE = Path(__file__).parents[3] / "docs/pod-endpoints.md"
BUILT, LATER = "built", "comes with the rooms work"

FIELDS_PROMISED = {
    "GET /health": {"status", "timestamp"},
    "GET /ready": {
        "status", "dependencies.postgres", "dependencies.redis", "dependencies.dashboard", "dependencies.ai_core",
        "dependencies.webrtc_server",
    },
    "GET /status": {
        "service.name", "service.version", "service.environment", "aic_compression.frames_processed",
        "aic_compression.frames_compressed", "aic_compression.compression_rate_percent",
        "aic_compression.total_bandwidth_saved_mb", "aic_compression.grpc_stats.circuit_breaker_open",
        "room_sync.active_rooms", "room_sync.total_participants", "room_sync.success_rate_percent", "database",
    },
}  # fmt: skip
METRICS_PROMISED = {
    "auralink_aic_frames_processed_total", "auralink_aic_frames_compressed_total", "auralink_aic_compression_ratio",
    "auralink_aic_bandwidth_saved_bytes", "auralink_aic_latency_ms", "auralink_rooms_active",
    "auralink_participants_total", "auralink_sync_success_rate", "auralink_db_connections_active",
    "auralink_db_connections_idle", "auralink_redis_connections_active",
}  # fmt: skip
MAPS = {
    "aic_compression.latency_ms": "stage", "aic_compression.streams[].source": "counter",
    "aic_compression.streams[].layers": "layer",
    "aic_compression.streams[].outs[]": "counter", "packets.drops": "reason", "rooms[].legs[].ports": "medium",
    "rooms[].legs[].remotes": "medium",
}  # fmt: skip
"""Where the keys are no names of fields, and what they are."""


class Row(NamedTuple):
    cells: tuple[str, ...]
    state: str


def rows(heading: str) -> dict[str, Row]:
    """The table under a heading, or the page's first, by what stands in its first column."""
    text = PAGE.read_text(encoding="utf-8")
    part = text.split(f"\n## `{heading}`\n")[1] if heading else text
    lines = [line for line in part.split("\n## ")[0].splitlines() if line.startswith("| `")]
    cells = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    found = {one[0].strip("`"): Row(one, one[-1]) for one in cells}
    assert len(found) == len(cells), "a name stands there twice"
    assert {row.state for row in found.values()} <= {BUILT, LATER}
    return found


def built(heading: str) -> set[str]:
    return {name for name, row in rows(heading).items() if row.state == BUILT}


def fields(document: Any, path: str = "") -> Iterator[str]:
    if path in MAPS:
        yield f"{path}.<{MAPS[path]}>"
    elif isinstance(document, dict) and document:
        for name, value in document.items():
            yield from fields(value, f"{path}.{name}" if path else name)
    elif isinstance(document, list):
        for value in document or [None]:
            yield from fields(value, f"{path}[]")
    else:
        yield path


async def test_every_field_that_a_pod_tells_is_on_the_page_and_no_other(pod: PodUnderTest) -> None:
    await pod.configure()
    stream = await pod.stream()
    await pod.until(lambda: pod.packets.sources[stream].links)
    told = {
        "GET /health": pod.app.health()[1],
        "GET /ready": pod.app.ready()[1],
        "GET /status": pod.app.status(),
        "GET /rooms": {"rooms": pod.app.rooms()},
    }
    for heading, document in told.items():
        assert set(fields(document)) == built(heading), heading


def test_every_field_and_metric_that_is_promised_is_on_the_page() -> None:
    for heading, promised in FIELDS_PROMISED.items():
        assert promised <= rows(heading).keys()
    assert rows("GET /metrics").keys() >= METRICS_PROMISED


def test_every_endpoint_is_on_the_page_with_its_guard() -> None:
    pod = cast(Pod, None)  # nobody asks
    served = {
        (f"{route.method} {route.resource.canonical}", port)
        for application, port in ((api(pod), "8080"), (metrics(pod), "9090"))
        for route in application.router.routes()
        if isinstance(route.resource, web.Resource) and route.method != "HEAD"
    }
    page = {(name, row.cells[1]) for name, row in rows("").items() if row.state == BUILT}
    assert page == served
    for name, row in rows("").items():
        is_open = re.fullmatch(r"GET /(health|ready|status|metrics)", name)
        assert row.cells[2] == ("anyone" if is_open else "the token")


def test_every_metric_is_on_the_page_with_type_and_labels_and_no_other() -> None:
    own = Metrics()
    own.observe_packets(lambda: {"drops": {"late": 1}, "packets": {"in": 1}})
    labels = {one._name: one._labelnames for one in vars(own).values() if isinstance(one, MetricWrapperBase)}
    found: dict[str, tuple[str, set[str]]] = {}
    for family in own.registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        seen = {label for sample in family.samples for label in sample.labels if label != "le"}
        found[name] = family.type, seen | set(labels.get(family.name, ()))
    page = {
        name: (row.cells[1], set(re.findall(r"`(\w+)`", row.cells[3])))
        for name, row in rows("GET /metrics").items()
        if row.state == BUILT
    }
    assert page == found
    assert all(row.cells[2] for row in rows("GET /metrics").values()), "a metric has a unit"


async def test_the_numbers_that_dashboards_divide_are_numbers_before_the_first_frame(pod: PodUnderTest) -> None:
    compression = pod.app.status()["aic_compression"]
    for name in ("frames_processed", "frames_compressed", "compression_rate_percent"):
        assert compression[name] == 0
    assert float(compression["total_bandwidth_saved_mb"]) == 0
