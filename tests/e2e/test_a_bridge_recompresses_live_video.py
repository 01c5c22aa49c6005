import pytest

from hack.lab.measure import LATE_SHARE
from tests.e2e.live import Live


def test_a_live_stream_leaves_smaller_by_the_target_and_whole(live: Live) -> None:
    """40 % of the bytes within five points, hardly a picture skipped, audio untouched, every frame marked."""
    seen, crossed = live.watch_undisturbed(12)

    assert crossed.saved_percent == pytest.approx(40, abs=5)
    assert crossed.missing <= LATE_SHARE * crossed.frames_in
    assert (crossed.incomplete, crossed.unmarked) == (0, 0)
    assert (seen.received.lost, seen.received.reordered, len(seen.received.ssrcs)) == (0, 0, 1)
    assert seen.received.largest_packet <= 1200
    assert 0 < seen.audio.sent == seen.audio.same
    assert seen.reports > 0, "RTCP sender reports"


def test_the_bridge_reports_what_it_does(live: Live) -> None:
    """Pods, rooms and sessions in the resource, for whoever looks with kubectl."""
    status = live.bridge.status()

    assert (status["readyReplicas"], status["rooms"], status["sessions"]) == (1, 1, 1)
    assert status["config"]["ackedGeneration"] == status["config"]["desiredGeneration"]
