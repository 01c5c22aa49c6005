"""From an edit of a RoomPolicy to every pod's acknowledgement in the bridge's status, where a user can see it."""

from collections.abc import Callable

from benchmarks import quickstart
from hack.lab import measure
from hack.lab.report import Row

_EDITS = 40


def rows(say: Callable[[str], None]) -> list[Row]:
    with quickstart.installed() as bridge:
        quickstart.apply(bridge)
        bridge.wait_ready()
        say(f"{_EDITS} edits")
        took = [bridge.aim(30 + number % 2) for number in range(_EDITS)]
    spread = measure.distribution(took)
    assert spread is not None
    note = f"{spread.count} edits, slowest {spread.largest:.2f} s"
    return [
        Row("policy_ack", "policy edit to acknowledged, p50", spread.p50, "s"),
        Row("policy_ack", "policy edit to acknowledged, p95", spread.p95, "s", "<= 1", spread.p95 <= 1, note),
    ]
