"""A stream is shown to its model picture by picture, and the model moves the floor, through a real decoder."""

import pytest
from auralink_aicore.controller import Policy
from auralink_aicore.insight import Insight

from tests.unit.aicore import clips, models
from tests.unit.aicore.bench import Bench

DEMANDING = Policy(target_savings=0.9, always=True)  # more than the floor of quality_level 7 lets it save


def test_h264_pictures_come_with_the_senders_quantisers_and_motion() -> None:
    bench, insight = Bench(model=models.made()), Insight(models.made(), "H264")
    for unit in clips.h264()[:3]:
        bench.frame(unit)
        picture = bench.transcoder._picture
        assert picture is not None
        insight.see(picture)
    look = insight._look
    assert look is not None
    assert 10 < look.sender_q < 51
    assert look.vectors > 0
    assert look.motion >= 0
    assert look.spread > 0


def test_a_decoder_tells_no_more_than_is_asked_until_a_model_that_learned_wants_it() -> None:
    """Quantisers and motion beside each picture take time."""
    bench, units = Bench(model=models.medians()), clips.h264(frames=60)
    bench.run(units[:1])
    assert bench.transcoder._picture is not None
    assert bench.transcoder._picture.side_data.get("VIDEO_ENC_PARAMS") is None
    bench.transcoder.use(models.made())
    bench.run(units[1:31])  # with the key that follows the window's end
    assert bench.transcoder._picture.side_data.get("VIDEO_ENC_PARAMS") is not None


def test_a_stream_of_a_codec_that_nobody_learned_is_not_looked_at() -> None:
    bench = Bench(policy=DEMANDING, model=models.made(), sender=clips.VP8)
    bench.run(clips.VP8.send(frames=40))
    assert bench.transcoder._insight.prediction is None


def test_neither_is_a_shared_screen() -> None:
    bench = Bench(policy=DEMANDING, model=models.made(), screen=True)
    bench.run(clips.h264(frames=40))
    assert bench.transcoder._insight.prediction is None


class TestFloor:
    """The medians put L = 3 at 23."""

    @pytest.mark.parametrize(("loss_above", "ceiling"), [(3.0, 27.0), (30.0, 26.1)])
    def test_a_learned_curve_moves_it(self, loss_above: float, ceiling: float) -> None:
        """To where the loss jumps, between the candidates 26 and 28; or as far as it may, where it never does."""
        bench = Bench(policy=DEMANDING, model=models.made(loss_below=1.0, loss_above=loss_above))
        bench.run(clips.h264(frames=120))
        assert bench.transcoder._controller._ceiling == pytest.approx(ceiling, abs=0.05)

    def test_without_one_it_stays(self) -> None:
        bench = Bench(policy=DEMANDING, model=models.medians())
        bench.run(clips.h264(frames=120))
        assert bench.transcoder._controller._ceiling == 23.0


def test_a_new_model_is_in_force_from_the_next_window_on() -> None:
    bench, units = Bench(model=models.made()), clips.h264(frames=60)
    bench.run(units[:20])
    other = models.made(loss_below=2.0, name="auralink-q-9.1.0.json")
    bench.transcoder.use(other)
    assert bench.frame(units[20]).model_hash == models.made().hash
    assert [result.model_hash for result in bench.run(units[21:60])][-1] == other.hash
