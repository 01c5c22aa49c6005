"""Which pod holds a room: the hash, the list of pods, every line of the table, and that nobody holds a room twice."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from auralink_dataplane.rooms.leases import (
    BEAT_S,
    POD_TTL_S,
    Answer,
    Do,
    Event,
    Facts,
    Lease,
    Look,
    Phase,
    Roster,
    Terms,
    advance,
    note,
    owner,
)
from auralink_dataplane.rooms.store import Beat, Freed, Gone, Granted, HeldBy, NoAnswer, Renewed
from hypothesis import given, settings
from hypothesis import strategies as st

TERMS = Terms()
WANTED = Facts(wanted=True)
AWAY, ASKING, HELD, SUSPENDED, REGAINING = Phase
Said = Granted | HeldBy | Renewed | Gone | NoAnswer


# --- the hash -----------------------------------------------------------------------------------------------

NAMES = st.text(min_size=1, max_size=20)


def test_the_hash_is_the_same_in_every_process() -> None:
    """Pods of two versions must agree, or they would ask for each other's rooms: never change these."""
    found = [owner(f"room-{number}", ["pod-a", "pod-b", "pod-c"]) for number in range(8)]
    assert found == [f"pod-{letter}" for letter in "babcbcaa"]


@given(NAMES, st.sets(NAMES, min_size=2, max_size=8))
def test_only_the_rooms_of_a_dead_pod_move(room: str, pods: set[str]) -> None:
    before = owner(room, pods)
    assert before in pods
    for dead in pods - {before}:
        assert owner(room, pods - {dead}) == before
    assert owner(room, pods - {before}) != before


def test_nobody_owns_a_room_where_no_pod_lives() -> None:
    assert owner("room", []) is None


@pytest.mark.parametrize("pods", [2, 5, 20])
def test_rooms_spread_evenly_also_after_a_pod_died(pods: int) -> None:
    """Within five standard deviations of the binomial."""
    names = [f"bridge-7d4f{number:02}" for number in range(pods)]
    for alive in (names, names[1:]):
        share = Counter(owner(f"conference-{number}", alive) for number in range(5000))
        mean = 5000 / len(alive)
        assert all(abs(share[pod] - mean) <= 5 * mean**0.5 for pod in alive)


# --- the pods that live -------------------------------------------------------------------------------------


def beats(**ages: float) -> dict[str, Beat]:
    return {pod: Beat(age, leaving=False) for pod, age in ages.items()}


def test_a_pod_is_dead_when_it_was_not_heard_of_for_long() -> None:
    roster = note(Roster(), beats(a=0, b=POD_TTL_S - 0.1), 100)
    assert roster.live == {"a", "b"}
    assert note(roster, beats(a=0, b=POD_TTL_S + 1), 101).live == {"a"}


def test_a_pod_that_says_that_it_leaves_gets_no_more_rooms() -> None:
    roster = note(Roster(), beats(a=0, b=0), 100)
    assert note(roster, {**beats(a=0), "b": Beat(0, leaving=True)}, 101).live == {"a"}


def test_a_store_that_forgot_everybody_kills_nobody() -> None:
    roster = note(Roster(), beats(a=0, b=1, c=1), 100)
    roster = note(roster, beats(a=0), 103)
    assert roster.live == {"a", "b", "c"}
    roster = note(roster, beats(a=0, b=1), 105)
    assert roster.live == {"a", "b"}  # c was not heard of for 6 s


def test_a_store_that_was_away_kills_nobody_that_comes_back() -> None:
    """All pods look long gone to the first that reaches the store again."""
    roster = note(Roster(), beats(a=0, b=0, c=0), 100)
    roster = note(roster, beats(a=0, b=30, c=30), 130)
    assert roster.live == {"a", "b", "c"}
    for now in (132, 134, 136):
        roster = note(roster, beats(a=0, b=0, c=now - 100), now)
    assert roster.live == {"a", "b"}


def test_pods_that_start_together_see_each_other_before_they_ask_for_rooms() -> None:
    roster = note(Roster(), beats(a=0), 100)
    assert not roster.settled
    assert note(roster, beats(a=0, b=1), 102).settled


# --- the table ----------------------------------------------------------------------------------------------


def asking(at: float = 100) -> Lease:
    lease, does = advance(Lease(), Look(), WANTED, at, TERMS)
    assert does == (Do.ACQUIRE,)
    return lease


def held(at: float = 100) -> Lease:
    lease, does = told(asking(at), Granted(7), at + 0.1)
    assert does == (Do.SERVE,)
    return lease


