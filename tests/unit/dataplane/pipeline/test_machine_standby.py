"""A stream with a second session beside its own: how that is kept, and how it goes on when the first one ends."""

from dataclasses import replace

import pytest
from auralink_dataplane.media.frames import Disposition
from auralink_dataplane.media.pipeline import Failure, Limits, Refusal, State, Takeover
from auralink_dataplane.media.pipeline import decisions as act
from auralink_dataplane.media.pipeline.references import SKIPPING_S
from auralink_dataplane.policy import Compression

from tests.unit.dataplane.pipeline.rig import FRAME_S, Rig, broken_chains, sent

STANDBY = Limits(standby=True)


@pytest.fixture
def warm() -> Rig:
    """Compressing, with a standby that has seen everything: "Ooooo" went out, of session 1."""
    rig = Rig(limits=STANDBY, endpoints=2)
    rig.opened()
    rig.opened(standby=True)
    rig.round(5, key_first=True)
    assert rig.pipeline.standby.ready
    return rig


def outcomes(rig: Rig) -> list[Takeover]:
    return [one.outcome for one in rig.done if isinstance(one, act.TookOver)]


def closed(rig: Rig) -> list[Failure | None]:
    return [one.failure for one in rig.done if isinstance(one, act.CloseSession)]


def whole(rig: Rig) -> None:
    """Nothing is broken, nothing is owed, and no frame was answered twice."""
    assert not rig.source.garbage
    assert not broken_chains(rig)
    assert not rig.owed
    assert max(rig.answers.values()) == 1


# --- how it is kept ------------------------------------------------------------------------------------------


def test_a_standby_sees_every_frame_from_the_first_key_on_and_answers_for_none(warm: Rig) -> None:
    modes = [one.mode.name for one in warm.done if isinstance(one, act.Send) and one.session == warm.second.session]
    assert modes == ["SHADOW"] * 5
    assert sent(warm) == "Ooooo"


def test_without_the_bridges_wish_there_is_none() -> None:
    rig = Rig(endpoints=2)
    rig.opened()
    rig.round(5, key_first=True)
    assert not rig.pipeline.standby.live
    assert len(rig.did(act.OpenSession)) == 1


def test_the_wish_may_come_and_go_while_the_stream_lives(warm: Rig) -> None:
    second = warm.second.session
    warm.run(warm.pipeline.configure(Compression(), Limits(), warm.now))
    assert act.CloseSession(second, None) in warm.done
    warm.run(warm.pipeline.configure(Compression(), STANDBY, warm.now))
    assert warm.second.session > second


def test_one_that_finds_no_place_is_looked_for_again_and_at_once_when_an_endpoint_comes() -> None:
    rig = Rig(limits=STANDBY, endpoints=1)
    rig.opened()
    rig.round(1, key_first=True)
    assert not rig.pipeline.standby.live
    rig.endpoints = 2
    rig.wait(4)
    assert not rig.pipeline.standby.live
    rig.run(rig.pipeline.available(rig.now))
    rig.wait(0.001)
    assert rig.pipeline.standby.live


def test_one_that_comes_amid_pictures_waits_for_a_key_and_asks_for_one_in_the_end() -> None:
    rig = Rig(limits=STANDBY, endpoints=2)
    rig.opened()
    rig.round(1, key_first=True)
    rig.fail(standby=True)
    rig.wait(1.1)
    rig.opened(standby=True)
    asked = rig.source.key_requests
    rig.round(290)
    assert rig.source.key_requests == asked
    assert not rig.second.waiting
    rig.round(20)
    assert rig.source.key_requests == asked + 1
    rig.round(1, key_first=True)
    assert rig.pipeline.standby.ready


def test_its_own_failures_touch_nothing_and_it_comes_back_after_1_2_4_seconds(warm: Rig) -> None:
    gaps = []
    for _ in range(4):
        failed_at = warm.now
        warm.fail(standby=True)
        while not warm.pipeline.standby.live:
            warm.round(1)
        gaps.append(round(warm.now - failed_at))
    assert gaps == [1, 2, 4, 8]
    assert warm.state() is State.COMPRESS
    assert set(sent(warm)[1:]) == {"o"}
    whole(warm)


