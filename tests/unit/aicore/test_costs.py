"""What a frame costs, and which streams a host is too slow for."""

import pytest
from auralink_aicore.codecs import Codec
from auralink_aicore.controller import Policy
from auralink_aicore.worker.costs import COSTS, HOST_SLACK, Host, elapsed_ms, largest, refusal, slowest_ms

HD = (1280, 720)
SMALL = (640, 360)
TWO_CORES = Host(1.0, 2)


def ms(codec: Codec, size: tuple[int, int], host: Host = Host()) -> float:  # noqa: B008 - frozen
    return elapsed_ms(codec, size[0] * size[1], host)


def test_the_table_says_what_was_measured() -> None:
    measured = {codec.name: (round(ms(codec, HD), 1), round(ms(codec, SMALL), 1)) for codec in Codec}
    assert measured == {
        "H264": (5.5, 1.7),
        "VP8": (5.5, 2.4),
        "VP9": (6.8, 3.2),
        "AV1": (11.0, 3.4),
        "H265": (16.0, 6.5),
    }


@pytest.mark.parametrize("codec", list(Codec))
def test_every_frame_costs_something_and_more_pixels_cost_more(codec: Codec) -> None:
    costs = [COSTS[codec].ms(pixels) for pixels in (1, 320 * 180, 640 * 360, 1280 * 720, 1920 * 1080)]
    assert costs[0] > 0
    assert costs == sorted(costs)


@pytest.mark.parametrize("codec", list(Codec))
def test_a_size_not_known_yet_counts_as_720p_where_that_is_served_in_time_and_as_360p_else(codec: Codec) -> None:
    """As 720p, H.265 would outrun every core a little slower than the reference one before its first frame."""
    serves_720p = largest(codec, 10, Host(1.0, 1))[1] >= 720
    assert COSTS[codec].ms(0) == COSTS[codec].ms(1280 * 720 if serves_720p else 640 * 360)


def test_a_second_core_helps_the_dear_codecs_with_large_pictures_only() -> None:
    assert ms(Codec.H265, HD, TWO_CORES) < 0.6 * ms(Codec.H265, HD)
    assert ms(Codec.H265, SMALL, TWO_CORES) == ms(Codec.H265, SMALL)
    assert ms(Codec.H264, HD, TWO_CORES) == ms(Codec.H264, HD)


@pytest.mark.parametrize("factor", [1.0, HOST_SLACK])
def test_within_ten_milliseconds_av1_and_h265_run_at_360p_only(factor: float) -> None:
    host = Host(factor, 2)
    served = {
        (codec.name, size) for codec in Codec for size in (HD, SMALL) if not refusal(codec, *size, Policy(), host)
    }
    assert served == {(name, SMALL) for name in ("H264", "VP8", "VP9", "AV1", "H265")} | {
        (name, HD) for name in ("H264", "VP8", "VP9")
    }


def test_a_refusal_says_what_it_takes_and_taking_its_advice_is_enough() -> None:
    reason = refusal(Codec.AV1, *HD, Policy(), Host(1.7, 2))
    takes = round(slowest_ms(Codec.AV1, 1280 * 720, Host(1.7, 2)))
    assert f"AV1 at 1280x720 takes {takes} ms a frame here, the budget is 10 ms" in reason
    assert f"raise compression.latencyBudgetMs (latency_budget_ms) to {takes} or more, use mode: Always" in reason
    assert not refusal(Codec.AV1, *HD, Policy(latency_budget_ms=takes), Host(1.7, 2))


def test_always_is_never_refused_and_an_unknown_size_not_yet() -> None:
    slow = Host(20.0, 1)
    assert not refusal(Codec.H265, *HD, Policy(always=True), slow)
    assert not refusal(Codec.H265, 0, 0, Policy(), slow)
    assert refusal(Codec.H265, *HD, Policy(), slow)


def test_a_fast_host_is_believed_and_a_very_slow_one_too() -> None:
    assert not refusal(Codec.AV1, *HD, Policy(), Host(0.5, 1))
    assert refusal(Codec.H264, *HD, Policy(), Host(4.0, 1))


def test_what_is_offered_shrinks_with_the_host() -> None:
    assert largest(Codec.H264, 10, TWO_CORES) == HD
    assert largest(Codec.H265, 10, TWO_CORES) == SMALL
    assert largest(Codec.H264, 10, Host(0.3, 2)) == (1920, 1080)
    assert largest(Codec.H265, 10, Host(20.0, 2)) == (0, 0)


def test_what_is_offered_is_what_is_taken() -> None:
    for codec in Codec:
        for factor in (0.3, 0.8, 1.0, 1.5, 2.0, 3.0, 6.0):
            host = Host(factor, 2)
            size = largest(codec, 10, host)
            assert not refusal(codec, *size, Policy(), host)
