"""What one video stream does, by example."""

import pytest
from auralink_dataplane.media.frames import Advice, Disposition, Extension, Result
from auralink_dataplane.media.pipeline import Failure, Limits, Refusal, State
from auralink_dataplane.media.pipeline import decisions as act
from auralink_dataplane.media.pipeline.times import FULL_REST_S, OPEN_S
from auralink_dataplane.policy import Compression

from tests.unit.dataplane.pipeline.rig import FRAME_S, Rig, sent

# --- beginning -----------------------------------------------------------------------------------------------


def test_a_stream_compresses_from_its_first_key_on() -> None:
    rig = Rig()
    rig.opened()
    rig.round(3, key_first=True)
    assert sent(rig) == "Ooo"
    assert rig.state() is State.COMPRESS


def test_frames_wait_for_the_session_to_open() -> None:
    rig = Rig()
    rig.frame(key=True)
    rig.frame()
    assert not rig.did(act.Send)
    rig.opened()
    assert [one.frame.frame_id for one in rig.core.sends] == [0, 1]


@pytest.mark.parametrize("why", list(Refusal))
def test_waiting_frames_go_native_when_the_session_is_refused(why: Refusal) -> None:
    rig = Rig()
    rig.frame(key=True)
    rig.frame()
    rig.run(rig.pipeline.refused(rig.pipeline.session, why, rig.now))
    rig.frame()
    assert sent(rig) == "Nnn"
    assert rig.state() is State.BYPASS


def test_frames_do_not_wait_longer_than_the_timeout_for_a_slow_session() -> None:
    rig = Rig()
    rig.frame(key=True)
    rig.wait(0.25)
    rig.frame()
    assert sent(rig) == "Nn"
    rig.opened()
    rig.round(2, key_first=True)
    assert sent(rig) == "NnOo"
    assert rig.pipeline.fallback is None


def test_a_burst_before_the_session_is_open_goes_native_and_costs_no_failure() -> None:
    rig = Rig()
    for number in range(20):
        rig.frame(key=number == 0)
    assert sent(rig) == "N" + 19 * "n"
    assert rig.pipeline.fallback is None
    rig.opened()
    rig.round(2, key_first=True)
    assert sent(rig) == "N" + 19 * "n" + "Oo"


def test_a_session_that_fails_before_the_first_frame_does_not_cost_the_first_key() -> None:
    rig = Rig()
    rig.run(rig.pipeline.failed(rig.pipeline.session, Failure.UNREACHABLE, rig.now))
    rig.frame(key=True)
    rig.frame()
    assert sent(rig) == "Nn"


def test_a_session_that_never_opens_fails_and_is_opened_again() -> None:
    rig = Rig()
    first = rig.pipeline.session
    rig.wait(OPEN_S + 1.1)
    assert rig.pipeline.session == first + 1
    assert act.CloseSession(first, Failure.TIMEOUT) in rig.done


def test_an_unsupported_stream_stays_native_without_degraded_flag_or_retry() -> None:
    rig = Rig()
    rig.run(rig.pipeline.refused(rig.pipeline.session, Refusal.UNSUPPORTED, rig.now))
    session = rig.pipeline.session
    rig.wait(1000)
    rig.run(rig.pipeline.available(rig.now))
    assert rig.pipeline.session == session
    assert not rig.source.degraded
    assert rig.pipeline.fallback is None


def test_an_unsupported_stream_is_tried_again_under_another_policy() -> None:
    rig = Rig()
    session = rig.pipeline.session
    rig.run(rig.pipeline.refused(session, Refusal.UNSUPPORTED, rig.now))
    rig.run(rig.pipeline.configure(Compression(target_savings_percent=20), Limits(), rig.now))
    assert rig.pipeline.session == session + 1
    rig.opened()
    rig.round(2, key_first=True)
    assert sent(rig) == "Oo"


def test_a_full_core_is_asked_again_after_its_rest() -> None:
    rig = Rig()
    session = rig.pipeline.session
    rig.run(rig.pipeline.refused(session, Refusal.FULL, rig.now))
    assert rig.source.degraded
    rig.wait(FULL_REST_S + 0.1)
    assert rig.pipeline.session == session + 1


def test_policy_off_never_opens_a_session() -> None:
    rig = Rig(Compression(mode="Disabled"))
    rig.frame(key=True)
    rig.frame()
    assert sent(rig) == "Nn"
    assert not rig.did(act.OpenSession)
    assert not rig.source.extension


def test_a_sender_that_may_reorder_is_watched_first() -> None:
    rig = Rig()
    rig.opened()
    rig.source.may_reorder = True
    rig.frame(key=True)
    rig.answer()
    assert rig.state() is State.SHADOW
    rig.round(10)
    assert set(sent(rig)) == {"N", "n"}
    rig.round(40)
    assert rig.state() is State.COMPRESS
    assert "nOooo" in sent(rig)
    assert not rig.source.garbage


