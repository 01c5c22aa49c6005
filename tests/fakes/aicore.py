"""Twin of the AI Core: the same gRPC service in this process, without codecs. Its "compressed" frame is the first 60 %
of the native one, and it can be told to be mute, full, draining or broken."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import grpc
from auralink_pb.aicore.v1 import aicore_pb2 as pb
from auralink_pb.aicore.v1 import aicore_pb2_grpc as rpc


class FakeAiCore(rpc.AICoreServicer):
    def __init__(self) -> None:
        self.status = pb.SessionOpened.STATUS_OK
        self.mute = False
        self.disposition: pb.Disposition.ValueType | None = None
        self.asks: tuple[int, pb.AskReason.ValueType] = 0, pb.ASK_REASON_UNSPECIFIED
        """Of the sender, with every answer."""
        self.load = 0.0
        self.draining = False
        self.opened: list[pb.SessionOpen] = []
        self.controls: list[pb.Control] = []
        self.frames: list[pb.Frame] = []
        self.ended = 0
        self.metadata: dict[str, Any] = {}
        self.port = 0
        self._server: grpc.aio.Server | None = None
        self._calls: set[Any] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self, port: int = 0) -> None:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        rpc.add_AICoreServicer_to_server(self, server)
        self.port = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """As a crash: calls are cut."""
        if self._server:
            await self._server.stop(grace=None)
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def notice(self, kind: pb.Notice.Kind.ValueType) -> None:
        for call in list(self._calls):
            await call.write(pb.ServerMessage(notice=pb.Notice(kind=kind)))

    async def GetCapabilities(self, request: Any, context: Any) -> pb.Capabilities:  # noqa: N802
        return pb.Capabilities(workers=1, load=self.load, draining=self.draining, model="twin-1.0.0")

    async def Compress(  # type: ignore[override]  # noqa: N802 - the stub knows only generators
        self, request_iterator: AsyncIterator[pb.ClientMessage], context: Any
    ) -> None:
        self.metadata = dict(context.invocation_metadata())
        first = await anext(request_iterator)
        self.opened.append(first.open)
        answer = pb.SessionOpened(status=self.status, max_in_flight=16, model="twin-1.0.0", reason="as told")
        await context.write(pb.ServerMessage(opened=answer))
        if self.status != pb.SessionOpened.STATUS_OK:
            return
        self._calls.add(context)
        try:
            await self._serve(request_iterator, context)
        finally:
            self._calls.discard(context)

    async def _serve(self, messages: AsyncIterator[pb.ClientMessage], context: Any) -> None:
        ours = force = False
        last = pb.Frame()
        async for message in messages:
            if message.HasField("control"):
                self.controls.append(message.control)
                force = force or message.control.HasField("force_key")
                if message.control.HasField("promote") and not self.mute:
                    await context.write(pb.ServerMessage(result=self._promoted(last)))
                    ours = True
                if message.control.HasField("end"):
                    self.ended += 1
                    return
                continue
            frame = last = message.frame
            self.frames.append(frame)
            if self.mute:
                continue
            result = pb.FrameResult(frame_id=frame.frame_id, encoder_us=1000, queue_us=100)
            result.ask_sender_bps, result.ask_reason = self.asks
            if frame.mode == pb.MODE_SHADOW:
                result.disposition, ours = pb.DISPOSITION_UNCHANGED, False
            elif self.disposition is not None:
                result.disposition = self.disposition
            else:
                result.disposition = pb.DISPOSITION_COMPRESSED
                result.key = frame.key or force or not ours
                self._fill(result, frame)
                ours, force = True, False
            await context.write(pb.ServerMessage(result=result))
            await asyncio.sleep(0)

    @staticmethod
    def _fill(result: pb.FrameResult, frame: pb.Frame) -> None:
        result.payload = frame.payload[: len(frame.payload) * 6 // 10]
        result.ratio, result.quality, result.model_hash = 400, 950, 7

    def _promoted(self, frame: pb.Frame) -> pb.FrameResult:
        result = pb.FrameResult(frame_id=frame.frame_id, disposition=pb.DISPOSITION_COMPRESSED, key=True)
        self._fill(result, frame)
        return result
