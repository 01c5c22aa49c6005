"""Two real AI Cores behind one stream, and the ways in which the one that serves can be ended."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

from auralink_dataplane.media.pipeline import State

from hack.lab.aicore import Running, aicore
from tests.integration.onlooker import FPS, Scene

PROCESS_FAULTS = ("server killed", "worker killed", "server hung")


class Pair:
    """Two AI Cores, started again when a test has ended one."""

    def __init__(self) -> None:
        self._stacks: list[AsyncExitStack] = []
        self._cores: list[Running] = []

    async def whole(self) -> list[Running]:
        """Both, each with its worker."""
        for index in range(2):
            if index == len(self._cores) or self._cores[index].process.returncode is not None:
                stack = AsyncExitStack()
                core = await stack.enter_async_context(aicore())
                self._stacks[index : index + 1] = [stack]
                self._cores[index : index + 1] = [core]
        for core in self._cores:
            deaths = sum(line["message"] == "worker died" for line in core.log)
            await core.wait_logged("worker ready", 1 + deaths)
        return list(self._cores)

    async def close(self) -> None:
        for stack in self._stacks:
            await stack.aclose()


@contextmanager
def struck(core: Running, fault: str) -> Iterator[float]:
    """One of PROCESS_FAULTS; the value is when. What hangs goes on at the end."""
    at = time.monotonic()
    try:
        match fault:
            case "server killed":
                core.process.kill()
            case "worker killed":
                os.kill(core.worker_pids[-1], signal.SIGKILL)
            case "server hung":
                core.process.send_signal(signal.SIGSTOP)
            case _:
                raise ValueError(fault)
        yield at
    finally:
        if fault == "server hung":
            core.process.send_signal(signal.SIGCONT)


def active_of(seen: Scene) -> str:
    """The address of the AI Core that answers."""
    assert seen.stream.endpoint
    return seen.stream.endpoint


async def running(seen: Scene, *, standby: bool) -> None:
    """Compressing, amid a group of pictures."""
    if standby:
        await seen.until(lambda: list(seen.app.streams) and seen.pipeline.standby.ready, "a standby")
    await seen.until(lambda: len(seen.received.frames) > FPS / 2, "pictures")
    await seen.until(lambda: FPS * 0.3 < seen.received.since_key < FPS * 0.9, "the middle of a group of pictures")
    assert seen.pipeline.state is State.COMPRESS


async def over(seen: Scene, since: float) -> None:
    """Until enough has come after the failure to be judged."""
    before = len([one for one in seen.received.frames if one.t_complete < since])
    await seen.until(lambda: len(seen.received.frames) >= before + FPS, "pictures after the failure")