@pytest.mark.parametrize("what", ["late", "out of order", "ours", "failed", "input", "silent opening", "overflow"])
def test_one_that_does_not_keep_its_word_is_closed(warm: Rig, what: str) -> None:
    second = warm.second.session
    match what:
        case "late":
            warm.frame()
            warm.answer()
            warm.wait(0.11)
        case "out of order":
            warm.frame()
            warm.frame()
            warm.second.waiting.rotate(1)
            warm.answer(standby=True)
        case "ours":
            warm.frame()
            warm.answer(Disposition.COMPRESSED, standby=True)
        case "failed" | "input":
            warm.frame()
            warm.answer(Disposition.FAILED, standby=True, need_key=what == "input")
        case "silent opening":
            warm.fail(standby=True)
            warm.wait(1.1)
            second = warm.second.session
            warm.wait(2.1)
        case "overflow":
            for _ in range(16):
                warm.frame()
                warm.answer()
    closed = [one.failure for one in warm.done if isinstance(one, act.CloseSession) and one.session == second]
    expected = {"late": "TIMEOUT", "failed": "FAILED", "input": "INPUT", "silent opening": "TIMEOUT"}
    assert closed == [Failure[expected.get(what, "OVERFLOW" if what == "overflow" else "INVARIANT")]]
    while warm.core.waiting:
        warm.answer()
    assert warm.state() is State.COMPRESS
    whole(warm)


def test_shed_it_rests_for_five_seconds(warm: Rig) -> None:
    warm.run(warm.pipeline.shed(warm.second.session, warm.now))
    warm.round(145)
    assert not warm.pipeline.standby.live
    warm.round(10)
    assert warm.pipeline.standby.live


def test_it_ends_where_the_stream_leaves_compression_by_choice_and_with_the_stream(warm: Rig) -> None:
    second = warm.second.session
    warm.run(warm.pipeline.configure(Compression(mode="Disabled"), STANDBY, warm.now))
    assert warm.pipeline.standby.live
    warm.round(2, key_first=True)
    assert act.CloseSession(second, None) in warm.done
    assert sent(warm) == "Ooooo" + "Nn"
    warm.run(warm.pipeline.configure(Compression(), STANDBY, warm.now))
    warm.opened()
    warm.round(1, key_first=True)
    third = warm.second.session
    warm.run(warm.pipeline.close())
    assert act.CloseSession(third, None) in warm.done


def test_on_probation_it_proves_its_endpoint_before_it_is_relied_on() -> None:
    rig = Rig(limits=STANDBY, endpoints=2)
    rig.opened()
    rig.opened(standby=True, probe=True)
    rig.round(29, key_first=True)
    assert not rig.pipeline.standby.ready
    rig.round(1)
    assert rig.pipeline.standby.ready
    assert act.Proven(rig.second.session) in rig.done


# --- how it goes on ------------------------------------------------------------------------------------------

CORES_FAULT = [failure for failure in Failure if failure.blames_core]


@pytest.mark.parametrize("failure", CORES_FAULT)
def test_with_nothing_unanswered_the_next_frame_is_the_standbys_own_key(warm: Rig, failure: Failure) -> None:
    second = warm.second.session
    warm.fail(failure)
    assert warm.state() is State.COMPRESS
    assert warm.pipeline.session == second
    assert act.Promote(second, picture=False) in warm.done
    warm.round(2)
    assert sent(warm) == "Ooooo" + "Oo"
    assert outcomes(warm) == [Takeover.NEXT_FRAME]
    assert warm.source.key_requests == 0
    assert warm.pipeline.fallback is None
    whole(warm)


def test_with_one_unanswered_it_is_answered_with_the_key_of_its_own_picture(warm: Rig) -> None:
    warm.frame()
    warm.answer(standby=True)
    warm.fail()
    assert sent(warm) == "Ooooo"
    warm.answer_all()
    assert sent(warm) == "Ooooo" + "O"
    assert warm.source.sent[-1].frame_id == 5
    warm.round(1)
    assert sent(warm) == "Ooooo" + "Oo"
    assert outcomes(warm) == [Takeover.PROMOTED]
    whole(warm)


