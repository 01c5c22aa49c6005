"""Frames without an answer yet, and until when each may stay so."""

from collections import deque
from dataclasses import dataclass

from auralink_dataplane.media.frames import Frame, Mode


@dataclass(slots=True)
class Entry:
    frame: Frame | None  # until it is sent
    frame_id: int
    key: bool
    compress: bool
    sent_at: float
    deadline: float


class Unanswered:
    """Of one session, in the order of their answers."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, frame: Frame, mode: Mode, now: float, patience_s: float, *, waits: bool) -> None:
        """`waits`: it is not sent yet."""
        self._entries.append(
            Entry(
                frame=frame if waits else None,
                frame_id=frame.frame_id,
                key=frame.key,
                compress=mode is Mode.COMPRESS,
                sent_at=now,
                # answers come in order: nobody is late while the one before may still be working
                deadline=max(now + patience_s, self._entries[-1].deadline if self._entries else 0.0),
            )
        )

    def next_deadline(self) -> float | None:
        return self._entries[0].deadline if self._entries else None

    def is_next(self, frame_id: int) -> bool:
        return bool(self._entries) and self._entries[0].frame_id == frame_id

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
            entry.compress = False
        return owed

    def release(self) -> list[Entry]:
        """Forgets all. Returns those that the packet core still waits for."""
        owed = self._owed()
        self._entries.clear()
        return owed

    def _owed(self) -> list[Entry]:
        return [entry for entry in self._entries if entry.compress]
