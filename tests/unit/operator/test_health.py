"""The operator's three pages say what its loops do."""

import logging
from collections.abc import AsyncIterator

import aiohttp
import pytest
from auralink_operator import health
from auralink_operator.__main__ import JsonFormatter, OncePerChange
from auralink_operator.index import BRIDGE, Key
from auralink_operator.metrics import Metrics
from auralink_operator.queue import WorkQueue


class State:
    """A queue by a clock that tests move, and whether the index is full."""

    def __init__(self) -> None:
        self.now, self.full = 0.0, False
        self.queue = WorkQueue(lambda: self.now, lambda: 0.5)


@pytest.fixture
async def pages() -> AsyncIterator[tuple[State, str]]:
    state = State()
    runner = await health.serve(0, Metrics(), state.queue, lambda: state.full)
    try:
        port = next(address[1] for address in runner.addresses if len(address) == 2)
        yield state, f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def fetch(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_live_until_a_key_is_stuck(pages: tuple[State, str]) -> None:
    state, base = pages
    assert (await fetch(f"{base}/healthz"))[0] == 200
    state.queue.add(Key(BRIDGE, "ns", "b"))
    state.now = 121.0
    status, said = await fetch(f"{base}/healthz")
    assert status == 503
    assert "121 s" in said


async def test_ready_once_the_index_is_full(pages: tuple[State, str]) -> None:
    state, base = pages
    assert (await fetch(f"{base}/readyz"))[0] == 503
    state.full = True
    assert (await fetch(f"{base}/readyz"))[0] == 200


async def test_metrics_show_the_queue(pages: tuple[State, str]) -> None:
    state, base = pages
    state.queue.add(Key(BRIDGE, "ns", "b"))
    state.queue.add(Key(BRIDGE, "ns", "c"))
    state.queue.add(Key(BRIDGE, "ns", "later"), after_s=60.0)
    state.now = 7.0
    status, said = await fetch(f"{base}/metrics")
    assert status == 200
    assert "auralink_operator_queue_depth 2.0" in said
    assert "auralink_operator_queue_oldest_seconds 7.0" in said


def test_a_log_line_is_one_object_with_the_fields_given() -> None:
    record = logging.LogRecord("auralink_operator.reconcile", logging.INFO, "", 0, "ready", (), None)
    record.namespace = "ns"
    line = JsonFormatter().format(record)
    assert '"message": "ready"' in line
    assert '"namespace": "ns"' in line
    assert "\n" not in line


def test_kopf_does_not_log_each_attempt_of_each_watch() -> None:
    quiet = OncePerChange()
    for name, said, kept in (
        ("kopf._cogs.clients.watching", "Request attempt #1/7 failed; will retry", False),
        ("kopf._cogs.clients.watching", "Something else", True),
        ("auralink_operator.cluster", "Request attempt #1/7 failed; will retry", True),
    ):
        assert quiet.filter(logging.LogRecord(name, logging.ERROR, "", 0, said, (), None)) is kept
