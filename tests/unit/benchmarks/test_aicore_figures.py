"""The arithmetic of the AI Core's rows."""

import pytest

from benchmarks.aicore import figures
from benchmarks.aicore.figures import Share


def test_the_worst_window_is_found_wherever_it_begins_and_keeps_its_sign() -> None:
    before = [100] * 100
    after = [60] * 40 + [80] * 10 + [60] * 50
    assert figures.worst_window(before, after, window=10, aim=40) == pytest.approx(-20)
    assert figures.worst_window(before, after, window=20, aim=40) == pytest.approx(-10)
    assert figures.worst_window(before, [20, *after[1:]], window=1, aim=40) == pytest.approx(40)


def test_a_stream_shorter_than_the_window_is_taken_whole() -> None:
    assert figures.worst_window([100, 300], [50, 200], window=250, aim=40) == pytest.approx(-2.5)


def test_savings_are_of_bytes_and_not_of_frames() -> None:
    assert figures.saved([1000, 10], [500, 10]) == pytest.approx(100 * 500 / 1010)


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 51), (0.95, 96), (1.0, 100)])
def test_a_percentile_is_one_of_the_values(share: float, value: int) -> None:
    assert figures.percentile(list(range(100, 0, -1)), share) == value


def test_a_few_values_have_their_largest_as_the_95th() -> None:
    assert figures.percentile([5.0, 1.0, 3.0], 0.95) == 5.0


def test_loss_is_read_between_the_points_next_to_it() -> None:
    points = [(52.0, 6.0), (32.0, 2.0), (42.0, 3.0)]
    assert figures.loss_at(points, 40) == pytest.approx(2.8)
    assert figures.loss_at(points, 47) == pytest.approx(4.5)


def test_a_line_goes_on_a_little_beyond_the_last_point_and_not_far() -> None:
    points = [(30.0, 2.0), (36.0, 5.0)]
    assert figures.loss_at(points, 40) == pytest.approx(7.0)
    assert figures.loss_at(points, 42) is None
    assert figures.loss_at(points, 24) is None
    assert figures.loss_at(points[:1], 30) is None


def test_a_window_counts_by_the_mean_of_its_scored_frames() -> None:
    before = dict.fromkeys(range(0, 60, 3), 90.0)
    after = {frame: 90.0 - (8.0 if 27 <= frame < 30 else 3.9) for frame in before}
    # Windows 15-26, 27-38, 39-50; the torn one from 51 on does not count. Frame 27 lifts the second above four.
    assert figures.windows_losing(before, after, first=15, window=12, more_than=4.0) == Share(1, 3)
    assert figures.windows_losing(before, after, first=15, window=12, more_than=3.5) == Share(3, 3)


def test_a_window_that_loses_just_what_it_may_is_no_violation() -> None:
    before, after = dict.fromkeys(range(12), 90.0), dict.fromkeys(range(12), 86.0)
    assert figures.windows_losing(before, after, first=0, window=6, more_than=4.0) == Share(0, 2)


def test_shares_add_up_and_nothing_of_nothing_is_no_violation() -> None:
    assert (Share(1, 4) + Share(1, 6)).percent == 20
    assert Share(0, 0).percent == 0


def test_the_frames_that_do_not_count_are_left_out_of_the_mean() -> None:
    assert figures.mean({0: 10.0, 15: 90.0, 18: 80.0}, first=15) == 85
