"""Decides the quantiser of one stream: feedback on bytes below a ceiling that keeps the promised quality.

Used by `transcoder`, one `Controller` per stream. Time is an argument; nothing here waits or measures.

Terms: **T** the share of bytes to save; **L** the VMAF points that may be lost for it; **q** the quantiser on the
codec's own scale; **K** how many steps of q change the bytes by a factor e; the **ceiling** is the q at which L is
reached, so q never rises above it, even where T is then missed. The **debt** is how many bytes of the last seconds
are over (or, negative, under) what T allows: scene cuts cost us more than the sender, and this pays them back.
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

STEP_EVERY = 5  # frames; more often, the bytes of a step are not yet in the measure
FIRST_STEP_AT = 10
MEASURED_FRAMES = 10
SMALL_MOVE = 0.05  # of T; a room's allocation drifts by less from one second to the next
GAIN = 0.45  # share of the error corrected at once; higher swings, lower is late after a cut
DEBT_S = 5.0
DEBT_LIMIT = 0.15
HIGHEST_TARGET = 0.95
RATIO_S = 1.0

# The quality floor by a learned curve: at which losses it is nearer to the truth than the medians (beyond, the floor is
# as good as off, and nothing was judged there), and how far it may go at once, which the eye must not see.
LEARNED_LOSSES = (3.0, 8.0)
FORESEE_EVERY_S = 0.5
CEILING_STEP = 2.0

# Whether compressing is worth it.
JUDGED_AFTER_S = 5.0
ADVICE_EVERY_S = 10.0
LEAST_BITS_PER_PIXEL = 0.04  # the sender is starved already; what is left to take shows
RETURN_MARGIN = 0.05
RETURN_AFTER_S = 5.0
RETURN_EVERY_S = 60.0

# Whether there is time for it.
OVER_S, UNDER_S = 1.0, 10.0
UNDER_SHARE = 0.6
GIVE_UP_AFTER_S = 3.0
REST_S = 60.0

# quality_level 10, 9 .. 1 as points of VMAF that may be lost.
_LOSS_OF_LEVEL: Final = {10: 0.5, 9: 1.0, 8: 2.0, 7: 3.0, 6: 4.0, 5: 5.0, 4: 6.5, 3: 8.0, 2: 10.0, 1: 12.0}
_SCREEN_LOSS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Curve:
    """One codec's medians: the q that loses so many points, and how bytes follow q."""

    k: float
    lowest_q: int
    highest_q: int
    first_q: float  # for T = 0.4
    losses: tuple[float, ...]  # ascending
    ceilings: tuple[float, ...]  # the q of each loss

    def ceiling(self, loss: float) -> float:
        """q at which `loss` points of VMAF are lost; straight lines between the table's points and beyond them."""
        q = _interpolate(loss, self.losses, self.ceilings)
        return min(max(q, self.lowest_q), self.highest_q)

    def loss(self, q: float) -> float:
        """Points of VMAF predicted to be lost at q: `ceiling` read backwards, 0 at least."""
        return max(0.0, _interpolate(q, self.ceilings, self.losses))


class Foresight(Protocol):
    """What a model says of one stream's next half second."""

    def ceiling(self, loss: float) -> float:
        """The q at which so many points are lost."""

    def loss_at(self, q: float) -> float:
        """Points lost at q, >= 0."""


@dataclass(frozen=True, slots=True)
class TableCurves:
    """One stream by its codec's medians alone, through the point where it stands: what there is without a model."""

    curve: Curve
    q: float
    byte_rate: float  # bytes per second at q

    def bytes_at(self, q: float) -> float:
        """Bytes per second."""
        return self.byte_rate * math.exp((self.q - q) / self.curve.k)

    def loss_at(self, q: float) -> float:
        """Points of VMAF."""
        return self.curve.loss(q)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the caller wants of a stream. Raises ValueError outside the ranges named here."""

    target_savings: float = 0.4  # 0..0.9
    min_savings: float = 0.15  # 0..0.9
    quality_level: int = 7  # 1..10
    quality_floor: int = 80  # 0..100
    latency_budget_ms: int = 10
    max_bitrate_bps: int = 0  # 0 = no limit known
    always: bool = False

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("target_savings", self.target_savings, 0.0, 0.9),
            ("min_savings", self.min_savings, 0.0, 0.9),
            ("quality_level", self.quality_level, 1, 10),
            ("quality_floor", self.quality_floor, 0, 100),
            ("latency_budget_ms", self.latency_budget_ms, 1, 1000),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name} is {value:g}, allowed are {low:g} to {high:g}")

    def allowed_loss(self, *, screen: bool) -> float:
        """L: points of VMAF that may be lost."""
        loss = min(_LOSS_OF_LEVEL[self.quality_level], 100.0 - self.quality_floor)
        return min(loss, _SCREEN_LOSS) if screen else loss


@dataclass(frozen=True, slots=True)
class Sample:
    """One frame's bytes, the sender's and ours; ours are 0 for a frame that was skipped."""

    at_s: float
    source_bytes: int
    our_bytes: int
    comparable: bool  # neither side a key, ours not skipped


def first_q(curve: Curve, target: float, ceiling: float) -> float:
    """Where a stream starts before anything is known of it."""
    wanted = curve.first_q + curve.k * math.log(0.6 / (1.0 - target))
    return min(max(wanted, curve.lowest_q), ceiling)


def debt(samples: Sequence[Sample], target: float) -> float:
    """Share of the sender's bytes by which ours are over what `target` allows."""
    source = sum(s.source_bytes for s in samples)
    if not source:
        return 0.0
    return sum(s.our_bytes - (1.0 - target) * s.source_bytes for s in samples) / source


