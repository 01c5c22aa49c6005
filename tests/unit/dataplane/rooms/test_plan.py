"""What is asked for, rule by rule."""

from dataclasses import replace

import pytest
from auralink_dataplane.policy import Media, Privacy, Rules
from auralink_dataplane.rooms import commands, plan
from auralink_dataplane.rooms.attributes import AURA_ID, livekit_identity, origin_of, parse_origin
from auralink_dataplane.rooms.commands import (
    Asked,
    CloseRoom,
    Done,
    Failed,
    ListRoom,
    Mirror,
    Refuse,
    Registered,
    RemoveMirror,
    Tell,
    UpdateMirror,
)
from auralink_dataplane.rooms.events import RoomEnded, Said, Side, Source, Track, TrackSource, Version
from auralink_dataplane.rooms.tables import Outcome, Room
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dataplane.rooms.facts import JID, JITSI, LK, SID, Bridged, left, listed, person, seen

BOB = f"jitsi:{JID}/bob"
BOB_ID = "auralink:bob@room"
ANN = "livekit:RM_1/ann"


def with_bob(number: int = 10) -> Bridged:
    """Bob is on Jitsi, and mirrored to LiveKit."""
    room = Bridged().known().take(seen(JITSI, "bob"))
    (mirror,) = room.ask()
    return room.take(Done(mirror, BOB_ID, Version(number)))


# --- mirrors ----------------------------------------------------------------------------------------------------


def test_a_new_room_is_listed_on_both_sides_first() -> None:
    assert Bridged().plan() == (ListRoom(LK), ListRoom(JITSI))
    assert Bridged().known().plan() == ()


def test_a_participant_is_mirrored_to_the_other_side() -> None:
    room = Bridged().known().take(seen(JITSI, "bob"), seen(LK, "ann"))
    to_livekit, to_jitsi = sorted(room.plan(), key=lambda one: one.key)
    assert isinstance(to_livekit, Mirror)
    assert (to_livekit.origin, to_livekit.to, to_livekit.id, to_livekit.shown.name) == (BOB, LK, BOB_ID, "Bob")
    assert isinstance(to_jitsi, Mirror)
    assert (to_jitsi.origin, to_jitsi.to, to_jitsi.id) == (ANN, JITSI, "")


def test_a_command_under_way_is_not_asked_again() -> None:
    room = Bridged().known().take(seen(JITSI, "bob"))
    assert len(room.ask()) == 1
    assert room.plan() == ()


def test_a_failed_command_waits_longer_each_time() -> None:
    room = Bridged().known().take(seen(JITSI, "bob"))
    waits = []
    for _ in range(7):
        (mirror,) = room.ask()
        room.take(Failed(mirror), after=0)
        began = room.now
        while not room.plan():
            room.now += 0.1
        waits.append(room.now - began)
    assert waits[:5] == sorted(waits[:5])
    assert waits[-1] > 20
    assert waits[0] < 1.5
    assert max(waits) <= commands.LONGEST_WAIT_S * 1.2 + 0.1


def test_a_command_without_an_answer_counts_as_failed_after_its_deadline() -> None:
    room = Bridged().known().take(seen(JITSI, "bob"))
    (mirror,) = room.ask()
    room.now += commands.DEADLINES_S[Mirror] - 0.01
    assert room.plan() == ()
    room.now += 2.5  # and the first wait
    assert room.plan() == (mirror,)
    room.ask()
    assert room.outcomes == [Outcome.TIMED_OUT]


def test_our_own_echo_is_never_mirrored() -> None:
    room = with_bob()
    room.take(seen(LK, BOB_ID, 10, 1, origin=BOB, is_bridge=True))
    assert room.plan() == ()
    untagged = Bridged().known().take(Registered(JITSI, "feed0001", ANN), seen(JITSI, "feed0001"))
    assert not any(isinstance(command, Mirror) for command in untagged.plan())


def test_a_change_at_home_is_shown_by_its_mirror() -> None:
    track = Track("bob-v0", TrackSource.CAMERA, muted=True)
    room = with_bob().take(seen(JITSI, "bob", 1, 1, shown="Robert", hand_raised=True, tracks=(track,)))
    (update,) = room.ask()
    assert isinstance(update, UpdateMirror)
    assert (update.id, update.shown.name, update.shown.hand_raised, update.shown.tracks) == (
        BOB_ID, "Robert", True, (track,),
    )  # fmt: skip
    assert room.take(Done(update)).plan() == ()


