"""The rules of room state as three tables: of a participant on a side, of a side's room, and of a command.

`sides` and `asking` find out which fact an event is, look up the step, and do what its outcome says. A pair that cannot
happen is in no table: it is reported as ILLEGAL and changes nothing. `docs/rooms.md` draws these tables.

Of one participant, `GONE` and `PRESUMED` differ in who said so. A side that says *which* joining ended is believed:
that joining never comes back, whatever arrives late. A leave that does not say which, an absence from two listings, or
the end of the whole room is a conclusion of ours, and a later listing may show that it was wrong.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Presence(Enum):
    ABSENT = "Absent"
    PRESENT = "Present"
    MISSED = "Missed"  # from one listing
    GONE = "Gone"  # its side said that this joining ended
    PRESUMED = "Presumed"  # gone, as we conclude


class Fact(Enum):
    """What an event says of one participant, against what is known."""

    JOIN = "join"  # there, in a later joining than known; or nothing was known
    NEWS = "news"  # there, a newer version of the joining known
    OLD = "old news"  # there, nothing newer than known
    LEAVE = "leave"  # the joining known, or a later one, ended
    VAGUE_LEAVE = "vague leave"  # one ended, it does not say which
    OLD_LEAVE = "old leave"  # an earlier joining ended
    OUTRANKED = "hearsay"  # of Jitsi's event_sync, where presence knows better
    LISTED_JOIN = "join listed"  # as the first three, but in a listing
    LISTED_NEWS = "news listed"
    LISTED = "listed"
    LISTED_BEFORE = "listed earlier"  # in a listing asked for before we took it for gone
    UNLISTED = "not listed"  # not in a listing asked for after the last news
    ROOM_OVER = "room over"  # the room it was in is no more
    EXPIRED = "120 s"


class Room(Enum):
    UNSEEN = "Unseen"
    OPEN = "Open"
    ENDED = "Ended"


class RoomFact(Enum):
    """What an event says of a side's room, by its sid."""

    HERE = "this room"  # or a fact that names none; or the first to name one
    LATER = "later room"  # not known, and its participant joined after everybody here
    OTHER = "other room"  # not known, perhaps an earlier one
    OVER = "past room"  # one that ended
    ENDS = "end"
    PAST_ENDS = "end of another"
    LISTED_HERE = "this room listed"
    LISTED_OTHER = "other room listed"
    LISTED_NONE = "no room listed"  # and nobody is left in it


class Asking(Enum):
    IDLE = "Idle"
    ASKED = "Asked"
    WAITING = "Waiting"  # failed, may be asked again later


class Answered(Enum):
    ASK = "asked"
    ASK_AGAIN = "asked again"  # its deadline is over
    ASK_EARLY = "asked too early"
    DONE = "done"
    FAILED = "failed"
    STRAY_DONE = "late done"  # of a command that is not the one under way
    STRAY_FAILED = "late failed"
    LOST = "mirror lost"  # what was done came undone


class Outcome(Enum):
    """What a step came to. Those in CORRECTIONS are listings putting right what events had wrong, by cause."""

    NOTHING = "nothing"
    ILLEGAL = "illegal"
    # participants
    JOINED = "joined"
    REJOINED = "rejoined"
    UPDATED = "updated"
    RETURNED = "returned"  # news of one presumed gone
    LEFT = "left"
    REMEMBERED = "remembered"  # a leave whose join we never saw
    STALE = "stale"
    LATE = "late"
    OUTRANKED = "outranked"
    MISSED = "missed"
    FORGOTTEN = "forgotten"
    ADDED = "join-lost"
    REPLACED = "rejoin-lost"
    REFRESHED = "update-lost"
    REMOVED = "leave-lost"
    REVIVED = "leave-wrong"
    # rooms
    ROOM_OPENED = "room-opened"
    ROOM_REPLACED = "room-replaced"
    ROOM_ENDED = "room-ended"
    ROOM_DOUBTED = "room-doubted"
    ROOM_STALE = "room-stale"
    ROOM_FOUND = "room-open-lost"
    ROOM_CORRECTED = "room-change-lost"
    ROOM_VANISHED = "room-end-lost"
    LISTING_STALE = "listing-stale"
    # commands and mirrors
    ASKED = "asked"
    TIMED_OUT = "timed-out"
    DONE = "done"
    FAILED = "failed"
    MIRROR_LOST = "mirror-lost"
    REGISTERED = "registered"
    # chat
    SAID = "said"
    ECHO = "echo"
    TOLD_BEFORE = "told-before"
    UNSAID = "unsaid"  # too old, too often failed, or too many
    # bounds
    FULL = "full"


