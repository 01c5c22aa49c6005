"""What a side says of itself, applied: which fact it is, the table's step, and what follows from the outcome."""

from dataclasses import replace
from typing import Final

from auralink_dataplane.rooms import asking
from auralink_dataplane.rooms.attributes import origin_of
from auralink_dataplane.rooms.commands import Refuse
from auralink_dataplane.rooms.events import (
    Left,
    Listed,
    Participant,
    RoomEnded,
    RoomOpened,
    Seen,
    Side,
    Source,
    TrackSource,
    Version,
)
from auralink_dataplane.rooms.memory import (
    ENDED,
    MAX_PARTICIPANTS,
    MAX_PAST_ROOMS,
    MAX_TOMBSTONES,
    TOMBSTONE_S,
    Draft,
    Known,
    SideDraft,
    Tombstone,
    buried,
)
from auralink_dataplane.rooms.tables import PARTICIPANT, ROOM, Fact, Outcome, Presence, Room, RoomFact, Step

_PRESENT: Final = (Presence.PRESENT, Presence.MISSED)
_OF_LISTING: Final = {Fact.JOIN: Fact.LISTED_JOIN, Fact.NEWS: Fact.LISTED_NEWS, Fact.OLD: Fact.LISTED}
_ELSEWHERE: Final = (RoomFact.OVER, RoomFact.OTHER)


# --- events -----------------------------------------------------------------------------------------------------


def seen(draft: Draft, event: Seen) -> None:
    one = event.participant
    side = draft.sides[one.side]
    joins = _seen_fact(side, one, event.source) in (Fact.JOIN, Fact.NEWS)
    if _enter(draft, side, event.room_sid, event.source, joins, one.version.incarnation):
        _there(draft, side, one, event.source, _seen_fact(side, one, event.source))


def left(draft: Draft, event: Left) -> None:
    side = draft.sides[event.side]
    if not _enter(draft, side, event.room_sid, event.source, False, event.version.incarnation):
        return
    fact = _left_fact(side, event)
    step = _step(draft, side, event.id, fact, event.source)
    if step is not None and step.outcome in (Outcome.LEFT, Outcome.REMEMBERED):
        _bury(draft, side, event.id, step, event.source, event.version.incarnation)


def room_opened(draft: Draft, event: RoomOpened) -> None:
    side = draft.sides[event.side]
    _room_step(draft, side, _room_fact(side, event.room_sid, None), event.room_sid, event.source)


def room_ended(draft: Draft, event: RoomEnded) -> None:
    side, sid = draft.sides[event.side], event.room_sid
    this = side.room is not Room.ENDED and (not sid or not side.room_sid or sid == side.room_sid)
    this = this and (not sid or sid not in side.past)
    _room_step(draft, side, RoomFact.ENDS if this else RoomFact.PAST_ENDS, sid, event.source)
    _remember_past(side, sid)


def listed(draft: Draft, event: Listed) -> None:
    side = draft.sides[event.side]
    same = bool(event.room_sid) and event.room_sid == side.room_sid
    if event.asked_at <= side.listed_at or (not same and event.asked_at <= side.since):
        draft.note(Outcome.LISTING_STALE, event.side, event.room_sid, Source.LISTING)
        return
    side.listed_at = event.asked_at
    if side.doubted_at is not None and event.asked_at >= side.doubted_at:
        side.doubted_at = None
    if event.room_sid:
        other = side.room is not Room.UNSEEN and side.room_sid not in ("", event.room_sid)
        fact = RoomFact.LISTED_OTHER if other else RoomFact.LISTED_HERE
        if _room_step(draft, side, fact, event.room_sid, Source.LISTING) is Outcome.ROOM_CORRECTED:
            for one in event.participants:  # who is in the room as it is now was not in the former
                side.tombstones.drop(one.id)
    people = event.participants if event.room_sid else ()
    for one in people:
        _there(draft, side, one, Source.LISTING, _listed_fact(side, one, event.asked_at))
    names = {one.id for one in people}
    for name, known in list(side.people.now.items()):
        if name not in names and known.at < event.asked_at:
            _unlisted(draft, side, name, known)
    if not event.room_sid and not side.people.now:
        _room_step(draft, side, RoomFact.LISTED_NONE, side.room_sid, Source.LISTING)
    asking.forget(draft)


def expire(draft: Draft) -> None:
    """Tombstones that are over, the oldest first."""
    for side in draft.sides.values():
        while side.tombstones.now:
            name, stone = next(iter(side.tombstones.now.items()))
            if draft.now < stone.at + TOMBSTONE_S:
                break
            _step(draft, side, name, Fact.EXPIRED, None)
            _forget(draft, side, name)