def next_q(q: float, got: int, source: int, target: float, owed: float, curve: Curve, ceiling: float) -> float:
    """One step of the feedback; q stays where nothing was measured."""
    if got <= 0 or source <= 0:
        return min(q, ceiling)
    aim = min(target + min(max(owed, -DEBT_LIMIT), DEBT_LIMIT), HIGHEST_TARGET)
    step = GAIN * curve.k * math.log(got / ((1.0 - aim) * source))
    return min(max(q + step, curve.lowest_q), ceiling)


class Controller:
    """History of one stream's bytes, and the quantiser it leads to."""

    def __init__(self, curve: Curve, policy: Policy, *, screen: bool) -> None:
        self._curve = curve
        self._screen = screen
        self._policy = policy
        self._share: float | None = None  # T by the room's allocation, instead of the policy's
        self._foresight: Foresight | None = None
        self._foreseen_s = -math.inf
        self._ceiling = curve.ceiling(policy.allowed_loss(screen=screen))
        self._q = first_q(curve, policy.target_savings, self._ceiling)
        self._samples: deque[Sample] = deque(maxlen=2000)  # 5 s; the number bounds absurd frame rates
        self._frames = 0  # since the target last changed
        self._aimed_at_s = -math.inf
        self._bound = False

    @property
    def q(self) -> int:
        """The quantiser of the next picture."""
        return round(self._q)

    @property
    def floor_binds(self) -> bool:
        """Whether quality, not T, set the quantiser."""
        return self._bound

    @property
    def quality(self) -> int:
        """1000 x (1 - predicted loss / 100) at the current quantiser."""
        loss = self._curve.loss(self.q) if self._foresight is None else self._foresight.loss_at(self.q)
        return round(1000 * (1 - min(loss, 100.0) / 100))

    def ratio(self, now: float) -> int:
        """1000 x share saved over the last second, 0..1000."""
        recent = [s for s in self._samples if s.at_s > now - RATIO_S]
        source = sum(s.source_bytes for s in recent)
        if not source:
            return 0
        return min(max(round(1000 * (1 - sum(s.our_bytes for s in recent) / source)), 0), 1000)

    def predicted_saving(self, now: float) -> float | None:
        """Share that the ceiling would save, from the last seconds at what q was; None before so much was seen."""
        if not self._samples or self._samples[0].at_s > now - 0.95 * JUDGED_AFTER_S:
            return None
        source = sum(s.source_bytes for s in self._samples)
        if not source:
            return None
        left = sum(s.our_bytes for s in self._samples) / source
        return 1 - left * math.exp((self._q - self._ceiling) / self._curve.k)

    def apply(self, policy: Policy) -> None:
        """Aim anew: q moves by what the model says at once, and old bytes no longer count as debt."""
        old, self._policy = self._aim(), policy
        self._share = None  # it was made for the old policy; the room's next one comes within a second
        self._ceiling = self._curve.ceiling(policy.allowed_loss(screen=self._screen))
        if self._move(old):
            self._forgive()

    def use(self, curve: Curve) -> None:
        """Another model's medians; what is known of the stream so far stays, but for what the old model foresaw."""
        self._curve, self._foresight = curve, None
        self._ceiling = curve.ceiling(self._policy.allowed_loss(screen=self._screen))
        self._q = min(max(self._q, curve.lowest_q), self._ceiling)

    def foresee(self, now: float, foresight: Foresight, moves: float) -> None:
        """Let the learned curve move the ceiling: by up to `moves` away from the medians' in all, slowly.

        0: it was found no nearer to the truth than the medians, and the quality that is told stays theirs too.
        """
        if not moves or now < self._foreseen_s + FORESEE_EVERY_S:
            return
        self._foreseen_s, self._foresight = now, foresight
        allowed = self._policy.allowed_loss(screen=self._screen)
        lowest, highest = LEARNED_LOSSES
        if not lowest <= allowed <= highest:
            return
        usual = self._curve.ceiling(allowed)
        wanted = min(max(foresight.ceiling(allowed), usual - moves), usual + moves, self._curve.highest_q)
        step = min(max(wanted - self._ceiling, -CEILING_STEP), CEILING_STEP)
        self._ceiling = max(self._ceiling + step, self._curve.lowest_q)
        self._q = min(self._q, self._ceiling)

    def share(self, target: float | None) -> None:
        """T by the room's allocation; None: the policy's own again. What is owed stays owed over small moves."""
        old, self._share = self._aim(), target
        if abs(self._aim() - old) > SMALL_MOVE:
            self._forgive()
        self._move(old)

    def table_curves(self) -> TableCurves | None:
        """The codec's curves through what the last pictures took; None before there were some."""
        last = [s for s in list(self._samples)[-MEASURED_FRAMES:] if s.comparable]
        span = self._samples[-1].at_s - self._samples[0].at_s if self._samples else 0.0
        if not last or span <= 0:
            return None
        frame_rate = (len(self._samples) - 1) / span
        return TableCurves(self._curve, self._q, frame_rate * sum(s.our_bytes for s in last) / len(last))

    def candidates(self) -> range:
        """Every quantiser that may be asked for."""
        return range(self._curve.lowest_q, self._curve.highest_q + 1)

    def _aim(self) -> float:
        return self._policy.target_savings if self._share is None else self._share

    def _move(self, old: float) -> float:
        """Take q from one T to the present one at once; returns by how much, in ln bytes."""
        change = math.log((1 - old) / (1 - self._aim()))
        self._q = min(max(self._q + self._curve.k * change, self._curve.lowest_q), self._ceiling)
        return change

    def _forgive(self) -> None:
        """What was sent before counts as debt no more."""
        self._aimed_at_s = self._samples[-1].at_s if self._samples else -math.inf
        self._frames = 0

    def record(self, sample: Sample) -> None:
        """Take note of one COMPRESS frame, and step every few of them."""
        self._samples.append(sample)
        while self._samples[0].at_s <= sample.at_s - DEBT_S:
            self._samples.popleft()
        self._frames += 1
        if self._frames >= FIRST_STEP_AT and self._frames % STEP_EVERY == 0:
            self._step()

    def _step(self) -> None:
        target = self._target()
        last = list(self._samples)[-MEASURED_FRAMES:]
        got = sum(s.our_bytes for s in last if s.comparable)
        source = sum(s.source_bytes for s in last if s.comparable)
        since = [s for s in self._samples if s.at_s > self._aimed_at_s]
        owed = debt(since, target)
        free = next_q(self._q, got, source, target, owed, self._curve, self._curve.highest_q)
        self._bound = free > self._ceiling
        self._q = min(free, self._ceiling)

    def _target(self) -> float:
        """T, raised where the path carries less than T leaves."""
        target, limit = self._aim(), self._policy.max_bitrate_bps
        if not limit or len(self._samples) < FIRST_STEP_AT:
            return target
        span = self._samples[-1].at_s - self._samples[0].at_s
        if span <= 0:
            return target
        source_bps = 8 * sum(s.source_bytes for s in list(self._samples)[1:]) / span
        return min(max(target, 1 - limit / source_bps), HIGHEST_TARGET) if source_bps else target


