"""When a room shares its bytes, and that it takes shares back."""

import math
from dataclasses import dataclass, field

from auralink_aicore.controller import TableCurves
from auralink_aicore.model import packaged
from auralink_aicore.server.rooms import Room, share_rooms
from auralink_aicore.transcoder import Report


def curves(slope: float, *, rate: float = 1e5, target: float = 0.4) -> Report:
    steps = range(30)
    return Report(
        rate,
        target,
        allowed_loss=10.0,
        ln_bytes=tuple(math.log(rate) - step / 8.66 for step in steps),
        loss=tuple(slope * step**1.5 for step in steps),
    )


@dataclass
class Member:
    room: Room | None
    says: Report | None
    told: list[float | None] = field(default_factory=list)

    @property
    def shared(self) -> bool:
        return bool(self.told) and self.told[-1] is not None

    def report(self, now: float) -> Report | None:
        return self.says

    def share(self, target: float | None) -> None:
        self.told.append(target)


ROOM = ("bridge", "room")


def test_two_streams_that_compress_share() -> None:
    calm, busy = Member(ROOM, curves(0.05)), Member(ROOM, curves(0.3))
    share_rooms([calm, busy], 0.0)
    (calms,), (busys,) = calm.told, busy.told
    assert calms is not None
    assert busys is not None
    assert calms > 0.4 > busys
    assert math.isclose(calms + busys, 0.8)


def test_by_medians_the_stream_that_is_coded_finer_gives_to_the_coarser_one() -> None:
    curve, steps = packaged().curves["H264"], range(16, 52)

    def at(q: float) -> Report:
        known = TableCurves(curve, q, byte_rate=6e4)
        sizes = tuple(math.log(known.bytes_at(step)) for step in steps)
        return Report(1e5, 0.4, 12.0, sizes, tuple(known.loss_at(step) for step in steps))

    fine, coarse = Member(ROOM, at(22.0)), Member(ROOM, at(30.0))
    share_rooms([fine, coarse], 0.0)
    (fines,), (coarses,) = fine.told, coarse.told
    assert fines is not None
    assert coarses is not None
    assert fines > 0.45
    assert coarses < 0.35


def test_one_stream_that_compresses_is_alone_with_its_target() -> None:
    room = [Member(ROOM, curves(0.05)), Member(ROOM, None), Member(ROOM, None)]
    share_rooms(room, 0.0)
    assert all(not member.told for member in room)


def test_rooms_of_two_bridges_and_streams_of_none_do_not_mix() -> None:
    others = [Member(("a", "room"), curves(0.05)), Member(("b", "room"), curves(0.3)), Member(None, curves(0.1))]
    share_rooms(others, 0.0)
    assert all(not member.told for member in others)


def test_when_the_second_leaves_the_first_gets_its_own_target_back_once() -> None:
    stays, leaves = Member(ROOM, curves(0.05)), Member(ROOM, curves(0.3))
    share_rooms([stays, leaves], 0.0)
    leaves.says = None
    for now in (1.0, 2.0):
        share_rooms([stays, leaves], now)
    assert [len(stays.told), stays.told[-1]] == [2, None]
    assert [len(leaves.told), leaves.told[-1]] == [2, None]


def test_streams_of_different_targets_save_together_what_they_would_have_saved_alone() -> None:
    small, large = Member(ROOM, curves(0.1, rate=1e5, target=0.2)), Member(ROOM, curves(0.1, rate=3e5, target=0.5))
    share_rooms([small, large], 0.0)
    saved = 1e5 * (small.told[0] or 0) + 3e5 * (large.told[0] or 0)
    assert math.isclose(saved, 0.2 * 1e5 + 0.5 * 3e5, rel_tol=1e-6)
