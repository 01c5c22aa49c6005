"""What sessions and polls make known of one AI Core server, against the twin."""

import asyncio

from auralink_dataplane.media.breaker import State
from auralink_dataplane.media.pipeline import Failure

from tests.unit.dataplane.aic.bench import Bench, core_for


async def test_five_failures_rest_the_endpoint_and_one_probe_brings_it_back(bench: Bench) -> None:
    async with core_for(bench):
        for _ in range(5):
            session = bench.open()
            assert session
            session.close(Failure.TIMEOUT)
        assert bench.open() is None
        assert bench.client.circuit_breaker_open
        bench.now += 60
        probe = bench.open()
        assert probe
        assert bench.open() is None  # one at a time
        await bench.until(lambda: bench.heard.opened)
        assert bench.heard.opened[-1][1]
        kicks = bench.kicks
        probe.proven()
        assert bench.kicks == kicks + 1
        assert not bench.client.circuit_breaker_open


async def test_failures_of_the_input_do_not_count(bench: Bench) -> None:
    async with core_for(bench, failures=1):
        for failure in (Failure.INPUT, Failure.PACKETS):
            session = bench.open()
            assert session
            session.close(failure)
        assert bench.client.endpoints()[0]["breaker"] == State.CLOSED.value


async def test_a_poll_tells_load_and_the_return_of_an_endpoint(bench: Bench) -> None:
    async with core_for(bench) as core:
        core.load = 0.95
        await bench.client.poll_once()
        assert bench.open() is None
        core.load = 0.2
        kicks = bench.kicks
        await bench.client.poll_once()
        assert bench.kicks == kicks + 1
        await core.stop()
        await bench.client.poll_once()
        assert bench.client.problem()
        await core.start(core.port)
        await bench.until(lambda: True)
        for _ in range(20):
            await bench.client.poll_once()
            if not bench.client.problem():
                break
            await asyncio.sleep(0.1)
        assert bench.client.usable