class Worth:
    """Whether a stream is worth compressing: go or no-go.

    Without a learned model nothing is known before trying. So a stream starts, and is judged by its first seconds;
    what its pictures cost at the ceiling is remembered while it goes native, so that it comes back when the sender
    spends clearly more than that.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._source: deque[tuple[float, int]] = deque(maxlen=2000)  # (when, bytes); 5 s, bounded as above
        self._bits_per_pixel = 0.0
        self._ceiling_bps: float | None = None
        self._advised_s = -math.inf
        self._promising_since_s: float | None = None
        self._returned_s = -math.inf

    def apply(self, policy: Policy) -> None:
        """In force from the next frame on."""
        self._policy = policy

    def saw(self, at_s: float, source_bytes: int, pixels: int) -> None:
        """Take note of one frame of the sender's, whatever becomes of it."""
        source = self._source
        source.append((at_s, source_bytes))
        while source[0][0] <= at_s - JUDGED_AFTER_S:
            source.popleft()
        self._bits_per_pixel = 8 * sum(size for _, size in source) / (len(source) * pixels) if pixels else 0.0

    def no_go(self, predicted: float | None) -> bool:
        """Whether to go native, while compressing; nothing is said before it was measured (None)."""
        if predicted is None:
            return False
        self._ceiling_bps = (1 - predicted) * self.source_bps()
        if self._policy.always:
            return False
        return predicted < self._policy.min_savings or self._bits_per_pixel < LEAST_BITS_PER_PIXEL

    def advise_no_go(self, now: float, predicted: float | None) -> bool:
        """`no_go`, said once in a while."""
        if predicted is None or now < self._advised_s + ADVICE_EVERY_S:
            return False
        self._advised_s = now
        return self.no_go(predicted)

    def advise_go(self, now: float) -> bool:
        """Whether to compress, while only watching."""
        if not self._source:
            return False
        promising = self._policy.always or self._promising()
        if not promising:
            self._promising_since_s = None
            return False
        if self._promising_since_s is None:
            self._promising_since_s = now
        never_tried = self._policy.always or self._ceiling_bps is None
        if not never_tried:
            long_enough = now >= self._promising_since_s + RETURN_AFTER_S
            if not long_enough or now < self._returned_s + RETURN_EVERY_S:
                return False
        self._returned_s = now
        return True

    def _promising(self) -> bool:
        if self._bits_per_pixel < LEAST_BITS_PER_PIXEL:
            return False
        source_bps = self.source_bps()
        if self._ceiling_bps is None or not source_bps:
            return True
        return 1 - self._ceiling_bps / source_bps >= self._policy.min_savings + RETURN_MARGIN

    def fps(self) -> float:
        """Of the sender's pictures over the whole window; 0 before there is one."""
        span = self._source[-1][0] - self._source[0][0] if self._source else 0.0
        return (len(self._source) - 1) / span if span > 0 else 0.0

    def source_bps(self) -> float:
        """Over the whole window; 0 before there is one."""
        if len(self._source) < 2:
            return 0.0
        span = self._source[-1][0] - self._source[0][0]
        return 8 * sum(size for _, size in list(self._source)[1:]) / span if span > 0 else 0.0


