"""Facts in few words, and a room that takes them one a second."""

from collections.abc import Iterable
from typing import Any

from auralink_dataplane.policy import Rules
from auralink_dataplane.rooms.commands import Answer, Asked, Command
from auralink_dataplane.rooms.events import Event, Left, Listed, Participant, RoomOpened, Seen, Side, Source, Version
from auralink_dataplane.rooms.plan import plan
from auralink_dataplane.rooms.state import Change, RoomState, apply, opened
from auralink_dataplane.rooms.tables import Outcome

JID = "room@conference.example"
LK, JITSI = Side.LIVEKIT, Side.JITSI
SID = {LK: "RM_1", JITSI: "meeting-1"}


def person(side: Side, name: str, incarnation: int = 1, number: int = 0, **more: Any) -> Participant:
    return Participant(side, name, Version(incarnation, number), name=more.pop("shown", name.title()), **more)


def seen(
    side: Side, name: str, incarnation: int = 1, number: int = 0, *,
    source: Source | None = None, sid: str | None = None, **more: Any,
) -> Seen:  # fmt: skip
    source = source or (Source.WEBHOOK if side is LK else Source.PRESENCE)
    return Seen(person(side, name, incarnation, number, **more), source, SID[side] if sid is None else sid)


def left(side: Side, name: str, incarnation: int = 0, *, source: Source | None = None, sid: str | None = None) -> Left:
    source = source or (Source.WEBHOOK if side is LK else Source.PRESENCE)
    return Left(side, name, Version(incarnation), source, SID[side] if sid is None else sid)


def listed(side: Side, asked_at: float, *people: Participant, sid: str | None = None) -> Listed:
    return Listed(side, SID[side] if sid is None else sid, tuple(people), asked_at)


class Bridged:
    """A room, its clock, and what its last event came to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.state: RoomState = opened(JID, now)
        self.changes: tuple[Change, ...] = ()
        self.history: list[Change] = []

    def take(self, *events: Event | Answer, after: float = 1.0) -> "Bridged":
        for event in events:
            self.now += after
            self.state, self.changes = apply(self.state, event, self.now)
            self.history += self.changes
        return self

    def known(self) -> "Bridged":
        """Both sides have said that they are open and empty."""
        return self.take(
            RoomOpened(LK, SID[LK], Source.WEBHOOK), RoomOpened(JITSI, SID[JITSI], Source.PRESENCE)
        ).relist()

    def relist(self, livekit: Iterable[Participant] = (), jitsi: Iterable[Participant] = ()) -> "Bridged":
        self.take(listed(LK, self.now + 0.5, *livekit))
        return self.take(listed(JITSI, self.now + 0.5, *jitsi))

    def ask(self, rules: Rules | None = None) -> tuple[Command, ...]:
        """The plan, begun."""
        commands = self.plan(rules)
        self.take(*(Asked(command) for command in commands), after=0)
        return commands

    def plan(self, rules: Rules | None = None) -> tuple[Command, ...]:
        return plan(self.state, rules or Rules(), self.now)

    @property
    def outcomes(self) -> list[Outcome]:
        return [change.outcome for change in self.changes]

    def there(self, side: Side) -> set[str]:
        return set(self.state.side(side).people)
