"""When a session that has failed is opened again, for the stream's own and for its standby."""

from auralink_dataplane.backoff import backoff, spread
from auralink_dataplane.media.pipeline import times


class Retries:
    def __init__(self, jitter: float) -> None:
        """`jitter`: 0..1, of this stream, so that streams that lose their sessions together come back one by one."""
        self.at: float | None = None
        """When it is to be opened again."""
        self._jitter = jitter
        self._failures = 0

    def failed(self, now: float, *, sound_since: float | None) -> None:
        """After 1, 2, 4 .. 60 s. `sound_since`: when it began to do its work; long enough ago earlier failures are
        forgotten."""
        if sound_since is not None and now - sound_since >= times.SOUND_RUN_S:
            self._failures = 0
        self._failures += 1
        self.at = now + backoff(self._failures, times.REOPEN_FIRST_S, times.REOPEN_MAX_S, self._jitter)

    def rest(self, now: float, wait_s: float) -> None:
        """It is not its failure: after so long."""
        self.at = now + spread(wait_s, self._jitter)

    def due(self, now: float) -> bool:
        return self.at is not None and now >= self.at
