"""The AI Core's table: bounds are those of codec, size and rate, and a clip that is out of reach is no success."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from benchmarks.aicore import capacity, plots, rows
from benchmarks.aicore.__main__ import GROUPS, MEASUREMENTS
from benchmarks.aicore.capacity import Step
from benchmarks.aicore.client import Account, Answered
from benchmarks.aicore.failover import Failure
from benchmarks.aicore.latency import Timed
from benchmarks.aicore.plan import Job, Subject
from benchmarks.aicore.quality import TARGET, Measured, Take
from benchmarks.aicore.served import Soaked
from hack.lab.clip import Clip
from hack.lab.picture import Decoded
from hack.lab.report import Row

FRAMES = 100


def job(codec: str = "H264", size: str = "720p", kbps: int = 2500, name: str = "presenter1") -> Job:
    return Job(codec, Subject(Clip(Path(f"{name}.mkv"), 1280, 720, Fraction(25), FRAMES), size), kbps, FRAMES)


def scores(value: float) -> Mapping[int, float]:
    return dict.fromkeys(range(FRAMES), value)


def take(share: float, vmaf: float, errors: tuple[str, ...] = ()) -> Take:
    """The sender's bytes times `share`."""
    return Take("", [round(1000 * share)] * FRAMES, scores(vmaf), (), Decoded(FRAMES, int(bool(errors)), errors))


def measured(of: Job, losses: Mapping[float, float], asked: Sequence[Take] = (), floor: Take | None = None) -> Measured:
    """`losses`: by share saved."""
    ours = {saved: take(1 - saved, 95 - lost) for saved, lost in losses.items()}
    return Measured(of, [1000] * FRAMES, scores(95), ours, list(asked), floor)


FAIR = {0.3: 1.0, TARGET: 1.4, 0.5: 2.5}


def test_every_row_is_measured_by_one_group() -> None:
    names = [name for group in GROUPS.values() for name in group]
    assert len(names) == len(set(names))
    assert GROUPS.keys() == MEASUREMENTS.keys()


@pytest.mark.parametrize(
    ("codec", "size", "kbps", "target", "met"),
    [
        ("H264", "720p", 2500, "<= 1.5", False),
        ("VP8", "720p", 2500, "<= 2", True),
        ("H264", "720p", 1500, "<= 2.5", True),
        ("H265", "720p", 2500, "", None),
        ("H264", "360p", 800, "", None),
    ],
)
def test_a_bound_is_of_its_codec_size_and_rate(codec: str, size: str, kbps: int, target: str, met: bool | None) -> None:
    found = rows.row("m2_vmaf_loss", 1.8, "", job(codec, size, kbps))
    assert (found.target, found.met) == (target, met)


@pytest.mark.parametrize(("value", "met"), [(7.99, True), (8.0, False)])
def test_under_eight_milliseconds_is_not_eight(value: float, met: bool) -> None:
    assert rows.row("m5_latency", value, "", job()).met is met


def test_a_row_without_a_bound_is_neither_kept_nor_missed() -> None:
    assert rows.row("m5_ratio", 3.0, "", job()).met is None
    assert rows.row("m5_latency", 100.0, "", job("AV1", "720p")).met is None


def test_what_was_not_measured_is_neither_kept_nor_missed() -> None:
    found = rows.not_run("rss_growth", "too short")
    assert (found.value, found.met, found.note) == (None, None, "not measured: too short")


def test_the_clip_that_is_farthest_off_its_saving_counts() -> None:
    near, far = measured(job(name="near"), FAIR), measured(job(name="far"), FAIR)
    far.ours[TARGET] = take(0.66, 90)
    whole, start = rows.saving([near, far])
    assert (round(float(whole.value or 0), 6), whole.met, start.met) == (6, False, False)
    assert whole.note == "the worst of near +0.0, far -6.0"


def test_a_conference_is_held_to_the_bound_and_a_film_is_only_shown() -> None:
    people, film = measured(job(), FAIR), measured(job(name="film"), {0.3: 5.0, TARGET: 9.0, 0.5: 12.0})
    first, second = rows.loss([film, people])
    assert (round(float(first.value or 0), 6), first.met) == (1.4, True)
    assert (round(float(second.value or 0), 6), second.met, second.target) == (9.0, None, "")
    assert "other clips" in second.what


def test_a_conference_clip_that_cannot_save_enough_is_a_miss() -> None:
    stuck = measured(job(name="presenter2"), {0.29: 0.4, 0.30: 0.4, 0.31: 0.5})
    [row] = rows.loss([measured(job(), FAIR), stuck])
    assert row.met is False
    assert "presenter2 out of reach" in row.note


def test_we_beat_a_sender_on_a_clip_only_by_losing_less_at_equal_bytes() -> None:
    better = measured(job(), FAIR, [take(0.6, 95 - 2.0), take(0.45, 95 - 4.0)])
    equal = measured(job(name="equal"), FAIR, [take(0.6, 95 - 1.4), take(0.45, 95 - 4.0)])
    [row] = rows.asking([better, equal])
    assert (row.value, row.target, row.met) == (50, ">= 100 %", False)
    [row] = rows.asking(
        [measured(job("VP9"), FAIR, better.asked), measured(job("VP9", name="equal"), FAIR, equal.asked)]
    )
    assert (row.value, row.target, row.met) == (50, ">= 50 %", True)


