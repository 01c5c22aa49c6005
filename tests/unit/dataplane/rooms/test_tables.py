"""The tables are whole: each pair of a state and a fact has its line, or is named here as one that cannot be."""

from enum import Enum
from itertools import product

import pytest
from auralink_dataplane.rooms.tables import (
    COMMAND,
    CORRECTIONS,
    PARTICIPANT,
    ROOM,
    Answered,
    Asking,
    Fact,
    Outcome,
    Presence,
    Room,
    RoomFact,
)

from hack.roomdoc import PAGE, TABLES, drawing, written

_THERE = (Presence.PRESENT, Presence.MISSED)
_NOT_THERE = (Presence.ABSENT, Presence.GONE, Presence.PRESUMED)

IMPOSSIBLE = {
    # of nobody known, whatever comes first is a join or a leave
    *product([Presence.ABSENT], [Fact.NEWS, Fact.OLD, Fact.OLD_LEAVE, Fact.LISTED_NEWS, Fact.LISTED]),
    # nothing is newer than a joining that ended, but the next joining
    *product([Presence.GONE], [Fact.NEWS, Fact.LISTED_NEWS]),
    # only of those that are there
    *product(_NOT_THERE, [Fact.UNLISTED, Fact.ROOM_OVER, Fact.OUTRANKED]),
    # only of those that left
    *product([*_THERE, Presence.ABSENT], [Fact.EXPIRED, Fact.LISTED_BEFORE]),
}
IMPOSSIBLE_ROOM = {
    # where no room was known there is no other one
    *product([Room.UNSEEN], [RoomFact.LATER, RoomFact.OTHER, RoomFact.OVER, RoomFact.PAST_ENDS, RoomFact.LISTED_OTHER]),
    (Room.ENDED, RoomFact.ENDS),  # is the end of another, or the same news again
    (Room.ENDED, RoomFact.LISTED_OTHER),  # no room is here that it could differ from
}
IMPOSSIBLE_COMMAND = {
    (Asking.IDLE, Answered.ASK_AGAIN), (Asking.IDLE, Answered.ASK_EARLY), (Asking.IDLE, Answered.DONE),
    (Asking.IDLE, Answered.FAILED),
    (Asking.ASKED, Answered.ASK), (Asking.ASKED, Answered.ASK_EARLY),
    (Asking.WAITING, Answered.ASK_AGAIN), (Asking.WAITING, Answered.ASK_EARLY),
    (Asking.WAITING, Answered.DONE), (Asking.WAITING, Answered.FAILED),
}  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "pairs", "impossible"),
    [
        (set(PARTICIPANT), set(product(Presence, Fact)), IMPOSSIBLE),
        (set(ROOM), set(product(Room, RoomFact)), IMPOSSIBLE_ROOM),
        (set(COMMAND), set(product(Asking, Answered)), IMPOSSIBLE_COMMAND),
    ],
    ids=["participant", "room", "command"],
)
def test_each_pair_has_a_line_or_cannot_be(
    lines: set[tuple[Enum, Enum]], pairs: set[tuple[Enum, Enum]], impossible: set[tuple[Enum, Enum]]
) -> None:
    assert not lines & impossible
    assert lines | impossible == pairs


def test_only_listings_correct() -> None:
    listing = {Fact.LISTED_JOIN, Fact.LISTED_NEWS, Fact.LISTED, Fact.UNLISTED}
    for (_, fact), step in PARTICIPANT.items():
        assert step.outcome not in CORRECTIONS or fact in listing
    for (_, room_fact), room_step in ROOM.items():
        assert room_step.outcome not in CORRECTIONS or room_fact.name.startswith("LISTED")


def test_a_joining_that_ended_is_left_only_by_a_later_one_or_by_time() -> None:
    out = {fact for (state, fact), step in PARTICIPANT.items() if state is Presence.GONE and step.to is not state}
    assert out == {Fact.JOIN, Fact.LISTED_JOIN, Fact.EXPIRED}


def test_every_outcome_that_tables_name_has_a_name_of_its_own() -> None:
    assert len({outcome.value for outcome in Outcome}) == len(Outcome)


def test_the_page_for_readers_draws_the_tables_as_they_are() -> None:
    page = PAGE.read_text()
    assert written(page) == page


def test_every_line_is_in_the_drawing() -> None:
    for table in TABLES.values():
        drawn = drawing(table)
        for (state, fact), step in table.items():
            rows = [row for row in drawn.splitlines() if row.startswith(f"| {state.value} |") and fact.value in row]
            assert any(f"| {step.to.value} |" in row and step.outcome.value in row + "nothing" for row in rows)
            if step.to is not state:
                assert f"    {state.value} --> {step.to.value}: " in drawn


def test_a_page_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="markers of participant"):
        written("# Rooms")
