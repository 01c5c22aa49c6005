"""An event loop that does not wait: when nothing is left to do, its clock goes on to the next timer.

For tests of what happens after seconds and minutes; whatever runs in it must not wait for sockets or processes.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        scheduled: Any = self._scheduled  # type: ignore[attr-defined]
        if not self._ready and scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, scheduled[0]._when)
        super()._run_once()  # type: ignore[misc]


def in_virtual_time(coroutine: Coroutine[Any, Any, T], limit_s: float = 3600.0) -> T:
    """Runs it to its end, which must come within so many virtual seconds."""

    async def limited() -> T:
        return await asyncio.wait_for(coroutine, limit_s)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(limited())
