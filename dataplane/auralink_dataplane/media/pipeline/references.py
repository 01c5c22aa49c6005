"""Whose pictures the receivers of a stream hold, at the point that answers have reached, and what may follow."""

from typing import Final

from auralink_dataplane.media.frames import Disposition, Extension, Result
from auralink_dataplane.media.pipeline.decisions import Drop, Submit, SubmitNative
from auralink_dataplane.media.pipeline.unanswered import Entry

SKIPPING_S: Final = 2.0
"""An AI Core that leaves out every picture so long, and wants no key, does not do its work: it skips one that is late,
and those that are not shown, or later."""


class References:
    """The two invariants of an AI Core's answers: (I1) UNCHANGED follows COMPRESSED only at a native key and then lasts
    until a SHADOW frame was seen, (I2) COMPRESSED follows UNCHANGED, or what another session made, only with a key."""

    def __init__(self) -> None:
        self.ours = False
        self._of_another = False  # session: only a key may follow
        self._unchanged_run = False
        self._skipping_since: float | None = None

    def begin(self) -> None:
        """Another session answers from here on, to receivers that hold the sender's references."""
        self._unchanged_run = False

    def take_over(self) -> None:
        """Another session answers from here on, to receivers that hold the references of the one before."""
        self._unchanged_run = False
        self._of_another = self.ours

    def lose(self) -> None:
        """Nobody knows what was dropped: only a native key is safe."""
        self.ours = True

    def forget(self) -> bool:
        """The session has ended. Returns whose the references were."""
        ours, self.ours, self._of_another = self.ours, False, False
        return ours

    def native(self) -> None:
        """The native frame has gone out by itself."""
        self.ours = self._of_another = self._unchanged_run = False

    def answer(self, entry: Entry, result: Result, now: float) -> Submit | SubmitNative | Drop | None:
        """What the packet core gets for a frame that it waits with; None: the answer breaks an invariant."""
        skipped = result.disposition is Disposition.SKIPPED and not result.need_key
        if not skipped:
            self._skipping_since = None
        elif self._skipping_since is None:
            self._skipping_since = now
        match result.disposition:
            case Disposition.COMPRESSED if not result.payload:
                return None
            case Disposition.COMPRESSED:
                if self._unchanged_run or not (result.key or (self.ours and not self._of_another)):
                    return None
                self.ours, self._of_another = True, False
                return Submit(entry.frame_id, result.payload, Extension.of(result).pack(), result.key)
            case Disposition.UNCHANGED:
                if self.ours and not entry.key:
                    return None
                self.ours = self._of_another = False
                self._unchanged_run = True
                return SubmitNative(entry.frame_id, entry.key)
            case _ if self.ours:
                stuck = self._skipping_since is not None and now - self._skipping_since > SKIPPING_S
                return None if stuck else Drop(entry.frame_id)
            case _:  # receivers hold native references: a picture left out would end their run until the next key
                return SubmitNative(entry.frame_id, entry.key)
