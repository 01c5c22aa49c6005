"""Workers leave room for everything else: watch events, the lease, the health server."""

import asyncio

from auralink_operator.__main__ import Operator
from auralink_operator.index import BRIDGE, Key

from tests.unit.operator import samples
from tests.unit.operator.desk import Desk


async def test_a_long_queue_of_looks_that_cost_no_request_lets_others_run_in_between() -> None:
    operator, desk = Operator(samples.SETTINGS), Desk()
    for number in range(100):
        operator.queue.add(Key(BRIDGE, "ns", f"gone-{number}"))
    operator.leading.set()
    worker = asyncio.create_task(operator._worker("worker 0", desk.context))
    turns = 0
    while operator.queue.depth():
        await asyncio.sleep(0)
        turns += 1
    worker.cancel()
    assert turns >= 100
