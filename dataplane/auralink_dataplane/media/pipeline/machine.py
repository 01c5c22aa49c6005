"""What one video stream does with each frame: sent as it came, recompressed, or held back. Pure; `streams` runs it.

Theory. A decoder that has been fed our frames holds our pictures as references; a native inter frame on them is
garbage until the next key, and a frame of ours on native references likewise. So the two kinds change places only at
a key of the kind switched to. `_ours_out` says whose references receivers hold at the point that answers have reached.

    state      goes out                                   leaves to
    BYPASS     native at once; frames do not come here     SHADOW or COMPRESS at a native key
    SHADOW     native at once, copied to the AI Core       COMPRESS: the next frame waits for the core's own key
    COMPRESS   the AI Core's answers, in order             SHADOW or BYPASS at a native key; HOLD on failure
    HOLD       nothing                                     BYPASS or SHADOW at the first native key

The packet core changes modes with a delay, therefore every frame says in which mode it was handed up; `state` is what
this module wants of it. A COMPRESS frame met in SHADOW or BYPASS is answered "native" on the spot.

Two invariants of the AI Core's answers are checked, a breach is a failure of the session: (I1) UNCHANGED follows
COMPRESSED only at a native key and then lasts until a SHADOW frame was seen, (I2) COMPRESSED follows UNCHANGED only
with a key of its own.
"""

from enum import Enum
from typing import Final

from auralink_dataplane.backoff import backoff, spread
from auralink_dataplane.media.frames import Advice, Disposition, Extension, Frame, Mode, Result
from auralink_dataplane.media.pipeline.decisions import (
    CloseSession,
    Decision,
    Drop,
    Failure,
    ForceKey,
    Hold,
    Limits,
    OpenSession,
    Proven,
    Refusal,
    RequestKey,
    Send,
    SetMode,
    State,
    Submit,
    SubmitNative,
    Switched,
    UpdatePolicy,
)
from auralink_dataplane.media.pipeline.unanswered import Entry, Unanswered
from auralink_dataplane.policy import Compression

PROBATION_ANSWERS: Final = 30
ANSWER_S: Final = 0.020
KEY_ANSWER_S: Final = 0.033
"""An answer within these counts in probation; they are also the AI Core's deadline, from the frame's completion on."""

OPEN_S: Final = 2.0
WAITING_FRAMES: Final = 8
"""So many wait for the session to open. A sender that starts with a burst would fill the packet core's 16 before the
session has answered at all."""
KEY_PATIENCE_S: Final = 10.0
KEY_REPEAT_S: Final = 1.0
FORCE_KEY_INTERVAL_S: Final = 0.5
FULL_REST_S: Final = 5.0
REOPEN_FIRST_S: Final = 1.0
REOPEN_MAX_S: Final = 60.0
SOUND_RUN_S: Final = 10.0
"""Compressing so long without failure forgets earlier ones."""


class _Phase(Enum):
    NONE = "none"
    OPENING = "opening"
    OPEN = "open"


