"""One works at a time, another soon after it ends, and nobody trusts another's clock. All in virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from auralink_operator.lease import LEASE_S, RENEW_DEADLINE_S, Election, Elector, LeaseLostError

from tests.fakes.lease_server import LeaseLine, LeaseServer
from tests.fakes.virtual_time import in_virtual_time

WALL = datetime(2026, 1, 1, tzinfo=UTC)


class Replica:
    """A candidate with a line to the server; `since` says when it began to lead."""

    def __init__(self, server: LeaseServer, name: str, clock_s: float = 0.0) -> None:
        loop = asyncio.get_running_loop()
        self.line = LeaseLine(server)
        self.since: float | None = None
        self.elector = Elector(
            self.line,
            "ns",
            "auralink-operator",
            name,
            lambda: loop.time() + clock_s,
            lambda: WALL + timedelta(seconds=loop.time() + clock_s),
            lambda: 0.5,
        )
        self.task = asyncio.create_task(self.elector.run(self._gained), name=name)

    def _gained(self) -> None:
        self.since = asyncio.get_running_loop().time()

    async def leads(self) -> float:
        while self.since is None:  # noqa: ASYNC110 - virtual time costs nothing
            await asyncio.sleep(0.01)
        return self.since

    def kill(self) -> None:
        self.task.cancel()


@asynccontextmanager
async def replicas(server: LeaseServer, *names: str, clock_s: float = 0.0) -> AsyncIterator[list[Replica]]:
    """The first leads, the others wait."""
    found = [Replica(server, names[0])]
    try:
        await found[0].leads()
        found += [Replica(server, name, clock_s) for name in names[1:]]
        await asyncio.sleep(1)
        yield found
    finally:
        for replica in found:
            replica.kill()
        await asyncio.gather(*(replica.task for replica in found), return_exceptions=True)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_the_first_leads_and_the_others_wait() -> None:
    async def story() -> None:
        server = LeaseServer()
        async with replicas(server, "a", "b", "c") as (a, b, c):
            await asyncio.sleep(600)
            assert server.holder == "a"
            assert [r.elector.held() for r in (a, b, c)] == [True, False, False]
            assert server.lease is not None
            assert server.lease["spec"]["leaseTransitions"] == 0

    in_virtual_time(story())


@pytest.mark.parametrize("after_s", [0.001, 2.5, 4.999])
def test_after_a_kill_the_next_leads_within_fifteen_seconds(after_s: float) -> None:
    async def story() -> None:
        server = LeaseServer()
        async with replicas(server, "a", "b") as (a, b):
            await asyncio.sleep(19 + after_s)
            a.kill()
            killed_at = now()
            assert await b.leads() - killed_at < 15
            assert server.lease is not None
            assert server.lease["spec"]["leaseTransitions"] == 1
            assert not a.elector.held() or a.elector.election.left_s(now()) < 0

    in_virtual_time(story())


def test_a_lease_that_is_given_up_is_taken_within_half_a_second() -> None:
    async def story() -> None:
        server = LeaseServer()
        async with replicas(server, "a", "b", "c") as (a, b, c):
            await asyncio.sleep(33)
            a.kill()
            await a.elector.release()
            released_at = now()
            await asyncio.sleep(0.5)
            (one,) = [r for r in (b, c) if r.since is not None]
            assert one.since is not None
            assert one.since - released_at < 0.5
            assert not a.elector.held()
            await asyncio.sleep(60)
            assert [r.since is not None for r in (b, c)].count(True) == 1

    in_virtual_time(story())


def test_a_leader_without_a_line_stops_before_the_next_begins() -> None:
    async def story() -> None:
        server = LeaseServer()
        async with replicas(server, "a", "b") as (a, b):
            await asyncio.sleep(12)
            a.line.broken = True
            with pytest.raises(LeaseLostError):
                await a.task
            stopped_at = now()
            assert not a.elector.held()
            assert await b.leads() - stopped_at > 2

    in_virtual_time(story())


def test_a_short_break_of_the_line_costs_nothing() -> None:
    async def story() -> None:
        server = LeaseServer()
        async with replicas(server, "a", "b") as (a, b):
            for _ in range(20):
                for a.line.broken, seconds in ((True, 2.7), (False, 13.0)):
                    await asyncio.sleep(seconds)
                    assert a.elector.held()
            assert b.since is None

    in_virtual_time(story())


def test_a_renewal_whose_answer_got_lost_is_no_loss() -> None:
    async def story() -> None:
        server = LeaseServer()
        async with replicas(server, "a", "b") as (a, _):
            a.line.answers_lost = True
            await asyncio.sleep(6)
            a.line.answers_lost = False
            await asyncio.sleep(60)
            assert a.elector.held()

    in_virtual_time(story())


@pytest.mark.parametrize("clock_s", [-86400.0, 86400.0])
def test_a_clock_that_is_a_day_off_changes_nothing(clock_s: float) -> None:
    async def story() -> None:
        server = LeaseServer()
        async with replicas(server, "a", "b", clock_s=clock_s) as (a, b):
            await asyncio.sleep(300)
            assert a.elector.held()
            assert b.since is None
            a.kill()
            killed_at = now()
            assert await b.leads() - killed_at < 15

    in_virtual_time(story())


def test_a_watch_that_hangs_does_not_make_a_second_leader() -> None:
    async def story() -> None:
        server = LeaseServer()
        async with replicas(server, "a", "b") as (a, b):
            server.deaf = True
            await asyncio.sleep(300)
            assert a.elector.held()
            assert b.since is None

    in_virtual_time(story())


def test_a_cut_watch_is_taken_up_again() -> None:
    async def story() -> None:
        server = LeaseServer()
        async with replicas(server, "a", "b") as (a, b):
            server.cut_watches()
            await asyncio.sleep(5)
            a.kill()
            await a.elector.release()
            released_at = now()
            assert await b.leads() - released_at < 0.5

    in_virtual_time(story())


def test_who_finds_another_in_the_lease_ends_at_once() -> None:
    async def story() -> None:
        server = LeaseServer()
        async with replicas(server, "a") as (a,):
            assert server.lease is not None
            server.write({**server.lease, "spec": {**server.lease["spec"], "holderIdentity": "thief"}})
            began = now()
            with pytest.raises(LeaseLostError, match="thief"):
                await a.task
            assert now() - began < RENEW_DEADLINE_S

    in_virtual_time(story())


def test_a_lease_that_somebody_deleted_comes_back() -> None:
    async def story() -> None:
        server = LeaseServer()
        async with replicas(server, "a") as (a,):
            server.write(None)
            await asyncio.sleep(30)
            assert a.elector.held()
            assert server.holder == "a"

    in_virtual_time(story())


def test_what_others_wrote_into_the_lease_stays() -> None:
    async def story() -> None:
        server = LeaseServer()
        async with replicas(server, "a") as (a,):
            assert server.lease is not None
            meta = {**server.lease["metadata"], "labels": {"team": "video"}}
            server.write({**server.lease, "metadata": meta})
            await asyncio.sleep(30)
            assert a.elector.held()
            assert server.lease["metadata"]["labels"] == {"team": "video"}

    in_virtual_time(story())


def test_a_standby_costs_no_requests_and_a_leader_one_in_five_seconds() -> None:
    async def story() -> None:
        server = LeaseServer()
        async with replicas(server, "a", "b"):
            server.requests.clear()
            await asyncio.sleep(900)
            assert server.requests.count("PUT") <= 180
            assert len(server.requests) - server.requests.count("PUT") <= 3 * 3  # three watches of 300 s, a look each

    in_virtual_time(story())


def test_a_process_that_was_frozen_knows_that_it_leads_no_more() -> None:
    """It is asked before every write: its clock went on while it did not."""
    election = Election("a")
    election.renewed({"spec": election.claim(WALL)}, sent_at=100.0, now=100.1)
    assert election.held(108.9)
    assert not election.held(109.1)


@pytest.mark.parametrize("now", [100.1, 104.0, 108.9])
def test_a_write_is_over_before_another_can_lead(now: float) -> None:
    election, other = Election("a"), Election("b")
    lease = {"spec": election.claim(WALL)}
    election.renewed(lease, sent_at=100.0, now=100.1)
    other.observe(lease, 100.1)
    assert 0 < election.writing_s(now) < other.vacant_in_s(now)


def test_who_does_not_lead_writes_nothing() -> None:
    election = Election("a")
    assert election.writing_s(100.0) == 0.0
    election.renewed({"spec": election.claim(WALL)}, sent_at=100.0, now=100.1)
    assert election.writing_s(100.0 + RENEW_DEADLINE_S) == 0.0


def test_a_renewal_counts_from_when_it_was_sent() -> None:
    election = Election("a")
    election.renewed({"spec": election.claim(WALL)}, sent_at=100.0, now=103.0)
    assert election.left_s(103.0) == pytest.approx(RENEW_DEADLINE_S - 3.0)


def test_a_leader_stops_well_before_its_lease_can_be_taken() -> None:
    assert LEASE_S - RENEW_DEADLINE_S >= 3.0
    assert LEASE_S < 14


def test_a_foreign_lease_is_judged_by_its_own_duration() -> None:
    election = Election("b")
    foreign = {"spec": {"holderIdentity": "a", "leaseDurationSeconds": 60, "renewTime": "t1"}}
    election.observe(foreign, 0.0)
    assert election.vacant_in_s(59.0) == 1.0
    election.observe(foreign, 59.0)
    assert election.vacant_in_s(59.0) == 1.0
    election.observe({"spec": {**foreign["spec"], "renewTime": "t2"}}, 59.0)
    assert election.vacant_in_s(60.0) == 59.0


def test_only_the_holder_gives_a_lease_up() -> None:
    async def story() -> None:
        server = LeaseServer()
        async with replicas(server, "a", "b") as (_, b):
            await b.elector.release()
            assert server.holder == "a"

    in_virtual_time(story())


def test_a_server_without_rights_is_complained_about_once(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        from auralink_operator.cluster import Answer

        replica = Replica(LeaseServer(), "a")

        async def refuse(*_: object, **__: object) -> Answer:
            return Answer(403, b'{"message": "leases is forbidden"}')

        replica.line.send = refuse  # type: ignore[method-assign]
        await asyncio.sleep(60)
        replica.kill()
        with contextlib.suppress(asyncio.CancelledError):
            await replica.task

    in_virtual_time(story())
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
