"""Frames without an answer yet, and until when each may stay so."""

from collections import deque
from dataclasses import dataclass
from enum import Enum

from auralink_dataplane.media.frames import Frame


class Asked(Enum):
    """What was asked for, and so what the answer is for."""

    OURS = "ours"  # the packet core waits for it
    NATIVE = "native"  # nothing: the frame has gone out as it came
    BESIDE = "beside"  # nothing: another session answers for the frame
    PROMOTION = "promotion"  # the last picture as a key; the packet core waits for it


@dataclass(slots=True)
class Entry:
    frame: Frame | None  # until it is sent
    frame_id: int
    key: bool
    asked: Asked
    sent_at: float
    deadline: float

    @property
    def owed(self) -> bool:
        """To the packet core."""
        return self.asked in (Asked.OURS, Asked.PROMOTION)


class Unanswered:
    """Of one session, in the order of their answers."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, frame: Frame, asked: Asked, now: float, patience_s: float, *, waits: bool) -> None:
        """`waits`: it is not sent yet."""
        self._append(Entry(frame if waits else None, frame.frame_id, frame.key, asked, now, now + patience_s))

    def add_promotion(self, frame_id: int, now: float, patience_s: float) -> None:
        """`frame_id`: of the frame that its key is to answer."""
        self._append(Entry(None, frame_id, False, Asked.PROMOTION, now, now + patience_s))

    def _append(self, entry: Entry) -> None:
        if self._entries:  # answers come in order: nobody is late while the one before may still be working
            entry.deadline = max(entry.deadline, self._entries[-1].deadline)
        self._entries.append(entry)

    def next_deadline(self) -> float | None:
        return self._entries[0].deadline if self._entries else None

    def is_next(self, frame_id: int) -> bool:
        """A promotion is answered with the last picture, which a hidden frame may follow."""
        if not self._entries:
            return False
        first = self._entries[0]
        return frame_id == first.frame_id or (first.asked is Asked.PROMOTION and frame_id < first.frame_id)

    def take(self) -> Entry:
        """The one that is answered."""
        return self._entries.popleft()

    def put_back(self, entry: Entry) -> None:
        """Its answer does not count."""
        self._entries.appendleft(entry)

    def take_waiting(self) -> list[Frame]:
        """Frames that waited for the session to open; they are added again when they go."""
        waiting = [entry.frame for entry in self._entries if entry.frame]
        self._entries.clear()
        return waiting

    def excuse(self) -> list[Entry]:
        """Those that the packet core waits for, up to here: from now on their answers are looked at only."""
        owed = self._owed()
        for entry in owed:
            entry.asked = Asked.NATIVE
        return owed

    def release(self) -> list[Entry]:
        """Forgets all. Returns those that the packet core still waits for."""
        owed = self._owed()
        self._entries.clear()
        return owed

    def _owed(self) -> list[Entry]:
        return [entry for entry in self._entries if entry.owed]
