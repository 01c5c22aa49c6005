"""A stream's second session, on another endpoint than the one that answers: it sees every frame and is ready to go on.

Theory. It decodes along in SHADOW, so that it holds the sender's picture whenever the active session fails; the key of
its own that it then makes is the one frame that receivers can go on with at once. It begins, as every session, at a
native key. What it answers is looked at only: that it is in time, and whether it has lost the sender's references.

When it takes over, the packet core notices nothing: the mode stays COMPRESS. Of what still waits for an answer

    frames          all but the newest are dropped; the newest is answered with the standby's key of its last picture
    none            nothing, as the last picture is out: the next frame goes to the standby as COMPRESS, which begins
                    with a key by itself

`machine` is the only caller. It says when there is to be a standby, hands it the frames, and takes it when it is
needed; until then nothing that happens to it touches what goes out.
"""

from dataclasses import dataclass

from auralink_dataplane.media.frames import Disposition, Frame, Mode, Result
from auralink_dataplane.media.pipeline.decisions import (
    CloseSession,
    Decision,
    Failure,
    Limits,
    OpenSession,
    Proven,
    Refusal,
    RequestKey,
    Send,
    Takeover,
    TookOver,
    UpdatePolicy,
)
from auralink_dataplane.media.pipeline.retries import Retries
from auralink_dataplane.media.pipeline.times import (
    FULL_REST_S,
    KEY_PATIENCE_S,
    KEY_REPEAT_S,
    OPEN_S,
    PROBATION_ANSWERS,
    REOPEN_MAX_S,
    WAITING_FRAMES,
    deadline_ms,
    patience_s,
    prompt,
)
from auralink_dataplane.media.pipeline.unanswered import Asked, Unanswered
from auralink_dataplane.policy import Compression


@dataclass(frozen=True, slots=True)
class Successor:
    """The standby as the stream's session. `unanswered`: what it has yet to look at."""

    session: int
    max_in_flight: int
    unanswered: Unanswered


