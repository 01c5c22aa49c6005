"""What one video stream does: by example, and against random failures with a receiver that notices garbage."""

from collections import deque
from dataclasses import dataclass, field

import pytest
from auralink_dataplane.media import pipeline as act
from auralink_dataplane.media.frames import (
    Advice,
    Disposition,
    Extension,
    Frame,
    Mode,
    ModeApplied,
    Result,
    StreamFailed,
)
from auralink_dataplane.media.pipeline import Decision, Failure, Limits, Pipeline, Refusal, State
from auralink_dataplane.policy import Compression
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.packets import FakePackets, Source

FRAME_S = 1 / 30


@dataclass
class Core:
    """An AI Core that keeps its word: one answer per frame, in order, a key of its own after native frames."""

    waiting: deque[act.Send] = field(default_factory=deque)
    ours: bool = False
    force_key: bool = False

    def answer(
        self, *, disposition: Disposition | None = None, advice: Advice = Advice.KEEP, key: bool = False
    ) -> Result:
        send = self.waiting.popleft()
        if send.mode is Mode.SHADOW:
            self.ours = False
            return Result(send.frame.frame_id, disposition or Disposition.UNCHANGED, advice=advice)
        what = disposition or Disposition.COMPRESSED
        if what is Disposition.COMPRESSED:
            own_key = key or not self.ours or send.frame.key or self.force_key
            self.ours, self.force_key = True, False
            return Result(send.frame.frame_id, what, b"ours", own_key, ratio=400, quality=950, advice=advice)
        if what is Disposition.UNCHANGED:
            self.ours = False
        return Result(send.frame.frame_id, what, advice=advice)


class Rig:
    """A pipeline between the twin of the packet core and a scripted AI Core, in virtual time."""

    def __init__(self, policy: Compression | None = None, limits: Limits | None = None) -> None:
        self.now = 100.0
        self.packets = FakePackets()
        self.stream = self.packets.start_stream(self.packets.open_leg("r", {"media": {}}))
        self.packets.events.clear()
        self.pipeline = Pipeline(policy or Compression(), limits or Limits())
        self.cores: dict[int, Core] = {}
        self.done: list[Decision] = []
        self.run(self.pipeline.start(self.now))

    @property
    def source(self) -> Source:
        return self.packets.sources[self.stream]

    @property
    def core(self) -> Core:
        return self.cores[self.pipeline.session]

    def state(self) -> State:
        return self.pipeline.state

    def run(self, decisions: list[Decision]) -> None:
        for one in decisions:
            self.done.append(one)
            match one:
                case act.Send():
                    self.cores[one.session].waiting.append(one)
                case act.Submit():
                    if not self.packets.submit(self.stream, one.frame_id, one.data, one.extension, one.key):
                        self.run(self.pipeline.submit_refused(self.now))
                case act.SubmitNative():
                    self.packets.submit(self.stream, one.frame_id, None, None, one.key)
                case act.Drop():
                    self.packets.drop(self.stream, one.frame_id)
                case act.SetMode():
                    self.packets.set_mode(
                        self.stream,
                        one.mode,
                        extension=one.extension,
                        degraded=one.degraded,
                        at_frame=one.at_frame,
                    )
                case act.Hold():
                    self.packets.hold(self.stream)
                case act.RequestKey():
                    self.packets.request_key(self.stream)
                case act.ForceKey():
                    self.cores[one.session].force_key = True
                case act.OpenSession():
                    self.cores[one.session] = Core()
        self.pump()

    def pump(self) -> None:
        for event in self.packets.poll():
            match event:
                case Frame():
                    self.run(self.pipeline.receive(event, self.now))
                case ModeApplied():
                    self.run(self.pipeline.mode_applied(event.mode, self.now))
                case StreamFailed():
                    self.run(self.pipeline.overflowed(self.now))

    def opened(self, *, probe: bool = False, max_in_flight: int = 16) -> None:
        self.run(self.pipeline.opened(self.pipeline.session, max_in_flight, self.now, probe=probe))

    def frame(self, *, key: bool = False) -> None:
        payload = b"\x00\x00\x01" + (b"\x65\x88" if key else b"\x41") + bytes(30)
        self.packets.feed(self.stream, key=key, size=len(payload), data=payload, now=self.now)
        self.pump()

    def answer(
        self, disposition: Disposition | None = None, *, advice: Advice = Advice.KEEP, key: bool = False
    ) -> None:
        result = self.core.answer(disposition=disposition, advice=advice, key=key)
        self.run(self.pipeline.result(self.pipeline.session, result, self.now))

    def round(self, count: int = 1, *, key_first: bool = False) -> None:
        """Frames that are answered at once, 30 a second."""
        for index in range(count):
            self.frame(key=key_first and index == 0)
            while self.core.waiting:
                self.answer()
            self.wait(FRAME_S)

    def wait(self, seconds: float) -> None:
        """Time passes; the timer rings where the pipeline asked for it."""
        until = self.now + seconds
        while (at := self.pipeline.next_tick()) is not None and at <= until:
            self.now = max(self.now, at)
            self.run(self.pipeline.tick(self.now))
        self.now = until

    def did(self, kind: type[Decision]) -> list[Decision]:
        return [one for one in self.done if isinstance(one, kind)]


