"""What the pod has done so far."""

import pytest
from auralink_dataplane.media.streams.books import SAVED_SPAN_S, Savings


def test_a_saving_is_of_the_last_seconds_and_then_none() -> None:
    savings = Savings()
    assert savings.share(0.0) is None
    for second in range(1, 31):
        savings.add(float(second), 1000, 600 if second <= 20 else 900)
    assert savings.share(30.0) == pytest.approx(0.1)
    assert savings.share(30.0 + SAVED_SPAN_S) is None
    assert savings.share(3630.0) is None
    savings.add(3631.0, 1000, 700)
    assert savings.share(3631.0) == pytest.approx(0.3)
    assert (savings.bytes_in, savings.bytes_out) == (31000, 20 * 600 + 10 * 900 + 700)