class Governor:
    """Whether a stream keeps its latency budget: first a cheaper encoder, then the advice to leave it native.

    Looks at queue and encoder time of inter frames, so it also answers to a crowded worker.
    """

    def __init__(self, levels: int) -> None:
        self._levels = levels  # how many cheaper settings there are
        self.level = 0
        self._took: deque[tuple[float, float]] = deque(maxlen=500)  # (when, ms) of the last second
        self._since_s: float | None = None  # the present level began, and with it a new measure
        self._over_since_s: float | None = None
        self._under_since_s: float | None = None
        self._rest_until_s = -math.inf

    def resting(self, now: float) -> bool:
        """Whether the advice is NATIVE."""
        return now < self._rest_until_s

    def observe(self, now: float, took_ms: float, budget_ms: float) -> None:
        """Take note of one inter frame; `level` may change."""
        if self._since_s is None:
            self._since_s = now
        took = self._took
        took.append((now, took_ms))
        while took[0][0] <= now - OVER_S:
            took.popleft()
        if now < self._since_s + OVER_S:
            return
        slow = sorted(ms for _, ms in took)[int(0.95 * (len(took) - 1))]
        if slow > budget_ms:
            self._under_since_s = None
            self._over(now)
        else:
            self._over_since_s = None
            self._under(now, roomy=slow < UNDER_SHARE * budget_ms)

    def _over(self, now: float) -> None:
        if self.level < self._levels:
            self._move(1)
            return
        if self._over_since_s is None:
            self._over_since_s = now
        if now >= self._over_since_s + GIVE_UP_AFTER_S:
            self._rest_until_s = now + REST_S
            self._over_since_s = None

    def _under(self, now: float, *, roomy: bool) -> None:
        if not roomy or not self.level:
            self._under_since_s = None
        elif self._under_since_s is None:
            self._under_since_s = now
        elif now >= self._under_since_s + UNDER_S:
            self._move(-1)

    def _move(self, step: int) -> None:
        self.level += step
        self._took.clear()
        self._since_s = self._over_since_s = self._under_since_s = None


def _interpolate(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """Straight line through the two nearest points; the outer ones also beyond the ends."""
    right = min(max(bisect_left(xs, x), 1), len(xs) - 1)
    x0, x1, y0, y1 = xs[right - 1], xs[right], ys[right - 1], ys[right]
    return y0 + (x - x0) * (y1 - y0) / (x1 - x0)
