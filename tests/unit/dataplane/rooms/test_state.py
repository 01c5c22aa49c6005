"""What is believed of a room, rule by rule."""

from dataclasses import replace

import pytest
from auralink_dataplane.rooms import memory
from auralink_dataplane.rooms.commands import Asked, Done, Failed, ListRoom, Mirror, Registered, Shown
from auralink_dataplane.rooms.events import RoomEnded, RoomOpened, Said, Source, Version
from auralink_dataplane.rooms.state import is_real
from auralink_dataplane.rooms.tables import Outcome, Presence, Room

from tests.unit.dataplane.rooms.facts import JID, JITSI, LK, SID, Bridged, left, listed, person, seen

# --- versions ---------------------------------------------------------------------------------------------------


def test_a_newer_version_counts_and_an_older_or_equal_one_changes_nothing() -> None:
    room = Bridged().known().take(seen(LK, "ann", 1, 5, shown="Ann"))
    before = room.state
    assert room.take(seen(LK, "ann", 1, 4, shown="Old")).outcomes == [Outcome.STALE]
    assert room.take(seen(LK, "ann", 1, 5, shown="Same")).outcomes == [Outcome.STALE]
    assert room.state is before
    assert room.take(seen(LK, "ann", 1, 6, shown="New")).outcomes == [Outcome.UPDATED]
    assert room.state.livekit.people["ann"].participant.name == "New"


def test_a_later_incarnation_is_a_new_joining_whatever_its_number() -> None:
    room = Bridged().known().take(seen(LK, "ann", 1, 9), seen(LK, "ann", 2, 0))
    assert room.outcomes == [Outcome.REJOINED]
    assert room.take(left(LK, "ann", 1)).outcomes == [Outcome.STALE]
    assert room.there(LK) == {"ann"}


def test_a_leave_ends_its_joining_whatever_the_number() -> None:
    room = Bridged().known().take(seen(LK, "ann", 7, 50), left(LK, "ann", 7))
    assert room.outcomes == [Outcome.LEFT]
    assert room.there(LK) == set()


def test_duplicates_change_nothing() -> None:
    room = Bridged().known()
    for event in (
        seen(LK, "ann", 1, 2), Said(LK, "ann", "hello", "m1", Source.SIGNALLING), left(LK, "ann", 1),
        seen(JITSI, "bob"),
        RoomOpened(LK, SID[LK], Source.WEBHOOK), listed(LK, room.now + 1.5), RoomEnded(LK, SID[LK], Source.WEBHOOK),
        Registered(JITSI, "abcd1234", "livekit:RM_1/ann"),
    ):  # fmt: skip
        room.take(event)
        once = room.state
        room.take(event)
        assert room.state is once, event
        assert Outcome.ILLEGAL not in room.outcomes


# --- tombstones -------------------------------------------------------------------------------------------------


def test_a_join_not_newer_than_its_tombstone_is_late() -> None:
    room = Bridged().known().take(seen(LK, "ann", 3), left(LK, "ann", 3))
    assert room.take(seen(LK, "ann", 3, 99)).outcomes == [Outcome.LATE]
    assert room.take(seen(LK, "ann", 2)).outcomes == [Outcome.LATE]
    assert room.take(seen(LK, "ann", 4)).outcomes == [Outcome.JOINED]


def test_a_leave_that_comes_before_its_join_is_remembered() -> None:
    room = Bridged().known().take(left(LK, "ann", 3))
    assert room.outcomes == [Outcome.REMEMBERED]
    assert room.take(seen(LK, "ann", 3)).outcomes == [Outcome.LATE]


def test_a_tombstone_is_forgotten_after_120_seconds() -> None:
    room = Bridged().known().take(left(LK, "ann", 3))
    assert room.take(seen(LK, "ann", 3), after=119.9).outcomes == [Outcome.LATE]
    assert room.take(seen(LK, "ann", 3), after=0.1).outcomes == [Outcome.FORGOTTEN, Outcome.JOINED]


def test_news_of_one_only_presumed_gone_bring_it_back() -> None:
    room = Bridged().known().take(seen(LK, "ann", 3, 1), left(LK, "ann", 0))
    assert room.state.livekit.presence("ann") is Presence.PRESUMED
    assert room.take(seen(LK, "ann", 3, 1)).outcomes == [Outcome.LATE]
    assert room.take(seen(LK, "ann", 3, 2)).outcomes == [Outcome.RETURNED]


# --- listings ---------------------------------------------------------------------------------------------------


