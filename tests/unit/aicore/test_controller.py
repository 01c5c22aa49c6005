"""The feedback on bytes, go or no-go, and the latency governor, against made-up streams with virtual time."""

import itertools
import math
import random
from dataclasses import replace

import pytest
from auralink_aicore.controller import (
    DEBT_LIMIT,
    Controller,
    Curve,
    Governor,
    Policy,
    Sample,
    Worth,
    debt,
    first_q,
    next_q,
)
from hypothesis import given
from hypothesis import strategies as st

H264 = Curve(8.66, 16, 51, 28.0, (1.0, 2.0, 3.0, 5.0, 8.0), (22.0, 25.0, 27.0, 30.0, 33.0))

FPS = 30
FREE = Policy(quality_level=1, quality_floor=0)


class Sender:
    """Bytes of a stream and of our copy of it: ours follow exp(-q/K) around where they equal the sender's.

    `equal_q` is the q at which both sides spend the same; noise, keys and scene cuts as given.
    """

    def __init__(self, equal_q: float = 22.0, noise: float = 0.15, key_every: int = 60, k: float = 8.66) -> None:
        self.equal_q, self.noise, self.key_every, self.k = equal_q, noise, key_every, k
        self.random = random.Random(7)  # noqa: S311 - a simulation
        self.sent = 0

    def frame(self, q: int, now: float) -> Sample:
        key = self.sent % self.key_every == 0
        self.sent += 1
        source = 10_000 * math.exp(self.random.gauss(0, self.noise)) * (6 if key else 1)
        ours = source * math.exp((self.equal_q - q) / self.k + self.random.gauss(0, self.noise / 2))
        return Sample(now, round(source), round(ours), comparable=not key)


def run(controller: Controller, sender: Sender, seconds: float, start_s: float = 0.0) -> list[Sample]:
    samples = []
    for number in range(round(seconds * FPS)):
        sample = sender.frame(controller.q, start_s + number / FPS)
        controller.record(sample)
        samples.append(sample)
    return samples


def saved(samples: list[Sample]) -> float:
    return 1 - sum(s.our_bytes for s in samples) / sum(s.source_bytes for s in samples)


class TestSaving:
    @pytest.mark.parametrize("target", [0.1, 0.2, 0.4, 0.6, 0.75])
    @pytest.mark.parametrize("equal_q", [18.0, 24.0, 30.0])
    def test_any_ten_seconds_are_within_three_points_of_the_target(self, target: float, equal_q: float) -> None:
        controller = Controller(H264, replace(FREE, target_savings=target), screen=False)
        ceiling = H264.ceiling(12.0)
        samples = run(controller, Sender(equal_q), 40)
        reachable = 1 - math.exp((equal_q - ceiling) / H264.k)
        if target > reachable:
            assert controller.q == round(ceiling)
            assert controller.floor_binds
            return
        for begin in range(3 * FPS, 30 * FPS, FPS):
            assert saved(samples[begin : begin + 10 * FPS]) == pytest.approx(target, abs=0.03)

    def test_a_scene_cut_is_paid_back_within_seconds(self) -> None:
        controller = Controller(H264, FREE, screen=False)
        sender = Sender(24.0)
        run(controller, sender, 10)
        sender.equal_q = 29.0  # the new scene is dearer for us
        after = run(controller, sender, 12, start_s=10)
        assert saved(after[: 10 * FPS]) == pytest.approx(0.4, abs=0.03)

    def test_a_changed_target_is_followed_and_old_bytes_are_no_debt(self) -> None:
        controller = Controller(H264, replace(FREE, target_savings=0.5), screen=False)
        sender = Sender(24.0)
        run(controller, sender, 10)
        controller.apply(replace(FREE, target_savings=0.2))
        after = run(controller, sender, 5, start_s=10)
        assert saved(after[:FPS]) == pytest.approx(0.2, abs=0.1)
        assert saved(after[FPS:]) == pytest.approx(0.2, abs=0.04)

    def test_a_narrow_path_raises_the_target(self) -> None:
        source_bps = 10_000 * 8 * FPS * (59 + 6) / 60
        policy = replace(FREE, target_savings=0.1, max_bitrate_bps=round(source_bps / 2))
        samples = run(Controller(H264, policy, screen=False), Sender(24.0), 20)
        assert saved(samples[5 * FPS :]) == pytest.approx(0.5, abs=0.05)

    def test_skipped_frames_count_as_saved(self) -> None:
        controller = Controller(H264, replace(FREE, target_savings=0.4), screen=False)
        sender, samples = Sender(24.0), []
        for number in range(30 * FPS):
            sample = sender.frame(controller.q, number / FPS)
            if number % 5 == 4:
                sample = Sample(sample.at_s, sample.source_bytes, 0, comparable=False)
            controller.record(sample)
            samples.append(sample)
        assert saved(samples[10 * FPS :]) == pytest.approx(0.4, abs=0.06)