class Pipeline:
    """One instance per video stream. Every method takes the time and returns what to do, in order."""

    def __init__(self, policy: Compression, limits: Limits, jitter: float = 0.5) -> None:
        """`jitter`: 0..1, of this stream, so that streams that lose their sessions together come back one by one."""
        self.state = State.BYPASS
        self.fallback: str | None = None
        """Why frames go native or frozen against the policy's will; None while all is well or by choice."""
        self.advised_native = False
        self._policy = policy
        self._limits = limits
        self._goal = Mode.BYPASS  # what the packet core was asked for last
        self._session = 0
        self._phase = _Phase.NONE
        self._fed = False  # this session has got its first key
        self._max_in_flight = limits.in_flight
        self._unanswered = Unanswered()
        self._ours_out = False
        self._unchanged_run = False  # (I1): answers stay UNCHANGED until a SHADOW frame was seen
        self._probation = 0  # answers in time that are still wanted before COMPRESS
        self._failures = 0
        self._jitter = jitter
        self._unsupported = False
        self._last_id = -1
        self._opened_behind = -1  # the newest frame when the session was opened
        self._compressing_since: float | None = None
        self._opening_until = 0.0
        self._reopen_at: float | None = None
        self._ask_key_at: float | None = None
        self._force_key_at: float | None = None
        self._forced_key_at = -FORCE_KEY_INTERVAL_S

    @property
    def session(self) -> int:
        """Number of the latest session; answers of others are stale."""
        return self._session

    @property
    def unsupported(self) -> bool:
        """The AI Core does not serve this stream; it stays native until its policy changes."""
        return self._unsupported

    # --- what happens to the stream -------------------------------------------------------------------------

    def start(self, now: float) -> list[Decision]:
        """The stream has begun; its first frames wait in the packet core."""
        if not self._policy.enabled:
            return [self._set_mode(Mode.BYPASS)]
        self._enter(State.COMPRESS, now)
        return [*self._open(now), self._set_mode(Mode.COMPRESS)]

    def receive(self, frame: Frame, now: float) -> list[Decision]:
        self._last_id = frame.frame_id
        if frame.mode is Mode.SHADOW:
            return self._receive_shadow(frame, now)
        out: list[Decision] = []
        if self._goal is Mode.COMPRESS and (frame.key or (self._fed and self.state is State.SHADOW)):
            out += self._switch(State.COMPRESS, "compressing", now)
        if self.state is State.COMPRESS and not self._fed and frame.may_reorder:
            out += self._watch_first("pictures may be reordered", now)
        match self.state:
            case State.COMPRESS:
                return out + self._to_core(frame, Mode.COMPRESS, now)
            case State.SHADOW:
                return [*out, SubmitNative(frame.frame_id, frame.key), *self._to_core(frame, Mode.SHADOW, now)]
            case State.BYPASS:
                return [*out, SubmitNative(frame.frame_id, frame.key)]
            case State.HOLD:
                return [*out, Drop(frame.frame_id)]

    def mode_applied(self, mode: Mode, now: float) -> list[Decision]:
        """The packet core switched. Only BYPASS is news: frames tell the other modes themselves."""
        if mode is not Mode.BYPASS:
            return []
        self._ours_out = self._ours_out and bool(self._unanswered)
        return self._switch(State.BYPASS, self.fallback or "by choice", now) + self._close_if_left(now)

    def key_wanted(self, now: float) -> list[Decision]:
        """A receiver cannot go on: the AI Core gives a key where its frames go out, else the sender is asked."""
        if self.state is State.HOLD:
            return []
        if self.state is not State.COMPRESS:
            return [RequestKey()]
        if now < self._forced_key_at + FORCE_KEY_INTERVAL_S:
            self._force_key_at = self._forced_key_at + FORCE_KEY_INTERVAL_S
            return []
        return self._force_key(now)

    def overflowed(self, now: float) -> list[Decision]:
        """The packet core lost frames on their way up, or what it was asked for; it holds the output itself."""
        if self.state is not State.COMPRESS:
            return [self._set_mode(self._goal), RequestKey()]
        self._ours_out = True  # nobody knows what was dropped: only a native key is safe
        return self._fail(Failure.PACKETS, now)

    def submit_refused(self, frame_id: int, now: float) -> list[Decision]:
        """The packet core did not send an answer: it would have broken the decoder. One of an earlier session is its
        session's end no more."""
        if self._phase is _Phase.NONE or frame_id <= self._opened_behind:
            return []
        return self._fail(Failure.PACKETS, now)

    def close(self) -> list[Decision]:
        """The stream has ended."""
        return self._end_session(None)

    # --- what happens to its session ------------------------------------------------------------------------

    def opened(self, session: int, max_in_flight: int, now: float, *, probe: bool) -> list[Decision]:
        """`probe`: the endpoint has yet to prove itself, so this session starts decode-only."""
        if session != self._session or self._phase is not _Phase.OPENING:
            return []
        self._phase = _Phase.OPEN
        self._max_in_flight = min(self._limits.in_flight, max_in_flight or self._limits.in_flight)
        if probe:
            self._probation = PROBATION_ANSWERS
        if self.state is State.COMPRESS:
            out: list[Decision] = self._watch_first("the endpoint is on probation", now) if self._probation else []
            mode = Mode.COMPRESS if self.state is State.COMPRESS else Mode.SHADOW
            waiting = self._unanswered.take_waiting()
            return out + [decision for frame in waiting for decision in self._to_core(frame, mode, now)]
        self._ask_key_at = now + KEY_PATIENCE_S
        return [self._set_mode(Mode.SHADOW if self._probation else Mode.COMPRESS)]

    def refused(self, session: int, why: Refusal, now: float) -> list[Decision]:
        if session != self._session or self._phase is not _Phase.OPENING:
            return []
        self._unsupported = why is Refusal.UNSUPPORTED
        if not self._unsupported:
            self.fallback = self.fallback or why.value
            self._reopen_at = now + spread(FULL_REST_S, self._jitter)
        return self._end_session(None) + self._go_native(why.value, now)

    def result(self, session: int, result: Result, now: float) -> list[Decision]:
        if session != self._session or self._phase is not _Phase.OPEN:
            return []
        if not self._unanswered.is_next(result.frame_id):
            return self._fail(Failure.INVARIANT, now)
        if result.disposition is Disposition.FAILED:
            return self._fail(Failure.INPUT if result.need_key else Failure.FAILED, now)
        entry = self._unanswered.take()
        out = self._answer(entry, result, now) if entry.compress else self._answer_shadow(entry, result, now)
        if self._phase is not _Phase.OPEN:
            return out
        if result.need_key:
            out.append(RequestKey())
        return out + self._follow(result.advice) + self._close_if_left(now)

    def failed(self, session: int, failure: Failure, now: float) -> list[Decision]:
        """The session's stream broke, or its endpoint said that it lost it."""
        return self._fail(failure, now) if session == self._session and self._phase is not _Phase.NONE else []

    def draining(self, session: int, now: float) -> list[Decision]:
        """The session is to end in order, because its endpoint stops or its receivers take less: native from the next
        key, then another session."""
        if session != self._session or self._phase is not _Phase.OPEN:
            return []
        if self.state is not State.COMPRESS:
            return [*self._end_session(None), *self._open(now)]
        return self._leave(Mode.BYPASS)

    def shed(self, session: int, now: float) -> list[Decision]:
        """The endpoint no longer has room for a decode-only session."""
        if session != self._session or self._phase is _Phase.NONE or self.state is State.COMPRESS:
            return []
        self._reopen_at = now + spread(FULL_REST_S, self._jitter)
        self.fallback = self.fallback or Refusal.FULL.value
        return self._end_session(None) + self._go_native("shed", now)

    # --- policy and time ------------------------------------------------------------------------------------

    def configure(self, policy: Compression, limits: Limits, now: float) -> list[Decision]:
        old, self._policy, self._limits = self._policy, policy, limits
        if policy.enabled and not old.enabled:
            self._unsupported = False
            if self.state is State.COMPRESS:  # it was about to leave
                return [self._set_mode(Mode.COMPRESS), UpdatePolicy(self._session, policy)]
            return [*self._end_session(None), self._set_mode(Mode.BYPASS), *self._open(now)]
        if old.enabled and not policy.enabled:
            self.fallback = self._reopen_at = None
            if self.state is State.COMPRESS and self._phase is _Phase.OPEN:
                return self._leave(Mode.BYPASS)
            return self._end_session(None) + self._go_native("policy off", now)
        if policy == old or not policy.enabled:
            return []
        if self._phase is _Phase.NONE:  # failed, or refused: under the new policy it may go better
            self._unsupported = False
            return self._open(now)
        return [UpdatePolicy(self._session, policy)]

    def available(self, now: float) -> list[Decision]:
        """An endpoint has become usable: no need to sit out the backoff."""
        wants = self._policy.enabled and self._phase is _Phase.NONE and not self._unsupported
        return self._open(now) if wants and self._reopen_at is not None else []

    def next_tick(self) -> float | None:
        times = [self._reopen_at, self._ask_key_at, self._force_key_at, self._unanswered.next_deadline()]
        if self._phase is _Phase.OPENING:
            times.append(self._opening_until)
        return min((at for at in times if at is not None), default=None)

    def tick(self, now: float) -> list[Decision]:
        out: list[Decision] = []
        deadline = self._unanswered.next_deadline()
        late = deadline is not None and now >= deadline
        if self._phase is _Phase.OPENING and now >= self._opening_until:
            out += self._fail(Failure.TIMEOUT, now)
        elif self._phase is _Phase.OPENING and late:
            out += self._release() + self._go_native("the session takes long to open", now)
        elif late:
            out += self._fail(Failure.TIMEOUT, now)
        if self._reopen_at is not None and now >= self._reopen_at:
            out += self._open(now)
        if self._ask_key_at is not None and now >= self._ask_key_at:
            self._ask_key_at = now + KEY_REPEAT_S if self.state is State.HOLD else None
            out.append(RequestKey())
        if self._force_key_at is not None and now >= self._force_key_at:
            out += self._force_key(now)
        return out

    # --- frames and answers ---------------------------------------------------------------------------------

    def _receive_shadow(self, frame: Frame, now: float) -> list[Decision]:
        """The packet core has sent it natively already."""
        out: list[Decision] = []
        if self.state is State.COMPRESS or self._goal is Mode.SHADOW:
            out += self._switch(State.SHADOW, self.fallback or "watching", now)
        return out + self._to_core(frame, Mode.SHADOW, now) if self.state is State.SHADOW else out

    def _to_core(self, frame: Frame, mode: Mode, now: float) -> list[Decision]:
        """A session begins at a native key; until it is open its frames wait here."""
        if self._phase is _Phase.NONE or not (self._fed or frame.key):
            return [SubmitNative(frame.frame_id, frame.key)] if mode is Mode.COMPRESS else []
        self._fed = True
        self._ask_key_at = None
        waits = self._phase is _Phase.OPENING
        if waits and len(self._unanswered) >= WAITING_FRAMES:
            native = [SubmitNative(frame.frame_id, frame.key)] if mode is Mode.COMPRESS else []
            return [*self._release(), *native, *self._go_native("a burst before the session is open", now)]
        overflow = len(self._unanswered) >= self._max_in_flight
        patience_s = self._limits.timeout_s * (2 if frame.key else 1)
        self._unanswered.add(frame, mode, now, patience_s, waits=waits)
        if overflow:
            return self._fail(Failure.OVERFLOW, now)
        if waits:
            return []
        left_s = (KEY_ANSWER_S if frame.key else ANSWER_S) - (now - frame.t_complete)
        return [Send(self._session, frame, mode, max(1, round(left_s * 1000)))]

    def _answer(self, entry: Entry, result: Result, now: float) -> list[Decision]:
        match result.disposition:
            case Disposition.COMPRESSED:
                if self._unchanged_run or not (self._ours_out or result.key):
                    return self._breach(entry, now)
                self._ours_out = True
                if self.state is State.COMPRESS:
                    self.fallback = None
                return [Submit(entry.frame_id, result.payload, Extension.of(result).pack(), result.key)]
            case Disposition.UNCHANGED:
                if self._ours_out and not entry.key:
                    return self._breach(entry, now)
                self._ours_out = False
                self._unchanged_run = True
                out: list[Decision] = [SubmitNative(entry.frame_id, entry.key)]
                if self.state is State.COMPRESS and self._goal is not Mode.BYPASS:
                    self.advised_native = True
                    out += [*self._switch(State.SHADOW, "unchanged", now), self._set_mode(Mode.SHADOW, soon=True)]
                return out
            case _ if not self._ours_out:
                # Receivers hold native references: a picture left out would end their run until the next key.
                return [SubmitNative(entry.frame_id, entry.key)]
            case _:
                return [Drop(entry.frame_id)]

    def _answer_shadow(self, entry: Entry, result: Result, now: float) -> list[Decision]:
        self._ours_out = False  # the native frame went out at this point of the order
        self._unchanged_run = False
        if result.disposition is Disposition.COMPRESSED:
            return self._breach(None, now)
        if self._probation and now - entry.sent_at <= (KEY_ANSWER_S if entry.key else ANSWER_S):
            self._probation -= 1
            if not self._probation:
                return [Proven(self._session)]
        return []

    def _breach(self, entry: Entry | None, now: float) -> list[Decision]:
        if entry:
            self._unanswered.put_back(entry)
        return self._fail(Failure.INVARIANT, now)

    def _follow(self, advice: Advice) -> list[Decision]:
        if advice is Advice.NATIVE:
            leaves = self.state is State.COMPRESS and self._goal is Mode.COMPRESS and not self.advised_native
            self.advised_native = True
            return self._leave(Mode.SHADOW) if leaves else []
        if advice is Advice.COMPRESS:
            self.advised_native = False
        if self.state is not State.SHADOW or self._goal is not Mode.SHADOW or self._probation:
            return []
        if self.advised_native:
            self.fallback = None  # from here on native is a choice
            return []
        return [self._set_mode(Mode.COMPRESS, soon=True)]

    # --- changes of state -----------------------------------------------------------------------------------

    def _fail(self, failure: Failure, now: float) -> list[Decision]:
        """Ends the session. If receivers hold our references nothing goes out until a native key; else what waits for
        an answer goes native, in order."""
        if self._compressing_since is not None and now - self._compressing_since >= SOUND_RUN_S:
            self._failures = 0
        self._failures += 1
        rest_s = backoff(self._failures, REOPEN_FIRST_S, REOPEN_MAX_S, self._jitter)
        self._reopen_at = now + rest_s if self._policy.enabled else None
        self._probation = PROBATION_ANSWERS
        self.fallback = failure.value if self._policy.enabled else None
        if self.state is not State.COMPRESS or not self._ours_out:
            return self._end_session(failure) + self._go_native(failure.value, now)
        self._unanswered.release()
        out = [*self._end_session(failure), *self._switch(State.HOLD, failure.value, now)]
        self._ask_key_at = now + KEY_REPEAT_S
        return [*out, Hold(), self._set_mode(Mode.BYPASS), RequestKey()]

    def _go_native(self, reason: str, now: float) -> list[Decision]:
        """Where receivers hold native references: from the next frame on, key or not."""
        if self.state is State.HOLD or (self.state is State.BYPASS and self._goal is Mode.BYPASS):
            return [self._set_mode(Mode.BYPASS)]
        return [*self._switch(State.BYPASS, reason, now), self._set_mode(Mode.BYPASS, soon=True)]

    def _leave(self, mode: Mode) -> list[Decision]:
        """By choice: compress on until the native key has come."""
        return [self._set_mode(mode), RequestKey()]

    def _close_if_left(self, now: float) -> list[Decision]:
        """Left by choice and answered to the last frame. A draining endpoint's stream opens again elsewhere."""
        left = self.state is State.BYPASS and self._goal is Mode.BYPASS and self._phase is _Phase.OPEN
        if not left or self._unanswered:
            return []
        out = self._end_session(None)
        return out + self._open(now) if self._policy.enabled else out

    def _watch_first(self, reason: str, now: float) -> list[Decision]:
        """Instead of compressing at once: what waits goes native, and the AI Core decodes along."""
        self._probation = self._probation or PROBATION_ANSWERS
        native: list[Decision] = [SubmitNative(entry.frame_id, entry.key) for entry in self._unanswered.excuse()]
        return [*self._switch(State.SHADOW, reason, now), *native, self._set_mode(Mode.SHADOW, soon=True)]

    def _open(self, now: float) -> list[Decision]:
        self._session += 1
        self._phase = _Phase.OPENING
        self._fed = self._unchanged_run = self.advised_native = False
        self._opened_behind = self._last_id
        self._opening_until = now + OPEN_S
        self._reopen_at = None
        return [OpenSession(self._session, self._policy)]

    def _end_session(self, failure: Failure | None) -> list[Decision]:
        if self._phase is _Phase.NONE:
            return []
        self._phase = _Phase.NONE
        self._ask_key_at = self._force_key_at = None
        return [CloseSession(self._session, failure), *self._release()]

    def _release(self) -> list[Decision]:
        """Answers to frames that the packet core still waits with: native, or nothing where receivers hold our
        references and a native key is sure to follow."""
        owed = self._unanswered.release()
        self._fed = False
        ours_out, self._ours_out = self._ours_out, False
        if ours_out:
            return [Drop(entry.frame_id) for entry in owed]
        return [SubmitNative(entry.frame_id, entry.key) for entry in owed]

    def _force_key(self, now: float) -> list[Decision]:
        self._force_key_at = None
        if self.state is not State.COMPRESS or self._phase is not _Phase.OPEN:
            return []
        self._forced_key_at = now
        return [ForceKey(self._session)]

    def _set_mode(self, mode: Mode, *, soon: bool = False) -> SetMode:
        """`soon`: where the receivers' references allow any frame. The next one may be in the packet core already,
        so the one after it; a stream that has given no frame yet still begins at a key."""
        self._goal = mode
        degraded = mode is Mode.BYPASS and self._policy.enabled and self.fallback is not None
        return SetMode(mode, self._last_id + 2 if soon and self._last_id >= 0 else None, self._policy.enabled, degraded)

    def _switch(self, new: State, reason: str, now: float) -> list[Decision]:
        old = self.state
        if old is new:
            return []
        self._enter(new, now)
        return [Switched(old, new, reason)]

    def _enter(self, new: State, now: float) -> None:
        self.state = new
        self._compressing_since = now if new is State.COMPRESS else None
