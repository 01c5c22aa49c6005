"""The operator's three pages say what its loops do."""

import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest
from auralink_operator import health
from auralink_operator.__main__ import JsonFormatter
from auralink_operator.handlers import kopf_settings, registry
from auralink_operator.index import BRIDGE, Obj
from auralink_operator.metrics import Metrics
from auralink_operator.reconcile import WATCHED, selector


@pytest.fixture
async def pages() -> AsyncIterator[tuple[dict[str, Any], str]]:
    state: dict[str, Any] = {"oldest": 0.0, "full": False}
    runner = await health.serve(0, Metrics(), lambda: float(state["oldest"]), lambda: 3, lambda: bool(state["full"]))
    try:
        port = next(address[1] for address in runner.addresses if len(address) == 2)
        yield state, f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def fetch(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_live_until_a_key_is_stuck(pages: tuple[dict[str, Any], str]) -> None:
    state, base = pages
    assert (await fetch(f"{base}/healthz"))[0] == 200
    state["oldest"] = 121.0
    status, said = await fetch(f"{base}/healthz")
    assert status == 503
    assert "121 s" in said


async def test_ready_once_the_index_is_full(pages: tuple[dict[str, Any], str]) -> None:
    state, base = pages
    assert (await fetch(f"{base}/readyz"))[0] == 503
    state["full"] = True
    assert (await fetch(f"{base}/readyz"))[0] == 200


async def test_metrics_show_the_queue(pages: tuple[dict[str, Any], str]) -> None:
    _, base = pages
    status, said = await fetch(f"{base}/metrics")
    assert status == 200
    assert "auralink_operator_queue_depth 3.0" in said


def test_kopf_only_watches() -> None:
    async def started(store: Mapping[Any, Any]) -> None:
        raise AssertionError("nothing runs here")

    def changed(_: str | None, __: Obj) -> None:
        raise AssertionError("nothing runs here")

    found = registry(started, changed)
    assert not found._changing.get_all_handlers()
    assert not found._spawning.get_all_handlers()
    assert len(found._watching.get_all_handlers()) == len(WATCHED)
    settings = kopf_settings()
    assert settings.scanning.disabled
    assert not settings.posting.enabled
    assert settings.queueing.worker_limit is None


def test_only_our_children_are_watched() -> None:
    assert selector(BRIDGE) == ""
    assert selector("Deployment") == "app.kubernetes.io/managed-by=auralink-operator"
    assert "endpointslice.kubernetes.io/managed-by=auralink-operator" in selector("EndpointSlice")


def test_a_log_line_is_one_object_with_the_fields_given() -> None:
    record = logging.LogRecord("auralink_operator.reconcile", logging.INFO, "", 0, "ready", (), None)
    record.namespace = "ns"
    line = JsonFormatter().format(record)
    assert '"message": "ready"' in line
    assert '"namespace": "ns"' in line
    assert "\n" not in line
