"""Between the data plane and a real AI Core: passes messages on as they are, until it is told to fail."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import grpc
import grpc.aio
from auralink_pb.aicore.v1 import aicore_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["AICore"].full_name
SLOW_S = 1.0
GARBAGE = b"\xff" * 32


class Fault(Enum):
    """What befalls the next answer, and where it says so those behind it."""

    RESET = auto()  # the stream ends with an error
    GARBAGE = auto()  # bytes that are no message
    OUT_OF_ORDER = auto()  # it comes behind the next one
    SLOW = auto()  # it and all behind it come a second late


@dataclass
class Relay:
    """`struck`: when the fault befell an answer, by the monotonic clock."""

    upstream: str
    address: str = ""
    fault: Fault | None = None
    struck: float | None = None
    _kept: dict[int, bytes] = field(default_factory=dict)

    async def compress(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """One session."""
        async with _channel(self.upstream) as channel:
            call = channel.stream_stream(f"/{SERVICE}/Compress")(metadata=context.invocation_metadata())

            async def pass_up() -> None:
                async for message in requests:
                    await call.write(message)
                await call.done_writing()

            task = asyncio.create_task(pass_up(), name="relay-up")
            try:
                async for answer in call:
                    await self._pass_down(answer, context)
            finally:
                task.cancel()
                call.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def _pass_down(self, answer: bytes, context: Any) -> None:
        if self.fault is None or not pb.ServerMessage.FromString(answer).HasField("result"):
            await context.write(answer)
            return
        self.struck = self.struck or time.monotonic()
        match self.fault:
            case Fault.RESET:
                await context.abort(grpc.StatusCode.INTERNAL, "as told")
            case Fault.GARBAGE:
                await context.write(GARBAGE)
            case Fault.SLOW:
                await asyncio.sleep(SLOW_S)
                await context.write(answer)
            case Fault.OUT_OF_ORDER:
                first = self._kept.pop(id(context), None)
                if first is None:
                    self._kept[id(context)] = answer
                else:
                    await context.write(answer)
                    await context.write(first)

    async def capabilities(self, request: bytes, context: Any) -> bytes:
        async with _channel(self.upstream) as channel:
            answer: bytes = await channel.unary_unary(f"/{SERVICE}/GetCapabilities")(request)
            return answer


def _channel(address: str) -> Any:
    """Of bytes; the stubs know only messages."""
    return grpc.aio.insecure_channel(address)


@asynccontextmanager
async def relay(upstream: str) -> AsyncIterator[Relay]:
    one = Relay(upstream)
    handlers = {
        "Compress": grpc.stream_stream_rpc_method_handler(one.compress),
        "GetCapabilities": grpc.unary_unary_rpc_method_handler(one.capabilities),
    }
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    one.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield one
    finally:
        await server.stop(grace=None)
