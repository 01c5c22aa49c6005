"""The life of a command: asked, answered, and when it may be asked again. Pure; `tables.COMMAND` has the steps."""

import zlib
from typing import Final

from auralink_dataplane.backoff import backoff
from auralink_dataplane.rooms.commands import (
    DEADLINES_S,
    FIRST_WAIT_S,
    LONGEST_WAIT_S,
    Command,
    Mirror,
    RemoveMirror,
    Shown,
)
from auralink_dataplane.rooms.memory import MAX_ASKED, Draft, Held, Pending, RoomState
from auralink_dataplane.rooms.tables import COMMAND, Answered, Asking, Outcome

STEADY_S: Final = 60.0
"""A mirror that stood for so long was no failure when it is lost."""
FORGET_S: Final = 600.0
"""After its time, a command that nobody asked for again is forgotten."""


def wait_s(key: str, failures: int) -> float:
    """Each command has its own place in the spread, by its key."""
    return backoff(max(failures, 1), FIRST_WAIT_S, LONGEST_WAIT_S, zlib.crc32(key.encode()) / 2**32)


def is_under_way(pending: Pending, now: float) -> bool:
    return pending.state is Asking.ASKED and now < pending.until


def may_ask(state: RoomState, command: Command, now: float) -> bool:
    """Nothing of its key is under way, and it is not waiting after a failure of its own kind."""
    pending = state.asked.get(command.key)
    if pending is None:
        return True
    if is_under_way(pending, now):
        return False
    if type(pending.command) is not type(command):
        return True
    silent = pending.state is Asking.ASKED
    return now >= pending.until + (wait_s(command.key, pending.failures + 1) if silent else 0.0)


def step(draft: Draft, command: Command, answer: Answered) -> Outcome:
    """One line of the table; ILLEGAL where there is none. `command` is what is remembered from now on, where one is."""
    key, now = command.key, draft.now
    pending = draft.asked.now.get(key)
    line = COMMAND.get((pending.state if pending else Asking.IDLE, answer))
    draft.note(line.outcome if line else Outcome.ILLEGAL, name=key)
    if line is None:
        return Outcome.ILLEGAL
    failures = pending.failures if pending and type(pending.command) is type(command) else 0
    if answer in (Answered.STRAY_DONE, Answered.STRAY_FAILED) and line.to is Asking.ASKED:
        return line.outcome  # another one is under way
    if line.outcome is Outcome.STALE or (line.outcome is Outcome.MIRROR_LOST and line.to is Asking.ASKED):
        return line.outcome
    if line.to is Asking.IDLE:
        draft.asked.drop(key)
    elif line.to is Asking.ASKED:
        failures += line.outcome is Outcome.TIMED_OUT
        until = now + DEADLINES_S[type(command)]
        draft.asked.put_within(MAX_ASKED, key, Pending(command, Asking.ASKED, until, failures))
    else:
        wait(draft, command, failures + 1)
    return line.outcome


def wait(draft: Draft, command: Command, failures: int) -> None:
    until = draft.now + wait_s(command.key, failures)
    draft.asked.put_within(MAX_ASKED, command.key, Pending(command, Asking.WAITING, until, failures))


def lose(draft: Draft, origin: str, held: Held) -> None:
    """A mirror is no longer on its side. Unless we were taking it away, it counts as a failure of having put it: one
    that is thrown out each time it comes is put back ever more slowly."""
    draft.mirrors.drop(origin)
    again = Mirror(origin, held.to, held.id, held.shown or Shown())
    pending = draft.asked.now.get(again.key)
    if pending is not None and isinstance(pending.command, RemoveMirror):
        return
    step(draft, again, Answered.LOST)
    after = draft.asked.now.get(again.key)
    if after is not None and after.state is Asking.WAITING:
        steady = draft.now - held.since >= STEADY_S
        wait(draft, again, 1 if steady else held.failures + 1)


def forget(draft: Draft) -> None:
    for key, pending in list(draft.asked.now.items()):
        if draft.now >= pending.until + FORGET_S:
            draft.asked.drop(key)