def test_a_write_without_a_good_answer_is_written_again_though_home_took_it_back() -> None:
    room = with_bob().take(seen(JITSI, "bob", 1, 1, shown="Robert"))
    (update,) = room.ask()
    room.take(seen(JITSI, "bob", 1, 2, shown="Bob"), Failed(update))
    (again,) = room.take(seen(JITSI, "eve"), after=2).plan()[:1]
    assert isinstance(again, UpdateMirror)
    assert again.shown.name == "Bob"


def test_the_conflict_of_a_mirror_with_its_home_is_won_by_the_home() -> None:
    room = with_bob().take(seen(LK, BOB_ID, 10, 5, shown="Renamed", origin=BOB, is_bridge=True))
    assert room.plan() == ()
    (update,) = room.take(seen(JITSI, "bob", 1, 1, hand_raised=True)).plan()
    assert isinstance(update, UpdateMirror)
    assert update.shown.name == "Bob"


def test_who_left_at_home_is_removed() -> None:
    room = with_bob().take(left(JITSI, "bob", 1))
    (removal,) = room.ask()
    assert removal == RemoveMirror(BOB, LK, BOB_ID)
    assert room.take(Done(removal)).plan() == ()
    assert (room.state.mirrors, room.there(LK)) == ({}, set())


def test_who_comes_back_is_mirrored_when_the_removal_is_done() -> None:
    room = with_bob().take(left(JITSI, "bob", 1))
    (removal,) = room.ask()
    room.take(seen(JITSI, "bob", 2))
    assert room.plan() == ()
    (mirror,) = room.take(Done(removal)).plan()
    assert isinstance(mirror, Mirror)


def test_a_removal_does_not_wait_because_an_update_failed() -> None:
    room = with_bob().take(seen(JITSI, "bob", 1, 1, shown="Robert"))
    (update,) = room.ask()
    room.take(Failed(update), left(JITSI, "bob", 1), after=0)
    assert room.plan() == (RemoveMirror(BOB, LK, BOB_ID),)


def test_a_lost_mirror_is_put_again_and_more_slowly_each_time() -> None:
    room = with_bob()
    waits = []
    for incarnation in range(11, 16):
        room.take(left(LK, BOB_ID, incarnation - 1), after=0)
        assert Outcome.MIRROR_LOST in room.outcomes
        began = room.now
        while not room.plan():
            room.now += 0.1
        waits.append(room.now - began)
        (mirror,) = room.ask()
        room.take(Done(mirror, BOB_ID, Version(incarnation)))
    assert waits == sorted(waits)
    assert waits[-1] > 10


def test_a_mirror_missing_in_two_listings_is_put_again() -> None:
    room = with_bob()
    room.relist(jitsi=[person(JITSI, "bob")]).relist(jitsi=[person(JITSI, "bob")])
    room.now += 2
    assert [type(command) for command in room.plan()] == [Mirror]


def test_a_late_answer_does_not_say_what_a_mirror_shows_now() -> None:
    room = with_bob().take(seen(JITSI, "bob", 1, 1, shown="Robert"))
    (first,) = room.ask()
    assert isinstance(first, UpdateMirror)
    room.now += 10
    room.take(seen(JITSI, "bob", 1, 2, shown="Rob"))
    (second,) = room.ask()
    room.take(Done(second), seen(JITSI, "bob", 1, 3, shown="Robert"), Done(first))
    (third,) = room.plan()
    assert isinstance(third, UpdateMirror)
    assert third.shown.name == "Robert"


def test_a_mirror_that_leaves_because_we_remove_it_is_not_lost() -> None:
    room = with_bob().take(left(JITSI, "bob", 1))
    (removal,) = room.ask()
    room.take(left(LK, BOB_ID, 10))
    assert Outcome.MIRROR_LOST not in room.outcomes
    assert room.take(Done(removal), seen(JITSI, "bob", 2)).plan() != ()


def test_a_mirror_put_while_its_room_ended_went_with_it() -> None:
    room = Bridged().known().take(seen(JITSI, "bob"))
    (mirror,) = room.ask()
    room.take(RoomEnded(LK, SID[LK], Source.WEBHOOK), Done(mirror, BOB_ID, Version(10)))
    assert (room.state.mirrors, room.state.livekit.room) == ({}, Room.ENDED)
    assert room.plan() == ()


