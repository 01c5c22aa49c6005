"""What is known of one bridged room, as values; and the draft in which one event changes it.

Facts are those of `events`, applied by `sides`; answers to commands those of `commands`, applied by `answers`. Every
map here has a bound, named beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Generic, TypeVar

from auralink_dataplane.rooms.attributes import IDENTITY_PREFIX, origin_of
from auralink_dataplane.rooms.commands import Command, Refuse, Shown
from auralink_dataplane.rooms.events import Participant, Said, Side, Source, Version
from auralink_dataplane.rooms.tables import CORRECTIONS, Asking, Outcome, Presence, Room

V = TypeVar("V")

MAX_PARTICIPANTS: Final = 5000
"""Of a side, our mirrors with them. More are refused and counted (FULL); a bridge's policy allows 1000."""
MAX_TOMBSTONES: Final = 5000
"""Of a side; beyond it the oldest is forgotten early."""
MAX_REGISTERED: Final = 2 * MAX_PARTICIPANTS
MAX_PAST_ROOMS: Final = 16
"""Sids of rooms that are over, the latest."""
MAX_ASKED: Final = 2 * MAX_PARTICIPANTS + 1024
MAX_CHAT: Final = 256
"""Messages waiting to be told."""
MAX_TEXT: Final = 15_000
"""Characters of a message; LiveKit sends reliable data up to 15 KiB."""
MAX_TOLD: Final = 1024
"""Ids of messages told, the latest."""

TOMBSTONE_S: Final = 120.0
"""Longer than Jitsi keeps a lost connection (smacks hibernation, 60 s) and than LiveKit repeats a webhook."""
CHAT_S: Final = 30.0
"""A message that could not be told by then is no longer part of the talk."""
ENDED: Final = 2**63 - 1
"""Version number of a joining that its side says is over: nothing of it is newer."""


@dataclass(frozen=True, slots=True)
class Known:
    participant: Participant
    at: float  # when the last news of it came
    by: Source
    missed: bool = False  # in the last listing


@dataclass(frozen=True, slots=True)
class Tombstone:
    version: Version  # a join must be newer
    at: float
    by: Source  # whose word the version is


@dataclass(frozen=True, slots=True)
class SideState:
    side: Side
    room: Room = Room.UNSEEN
    room_sid: str = ""  # of the open one; empty while nobody has named it
    since: float = float("-inf")  # when the room opened, ended, or became another
    past: tuple[str, ...] = ()  # sids of rooms that are over
    people: Mapping[str, Known] = field(default_factory=dict)
    tombstones: Mapping[str, Tombstone] = field(default_factory=dict)  # the oldest first
    registered: Mapping[str, str] = field(default_factory=dict)  # id of ours -> origin, "" for a receiver
    listed_at: float = float("-inf")  # when the last listing was asked for
    doubted_at: float | None = None  # a listing asked for after this will tell
    newest: int = 0  # the latest incarnation seen

    def presence(self, participant: str) -> Presence:
        if (known := self.people.get(participant)) is not None:
            return Presence.MISSED if known.missed else Presence.PRESENT
        return buried(self.tombstones.get(participant))


def buried(tombstone: Tombstone | None) -> Presence:
    if tombstone is None:
        return Presence.ABSENT
    return Presence.GONE if tombstone.version.number == ENDED else Presence.PRESUMED


@dataclass(frozen=True, slots=True)
class Held:
    """A mirror whose leg this pod holds."""

    to: Side
    id: str
    shown: Shown | None  # our last write; None while one is under way or without an answer
    since: float
    failures: int = 0  # in a row before it


@dataclass(frozen=True, slots=True)
class Pending:
    """What was asked for, and has not been done."""

    command: Command
    state: Asking  # ASKED or WAITING
    until: float  # ASKED: its deadline; WAITING: the earliest next try
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Saying:
    said: Said
    author: Participant | None  # as known when it was said
    at: float


@dataclass(frozen=True, slots=True)
class RoomState:
    """A Jitsi conference and a LiveKit room that are one. `jitsi_room`: the JID, by which origins name it."""

    jitsi_room: str
    livekit: SideState
    jitsi: SideState
    mirrors: Mapping[str, Held] = field(default_factory=dict)  # by origin; each is in `people` of its side
    asked: Mapping[str, Pending] = field(default_factory=dict)  # by the command's key
    refused: Mapping[str, Refuse] = field(default_factory=dict)  # by key: what was told already
    chat: tuple[Saying, ...] = ()
    told: Mapping[str, None] = field(default_factory=dict)
    empty_since: float | None = None  # nobody real on either side

    def side(self, side: Side) -> SideState:
        return self.livekit if side is Side.LIVEKIT else self.jitsi

    def origin(self, side: Side, participant: str) -> str | None:
        """Of somebody whose home is `side`; None while the room's sid is not known."""
        room = self.jitsi_room if side is Side.JITSI else self.livekit.room_sid
        return origin_of(side, room, participant) if room else None


