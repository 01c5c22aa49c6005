"""What is to be done so that each side shows the other's people: desired against actual. Pure.

Desired are the real participants of each side that the room's rules admit, on the other side. Actual are the mirrors
whose legs this pod holds, and those it sees but does not hold: left behind by a pod that went, or by a command whose
answer was lost. The plan is asked after each event and each second; what is under way or waits after a failure it does
not repeat. Once both sides are as they should be it is empty.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2s
from itertools import chain, islice
from typing import Final

from auralink_dataplane.policy import Rules
from auralink_dataplane.rooms.asking import is_under_way, may_ask
from auralink_dataplane.rooms.attributes import AURA_ID, livekit_identity, parse_origin
from auralink_dataplane.rooms.commands import (
    CloseRoom,
    Command,
    ListRoom,
    Mirror,
    Refuse,
    RemoveMirror,
    Shown,
    Tell,
    UpdateMirror,
)
from auralink_dataplane.rooms.events import MAX_NAME, Participant, Side, Track, TrackSource
from auralink_dataplane.rooms.memory import CHAT_S, RoomState, Saying, SideState, is_real
from auralink_dataplane.rooms.tables import Room

MAX_UNDER_WAY: Final = 256
"""Commands of one room at a time. More wait for the next plan, and nothing is asked twice meanwhile."""
STALE_S: Final = 60.0
"""A room empty on both sides for so long is closed."""

_MEDIA: Final[dict[TrackSource, tuple[str, ...]]] = {
    TrackSource.CAMERA: ("video",),
    TrackSource.MICROPHONE: ("audio",),
    TrackSource.SCREEN: ("screen_share",),
    TrackSource.SCREEN_AUDIO: ("audio", "screen_share"),
}
"""Fields of the policy's `media` that must all allow a track. Others go by their type, see `_may_cross`."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    origin: str
    home: Participant
    to: Side
    shown: Shown


@dataclass(frozen=True, slots=True)
class _Desired:
    wanted: dict[str, _Wanted]  # by origin
    refusals: tuple[Refuse, ...]


def plan(state: RoomState, rules: Rules, now: float) -> tuple[Command, ...]:
    """In the order in which they are to be begun. Worst cost: a pass over both sides."""
    desired = _desired(state, rules, now)
    free = MAX_UNDER_WAY - sum(is_under_way(pending, now) for pending in state.asked.values())
    needed = chain(
        _listings(state), _removals(state, desired), _updates(state, desired), _tells(state, rules, now),
        _mirrors(state, desired, rules, now), _refusals(state, desired), _closings(state, now),
    )  # fmt: skip
    begun: dict[str, Command] = {}
    for command in needed:
        if command.key not in begun and may_ask(state, command, now):
            begun[command.key] = command
    return tuple(islice(begun.values(), max(free, 0)))


def is_over(state: RoomState, now: float) -> bool:
    """Nobody is there, both rooms are closed and nothing is under way: it may be forgotten."""
    empty = state.empty_since is not None and now >= state.empty_since + STALE_S
    closed = all(state.side(side).room is not Room.OPEN for side in Side)
    known = all(state.side(side).doubted_at is None for side in Side)
    return empty and closed and known and not any(is_under_way(one, now) for one in state.asked.values())


# --- desired ----------------------------------------------------------------------------------------------------


def _desired(state: RoomState, rules: Rules, now: float) -> _Desired:
    homes = []
    for side in Side:
        there = state.side(side)
        for known in there.people.values():
            home = known.participant
            if is_real(there, home) and (origin := state.origin(side, home.id)) is not None:
                homes.append((origin, home))
    begun = state.mirrors.keys() | _being_put(state, now)
    homes.sort(key=lambda one: (one[0] not in begun, one[1].version.incarnation, one[0]))
    most = len(homes) if rules.max_participants is None else rules.max_participants
    refusals = [Refuse(origin, home.side, home.id) for origin, home in homes[most:]]
    wanted = {}
    crosses = _Crosses(rules)
    for origin, home in homes[:most]:
        tracks = home.tracks
        if not all(crosses[track.source, track.mime] for track in tracks):
            refused = {track.source for track in tracks if not crosses[track.source, track.mime]}
            tracks = tuple(track for track in tracks if crosses[track.source, track.mime])
            refusals.append(Refuse(origin, home.side, home.id, tuple(sorted(refused, key=lambda one: one.value))))
        to = home.side.other
        if state.side(to).room is not Room.ENDED:
            wanted[origin] = _Wanted(origin, home, to, _shown(origin, home, tracks, rules))
    return _Desired(wanted, tuple(refusals))


class _Crosses(dict[tuple[TrackSource, str], bool]):
    """Whether the policy lets a track of this source and type over; a room's tracks are of few kinds."""

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self._rules = rules

    def __missing__(self, kind: tuple[TrackSource, str]) -> bool:
        self[kind] = verdict = _may_cross(*kind, self._rules)
        return verdict


def _may_cross(source: TrackSource, mime: str, rules: Rules) -> bool:
    kind, _, codec = mime.partition("/")
    media = _MEDIA.get(source)
    if media is None:
        media = (kind,) if kind in ("audio", "video") else ("audio", "video")
    if any(getattr(rules.media, medium) != "Allow" for medium in media):
        return False
    return not (kind == "video" and rules.codecs is not None and codec.upper() not in rules.codecs)


