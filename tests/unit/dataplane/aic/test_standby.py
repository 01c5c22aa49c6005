"""Where standbys go, what their endpoints tell of them, and when a pod complains that it has none."""

import pytest
from auralink_dataplane.media.breaker import State
from auralink_dataplane.media.frames import Disposition, Mode
from auralink_dataplane.media.pipeline import Failure
from auralink_pb.aicore.v1 import aicore_pb2 as pb

from tests.fakes.aicore import FakeAiCore
from tests.unit.dataplane.aic.bench import Bench, core_for, frame


async def three(bench: Bench, *, standby: bool = True) -> None:
    bench.names.found["core"] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    await bench.use("core:1", standby=standby)


async def test_a_standby_goes_to_the_next_endpoint_that_its_stream_prefers(bench: Bench) -> None:
    await three(bench)
    for number in range(20):
        name = f"r/{number}"
        active = bench.open(name)
        assert active
        standby = bench.open_standby(active, name)
        assert standby
        assert standby.endpoint_address != active.endpoint_address
        assert standby._outbox[0].open.mode == pb.MODE_SHADOW
        bench.names.found["core"].remove(active.endpoint_address.removesuffix(":1"))
        await bench.client.resolve_once()
        after = bench.open(name)
        assert after
        assert after.endpoint_address == standby.endpoint_address
        await three(bench)


async def test_alone_an_ai_core_is_no_standby_of_its_own(bench: Bench) -> None:
    await bench.use("core:1", standby=True)
    active = bench.open()
    assert active
    assert bench.open_standby(active) is None


async def test_none_is_placed_where_nobody_answers_and_others_go_there_last(bench: Bench) -> None:
    await three(bench)
    silent, *others = (
        endpoint for _, endpoint in sorted(bench.client._endpoints.items(), key=lambda pair: pair[1].address)
    )
    for number in range(20):
        silent.reachable = False
        active = bench.open(f"r/{number}")
        assert active
        assert active.endpoint_address != silent.address
        standby = bench.open_standby(active, f"r/{number}")
        assert standby
        assert standby.endpoint_address not in (silent.address, active.endpoint_address)
    for other in others:
        other.draining = True
    last = bench.open()
    assert last
    assert last.endpoint_address == silent.address


async def test_a_standby_is_the_probe_of_an_endpoint_whose_breaker_has_rested(bench: Bench) -> None:
    await three(bench)
    active = bench.open()
    assert active
    for endpoint in bench.client._endpoints.values():
        if endpoint.address != active.endpoint_address:
            for _ in range(5):
                endpoint.breaker.failed(bench.now)
    assert bench.open_standby(active) is None
    bench.now += 60
    probe = bench.open_standby(active)
    assert probe
    probe.proven()
    states = {endpoint.address: endpoint.breaker.state for endpoint in bench.client._endpoints.values()}
    assert states[probe.endpoint_address] is State.CLOSED


async def test_a_promotion_is_answered_with_the_last_picture_as_a_key(bench: Bench) -> None:
    async with core_for(bench) as core:
        session = bench.open()
        assert session
        for number in range(3):
            session.send(frame(number, key=number == 0), Mode.SHADOW, 20)
        session.promote(picture=True)
        session.send(frame(3), Mode.COMPRESS, 20)
        await bench.until(lambda: len(bench.heard.results) == 5)
        assert core.controls[0].HasField("promote")
        last, then = bench.heard.results[3:]
        assert (last.frame_id, last.disposition, last.key) == (2, Disposition.COMPRESSED, True)
        assert (then.frame_id, then.disposition, then.key) == (3, Disposition.COMPRESSED, False)


async def test_without_a_picture_to_show_nothing_is_said(bench: Bench) -> None:
    async with core_for(bench) as core:
        session = bench.open()
        assert session
        session.promote(picture=False)
        session.send(frame(0, key=True), Mode.COMPRESS, 20)
        await bench.until(lambda: bench.heard.results)
        assert core.controls == []


@pytest.mark.parametrize("promoted", [True, False])
async def test_an_endpoint_tells_its_standbys_and_those_that_took_over(bench: Bench, promoted: bool) -> None:
    await three(bench)
    active = bench.open()
    assert active
    standby = bench.open_standby(active)
    assert standby

    def told() -> tuple[object, object]:
        [one] = [one for one in bench.client.endpoints() if one["address"] == standby.endpoint_address]
        return one["standbys"], one["takeovers"]

    assert told() == (1, 0)
    if promoted:
        standby.promote(picture=False)
        assert told() == (0, 1)
    standby.close(Failure.LOST)
    assert told() == (0, int(promoted))


async def test_a_bridge_that_wants_a_standby_complains_without_a_second_ai_core(bench: Bench) -> None:
    await bench.use("core:1", standby=True)
    problem = bench.client.standby_problem() or ""
    assert "127.0.0.1:1 alone" in problem
    assert "second" in problem
    bench.names.found["core"].append("127.0.0.2")
    await bench.client.resolve_once()
    assert bench.client.standby_problem() is None
    next(iter(bench.client._endpoints.values())).draining = True
    assert "127.0.0.1:1 does not answer or shuts down" in (bench.client.standby_problem() or "")


@pytest.mark.parametrize("why", ["not wanted", "not configured", "nobody answers"])
async def test_it_does_not_complain_of_that_where_it_wants_none_or_has_a_worse_problem(bench: Bench, why: str) -> None:
    await bench.use(*(() if why == "not configured" else ("core:1",)), standby=why != "not wanted")
    for endpoint in bench.client._endpoints.values():
        endpoint.reachable = why != "nobody answers"
    assert bench.client.standby_problem() is None
    assert (bench.client.problem() is None) == (why == "not wanted")


async def test_a_second_core_that_comes_is_told_of(bench: Bench) -> None:
    async with FakeAiCore() as one, FakeAiCore() as two:
        await bench.use(f"core:{one.port}", f"core:{two.port}", standby=True)
        await two.stop()
        await bench.client.poll_once()
        assert str(two.port) in (bench.client.standby_problem() or "")
