"""What the pod has done so far."""

import pytest
from auralink_dataplane.media.streams.books import SAVED_SPAN_S, Savings, Timing


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


@pytest.mark.parametrize("receivers", [0, 1, 3])
def test_a_receiver_that_gets_nothing_saves_nothing(receivers: int) -> None:
    """One without an address yet, or that waits for its first key."""
    timing = Timing(0.0, 0.0, native_bytes=1000, sent=0.0, our_bytes=600)
    assert timing.spared(600 * receivers) == 400 * receivers