def test_with_several_unanswered_the_newest_is_answered_and_the_others_dropped(warm: Rig) -> None:
    for _ in range(3):
        warm.frame()
    warm.fail()  # the standby has not answered them either: it will, in front of the promoted key
    warm.frame()
    assert [one.frame_id for one in warm.done if isinstance(one, act.Drop)] == [5, 6]
    warm.answer_all()
    assert [one.frame_id for one in warm.source.sent] == [0, 1, 2, 3, 4, 7, 8]
    assert sent(warm) == "Ooooo" + "Oo"
    whole(warm)


def test_a_picture_older_than_the_frame_that_waits_goes_out_for_it(warm: Rig) -> None:
    """The last frames showed nothing: what the standby has is the picture before them."""
    warm.frame()
    warm.fail()
    warm.answer()
    warm.core.picture = 4
    warm.answer()
    assert warm.source.sent[-1].frame_id == 5
    warm.round(1)
    assert sent(warm) == "Ooooo" + "Oo"
    whole(warm)


def test_a_promotion_from_the_future_is_a_failure(warm: Rig) -> None:
    warm.frame()
    warm.fail()
    warm.answer()
    warm.core.picture = 6
    warm.answer()
    assert warm.state() is State.HOLD
    assert outcomes(warm) == [Takeover.FAILED]


def test_a_sender_key_that_waits_is_answered_too(warm: Rig) -> None:
    warm.frame(key=True)
    warm.fail()
    warm.answer_all()
    warm.round(1)
    assert sent(warm) == "Ooooo" + "Oo"
    whole(warm)


def test_without_a_picture_it_drops_and_goes_on_at_the_senders_key(warm: Rig) -> None:
    warm.frame()
    warm.fail()
    warm.answer()
    warm.answer(Disposition.SKIPPED, need_key=True)
    assert warm.source.key_requests == 1
    warm.frame()
    warm.answer(Disposition.SKIPPED, need_key=True)
    warm.round(2, key_first=True)
    assert sent(warm) == "Ooooo" + "Oo"
    whole(warm)


@pytest.mark.parametrize("what", ["not fed", "still opening", "wants a key", "on probation", "nowhere"])
def test_one_that_is_not_ready_leaves_the_picture_frozen_until_a_native_key(warm: Rig, what: str) -> None:
    if what == "wants a key":
        warm.frame()
        warm.answer()
        warm.answer(standby=True, need_key=True)
    else:
        warm.endpoints = 1 if what == "nowhere" else 2
        warm.fail(standby=True)
        warm.wait(1.1)
        if what in ("not fed", "on probation"):
            warm.opened(standby=True, probe=what == "on probation")
        warm.round(1, key_first=what == "on probation")
    before = sent(warm)
    warm.frame()
    warm.fail()
    assert warm.state() is State.HOLD
    assert warm.source.key_requests == 1
    assert outcomes(warm) == [Takeover.NOT_READY]
    assert not warm.pipeline.standby.live
    warm.frame()
    warm.frame(key=True)
    assert sent(warm) == before + "N"
    whole(warm)


def test_a_promotion_that_is_not_answered_in_time_leaves_the_picture_frozen_until_a_native_key(warm: Rig) -> None:
    warm.frame()
    warm.answer(standby=True)
    warm.fail()
    warm.wait(0.09)
    assert warm.state() is State.COMPRESS
    warm.wait(0.02)
    assert warm.state() is State.HOLD
    assert outcomes(warm) == [Takeover.FAILED]
    warm.round(1, key_first=True)
    assert sent(warm) == "Ooooo" + "N"
    whole(warm)


def test_when_both_hang_the_standby_is_given_up_first(warm: Rig) -> None:
    warm.frame()
    warm.wait(0.11)
    assert warm.state() is State.HOLD
    assert outcomes(warm) == [Takeover.NOT_READY]


def test_a_hang_is_over_when_its_timeout_is(warm: Rig) -> None:
    for _ in range(3):
        warm.frame()
        warm.answer(standby=True)
        warm.wait(FRAME_S)
    warm.wait(0.01)
    warm.answer_all()
    assert sent(warm) == "Ooooo" + "O"
    assert outcomes(warm) == [Takeover.PROMOTED]
    whole(warm)


