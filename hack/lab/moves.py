"""What happened to each room of a crowd. Pure: the crowd's records in, stories and figures out."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median

from hack.lab import measure
from hack.lab.crowd import KEY_WANTED, RECEIVED, SENT, Happened

DROPPED_MS = 5000.0
"""A receiver that has seen no new picture for so long has lost its session: people have left by then."""


@dataclass(frozen=True, slots=True)
class Story:
    """One receiver over a stretch of time."""

    room: int
    pictures: int
    longest_gap_ms: float
    """Between whole pictures, and from the last to the end of the stretch."""
    stalled_ms: float
    """How much longer than usual its sender was silent at most: the machine was busy, not the bridge."""
    sources: int
    """SSRCs seen: one more for each pod that the room moved to."""
    lost: int
    """Packets missing between two pictures of one SSRC, and pictures that came in part."""
    begins_at_keys: bool
    """The first picture of every SSRC can be decoded by itself."""
    keys_wanted: int

    @property
    def dropped(self) -> bool:
        return self.pictures == 0 or self.longest_gap_ms > DROPPED_MS


def stories(happened: Iterable[Happened], rooms: int, since_ns: int, until_ns: int) -> list[Story]:
    by_room: dict[int, list[Happened]] = {room: [] for room in range(rooms)}
    for one in happened:
        if one.room in by_room and since_ns <= one.at_ns <= until_ns:
            by_room[one.room].append(one)
    return [_story(room, rows, since_ns, until_ns) for room, rows in by_room.items()]


def _story(room: int, rows: Sequence[Happened], since_ns: int, until_ns: int) -> Story:
    received = [one for one in rows if one.kind == RECEIVED]
    whole = [one for one in received if one.complete]
    sent = [one.at_ns for one in rows if one.kind == SENT]
    firsts = [
        one for before, one in zip([None, *received], received, strict=False) if before and before.ssrc != one.ssrc
    ]
    return Story(
        room=room,
        pictures=len(whole),
        longest_gap_ms=_longest_ms([since_ns, *(one.at_ns for one in whole), until_ns]),
        stalled_ms=max(0.0, _longest_ms(sent) - 2 * _usual_ms(sent)),
        sources=len({one.ssrc for one in received}),
        lost=sum(one.lost for one in received) + len(received) - len(whole),
        begins_at_keys=all(one.key for one in firsts),
        keys_wanted=sum(one.kind == KEY_WANTED for one in rows),
    )


def _longest_ms(instants: Sequence[int]) -> float:
    return max((after - before for before, after in pairwise(instants)), default=0) / 1e6


def _usual_ms(instants: Sequence[int]) -> float:
    return median(after - before for before, after in pairwise(instants)) / 1e6 if len(instants) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one scenario."""

    sessions: int
    moved: int
    """Rooms that changed their pod."""
    dropped: int
    gap_ms_p50: float
    """Of the longest gap of each moved room (of every room where none moved)."""
    gap_ms_max: float
    stalled_ms: float
    """Of all senders: what of the gaps may be the machine's."""
    lost: int
    undecodable: int


def figures(told: Sequence[Story]) -> Figures:
    moved = [story for story in told if story.sources > 1]
    gaps = measure.distribution(story.longest_gap_ms for story in moved or told)
    if gaps is None:
        raise ValueError("there is no room to tell of")
    return Figures(
        sessions=len(told),
        moved=len(moved),
        dropped=sum(story.dropped for story in told),
        gap_ms_p50=round(gaps.p50),
        gap_ms_max=round(gaps.largest),
        stalled_ms=round(max(story.stalled_ms for story in told)),
        lost=sum(story.lost for story in told),
        undecodable=sum(not story.begins_at_keys for story in told),
    )


def as_json(scenarios: Mapping[str, Figures]) -> str:
    return json.dumps({name: asdict(one) for name, one in scenarios.items()}, indent=1)
