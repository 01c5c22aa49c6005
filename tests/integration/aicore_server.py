"""Talks to the real AI Core over real gRPC; for the tests beside it."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
from auralink_pb.aicore.v1 import aicore_pb2 as pb
from auralink_pb.aicore.v1 import aicore_pb2_grpc as pb_grpc

from tests.unit.aicore import clips


class Stream:
    """A client's `Compress` call."""

    def __init__(self, channel: grpc.aio.Channel, sender: clips.Sender = clips.H264) -> None:
        self.sender = sender
        stub: Any = pb_grpc.AICoreStub(channel)
        self.call = stub.Compress()
        self.next_id = 0

    async def open(self, **fields: Any) -> pb.SessionOpened:
        stream = {"session_id": "test", "codec": int(self.sender.codec), "max_fps": 30, "width": 320, "height": 240}
        fields = {**stream, **fields}
        policy = fields.pop("policy", pb.Policy(always=True, quality_level=1, quality_floor=0))
        await self.call.write(pb.ClientMessage(open=pb.SessionOpen(policy=policy, **fields)))
        return (await self.read()).opened

    async def read(self) -> pb.ServerMessage:
        async with asyncio.timeout(20):
            message = await self.call.read()
        assert isinstance(message, pb.ServerMessage), "the call has ended"
        return message

    async def send(self, unit: bytes, mode: pb.Mode.ValueType = pb.MODE_COMPRESS) -> None:
        frame = pb.Frame(frame_id=self.next_id, payload=unit, key=self.sender.is_key(unit), mode=mode)
        self.next_id += 1
        await self.call.write(pb.ClientMessage(frame=frame))

    async def exchange(
        self, units: Sequence[bytes], mode: pb.Mode.ValueType = pb.MODE_COMPRESS
    ) -> list[pb.FrameResult]:
        """One frame at a time, as a camera would send them but without the waiting."""
        results = []
        for unit in units:
            await self.send(unit, mode)
            results.append((await self.read()).result)
        return results

    async def control(self, **control: Any) -> None:
        await self.call.write(pb.ClientMessage(control=pb.Control(**control)))

    async def ended(self) -> grpc.StatusCode:
        """How the call ended; fails the test if it goes on."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            async with asyncio.timeout(20):
                while isinstance(await self.call.read(), pb.ServerMessage):
                    pass
        return grpc.StatusCode(await self.call.code())