def opened(jitsi_room: str, now: float) -> RoomState:
    """Nothing is known yet, so both sides are asked at once; so begins a room, and a pod that takes one over."""
    return RoomState(
        jitsi_room,
        livekit=SideState(Side.LIVEKIT, doubted_at=now),
        jitsi=SideState(Side.JITSI, doubted_at=now),
        empty_since=now,
    )


def is_ours(side: SideState, participant: Participant) -> bool:
    """Put there by a bridge, this one or another: never mirrored."""
    return (
        bool(participant.origin)
        or participant.is_bridge
        or participant.id in side.registered
        or (side.side is Side.LIVEKIT and participant.id.startswith(IDENTITY_PREFIX))
    )


def is_real(side: SideState, participant: Participant) -> bool:
    return not participant.hidden and not is_ours(side, participant)


@dataclass(frozen=True, slots=True)
class Change:
    """What an event came to, for metrics and logs."""

    outcome: Outcome
    side: Side | None = None
    id: str = ""  # participant, room sid, message, or key of a command
    by: Source | None = None

    @property
    def is_correction(self) -> bool:
        return self.outcome in CORRECTIONS


# --- the draft --------------------------------------------------------------------------------------------------


class Changing(Generic[V]):
    """A map copied when it is first written to. What is put goes to the end."""

    def __init__(self, before: Mapping[str, V]) -> None:
        self.now: Mapping[str, V] = before
        self._own: dict[str, V] | None = None

    def _written(self) -> dict[str, V]:
        if self._own is None:
            self._own = dict(self.now)
            self.now = self._own
        return self._own

    def put(self, key: str, value: V) -> None:
        own = self._written()
        own.pop(key, None)
        own[key] = value

    def replace(self, key: str, value: V) -> None:
        """In its place."""
        self._written()[key] = value

    def drop(self, key: str) -> None:
        if key in self.now:
            del self._written()[key]

    def put_within(self, most: int, key: str, value: V) -> None:
        """At the cost of the oldest."""
        self.put(key, value)
        while len(self.now) > most:
            self.drop(next(iter(self.now)))


class SideDraft:
    def __init__(self, before: SideState) -> None:
        self.before = before
        self.side = before.side
        self.room = before.room
        self.room_sid = before.room_sid
        self.since = before.since
        self.past = before.past
        self.people = Changing(before.people)
        self.tombstones = Changing(before.tombstones)
        self.registered = Changing(before.registered)
        self.listed_at = before.listed_at
        self.doubted_at = before.doubted_at
        self.newest = before.newest

    def finished(self) -> SideState:
        after = replace(
            self.before, room=self.room, room_sid=self.room_sid, since=self.since, past=self.past,
            people=self.people.now, tombstones=self.tombstones.now, registered=self.registered.now,
            listed_at=self.listed_at, doubted_at=self.doubted_at, newest=self.newest,
        )  # fmt: skip
        return self.before if after == self.before else after


@dataclass(slots=True)
class Draft:
    before: RoomState
    now: float
    sides: dict[Side, SideDraft] = field(init=False)
    mirrors: Changing[Held] = field(init=False)
    asked: Changing[Pending] = field(init=False)
    refused: Changing[Refuse] = field(init=False)
    told: Changing[None] = field(init=False)
    chat: tuple[Saying, ...] = field(init=False)
    changes: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sides = {side: SideDraft(self.before.side(side)) for side in Side}
        self.mirrors = Changing(self.before.mirrors)
        self.asked = Changing(self.before.asked)
        self.refused = Changing(self.before.refused)
        self.told = Changing(self.before.told)
        self.chat = self.before.chat

    def note(self, outcome: Outcome, side: Side | None = None, name: str = "", by: Source | None = None) -> None:
        if outcome is not Outcome.NOTHING:
            self.changes.append(Change(outcome, side, name, by))

    def finished(self) -> RoomState:
        livekit, jitsi = self.sides[Side.LIVEKIT].finished(), self.sides[Side.JITSI].finished()
        after = replace(
            self.before, livekit=livekit, jitsi=jitsi, mirrors=self.mirrors.now, asked=self.asked.now,
            refused=self.refused.now, chat=self.chat, told=self.told.now, empty_since=self._empty_since(livekit, jitsi),
        )  # fmt: skip
        return self.before if after == self.before else after

    def _empty_since(self, livekit: SideState, jitsi: SideState) -> float | None:
        if any(is_real(side, known.participant) for side in (livekit, jitsi) for known in side.people.values()):
            return None
        return self.now if self.before.empty_since is None else self.before.empty_since