# --- one participant --------------------------------------------------------------------------------------------


def _seen_fact(side: SideDraft, one: Participant, by: Source) -> Fact:
    known, stone = side.people.now.get(one.id), side.tombstones.now.get(one.id)
    if known is not None:
        before, former = known.participant.version, known.by
    elif stone is not None:
        before, former = stone.version, stone.by
    else:
        return Fact.JOIN
    if _is_hearsay(side, before, former, by):
        return Fact.OUTRANKED if known is not None else Fact.OLD
    if _is_better_word(side, former, by, one.version):
        return Fact.NEWS
    if one.version.incarnation > before.incarnation:
        return Fact.JOIN
    return Fact.NEWS if one.version > before else Fact.OLD


def _is_hearsay(side: SideDraft, before: Version, former: Source, by: Source) -> bool:
    """event_sync counts joinings by another clock than presence does: the better word wins, not the version."""
    by_presence = former is not Source.WEBHOOK and before.incarnation > 0
    return side.side is Side.JITSI and by is Source.WEBHOOK and by_presence


def _is_better_word(side: SideDraft, former: Source, by: Source, version: Version) -> bool:
    hearsay = side.side is Side.JITSI and former is Source.WEBHOOK
    return hearsay and by is not Source.WEBHOOK and version.incarnation > 0


def _listed_fact(side: SideDraft, one: Participant, asked_at: float) -> Fact:
    fact = _OF_LISTING[_seen_fact(side, one, Source.LISTING)]
    stone = side.tombstones.now.get(one.id)
    if one.id in side.people.now or stone is None or asked_at > stone.at:
        return fact
    later_joining = buried(stone) is Presence.GONE and fact is Fact.LISTED_JOIN
    return fact if later_joining else Fact.LISTED_BEFORE


def _left_fact(side: SideDraft, event: Left) -> Fact:
    incarnation = event.version.incarnation
    known, stone = side.people.now.get(event.id), side.tombstones.now.get(event.id)
    if known is not None:
        if _is_hearsay(side, known.participant.version, known.by, event.source):
            return Fact.OUTRANKED
        if _is_better_word(side, known.by, event.source, event.version):
            return Fact.LEAVE
    hearsay = side.side is Side.JITSI and event.source is Source.WEBHOOK
    if hearsay and known is not None and 0 < incarnation < known.participant.version.incarnation:
        return Fact.OLD_LEAVE
    if hearsay or not incarnation:
        return Fact.VAGUE_LEAVE
    if known is not None:
        return Fact.LEAVE if incarnation >= known.participant.version.incarnation else Fact.OLD_LEAVE
    if stone is None:
        return Fact.LEAVE
    oldest = stone.version.incarnation + (buried(stone) is Presence.GONE)
    return Fact.LEAVE if incarnation >= oldest else Fact.OLD_LEAVE


def _presence(side: SideDraft, name: str) -> Presence:
    if (known := side.people.now.get(name)) is not None:
        return Presence.MISSED if known.missed else Presence.PRESENT
    return buried(side.tombstones.now.get(name))


def _step(draft: Draft, side: SideDraft, name: str, fact: Fact, by: Source | None) -> Step | None:
    step = PARTICIPANT.get((_presence(side, name), fact))
    draft.note(step.outcome if step else Outcome.ILLEGAL, side.side, name, by)
    return step


def _there(draft: Draft, side: SideDraft, one: Participant, by: Source, fact: Fact) -> None:
    before = _presence(side, one.id)
    if before not in _PRESENT and len(side.people.now) >= MAX_PARTICIPANTS:
        draft.note(Outcome.FULL, side.side, one.id, by)
        return
    step = _step(draft, side, one.id, fact, by)
    if step is None or step.to is not Presence.PRESENT:
        return
    if step.outcome is Outcome.NOTHING:  # listed as known
        known = side.people.now[one.id]
        if known.missed:
            side.people.replace(one.id, replace(known, missed=False))
        return
    if step.outcome in (Outcome.STALE, Outcome.OUTRANKED):
        return
    side.tombstones.drop(one.id)
    side.newest = max(side.newest, one.version.incarnation)
    if one.id in side.registered.now:
        one = replace(one, origin=one.origin or side.registered.now[one.id], is_bridge=True)
    side.people.replace(one.id, Known(one, draft.now, by))


def _unlisted(draft: Draft, side: SideDraft, name: str, known: Known) -> None:
    step = _step(draft, side, name, Fact.UNLISTED, Source.LISTING)
    if step is None:
        return
    if step.to is Presence.MISSED:
        side.people.replace(name, replace(known, missed=True))
    else:
        _bury(draft, side, name, step, Source.LISTING)