def _shown(origin: str, home: Participant, tracks: tuple[Track, ...], rules: Rules) -> Shown:
    aura_id = home.attributes.get(AURA_ID, "")
    attributes = ((AURA_ID, aura_id),) if aura_id and rules.privacy == "Full" else ()
    return Shown(_name(origin, home.name, rules), home.role, home.hand_raised, tracks, attributes)


def _name(origin: str, name: str, rules: Rules) -> str:
    if rules.privacy in ("Full", "DisplayName"):
        return name[:MAX_NAME]
    return "" if rules.privacy == "Hidden" else f"Guest {blake2s(origin.encode(), digest_size=2).hexdigest()}"


# --- what is needed ---------------------------------------------------------------------------------------------


def _listings(state: RoomState) -> Iterator[Command]:
    return (ListRoom(side) for side in Side if state.side(side).doubted_at is not None)


def _removals(state: RoomState, desired: _Desired) -> Iterator[Command]:
    held = state.mirrors.items()
    yield from sorted(
        (RemoveMirror(origin, one.to, one.id) for origin, one in held if origin not in desired.wanted), key=_by_key
    )
    for side in Side:
        yield from sorted(_leftovers(state, desired, side), key=_by_key)


def _leftovers(state: RoomState, desired: _Desired, side: Side) -> Iterator[RemoveMirror]:
    """Mirrors that we see and do not hold, whose participant left, or has another one by now."""
    home_listed_at = state.side(side.other).listed_at
    for name, known in state.side(side).people.items():
        origin = known.participant.origin
        held = state.mirrors.get(origin)
        if not origin or (held is not None and held.id == name) or not _is_of_this_room(state, side, origin, name):
            continue
        unneeded = held is not None if origin in desired.wanted else home_listed_at > known.at
        if unneeded:
            yield RemoveMirror(origin, side, name)


def _is_of_this_room(state: RoomState, side: Side, origin: str, name: str) -> bool:
    """Mirrors of other rooms and bridges are not ours to touch."""
    parts = parse_origin(origin)
    if parts is None or parts[0] is not side.other:
        return False
    if name in state.side(side).registered:
        return True  # put by this pod, or by the one that had the room before
    home = state.side(side.other)
    return parts[1] in ((state.jitsi_room,) if home.side is Side.JITSI else (home.room_sid, *home.past))


def _by_key(command: RemoveMirror | UpdateMirror) -> tuple[str, str]:
    return command.key, command.id


def _updates(state: RoomState, desired: _Desired) -> Iterator[Command]:
    updates = (
        UpdateMirror(origin, held.to, held.id, wanted.shown)
        for origin, wanted in desired.wanted.items()
        if (held := state.mirrors.get(origin)) is not None and held.shown != wanted.shown
    )
    return iter(sorted(updates, key=_by_key))


def _being_put(state: RoomState, now: float) -> set[str]:
    return {
        one.command.origin for one in state.asked.values() if isinstance(one.command, Mirror) and is_under_way(one, now)
    }


def _mirrors(state: RoomState, desired: _Desired, rules: Rules, now: float) -> Iterator[Command]:
    """Where the policy has a maximum, a place is taken when it is free and not before."""
    putting = _being_put(state, now)
    places = len(desired.wanted)
    if rules.max_participants is not None:
        places = rules.max_participants - len({*state.mirrors, *putting})
    for origin, wanted in desired.wanted.items():  # those that came first, first
        if origin in state.mirrors:
            continue
        if origin not in putting:
            places -= 1
            if places < 0:
                return
        name = livekit_identity(wanted.home.id, state.jitsi_room) if wanted.to is Side.LIVEKIT else ""
        yield Mirror(origin, wanted.to, name, wanted.shown)


def _tells(state: RoomState, rules: Rules, now: float) -> Iterator[Command]:
    if rules.media.data != "Allow":
        return
    for saying in state.chat:
        to = saying.said.side.other
        if now < saying.at + CHAT_S and state.side(to).room is Room.OPEN:
            origin = state.origin(to.other, saying.said.author) or ""
            held = state.mirrors.get(origin)
            author = _author(origin, saying, rules)
            yield Tell(to, saying.said.id, author, saying.said.text, held.id if held else "")


def _author(origin: str, saying: Saying, rules: Rules) -> str:
    return _name(origin, saying.author.name if saying.author else "", rules)


def _refusals(state: RoomState, desired: _Desired) -> Iterator[Command]:
    return (refusal for refusal in desired.refusals if state.refused.get(refusal.key) != refusal)


def _closings(state: RoomState, now: float) -> Iterator[Command]:
    """Nobody's room is closed on hearsay: both sides were listed after it became empty."""
    since = state.empty_since
    if since is None or now < since + STALE_S:
        return
    if all(state.side(side).listed_at > since for side in Side):
        for side in Side:
            if state.side(side).room is Room.OPEN:
                yield CloseRoom(side, state.side(side).room_sid)


# --- media ------------------------------------------------------------------------------------------------------


def demand(state: RoomState, rules: Rules, now: float) -> dict[Side, frozenset[str]]:
    """Ids of the tracks that this pod should pull from each side: of mirrored participants, allowed, not muted, and
    somebody real is on the other side. Who of them watches is for the legs to find out."""
    found: dict[Side, set[str]] = {side: set() for side in Side}
    for origin, one in _desired(state, rules, now).wanted.items():
        if origin in state.mirrors and _somebody_watches(state.side(one.to)):
            found[one.home.side].update(track.id for track in one.shown.tracks if not track.muted)
    return {side: frozenset(tracks) for side, tracks in found.items()}


def _somebody_watches(side: SideState) -> bool:
    return any(is_real(side, known.participant) for known in side.people.values())
