"""Circuit breaker of one AI Core endpoint, pure; `aic` owns one per endpoint and feeds it.

Failures in a row open it, so that nothing is tried at an endpoint that does not answer; after a rest one session may
probe, decode-only, and its proof closes the breaker again. A session lost for a reason of its own is no verdict.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final


class State(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Event(Enum):
    TRIPPED = "tripped"  # failures without a success between have reached the limit
    RESTED = "rested"
    FAILED = "failed"
    PROVEN = "proven"


class Permit(Enum):
    NONE = "none"
    PROBE = "probe"  # one decode-only session, which must prove the endpoint
    FULL = "full"


TABLE: Final = {
    (State.CLOSED, Event.TRIPPED): State.OPEN,
    (State.OPEN, Event.RESTED): State.HALF_OPEN,
    (State.HALF_OPEN, Event.FAILED): State.OPEN,
    (State.HALF_OPEN, Event.PROVEN): State.CLOSED,
}
"""Every other pair changes nothing."""


@dataclass(frozen=True, slots=True)
class Limits:
    failures: int = 5
    open_s: float = 60.0


class Breaker:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.state = State.CLOSED
        self.failures = 0
        self._probing = False
        self._opened_at = 0.0

    def permit(self, now: float) -> Permit:
        """What a new session may do now. Asking takes the one PROBE: until its verdict others get NONE."""
        self.rest(now)
        if self.state is State.CLOSED:
            return Permit.FULL
        if self.state is State.HALF_OPEN and not self._probing:
            self._probing = True
            return Permit.PROBE
        return Permit.NONE

    def rest(self, now: float) -> bool:
        """Half-opens when the rest is over; True if that happened now."""
        return (
            self.state is State.OPEN and now >= self._opened_at + self.limits.open_s and self._step(Event.RESTED, now)
        )

    def rests_for(self, now: float) -> float | None:
        """Seconds until it half-opens; None where it is not open."""
        return self._opened_at + self.limits.open_s - now if self.state is State.OPEN else None

    def failed(self, now: float) -> None:
        self.failures += 1
        if self.failures >= self.limits.failures:
            self._step(Event.TRIPPED, now)
        self._step(Event.FAILED, now)

    def succeeded(self) -> None:
        """An answer came. Where the breaker is not closed only `proven` counts."""
        if self.state is State.CLOSED:
            self.failures = 0

    def proven(self, now: float) -> bool:
        """The probe answered often enough in time; True if that closed the breaker."""
        return self._step(Event.PROVEN, now)

    def released(self) -> None:
        """The probe ended without a verdict: its stream is gone."""
        self._probing = False

    def _step(self, event: Event, now: float) -> bool:
        target = TABLE.get((self.state, event))
        if target is None:
            return False
        self.state = target
        self._probing = False
        if target is State.OPEN:
            self._opened_at = now
        elif target is State.CLOSED:
            self.failures = 0
        return True
