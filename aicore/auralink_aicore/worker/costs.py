"""What a frame costs, by codec and size, and so which streams a host can serve within their budget. Pure.

The table was measured on one quiet core. The host factor is what this machine takes for the same work: first by
calibration, then by live frames. Used by `admission` for seats, by `process` to judge a size that the first key shows,
and by `server` for what it offers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from auralink_aicore.codecs import MAX_PIXELS, Codec
from auralink_aicore.controller import Policy

REFERENCE_PIXELS = 1280 * 720
SMALL_PIXELS = 640 * 360
TWO_CORES_FROM_PIXELS = REFERENCE_PIXELS

# The same job on the same machine varied by this much within two hours. A refusal is for the session's whole life, the
# governor's advice for a minute: so a host that is slower than the reference only by this is left to the governor.
HOST_SLACK = 1.6

# What is offered is one of these, landscape; a portrait picture of as many pixels costs the same.
OFFERED: Final = ((1920, 1080), (1280, 720), (960, 540), (640, 360), (320, 180))


@dataclass(frozen=True, slots=True)
class Cost:
    """Decode and encode of one inter frame on the reference core: a part per frame, a part per pixel."""

    at_720p_ms: float  # median
    at_360p_ms: float
    tail: float  # 95th percentile over median
    cheapest: float  # time at the governor's last level over time at its first
    two_cores: float = 1.0  # elapsed time with two cores to a large picture over that with one
    usual_pixels: int = REFERENCE_PIXELS  # of streams that are served; counts until the first key shows the size

    def ms(self, pixels: int) -> float:
        """Median milliseconds of one core; 0 pixels are not known yet."""
        of_720p = (pixels or self.usual_pixels) / REFERENCE_PIXELS
        # 360p is a quarter of 720p: the line through both.
        per_720p = (self.at_720p_ms - self.at_360p_ms) / 0.75
        return self.at_720p_ms - per_720p + per_720p * of_720p


COSTS: Final[Mapping[Codec, Cost]] = {
    Codec.H264: Cost(5.5, 1.7, tail=1.18, cheapest=0.84),
    Codec.VP8: Cost(5.5, 2.4, tail=1.09, cheapest=0.83),
    Codec.VP9: Cost(6.8, 3.2, tail=1.18, cheapest=0.66, two_cores=0.8),
    # 720p is an estimate, at its upper end.
    Codec.AV1: Cost(11.0, 3.4, tail=1.38, cheapest=1.0, two_cores=0.8, usual_pixels=SMALL_PIXELS),
    Codec.H265: Cost(16.0, 6.5, tail=1.44, cheapest=1.0, two_cores=0.55, usual_pixels=SMALL_PIXELS),
}


@dataclass(frozen=True, slots=True)
class Host:
    """What decides how long a frame takes, beside the frame."""

    factor: float = 1.0  # this machine's time over the reference core's
    cores: int = 1  # that may work on one picture


def elapsed_ms(codec: Codec, pixels: int, host: Host) -> float:
    """Median time of one inter frame, start to end."""
    cost = COSTS[codec]
    shared = host.cores > 1 and (pixels or cost.usual_pixels) >= TWO_CORES_FROM_PIXELS
    return cost.ms(pixels) * host.factor * (cost.two_cores if shared else 1.0)


def slowest_ms(codec: Codec, pixels: int, host: Host) -> float:
    """95th percentile at the governor's last level: when that is over the budget, nothing helps."""
    return elapsed_ms(codec, pixels, host) * COSTS[codec].tail * COSTS[codec].cheapest


def refusal(codec: Codec, width: int, height: int, policy: Policy, host: Host) -> str:
    """Why a stream of this size cannot keep its budget here; empty when it can, or must be tried (`always`).

    Judged by the host factor less HOST_SLACK, but no better than the reference core unless the host is: what the
    reference core could serve, a host a little too slow for it may try, and its governor gives up where it must.
    """
    if policy.always or not width or not height:
        return ""
    pixels = width * height
    if slowest_ms(codec, pixels, _judged(host)) <= policy.latency_budget_ms:
        return ""
    takes = slowest_ms(codec, pixels, host)
    return (
        f"{codec.name} at {width}x{height} takes {takes:.0f} ms a frame here, the budget is"
        f" {policy.latency_budget_ms} ms: raise compression.latencyBudgetMs (latency_budget_ms) to {takes:.0f} or more,"
        " use mode: Always, or send smaller pictures"
    )


def largest(codec: Codec, budget_ms: float, host: Host) -> tuple[int, int]:
    """The largest (width, height) of OFFERED that keeps the budget; (0, 0) when none does."""
    judged = _judged(host)
    for width, height in OFFERED:
        if width * height <= MAX_PIXELS and slowest_ms(codec, width * height, judged) <= budget_ms:
            return width, height
    return 0, 0


def _judged(host: Host) -> Host:
    return Host(min(host.factor, max(1.0, host.factor / HOST_SLACK)), host.cores)
