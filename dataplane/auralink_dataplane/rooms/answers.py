"""What the room's worker says of the commands it was given, and chat; applied."""

from dataclasses import replace
from typing import Final

from auralink_dataplane.rooms import asking, sides
from auralink_dataplane.rooms.commands import (
    Asked,
    CloseRoom,
    Done,
    Failed,
    Mirror,
    Refuse,
    Registered,
    RemoveMirror,
    Shown,
    Tell,
    UpdateMirror,
)
from auralink_dataplane.rooms.events import Left, Participant, RoomEnded, Said, Seen, Source, Version
from auralink_dataplane.rooms.memory import (
    CHAT_S,
    MAX_ASKED,
    MAX_CHAT,
    MAX_REGISTERED,
    MAX_TEXT,
    MAX_TOLD,
    Draft,
    Held,
    Saying,
    is_ours,
)
from auralink_dataplane.rooms.tables import Answered, Asking, Outcome, Room

MAX_TELLS: Final = 3
"""Tries of one chat message."""


def asked(draft: Draft, event: Asked) -> None:
    pending = draft.asked.now.get(event.command.key)
    if pending is None or pending.state is Asking.WAITING:
        asking.step(draft, event.command, Answered.ASK)
    else:
        over = not asking.is_under_way(pending, draft.now)
        asking.step(draft, event.command, Answered.ASK_AGAIN if over else Answered.ASK_EARLY)
    if isinstance(event.command, UpdateMirror):
        _written(draft, event.command, None)


def done(draft: Draft, event: Done) -> None:
    """What was done is so, whether or not it was still waited for."""
    command = event.command
    pending = draft.asked.now.get(command.key)
    failures = pending.failures if pending else 0
    awaited = pending is not None and pending.state is Asking.ASKED and pending.command == command
    asking.step(draft, command, Answered.DONE if awaited else Answered.STRAY_DONE)
    if isinstance(command, Mirror):
        _mirrored(draft, command, event, failures)
        _written(draft, command, command.shown if awaited else None)
    elif isinstance(command, UpdateMirror):
        _written(draft, command, command.shown if awaited else None)
    elif isinstance(command, RemoveMirror):
        held = draft.mirrors.now.get(command.origin)
        if held is not None and held.id == command.id:
            draft.mirrors.drop(command.origin)
        if command.id in draft.sides[command.to].people.now:
            sides.left(draft, Left(command.to, command.id, Version(0), Source.SIGNALLING))
    elif isinstance(command, Tell):
        _drop_message(draft, command)
    elif isinstance(command, CloseRoom):
        sides.room_ended(draft, RoomEnded(command.side, command.room_sid, Source.SIGNALLING))
    elif isinstance(command, Refuse):
        draft.refused.put_within(MAX_ASKED, command.key, command)


def _mirrored(draft: Draft, command: Mirror, event: Done, failures: int) -> None:
    name = event.id or command.id
    side = draft.sides[command.to]
    if side.room is Room.ENDED:  # it went with the room
        return
    registered(draft, Registered(command.to, name, command.origin))
    if not event.version.incarnation and name not in side.people.now:
        side.tombstones.drop(name)  # of an earlier mirror of this id; without a version nothing tells them apart
    one = Participant(
        command.to, name, event.version, command.shown.name, command.shown.role, command.shown.hand_raised,
        command.shown.tracks, origin=command.origin, is_bridge=True,
    )  # fmt: skip
    sides.seen(draft, Seen(one, Source.SIGNALLING))
    if name in side.people.now:  # else it has left already
        draft.mirrors.put(command.origin, Held(command.to, name, command.shown, draft.now, failures))


def _written(draft: Draft, command: Mirror | UpdateMirror, shown: Shown | None) -> None:
    """A write without an answer may have come to pass or not: until the next one nothing is known of what is shown."""
    held = draft.mirrors.now.get(command.origin)
    if held is not None and held.shown != shown and command.id in ("", held.id):
        draft.mirrors.replace(command.origin, replace(held, shown=shown))


def failed(draft: Draft, event: Failed) -> None:
    command = event.command
    pending = draft.asked.now.get(command.key)
    awaited = pending is not None and pending.state is Asking.ASKED and pending.command == command
    asking.step(draft, command, Answered.FAILED if awaited else Answered.STRAY_FAILED)
    if isinstance(command, Tell) and pending is not None and pending.failures + 1 >= MAX_TELLS:
        draft.asked.drop(command.key)
        _drop_message(draft, command)
        draft.note(Outcome.UNSAID, command.to.other, command.id)


def registered(draft: Draft, event: Registered) -> None:
    """One that came before its registration was told becomes ours."""
    side = draft.sides[event.side]
    if side.registered.now.get(event.id) == event.origin:
        return
    side.registered.put_within(MAX_REGISTERED, event.id, event.origin)
    known = side.people.now.get(event.id)
    if known is not None:
        ours = replace(known.participant, origin=known.participant.origin or event.origin, is_bridge=True)
        side.people.replace(event.id, replace(known, participant=ours))
    draft.note(Outcome.REGISTERED, event.side, event.id)


def _drop_message(draft: Draft, command: Tell) -> None:
    draft.chat = tuple(one for one in draft.chat if (one.said.side.other, one.said.id) != (command.to, command.id))


# --- chat -------------------------------------------------------------------------------------------------------


def said(draft: Draft, event: Said) -> None:
    side = draft.sides[event.side]
    known = side.people.now.get(event.author)
    author = known.participant if known else None
    key = f"{event.side.value} {event.id}"
    outcome = Outcome.SAID
    if is_ours(draft.before.side(event.side), author or Participant(event.side, event.author, Version(0))):
        outcome = Outcome.ECHO
    elif key in draft.told.now:
        outcome = Outcome.TOLD_BEFORE
    elif len(draft.chat) >= MAX_CHAT or len(event.text) > MAX_TEXT:
        outcome = Outcome.FULL
    draft.note(outcome, event.side, event.id, event.source)
    if outcome is Outcome.SAID:
        draft.told.put_within(MAX_TOLD, key, None)
        draft.chat = (*draft.chat, Saying(event, author, draft.now))


def expire(draft: Draft) -> None:
    """Messages too old to be told, the oldest first."""
    while draft.chat and draft.now >= draft.chat[0].at + CHAT_S:
        old = draft.chat[0].said
        draft.note(Outcome.UNSAID, old.side, old.id, old.source)
        draft.chat = draft.chat[1:]
