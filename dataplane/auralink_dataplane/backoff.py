"""How long to wait for the next try of what has failed. Pure: whoever tries counts its failures and brings its jitter.

What fails together (every stream of an AI Core, every pod of an API server) must not come back together, so each
spreads its waits by a number of its own.
"""

from typing import Final

SPREAD: Final = 0.2
"""Of the wait, to either side."""
MOST_DOUBLINGS: Final = 32
"""More would reach any longest wait anyway, and some thousand would leave the range of floats."""


def spread(wait_s: float, jitter: float) -> float:
    """`jitter`: 0..1, spread evenly over those that wait; 0.5 leaves the wait as it is."""
    return wait_s * (1 + SPREAD * (2 * jitter - 1))


def backoff(failures: int, first_s: float, longest_s: float, jitter: float) -> float:
    """Seconds to wait after so many failures in a row, 1 or more: `first_s`, and twice as long each time."""
    return spread(min(longest_s, first_s * 2.0 ** min(failures - 1, MOST_DOUBLINGS)), jitter)
