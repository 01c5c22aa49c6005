"""A stream through a transcoder, one frame a call, on a clock of its own."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from auralink_aicore.codecs import Limits
from auralink_aicore.controller import Policy
from auralink_aicore.model import Model
from auralink_aicore.transcoder import FLAG_SKIPPED_BEFORE, Disposition, Frame, Mode, Result, Session, Transcoder

from tests.unit.aicore import clips

COMPRESSED, UNCHANGED, SKIPPED, FAILED = Disposition
GENEROUS = Policy(always=True, quality_level=1, quality_floor=0)


@dataclass
class Bench:
    """A transcoder on a clock of its own: 30 frames a second, encoding takes no time unless told."""

    sender: clips.Sender = clips.H264
    policy: Policy = GENEROUS
    limits: Limits = field(default_factory=Limits)
    screen: bool = False
    model: Model | None = None
    now: float = 100.0
    next_id: int = 0

    def __post_init__(self) -> None:
        session = Session(self.sender.codec, self.policy, self.limits, self.screen)
        self.transcoder = Transcoder(session, lambda: self.now, model=self.model)

    def frame(
        self, unit: bytes, mode: Mode = Mode.COMPRESS, *, left_s: float = math.inf, waited_s: float = 0.0
    ) -> Result:
        self.now += 1 / 30
        frame = Frame(self.next_id, unit, self.sender.is_key(unit), mode, self.now - waited_s, self.now + left_s)
        self.next_id += 1
        result = self.transcoder.receive(frame)
        assert result.frame_id == frame.frame_id
        return result

    def run(self, units: Iterable[bytes], mode: Mode = Mode.COMPRESS) -> list[Result]:
        return [self.frame(unit, mode) for unit in units]


def sent(results: Iterable[Result]) -> list[bytes]:
    return [result.payload for result in results if result.disposition is COMPRESSED]


def saved(units: Sequence[bytes], results: Sequence[Result]) -> float:
    return 1 - sum(len(r.payload) for r in results) / sum(map(len, units))


def expect_wait_for_key(sender: clips.Sender, units: Sequence[bytes], results: Sequence[Result], broken: int) -> None:
    """Nothing is sent from the broken frame on, and a key is asked for, until the sender's next key."""
    key = next(i for i in range(broken + 1, len(units)) if sender.is_key(units[i]))
    assert {r.disposition for r in results[:broken]} == {COMPRESSED}
    assert {(r.disposition, r.need_key) for r in results[broken:key]} == {(SKIPPED, True)}
    assert results[key].disposition is COMPRESSED
    assert results[key].key
    assert results[key].flags & FLAG_SKIPPED_BEFORE
    assert not results[key + 1].flags & FLAG_SKIPPED_BEFORE
    assert sender.complaints(sent(results)) == ""
