"""Whether Redis is in reach, since when, and the news that it is back."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from auralink_dataplane.rooms.store import Link

log = logging.getLogger(__name__)

_AT_FIRST: Final = "not connected yet"


class LinkState:
    """`clock`: the loop's. Down until told otherwise."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._changed = asyncio.Event()
        self._birth: bytes | None = None
        self.now = Link(up=False, since=clock(), reason=_AT_FIRST)

    def lost(self, reason: str) -> None:
        if self.now.up or self.now.reason == _AT_FIRST:
            log.warning("Redis cannot be reached", extra={"reason": reason})
        if self.now.up:
            self._set(replace(self.now, up=False, since=self._clock(), reason=reason))
        else:
            self.now = replace(self.now, reason=reason)

    def closed(self) -> None:
        self._set(replace(self.now, up=False, since=self._clock(), reason="closed"))

    def found(self, birth: bytes) -> None:
        """`birth`: the name of the data. Lost ones count as a return, also where nobody noticed the outage."""
        lost, self._birth = self._birth not in (birth, None), birth
        if self.now.up and not lost:
            return
        if self.now.returns:
            log.info("Redis is back", extra={"away_s": round(self._clock() - self.now.since, 3), "data_lost": lost})
        self._set(Link(up=True, since=self._clock(), returns=self.now.returns + 1))

    async def wait_return(self, seen: int) -> Link:
        while self.now.returns <= seen:
            await self._changed.wait()
        return self.now

    async def wait_lost(self, limit_s: float) -> None:
        """Until it is down, or for so long."""
        try:
            async with asyncio.timeout(limit_s):
                while self.now.up:
                    await self._changed.wait()
        except TimeoutError:
            pass

    def _set(self, link: Link) -> None:
        self.now = link
        self._changed.set()
        self._changed = asyncio.Event()
