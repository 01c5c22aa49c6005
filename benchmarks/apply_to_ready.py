"""From `kubectl apply` of the quick start to Ready=True: scheduling, start and configuration of the pod included."""

import time
from collections.abc import Callable

from benchmarks import quickstart
from hack.lab import measure
from hack.lab.report import Row

_ROUNDS = 5


def rows(say: Callable[[str], None]) -> list[Row]:
    took: list[float] = []
    with quickstart.installed() as bridge:
        for number in range(1, _ROUNDS + 1):
            began = time.monotonic()
            quickstart.apply(bridge)
            bridge.wait_ready()
            took.append(time.monotonic() - began)
            say(f"round {number} of {_ROUNDS}: {took[-1]:.1f} s")
            bridge.delete()
    spread = measure.distribution(took)
    assert spread is not None
    note = f"{spread.count} times, longest {spread.largest:.1f} s; images are on the node"
    return [Row("apply_to_ready", "kubectl apply to Ready, median", spread.p50, "s", note=note)]
