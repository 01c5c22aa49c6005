"""A pod to test, and the AI Core that it uses."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.fakes.aicore import FakeAiCore
from tests.unit.dataplane.whole import PodUnderTest


@pytest.fixture
async def core() -> AsyncIterator[FakeAiCore]:
    async with FakeAiCore() as one:
        yield one


@pytest.fixture
async def pod(core: FakeAiCore) -> AsyncIterator[PodUnderTest]:
    one = PodUnderTest(core)
    yield one
    one.app.request_stop()
    one.app.request_stop()
    await asyncio.gather(one.task, return_exceptions=True)
