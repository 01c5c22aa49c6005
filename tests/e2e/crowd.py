"""What holds of every room when pods come and go."""

from collections.abc import Sequence

from hack.lab.moves import Figures, Story, figures
from hack.lab.rooms import FPS, KEY_EVERY_S, SILENCE_S

LONGEST_MS = 1000 * (KEY_EVERY_S + 1.0)
"""A new owner begins at a key: one that the sender makes anyway, and some time for a machine that starts pods."""


def everybody_goes_on(told: Sequence[Story]) -> Figures:
    """No session dropped, no packet lost, nothing that cannot be decoded. The figures, for more."""
    found = figures(told)
    print(found)
    assert found.dropped == 0, told
    assert found.lost == 0, told
    assert found.undecodable == 0, told
    assert found.gap_ms_max - found.stalled_ms < LONGEST_MS, told
    assert all(story.pictures >= SILENCE_S * FPS * 0.9 for story in told)
    return found
