"""Nobody is asked for twice, and nothing is believed for longer than it should be."""

from collections.abc import Iterable

from auralink_dataplane.rooms.identity import Claim, Claimed, IdentityInfo, Kind
from auralink_dataplane.rooms.lookups import (
    IDENTITY_TTL_S,
    LOST_AFTER_S,
    NOBODY_TTL_S,
    Answer,
    Cache,
    Flights,
    Plan,
    Resolution,
    resolve,
    resolve_all,
    split,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

ADA = IdentityInfo("aura:ada", "Ada")


def aura(name: str) -> Claim:
    return Claim(Kind.AURA_ID, f"aura:{name}")


def mail(name: str) -> Claim:
    return Claim(Kind.EMAIL, f"{name}@example.com")


def proven(*of: Claim) -> tuple[Claimed, ...]:
    return tuple(Claimed(one, proven=True) for one in of)


# --- cache


def test_an_answer_is_believed_for_five_minutes_and_nobody_for_half_of_one() -> None:
    cache: Cache[str] = Cache()
    cache.put(aura("a"), "Ada", 100)
    cache.put(aura("b"), None, 100)
    assert cache.get(aura("a"), 100 + IDENTITY_TTL_S - 0.1) == Answer("Ada")
    assert cache.get(aura("b"), 100 + NOBODY_TTL_S - 0.1) == Answer(None)
    assert cache.get(aura("b"), 100 + NOBODY_TTL_S) is None
    assert cache.get(aura("a"), 100 + IDENTITY_TTL_S) is None
    assert len(cache) == 0


def test_a_newer_answer_replaces_the_older_of_either_kind() -> None:
    cache: Cache[str] = Cache()
    cache.put(aura("a"), None, 0)
    cache.put(aura("a"), "Ada", 1)
    assert cache.get(aura("a"), 2) == Answer("Ada")
    cache.put(aura("a"), None, 3)
    assert cache.get(aura("a"), 4) == Answer(None)
    assert len(cache) == 1


def test_reading_does_not_make_an_answer_younger() -> None:
    cache: Cache[str] = Cache()
    cache.put(aura("a"), "Ada", 0)
    for now in range(0, 300, 10):
        assert cache.get(aura("a"), now)
    assert cache.get(aura("a"), 300) is None


def test_the_longest_unread_makes_room() -> None:
    cache: Cache[str] = Cache(most=2)
    for name in ("a", "b"):
        cache.put(aura(name), name, 0)
    cache.get(aura("a"), 1)
    cache.put(aura("c"), "c", 2)
    assert [cache.get(aura(name), 3) is not None for name in ("a", "b", "c")] == [True, False, True]


def test_made_up_addresses_push_out_nobody_who_is_known() -> None:
    cache: Cache[str] = Cache(most=2, most_nobodies=3)
    cache.put(aura("a"), "Ada", 0)
    for number in range(100):
        cache.put(mail(str(number)), None, 0)
    assert cache.get(aura("a"), 1) == Answer("Ada")
    assert len(cache) == 4


def test_an_answer_from_another_pod_keeps_its_age() -> None:
    cache: Cache[str] = Cache()
    cache.put(aura("a"), "Ada", 1000, age_s=200)
    assert cache.get(aura("a"), 1099)
    assert cache.get(aura("a"), 1100) is None
    cache.put(aura("a"), "Ada", 1000, age_s=IDENTITY_TTL_S)
    cache.put(aura("b"), None, 1000, age_s=NOBODY_TTL_S)
    assert len(cache) == 0


class CacheAgainstADict(RuleBasedStateMachine):
    """Whatever is done, the cache tells what a dictionary without bounds would, or nothing; and keeps its bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: Cache[int] = Cache(ttl_s=10, nobody_ttl_s=3, most=4, most_nobodies=2)
        self.truth: dict[Claim, tuple[int | None, float]] = {}
        self.now = 0.0

    @rule(name=st.sampled_from("abcdefgh"), value=st.none() | st.integers(0, 3))
    def put(self, name: str, value: int | None) -> None:
        self.cache.put(aura(name), value, self.now)
        self.truth[aura(name)] = value, self.now + (3 if value is None else 10)

    @rule(name=st.sampled_from("abcdefgh"))
    def get(self, name: str) -> None:
        answer = self.cache.get(aura(name), self.now)
        value, until = self.truth.get(aura(name), (None, -1.0))
        assert answer is None or (answer == Answer(value) and self.now < until)

    @rule(name=st.sampled_from("abcdefgh"))
    def forget(self, name: str) -> None:
        self.cache.forget(aura(name))
        self.truth.pop(aura(name), None)

    @rule(wait=st.floats(0, 5))
    def wait(self, wait: float) -> None:
        self.now += wait

    @invariant()
    def bounded(self) -> None:
        assert len(self.cache) <= 6


TestCacheAgainstADict = CacheAgainstADict.TestCase


# --- flights


def test_who_is_being_asked_for_is_not_asked_for_again() -> None:
    flights = Flights()
    assert flights.plan([aura("a"), aura("b"), aura("a")], 0) == Plan(ask=((aura("a"), aura("b")),))
    assert flights.plan([aura("b"), aura("c")], 1) == Plan(ask=((aura("c"),),), wait=(aura("b"),))
    flights.land([aura("a"), aura("b")])
    assert flights.plan([aura("b")], 2) == Plan(ask=((aura("b"),),))


def test_requests_are_of_one_kind_and_bounded() -> None:
    flights = Flights(batch=2)
    plan = flights.plan([mail("x"), *(aura(str(number)) for number in range(5)), mail("y")], 0)
    assert [len(batch) for batch in plan.ask] == [2, 2, 1, 2]
    assert all(len({claim.kind for claim in batch}) == 1 for batch in plan.ask)


def test_too_many_at_a_time_are_refused_and_may_come_again() -> None:
    flights = Flights(most=2)
    plan = flights.plan([aura("a"), aura("b"), aura("c")], 0)
    assert (plan.ask, plan.refused, len(flights)) == (((aura("a"), aura("b")),), (aura("c"),), 2)
    flights.land([aura("a")])
    assert flights.plan([aura("c")], 1).ask == ((aura("c"),),)


def test_an_answer_that_never_comes_is_asked_for_again() -> None:
    flights = Flights(most=2)
    flights.plan([aura("a"), aura("b")], 0)
    assert flights.plan([aura("a")], LOST_AFTER_S - 0.1).wait == (aura("a"),)
    assert flights.plan([aura("a"), aura("c")], LOST_AFTER_S) == Plan(ask=((aura("a"), aura("c")),))
    assert len(flights) == 2


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from("abcdefghij"), max_size=8), st.lists(st.sampled_from("abcdefghij"), max_size=4)
        ),
        max_size=12,
    )
)
def test_every_claim_is_asked_for_waited_for_or_refused(steps: list[tuple[list[str], list[str]]]) -> None:
    flights = Flights(batch=3, most=5)
    under_way: set[Claim] = set()
    for now, (wanted, landed) in enumerate(steps):
        plan = flights.plan(map(aura, wanted), now)
        ask = {claim for batch in plan.ask for claim in batch}
        assert ask | {*plan.wait} | {*plan.refused} == set(map(aura, wanted))
        assert sum(map(len, plan.ask)) + len(plan.wait) + len(plan.refused) == len(set(wanted))
        assert not ask & under_way
        assert {*plan.wait} <= under_way
        under_way |= ask
        assert len(under_way) == len(flights) <= 5
        flights.land(map(aura, landed))
        under_way -= set(map(aura, landed))


@given(
    st.lists(st.sampled_from([aura("a"), aura("b"), mail("a"), Claim(Kind.PHONE, "+4930123456")])), st.integers(1, 4)
)
def test_splitting_loses_nothing(claims: list[Claim], most: int) -> None:
    batches = split(claims, most)
    assert all(0 < len(batch) <= most for batch in batches)
    assert sorted(flat(batches), key=repr) == sorted(claims, key=repr)


def flat(batches: Iterable[tuple[Claim, ...]]) -> list[Claim]:
    return [claim for batch in batches for claim in batch]


# --- resolution


class Service:
    """A Communication service in a dictionary, asked as the plans say."""

    def __init__(self, people: dict[str, IdentityInfo], owners: dict[Claim, str]) -> None:
        self.people, self.owners = people, owners
        self.profiles: Cache[IdentityInfo] = Cache()
        self.contacts: Cache[str] = Cache()
        self.asked: list[Claim] = []

    def resolve(self, claimed: tuple[Claimed, ...], now: float = 0) -> Resolution:
        for _ in range(2 * len(claimed) + 1):
            step = resolve(claimed, self.profiles, self.contacts, now)
            if step.ask is None:
                return step
            self.answer(step.ask, now)
        raise AssertionError(f"goes on asking: {self.asked}")

    def answer(self, claim: Claim, now: float) -> None:
        self.asked.append(claim)
        if claim.kind is Kind.AURA_ID:
            self.profiles.put(claim, self.people.get(claim.value), now)
        else:
            self.contacts.put(claim, self.owners.get(claim), now)


def test_an_aura_id_is_one_question() -> None:
    service = Service({"aura:ada": ADA}, {})
    assert service.resolve(proven(aura("ada"), mail("ada"))) == Resolution(ADA, proven=True)
    assert service.resolve(proven(aura("ada"))) == Resolution(ADA, proven=True)
    assert service.asked == [aura("ada")]


def test_an_unknown_aura_id_falls_back_to_the_address() -> None:
    service = Service({"aura:ada": ADA}, {mail("ada"): "aura:ada"})
    assert service.resolve(proven(aura("gone"), mail("nobody"), mail("ada"))) == Resolution(ADA, proven=True)
    assert service.asked == [aura("gone"), mail("nobody"), mail("ada"), aura("ada")]


def test_the_claim_that_led_there_says_whether_it_is_proven() -> None:
    service = Service({"aura:ada": ADA}, {mail("ada"): "aura:ada"})
    claimed = (*proven(aura("gone")), Claimed(mail("ada"), proven=False))
    assert service.resolve(claimed) == Resolution(ADA, proven=False)


def test_nobody_is_asked_for_once_in_half_a_minute() -> None:
    service = Service({}, {mail("ada"): "aura:deleted"})
    for now in (0, NOBODY_TTL_S - 1):
        assert service.resolve(proven(aura("gone"), mail("ada")), now) == Resolution()
    assert service.asked == [aura("gone"), mail("ada"), aura("deleted")]
    service.resolve(proven(aura("gone")), NOBODY_TTL_S)
    assert service.asked[3:] == [aura("gone")]


def test_who_claims_nothing_is_nobody() -> None:
    assert Service({}, {}).resolve(()) == Resolution()


def test_a_room_that_fills_at_once_is_few_requests() -> None:
    """A thousand join, each with its own AuraID, and the half of them from two devices."""
    service = Service({}, {})
    people = {f"p{number}": proven(aura(str(number % 500))) for number in range(1000)}
    standing, ask = resolve_all(people, service.profiles, service.contacts, 0)
    assert len(standing) == 1000
    plan = Flights().plan(ask, 0)
    assert [len(batch) for batch in plan.ask] == [100] * 5
