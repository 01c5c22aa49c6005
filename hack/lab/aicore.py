"""The real AI Core as a process of its own, on free ports of loopback."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
        assert self.process.stderr is not None  # noqa: S101 - it was started with a pipe
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
