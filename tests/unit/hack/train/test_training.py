"""What is learned from streams whose law is known, and that the same streams make the same file."""

import json
from dataclasses import replace

import numpy as np
import pytest
from auralink_aicore.features import NAMES

from tests.unit.hack.train.streams import stream

pytest.importorskip("lightgbm")

from auralink_aicore.model import read

from hack.train import fit, report, rows
from hack.train.__main__ import Verdict, judge, model
from hack.train.curves import CURVES


def quiet(_: str) -> None:
    """Progress is for people."""


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    """Twelve streams put together, three real ones that may be learned from, and one that may not."""
    streams = [stream(number) for number in range(12)]
    streams += [stream(20 + number, real=True) for number in range(3)]
    return judge([*streams, stream(30, real=True, public=False)])


class TestRows:
    def test_a_half_second_is_told_by_the_one_before_it(self) -> None:
        halves = list(rows.halves(stream(1)))
        assert [half.number for half in halves] == [1, 2, 3, 4, 5]
        told = halves[0].rows(seen=2)
        assert told.shape == (8, len(NAMES))
        psnr = told[:, NAMES.index("psnr")]
        assert psnr[2] == pytest.approx(46 - 0.69 * 6)
        assert np.isnan(halves[0].rows(seen=None)[:, NAMES.index("psnr")]).all()

    def test_its_bytes_and_loss_are_those_that_were_measured(self) -> None:
        half = next(rows.halves(stream(1, hard=0.5)))
        assert half.loss.tolist() == pytest.approx([0.5 * (q - 18) for q in half.q])
        assert half.ln_ratio[0] == pytest.approx(np.log(1.6), abs=0.01)


class TestReport:
    def test_what_the_pictures_tell_beats_the_constants_on_streams_held_out(self, verdict: Verdict) -> None:
        found = report.totals(verdict.errors)["all"]
        assert found["learned L3"] < found["usual L3"]
        assert found["learned L1"] == found["usual L1"], "below three points the constants stay"
        assert found["loss"] < 1.0
        assert verdict.moves_floor

    def test_nothing_ships_that_is_worse_at_any_loss(self, verdict: Verdict) -> None:
        worse = [
            report.Errors(
                one.clip,
                one.real,
                one.windows,
                one.usual,
                {**one.usual, 5.0: one.usual[5.0] + 0.1},
                *(0.0,) * 6,
            )
            for one in verdict.errors
        ]
        assert not report.floor_ships(worse)

    def test_sharing_by_what_was_foreseen_loses_less_than_equal_shares_and_no_less_than_the_truth(
        self, verdict: Verdict
    ) -> None:
        room = verdict.room
        assert room.oracle <= room.learned < min(room.medians, room.constant)

    def test_a_ceiling_moves_two_steps_at_once_and_stays_near_the_medians(self, verdict: Verdict) -> None:
        judged = report.held_out(verdict.streams, quiet)
        of_one = [one for one in judged if one.half.stream.clip == "clip3"]
        moved = [q for _, q in report.ceilings(of_one, 5.0, CURVES["H264"])]
        assert all(abs(b - a) <= 2.0 for a, b in zip([30.0, *moved], moved, strict=False))
        assert all(26.0 <= q <= 34.0 for q in moved)


class TestFile:
    def test_the_same_streams_make_the_same_file_and_the_ai_core_reads_it(self, verdict: Verdict) -> None:
        first, second = model([verdict]), model([verdict])
        assert first == second
        found = read("auralink-q-9.9.9.json", first)
        assert found.learned["H264"].error == pytest.approx(verdict.loss_error, abs=0.001)

    def test_trees_learn_only_from_what_anyone_can_have(self, verdict: Verdict) -> None:
        """Of the others, ceilings are made, and the scores."""
        without = [one for one in verdict.streams if one.public]
        known = fit.boosters([half for one in without for half in rows.halves(one)])
        text = model([verdict]).decode()
        assert f"{30:064x}" in text, "what ceilings are made of is named, too"
        assert f"{1:064x}" in text
        assert read("auralink-q-9.9.9.json", model([verdict])).learned["H264"].loss.predict(
            np.zeros((1, len(NAMES)))
        ) == pytest.approx(known["loss"].predict(np.zeros((1, len(NAMES)))))

    def test_ceilings_are_medians_over_real_clips_however_many_scenes_there_are(self) -> None:
        """Each of three clips loses so many points a step above 18."""
        clips = [stream(40 + number, real=True, hard=hard) for number, hard in enumerate((0.2, 0.5, 1.0))]
        scenes = [stream(60 + number, hard=0.1) for number in range(4)]
        one = judge([*clips, *scenes])
        assert one.curve.ceilings == (20.0, 22.0, 24.0, 28.0, 34.0)
        made = model([one])
        assert read("auralink-q-9.9.9.json", made).curves["H264"] == one.curve
        assert not one.ships, "seven groups are too few for trees"
        assert f"{60:064x}" not in made.decode(), "nothing was learned from it"

    def test_a_codec_that_has_no_trees_gets_ceilings_and_scores(self) -> None:
        one = judge([replace(stream(number, real=True), codec="AV1", size="270p") for number in (1, 2, 3)])
        found = json.loads(model([one]))
        assert not found["learned"]
        assert found["curves"]["AV1"]["ceilings"] == list(one.curve.ceilings)
        assert 0.0 <= found["scores"]["AV1"]["real"]["usual violations"] <= 1.0
        assert "learned L3" not in found["scores"]["AV1"]["real"]

    def test_a_codec_that_does_not_ship_is_left_to_the_constants(self, verdict: Verdict) -> None:
        beaten = [
            report.Errors(one.clip, one.real, one.windows, dict.fromkeys(report.LOSSES, 0.0), one.learned, *(0.0,) * 6)
            for one in verdict.errors
        ]
        room = replace(verdict.room, learned=verdict.room.constant)
        found = read("auralink-q-9.9.9.json", model([replace(verdict, errors=beaten, room=room)]))
        assert not found.learned
        shared = read("auralink-q-9.9.9.json", model([replace(verdict, errors=beaten)]))
        assert shared.learned["H264"].moves == 0.0
        assert "H264" in found.curves
