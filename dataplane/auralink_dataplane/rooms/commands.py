"""What a room's worker is asked to do, and what it answers.

Every command may be carried out twice with the same result. `key` says which commands exclude each other: one of a key
is under way at a time, so a mirror is not taken away while it is being put. The worker applies `Asked` when it starts
one and `Done` or `Failed` when it ends; without an answer it counts as failed after its deadline.
"""

from dataclasses import dataclass
from typing import Final

from auralink_dataplane.rooms.events import Role, Side, Track, TrackSource, Version

FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 30.0
"""Between tries of what failed: doubling, spread by 20 % so that what failed together does not come back together."""


UNVERSIONED: Final = Version(0)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a mirror shows of its participant: all of it, each time."""

    name: str = ""
    role: Role = Role.SPEAKER
    hand_raised: bool = False
    tracks: tuple[Track, ...] = ()  # those that may cross, by id; `muted` as at home
    attributes: tuple[tuple[str, str], ...] = ()  # by name


@dataclass(frozen=True, slots=True)
class Mirror:
    """Put a participant on the other side; one of ours that is there already is taken over or replaced."""

    origin: str
    to: Side
    id: str  # on `to`; empty where that side gives it (Jitsi), then `Done` says it
    shown: Shown

    @property
    def key(self) -> str:
        return f"mirror {self.origin}"


@dataclass(frozen=True, slots=True)
class UpdateMirror:
    origin: str
    to: Side
    id: str
    shown: Shown

    @property
    def key(self) -> str:
        return f"mirror {self.origin}"


@dataclass(frozen=True, slots=True)
class RemoveMirror:
    """Close the leg if this pod holds it, else have the side remove it. That it is gone already is success."""

    origin: str
    to: Side
    id: str

    @property
    def key(self) -> str:
        return f"mirror {self.origin}"


@dataclass(frozen=True, slots=True)
class Tell:
    """A chat message for the other side. `mirror`: who says it there; empty: the bridge, which names the author."""

    to: Side
    id: str  # on the side where it was said
    author: str  # as shown to `to`
    text: str
    mirror: str = ""

    @property
    def key(self) -> str:
        return f"tell {self.to.value} {self.id}"


@dataclass(frozen=True, slots=True)
class ListRoom:
    """Ask a side for all that it has; the answer is a `Listed`."""

    side: Side

    @property
    def key(self) -> str:
        return f"list {self.side.value}"


@dataclass(frozen=True, slots=True)
class CloseRoom:
    side: Side
    room_sid: str

    @property
    def key(self) -> str:
        return f"close {self.side.value}"


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell a participant, and whoever counts, that it or some of its tracks do not cross the bridge. Told once."""

    origin: str
    side: Side
    id: str
    tracks: tuple[TrackSource, ...] = ()  # that the policy's media does not allow; empty: beyond its maxParticipants

    @property
    def key(self) -> str:
        return f"refuse {'tracks' if self.tracks else 'participant'} {self.origin}"


Command = Mirror | UpdateMirror | RemoveMirror | Tell | ListRoom | CloseRoom | Refuse

DEADLINES_S: Final[dict[type[Command], float]] = {
    Mirror: 15.0,  # signalling, ICE and DTLS; half of that is a bad day
    UpdateMirror: 5.0,
    RemoveMirror: 5.0,
    Tell: 5.0,
    ListRoom: 10.0,  # the interval of listings
    CloseRoom: 10.0,
    Refuse: 5.0,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """The worker begins with a command."""

    command: Command


@dataclass(frozen=True, slots=True)
class Done:
    """`id`, `version`: of a Mirror, what it is on its side and the joining that made it. Without the version the leave
    of an earlier mirror of the same id, coming late, is taken for one of this."""

    command: Command
    id: str = ""
    version: Version = UNVERSIONED


@dataclass(frozen=True, slots=True)
class Failed:
    command: Command
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Registered:
    """This id on this side is ours: before it joins (Jitsi), and from what the room's former owner left behind.
    `origin` empty: a receiver, nobody's mirror."""

    side: Side
    id: str
    origin: str


Answer = Asked | Done | Failed | Registered
