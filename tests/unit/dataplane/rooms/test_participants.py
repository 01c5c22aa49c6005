"""Whether somebody is there, and the record of it."""

from itertools import product

import pytest
from auralink_dataplane.rooms.events import MAX_NAME, Participant, Side, Track, TrackSource, Version
from auralink_dataplane.rooms.participants import (
    IDLE_S,
    MAX_TRACKS,
    Presence,
    PresenceStatus,
    Sign,
    describe,
    look,
    observe,
)
from hypothesis import given
from hypothesis import strategies as st

ACTIVE, IDLE, OFFLINE = PresenceStatus.ACTIVE, PresenceStatus.IDLE, PresenceStatus.OFFLINE
THERE = observe(Presence(), Sign.JOINED, 100.0)


@pytest.mark.parametrize(("status", "sign"), [*product(PresenceStatus, Sign)])
def test_every_sign_means_something_in_every_status(status: PresenceStatus, sign: Sign) -> None:
    want = {Sign.LEFT: OFFLINE, Sign.JOINED: ACTIVE, Sign.ACTED: OFFLINE if status is OFFLINE else ACTIVE}[sign]
    assert observe(Presence(status, 0.0, 10.0), sign, 20.0).status is want


def test_whoever_does_nothing_becomes_idle() -> None:
    assert look(THERE, 100 + IDLE_S - 0.1) == THERE
    assert look(THERE, 100 + IDLE_S) == Presence(IDLE, 100 + IDLE_S, 100)
    assert look(THERE, 9000) == Presence(IDLE, 100 + IDLE_S, 100)


def test_an_act_puts_idleness_off_and_ends_it() -> None:
    spoke = observe(THERE, Sign.ACTED, 300)
    assert look(spoke, 100 + IDLE_S) == spoke == Presence(ACTIVE, 100, 300)
    assert observe(spoke, Sign.ACTED, 1000) == Presence(ACTIVE, 1000, 1000)


def test_what_comes_after_leaving_changes_nothing() -> None:
    gone = observe(THERE, Sign.LEFT, 200)
    assert observe(gone, Sign.ACTED, 201) == gone == look(gone, 9000)


@given(st.lists(st.tuples(st.sampled_from([None, *Sign]), st.floats(0, 400)), max_size=30))
def test_looking_more_often_changes_nothing(steps: list[tuple[Sign | None, float]]) -> None:
    """The status depends on signs and the time, not on when anybody looked."""
    seen = unseen = Presence()
    now = 0.0
    for sign, wait in steps:
        now += wait
        seen = look(seen, now)
        if sign is not None:
            seen, unseen = observe(seen, sign, now), observe(unseen, sign, now)
    assert look(unseen, now) == look(seen, now)
    assert seen.since <= now


def test_a_record_is_cut_to_its_bounds() -> None:
    tracks = tuple(Track(str(number), TrackSource.OTHER) for number in range(MAX_TRACKS + 1))
    record = describe(
        Participant(Side.JITSI, "ab12", Version(5), name="secret", tracks=tracks, attributes={"email": "a@b.c"}),
        name="N" * (MAX_NAME + 1),
        aura_id="",
        presence=THERE,
        now_ms=7,
    )
    assert (len(record.name), len(record.tracks), record.presence) == (MAX_NAME, MAX_TRACKS, ACTIVE)
    assert "a@b.c" not in repr(record)
    assert "secret" not in repr(record)