def suspended(at: float = 100) -> Lease:
    lease, does = look(renewing(at), at + TERMS.valid_s)
    assert does == (Do.SUSPEND,)
    return lease


def renewing(at: float = 100) -> Lease:
    lease, does = look(held(at), at + TERMS.renew_s)
    assert does == (Do.RENEW,)
    return lease


def look(lease: Lease, now: float, facts: Facts = WANTED) -> tuple[Lease, tuple[Do, ...]]:
    return advance(lease, Look(), facts, now, TERMS)


def told(lease: Lease, said: Said, now: float, facts: Facts = WANTED) -> tuple[Lease, tuple[Do, ...]]:
    assert lease.asked_at is not None
    return advance(lease, Answer(lease.asked_at, said), facts, now, TERMS)


def test_a_pod_asks_only_for_rooms_that_the_hash_gives_it() -> None:
    assert look(Lease(), 100, Facts()) == (Lease(), ())
    assert look(Lease(), 100, Facts(wanted=True, must_go=True)) == (Lease(), ())
    assert asking().phase is ASKING


def test_it_asks_again_when_the_others_lease_ends() -> None:
    lease, does = told(asking(), HeldBy("other", 3.0), 100.1)
    assert (lease.phase, does) == (AWAY, ())
    assert look(lease, 103)[1] == ()
    assert look(lease, 103.1)[1] == (Do.ACQUIRE,)


def test_it_asks_at_once_when_the_other_lets_go() -> None:
    lease, _ = told(asking(), HeldBy("other", 9.0), 100.1)
    assert advance(lease, Freed("room"), WANTED, 101, TERMS)[1] == (Do.ACQUIRE,)
    assert advance(lease, Freed("room"), Facts(), 101, TERMS)[1] == ()


def test_the_lease_counts_from_when_it_was_asked_for() -> None:
    lease, _ = told(asking(100), Granted(7), 102)
    assert (lease.token, lease.until) == (7, 100 + TERMS.valid_s)
    assert lease.may_write(108.9)
    assert not lease.may_write(109)


def test_it_is_renewed_after_a_third() -> None:
    lease = held(100)
    assert look(lease, 103.3)[1] == ()
    lease, does = look(lease, 103.34)
    assert does == (Do.RENEW,)
    assert look(lease, 104)[1] == ()  # one request at a time
    lease, does = told(lease, Renewed(), 104)
    assert (does, lease.until) == ((), 103.34 + TERMS.valid_s)


def test_a_renewal_that_failed_is_tried_again_until_time_is_up() -> None:
    lease, does = told(renewing(100), NoAnswer("down"), 104)
    assert (lease.phase, does) == (HELD, ())
    lease, does = look(lease, 105)
    assert does == (Do.RENEW,)
    lease, _ = told(lease, NoAnswer("down"), 106)
    lease, does = look(lease, 109)
    assert (lease.phase, does) == (SUSPENDED, (Do.SUSPEND,))
    assert not lease.may_write(109)


def test_a_suspended_room_is_served_again_with_a_new_token() -> None:
    lease, _ = told(suspended(100), NoAnswer("down"), 109.1)
    lease, does = look(lease, 110.1)
    assert (lease.phase, does) == (REGAINING, (Do.ACQUIRE,))
    lease, does = told(lease, Granted(8), 110.2)
    assert (lease.phase, lease.token, does) == (HELD, 8, (Do.SERVE,))


def test_a_suspended_room_that_another_pod_took_is_left() -> None:
    lease, _ = told(suspended(100), NoAnswer("down"), 109.1)
    lease, _ = look(lease, 110.1)
    lease, does = told(lease, HeldBy("other", 8.0), 110.2)
    assert (lease.phase, does) == (AWAY, (Do.LEAVE,))


def test_a_suspended_room_is_asked_for_again_although_the_hash_moved_on() -> None:
    """Its connections are here: a move would interrupt media."""
    lease, _ = told(suspended(100), NoAnswer("down"), 109.1)
    assert look(lease, 110.1, Facts())[1] == (Do.ACQUIRE,)


def test_a_lease_that_the_store_lost_is_asked_for_again_at_once() -> None:
    lease, does = told(renewing(100), Gone(), 103.5)
    assert (lease.phase, does) == (SUSPENDED, (Do.SUSPEND,))
    assert look(lease, 103.5)[1] == (Do.ACQUIRE,)


