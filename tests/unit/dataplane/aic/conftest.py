"""What the tests of the AI Core client begin with."""

from collections.abc import AsyncIterator

import pytest

from tests.unit.dataplane.aic.bench import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    one = Bench()
    yield one
    await one.client.close()