def test_missing_in_two_consecutive_listings_is_left() -> None:
    room = Bridged().known().take(seen(LK, "ann"))
    room.relist()
    assert room.there(LK) == {"ann"}
    room.relist([person(LK, "ann")]).relist()
    assert room.there(LK) == {"ann"}  # it was in one between
    room.relist()
    assert room.there(LK) == set()
    assert Outcome.REMOVED in [change.outcome for change in room.history]


def test_one_listing_told_twice_is_one() -> None:
    room = Bridged().known().take(seen(LK, "ann"))
    once = listed(LK, room.now + 0.5)
    assert room.take(once, once).outcomes == [Outcome.LISTING_STALE]
    assert room.there(LK) == {"ann"}


def test_a_listing_asked_for_before_a_join_does_not_remove_it() -> None:
    room = Bridged().known()
    asked_at = room.now + 0.5
    room.take(seen(LK, "ann"), listed(LK, asked_at), listed(LK, asked_at + 0.4))
    assert room.state.livekit.presence("ann") is Presence.PRESENT


def test_a_listing_asked_for_before_a_leave_does_not_undo_it() -> None:
    room = Bridged().known().take(seen(LK, "ann", 1, 1))
    asked_at = room.now + 0.5
    room.take(left(LK, "ann"), listed(LK, asked_at, person(LK, "ann", 1, 2)))
    assert room.outcomes == [Outcome.LATE]
    assert room.there(LK) == set()


def test_a_listing_undoes_a_leave_that_named_no_joining() -> None:
    room = Bridged().known().take(seen(LK, "ann", 2, 1), left(LK, "ann"))
    room.relist([person(LK, "ann", 2, 1)])
    assert room.there(LK) == {"ann"}
    assert Outcome.REVIVED in [change.outcome for change in room.history]


def test_a_listing_does_not_bring_back_a_joining_that_its_side_ended() -> None:
    room = Bridged().known().take(seen(LK, "ann", 2), left(LK, "ann", 2)).relist([person(LK, "ann", 2)])
    assert room.there(LK) == set()


@pytest.mark.parametrize(
    ("before", "people", "cause"),
    [
        ([], [person(LK, "ann")], Outcome.ADDED),
        ([seen(LK, "ann", 1, 1)], [person(LK, "ann", 1, 2)], Outcome.REFRESHED),
        ([seen(LK, "ann", 1)], [person(LK, "ann", 2)], Outcome.REPLACED),
        ([seen(LK, "ann", 1), left(LK, "ann")], [person(LK, "ann", 1)], Outcome.REVIVED),
    ],
    ids=lambda value: value.value if isinstance(value, Outcome) else "",
)
def test_every_correction_has_its_cause(before: list, people: list, cause: Outcome) -> None:  # type: ignore[type-arg]
    room = Bridged().known().take(*before)
    room.take(listed(LK, room.now + 0.5, *people))
    assert [(change.outcome, change.is_correction, change.by) for change in room.changes] == [
        (cause, True, Source.LISTING)
    ]


# --- Jitsi's two sources ----------------------------------------------------------------------------------------


def test_presence_outranks_event_sync_whatever_their_clocks_say() -> None:
    room = Bridged().known().take(seen(JITSI, "bob", 500, source=Source.PRESENCE))
    assert room.take(seen(JITSI, "bob", 900, source=Source.WEBHOOK)).outcomes == [Outcome.OUTRANKED]
    assert room.take(left(JITSI, "bob", 900, source=Source.WEBHOOK)).outcomes == [Outcome.OUTRANKED]
    assert room.take(left(JITSI, "bob", 500, source=Source.PRESENCE)).outcomes == [Outcome.LEFT]


def test_presence_takes_over_what_event_sync_said_first() -> None:
    room = Bridged().known().take(seen(JITSI, "bob", 900, source=Source.WEBHOOK))
    assert room.take(seen(JITSI, "bob", 500, 1, source=Source.PRESENCE)).outcomes == [Outcome.UPDATED]
    assert room.take(seen(JITSI, "bob", 500, 2, source=Source.PRESENCE)).outcomes == [Outcome.UPDATED]
    assert room.take(left(JITSI, "bob", 500)).outcomes == [Outcome.LEFT]


def test_a_census_that_knows_no_versions_says_only_who_is_there() -> None:
    room = Bridged().known().relist(jitsi=[person(JITSI, "bob", 0, shown="")])
    assert room.there(JITSI) == {"bob"}
    room.take(seen(JITSI, "bob", 5, shown="Bob")).relist(jitsi=[person(JITSI, "bob", 0, shown="")])
    assert room.state.jitsi.people["bob"].participant.name == "Bob"


