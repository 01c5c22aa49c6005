"""A leader that is killed, and one that is told to end: how long until the next one repairs a child.

All the while children are spoilt, one every 100 ms, so that the first repair comes as soon as anybody can make it. The
audit log tells the replicas apart by their user agents, so that what the old leader still writes on its way out is not
taken for the next one's.
"""

import asyncio
import itertools
import time
from collections.abc import Sequence

from benchmarks.operator import scene
from benchmarks.operator.phases import Bench
from benchmarks.operator.scene import Name
from benchmarks.operator.servers import Operator
from hack.progress import CommandError

_EVERY_S, _LIMIT_S = 0.1, 60.0


async def hand_over(bench: Bench, leader: Operator, *, graceful: bool) -> float:
    """Seconds from the signal to the next leader's first write of a child."""
    mark = bench.audit.mark()
    spoiling = asyncio.create_task(_spoil(bench, bench.sample(200)), name="spoil")
    try:
        await asyncio.sleep(1.0)
        told = time.time()
        del bench.servers.processes[leader.process.name]
        await asyncio.to_thread(leader.process.stop if graceful else leader.process.kill)
        while (found := _first_write(bench, mark, leader.process.name)) is None:
            bench.servers.check()
            if time.time() - told > _LIMIT_S:
                raise CommandError(f"nobody took over within {_LIMIT_S:.0f} s")
            await asyncio.sleep(0.1)
    finally:
        spoiling.cancel()
        await asyncio.gather(spoiling, return_exceptions=True)
    await bench.quiet()
    return found - told


def _first_write(bench: Bench, mark: int, leader: str) -> float | None:
    """When another replica's first write of a child was answered."""
    return min(
        (
            one.done
            for one in bench.audit.since(mark)
            if one.is_write and one.resource == "configmaps" and not one.agent.endswith(f"/{leader}")
        ),
        default=None,
    )


async def _spoil(bench: Bench, names: Sequence[Name]) -> None:
    for name in itertools.cycle(names):
        patch = {"data": {"owners.json": "{}"}}
        await scene.tolerant(bench.api.merge("configmaps", name[0], f"auralink-{name[1]}-config", patch))
        await asyncio.sleep(_EVERY_S)