def test_a_lease_that_another_pod_has_is_left_at_once() -> None:
    lease, does = told(renewing(100), HeldBy("other", 9.0), 103.5)
    assert (lease.phase, does) == (AWAY, (Do.LEAVE,))


def test_a_room_is_kept_although_a_new_pod_would_come_out_of_the_hash() -> None:
    lease, does = look(held(100), 103.4, Facts(wanted=False))
    assert (lease.phase, does) == (HELD, (Do.RENEW,))


def test_a_room_where_nobody_is_goes_to_whom_the_hash_names() -> None:
    assert look(held(100), 101, Facts(wanted=True, idle=True))[1] == ()
    assert look(held(100), 101, Facts(wanted=False, idle=True))[1] == (Do.LEAVE, Do.RELEASE)


@pytest.mark.parametrize("lease", [held(), renewing(), suspended()])
def test_a_drain_closes_and_then_lets_go(lease: Lease) -> None:
    after, does = look(lease, 109.5, Facts(wanted=True, must_go=True))
    assert (after.phase, does, after.token) == (AWAY, (Do.LEAVE, Do.RELEASE), 7)
    assert not after.may_write(0)


def test_what_is_granted_and_no_longer_wanted_is_let_go() -> None:
    for facts in (Facts(), Facts(wanted=True, must_go=True)):
        lease, does = told(asking(), Granted(7), 100.1, facts)
        assert (lease.phase, lease.token, does) == (AWAY, 7, (Do.RELEASE,))


def test_what_is_granted_too_late_is_not_used() -> None:
    lease, does = told(asking(100), Granted(7), 109)
    assert (lease.phase, does) == (AWAY, (Do.RELEASE,))


def test_an_answer_to_an_earlier_request_changes_nothing() -> None:
    lease = renewing(100)
    assert advance(lease, Answer(100, Granted(9)), WANTED, 104, TERMS) == (lease, ())


SAID: st.SearchStrategy[Said] = st.one_of(
    st.builds(Granted, st.integers(1, 9)),
    st.builds(HeldBy, st.just("other"), st.floats(0, 10)),
    st.builds(Renewed),
    st.builds(Gone),
    st.builds(NoAnswer, st.just("")),
)
FACTS = st.builds(Facts, st.booleans(), st.booleans(), st.booleans())


@given(st.lists(st.tuples(st.floats(0, 5), FACTS, st.none() | SAID), max_size=40))
def test_a_room_is_suspended_or_left_before_anything_else_once_it_was_served(
    steps: list[tuple[float, Facts, Said | None]],
) -> None:
    """And whatever is asked for is asked for once at a time."""
    lease, now, served = Lease(), 100.0, False
    for wait, facts, said in steps:
        now += wait
        event: Event = Look() if said is None or lease.asked_at is None else Answer(lease.asked_at, said)
        before, (lease, does) = lease, advance(lease, event, facts, now, TERMS)
        if {Do.ACQUIRE, Do.RENEW} & set(does):
            assert before.asked_at is None or now >= before.asked_at + TERMS.valid_s
        if Do.SERVE in does:
            assert lease.phase is HELD
            served = True
        if {Do.SUSPEND, Do.LEAVE} & set(does):
            assert served or before.phase is REGAINING
            served = False
        assert served == (lease.phase is HELD)


# --- pods, clocks and a store together ----------------------------------------------------------------------


@dataclass
class Server:
    """What the scripts do, at one time for all."""

    pod: str = ""
    token: int = 0
    until: float = 0.0

    def acquire(self, pod: str, now: float) -> Said:
        if now < self.until and self.pod != pod:
            return HeldBy(self.pod, self.until - now)
        self.pod, self.token, self.until = pod, self.token + 1, now + TERMS.lease_s
        return Granted(self.token)

    def renew(self, pod: str, token: int, now: float) -> Said:
        if now >= self.until:
            return Gone()
        if (self.pod, self.token) != (pod, token):
            return HeldBy(self.pod, self.until - now)
        self.until = now + TERMS.lease_s
        return Renewed()

    def release(self, pod: str, token: int, now: float) -> None:
        if now < self.until and (self.pod, self.token) == (pod, token):
            self.until = 0.0


