"""What one video stream does when its session, or the AI Core behind it, fails."""

import pytest
from auralink_dataplane.media.pipeline import Failure, Limits, Pipeline, Refusal, State
from auralink_dataplane.media.pipeline import decisions as act
from auralink_dataplane.policy import Compression

from tests.unit.dataplane.pipeline.rig import FRAME_S, Rig, sent


@pytest.mark.parametrize("failure", list(Failure))
def test_a_failure_freezes_until_a_native_key(compressing: Rig, failure: Failure) -> None:
    compressing.frame()
    compressing.run(compressing.pipeline.failed(compressing.pipeline.session, failure, compressing.now))
    assert compressing.state() is State.HOLD
    assert compressing.source.key_requests == 1
    compressing.frame()
    assert sent(compressing) == "Ooooo"
    compressing.frame(key=True)
    compressing.frame()
    assert sent(compressing) == "OooooNn"
    assert compressing.state() is State.BYPASS
    assert compressing.pipeline.fallback == failure.value
    assert compressing.source.degraded


def test_no_answer_within_the_timeout_is_a_failure(compressing: Rig) -> None:
    compressing.frame()
    compressing.wait(0.09)
    assert compressing.state() is State.COMPRESS
    compressing.wait(0.02)
    assert compressing.state() is State.HOLD
    assert compressing.pipeline.fallback == "timeout"


def test_a_key_may_take_twice_as_long_and_nobody_behind_it_is_late_before(compressing: Rig) -> None:
    compressing.frame(key=True)
    compressing.wait(FRAME_S)
    compressing.frame()
    compressing.wait(0.15)
    assert compressing.state() is State.COMPRESS
    compressing.wait(0.02)
    assert compressing.state() is State.HOLD


def test_too_many_unanswered_frames_are_a_failure() -> None:
    rig = Rig()
    rig.opened(max_in_flight=4)
    rig.frame(key=True)
    for _ in range(4):
        rig.frame()
    assert rig.pipeline.fallback == "overflow"
    assert sent(rig) == "Nnnnn"


def test_the_key_request_is_repeated_while_the_picture_is_frozen(compressing: Rig) -> None:
    compressing.run(compressing.pipeline.failed(compressing.pipeline.session, Failure.LOST, compressing.now))
    compressing.wait(0.9)
    assert compressing.source.key_requests == 1
    compressing.wait(1.2)
    assert compressing.source.key_requests == 3


def test_results_of_an_old_session_are_dropped(compressing: Rig) -> None:
    compressing.frame()
    old = compressing.pipeline.session
    result = compressing.core.answer()
    compressing.run(compressing.pipeline.failed(old, Failure.LOST, compressing.now))
    before = sent(compressing)
    compressing.run(compressing.pipeline.result(old, result, compressing.now))
    assert sent(compressing) == before


def test_sessions_reopen_after_1_2_4_up_to_60_seconds() -> None:
    rig = Rig()
    gaps = []
    for _ in range(8):
        failed_at = rig.now
        rig.run(rig.pipeline.failed(rig.pipeline.session, Failure.UNREACHABLE, rig.now))
        opened = len(rig.did(act.OpenSession))
        while len(rig.did(act.OpenSession)) == opened:
            rig.wait(0.5)
        gaps.append(round(rig.now - failed_at))
    assert gaps == [1, 2, 4, 8, 16, 32, 60, 60]


def test_an_endpoint_that_comes_back_ends_the_wait() -> None:
    rig = Rig()
    for _ in range(6):
        rig.run(rig.pipeline.failed(rig.pipeline.session, Failure.UNREACHABLE, rig.now))
        rig.run(rig.pipeline.available(rig.now))
    assert rig.pipeline.session == 7


