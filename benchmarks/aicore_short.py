"""The AI Core in short: H.264 on the default clip. `make bench-aicore` measures all of it."""

from collections.abc import Callable

from benchmarks.aicore import __main__ as whole
from benchmarks.aicore import plan
from hack.lab import clip
from hack.lab.report import Row

_ROWS = frozenset({"m1_saving_error", "m2_vmaf_loss", "m5_latency"})


def rows(say: Callable[[str], None]) -> list[Row]:
    options = whole.Options(("H264",), only=_ROWS)
    subjects = plan.subjects([clip.DEFAULT], ["720p"], say)
    found = whole.measure(whole.Scene(options, subjects, whole.OUT / "aicore-short"))
    return [*found, whole.machine(whole.host_factor())]