# --- rooms ------------------------------------------------------------------------------------------------------


def test_another_room_sid_is_a_new_room() -> None:
    room = Bridged().known().take(seen(LK, "ann", 10), seen(LK, "bea", 20, sid="RM_2"))
    assert (room.state.livekit.room_sid, room.there(LK)) == ("RM_2", {"bea"})
    assert room.take(seen(LK, "ann", 10, 1)).outcomes == [Outcome.ROOM_STALE]
    assert room.there(LK) == {"bea"}


def test_a_participant_of_an_unknown_but_earlier_room_empties_nothing() -> None:
    room = Bridged().known().take(seen(LK, "ann", 10), seen(LK, "old", 5, sid="RM_0"))
    assert room.outcomes == [Outcome.ROOM_DOUBTED]
    assert (room.state.livekit.room_sid, room.there(LK)) == ("RM_1", {"ann"})
    assert room.plan()[0] == ListRoom(LK)


def test_a_room_opening_of_unknown_age_is_doubted_while_somebody_is_there() -> None:
    room = Bridged().known().take(seen(LK, "ann", 10), RoomOpened(LK, "RM_2", Source.WEBHOOK))
    assert room.there(LK) == {"ann"}
    room.take(listed(LK, room.now + 0.5, person(LK, "ann", 12), sid="RM_2"))
    assert (room.state.livekit.room_sid, room.there(LK)) == ("RM_2", {"ann"})
    assert Outcome.ROOM_CORRECTED in room.outcomes
    assert room.state.livekit.doubted_at is None


def test_when_a_room_ends_everybody_has_left_it() -> None:
    room = Bridged().known().take(seen(LK, "ann", 1), RoomEnded(LK, SID[LK], Source.WEBHOOK))
    assert (room.state.livekit.room, room.there(LK)) == (Room.ENDED, set())
    assert room.take(seen(LK, "ann", 1, sid="")).outcomes == [Outcome.LATE]
    assert room.state.livekit.room is Room.ENDED
    assert room.take(seen(LK, "ann", 2, sid="")).outcomes == [Outcome.ROOM_OPENED, Outcome.JOINED]


def test_the_end_of_a_past_room_ends_nothing() -> None:
    room = Bridged().known().take(seen(LK, "ann", 10), RoomEnded(LK, "RM_0", Source.WEBHOOK))
    assert room.outcomes == [Outcome.ROOM_STALE]
    assert room.there(LK) == {"ann"}
    assert room.take(seen(LK, "eve", 99, sid="RM_0")).outcomes == [Outcome.ROOM_STALE]


def test_a_room_that_two_listings_do_not_find_has_ended() -> None:
    room = Bridged().known().take(seen(LK, "ann"))
    room.take(listed(LK, room.now + 0.5, sid=""))
    assert room.there(LK) == {"ann"}
    room.take(listed(LK, room.now + 0.5, sid=""))
    assert room.outcomes == [Outcome.REMOVED, Outcome.ROOM_VANISHED]


def test_a_listing_asked_for_before_a_room_opened_says_nothing_of_it() -> None:
    room = Bridged()
    asked_at = room.now + 0.5
    room.take(seen(LK, "ann"), listed(LK, asked_at, sid=""))
    assert room.outcomes == [Outcome.LISTING_STALE]


def test_a_room_ended_by_mistake_comes_back_with_the_listing() -> None:
    room = Bridged().known().take(seen(LK, "ann", 1), RoomEnded(LK, "", Source.WEBHOOK)).relist([person(LK, "ann", 1)])
    assert (room.state.livekit.room, room.there(LK)) == (Room.OPEN, {"ann"})


# --- ours -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "one",
    [
        person(LK, "auralink:ab@room"),
        person(LK, "x", origin="jitsi:room@conference.example/ab"),
        person(LK, "receiver", is_bridge=True),
        person(JITSI, "feed0001", is_bridge=True),
    ],
)
def test_what_a_bridge_put_there_is_known_as_such(one) -> None:  # type: ignore[no-untyped-def]
    room = Bridged().known()
    assert not is_real(room.state.side(one.side), one)


def test_a_registered_endpoint_is_ours_though_its_presence_says_nothing() -> None:
    room = Bridged().known().take(Registered(JITSI, "feed0001", "livekit:RM_1/ann"), seen(JITSI, "feed0001"))
    assert room.state.jitsi.people["feed0001"].participant.origin == "livekit:RM_1/ann"


