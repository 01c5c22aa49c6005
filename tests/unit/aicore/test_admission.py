"""Who gets a seat in which worker."""

from auralink_aicore.worker.admission import CALIBRATION_MS, FULL_AT, Admission, Load, frame_ms

HD = 1280 * 720


def test_a_720p_stream_at_30_takes_a_sixth_of_the_reference_core() -> None:
    assert round(Load(HD, 30).cores(1.0), 3) == 0.165
    assert Load(0, 0).cores(1.0) == Load(HD, 30).cores(1.0)  # unknown counts as that
    assert Load(HD, 30).cores(2.0) == 2 * Load(HD, 30).cores(1.0)


def test_watching_takes_less() -> None:
    assert Load(HD, 30, shadow=True).cores(1.0) == 0.3 * Load(HD, 30).cores(1.0)


def test_sessions_go_to_the_least_loaded_worker_until_all_are_full() -> None:
    admission = Admission(seats={0: {}, 1: {}})
    chosen = []
    for number in range(20):
        load = Load(HD, 30)
        worker = admission.choose(load)
        if worker is None:
            break
        admission.seats[worker][number] = load
        chosen.append(worker)
    assert chosen == [0, 1, 0, 1, 0, 1, 0, 1]
    assert all(admission.cores(worker) <= FULL_AT for worker in (0, 1))
    assert admission.load() > 0.9


def test_an_idle_worker_takes_a_session_that_is_too_much_for_it() -> None:
    admission = Admission(host_factor=10.0, seats={0: {}})
    assert admission.choose(Load(HD, 30)) == 0
    admission.seats[0][1] = Load(HD, 30)
    assert admission.choose(Load(320 * 240, 15)) is None
    assert admission.load() == 1.0


def test_without_workers_there_is_no_seat() -> None:
    assert Admission().choose(Load(HD, 30)) is None
    assert Admission().load() == 1.0


def test_the_host_factor_starts_with_calibration_and_follows_live_frames() -> None:
    admission = Admission()
    admission.calibrated(2 * CALIBRATION_MS)
    assert admission.host_factor == 2.0
    for _ in range(1000):
        admission.observed(frame_ms(HD), HD)
    assert round(admission.host_factor, 2) == 1.0
    admission.observed(1e9, HD)
    assert admission.host_factor < 1.3  # one stopped clock does not close the door
