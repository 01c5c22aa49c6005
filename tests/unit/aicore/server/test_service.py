"""What the service is called, and whom it waits for."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from auralink_aicore.codecs import Codec
from auralink_aicore.metrics import Metrics
from auralink_aicore.server import AiCore, BadRequestError, service
from auralink_aicore.server.call import Call
from auralink_aicore.server.opening import Fault
from auralink_aicore.worker.admission import MAX_SEATS, Load
from auralink_pb.aicore.v1 import aicore_pb2 as pb


def test_the_service_has_the_name_of_the_contract() -> None:
    assert service.SERVICE == "auralink.aicore.v1.AICore"


async def test_a_call_that_never_opens_a_session_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    class Context:
        ended: grpc.StatusCode | None = None

        async def abort(self, code: grpc.StatusCode, _: str) -> None:
            self.ended = code

    async def says_nothing() -> AsyncIterator[pb.ClientMessage]:
        await asyncio.Event().wait()
        yield pb.ClientMessage()

    monkeypatch.setattr(service, "SILENT_S", 0.01)
    context = Context()
    await AiCore(1, Metrics()).Compress(says_nothing(), context)  # type: ignore[arg-type]
    assert context.ended is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_session_that_sends_nothing_for_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SWEEP_S", 0.01)
    core = AiCore(1, Metrics())
    silent, lively = (Call(core, name, Load(Codec.H264)) for name in ("silent", "lively"))
    silent.heard_s -= service.SILENT_S + 1
    core._calls |= {silent, lively}
    sweeper = asyncio.create_task(core._sweep())

    async def write(_: pb.ServerMessage) -> None:
        raise AssertionError("there is nothing to say")

    with pytest.raises(BadRequestError, match="nothing heard for 60 s") as error:
        await asyncio.wait_for(silent.run(write), 5)
    assert error.value.fault is Fault.DEADLINE_EXCEEDED
    assert lively._outgoing.empty()
    sweeper.cancel()


async def test_calls_beyond_the_bound_are_turned_away() -> None:
    class Context:
        ended: grpc.StatusCode | None = None

        async def abort(self, code: grpc.StatusCode, _: str) -> None:
            self.ended = code

    async def says_nothing() -> AsyncIterator[pb.ClientMessage]:
        await asyncio.Event().wait()
        yield pb.ClientMessage()

    core = AiCore(1, Metrics())
    most = MAX_SEATS + service.SPARE_CALLS
    idle = [asyncio.create_task(core.Compress(says_nothing(), Context())) for _ in range(most)]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    one_more = Context()
    await core.Compress(says_nothing(), one_more)  # type: ignore[arg-type]
    assert one_more.ended is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not any(task.done() for task in idle)
    for task in idle:
        task.cancel()
    await asyncio.gather(*idle, return_exceptions=True)
    assert core._under_way == 0
