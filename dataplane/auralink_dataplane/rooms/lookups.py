"""Which identities must be asked for, and what is remembered of the answers. Pure: `identity` asks, by these decisions.

    for each claim of a participant, in order:   known -> that is who it is
                                                 known to be nobody -> the next claim
                                                 not known -> ask, and decide again when the answer is there

Answers are kept 300 s, "nobody" 30 s, for somebody who has just registered should be found. Who is being asked for
already is not asked for again, and what is to be asked at one time goes out in few requests.

An e-mail address or number leads to an AuraID first, which is looked up in turn: the profile of a person is kept once.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from auralink_dataplane.rooms.identity import Claim, Claimed, IdentityInfo, Kind

V = TypeVar("V")

IDENTITY_TTL_S: Final = 300.0
NOBODY_TTL_S: Final = 30.0
MAX_KNOWN: Final = 10_000
MAX_NOBODIES: Final = 10_000
"""Apart from each other: guests who make up addresses must not push out those who are known."""
MAX_UNDER_WAY: Final = 2_000
MAX_BATCH: Final = 100
LOST_AFTER_S: Final = 30.0
"""An answer that has not come by then never will (three times the client's own limit): it may be asked for again."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[V]):
    """`value` None: nobody."""

    value: V | None


class Cache(Generic[V]):
    """Answers by claim, each until its time is over or its place is needed: the longest unread goes first."""

    def __init__(
        self,
        *,
        ttl_s: float = IDENTITY_TTL_S,
        nobody_ttl_s: float = NOBODY_TTL_S,
        most: int = MAX_KNOWN,
        most_nobodies: int = MAX_NOBODIES,
    ) -> None:
        self._ttl_s, self._nobody_ttl_s = ttl_s, nobody_ttl_s
        self._most, self._most_nobodies = most, most_nobodies
        self._known: OrderedDict[Claim, tuple[V, float]] = OrderedDict()
        self._nobodies: OrderedDict[Claim, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known) + len(self._nobodies)

    def get(self, claim: Claim, now: float) -> Answer[V] | None:
        """None: not known, or no longer."""
        if claim in self._known:
            value, until = self._known[claim]
            if now < until:
                self._known.move_to_end(claim)
                return Answer(value)
            del self._known[claim]
        if claim in self._nobodies:
            if now < self._nobodies[claim]:
                self._nobodies.move_to_end(claim)
                return Answer(None)
            del self._nobodies[claim]
        return None

    def put(self, claim: Claim, value: V | None, now: float, *, age_s: float = 0.0) -> None:
        """`age_s`: how old the answer is already, from another pod; it does not live longer by being passed on."""
        self.forget(claim)
        if value is None:
            if age_s < self._nobody_ttl_s:
                self._nobodies[claim] = now + self._nobody_ttl_s - max(0.0, age_s)
        elif age_s < self._ttl_s:
            self._known[claim] = value, now + self._ttl_s - max(0.0, age_s)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        while len(self._nobodies) > self._most_nobodies:
            self._nobodies.popitem(last=False)

    def forget(self, claim: Claim) -> None:
        self._known.pop(claim, None)
        self._nobodies.pop(claim, None)


@dataclass(frozen=True, slots=True)
class Plan:
    """`ask`: requests to send now, each of one kind. `wait`: somebody else's request will answer these. `refused`: too
    many are under way; try again later."""

    ask: tuple[tuple[Claim, ...], ...] = ()
    wait: tuple[Claim, ...] = ()
    refused: tuple[Claim, ...] = ()


class Flights:
    """The claims that are being asked for. Whoever sends a request of a plan must `land` it, whatever becomes of it."""

    def __init__(
        self, *, batch: int = MAX_BATCH, most: int = MAX_UNDER_WAY, lost_after_s: float = LOST_AFTER_S
    ) -> None:
        self._batch, self._most, self._lost_after_s = batch, most, lost_after_s
        self._asked: dict[Claim, float] = {}

    def __len__(self) -> int:
        return len(self._asked)

    def plan(self, claims: Iterable[Claim], now: float) -> Plan:
        """For claims that the cache does not know. The claims to ask for are under way from now on."""
        wanted = tuple(dict.fromkeys(claims))
        wait = tuple(claim for claim in wanted if not self._free(claim, now))
        free = [claim for claim in wanted if self._free(claim, now)]
        if len(self._asked) + len(free) > self._most:
            self._asked = {claim: since for claim, since in self._asked.items() if not self._lost(since, now)}
        room = max(0, self._most - len(self._asked))
        ask, refused = free[:room], free[room:]
        self._asked.update(dict.fromkeys(ask, now))
        return Plan(split(ask, self._batch), wait, tuple(refused))

    def land(self, claims: Iterable[Claim]) -> None:
        """They were answered, or could not be: the next plan may ask again."""
        for claim in claims:
            self._asked.pop(claim, None)

    def _free(self, claim: Claim, now: float) -> bool:
        since = self._asked.get(claim)
        return since is None or self._lost(since, now)

    def _lost(self, since: float, now: float) -> bool:
        return now - since >= self._lost_after_s


def split(claims: Sequence[Claim], most: int = MAX_BATCH) -> tuple[tuple[Claim, ...], ...]:
    """Requests of at most `most` claims of one kind, in order: each kind is asked of an endpoint of its own."""
    batches: list[tuple[Claim, ...]] = []
    for kind in Kind:
        same = [claim for claim in claims if claim.kind is kind]
        batches += [tuple(same[start : start + most]) for start in range(0, len(same), most)]
    return tuple(batches)


@dataclass(frozen=True, slots=True)
class Resolution:
    """Where the lookup of one participant stands. Neither `identity` nor `ask`: it is nobody that the service knows.
    `proven`: the claim that led to `identity` was."""

    identity: IdentityInfo | None = None
    ask: Claim | None = None
    proven: bool = False


def resolve(claimed: Sequence[Claimed], profiles: Cache[IdentityInfo], contacts: Cache[str], now: float) -> Resolution:
    """The first claim, in order, that leads to a profile; what must be asked before that can be said. `profiles`: of
    AuraIDs; `contacts`: the AuraID of an e-mail address or number."""
    for one in claimed:
        claim = one.claim
        if claim.kind is not Kind.AURA_ID:
            owner = contacts.get(claim, now)
            if owner is None:
                return Resolution(ask=claim)
            if owner.value is None:
                continue
            claim = Claim(Kind.AURA_ID, owner.value)
        profile = profiles.get(claim, now)
        if profile is None:
            return Resolution(ask=claim)
        if profile.value is not None:
            return Resolution(profile.value, proven=one.proven)
    return Resolution()


def resolve_all(
    participants: Mapping[str, Sequence[Claimed]], profiles: Cache[IdentityInfo], contacts: Cache[str], now: float
) -> tuple[Mapping[str, Resolution], tuple[Claim, ...]]:
    """One step for many: where each stands, and all that must be asked for now, each claim once."""
    standing = {name: resolve(claimed, profiles, contacts, now) for name, claimed in participants.items()}
    return standing, tuple(dict.fromkeys(one.ask for one in standing.values() if one.ask is not None))