@dataclass
class Pod:
    name: str
    rate: float  # its seconds per second
    offset: float
    lease: Lease = field(default_factory=Lease)
    facts: Facts = WANTED
    under_way: list[tuple[float, Do | Answer, int, float]] = field(default_factory=list)
    """When it arrives, what it is, the token, and when it was asked."""

    def clock(self, now: float) -> float:
        return self.offset + now * self.rate

    def step(self, event: Event, now: float, delay: float) -> None:
        self.lease, does = advance(self.lease, event, self.facts, self.clock(now), TERMS)
        for do in does:
            if do in (Do.ACQUIRE, Do.RENEW, Do.RELEASE):
                self.under_way.append((now + delay, do, self.lease.token, self.clock(now)))

    def carry(self, server: Server, now: float, delay: float, lost: str = "") -> None:
        """What has arrived by now, and back. `lost`: "requests" or "answers"; the pod hears that it got none."""
        due = [one for one in self.under_way if one[0] <= now]
        self.under_way = [one for one in self.under_way if one[0] > now]
        for _, what, token, asked_at in due:
            if isinstance(what, Answer):
                self.step(what, now, delay)
            elif lost == "requests":
                self.under_way.append((now + delay, Answer(asked_at, NoAnswer("lost")), token, asked_at))
            elif what is Do.RELEASE:
                server.release(self.name, token, now)
            else:
                said = server.acquire(self.name, now) if what is Do.ACQUIRE else server.renew(self.name, token, now)
                answer = Answer(asked_at, NoAnswer("lost") if lost == "answers" else said)
                self.under_way.append((now + delay, answer, token, asked_at))


@settings(max_examples=100)
@given(
    rates=st.tuples(*[st.sampled_from([0.95, 1.0, 1.05])] * 3),
    offsets=st.tuples(*[st.floats(0, 1e6)] * 3),
    steps=st.lists(
        st.tuples(
            st.integers(0, 2),  # whose delays and losses change
            st.sampled_from([0.01, 0.5, 2.0, 6.0]),  # s each way
            st.sampled_from(["", "requests", "answers"]),  # what is lost
            st.just(WANTED) | FACTS,
            st.sampled_from([20, 80, 250]),  # for how many looks, each 50 ms
        ),
        max_size=6,
    ),
)
def test_no_two_pods_may_write_at_once_whatever_is_late_or_lost(
    rates: tuple[float, ...], offsets: tuple[float, ...], steps: list[tuple[int, float, str, Facts, int]]
) -> None:
    """Clocks differ by 5 % in rate and by any time; all want the room."""
    server = Server()
    pods = [Pod(f"pod-{number}", rates[number], offsets[number]) for number in range(3)]
    delays, losses = [0.01] * 3, [""] * 3
    now = 0.0
    tokens = [0]
    for who, delay, lost, facts, looks in [(0, 0.01, "", WANTED, 20), *steps, (0, 0.01, "", WANTED, 250)]:
        delays[who], losses[who], pods[who].facts = delay, lost, facts
        for _ in range(looks):
            now += 0.05
            for number, pod in enumerate(pods):
                pod.carry(server, now, delays[number], losses[number])
                pod.step(Look(), now, delays[number])
            writers = [pod for pod in pods if pod.lease.may_write(pod.clock(now))]
            assert len(writers) <= 1
            if writers and writers[0].lease.token != tokens[-1]:
                tokens.append(writers[0].lease.token)
    assert tokens == sorted(set(tokens))


@given(
    dies_at=st.floats(0, 20),
    beat_phase=st.floats(0, BEAT_S),
    look_phase=st.floats(0, 0.25),
    latency=st.floats(0, 0.2),
)
def test_a_dead_pods_room_is_held_elsewhere_within_12_s(
    dies_at: float, beat_phase: float, look_phase: float, latency: float
) -> None:
    """As the lists of pods and the leases go on, with the store at hand."""
    room = next(f"room-{number}" for number in range(100) if owner(f"room-{number}", ["a", "b"]) == "a")
    server, now = Server(), 0.0
    dead, other = Pod("a", 1.0, 0.0), Pod("b", 1.0, 50.0)
    roster, last_beat, next_note = Roster(), 0.0, beat_phase
    while now < dies_at + 12:
        now += 0.05
        alive = now < max(dies_at, 1.0)
        if alive:
            dead.carry(server, now, latency)
            dead.step(Look(), now, latency)
            last_beat = now if now >= last_beat + BEAT_S or now < 0.1 else last_beat
        if now >= next_note:
            next_note += BEAT_S
            roster = note(roster, beats(a=now - last_beat, b=0.0), other.clock(now))
        other.facts = Facts(wanted=owner(room, roster.live) == "b")
        other.carry(server, now, latency)
        if (now - look_phase) % 0.25 < 0.05:
            other.step(Look(), now, latency)
        if not alive and other.lease.may_write(other.clock(now)):
            return
    raise AssertionError("nobody has the room")
