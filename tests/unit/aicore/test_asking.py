"""When the AI Core wishes that a sender spend less."""

from dataclasses import replace
from itertools import pairwise

import pytest
from auralink_aicore.asking import (
    EVERY_S,
    LEAST_BITS_PER_PIXEL,
    MEASURED_S,
    NOTHING,
    Ask,
    Asking,
    AskReason,
    Standing,
    wish,
)
from auralink_aicore.controller import Policy
from auralink_aicore.transcoder import Mode

from tests.unit.aicore import clips
from tests.unit.aicore.bench import Bench

HD = 1280 * 720
VP8 = Standing(recompresses_well=False, target=0.4, limit_bps=0, pixels=HD, unserved=False, screen=False)
H264 = replace(VP8, recompresses_well=True)


def test_other_codecs_than_h264_are_served_better_by_a_sender_that_spends_less() -> None:
    assert wish(2.5e6, 2.5e6, 30, VP8) == Ask(1_500_000, AskReason.CODEC)
    assert wish(2.5e6, 2.5e6, 30, H264) == NOTHING


def test_h264_that_cannot_be_served_here_is_asked_too() -> None:
    assert wish(2.5e6, 2.5e6, 30, replace(H264, unserved=True)) == Ask(1_500_000, AskReason.UNSERVED)


def test_lavish_senders_are_asked_whatever_the_codec() -> None:
    assert wish(9e6, 9e6, 30, H264) == Ask(5_400_000, AskReason.LAVISH)


def test_a_narrow_path_bounds_the_wish_where_we_cannot_do_as_well_ourselves() -> None:
    assert wish(2.5e6, 2.5e6, 30, replace(VP8, limit_bps=1_200_000)) == Ask(1_200_000, AskReason.PATH)
    assert wish(2.5e6, 2.5e6, 30, replace(VP8, target=0.0, limit_bps=2_000_000)) == Ask(2_000_000, AskReason.PATH)
    assert wish(2.5e6, 2.5e6, 30, replace(H264, limit_bps=1_200_000)) == NOTHING
    assert wish(2.5e6, 2.5e6, 30, replace(VP8, limit_bps=3_000_000)).bps == 1_500_000


def test_who_wants_nothing_saved_asks_for_nothing_and_a_screen_is_left_alone() -> None:
    assert wish(2.5e6, 2.5e6, 30, replace(VP8, target=0.0)) == NOTHING
    assert wish(2.5e6, 2.5e6, 30, replace(VP8, screen=True)) == NOTHING


def test_no_sender_is_asked_for_less_than_a_stream_that_is_too_thin_to_compress() -> None:
    thin = LEAST_BITS_PER_PIXEL * HD * 30
    assert wish(1.5 * thin, 1.5 * thin, 30, VP8).bps == round(thin)
    assert wish(1.1 * thin, 1.1 * thin, 30, VP8) == NOTHING


def play(asking: Asking, start: float, seconds: float, bps: float, standing: Standing = VP8) -> list[tuple[float, Ask]]:
    """30 frames a second; what was asked, and when."""
    frames = [start + number / 30 for number in range(round(30 * seconds))]
    return [(at, ask) for at in frames if (ask := asking.saw(at, round(bps / 240), standing)).bps]


def test_it_is_said_when_the_rate_was_seen_and_again_while_it_stands() -> None:
    said = play(Asking(), 100.0, 21, 2.4e6)
    assert len(said) == 4
    assert said[0][0] == pytest.approx(100 + MEASURED_S, abs=0.05)
    assert all(later - one >= EVERY_S for (one, _), (later, _) in pairwise(said))
    assert {ask.reason for _, ask in said} == {AskReason.CODEC}
    assert said[-1][1].bps == pytest.approx(1.44e6, rel=0.01)


def test_a_sender_that_did_as_asked_is_not_asked_again() -> None:
    asking = Asking()
    assert play(asking, 0.0, 10, 2.4e6)
    play(asking, 10.0, 6, 1.44e6)  # the old rate leaves the window
    assert play(asking, 16.0, 30, 1.44e6) == []


def test_other_pictures_are_measured_anew() -> None:
    asking = Asking()
    assert play(asking, 0.0, 10, 2.4e6)
    small = replace(VP8, pixels=HD // 4)
    said = play(asking, 10.0, 10, 0.6e6, small)
    assert said[0][0] >= 10 + MEASURED_S
    assert said[0][1].bps == pytest.approx(0.36e6, rel=0.01)


@pytest.mark.parametrize("mode", [Mode.COMPRESS, Mode.SHADOW])
def test_a_stream_carries_the_wish_with_its_answers(mode: Mode) -> None:
    units = clips.VP8.send(frames=90) * 2
    bench = Bench(clips.VP8, Policy(always=True))
    asked = [result.ask for result in bench.run(units, mode) if result.ask.bps]
    assert [ask.reason for ask in asked] == [AskReason.CODEC]
    spent = 8 * sum(map(len, units)) / (len(units) / 30)
    assert asked[0].bps == pytest.approx(0.6 * spent, rel=0.3)


def test_h264_within_its_budget_carries_none() -> None:
    bench = Bench(clips.H264, Policy(always=True))
    assert not any(result.ask.bps for result in bench.run(clips.H264.send(frames=90, kbps=300) * 2))