def test_the_incarnation_of_a_home_changes_nothing_of_its_mirror() -> None:
    assert with_bob().take(seen(JITSI, "bob", 2)).plan() == ()


# --- what others left -------------------------------------------------------------------------------------------


def test_a_mirror_of_a_former_pod_is_taken_over() -> None:
    room = Bridged().known().take(seen(JITSI, "bob"), seen(LK, BOB_ID, 3, origin=BOB, is_bridge=True))
    (mirror,) = room.plan()
    assert isinstance(mirror, Mirror)
    assert mirror.id == BOB_ID


def test_a_mirror_whose_home_left_is_removed_once_its_home_side_was_listed_since() -> None:
    room = Bridged().known().take(seen(LK, BOB_ID, 3, origin=BOB, is_bridge=True))
    assert room.plan() == ()
    room.take(listed(JITSI, room.now + 0.5))
    assert room.plan() == (RemoveMirror(BOB, LK, BOB_ID),)


def test_the_second_mirror_of_one_participant_is_removed() -> None:
    room = Bridged().known().take(seen(LK, "ann"), seen(JITSI, "feed0001", origin=ANN, is_bridge=True))
    (mirror,) = room.ask()
    room.take(Registered(JITSI, "feed0002", ANN), Done(mirror, "feed0002", Version(5)))
    assert room.plan() == (RemoveMirror(ANN, JITSI, "feed0001"),)


@pytest.mark.parametrize("origin", ["livekit:RM_9/ann", "jitsi:other@conference.example/x", "nonsense"])
def test_mirrors_of_other_rooms_and_bridges_are_left_alone(origin: str) -> None:
    room = Bridged().known().take(seen(JITSI, "feed0001", origin=origin, is_bridge=True)).relist(
        jitsi=[person(JITSI, "feed0001", origin=origin, is_bridge=True)]
    )  # fmt: skip
    assert room.plan() == ()


def test_mirrors_of_the_former_livekit_room_are_removed_when_another_opens() -> None:
    room = Bridged().known().take(seen(LK, "ann", 10))
    (mirror,) = room.ask()
    room.take(Done(mirror, "feed0001", Version(5)), seen(LK, "ann", 20, sid="RM_2"))
    removal, again = room.plan()
    assert removal == RemoveMirror(ANN, JITSI, "feed0001")
    assert isinstance(again, Mirror)
    assert again.origin == "livekit:RM_2/ann"


# --- rooms ------------------------------------------------------------------------------------------------------


def test_a_room_that_ended_is_not_opened_by_mirrors() -> None:
    room = with_bob().take(RoomEnded(LK, SID[LK], Source.WEBHOOK))
    room.now += 60
    assert room.plan() == ()
    room.take(seen(LK, "ann", 20, sid="RM_2"))
    assert {type(command) for command in room.plan()} == {Mirror}
    assert len(room.plan()) == 2


def test_a_room_empty_on_both_sides_for_60_seconds_is_closed() -> None:
    room = Bridged().known().take(seen(LK, "ann"), left(LK, "ann", 1))
    room.relist()
    emptied = room.state.empty_since
    assert emptied is not None
    room.now = emptied + plan.STALE_S - 0.1
    assert room.plan() == ()
    room.now = emptied + plan.STALE_S
    closings = room.ask()
    assert closings == (CloseRoom(LK, SID[LK]), CloseRoom(JITSI, SID[JITSI]))
    room.take(*(Done(closing) for closing in closings))
    assert {room.state.side(side).room for side in Side} == {Room.ENDED}
    assert room.plan() == ()
    assert plan.is_over(room.state, room.now)


def test_no_room_is_closed_before_both_sides_were_listed_empty() -> None:
    room = Bridged().known().take(seen(LK, "ann"), left(LK, "ann", 1))
    room.now += 500
    assert room.plan() == ()
    assert not plan.is_over(room.state, room.now)


def test_a_room_with_somebody_on_one_side_is_not_closed() -> None:
    room = with_bob()
    room.relist([person(LK, BOB_ID, 10, origin=BOB, is_bridge=True)], [person(JITSI, "bob")])
    room.now += 500
    assert room.plan() == ()


# --- the policy -------------------------------------------------------------------------------------------------


