"""Which streams share a byte budget, and the shares they are told; `service` runs it once a second.

A codec's medians are enough for it, through the point where each stream stands: a stream that must be coded coarsely
to save its share loses by a byte less what others would not miss. In rooms of mixed sizes and rates that gained over
four fifths of what the truth would have gained, among streams that are alike less or nothing (docs/model.md).
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol

from auralink_aicore.allocator import FEWEST, Stream, allocate
from auralink_aicore.transcoder import Report

Room = tuple[str, str]
"""(bridge, group): two bridges may have rooms of one name."""


class Member(Protocol):
    """One session, as far as its room goes."""

    @property
    def room(self) -> Room | None:
        """None for a session that shares with nobody."""

    @property
    def shared(self) -> bool:
        """Whether it has a share now."""

    def report(self, now: float) -> Report | None:
        """None while it takes no part."""

    def share(self, target: float | None) -> None:
        """T by the allocation; None: its policy's own."""


def share_rooms(members: Iterable[Member], now: float) -> None:
    """Give each stream its T by its room's allocation, and take it back where the room has none any more."""
    rooms: dict[Room, list[tuple[Member, Report]]] = defaultdict(list)
    for member in members:
        report = member.report(now) if member.room else None
        if member.room and report:
            rooms[member.room].append((member, report))
        elif member.shared:
            member.share(None)
    for room in rooms.values():
        shares = _shares([report for _, report in room])
        for (member, _), share in zip(room, shares, strict=True):
            if share is not None or member.shared:
                member.share(share)


def _shares(reports: list[Report]) -> list[float] | list[None]:
    if len(reports) < FEWEST:
        return [None] * len(reports)
    # Streams of one room have one policy as a rule; where not, the room saves what they would have saved alone.
    total = math.fsum(report.source_rate for report in reports)
    target = math.fsum(report.target * report.source_rate for report in reports) / total
    streams = [Stream(one.source_rate, one.allowed_loss, one.ln_bytes, one.loss) for one in reports]
    return list(allocate(streams, target))