def test_a_hang_longer_than_the_packet_core_holds_frames_is_a_failure_before_it_overflows() -> None:
    rig = Rig(limits=Limits(timeout_s=1.0, standby=True), endpoints=2)
    rig.opened()
    rig.opened(standby=True)
    rig.round(5, key_first=True)
    for _ in range(16):
        rig.frame()
        while rig.pipeline.standby.live and rig.second.waiting:
            rig.answer(standby=True)
    rig.answer_all()
    assert rig.pipeline.fallback is None
    assert sent(rig) == "Ooooo" + "O"
    whole(rig)


@pytest.mark.parametrize("failure", [Failure.INPUT, Failure.PACKETS])
def test_what_the_standby_suffers_from_too_is_no_reason_to_go_there(warm: Rig, failure: Failure) -> None:
    warm.fail(failure)
    assert warm.state() is State.HOLD
    assert outcomes(warm) == []


def test_results_of_the_old_session_are_stale(warm: Rig) -> None:
    warm.frame()
    old = warm.core
    result = old.answer()
    warm.fail()
    before = sent(warm)
    warm.run(warm.pipeline.result(old.session, result, warm.now))
    warm.run(warm.pipeline.failed(old.session, Failure.LOST, warm.now))
    assert sent(warm) == before
    assert warm.state() is State.COMPRESS


def test_an_inter_frame_where_a_key_is_due_is_a_failure(warm: Rig) -> None:
    warm.fail()
    warm.frame()
    warm.core.ours = True  # it forgot that it has to begin
    warm.answer()
    assert warm.state() is State.HOLD
    assert sent(warm) == "Ooooo"


def test_another_standby_opens_after_a_second_and_is_as_good(warm: Rig) -> None:
    warm.fail()
    warm.round(25)
    assert not warm.pipeline.standby.live
    warm.round(10)
    warm.opened(standby=True)
    warm.round(5, key_first=True)
    warm.fail()
    warm.round(5)
    assert outcomes(warm) == [Takeover.NEXT_FRAME] * 2
    assert set(sent(warm)) == {"O", "o"}
    whole(warm)


def test_a_failure_before_receivers_hold_our_pictures_is_as_without() -> None:
    rig = Rig(limits=STANDBY, endpoints=2)
    rig.opened()
    rig.opened(standby=True)
    rig.frame(key=True)
    rig.answer(standby=True)
    rig.fail()
    rig.frame()
    assert sent(rig) == "Nn"
    assert outcomes(rig) == []
    assert not rig.pipeline.standby.live
    whole(rig)


def test_a_receivers_wish_for_a_key_goes_to_the_one_that_answers_now(warm: Rig) -> None:
    warm.fail()
    warm.round(3)
    warm.run(warm.pipeline.key_wanted(warm.now))
    assert warm.done[-1] == act.ForceKey(warm.pipeline.session)
    warm.round(1)
    assert sent(warm) == "Ooooo" + "Ooo" + "O"


def test_a_stream_that_was_leaving_still_leaves_at_the_next_native_key(warm: Rig) -> None:
    warm.run(warm.pipeline.configure(Compression(mode="Disabled"), STANDBY, warm.now))
    warm.frame()
    warm.fail()
    warm.answer_all()
    warm.round(1)
    warm.round(2, key_first=True)
    assert sent(warm) == "Ooooo" + "Oo" + "Nn"
    assert warm.state() is State.BYPASS
    whole(warm)


# --- moving --------------------------------------------------------------------------------------------------


def test_a_draining_core_is_left_for_the_standby_at_once(warm: Rig) -> None:
    old = warm.pipeline.session
    warm.run(warm.pipeline.draining(old, warm.now))
    assert act.CloseSession(old, None) in warm.done
    warm.round(3)
    assert sent(warm) == "Ooooo" + "Ooo"
    assert warm.source.key_requests == 0
    whole(warm)


