"""Which pod holds a room of endpoints and what it may do. Those of plain RTP are the operator's (`ownership`).

Every pod hashes every room over the pods that live (rendezvous hashing: Thaler and Ravishankar, 1998), and the one that
comes out asks for the lease. Who holds it keeps it, also when a new pod would come out now, unless nobody is there:
a move interrupts media.

A lease is good for `lease_s` after the store heard of it. The holder counts from when it *sent* the request, and stops
writing a tenth before that is over: clocks may go that much apart, in rate; how they are set does not matter.

    away --wanted--> asking --granted--> held --not renewed in time--> suspended --asks again--> regaining
      ^-----held by another, told to go---------------------------------------------------------------'

Suspended, nothing is written, while connections and media stay as they are: where the store is down for all, nobody
else can take the room. They end when another pod is found to hold it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from hashlib import blake2b
from typing import Final

from auralink_dataplane.rooms.store import Beat, Freed, Gone, Granted, HeldBy, NoAnswer, Renewed

BEAT_S: Final = 2.0
"""Between two signs of life of a pod."""
POD_TTL_S: Final = 6.0
"""A pod that was not heard of for so long is dead: before its leases end, or its rooms would wait for the news."""


# --- which pod ----------------------------------------------------------------------------------------------


def owner(room: str, pods: Iterable[str]) -> str | None:
    """Of the pods, any order; None without any. The same in every process; without a pod only its own rooms move."""
    return max(pods, key=lambda pod: (_weight(room, pod), pod), default=None)


def _weight(room: str, pod: str) -> bytes:
    text = f"{len(pod)}:{pod}{room}"
    return blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()


@dataclass(frozen=True, slots=True)
class Roster:
    """The pods that live, as known at `noted`. A store that was away lists nobody, or everybody as long gone: those
    that lived before are given the time to come back, or the first pod to ask would take every room."""

    noted: float = 0.0
    since: float | None = None
    alive_until: Mapping[str, float] = field(default_factory=dict)

    @property
    def live(self) -> frozenset[str]:
        return frozenset(pod for pod, until in self.alive_until.items() if until > self.noted)

    @property
    def settled(self) -> bool:
        """Pods that started together have seen each other: else the first would take every room."""
        return self.since is not None and self.noted >= self.since + BEAT_S


def note(roster: Roster, beats: Mapping[str, Beat], now: float) -> Roster:
    """After `StateStore.beat`."""
    was_blind = now - roster.noted > 2 * BEAT_S
    alive = {pod: now + POD_TTL_S if was_blind else roster.alive_until[pod] for pod in roster.live}
    for pod, beat in beats.items():
        if beat.leaving:
            alive.pop(pod, None)
        elif not (was_blind and pod in alive):
            alive[pod] = now + POD_TTL_S - beat.age_s
    return Roster(
        now, now if roster.since is None else roster.since, {pod: until for pod, until in alive.items() if until > now}
    )


# --- one room on one pod ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Terms:
    lease_s: float = 10.0

    @property
    def valid_s(self) -> float:
        """For which the holder relies on it, from when it asked."""
        return 0.9 * self.lease_s

    @property
    def renew_s(self) -> float:
        return self.lease_s / 3

    @property
    def retry_s(self) -> float:
        return self.lease_s / 10


class Phase(StrEnum):
    AWAY = "away"
    ASKING = "asking"
    HELD = "held"
    SUSPENDED = "suspended"
    REGAINING = "regaining"


class Do(Enum):
    """In the order given. ACQUIRE and RENEW are answered by one `Answer`."""

    ACQUIRE = "acquire"
    RENEW = "renew"
    RELEASE = "release"
    SERVE = "serve"  # write with the lease's token; open what is not open
    SUSPEND = "suspend"  # write nothing
    LEAVE = "leave"  # close, as another pod has the room or is to have it


@dataclass(frozen=True, slots=True)
class Facts:
    wanted: bool = False  # the hash comes out here
    must_go: bool = False  # handed over by a drain, or the room is no more
    idle: bool = False  # nobody is in it: a move is free


@dataclass(frozen=True, slots=True)
class Look:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Answer:
    asked_at: float  # when the request was made, by this pod's clock: `Lease.asked_at` then
    said: Granted | HeldBy | Renewed | Gone | NoAnswer


Event = Look | Answer | Freed


@dataclass(frozen=True, slots=True)
class Lease:
    phase: Phase = Phase.AWAY
    token: int = 0
    until: float = 0.0  # what it may write before, while held
    due: float = 0.0  # when to ask or to renew
    asked_at: float | None = None  # a request is under way

    def may_write(self, now: float) -> bool:
        return self.phase is Phase.HELD and now < self.until


Test = Callable[[Lease, Facts, float, Terms], bool]


def _always(_lease: Lease, _facts: Facts, _now: float, _terms: Terms) -> bool:
    return True


def _must_go(_lease: Lease, facts: Facts, _now: float, _terms: Terms) -> bool:
    return facts.must_go or (facts.idle and not facts.wanted)


def _unwanted(_lease: Lease, facts: Facts, _now: float, _terms: Terms) -> bool:
    return facts.must_go or not facts.wanted


def _wanted(_lease: Lease, facts: Facts, _now: float, _terms: Terms) -> bool:
    return facts.wanted and not facts.must_go


def _wanted_now(lease: Lease, facts: Facts, now: float, terms: Terms) -> bool:
    return _wanted(lease, facts, now, terms) and now >= lease.due


def _in_time(lease: Lease, _facts: Facts, now: float, terms: Terms) -> bool:
    return lease.asked_at is not None and now < lease.asked_at + terms.valid_s


def _unanswered(lease: Lease, facts: Facts, now: float, terms: Terms) -> bool:
    return not _in_time(lease, facts, now, terms)


def _run_out(lease: Lease, _facts: Facts, now: float, _terms: Terms) -> bool:
    return now >= lease.until


def _due(lease: Lease, facts: Facts, now: float, terms: Terms) -> bool:
    return now >= lease.due and not _in_time(lease, facts, now, terms)


_AWAY, _ASKING, _HELD, _SUSPENDED, _REGAINING = Phase
_TABLE: Final[tuple[tuple[frozenset[Phase], type[object], Test, Phase, tuple[Do, ...]], ...]] = (
    (frozenset({_AWAY}), Look, _wanted_now, _ASKING, (Do.ACQUIRE,)),
    (frozenset({_AWAY}), Freed, _wanted, _ASKING, (Do.ACQUIRE,)),
    (frozenset({_AWAY}), Granted, _always, _AWAY, (Do.RELEASE,)),  # too late
    (frozenset({_ASKING}), Look, _unanswered, _AWAY, ()),
    (frozenset({_ASKING}), Granted, _unwanted, _AWAY, (Do.RELEASE,)),
    (frozenset({_ASKING, _REGAINING}), Granted, _must_go, _AWAY, (Do.LEAVE, Do.RELEASE)),
    (frozenset({_ASKING, _REGAINING}), Granted, _in_time, _HELD, (Do.SERVE,)),
    (frozenset({_ASKING}), Granted, _always, _AWAY, (Do.RELEASE,)),
    (frozenset({_ASKING}), HeldBy, _always, _AWAY, ()),
    (frozenset({_ASKING}), NoAnswer, _always, _AWAY, ()),
    (frozenset({_HELD, _SUSPENDED, _REGAINING}), Look, _must_go, _AWAY, (Do.LEAVE, Do.RELEASE)),
    (frozenset({_HELD}), Look, _run_out, _SUSPENDED, (Do.SUSPEND,)),
    (frozenset({_HELD}), Look, _due, _HELD, (Do.RENEW,)),
    (frozenset({_HELD}), Renewed, _always, _HELD, ()),
    (frozenset({_HELD}), NoAnswer, _always, _HELD, ()),
    (frozenset({_HELD}), Gone, _always, _SUSPENDED, (Do.SUSPEND,)),
    (frozenset({_HELD, _SUSPENDED, _REGAINING}), HeldBy, _always, _AWAY, (Do.LEAVE,)),
    (frozenset({_SUSPENDED}), Renewed, _in_time, _HELD, (Do.SERVE,)),
    (frozenset({_SUSPENDED}), Gone, _always, _SUSPENDED, ()),
    (frozenset({_SUSPENDED}), NoAnswer, _always, _SUSPENDED, ()),
    (frozenset({_SUSPENDED}), Look, _due, _REGAINING, (Do.ACQUIRE,)),
    (frozenset({_REGAINING}), Granted, _always, _SUSPENDED, ()),  # too late: again
    (frozenset({_REGAINING}), NoAnswer, _always, _SUSPENDED, ()),
    (frozenset({_REGAINING}), Look, _unanswered, _SUSPENDED, ()),
)
"""The first line that fits is taken; where none does, nothing happens."""


def advance(lease: Lease, event: Event, facts: Facts, now: float, terms: Terms) -> tuple[Lease, tuple[Do, ...]]:
    """`now`: seconds of a clock that never goes back. Answers to other requests than the last come too late."""
    if isinstance(event, Answer):
        if event.asked_at != lease.asked_at:
            return lease, ()
        said: object = event.said
    else:
        said = event
    for phases, kind, fits, to, does in _TABLE:
        if lease.phase in phases and isinstance(said, kind) and fits(lease, facts, now, terms):
            return _timed(replace(lease, phase=to), said, does, now, terms), does
    return lease, ()


def _timed(lease: Lease, said: object, does: tuple[Do, ...], now: float, terms: Terms) -> Lease:
    asked_at = now if lease.asked_at is None else lease.asked_at
    match said:
        case Granted(token):
            return replace(
                lease, token=token, until=asked_at + terms.valid_s, due=asked_at + terms.renew_s, asked_at=None
            )
        case Renewed():
            return replace(lease, until=asked_at + terms.valid_s, due=asked_at + terms.renew_s, asked_at=None)
        case HeldBy(_, remaining_s):
            wait = max(terms.retry_s / 10, min(remaining_s, terms.lease_s))
            return replace(lease, due=now + wait, asked_at=None)
        case NoAnswer():
            return replace(lease, due=now + terms.retry_s, asked_at=None)
        case Gone():
            return replace(lease, due=now, asked_at=None)
    if Do.ACQUIRE in does or Do.RENEW in does:
        return replace(lease, asked_at=now, due=now + terms.retry_s)
    return replace(lease, due=now)