def _bury(draft: Draft, side: SideDraft, name: str, step: Step, by: Source, incarnation: int = 0) -> None:
    known, stone = side.people.now.get(name), side.tombstones.now.get(name)
    version, former = Version(incarnation), by
    if known is not None:
        version, former = known.participant.version, known.by
    elif stone is not None:
        version, former = stone.version, stone.by
    if step.to is Presence.GONE:
        better = _is_better_word(side, former, by, Version(incarnation))
        version = Version(incarnation if better else max(version.incarnation, incarnation), ENDED)
        former = by
    side.people.drop(name)
    side.tombstones.put(name, Tombstone(version, draft.now, former))
    while len(side.tombstones.now) > MAX_TOMBSTONES:
        _forget(draft, side, next(iter(side.tombstones.now)))
    home = origin_of(side.side, draft.before.jitsi_room if side.side is Side.JITSI else side.room_sid, name)
    for refusal in (Refuse(home, side.side, name), Refuse(home, side.side, name, (TrackSource.OTHER,))):
        draft.refused.drop(refusal.key)
    origin = side.registered.now.get(name, "")
    held = draft.mirrors.now.get(origin)
    if held is not None and held.to is side.side and held.id == name:
        asking.lose(draft, origin, held)


def _forget(draft: Draft, side: SideDraft, name: str) -> None:
    side.tombstones.drop(name)
    held = draft.mirrors.now.get(side.registered.now.get(name, ""))
    if held is None or held.id != name:
        side.registered.drop(name)


# --- a side's room ----------------------------------------------------------------------------------------------


def _enter(draft: Draft, side: SideDraft, sid: str, by: Source, joins: bool, incarnation: int) -> bool:
    """Whether a fact is of the room as it is now. One that names no room opens none, unless somebody joins."""
    if not sid and not joins and side.room is not Room.OPEN:
        return True
    fact = _room_fact(side, sid, incarnation)
    return _room_step(draft, side, fact, sid, by) is not None and fact not in _ELSEWHERE


def _room_fact(side: SideDraft, sid: str, incarnation: int | None) -> RoomFact:
    """`incarnation` None: the fact is the opening itself, which has no time."""
    if sid and sid in side.past:
        return RoomFact.OVER
    if not sid or side.room is Room.UNSEEN or (side.room is Room.OPEN and side.room_sid in ("", sid)):
        return RoomFact.HERE
    if incarnation is not None:
        return RoomFact.LATER if incarnation > side.newest else RoomFact.OTHER
    return RoomFact.OTHER if side.room is Room.OPEN and side.people.now else RoomFact.LATER


def _room_step(draft: Draft, side: SideDraft, fact: RoomFact, sid: str, by: Source) -> Outcome | None:
    step = ROOM.get((side.room, fact))
    draft.note(step.outcome if step else Outcome.ILLEGAL, side.side, sid, by)
    if step is None:
        return None
    outcome = step.outcome
    if outcome in (Outcome.ROOM_REPLACED, Outcome.ROOM_CORRECTED, Outcome.ROOM_ENDED, Outcome.ROOM_VANISHED):
        _clear(draft, side, by)
        former, side.room_sid = side.room_sid, ""
        _remember_past(side, former)
    if step.to is not side.room or outcome in (Outcome.ROOM_REPLACED, Outcome.ROOM_CORRECTED):
        side.since = draft.now
    side.room = step.to
    if outcome is Outcome.ROOM_DOUBTED:
        side.doubted_at = draft.now
    if step.to is Room.OPEN and fact not in _ELSEWHERE and fact is not RoomFact.PAST_ENDS:
        _name(draft, side, sid)
    return outcome


def _name(draft: Draft, side: SideDraft, sid: str) -> None:
    """The room is open under this sid. Under none, its side is asked for it: origins need it."""
    if sid:
        side.room_sid = sid
        side.past = tuple(past for past in side.past if past != sid)
    elif not side.room_sid and side.doubted_at is None and side.side is Side.LIVEKIT:
        side.doubted_at = draft.now


def _clear(draft: Draft, side: SideDraft, by: Source) -> None:
    for name in list(side.people.now):
        step = _step(draft, side, name, Fact.ROOM_OVER, by)
        if step is not None:
            _bury(draft, side, name, step, by)


def _remember_past(side: SideDraft, sid: str) -> None:
    if sid and sid not in side.past and sid != side.room_sid:
        side.past = (*side.past, sid)[-MAX_PAST_ROOMS:]
