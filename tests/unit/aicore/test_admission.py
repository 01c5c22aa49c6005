"""Who gets a seat in which worker, and who has to go for it."""

import pytest
from auralink_aicore.codecs import Codec
from auralink_aicore.worker.admission import (
    CALIBRATION_MS,
    FULL_AT,
    MAX_SEATS,
    STANDBY_FULL_AT,
    Admission,
    Load,
    Place,
)
from auralink_aicore.worker.costs import COSTS
from hypothesis import given
from hypothesis import strategies as st

HD = 1280 * 720


def hd(*, shadow: bool = False) -> Load:
    return Load(Codec.H264, HD, 30, shadow)


def seat(admission: Admission, loads: list[Load]) -> list[Place | None]:
    """Ask for a place for each, and take it; nobody is shed."""
    places = []
    for load in loads:
        place = admission.place(load)
        places.append(place)
        if place is not None:
            admission.seats[place.worker][sum(map(len, admission.seats.values()))] = load
    return places


def workers(places: list[Place | None]) -> list[int | None]:
    return [place.worker if place else None for place in places]


def test_a_720p_stream_at_30_takes_a_sixth_of_the_reference_core() -> None:
    assert round(hd().cores(1.0), 3) == 0.165
    assert Load(Codec.H264).cores(1.0) == hd().cores(1.0)  # unknown counts as that
    assert hd().cores(2.0) == 2 * hd().cores(1.0)


def test_a_slow_host_takes_an_h265_stream_whose_size_is_not_known_yet() -> None:
    admission = Admission(host_factor=3.0, seats={0: {}})
    assert admission.place(Load(Codec.H265)) is not None
    assert admission.place(Load(Codec.H265, HD)) is None, "720p outruns a core three times slower"


def test_a_codec_takes_what_its_own_frames_take() -> None:
    assert Load(Codec.H265, HD, 30).cores(1.0) == pytest.approx(0.48)
    assert Load(Codec.VP8, 640 * 360, 30).cores(1.0) == pytest.approx(0.072)


def test_watching_takes_less() -> None:
    assert hd(shadow=True).cores(1.0) == 0.3 * hd().cores(1.0)


def test_sessions_go_to_the_least_loaded_worker_until_all_are_full() -> None:
    admission = Admission(seats={0: {}, 1: {}})
    assert workers(seat(admission, [hd() for _ in range(9)])) == [0, 1, 0, 1, 0, 1, 0, 1, None]
    assert all(admission.cores(worker) <= FULL_AT for worker in (0, 1))
    assert admission.load() > 0.9


def test_standbys_take_what_is_left_above() -> None:
    admission = Admission(seats={0: {}})
    seat(admission, [hd() for _ in range(5)])
    places = seat(admission, [hd(shadow=True) for _ in range(9)])
    assert workers(places) == [0, 0, 0, 0] + 5 * [None]
    assert FULL_AT < admission.cores(0) <= STANDBY_FULL_AT


def test_the_newest_standbys_are_shed_for_a_session_that_compresses() -> None:
    admission = Admission(seats={0: {}})
    standbys = seat(admission, [hd(shadow=True) for _ in range(18)])
    assert workers(standbys) == 18 * [0]
    assert admission.place(hd(shadow=True)) is None
    place = admission.place(hd())
    assert place == Place(0, shed=(17, 16, 15, 14))


def test_a_worker_where_nobody_is_shed_is_preferred() -> None:
    admission = Admission(seats={0: {}, 1: {}})
    for number in range(18):
        admission.seats[0][number] = hd(shadow=True)
    for number in range(3):
        admission.seats[1][100 + number] = hd()
    assert admission.place(hd()) == Place(1)


def test_a_standby_that_turns_sheds_others_only_where_there_is_no_room() -> None:
    admission = Admission(seats={0: {number: hd(shadow=True) for number in range(18)}})
    admission.seats[0][3].shadow = False
    shed = admission.crowded(0)
    assert shed == (17, 16, 15)
    for number in shed:
        del admission.seats[0][number]
    assert admission.crowded(0) == ()


