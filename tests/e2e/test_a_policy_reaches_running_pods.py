import pytest

from hack.lab.measure import LATE_SHARE
from tests.e2e.live import Live


def test_a_new_target_is_applied_without_a_restart_and_the_saving_follows(live: Live) -> None:
    lives = live.bridge.lives()

    acknowledged_s = live.bridge.aim(20)
    try:
        _, crossed = live.watch_undisturbed(11)
    finally:
        live.bridge.aim(40)

    assert acknowledged_s < 5
    assert crossed.saved_percent == pytest.approx(20, abs=5)
    assert crossed.missing <= LATE_SHARE * crossed.frames_in
    assert live.bridge.lives() == lives