@pytest.mark.parametrize("limits", [Limits(), STANDBY])
def test_without_one_it_is_opened_for_the_move(limits: Limits) -> None:
    rig = Rig(limits=Limits(), endpoints=2)
    rig.opened()
    rig.round(5, key_first=True)
    rig.run(rig.pipeline.configure(Compression(), limits, rig.now))
    old = rig.pipeline.session
    rig.run(rig.pipeline.draining(old, rig.now))
    assert rig.source.key_requests == 1
    rig.opened(standby=True)
    rig.round(3)
    assert rig.pipeline.session == old
    rig.round(1, key_first=True)
    assert rig.pipeline.session != old
    rig.round(3)
    assert sent(rig) == "Ooooo" + "ooo" + "O" + "Ooo"
    rig.wait(1.1)
    assert rig.pipeline.standby.live == limits.standby
    whole(rig)


@pytest.mark.parametrize("how", ["refused", "failed", "shed", "nowhere"])
def test_a_move_that_finds_no_place_goes_native_at_the_next_key(how: str) -> None:
    rig = Rig(endpoints=1 if how == "nowhere" else 2)
    rig.opened()
    rig.round(5, key_first=True)
    rig.run(rig.pipeline.draining(rig.pipeline.session, rig.now))
    match how:
        case "refused":
            rig.run(rig.pipeline.refused(rig.second.session, Refusal.FULL, rig.now))
        case "failed":
            rig.fail(standby=True)
        case "shed":
            rig.run(rig.pipeline.shed(rig.second.session, rig.now))
    rig.round(2, key_first=True)
    assert sent(rig) == "Ooooo" + "Nn"
    rig.wait(10)
    assert not rig.pipeline.standby.live
    whole(rig)


def test_a_core_that_ends_before_the_move_freezes_the_picture_until_a_native_key() -> None:
    rig = Rig(endpoints=2)
    rig.opened()
    rig.round(5, key_first=True)
    rig.run(rig.pipeline.draining(rig.pipeline.session, rig.now))
    rig.opened(standby=True)
    rig.fail()
    assert rig.state() is State.HOLD
    rig.round(2, key_first=True)
    assert sent(rig) == "Ooooo" + "Nn"
    whole(rig)


def test_a_standby_whose_core_drains_opens_elsewhere(warm: Rig) -> None:
    second = warm.second.session
    warm.run(warm.pipeline.draining(second, warm.now))
    assert act.CloseSession(second, None) in warm.done
    assert warm.second.session > second
    warm.round(3)
    assert sent(warm) == "Ooooo" + "ooo"
    whole(warm)


def test_receivers_that_take_less_get_a_session_of_their_measure_and_not_the_standby(warm: Rig) -> None:
    old, second = warm.pipeline.session, warm.second.session
    warm.run(warm.pipeline.renew(old, warm.now))
    warm.round(1, key_first=True)
    assert {act.CloseSession(old, None), act.CloseSession(second, None)} <= set(warm.did(act.CloseSession))
    assert sent(warm) == "Ooooo" + "N"


# --- answers that are no pictures ----------------------------------------------------------------------------


def test_an_answer_that_is_no_frame_is_the_cores_fault_and_the_standby_goes_on(warm: Rig) -> None:
    warm.frame()
    warm.answer()
    warm.run(warm.pipeline.submit_refused(warm.source.next_id - 1, warm.now, malformed=True))
    assert warm.state() is State.COMPRESS
    assert closed(warm) == [Failure.INVARIANT]
    warm.round(3)
    assert outcomes(warm) == [Takeover.NEXT_FRAME]


def test_an_answer_without_bytes_is_no_frame(warm: Rig) -> None:
    warm.frame()
    result = warm.core.answer()
    warm.run(warm.pipeline.result(warm.pipeline.session, replace(result, payload=b""), warm.now))
    assert closed(warm) == [Failure.INVARIANT]


def test_a_core_that_skips_every_picture_is_followed_by_the_standby(warm: Rig) -> None:
    """It answers in time, and nobody sees a picture."""
    frames = 0
    while not warm.did(act.Promote) and frames < 5 / FRAME_S:
        warm.frame()
        frames += 1
        warm.answer(standby=True)
        warm.answer(disposition=Disposition.SKIPPED)
        warm.wait(FRAME_S)
    assert SKIPPING_S < frames * FRAME_S < SKIPPING_S + 1
    assert closed(warm) == [Failure.INVARIANT]