CORRECTIONS: Final = frozenset(
    {
        Outcome.ADDED,
        Outcome.REPLACED,
        Outcome.REFRESHED,
        Outcome.REMOVED,
        Outcome.REVIVED,
        Outcome.ROOM_FOUND,
        Outcome.ROOM_CORRECTED,
        Outcome.ROOM_VANISHED,
    }
)


@dataclass(frozen=True, slots=True)
class Step:
    to: Presence
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class RoomStep:
    to: Room
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class AskingStep:
    to: Asking
    outcome: Outcome


def _there(stays: Presence) -> dict[tuple[Presence, Fact], Step]:
    """Of one that is there; `stays`: where news that change nothing leave it."""
    return {
        (stays, Fact.JOIN): Step(Presence.PRESENT, Outcome.REJOINED),
        (stays, Fact.NEWS): Step(Presence.PRESENT, Outcome.UPDATED),
        (stays, Fact.OLD): Step(stays, Outcome.STALE),
        (stays, Fact.LEAVE): Step(Presence.GONE, Outcome.LEFT),
        (stays, Fact.VAGUE_LEAVE): Step(Presence.PRESUMED, Outcome.LEFT),
        (stays, Fact.OLD_LEAVE): Step(stays, Outcome.STALE),
        (stays, Fact.OUTRANKED): Step(stays, Outcome.OUTRANKED),
        (stays, Fact.LISTED_JOIN): Step(Presence.PRESENT, Outcome.REPLACED),
        (stays, Fact.LISTED_NEWS): Step(Presence.PRESENT, Outcome.REFRESHED),
        (stays, Fact.LISTED): Step(Presence.PRESENT, Outcome.NOTHING),
        (stays, Fact.ROOM_OVER): Step(Presence.PRESUMED, Outcome.LEFT),
    }


PARTICIPANT: Final[dict[tuple[Presence, Fact], Step]] = {
    (Presence.ABSENT, Fact.JOIN): Step(Presence.PRESENT, Outcome.JOINED),
    (Presence.ABSENT, Fact.LEAVE): Step(Presence.GONE, Outcome.REMEMBERED),
    (Presence.ABSENT, Fact.VAGUE_LEAVE): Step(Presence.PRESUMED, Outcome.REMEMBERED),
    (Presence.ABSENT, Fact.LISTED_JOIN): Step(Presence.PRESENT, Outcome.ADDED),
    **_there(Presence.PRESENT),
    (Presence.PRESENT, Fact.UNLISTED): Step(Presence.MISSED, Outcome.MISSED),
    **_there(Presence.MISSED),
    (Presence.MISSED, Fact.UNLISTED): Step(Presence.PRESUMED, Outcome.REMOVED),
    (Presence.GONE, Fact.JOIN): Step(Presence.PRESENT, Outcome.JOINED),
    (Presence.GONE, Fact.OLD): Step(Presence.GONE, Outcome.LATE),
    (Presence.GONE, Fact.LEAVE): Step(Presence.GONE, Outcome.REMEMBERED),
    (Presence.GONE, Fact.VAGUE_LEAVE): Step(Presence.GONE, Outcome.STALE),
    (Presence.GONE, Fact.OLD_LEAVE): Step(Presence.GONE, Outcome.STALE),
    (Presence.GONE, Fact.LISTED_JOIN): Step(Presence.PRESENT, Outcome.ADDED),
    (Presence.GONE, Fact.LISTED): Step(Presence.GONE, Outcome.LATE),
    (Presence.GONE, Fact.LISTED_BEFORE): Step(Presence.GONE, Outcome.LATE),
    (Presence.GONE, Fact.EXPIRED): Step(Presence.ABSENT, Outcome.FORGOTTEN),
    (Presence.PRESUMED, Fact.JOIN): Step(Presence.PRESENT, Outcome.JOINED),
    (Presence.PRESUMED, Fact.NEWS): Step(Presence.PRESENT, Outcome.RETURNED),
    (Presence.PRESUMED, Fact.OLD): Step(Presence.PRESUMED, Outcome.LATE),
    (Presence.PRESUMED, Fact.LEAVE): Step(Presence.GONE, Outcome.REMEMBERED),
    (Presence.PRESUMED, Fact.VAGUE_LEAVE): Step(Presence.PRESUMED, Outcome.STALE),
    (Presence.PRESUMED, Fact.OLD_LEAVE): Step(Presence.PRESUMED, Outcome.STALE),
    (Presence.PRESUMED, Fact.LISTED_JOIN): Step(Presence.PRESENT, Outcome.ADDED),
    (Presence.PRESUMED, Fact.LISTED_NEWS): Step(Presence.PRESENT, Outcome.REVIVED),
    (Presence.PRESUMED, Fact.LISTED): Step(Presence.PRESENT, Outcome.REVIVED),
    (Presence.PRESUMED, Fact.LISTED_BEFORE): Step(Presence.PRESUMED, Outcome.LATE),
    (Presence.PRESUMED, Fact.EXPIRED): Step(Presence.ABSENT, Outcome.FORGOTTEN),
}