def test_a_probe_starts_decode_only_and_proves_itself_by_thirty_answers_in_time() -> None:
    rig = Rig()
    rig.frame(key=True)
    rig.opened(probe=True)
    rig.answer()
    rig.round(28)
    assert not rig.did(act.Proven)
    rig.round(1)
    assert rig.did(act.Proven)
    rig.round(5)
    assert rig.state() is State.COMPRESS


def test_late_answers_do_not_prove_anything() -> None:
    rig = Rig()
    rig.frame(key=True)
    rig.opened(probe=True)
    for _ in range(60):
        rig.wait(FRAME_S)
        rig.answer()
        rig.frame()
    assert not rig.did(act.Proven)
    assert rig.state() is State.SHADOW


# --- answers -------------------------------------------------------------------------------------------------


def test_the_answer_goes_out_with_its_extension(compressing: Rig) -> None:
    last = compressing.source.sent[-1]
    assert last.extension == Extension(400, 950, 0, 0).pack()
    assert compressing.source.sent[0].extension == Extension(400, 950, 0, 0x02).pack()


def test_a_skipped_picture_leaves_no_gap_behind(compressing: Rig) -> None:
    compressing.frame()
    compressing.answer(Disposition.SKIPPED)
    compressing.round(1)
    assert sent(compressing) == "Ooooo" + "o"


def test_a_deadline_is_what_is_left_since_the_frame_was_complete() -> None:
    rig = Rig()
    rig.opened()
    rig.frame(key=True)
    rig.frame()
    deadlines = [one.deadline_ms for one in rig.core.sends]
    assert deadlines == [33, 20]


def test_the_sender_is_asked_for_a_key_where_the_core_cannot_decode(compressing: Rig) -> None:
    compressing.frame()
    send = compressing.core.sends[0]
    result = Result(send.frame.frame_id, Disposition.SKIPPED, need_key=True)
    compressing.run(compressing.pipeline.result(compressing.pipeline.session, result, compressing.now))
    assert compressing.source.key_requests == 1
    assert compressing.state() is State.COMPRESS


def test_unchanged_at_a_native_key_goes_to_shadow_and_back_on_advice(compressing: Rig) -> None:
    compressing.frame(key=True)
    compressing.answer(Disposition.UNCHANGED)
    compressing.round(3)
    assert compressing.state() is State.SHADOW
    assert sent(compressing) == "OooooNnnn"
    compressing.frame()
    compressing.answer(advice=Advice.COMPRESS)
    compressing.round(4)
    assert compressing.state() is State.COMPRESS
    assert not compressing.source.garbage
    assert sent(compressing).endswith("Ooo")


def test_advice_native_keeps_compressing_until_the_sender_gives_a_key(compressing: Rig) -> None:
    compressing.frame()
    compressing.answer(advice=Advice.NATIVE)
    compressing.round(3)
    assert compressing.source.key_requests == 1
    assert sent(compressing) == "Ooooo" + "oooo"
    compressing.round(3, key_first=True)
    assert compressing.state() is State.SHADOW
    assert sent(compressing).endswith("Nnn")
    compressing.round(100)
    assert compressing.state() is State.SHADOW  # go/no-go is the core's: only its advice brings it back
    assert compressing.pipeline.fallback is None


def test_unchanged_off_a_key_breaks_the_contract(compressing: Rig) -> None:
    compressing.frame()
    compressing.answer(Disposition.UNCHANGED)
    assert compressing.state() is State.HOLD
    assert act.CloseSession(compressing.pipeline.session, Failure.INVARIANT) in compressing.done


def test_a_first_answer_without_key_breaks_the_contract() -> None:
    rig = Rig()
    rig.opened()
    rig.frame(key=True)
    rig.core.ours = True
    send = rig.core.sends[0]
    result = Result(send.frame.frame_id, Disposition.COMPRESSED, b"p")
    rig.run(rig.pipeline.result(rig.pipeline.session, result, rig.now))
    assert act.CloseSession(1, Failure.INVARIANT) in rig.done
    assert sent(rig) == "N"  # nothing of ours was out: no freeze


def test_answers_out_of_order_break_the_contract(compressing: Rig) -> None:
    compressing.frame()
    compressing.frame()
    compressing.core.waiting.popleft()
    compressing.answer()
    assert compressing.state() is State.HOLD


def test_a_compressed_answer_to_a_shadow_frame_breaks_the_contract() -> None:
    rig = Rig()
    rig.frame(key=True)
    rig.opened(probe=True)
    rig.answer(Disposition.COMPRESSED)
    assert rig.state() is State.BYPASS
    rig.frame()
    assert sent(rig) == "Nn"


# --- keys ----------------------------------------------------------------------------------------------------


def test_a_receivers_key_request_becomes_a_forced_key_at_most_twice_a_second(compressing: Rig) -> None:
    for _ in range(5):
        compressing.run(compressing.pipeline.key_wanted(compressing.now))
        compressing.wait(0.05)
    assert len(compressing.did(act.ForceKey)) == 1
    compressing.wait(0.5)
    assert len(compressing.did(act.ForceKey)) == 2
    assert compressing.source.key_requests == 0