def test_after_a_failure_thirty_answers_in_time_lead_back_to_compression(compressing: Rig) -> None:
    compressing.run(compressing.pipeline.failed(compressing.pipeline.session, Failure.LOST, compressing.now))
    compressing.wait(1.1)
    compressing.opened()
    compressing.round(30, key_first=True)
    assert compressing.state() is State.SHADOW
    assert compressing.pipeline.fallback == "lost"
    compressing.round(10)
    assert compressing.state() is State.COMPRESS
    assert compressing.pipeline.fallback is None
    assert not compressing.source.garbage
    assert "nO" in sent(compressing)


def test_a_sender_without_keys_is_asked_for_one_after_ten_seconds(compressing: Rig) -> None:
    compressing.run(compressing.pipeline.failed(compressing.pipeline.session, Failure.LOST, compressing.now))
    compressing.frame(key=True)
    compressing.wait(1.1)
    compressing.opened()
    before = compressing.source.key_requests
    compressing.wait(9.9)
    assert compressing.source.key_requests == before
    compressing.wait(0.2)
    assert compressing.source.key_requests == before + 1


def test_frames_lost_before_the_pipeline_freeze_until_a_key(compressing: Rig) -> None:
    compressing.packets.hold(compressing.stream)
    compressing.run(compressing.pipeline.overflowed(compressing.now))
    assert compressing.state() is State.HOLD
    assert act.CloseSession(1, Failure.PACKETS) in compressing.done


def test_a_refused_submit_ends_the_session(compressing: Rig) -> None:
    compressing.run(
        compressing.pipeline.submit_refused(compressing.source.next_id - 1, compressing.now, malformed=False)
    )
    assert compressing.state() is State.HOLD


def test_a_refusal_that_was_under_way_is_none_of_the_next_sessions(compressing: Rig) -> None:
    last = compressing.source.next_id - 1
    compressing.run(compressing.pipeline.draining(compressing.pipeline.session, compressing.now))
    compressing.round(1, key_first=True)
    session = compressing.pipeline.session
    assert session > 1
    compressing.run(compressing.pipeline.submit_refused(last, compressing.now, malformed=False))
    assert act.CloseSession(session, Failure.PACKETS) not in compressing.done
    compressing.opened()
    compressing.run(compressing.pipeline.submit_refused(compressing.source.next_id, compressing.now, malformed=False))
    assert act.CloseSession(session, Failure.PACKETS) in compressing.done


def test_a_stream_whose_commands_were_lost_gets_its_mode_again(compressing: Rig) -> None:
    compressing.run(compressing.pipeline.failed(compressing.pipeline.session, Failure.LOST, compressing.now))
    compressing.frame(key=True)
    assert compressing.state() is State.BYPASS
    compressing.source.pending = None  # never got there
    compressing.packets.hold(compressing.stream)
    compressing.run(compressing.pipeline.overflowed(compressing.now))
    sent_before = len(compressing.source.sent)
    compressing.frame()
    compressing.frame(key=True)
    assert len(compressing.source.sent) == sent_before + 1


def test_an_ai_core_may_be_away_for_days_and_the_stream_tries_it_again() -> None:
    rig = Rig()
    while rig.pipeline.session < 3000:
        before = rig.pipeline.session
        rig.wait(90.0)
        assert rig.pipeline.session > before
        rig.done.clear()
    rig.run(rig.pipeline.available(rig.now))
    rig.opened()
    rig.round(60, key_first=True)
    rig.round(2, key_first=True)
    assert rig.state() is State.COMPRESS


@pytest.mark.parametrize("refused", [True, False])
def test_streams_that_lose_their_sessions_together_come_back_one_by_one(refused: bool) -> None:
    waits = set()
    for number in range(11):
        pipeline = Pipeline(Compression(), Limits(), number / 10)
        pipeline.start(0.0)
        if refused:
            pipeline.refused(pipeline.session, Refusal.FULL, 0.0)
        else:
            pipeline.failed(pipeline.session, Failure.LOST, 0.0)
        again = pipeline.next_tick()
        assert again is not None
        waits.add(again)
    first, last = (4.0, 6.0) if refused else (0.8, 1.2)
    assert (min(waits), max(waits), len(waits)) == (first, last, 11)