class TestQuality:
    @pytest.mark.parametrize(("level", "ceiling"), [(9, 22), (8, 25), (7, 27), (5, 30), (3, 33)])
    def test_the_level_caps_the_quantiser(self, level: int, ceiling: int) -> None:
        controller = Controller(H264, Policy(target_savings=0.8, quality_level=level), screen=False)
        run(controller, Sender(30.0), 5)
        assert controller.q == ceiling
        assert controller.floor_binds

    def test_the_floor_caps_it_too(self) -> None:
        controller = Controller(H264, Policy(target_savings=0.8, quality_level=1, quality_floor=98), screen=False)
        run(controller, Sender(30.0), 5)
        assert controller.q == 25

    def test_screen_content_may_lose_one_point_at_most(self) -> None:
        controller = Controller(H264, replace(FREE, target_savings=0.8), screen=True)
        run(controller, Sender(30.0), 5)
        assert (controller.q, controller.quality) == (22, 990)

    def test_the_floor_no_longer_binds_once_the_target_is_reached(self) -> None:
        controller = Controller(H264, Policy(target_savings=0.4, quality_level=7), screen=False)
        sender = Sender(30.0)
        run(controller, sender, 5)
        assert controller.floor_binds
        sender.equal_q = 18.0
        run(controller, sender, 15, start_s=5)
        assert not controller.floor_binds

    def test_the_first_quantiser_comes_from_the_target(self) -> None:
        assert round(first_q(H264, 0.4, ceiling=45)) == 28
        assert first_q(H264, 0.2, ceiling=45) < 28 < first_q(H264, 0.6, ceiling=45)
        assert first_q(H264, 0.6, ceiling=25) == 25