def test_beyond_the_maximum_participants_are_refused_once_and_admitted_when_a_place_is_free() -> None:
    rules = Rules(max_participants=1)
    room = Bridged().known().take(seen(LK, "ann", 2), seen(JITSI, "bob", 1))
    first, refusal = room.ask(rules)
    assert isinstance(first, Mirror)
    assert first.origin == BOB  # joined first
    assert refusal == Refuse(ANN, LK, "ann")
    room.take(Done(first, BOB_ID, Version(5)), Done(refusal))
    assert room.plan(rules) == ()
    room.take(left(JITSI, "bob", 1))
    (removal,) = room.ask(rules)
    room.take(Done(removal))
    (second,) = room.plan(rules)
    assert isinstance(second, Mirror)
    assert second.origin == ANN


def test_who_is_refused_and_leaves_and_comes_back_is_told_again() -> None:
    rules = Rules(max_participants=1)
    room = Bridged().known().take(seen(JITSI, "bob", 1), seen(LK, "ann", 2))
    room.take(*(Done(command, BOB_ID, Version(9)) for command in room.ask(rules)))
    assert room.plan(rules) == ()
    room.take(left(LK, "ann", 2), seen(LK, "ann", 3))
    assert room.plan(rules) == (Refuse(ANN, LK, "ann"),)


def test_a_mirror_keeps_its_place_when_somebody_of_earlier_joining_becomes_known() -> None:
    rules = Rules(max_participants=1)
    room = Bridged().known().take(seen(JITSI, "bob", 5))
    (mirror,) = room.ask(rules)
    room.take(Done(mirror, BOB_ID, Version(9)), seen(LK, "ann", 1))
    assert room.plan(rules) == (Refuse(ANN, LK, "ann"),)


@pytest.mark.parametrize(
    ("media", "source", "crosses"),
    [
        (Media(audio="Deny"), TrackSource.MICROPHONE, False),
        (Media(audio="Deny"), TrackSource.CAMERA, True),
        (Media(video="Deny"), TrackSource.CAMERA, False),
        (Media(video="Deny"), TrackSource.SCREEN, True),
        (Media(screen_share="Deny"), TrackSource.SCREEN, False),
        (Media(screen_share="Deny"), TrackSource.SCREEN_AUDIO, False),
        (Media(audio="Deny"), TrackSource.SCREEN_AUDIO, False),
        (Media(audio="Deny"), TrackSource.OTHER, False),
    ],
)
def test_tracks_that_the_policy_does_not_allow_stay_at_home(media: Media, source: TrackSource, crosses: bool) -> None:
    room = Bridged().known().take(seen(JITSI, "bob", tracks=(Track("t", source),)))
    first, *others = room.plan(Rules(media=media))
    assert isinstance(first, Mirror)
    assert bool(first.shown.tracks) is crosses
    assert others == ([] if crosses else [Refuse(BOB, JITSI, "bob", (source,))])


def test_video_of_a_codec_that_the_policy_does_not_list_stays_at_home() -> None:
    tracks = tuple(Track(mime, TrackSource.CAMERA, mime=mime) for mime in ("video/H264", "video/vp8", ""))
    room = Bridged().known().take(seen(JITSI, "bob", tracks=tracks))
    first, _ = room.plan(Rules(codecs=("H264",)))
    assert isinstance(first, Mirror)
    assert [track.mime for track in first.shown.tracks] == ["video/H264", ""]  # an unknown one its leg will judge


@pytest.mark.parametrize(
    ("privacy", "name", "attributes"),
    [("Full", "Bob", True), ("DisplayName", "Bob", False), ("Hidden", "", False)],
)
def test_the_other_side_learns_what_privacy_allows(privacy: Privacy, name: str, attributes: bool) -> None:
    room = Bridged().known().take(seen(JITSI, "bob", attributes={AURA_ID: "aura:1", "other": "x"}))
    (mirror,) = room.plan(replace(Rules(), privacy=privacy))
    assert isinstance(mirror, Mirror)
    assert (mirror.shown.name, mirror.shown.attributes) == (name, ((AURA_ID, "aura:1"),) if attributes else ())


def test_a_pseudonym_stays_the_same_and_tells_nothing() -> None:
    rules = Rules(privacy="Pseudonym")
    room = Bridged().known().take(seen(JITSI, "bob", shown="Bob"))
    (before,) = room.plan(rules)
    (after,) = room.take(seen(JITSI, "bob", 1, 1, shown="Robert")).plan(rules)
    assert before == after
    assert isinstance(before, Mirror)
    assert before.shown.name.startswith("Guest ")


# --- chat -------------------------------------------------------------------------------------------------------


