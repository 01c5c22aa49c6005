"""Starts the real AI Core as a process and talks to it over real gRPC; for the tests beside it."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from auralink_pb.aicore.v1 import aicore_pb2 as pb
from auralink_pb.aicore.v1 import aicore_pb2_grpc as pb_grpc

from tests.unit.aicore import clips

ROOT = Path(__file__).resolve().parents[2]
SOURCES = os.pathsep.join(str(ROOT / part) for part in ("aicore", "protos"))
START_S = 60.0


@dataclass
class Running:
    """A server process and what it logged."""

    process: asyncio.subprocess.Process
    log: list[dict[str, Any]] = field(default_factory=list)
    logged: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.line('serving')['port']}"

    @property
    def http_port(self) -> int:
        return int(self.line("serving")["http_port"])

    @property
    def worker_pids(self) -> list[int]:
        return [line["pid"] for line in self.log if line["message"] == "worker ready"]

    def line(self, message: str) -> dict[str, Any]:
        return next(line for line in self.log if line["message"] == message)

    async def wait_logged(self, message: str, times: int = 1) -> None:
        async with asyncio.timeout(START_S):
            while sum(line["message"] == message for line in self.log) < times:
                self.logged.clear()
                await self.logged.wait()

    async def follow(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            if line.startswith(b"{"):  # gRPC's C core has remarks of its own on failed handshakes
                self.log.append(json.loads(line))
                self.logged.set()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)


@asynccontextmanager
async def aicore(workers: int = 1, **environment: str) -> AsyncIterator[Running]:
    """A server that serves; ended at the end whatever happened."""
    env = {
        **os.environ,
        "PYTHONPATH": SOURCES,
        "AICORE_LISTEN": "127.0.0.1:0",
        "AICORE_HTTP_PORT": "0",
        "AICORE_WORKERS": str(workers),
        **environment,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "auralink_aicore", env=env, stderr=asyncio.subprocess.PIPE
    )
    running = Running(process)
    following = asyncio.create_task(running.follow())
    try:
        await running.wait_logged("serving")
        yield running
    finally:
        if process.returncode is None:
            running.stop()
            try:
                async with asyncio.timeout(15):
                    await process.wait()
            except TimeoutError:
                process.kill()
        await process.wait()
        await following


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
