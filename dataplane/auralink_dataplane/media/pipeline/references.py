"""Whose pictures the receivers of a stream hold, at the point that answers have reached, and what may follow."""

from auralink_dataplane.media.frames import Disposition, Extension, Result
from auralink_dataplane.media.pipeline.decisions import Drop, Submit, SubmitNative
from auralink_dataplane.media.pipeline.unanswered import Entry


class References:
    """The two invariants of an AI Core's answers: (I1) UNCHANGED follows COMPRESSED only at a native key and then lasts
    until a SHADOW frame was seen, (I2) COMPRESSED follows UNCHANGED, or what another session made, only with a key."""

    def __init__(self) -> None:
        self.ours = False
        self._of_another = False  # session: only a key may follow
        self._unchanged_run = False

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

    def answer(self, entry: Entry, result: Result) -> Submit | SubmitNative | Drop | None:
        """What the packet core gets for a frame that it waits with; None: the answer breaks an invariant."""
        match result.disposition:
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
                return Drop(entry.frame_id)
            case _:  # receivers hold native references: a picture left out would end their run until the next key
                return SubmitNative(entry.frame_id, entry.key)
