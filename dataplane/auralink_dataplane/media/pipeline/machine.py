"""What one video stream does with each frame: sent as it came, recompressed, or held back. Pure; `streams` runs it.

Theory. A decoder that has been fed our frames holds our pictures as references; a native inter frame on them is
garbage until the next key, and a frame of ours on native references likewise. So the two kinds change places only at
a key of the kind switched to, and one session follows another at a key of its own. `_references` says whose pictures
receivers hold at the point that answers have reached.

    state      goes out                                   leaves to
    BYPASS     native at once; frames do not come here     SHADOW or COMPRESS at a native key
    SHADOW     native at once, copied to the AI Core       COMPRESS: the next frame waits for the core's own key
    COMPRESS   the AI Core's answers, in order             SHADOW or BYPASS at a native key; HOLD on failure
    HOLD       nothing                                     BYPASS or SHADOW at the first native key

The packet core changes modes with a delay, therefore every frame says in which mode it was handed up; `state` is what
this module wants of it. A COMPRESS frame met in SHADOW or BYPASS is answered "native" on the spot.

A session that fails while receivers hold its pictures is followed by the `standby`, if that is ready: the state stays
COMPRESS. A breach of the rules in `references` is a failure of the session.
"""

from enum import Enum

from auralink_dataplane.media.frames import Advice, Disposition, Frame, Mode, Result
from auralink_dataplane.media.pipeline import decisions as act
from auralink_dataplane.media.pipeline import times
from auralink_dataplane.media.pipeline.decisions import Decision, Failure, Limits, Refusal, State, Takeover
from auralink_dataplane.media.pipeline.forced import ForcedKeys
from auralink_dataplane.media.pipeline.references import References
from auralink_dataplane.media.pipeline.retries import Retries
from auralink_dataplane.media.pipeline.standby import Standby
from auralink_dataplane.media.pipeline.unanswered import Asked, Entry, Unanswered
from auralink_dataplane.policy import Compression


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
        self.session = 0
        """Number of the session whose answers go out."""
        self.standby = Standby(jitter)
        self.unsupported = False
        """The AI Core does not serve this stream; it stays native until its policy changes."""
        self._policy = policy
        self._limits = limits
        self._goal = Mode.BYPASS  # what the packet core was asked for last
        self._newest_session = 0
        self._phase = _Phase.NONE
        self._fed = False  # this session has got its first key
        self._max_in_flight = limits.in_flight
        self._unanswered = Unanswered()
        self._references = References()
        self._moving = False  # to the standby, once that is ready
        self._probation = 0  # answers in time that are still wanted before COMPRESS
        self._retries = Retries(jitter)
        self._last_id = -1
        self._opened_behind = -1  # the newest frame when the session was opened
        self._compressing_since: float | None = None
        self._opening_until = 0.0
        self._ask_key_at: float | None = None
        self._forced_keys = ForcedKeys()

    # --- what happens to the stream -------------------------------------------------------------------------

    def start(self, now: float) -> list[Decision]:
        """The stream has begun; its first frames wait in the packet core."""
        if not self._policy.enabled:
            return [self._set_mode(Mode.BYPASS)]
        self.state, self._compressing_since = State.COMPRESS, now
        return [*self._open(now), *self._want_standby(now), self._set_mode(Mode.COMPRESS)]

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
            case State.COMPRESS:  # the standby first: it must have what it is to go on from
                out += self._beside(self.standby.feed(frame, self._limits, now), now)
                return out + self._to_core(frame, Mode.COMPRESS, now)
            case State.SHADOW:
                return [*out, act.SubmitNative(frame.frame_id, frame.key), *self._to_core(frame, Mode.SHADOW, now)]
            case State.BYPASS:
                return [*out, act.SubmitNative(frame.frame_id, frame.key)]
            case State.HOLD:
                return [*out, act.Drop(frame.frame_id)]

    def mode_applied(self, mode: Mode, now: float) -> list[Decision]:
        """The packet core switched. Only BYPASS is news: frames tell the other modes themselves."""
        if mode is not Mode.BYPASS:
            return []
        if not self._unanswered:
            self._references.forget()
        return self._switch(State.BYPASS, self.fallback or "by choice", now) + self._close_if_left(now)

    def key_wanted(self, now: float) -> list[Decision]:
        """A receiver cannot go on: the AI Core gives a key where its frames go out, else the sender is asked."""
        if self.state is State.HOLD:
            return []
        if self.state is not State.COMPRESS:
            return [act.RequestKey()]
        return self._force_key(now) if self._forced_keys.want(now) else []

    def overflowed(self, now: float) -> list[Decision]:
        """The packet core lost frames on their way up, or what it was asked for; it holds the output itself."""
        if self.state is not State.COMPRESS:
            return [self._set_mode(self._goal), act.RequestKey()]
        self._references.lose()
        return self._fail(Failure.PACKETS, now)

    def submit_refused(self, frame_id: int, now: float, *, malformed: bool) -> list[Decision]:
        """The packet core did not send an answer: it would have broken the decoder, or is no frame (`malformed`). One
        of an earlier session is its session's end no more."""
        if self._phase is _Phase.NONE or frame_id <= self._opened_behind:
            return []
        return self._fail(Failure.INVARIANT if malformed else Failure.PACKETS, now)

    def close(self) -> list[Decision]:
        """The stream has ended."""
        return [*self._end_session(None), *self.standby.close()]

    # --- what happens to its session ------------------------------------------------------------------------

    def opened(self, session: int, max_in_flight: int, now: float, *, probe: bool) -> list[Decision]:
        """`probe`: the endpoint has yet to prove itself, so this session starts decode-only."""
        if session == self.standby.session:
            return self._beside(self.standby.opened(max_in_flight, self._limits, now, probe=probe), now)
        if session != self.session or self._phase is not _Phase.OPENING:
            return []
        self._phase = _Phase.OPEN
        self._max_in_flight = min(self._limits.in_flight, max_in_flight or self._limits.in_flight)
        if probe:
            self._probation = times.PROBATION_ANSWERS
        if self.state is State.COMPRESS:
            out: list[Decision] = self._watch_first("the endpoint is on probation", now) if self._probation else []
            mode = Mode.COMPRESS if self.state is State.COMPRESS else Mode.SHADOW
            waiting = self._unanswered.take_waiting()
            return out + [decision for frame in waiting for decision in self._to_core(frame, mode, now)]
        self._ask_key_at = now + times.KEY_PATIENCE_S
        return [self._set_mode(Mode.SHADOW if self._probation else Mode.COMPRESS)]

    def refused(self, session: int, why: Refusal, now: float) -> list[Decision]:
        if session == self.standby.session:
            return self._beside(self.standby.refused(why, now), now)
        if session != self.session or self._phase is not _Phase.OPENING:
            return []
        self.unsupported = why is Refusal.UNSUPPORTED
        if not self.unsupported:
            self.fallback = self.fallback or why.value
            self._retries.rest(now, times.FULL_REST_S)
        return self._end_session(None) + self._go_native(why.value, now)

    def result(self, session: int, result: Result, now: float) -> list[Decision]:
        if session == self.standby.session:
            return self._beside(self.standby.result(result, now), now)
        if session != self.session or self._phase is not _Phase.OPEN:
            return []
        if not self._unanswered.is_next(result.frame_id):
            return self._fail(Failure.INVARIANT, now)
        if result.disposition is Disposition.FAILED:
            return self._fail(Failure.INPUT if result.need_key else Failure.FAILED, now)
        entry = self._unanswered.take()
        out = self._answer(entry, result, now) if entry.owed else self._answer_shadow(entry, result, now)
        if self._phase is not _Phase.OPEN or self.session != session:
            return out
        if result.need_key:
            out.append(act.RequestKey())
        advice = Advice.KEEP if entry.asked is Asked.BESIDE else result.advice
        return out + self._follow(advice) + self._close_if_left(now)

    def failed(self, session: int, failure: Failure, now: float) -> list[Decision]:
        """The session's stream broke, or its endpoint said that it lost it."""
        if session == self.standby.session:
            return self._beside(self.standby.failed(failure, now), now)
        return self._fail(failure, now) if session == self.session and self._phase is not _Phase.NONE else []

    def draining(self, session: int, now: float) -> list[Decision]:
        """The session's endpoint stops soon: on to the standby, which is opened for it where there is none. Where none
        can be, native from the next key, then another session."""
        if session == self.standby.session:
            return self._beside([*self.standby.close(), *self._open_standby(now)], now)
        if self.state is not State.COMPRESS or self._goal is not Mode.COMPRESS or not self._references.ours:
            return self.renew(session, now)
        if session != self.session or self._phase is not _Phase.OPEN:
            return []
        if self.standby.ready:
            return self._take_over("draining", None, now)
        self._moving = True
        opened = [] if self.standby.live else self._open_standby(now)
        self.standby.hurried = True
        return [*opened, act.RequestKey()]

    def renew(self, session: int, now: float) -> list[Decision]:
        """The session is to end in order, for its receivers take less: native from the next key, then another one."""
        if session != self.session or self._phase is not _Phase.OPEN:
            return []
        if self.state is not State.COMPRESS:
            return [*self._end_session(None), *self._open(now)]
        return self._leave(Mode.BYPASS)

    def shed(self, session: int, now: float) -> list[Decision]:
        """The endpoint no longer has room for a decode-only session."""
        if session == self.standby.session:
            return self._beside(self.standby.refused(Refusal.FULL, now), now)
        if session != self.session or self._phase is _Phase.NONE or self.state is State.COMPRESS:
            return []
        self._retries.rest(now, times.FULL_REST_S)
        self.fallback = self.fallback or Refusal.FULL.value
        return self._end_session(None) + self._go_native("shed", now)

    # --- policy and time ------------------------------------------------------------------------------------

    def configure(self, policy: Compression, limits: Limits, now: float) -> list[Decision]:
        old, self._policy, self._limits = self._policy, policy, limits
        beside = self.standby.configure(policy) if policy != old else []
        if self.state is State.COMPRESS and policy.enabled:
            beside += self._want_standby(now)
        return beside + self._configure(policy, old, now)

    def _configure(self, policy: Compression, old: Compression, now: float) -> list[Decision]:
        if policy.enabled and not old.enabled:
            self.unsupported = False
            if self.state is State.COMPRESS:  # it was about to leave
                return [self._set_mode(Mode.COMPRESS), act.UpdatePolicy(self.session, policy)]
            return [*self._end_session(None), self._set_mode(Mode.BYPASS), *self._open(now)]
        if old.enabled and not policy.enabled:
            self.fallback = self._retries.at = None
            if self.state is State.COMPRESS and self._phase is _Phase.OPEN:
                return self._leave(Mode.BYPASS)
            return self._end_session(None) + self._go_native("policy off", now)
        if policy == old or not policy.enabled:
            return []
        if self._phase is _Phase.NONE:  # failed, or refused: under the new policy it may go better
            self.unsupported = False
            return self._open(now)
        return [act.UpdatePolicy(self.session, policy)]

    def available(self, now: float) -> list[Decision]:
        """An endpoint has become usable: no need to sit out the backoff."""
        self.standby.hasten(now)
        wants = self._policy.enabled and self._phase is _Phase.NONE and not self.unsupported
        return self._open(now) if wants and self._retries.at is not None else []

    def next_tick(self) -> float | None:
        opening_until = self._opening_until if self._phase is _Phase.OPENING else None
        own = (self._retries.at, self._ask_key_at, self._forced_keys.at, self._unanswered.next_deadline())
        return min((at for at in (*own, opening_until, self.standby.next_tick()) if at is not None), default=None)

    def tick(self, now: float) -> list[Decision]:
        out = self._beside(self.standby.tick(now), now)  # before anybody relies on it
        if self.standby.retries.due(now):
            out += self._open_standby(now)
        deadline = self._unanswered.next_deadline()
        late = deadline is not None and now >= deadline
        if self._phase is _Phase.OPENING and now >= self._opening_until:
            out += self._fail(Failure.TIMEOUT, now)
        elif self._phase is _Phase.OPENING and late:
            out += self._release() + self._go_native("the session takes long to open", now)
        elif late:
            out += self._fail(Failure.TIMEOUT, now)
        if self._retries.due(now):
            out += self._open(now)
        if self._ask_key_at is not None and now >= self._ask_key_at:
            self._ask_key_at = now + times.KEY_REPEAT_S if self.state is State.HOLD else None
            out.append(act.RequestKey())
        if self._forced_keys.due(now):
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
        native = [act.SubmitNative(frame.frame_id, frame.key)] if mode is Mode.COMPRESS else []
        if self._phase is _Phase.NONE or not (self._fed or frame.key):
            return [*native]
        self._fed = True
        self._ask_key_at = None
        waits = self._phase is _Phase.OPENING
        if waits and len(self._unanswered) >= times.WAITING_FRAMES:
            return [*self._release(), *native, *self._go_native("a burst before the session is open", now)]
        overflow = len(self._unanswered) >= self._max_in_flight
        asked = Asked.OURS if mode is Mode.COMPRESS else Asked.NATIVE
        self._unanswered.add(frame, asked, now, times.patience_s(self._limits, key=frame.key), waits=waits)
        if overflow:
            return self._fail(Failure.OVERFLOW, now)
        return [] if waits else [act.Send(self.session, frame, mode, times.deadline_ms(frame, now))]

    def _answer(self, entry: Entry, result: Result, now: float) -> list[Decision]:
        answer = self._references.answer(entry, result, now)
        if answer is None:
            self._unanswered.put_back(entry)  # its answer does not count
            return self._fail(Failure.INVARIANT, now)
        goes_on = self.state is State.COMPRESS and self._goal is not Mode.BYPASS
        match answer:
            case act.Submit():
                if self.state is State.COMPRESS:
                    self.fallback = None
                outcome = Takeover.PROMOTED if entry.asked is Asked.PROMOTION else Takeover.NEXT_FRAME
                return [answer, *self.standby.settle(outcome, now)]
            case act.SubmitNative() if result.disposition is Disposition.UNCHANGED and goes_on:
                self.advised_native = True
                return [answer, *self._switch(State.SHADOW, "unchanged", now), self._set_mode(Mode.SHADOW, soon=True)]
            case _:
                return [answer]

    def _answer_shadow(self, entry: Entry, result: Result, now: float) -> list[Decision]:
        if entry.asked is Asked.NATIVE:
            self._references.native()
        if result.disposition is Disposition.COMPRESSED:
            return self._fail(Failure.INVARIANT, now)
        if self._probation and times.prompt(now - entry.sent_at, key=entry.key):
            self._probation -= 1
            if not self._probation:
                return [act.Proven(self.session)]
        return []

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

    # --- the standby ----------------------------------------------------------------------------------------

    def _take_over(self, reason: str, failure: Failure | None, now: float) -> list[Decision]:
        """The standby, which is ready, goes on where the session ends."""
        owed = [entry.frame_id for entry in self._unanswered.release()]
        out: list[Decision] = [act.CloseSession(self.session, failure), *map(act.Drop, owed[:-1])]
        successor = self.standby.take(reason, now)
        self.session, self._unanswered = successor.session, successor.unanswered
        self._max_in_flight = successor.max_in_flight
        self._opened_behind = owed[-1] - 1 if owed else self._last_id
        self._references.take_over()
        self._forced_keys.at, self._compressing_since = None, now
        self._moving, self._retries.at = False, None
        out.append(act.Promote(self.session, picture=bool(owed)))
        if owed:
            self._unanswered.add_promotion(owed[-1], now, self._limits.timeout_s)
        if self._limits.standby:
            self.standby.retries.rest(now, times.REOPEN_FIRST_S)
        return out

    def _beside(self, out: list[Decision], now: float) -> list[Decision]:
        """After something befell the standby: a stream that is to move there goes, or cannot."""
        if not self._moving:
            return out
        if self.standby.ready and self._references.ours:
            return [*out, *self._take_over("draining", None, now)]
        if self.standby.live:
            return out
        self._moving = False
        if not self._limits.standby:
            self.standby.close()
        return [*out, *self._leave(Mode.BYPASS)]

    def _want_standby(self, now: float) -> list[Decision]:
        """To be had while the stream compresses, where the bridge asks for it."""
        if not self._limits.standby:
            return [] if self._moving else self.standby.close()
        return [] if self.standby.live else self._open_standby(now)

    def _open_standby(self, now: float) -> list[Decision]:
        return self.standby.open(self._number(), self._policy, now)

    # --- changes of state -----------------------------------------------------------------------------------

    def _fail(self, failure: Failure, now: float) -> list[Decision]:
        """Ends the session. If receivers hold our references the standby goes on, or nothing goes out until a native
        key; else what waits for an answer goes native, in order."""
        self._retries.failed(now, sound_since=self._compressing_since)
        self.fallback = failure.value if self._policy.enabled else None
        holds = self.state is State.COMPRESS and self._references.ours
        told = self.standby.settle(Takeover.FAILED, now)
        if holds and failure.blames_core:
            if self.standby.ready:
                return [*told, *self._take_over(failure.value, failure, now)]
            if self._limits.standby and not told:
                told = [act.TookOver(self.session, Takeover.NOT_READY, failure.value, 0.0)]
        if not self._policy.enabled:
            self._retries.at = None
        self._probation = times.PROBATION_ANSWERS
        if not holds:
            return [*told, *self._end_session(failure), *self._go_native(failure.value, now)]
        self._unanswered.release()
        out = [*told, *self._end_session(failure), *self._switch(State.HOLD, failure.value, now)]
        self._ask_key_at = now + times.KEY_REPEAT_S
        return [*out, act.Hold(), self._set_mode(Mode.BYPASS), act.RequestKey()]

    def _go_native(self, reason: str, now: float) -> list[Decision]:
        """Where receivers hold native references: from the next frame on, key or not."""
        if self.state is State.HOLD or (self.state is State.BYPASS and self._goal is Mode.BYPASS):
            return [self._set_mode(Mode.BYPASS)]
        return [*self._switch(State.BYPASS, reason, now), self._set_mode(Mode.BYPASS, soon=True)]

    def _leave(self, mode: Mode) -> list[Decision]:
        """By choice: compress on until the native key has come."""
        return [self._set_mode(mode), act.RequestKey()]

    def _close_if_left(self, now: float) -> list[Decision]:
        """Left by choice and answered to the last frame. A draining endpoint's stream opens again elsewhere."""
        left = self.state is State.BYPASS and self._goal is Mode.BYPASS and self._phase is _Phase.OPEN
        if not left or self._unanswered:
            return []
        return self._end_session(None) + (self._open(now) if self._policy.enabled else [])

    def _watch_first(self, reason: str, now: float) -> list[Decision]:
        """Instead of compressing at once: what waits goes native, and the AI Core decodes along."""
        self._probation = self._probation or times.PROBATION_ANSWERS
        native: list[Decision] = [act.SubmitNative(entry.frame_id, entry.key) for entry in self._unanswered.excuse()]
        return [*self._switch(State.SHADOW, reason, now), *native, self._set_mode(Mode.SHADOW, soon=True)]

    def _open(self, now: float) -> list[Decision]:
        self.session = self._number()
        self._phase = _Phase.OPENING
        self._fed = self.advised_native = False
        self._references.begin()
        self._opened_behind = self._last_id
        self._opening_until = now + times.OPEN_S
        self._retries.at = None
        return [act.OpenSession(self.session, self._policy)]

    def _number(self) -> int:
        """Sessions have numbers that rise, whatever they are for."""
        self._newest_session += 1
        return self._newest_session

    def _end_session(self, failure: Failure | None) -> list[Decision]:
        if self._phase is _Phase.NONE:
            return []
        self._phase = _Phase.NONE
        self._ask_key_at = self._forced_keys.at = None
        return [act.CloseSession(self.session, failure), *self._release()]

    def _release(self) -> list[Decision]:
        """Answers to frames that the packet core still waits with: native, or nothing where receivers hold our
        references and a native key is sure to follow."""
        owed = self._unanswered.release()
        self._fed = False
        if self._references.forget():
            return [act.Drop(entry.frame_id) for entry in owed]
        return [act.SubmitNative(entry.frame_id, entry.key) for entry in owed]

    def _force_key(self, now: float) -> list[Decision]:
        self._forced_keys.at = None
        if self.state is not State.COMPRESS or self._phase is not _Phase.OPEN:
            return []
        self._forced_keys.forced(now)
        return [act.ForceKey(self.session)]

    def _set_mode(self, mode: Mode, *, soon: bool = False) -> act.SetMode:
        """`soon`: where the receivers' references allow any frame. The next one may be in the packet core already,
        so the one after it; a stream that has given no frame yet still begins at a key."""
        self._goal = mode
        degraded = mode is Mode.BYPASS and self._policy.enabled and self.fallback is not None
        at_frame = self._last_id + 2 if soon and self._last_id >= 0 else None
        return act.SetMode(mode, at_frame, self._policy.enabled, degraded)

    def _switch(self, new: State, reason: str, now: float) -> list[Decision]:
        old = self.state
        if old is new:
            return []
        self.state = new
        self._compressing_since = now if new is State.COMPRESS else None
        if new is State.COMPRESS:
            return [act.Switched(old, new, reason), *self._want_standby(now)]
        self._moving = False
        return [act.Switched(old, new, reason), *self.standby.settle(Takeover.NATIVE, now), *self.standby.close()]