class Standby:
    """Of one stream; at most one session at a time."""

    def __init__(self, jitter: float) -> None:
        self.session: int | None = None
        """Number of the session that decodes along."""
        self.hurried = False
        """The stream is to move there soon: the sender is asked for a key that it can begin at."""
        self.retries = Retries(jitter)
        self._open = False
        self._fed = False  # it has got its first key
        self._sound = False  # it has answered, and its last answer wanted no key
        self._probation = 0
        self._max_in_flight = 0
        self._unanswered = Unanswered()
        self._opened_at = 0.0
        self._ask_key_at: float | None = None
        self._took_over: tuple[int, str, float] | None = None  # session, why and when, until its key

    @property
    def live(self) -> bool:
        return self.session is not None

    @property
    def ready(self) -> bool:
        """It could go on from the newest frame."""
        return self._open and self._fed and self._sound and not self._probation

    # --- its life -------------------------------------------------------------------------------------------

    def open(self, session: int, policy: Compression, now: float) -> list[Decision]:
        self.session = session
        self._open = self._fed = self._sound = False
        self._probation = 0
        self._opened_at = now
        self.retries.at = self._ask_key_at = None
        return [OpenSession(session, policy, standby=True)]

    def close(self, failure: Failure | None = None) -> list[Decision]:
        """Until it is opened again, which it no longer asks for by itself."""
        session, self.session = self.session, None
        self._open = self.hurried = False
        self.retries.at = self._ask_key_at = None
        self._unanswered.release()
        return [] if session is None else [CloseSession(session, failure)]

    def take(self, reason: str, now: float) -> Successor:
        """It is the stream's session from here on. `settle` tells what came of it."""
        assert self.session is not None  # noqa: S101 - asked for `ready` before
        successor = Successor(self.session, self._max_in_flight, self._unanswered)
        self.session, self._unanswered = None, Unanswered()
        self.close()
        self._took_over = (successor.session, reason, now)
        return successor

    def settle(self, outcome: Takeover, now: float) -> list[Decision]:
        """What came of the last takeover, told once."""
        if self._took_over is None:
            return []
        (session, reason, since), self._took_over = self._took_over, None
        return [TookOver(session, outcome, reason, now - since)]

    def hasten(self, now: float) -> None:
        """If it waits to be opened again, it need not."""
        if self.retries.at is not None:
            self.retries.at = now

    # --- what happens to its session ------------------------------------------------------------------------

    def opened(self, max_in_flight: int, limits: Limits, now: float, *, probe: bool) -> list[Decision]:
        if self._open or self.session is None:
            return []
        self._open = True
        self._max_in_flight = min(limits.in_flight, max_in_flight or limits.in_flight)
        self._probation = PROBATION_ANSWERS if probe else 0
        waiting = self._unanswered.take_waiting()
        self._fed = False
        self._ask_key_at = now + (KEY_REPEAT_S if self.hurried else KEY_PATIENCE_S)
        return [decision for frame in waiting for decision in self.feed(frame, limits, now)]

    def refused(self, why: Refusal, now: float) -> list[Decision]:
        out = self.close()
        self.retries.rest(now, REOPEN_MAX_S if why is Refusal.UNSUPPORTED else FULL_REST_S)
        return out

    def failed(self, failure: Failure, now: float) -> list[Decision]:
        out = self.close(failure)
        self.retries.failed(now, sound_since=self._opened_at)
        return out

    def feed(self, frame: Frame, limits: Limits, now: float) -> list[Decision]:
        """The stream's next frame, whoever answers for it."""
        if self.session is None or not (self._fed or frame.key):
            return []
        if not self._open and len(self._unanswered) >= WAITING_FRAMES:
            self._unanswered.release()
            self._fed = False
            return []
        if self._open and len(self._unanswered) >= self._max_in_flight:
            return self.failed(Failure.OVERFLOW, now)
        self._fed = True
        if frame.key:
            self._ask_key_at = None
        self._unanswered.add(frame, Asked.BESIDE, now, patience_s(limits, key=frame.key), waits=not self._open)
        return [Send(self.session, frame, Mode.SHADOW, deadline_ms(frame, now))] if self._open else []

    def result(self, result: Result, now: float) -> list[Decision]:
        if not self._open or self.session is None:
            return []
        if not self._unanswered.is_next(result.frame_id) or result.disposition is Disposition.COMPRESSED:
            return self.failed(Failure.INVARIANT, now)
        if result.disposition is Disposition.FAILED:
            return self.failed(Failure.INPUT if result.need_key else Failure.FAILED, now)
        entry = self._unanswered.take()
        self._sound = not result.need_key
        if result.need_key and self._ask_key_at is None:
            self._ask_key_at = now + KEY_PATIENCE_S
        if self._probation and prompt(now - entry.sent_at, key=entry.key):
            self._probation -= 1
            if not self._probation:
                return [Proven(self.session)]
        return []

    def configure(self, policy: Compression) -> list[Decision]:
        return [] if self.session is None else [UpdatePolicy(self.session, policy)]

    # --- time -----------------------------------------------------------------------------------------------

    def next_tick(self) -> float | None:
        times = [self.retries.at, self._ask_key_at, self._late_at()]
        return min((at for at in times if at is not None), default=None)

    def tick(self, now: float) -> list[Decision]:
        late_at = self._late_at()
        if late_at is not None and now >= late_at:
            return self.failed(Failure.TIMEOUT, now)
        if self._ask_key_at is None or now < self._ask_key_at:
            return []
        self._ask_key_at = now + (KEY_REPEAT_S if self.hurried else KEY_PATIENCE_S)
        return [RequestKey()]

    def _late_at(self) -> float | None:
        """When it counts as failed, unless it opens or answers."""
        if self.session is None:
            return None
        return self._unanswered.next_deadline() if self._open else self._opened_at + OPEN_S
