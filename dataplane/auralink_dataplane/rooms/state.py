"""The room's memory and its one way to change: `apply(state, event, now) -> (state, changes)`.

Events come in any order, twice, late, or never; `tables` says what each comes to. What changes nothing gives back the
same state. `now` is the pod's clock, in seconds, and must not run backwards.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from auralink_dataplane.rooms import answers, sides
from auralink_dataplane.rooms.commands import Answer, Asked, Done, Failed, Registered
from auralink_dataplane.rooms.events import Event, Left, Listed, RoomEnded, RoomOpened, Said, Seen
from auralink_dataplane.rooms.memory import (
    Change,
    Draft,
    Held,
    Known,
    Pending,
    RoomState,
    SideState,
    Tombstone,
    is_ours,
    is_real,
    opened,
)

__all__ = [
    "Change", "Held", "Known", "Pending", "RoomState", "SideState", "Tombstone",
    "apply", "is_ours", "is_real", "opened",
]  # fmt: skip

_APPLIES: Final[Mapping[type[Any], Callable[[Draft, Any], None]]] = {
    Seen: sides.seen,
    Left: sides.left,
    RoomOpened: sides.room_opened,
    RoomEnded: sides.room_ended,
    Listed: sides.listed,
    Said: answers.said,
    Asked: answers.asked,
    Done: answers.done,
    Failed: answers.failed,
    Registered: answers.registered,
}


def apply(state: RoomState, event: Event | Answer, now: float) -> tuple[RoomState, tuple[Change, ...]]:
    draft = Draft(state, now)
    sides.expire(draft)
    answers.expire(draft)
    _APPLIES[type(event)](draft, event)
    return draft.finished(), tuple(draft.changes)