class TestProperties:
    q = st.floats(H264.lowest_q, H264.highest_q)
    size = st.integers(0, 10_000_000)
    target = st.floats(0, 0.9)

    @given(q, size, size, target, st.floats(-10, 10), st.floats(16, 51))
    def test_the_quantiser_stays_in_its_range(
        self, q: float, got: int, source: int, target: float, owed: float, ceiling: float
    ) -> None:
        assert next_q(q, got, source, target, owed, H264, ceiling) <= ceiling
        assert next_q(q, got, source, target, owed, H264, ceiling) >= min(q, H264.lowest_q)

    @given(st.floats(20, 30), st.integers(1, 10**6), st.integers(1, 10**6), target)
    def test_more_bytes_of_ours_never_lower_the_quantiser(self, q: float, got: int, source: int, target: float) -> None:
        less, more = (next_q(q, bytes_, source, target, 0.0, H264, 51) for bytes_ in (got, got + got // 2))
        assert less <= more

    @given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=50), target)
    def test_debt_is_zero_exactly_when_the_target_is_met(self, sizes: list[tuple[int, int]], target: float) -> None:
        samples = [Sample(float(i), source, ours, comparable=True) for i, (source, ours) in enumerate(sizes)]
        source = sum(s.source_bytes for s in samples)
        if source:
            expected = sum(s.our_bytes for s in samples) / source - (1 - target)
            assert debt(samples, target) == pytest.approx(expected, abs=1e-9)
        else:
            assert debt(samples, target) == 0

    @given(st.floats(DEBT_LIMIT, 10))
    def test_debt_beyond_its_limit_changes_nothing_more(self, owed: float) -> None:
        assert next_q(25, 100, 200, 0.4, owed, H264, 51) == next_q(25, 100, 200, 0.4, DEBT_LIMIT, H264, 51)

    @given(st.floats(0, 12))
    def test_loss_and_ceiling_are_each_others_inverse(self, loss: float) -> None:
        q = H264.ceiling(loss)
        assert H264.loss(q) == pytest.approx(loss, abs=1e-6)

    @given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7), st.booleans()), max_size=200))
    def test_no_sequence_of_frames_breaks_it(self, frames: list[tuple[int, int, bool]]) -> None:
        controller = Controller(H264, Policy(max_bitrate_bps=100_000), screen=False)
        for number, (source, ours, comparable) in enumerate(frames):
            controller.record(Sample(number / FPS, source, ours, comparable))
            assert H264.lowest_q <= controller.q <= 27
            assert 0 <= controller.ratio(number / FPS) <= 1000
            assert 0 <= controller.quality <= 1000


class TestPolicy:
    @pytest.mark.parametrize(
        "field",
        [
            {"target_savings": 0.91},
            {"target_savings": math.nan},
            {"min_savings": -0.1},
            {"quality_level": 11},
            {"quality_floor": 101},
            {"latency_budget_ms": 0},
        ],
    )
    def test_values_out_of_range_are_refused_by_name(self, field: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=next(iter(field))):
            Policy(**field)  # type: ignore[arg-type]


class TestWorth:
    PIXELS = 640 * 360

    def watch(self, worth: Worth, seconds: float, kbps: float, start_s: float = 0.0) -> list[float]:
        """Times at which a stream of this rate was advised to be compressed."""
        times = [start_s + number / FPS for number in range(round(seconds * FPS))]
        advised = []
        for now in times:
            worth.saw(now, round(kbps * 1000 / 8 / FPS), self.PIXELS)
            if worth.advise_go(now):
                advised.append(now)
        return advised

    def test_an_unknown_stream_is_tried_at_once(self) -> None:
        assert self.watch(Worth(Policy()), 1, 800)[0] == 0

    def test_a_starved_sender_is_left_alone(self) -> None:
        assert not self.watch(Worth(Policy()), 1, 0.03 * self.PIXELS * FPS / 1000)

    def test_nothing_is_said_before_it_was_measured(self) -> None:
        worth = Worth(Policy())
        self.watch(worth, 1, 800)
        assert not worth.no_go(None)

    def test_too_small_a_saving_is_a_no_go_unless_always(self) -> None:
        for always in (False, True):
            worth = Worth(Policy(always=always))
            self.watch(worth, 6, 800)
            assert worth.no_go(0.14) is not always
            assert not worth.no_go(0.16)

    def test_the_advice_comes_once_in_ten_seconds(self) -> None:
        worth = Worth(Policy())
        self.watch(worth, 6, 800)
        said = [now for now in range(6, 40) if worth.advise_no_go(float(now), 0.1)]
        assert said == [6, 16, 26, 36]

    def test_it_comes_back_when_the_sender_has_spent_clearly_more_for_a_while(self) -> None:
        worth = Worth(Policy())
        self.watch(worth, 6, 800)
        assert worth.no_go(0.05)  # so ours costs 760 kb/s at the ceiling
        assert not self.watch(worth, 20, 900, start_s=6)  # 16 %: not 5 points above the minimum
        advised = self.watch(worth, 90, 1200, start_s=60)
        assert advised
        assert advised[0] >= 65
        assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(advised))

    def test_the_saving_at_the_ceiling_is_foreseen_from_below_it(self) -> None:
        controller = Controller(H264, Policy(target_savings=0.2, quality_level=5), screen=False)
        assert controller.predicted_saving(0.0) is None
        run(controller, Sender(24.0, noise=0.05), 12)
        foreseen = controller.predicted_saving(12.0)
        assert foreseen == pytest.approx(1 - math.exp((24 - 30) / 8.66), abs=0.05)