def test_an_endpoint_registered_after_it_was_seen_becomes_ours() -> None:
    room = Bridged().known().take(seen(JITSI, "feed0001"), Registered(JITSI, "feed0001", "livekit:RM_1/ann"))
    assert not is_real(room.state.jitsi, room.state.jitsi.people["feed0001"].participant)


def test_hidden_participants_are_nobody() -> None:
    room = Bridged().known().take(seen(LK, "recorder", hidden=True))
    assert room.plan() == ()
    assert room.state.empty_since is not None


# --- commands ---------------------------------------------------------------------------------------------------

MIRROR = Mirror(f"jitsi:{JID}/bob", LK, "auralink:bob@room", Shown("Bob"))


def test_an_answer_nobody_waits_for_counts_only_if_it_says_done() -> None:
    room = Bridged().known().take(Failed(MIRROR))
    assert room.outcomes == [Outcome.STALE]
    room.take(Done(MIRROR, "auralink:bob@room", Version(5)))
    assert set(room.state.mirrors) == {MIRROR.origin}


def test_asking_twice_is_illegal_until_the_deadline() -> None:
    room = Bridged().known().take(Asked(MIRROR))
    before = room.state
    assert room.take(Asked(MIRROR)).outcomes == [Outcome.ILLEGAL]
    assert room.state is before
    assert room.take(Asked(MIRROR), after=15).outcomes == [Outcome.TIMED_OUT]


def test_a_mirror_whose_leave_came_before_its_answer_is_not_held() -> None:
    room = Bridged().known().take(Asked(MIRROR), left(LK, MIRROR.id, 5), Done(MIRROR, MIRROR.id, Version(5)))
    assert room.state.mirrors == {}


def test_the_leave_of_an_earlier_mirror_does_not_lose_the_present_one() -> None:
    room = Bridged().known().take(Asked(MIRROR), Done(MIRROR, MIRROR.id, Version(5)), left(LK, MIRROR.id, 4))
    assert set(room.state.mirrors) == {MIRROR.origin}


# --- chat -------------------------------------------------------------------------------------------------------


def test_a_message_is_told_once_and_never_echoed() -> None:
    room = Bridged().known().take(seen(LK, "ann"), seen(LK, "auralink:bob@room"))
    said = Said(LK, "ann", "hello", "m1", Source.SIGNALLING)
    assert room.take(said).outcomes == [Outcome.SAID]
    assert room.take(said).outcomes == [Outcome.TOLD_BEFORE]
    assert room.take(replace(said, author="auralink:bob@room", id="m2")).outcomes == [Outcome.ECHO]
    assert len(room.state.chat) == 1


def test_a_message_nobody_could_tell_in_time_is_dropped() -> None:
    room = Bridged().known().take(seen(LK, "ann"), Said(LK, "ann", "hello", "m1", Source.SIGNALLING))
    assert room.take(seen(LK, "ann"), after=memory.CHAT_S).outcomes[0] is Outcome.UNSAID
    assert room.state.chat == ()


# --- bounds -----------------------------------------------------------------------------------------------------


def test_a_side_holds_so_many_and_refuses_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auralink_dataplane.rooms.sides.MAX_PARTICIPANTS", 3)
    room = Bridged().known().take(*(seen(LK, f"p{n}") for n in range(5)))
    assert room.outcomes == [Outcome.FULL]
    assert len(room.there(LK)) == 3
    assert room.take(seen(LK, "p0", 1, 1)).outcomes == [Outcome.UPDATED]
    room.relist([person(LK, f"p{n}", 1, 1) for n in range(5)])
    assert len(room.there(LK)) == 3


def test_tombstones_chat_and_told_messages_are_bounded() -> None:
    room = Bridged().known()
    for n in range(memory.MAX_TOMBSTONES + 10):
        room.take(left(LK, f"p{n}", 1), after=0)
    for n in range(memory.MAX_TOLD + 10):
        room.take(Said(LK, "ann", "hello", f"m{n}", Source.SIGNALLING), after=0)
    assert len(room.state.livekit.tombstones) == memory.MAX_TOMBSTONES
    assert len(room.state.chat) == memory.MAX_CHAT
    assert len(room.state.told) <= memory.MAX_TOLD
    assert (
        room.take(Said(LK, "ann", "x" * (memory.MAX_TEXT + 1), "long", Source.SIGNALLING)).outcomes[-1] is Outcome.FULL
    )