@pytest.fixture
def compressing() -> Rig:
    rig = Rig()
    rig.opened()
    rig.round(5, key_first=True)
    return rig


def sent(rig: Rig) -> str:
    """What left, in order: n and N native, o and O ours, capitals are keys."""
    return "".join(("o" if one.ours else "n").upper() if one.key else "on"[not one.ours] for one in rig.source.sent)


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
    assert [one.frame.frame_id for one in rig.core.waiting] == [0, 1]


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
    rig.wait(act.OPEN_S + 1.1)
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
    rig.wait(act.FULL_REST_S + 0.1)
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
    deadlines = [one.deadline_ms for one in rig.core.waiting]
    assert deadlines == [33, 20]


def test_the_sender_is_asked_for_a_key_where_the_core_cannot_decode(compressing: Rig) -> None:
    compressing.frame()
    send = compressing.core.waiting.popleft()
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
    send = rig.core.waiting.popleft()
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


# --- failure -------------------------------------------------------------------------------------------------


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
    compressing.run(compressing.pipeline.submit_refused(compressing.now))
    assert compressing.state() is State.HOLD


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
    assert compressing.pipeline.session == 2
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


# --- whatever happens ----------------------------------------------------------------------------------------

ACTIONS = st.sampled_from(
    ["frame"] * 8
    + ["answer"] * 8
    + [
        "key", "key", "open", "open", "probe", "refuse", "fail", "skip", "unchanged",
        "unchanged, then skip", "bad unchanged", "bad order",
        "answer failed", "advise native", "advise compress", "late", "long", "off", "on", "want key", "available",
        "drain", "shed", "overflow",
    ]
)  # fmt: skip


def act_on(rig: Rig, action: str) -> None:  # noqa: C901 - a table
    pipeline, now = rig.pipeline, rig.now
    core = rig.cores.get(pipeline.session)
    waiting = bool(core and core.waiting)
    match action:
        case "frame" | "key":
            rig.frame(key=action == "key")
            rig.wait(FRAME_S)
        case "answer" if waiting:
            rig.answer()
        case "skip" if waiting:
            rig.answer(Disposition.SKIPPED)
        case "unchanged, then skip":
            rig.frame(key=True)
            rig.frame()
            while core and core.waiting:
                rig.answer(Disposition.UNCHANGED if core.waiting[0].frame.key else Disposition.SKIPPED)
        case "unchanged" if waiting:
            assert core
            if core.waiting[0].frame.key:
                rig.answer(Disposition.UNCHANGED)
        case "bad unchanged" if waiting:
            rig.answer(Disposition.UNCHANGED)
        case "bad order" if waiting:
            assert core
            core.waiting.rotate(-1)
            rig.answer()
        case "answer failed" if waiting:
            rig.answer(Disposition.FAILED)
        case "advise native" if waiting:
            rig.answer(advice=Advice.NATIVE)
        case "advise compress" if waiting:
            rig.answer(advice=Advice.COMPRESS)
        case "open" | "probe":
            rig.opened(probe=action == "probe")
        case "refuse":
            rig.run(pipeline.refused(pipeline.session, Refusal.FULL, now))
        case "fail":
            rig.run(pipeline.failed(pipeline.session, Failure.BROKEN, now))
        case "late":
            rig.wait(0.15)
        case "long":
            rig.wait(3)
        case "off" | "on":
            policy = Compression(mode="Disabled" if action == "off" else "Always")
            rig.run(pipeline.configure(policy, Limits(), now))
        case "want key":
            rig.run(pipeline.key_wanted(now))
        case "available":
            rig.run(pipeline.available(now))
        case "drain":
            rig.run(pipeline.draining(pipeline.session, now))
        case "shed":
            rig.run(pipeline.shed(pipeline.session, now))
        case "overflow":
            for _ in range(17):
                rig.frame()


@settings(max_examples=200, deadline=None)
@given(st.lists(ACTIONS, max_size=120))
def test_no_receiver_ever_gets_a_frame_on_foreign_references(actions: list[str]) -> None:
    """And the packet core never has to refuse one, and nothing is stuck once the AI Core behaves."""
    rig = Rig()
    rig.frame(key=True)
    for action in actions:
        act_on(rig, action)
        assert not rig.source.garbage
    assert rig.source.illegal_switch == 0
    rig.run(rig.pipeline.configure(Compression(mode="Always"), Limits(), rig.now))
    for _ in range(100):  # keys every 10 frames, sessions open at once, answers come at once, advice is to compress
        rig.wait(1)
        for index in range(10):
            rig.frame(key=index == 0)
            rig.opened()
            while rig.core.waiting:
                rig.answer(advice=Advice.COMPRESS)
    assert rig.state() is State.COMPRESS
    assert not rig.source.garbage
    assert rig.source.illegal_switch == 0
    assert all(one.ours for one in rig.source.sent[-10:])
