import time
from pathlib import Path

from hack.lab import measure, picture
from tests.e2e.live import Live


def test_the_picture_goes_native_at_a_key_and_comes_back_at_a_key(live: Live, tmp_path: Path) -> None:
    """The stream survives, the status says why it is not compressed, and nothing that is decoded is broken."""
    lives = live.bridge.lives()
    live.watch(1)
    went_ns = time.time_ns()
    live.ai_core.scale(0)
    try:
        degraded = live.bridge.wait_condition("Degraded", true=True, timeout_s=30)
    finally:
        live.ai_core.scale(1)
        live.ai_core.wait_ready(1)
    live.bridge.wait_mode("compress", timeout_s=60)
    seen, _ = live.watch(3)

    after = [frame for frame in seen.received.frames if frame.last_arrived_ns >= went_ns]
    native, again = [run for run in measure.runs(after) if run.frames > 1][-2:]
    assert degraded is not None
    assert degraded["reason"] == "AICoreUnavailable"
    assert (native.native, again.native) == (True, False)
    for run in (native, again):
        assert run.first.extension is not None
        assert run.first.extension.key
    assert measure.longest_silence_ms(after) < 2500
    assert all(frame.complete for frame in after[:-1])
    assert live.bridge.lives() == lives

    snapshot = live.stage.snapshot((after[-10].timestamp - seen.received.frames[0].timestamp) / 90_000, tmp_path)
    assert picture.decode_strictly(snapshot).clean
