"""Keys that receivers want of the AI Core: not more often than they are worth."""

from auralink_dataplane.media.pipeline.times import FORCE_KEY_INTERVAL_S


class ForcedKeys:
    def __init__(self) -> None:
        self.at: float | None = None
        """When the next one is due that is wanted already."""
        self._last_at = -FORCE_KEY_INTERVAL_S

    def want(self, now: float) -> bool:
        """True: at once. Else once the interval is over."""
        if now < self._last_at + FORCE_KEY_INTERVAL_S:
            self.at = self._last_at + FORCE_KEY_INTERVAL_S
            return False
        return True

    def due(self, now: float) -> bool:
        return self.at is not None and now >= self.at

    def forced(self, now: float) -> None:
        self._last_at = now