def test_a_receivers_key_request_goes_upstream_when_native() -> None:
    rig = Rig(Compression(mode="Disabled"))
    rig.run(rig.pipeline.key_wanted(rig.now))
    assert rig.source.key_requests == 1


def test_a_receivers_key_request_changes_nothing_while_frozen(compressing: Rig) -> None:
    compressing.run(compressing.pipeline.failed(compressing.pipeline.session, Failure.LOST, compressing.now))
    before = compressing.source.key_requests
    compressing.run(compressing.pipeline.key_wanted(compressing.now))
    assert compressing.source.key_requests == before


# --- policy, notices, the end --------------------------------------------------------------------------------


def test_a_new_target_reaches_the_live_session(compressing: Rig) -> None:
    policy = Compression(target_savings_percent=20)
    compressing.run(compressing.pipeline.configure(policy, Limits(), compressing.now))
    assert act.UpdatePolicy(1, policy) in compressing.done
    assert compressing.state() is State.COMPRESS


def test_switching_the_policy_off_compresses_on_until_a_native_key(compressing: Rig) -> None:
    compressing.run(compressing.pipeline.configure(Compression(mode="Disabled"), Limits(), compressing.now))
    compressing.round(2)
    compressing.frame(key=True)
    compressing.frame()
    assert sent(compressing) == "Ooooo" + "oo" + "Nn"
    assert act.CloseSession(1, None) in compressing.done
    assert not compressing.source.extension


def test_frames_in_flight_at_a_switch_by_choice_still_get_their_answers(compressing: Rig) -> None:
    compressing.run(compressing.pipeline.configure(Compression(mode="Disabled"), Limits(), compressing.now))
    compressing.frame()
    compressing.frame(key=True)
    assert not compressing.did(act.CloseSession)
    compressing.answer()
    assert sent(compressing) == "Ooooo" + "o" + "N"
    assert act.CloseSession(1, None) in compressing.done


def test_a_failure_after_the_switch_by_choice_costs_only_the_frames_in_flight(compressing: Rig) -> None:
    compressing.run(compressing.pipeline.configure(Compression(mode="Disabled"), Limits(), compressing.now))
    compressing.frame()
    compressing.frame(key=True)
    compressing.run(compressing.pipeline.failed(1, Failure.LOST, compressing.now))
    compressing.frame()
    assert sent(compressing) == "Ooooo" + "Nn"


def test_switching_the_policy_on_starts_at_the_next_native_key() -> None:
    rig = Rig(Compression(mode="Disabled"))
    rig.frame(key=True)
    rig.run(rig.pipeline.configure(Compression(), Limits(), rig.now))
    rig.opened()
    rig.frame()
    rig.round(2, key_first=True)
    assert sent(rig) == "NnOo"


def test_off_and_on_again_before_a_key_goes_on_compressing(compressing: Rig) -> None:
    for mode in ("Disabled", "Auto"):
        compressing.run(compressing.pipeline.configure(Compression(mode=mode), Limits(), compressing.now))
    compressing.round(3, key_first=True)
    assert sent(compressing) == "Ooooo" + "Ooo"


def test_a_policy_switched_on_again_with_another_target_reaches_the_session_that_stayed(compressing: Rig) -> None:
    policy = Compression(mode="Auto", target_savings_percent=20)
    for one in (Compression(mode="Disabled"), policy):
        compressing.run(compressing.pipeline.configure(one, Limits(), compressing.now))
    assert compressing.done[-1] == act.UpdatePolicy(1, policy)


def test_a_draining_core_is_left_at_a_key_and_another_session_opened(compressing: Rig) -> None:
    compressing.run(compressing.pipeline.draining(1, compressing.now))
    compressing.round(1)
    compressing.frame(key=True)
    assert act.CloseSession(1, None) in compressing.done
    assert compressing.pipeline.session > 1
    compressing.opened()
    compressing.round(2)
    compressing.round(2, key_first=True)
    assert sent(compressing) == "Ooooo" + "o" + "N" + "nn" + "Oo"
    assert compressing.pipeline.fallback is None


def test_a_shed_shadow_session_is_not_a_failure() -> None:
    rig = Rig()
    rig.frame(key=True)
    rig.opened(probe=True)
    rig.run(rig.pipeline.shed(1, rig.now))
    assert act.CloseSession(1, None) in rig.done
    rig.frame()
    assert sent(rig) == "Nn"


def test_the_end_of_the_stream_ends_its_session(compressing: Rig) -> None:
    compressing.run(compressing.pipeline.close())
    assert act.CloseSession(1, None) in compressing.done


def test_a_picture_skipped_while_receivers_hold_native_references_goes_native(compressing: Rig) -> None:
    """Left out it would end their run: nothing could follow before the sender's next key."""
    compressing.frame(key=True)
    compressing.frame()
    compressing.answer(Disposition.UNCHANGED)
    compressing.answer(Disposition.SKIPPED)
    before = len(compressing.source.sent)
    compressing.round(20)
    assert len(compressing.source.sent) == before + 20
    assert compressing.source.refused == 0