def test_chat_is_told_by_the_authors_mirror() -> None:
    room = with_bob().take(Said(JITSI, "bob", "hello", "m1", Source.SIGNALLING))
    (tell,) = room.ask()
    assert tell == Tell(LK, "m1", "Bob", "hello", BOB_ID)
    assert room.take(Done(tell)).plan() == ()
    assert room.take(Said(LK, BOB_ID, "hello", "echo", Source.SIGNALLING)).plan() == ()


def test_chat_of_one_without_a_mirror_is_told_by_the_bridge() -> None:
    room = with_bob().take(Said(JITSI, "gone", "hello", "m1", Source.SIGNALLING))
    assert room.plan() == (Tell(LK, "m1", "", "hello", ""),)


def test_chat_is_not_told_where_the_policy_denies_data_or_the_room_ended() -> None:
    room = with_bob().take(Said(JITSI, "bob", "hello", "m1", Source.SIGNALLING))
    assert room.plan(Rules(media=Media(data="Deny"))) == ()
    room.take(RoomEnded(LK, SID[LK], Source.WEBHOOK))
    assert room.plan() == ()


def test_a_message_is_tried_three_times() -> None:
    room = with_bob().take(Said(JITSI, "bob", "hello", "m1", Source.SIGNALLING))
    for _ in range(3):
        while not (commands := room.ask()):
            room.now += 0.5
        room.take(Failed(commands[0]), after=0)
    assert room.outcomes[-1] is Outcome.UNSAID
    room.now += 20
    assert room.plan() == ()


# --- bounds and media -------------------------------------------------------------------------------------------


def test_so_many_commands_are_under_way_and_the_rest_follow() -> None:
    room = Bridged().known()
    room.take(*(seen(JITSI, f"p{n}", n + 1) for n in range(300)), after=0)
    begun = room.ask()
    assert len(begun) == plan.MAX_UNDER_WAY
    assert room.plan() == ()
    room.take(*(Done(command, command.id, Version(9)) for command in begun if isinstance(command, Mirror)), after=0)
    assert len(room.ask()) == 300 - plan.MAX_UNDER_WAY


def test_removals_go_first_and_the_order_is_stable() -> None:
    room = with_bob().take(left(JITSI, "bob", 1), seen(JITSI, "eve", 3), seen(JITSI, "cas", 2))
    kinds = [(type(command), command.key) for command in room.plan()]
    assert kinds == [
        (RemoveMirror, f"mirror {BOB}"),
        (Mirror, f"mirror jitsi:{JID}/cas"),
        (Mirror, f"mirror jitsi:{JID}/eve"),
    ]


def test_media_is_pulled_of_mirrored_unmuted_tracks_that_somebody_may_watch() -> None:
    camera, microphone = Track("bob-v0", TrackSource.CAMERA), Track("bob-a0", TrackSource.MICROPHONE, muted=True)
    room = Bridged().known().take(seen(JITSI, "bob", tracks=(camera, microphone)))
    (mirror,) = room.ask()
    room.take(Done(mirror, BOB_ID, Version(10)))
    assert plan.demand(room.state, Rules(), room.now) == {LK: frozenset(), JITSI: frozenset()}
    room.take(seen(LK, "ann", 20))
    assert plan.demand(room.state, Rules(), room.now) == {LK: frozenset(), JITSI: frozenset({"bob-v0"})}
    assert plan.demand(room.state, Rules(media=Media(video="Deny")), room.now)[JITSI] == frozenset()


# --- origins ----------------------------------------------------------------------------------------------------


@given(st.sampled_from(Side), st.text("abz@.:-", min_size=1), st.text(min_size=1))
def test_an_origin_says_side_room_and_participant(side: Side, room: str, participant: str) -> None:
    assert parse_origin(origin_of(side, room, participant)) == (side, room, participant)


@pytest.mark.parametrize(
    "text", ["", "livekit", "livekit:", "livekit:RM_1", "livekit:/ann", "livekit:RM_1/", "sip:a/b"]
)
def test_other_text_is_no_origin(text: str) -> None:
    assert parse_origin(text) is None


def test_a_livekit_identity_names_endpoint_and_room() -> None:
    assert livekit_identity("79f0273d", "standup@conference.example") == "auralink:79f0273d@standup"


def test_asking_for_a_listing_ends_with_the_listing() -> None:
    room = Bridged().take(Asked(ListRoom(LK)), listed(LK, 1001.5), Done(ListRoom(LK)))
    assert room.plan() == (ListRoom(JITSI),)