class TestGovernor:
    def feed(self, governor: Governor, seconds: float, took_ms: float, start_s: float) -> float:
        for number in range(round(seconds * FPS)):
            governor.observe(start_s + number / FPS, took_ms, 10.0)
        return start_s + seconds

    def test_a_second_over_budget_takes_one_level_and_no_more_than_there_are(self) -> None:
        governor = Governor(levels=1)
        now = self.feed(governor, 0.9, 12.0, 0.0)
        assert governor.level == 0
        self.feed(governor, 2.0, 12.0, now)
        assert governor.level == 1

    def test_three_seconds_over_at_the_last_level_advise_native_for_a_minute(self) -> None:
        governor = Governor(levels=1)
        now = self.feed(governor, 5.5, 12.0, 0.0)
        assert governor.resting(now)
        assert not governor.resting(now + 61)

    def test_ten_roomy_seconds_give_the_level_back(self) -> None:
        governor = Governor(levels=1)
        now = self.feed(governor, 2.0, 12.0, 0.0)
        now = self.feed(governor, 20.0, 8.0, now)
        assert governor.level == 1  # within the budget, but without room
        now = self.feed(governor, 5.0, 5.0, now)
        assert governor.level == 1
        self.feed(governor, 7.0, 5.0, now)
        assert governor.level == 0

    def test_one_slow_frame_a_second_is_forgiven(self) -> None:
        governor = Governor(levels=1)
        for number in range(10 * FPS):
            governor.observe(number / FPS, 40.0 if number % FPS == 7 else 5.0, 10.0)
        assert governor.level == 0


class TestRoomsShare:
    """T by a room's allocation instead of the policy's."""

    def test_the_stream_saves_its_share_and_its_own_target_when_the_room_takes_it_back(self) -> None:
        controller, sender = Controller(H264, FREE, screen=False), Sender()
        run(controller, sender, 10)
        controller.share(0.55)
        run(controller, sender, 5, 10)
        assert saved(run(controller, sender, 10, 15)) == pytest.approx(0.55, abs=0.03)
        controller.share(None)
        run(controller, sender, 5, 25)
        assert saved(run(controller, sender, 10, 30)) == pytest.approx(0.4, abs=0.03)

    def test_small_moves_every_second_leave_the_debt_alone(self) -> None:
        """A reset with every move would never let the debt be measured."""
        controller, sender = Controller(H264, FREE, screen=False), Sender()
        samples = []
        for second in range(30):
            controller.share(0.4 + 0.03 * math.sin(second))
            samples += run(controller, sender, 1, second)
        assert saved(samples[10 * FPS :]) == pytest.approx(0.4, abs=0.02)

    def test_a_cut_is_paid_back_through_small_moves_too(self) -> None:
        controller, sender = Controller(H264, FREE, screen=False), Sender()
        run(controller, sender, 5)
        controller.record(Sample(5.0, 50_000, 150_000, comparable=False))
        before = controller.q
        controller.share(0.41)
        run(controller, sender, 1, 5.03)
        assert controller.q > before

    def test_q_moves_with_the_share_at_once_and_stays_under_the_ceiling(self) -> None:
        controller = Controller(H264, FREE, screen=False)
        before = controller.q
        controller.share(0.6)
        assert controller.q == pytest.approx(before + 8.66 * math.log(0.6 / 0.4), abs=1)
        floored = Controller(H264, Policy(), screen=False)
        floored.share(0.9)
        assert floored.q == 27

    def test_a_new_policy_ends_the_share(self) -> None:
        controller, sender = Controller(H264, FREE, screen=False), Sender()
        controller.share(0.7)
        run(controller, sender, 5)
        controller.apply(replace(FREE, target_savings=0.2))
        run(controller, sender, 5, 5)
        assert saved(run(controller, sender, 10, 10)) == pytest.approx(0.2, abs=0.03)

    def test_the_codecs_curves_go_through_where_the_stream_stands(self) -> None:
        controller, sender = Controller(H264, FREE, screen=False), Sender(noise=0.0)
        assert controller.table_curves() is None
        run(controller, sender, 10)
        curves = controller.table_curves()
        assert curves is not None
        for q in (20, 30):
            assert curves.bytes_at(q) == pytest.approx(FPS * 10_000 * math.exp((22 - q) / 8.66), rel=0.1)
        assert [curves.loss_at(q) for q in (22, 27, 33)] == [1.0, 3.0, 8.0]


