"""What the service is called, and whom it waits for."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from auralink_aicore.metrics import Metrics
from auralink_aicore.server import AiCore, service
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
