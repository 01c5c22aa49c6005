"""One AI Core server: what is known of it, by its answers to polls and by what its sessions report."""

import logging
from collections.abc import Callable
from typing import Final

from auralink_dataplane.media.aic.wire import Call, CallError, Credentials, Identity, Service, open_channel
from auralink_dataplane.media.breaker import Breaker, Limits, State
from auralink_dataplane.media.pipeline import Failure
from auralink_dataplane.media.pipeline.times import FULL_REST_S

log = logging.getLogger(__name__)

LOAD_LIMIT: Final = 0.9


class Endpoint:
    """`available` is called whenever it has become usable."""

    def __init__(
        self,
        address: str,
        host: str,
        credentials: Credentials | None,
        limits: Limits,
        *,
        identity: Identity,
        clock: Callable[[], float],
        available: Callable[[], None],
    ) -> None:
        self.address = address
        self.breaker = Breaker(limits)
        self.load = 0.0
        self.draining = False
        self.reachable: bool | None = None  # None: not heard of yet
        self.rests_until = 0.0
        self.sessions = 0
        self.standbys = 0
        """Of the sessions; the others answer for their streams."""
        self.takeovers = 0
        """Standbys that have become their streams' sessions."""
        self.gone = False
        self.channel = open_channel(address, host, credentials)
        self._service = Service(self.channel, identity)
        self._clock = clock
        self._available = available

    @property
    def serves(self) -> bool:
        """As far as is known."""
        return self.breaker.state is State.CLOSED and self.answers and not self.draining

    @property
    def answers(self) -> bool:
        """As far as is known; the breaker has its own opinion."""
        return self.reachable is not False

    def open_for(self, now: float) -> bool:
        """Whether a new session may go here, the breaker apart."""
        return not self.draining and self.load < LOAD_LIMIT and now >= self.rests_until

    def compress(self) -> Call:
        return self._service.compress()

    async def poll(self) -> None:
        """Load and health; also what half-opens a rested breaker."""
        was_usable = self.reachable is not False and self.open_for(self._clock())
        try:
            found = await self._service.capabilities()
        except CallError as error:
            if self.reachable is not False:
                log.warning("AI Core is unreachable", extra={"endpoint": self.address, "code": error.code})
            self.reachable = False
            return
        if self.reachable is False:
            log.info("AI Core answers again", extra={"endpoint": self.address})
        self.reachable = True
        self.load, self.draining = found.load, found.draining
        half_opened = self.breaker.rest(self._clock())
        if half_opened or (not was_usable and self.open_for(self._clock())):
            self._available()

    # --- what sessions report -------------------------------------------------------------------------------

    def heard(self) -> None:
        self.reachable = True

    def lost(self) -> None:
        self.reachable = False

    def rest(self) -> None:
        """It has no room for a session now."""
        self.rests_until = self._clock() + FULL_REST_S

    def proven(self) -> None:
        """A session has answered enough frames in time."""
        before = self.breaker.state
        if self.breaker.proven(self._clock()):
            self._log_breaker(before)
            self._available()

    def ended(self, failure: Failure | None, *, probe: bool) -> None:
        if failure is not None and failure.blames_core:
            before = self.breaker.state
            self.breaker.failed(self._clock())
            self._log_breaker(before)
        elif probe:
            self.breaker.released()

    def _log_breaker(self, before: State) -> None:
        if self.breaker.state is not before:
            log.warning(
                "circuit breaker changed",
                extra={"endpoint": self.address, "from": before.value, "to": self.breaker.state.value},
            )