class TestForesight:
    """A learned curve moves the ceiling: slowly, not far, and only where it is nearer to the truth."""

    class Says:
        def __init__(self, ceiling: float) -> None:
            self._ceiling = ceiling

        def ceiling(self, loss: float) -> float:
            return self._ceiling

        def loss_at(self, q: float) -> float:
            return q / 10

    def floored(self, level: int = 7) -> Controller:
        return Controller(H264, Policy(target_savings=0.9, quality_level=level), screen=False)

    def settled(self, controller: Controller, ceiling: float, seconds: float = 5.0) -> int:
        for number in range(round(seconds * 2)):
            controller.foresee(number / 2, self.Says(ceiling), 4.0)
            for _ in range(15):
                controller.record(Sample(number / 2, 1000, 2000, comparable=True))
        return controller.q

    @pytest.mark.parametrize(("said", "q"), [(29.0, 29), (25.0, 25), (40.0, 31), (10.0, 23)])
    def test_the_ceiling_follows_within_four_steps_of_the_medians(self, said: float, q: int) -> None:
        assert self.settled(self.floored(), said) == q

    def test_it_goes_two_steps_at_once_and_twice_a_second(self) -> None:
        controller = self.floored()
        before = self.settled(controller, 27.0)
        controller.foresee(10.0, self.Says(23.0), 4.0)
        assert controller.q == before - 2
        controller.foresee(10.4, self.Says(23.0), 4.0)
        assert controller.q == before - 2
        controller.foresee(10.5, self.Says(23.0), 4.0)
        assert controller.q == before - 4

    def test_below_three_points_the_medians_stay(self) -> None:
        assert self.settled(self.floored(level=8), 40.0) == 25

    def test_a_floor_that_is_as_good_as_off_stays_where_it_is(self) -> None:
        free = Controller(H264, replace(FREE, target_savings=0.9), screen=False)
        assert self.settled(free, 20.0) == round(H264.ceiling(12.0))

    def test_a_curve_that_may_not_move_it_says_nothing_of_the_quality_either(self) -> None:
        controller = self.floored()
        controller.foresee(0.0, self.Says(20.0), 0.0)
        assert (controller.q, controller.quality) == (27, 970)

    def test_the_quality_told_is_the_learned_one(self) -> None:
        controller = self.floored()
        controller.foresee(0.0, self.Says(27.0), 4.0)
        assert controller.quality == 1000 - controller.q

    def test_another_models_medians_are_in_force_at_once(self) -> None:
        controller = self.floored()
        self.settled(controller, 31.0)
        controller.use(replace(H264, ceilings=(18.0, 19.0, 20.0, 21.0, 22.0)))
        assert controller.q == 20
        assert controller.quality == 970
