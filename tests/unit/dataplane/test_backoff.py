"""Waits between tries."""

import pytest
from auralink_dataplane.backoff import backoff
from hypothesis import given
from hypothesis import strategies as st


def test_waits_double_up_to_the_longest() -> None:
    assert [backoff(failures, 0.5, 5.0, 0.5) for failures in range(1, 7)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


@given(failures=st.integers(1, 10**9), jitter=st.floats(0, 1))
def test_no_number_of_failures_is_too_many(failures: int, jitter: float) -> None:
    wait = backoff(failures, 1.0, 60.0, jitter)
    assert 0.8 <= wait <= 72.0
    assert failures < 7 or wait >= 48.0


def test_jitter_moves_the_wait_a_fifth_to_either_side() -> None:
    assert [backoff(3, 1.0, 60.0, jitter) for jitter in (0.0, 0.5, 1.0)] == [pytest.approx(w) for w in (3.2, 4.0, 4.8)]