def test_who_compresses_is_never_shed() -> None:
    admission = Admission(host_factor=3.0, seats={0: {number: hd() for number in range(9)}})
    assert admission.crowded(0) == ()


def test_an_idle_worker_takes_a_session_as_long_as_a_core_keeps_up_with_it() -> None:
    admission = Admission(host_factor=6.0, seats={0: {}})
    assert admission.place(hd()) == Place(0)
    admission.seats[0][1] = hd()
    assert admission.place(Load(Codec.H264, 320 * 240, 15)) is None
    assert admission.load() == 1.0
    assert Admission(host_factor=7.0, seats={0: {}}).place(hd()) is None
    assert Admission(host_factor=7.0, seats={0: {}}).place(hd(shadow=True)) is None  # it could never be promoted


def test_without_workers_there_is_no_seat() -> None:
    assert Admission().place(hd()) is None
    assert Admission().load() == 1.0
    assert Admission().crowded(0) == ()


def test_sessions_that_cost_next_to_nothing_are_bounded_all_the_same() -> None:
    admission = Admission(seats={0: {number: Load(Codec.H264, 32 * 32, 1) for number in range(MAX_SEATS)}})
    assert admission.cores(0) < 0.2
    assert admission.place(Load(Codec.H264, 32 * 32, 1)) is None


def test_a_session_moves_with_the_frames_that_come() -> None:
    load = Load(Codec.H264, HD, 30)
    for number in range(61):
        load.arrived(number / 60)
    assert load.fps == 30  # one second says nothing yet
    for number in range(61, 200):
        load.arrived(number / 60)
    assert load.fps == pytest.approx(60)
    for number in range(200):
        load.arrived(10 + number / 5)
    assert load.fps == pytest.approx(5, rel=0.1)


def test_a_session_whose_pictures_are_refused_takes_nothing() -> None:
    load = hd()
    load.refused = True
    assert load.cores(1.0) == 0


def test_the_host_factor_starts_with_calibration_and_follows_live_frames_of_any_codec() -> None:
    admission = Admission()
    admission.calibrated(2 * CALIBRATION_MS)
    assert admission.host_factor == 2.0
    for _ in range(500):
        admission.observed(COSTS[Codec.H264].ms(HD), Codec.H264, HD)
        admission.observed(COSTS[Codec.H265].ms(HD), Codec.H265, HD)
    assert round(admission.host_factor, 2) == 1.0
    admission.observed(1e9, Codec.H264, HD)
    assert admission.host_factor < 1.3  # one stopped clock does not close the door


def test_a_busy_hour_that_ended_does_not_keep_the_door_closed() -> None:
    admission = Admission(seats={0: {}})
    admission.calibrated(CALIBRATION_MS)
    for _ in range(2000):
        admission.observed(100.0, Codec.H264, HD)
    admission.relax()
    assert admission.place(hd()) is None  # frames told so a moment ago
    for _ in range(20):
        admission.relax()
    assert admission.place(hd()) == Place(0)
    assert admission.host_factor == pytest.approx(1.0, abs=0.2)


kinds = st.tuples(st.sampled_from(list(Codec)), st.sampled_from([0, 57600, HD]), st.integers(0, 60), st.booleans())


@given(st.lists(kinds, max_size=60), st.floats(0.3, 4.0))
def test_no_worker_is_ever_overfull_by_what_it_was_given(
    sessions: list[tuple[Codec, int, int, bool]], factor: float
) -> None:
    admission = Admission(host_factor=factor, seats={0: {}, 1: {}})
    for number, session in enumerate(sessions):
        load = Load(*session)
        place = admission.place(load)
        if place is None:
            continue
        for gone in place.shed:
            assert admission.seats[place.worker].pop(gone).shadow
        admission.seats[place.worker][number] = load
        seated = admission.seats[place.worker].values()
        firm = [one.cores(factor) for one in seated if not one.shadow]
        assert sum(firm) <= FULL_AT + 1e-9 or (len(firm) == 1 and firm[0] <= 1.0)
        assert admission.cores(place.worker) <= STANDBY_FULL_AT + 1e-9 or len(seated) == 1