ROOM: Final[dict[tuple[Room, RoomFact], RoomStep]] = {
    (Room.UNSEEN, RoomFact.HERE): RoomStep(Room.OPEN, Outcome.ROOM_OPENED),
    (Room.UNSEEN, RoomFact.ENDS): RoomStep(Room.ENDED, Outcome.ROOM_ENDED),
    (Room.UNSEEN, RoomFact.LISTED_HERE): RoomStep(Room.OPEN, Outcome.ROOM_FOUND),
    (Room.UNSEEN, RoomFact.LISTED_NONE): RoomStep(Room.UNSEEN, Outcome.NOTHING),
    (Room.OPEN, RoomFact.HERE): RoomStep(Room.OPEN, Outcome.NOTHING),
    (Room.OPEN, RoomFact.LATER): RoomStep(Room.OPEN, Outcome.ROOM_REPLACED),
    (Room.OPEN, RoomFact.OTHER): RoomStep(Room.OPEN, Outcome.ROOM_DOUBTED),
    (Room.OPEN, RoomFact.OVER): RoomStep(Room.OPEN, Outcome.ROOM_STALE),
    (Room.OPEN, RoomFact.ENDS): RoomStep(Room.ENDED, Outcome.ROOM_ENDED),
    (Room.OPEN, RoomFact.PAST_ENDS): RoomStep(Room.OPEN, Outcome.ROOM_STALE),
    (Room.OPEN, RoomFact.LISTED_HERE): RoomStep(Room.OPEN, Outcome.NOTHING),
    (Room.OPEN, RoomFact.LISTED_OTHER): RoomStep(Room.OPEN, Outcome.ROOM_CORRECTED),
    (Room.OPEN, RoomFact.LISTED_NONE): RoomStep(Room.ENDED, Outcome.ROOM_VANISHED),
    (Room.ENDED, RoomFact.HERE): RoomStep(Room.OPEN, Outcome.ROOM_OPENED),
    (Room.ENDED, RoomFact.LATER): RoomStep(Room.OPEN, Outcome.ROOM_OPENED),
    (Room.ENDED, RoomFact.OTHER): RoomStep(Room.ENDED, Outcome.ROOM_DOUBTED),
    (Room.ENDED, RoomFact.OVER): RoomStep(Room.ENDED, Outcome.ROOM_STALE),
    (Room.ENDED, RoomFact.PAST_ENDS): RoomStep(Room.ENDED, Outcome.ROOM_STALE),
    (Room.ENDED, RoomFact.LISTED_HERE): RoomStep(Room.OPEN, Outcome.ROOM_FOUND),
    (Room.ENDED, RoomFact.LISTED_NONE): RoomStep(Room.ENDED, Outcome.NOTHING),
}

COMMAND: Final[dict[tuple[Asking, Answered], AskingStep]] = {
    (Asking.IDLE, Answered.ASK): AskingStep(Asking.ASKED, Outcome.ASKED),
    (Asking.IDLE, Answered.STRAY_DONE): AskingStep(Asking.IDLE, Outcome.DONE),
    (Asking.IDLE, Answered.STRAY_FAILED): AskingStep(Asking.IDLE, Outcome.STALE),
    (Asking.IDLE, Answered.LOST): AskingStep(Asking.WAITING, Outcome.MIRROR_LOST),
    (Asking.ASKED, Answered.ASK_AGAIN): AskingStep(Asking.ASKED, Outcome.TIMED_OUT),
    (Asking.ASKED, Answered.DONE): AskingStep(Asking.IDLE, Outcome.DONE),
    (Asking.ASKED, Answered.FAILED): AskingStep(Asking.WAITING, Outcome.FAILED),
    (Asking.ASKED, Answered.STRAY_DONE): AskingStep(Asking.ASKED, Outcome.DONE),
    (Asking.ASKED, Answered.STRAY_FAILED): AskingStep(Asking.ASKED, Outcome.STALE),
    (Asking.ASKED, Answered.LOST): AskingStep(Asking.ASKED, Outcome.MIRROR_LOST),
    (Asking.WAITING, Answered.ASK): AskingStep(Asking.ASKED, Outcome.ASKED),
    (Asking.WAITING, Answered.STRAY_DONE): AskingStep(Asking.IDLE, Outcome.DONE),
    (Asking.WAITING, Answered.STRAY_FAILED): AskingStep(Asking.WAITING, Outcome.STALE),
    (Asking.WAITING, Answered.LOST): AskingStep(Asking.WAITING, Outcome.MIRROR_LOST),
}