def test_a_sender_that_sends_more_than_it_was_asked_is_compared_at_our_bytes() -> None:
    one = measured(job(), FAIR, [take(0.7, 95 - 1.0), take(0.5, 95 - 3.0)])
    assert one.asked_loss == pytest.approx(2.0)


def test_windows_of_all_clips_are_counted_together() -> None:
    fine = measured(job(), FAIR, floor=take(0.7, 95 - 3.9))
    bad = measured(job(name="bad"), FAIR, floor=take(0.7, 95 - 4.1))
    [row] = rows.floor([fine, bad])
    assert (row.value, row.met) == (50, False)
    assert "presenter1 0 of 7, bad 7 of 7" in row.note


def test_one_decode_error_spoils_the_row_even_if_every_frame_came_out() -> None:
    one = measured(job(), FAIR)
    assert rows.decodable([one])[0].met is True
    one.ours[TARGET] = take(0.6, 93, ("corrupt",))
    [row] = rows.decodable([one])
    assert (row.value, row.met) == (100, False)
    assert "corrupt" in row.note


def test_latency_is_that_of_the_slowest_clip_and_keys_are_apart() -> None:
    keys = [True] + [False] * 9 + [True]
    quick = Timed(job(), keys, [90.0] + [5.0] * 9 + [12.0], [50.0] + [4.0] * 10)
    slow = Timed(job(name="slow"), keys, [90.0] + [7.0] * 8 + [8.5, 15.0], [50.0] + [4.0] * 10)
    p95, key, ratio = rows.latency([quick, slow])
    assert (p95.value, p95.met) == (8.5, False)
    assert (key.value, key.met) == (15.0, True)
    assert ratio.value == pytest.approx((5 / 4 + 7 / 4) / 2)


def step(sessions: int, in_time: int, late_ms: float = 1.0) -> Step:
    return Step(sessions, 1000, in_time, 0, 9.0, late_ms)


def test_as_many_streams_count_as_the_last_step_in_time_had() -> None:
    [row] = rows.streams([step(1, 1000), step(2, 990), step(3, 989)], "people")
    assert row.value == 2
    assert "3: 98.9 % in time" in row.note


def test_a_step_whose_sender_was_late_proves_nothing() -> None:
    assert capacity.most([step(1, 1000), step(2, 1000, late_ms=6.0)]) == 1
    assert capacity.most([step(1, 900)]) == 0


def answered(took_ms: float, *, key: bool = False, failed: bool = False) -> Answered:
    return Answered(0, key, took_ms, 0.2, 5.0, failed)


def test_grpcs_part_is_what_neither_queue_nor_codec_took() -> None:
    p50, p95 = rows.hop([answered(5.8)] * 90 + [answered(7.2)] * 10, "people")
    assert (round(float(p50.value or 0), 6), p50.met) == (0.6, True)
    assert (round(float(p95.value or 0), 6), p95.met) == (2.0, False)
    assert "p50 0.80, p95 2.20" in p50.note


def test_a_frame_is_answered_in_time_or_it_is_a_fallback() -> None:
    account = Account(4, [answered(99), answered(101), answered(199, key=True), answered(5, failed=True)])
    success, fallback, memory = rows.soaked(Soaked(1, [("H264", account)], [500.0] * 10))
    assert (success.value, fallback.value, memory.value) == (50, 50, 0)


def test_a_fast_takeover_with_one_damaged_picture_is_a_miss() -> None:
    crashes = [Failure("server killed", late, 0, 33.0) for late in (4.0, 12.0)]
    hangs = [Failure("server hung", 60.0, 0, 32.0)]
    killed, hung = rows.failovers("VP9", [*crashes, *hangs])
    assert (killed.id, killed.value, killed.met) == ("m7_crash", 12.0, True)
    assert (hung.id, hung.value, hung.met) == ("m7_hang", 60.0, False)
    damaged, _ = rows.failovers("VP9", [*crashes, Failure("worker killed", 1.0, 1, 33.0), *hangs])
    assert damaged.met is False


def test_memory_grows_from_the_second_fifth_to_the_last() -> None:
    start_up, steady, end = [100.0] * 10, [200.0] * 30, [210.0] * 10
    assert Soaked(30, [], start_up + steady + end).growth == pytest.approx(5)
    assert rows.soaked(Soaked(0.01, [("H264", Account(1))], []))[2].value is None


def test_plots_are_drawn_of_every_clip(tmp_path: Path) -> None:
    both = [measured(job(name=name), FAIR, [take(0.6, 93), take(0.45, 90)]) for name in ("a", "b & c")]
    plots.write(tmp_path / "rd.svg", plots.rate_distortion(both))
    drawn = (tmp_path / "rd.svg").read_text()
    assert drawn.count("<polyline") == 4
    assert "b &amp; c" in drawn
    timed = [Timed(job(), [True, False, False], [9.0, 5.0, 6.0], [9.0, 3.0, 3.0])]
    [panel] = plots.latencies(timed)
    assert [sum(share for *_, share in bars) for bars in panel.bars.values()] == pytest.approx([100, 100])


def test_ids_are_those_of_the_rows_that_can_be_asked_for_or_are_said_beside_them() -> None:
    found: list[Row] = [*rows.saving([measured(job(), FAIR)]), *rows.loss([measured(job(), FAIR)])]
    assert {row.id for row in found} <= set(rows.budgets())
