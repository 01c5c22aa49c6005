"""The AI Core client against the twin: placement, sessions, failures, names that come and go."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import pytest
from auralink_dataplane.media import aic
from auralink_dataplane.media.aic import MAX_ENDPOINTS, AicClient, Credentials, Identity, Session, SessionRequest
from auralink_dataplane.media.breaker import State
from auralink_dataplane.media.frames import Disposition, Frame, Mode, Result
from auralink_dataplane.media.pipeline import Failure, Refusal
from auralink_dataplane.policy import Compression
from auralink_dataplane.settings import AiCoreSpec, BreakerSpec
from auralink_pb.aicore.v1 import aicore_pb2 as pb

from tests.fakes.aicore import FakeAiCore


@dataclass
class Heard:
    """A listener that remembers."""

    opened: list[tuple[int, bool]] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    draining: int = 0
    shed: int = 0

    def session_opened(self, session: int, max_in_flight: int, *, probe: bool) -> None:
        self.opened.append((session, probe))

    def session_refused(self, session: int, why: Refusal) -> None:
        self.refused.append(why)

    def session_result(self, session: int, result: Result) -> None:
        self.results.append(result)

    def session_failed(self, session: int, failure: Failure) -> None:
        self.failures.append(failure)

    def session_draining(self, session: int) -> None:
        self.draining += 1

    def session_shed(self, session: int) -> None:
        self.shed += 1


@dataclass
class Names:
    """A resolver that the test edits."""

    found: dict[str, list[str]] = field(default_factory=dict)
    error: Exception | None = None

    async def __call__(self, host: str, port: int) -> Sequence[tuple[str, int]]:
        if self.error:
            raise self.error
        if host not in self.found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(ip, port) for ip in self.found[host]]


class Bench:
    """A client with everything around it in the test's hands."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.names = Names({"core": ["127.0.0.1"]})
        self.secrets: dict[tuple[str, str], bytes] = {}
        self.kicks = 0
        self.heard = Heard()
        self.client = AicClient(
            Identity("ns/b", "pod-1"),
            clock=lambda: self.now,
            read_secret=lambda name, key: self.secrets.get((name, key)),
            available=self._kick,
            resolve=self.names,
        )
        self._number = 0

    def _kick(self) -> None:
        self.kicks += 1

    async def use(self, *addresses: str, failures: int = 5) -> None:
        spec = AiCoreSpec(addresses=addresses, breaker=BreakerSpec(failures=failures, open_seconds=60))
        self.client.configure(spec)
        await self.client.resolve_once()

    def open(self, name: str = "r/1") -> Session | None:
        self._number += 1
        request = SessionRequest(name, self._number, "r", "H264", 90000, Compression())
        return self.client.open(request, self.heard)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - watches a peer that knows no events
                await asyncio.sleep(0.005)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    one = Bench()
    yield one
    await one.client.close()


@asynccontextmanager
async def core_for(bench: Bench, *, failures: int = 5) -> AsyncIterator[FakeAiCore]:
    async with FakeAiCore() as core:
        await bench.use(f"core:{core.port}", failures=failures)
        yield core


def frame(frame_id: int, *, key: bool = False) -> Frame:
    timestamp = frame_id * 3000 + (1 << 33)
    return Frame(1, frame_id, Mode.COMPRESS, "H264", timestamp, key, 0.0, 0.0, may_reorder=False, data=bytes(100))


async def test_a_session_says_who_it_is_and_answers_in_order(bench: Bench) -> None:
    async with core_for(bench) as core:
        session = bench.open()
        assert session
        for number in range(5):
            session.send(frame(number, key=number == 0), Mode.COMPRESS, 20)
        await bench.until(lambda: len(bench.heard.results) == 5)
        assert bench.heard.opened == [(1, False)]
        assert [one.frame_id for one in bench.heard.results] == [0, 1, 2, 3, 4]
        assert [one.key for one in bench.heard.results] == [True, False, False, False, False]
        assert bench.heard.results[0].disposition is Disposition.COMPRESSED
        opened = core.opened[0]
        assert opened.session_id == "pod-1/r/1/1"
        assert opened.group_id == "r"
        assert opened.policy.target_savings == pytest.approx(0.4)
        assert core.metadata["auralink-protocol"] == "1.0"
        assert core.metadata["auralink-bridge-id"] == "ns/b"
        assert core.frames[0].rtp_timestamp == 0  # 32 bits of the 64


async def test_a_policy_change_and_a_forced_key_reach_the_live_session(bench: Bench) -> None:
    async with core_for(bench) as core:
        session = bench.open()
        assert session
        session.update_policy(Compression(target_savings_percent=20, mode="Always"))
        session.force_key()
        await bench.until(lambda: len(core.controls) == 2)
        assert core.controls[0].policy.target_savings == pytest.approx(0.2)
        assert core.controls[0].policy.always


async def test_a_closed_session_is_told_to_end_and_heard_no_more(bench: Bench) -> None:
    async with core_for(bench) as core:
        session = bench.open()
        assert session
        await bench.until(lambda: bench.heard.opened)
        session.send(frame(0, key=True), Mode.COMPRESS, 20)
        session.close(None)
        await bench.until(lambda: core.ended)
        assert not bench.heard.results
        assert not bench.heard.failures


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (pb.SessionOpened.STATUS_FULL, Refusal.FULL),
        (pb.SessionOpened.STATUS_UNSUPPORTED, Refusal.UNSUPPORTED),
    ],
)
async def test_a_refusal_is_no_failure(bench: Bench, status: pb.SessionOpened.Status.ValueType, why: Refusal) -> None:
    async with core_for(bench) as core:
        core.status = status
        session = bench.open()
        assert session
        await bench.until(lambda: bench.heard.refused)
        assert bench.heard.refused == [why]
        session.close(None)
        assert (bench.open() is None) == (why is Refusal.FULL)  # a full endpoint rests
        bench.now += aic.FULL_REST_S
        assert bench.open() is not None


async def test_a_crash_fails_the_session_and_names_the_problem(bench: Bench) -> None:
    async with core_for(bench) as core:
        session = bench.open()
        assert session
        await bench.until(lambda: bench.heard.opened)
        await core.stop()
        await bench.until(lambda: bench.heard.failures)
        assert bench.heard.failures == [Failure.UNREACHABLE]
        assert "does not answer" in (bench.client.problem() or "")
        assert not bench.client.usable


async def test_notices_are_passed_on(bench: Bench) -> None:
    async with core_for(bench) as core:
        bench.open()
        await bench.until(lambda: bench.heard.opened)
        await core.notice(pb.Notice.KIND_SHED)
        await core.notice(pb.Notice.KIND_LOST)
        await core.notice(pb.Notice.KIND_DRAINING)
        await bench.until(lambda: bench.heard.draining)
        assert bench.heard.shed == 1
        assert bench.heard.failures == [Failure.LOST]
        assert bench.open() is None  # nothing new for one that drains


async def test_five_failures_rest_the_endpoint_and_one_probe_brings_it_back(bench: Bench) -> None:
    async with core_for(bench):
        for _ in range(5):
            session = bench.open()
            assert session
            session.close(Failure.TIMEOUT)
        assert bench.open() is None
        assert bench.client.circuit_breaker_open
        bench.now += 60
        probe = bench.open()
        assert probe
        assert bench.open() is None  # one at a time
        await bench.until(lambda: bench.heard.opened)
        assert bench.heard.opened[-1][1]
        kicks = bench.kicks
        probe.proven()
        assert bench.kicks == kicks + 1
        assert not bench.client.circuit_breaker_open


async def test_failures_of_the_input_do_not_count(bench: Bench) -> None:
    async with core_for(bench, failures=1):
        for failure in (Failure.INPUT, Failure.PACKETS):
            session = bench.open()
            assert session
            session.close(failure)
        assert bench.client.endpoints()[0]["breaker"] == State.CLOSED.value


async def test_streams_spread_over_endpoints_and_come_back_to_theirs(bench: Bench) -> None:
    bench.names.found["core"] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    await bench.use("core:1")

    def placed(name: str) -> str:
        session = bench.open(name)
        assert session
        return session.endpoint_address

    first = {name: placed(name) for name in (f"r/{number}" for number in range(60))}
    assert len(set(first.values())) == 3
    assert {name: placed(name) for name in first} == first
    bench.names.found["core"].remove("127.0.0.2")
    await bench.client.resolve_once()
    moved = {name: placed(name) for name in first}
    assert all(moved[name] == address for name, address in first.items() if address != "127.0.0.2:1")


async def test_a_name_that_does_not_resolve_is_a_problem_with_a_remedy(bench: Bench) -> None:
    await bench.use("nowhere:50051")
    assert bench.open() is None
    problem = bench.client.problem() or ""
    assert "nowhere:50051 does not resolve" in problem
    assert "aiCore.addresses" in problem


@pytest.mark.parametrize("host", ["peer..svc", "a" * 64])
async def test_a_name_that_can_be_none_does_not_resolve_either(bench: Bench, host: str) -> None:
    with pytest.raises(socket.gaierror, match="no host name"):
        await aic.resolve_all(host, 1)


async def test_no_address_is_a_problem_with_a_remedy(bench: Bench) -> None:
    await bench.use()
    assert "set aiCore.addresses" in (bench.client.problem() or "")


async def test_known_addresses_stand_while_the_name_server_is_away(bench: Bench) -> None:
    await bench.use("core:1")
    bench.names.error = socket.gaierror(socket.EAI_AGAIN, "try again")
    await bench.client.resolve_once()
    assert bench.open() is not None
    bench.names.error = socket.gaierror(socket.EAI_NONAME, "gone")
    await bench.client.resolve_once()
    assert bench.open() is None


async def test_a_fault_of_ours_in_one_round_does_not_end_the_rounds(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.names.error = RuntimeError("a bug")
    bench.client.configure(AiCoreSpec(addresses=("core:1",)))
    bench.client.start()
    await bench.until(lambda: "a bug" in caplog.text)
    bench.names.error = None
    bench.client.configure(AiCoreSpec(addresses=("core:1",)))
    await bench.until(bench.client.endpoints)


async def test_an_endpoint_that_appears_is_announced(bench: Bench) -> None:
    await bench.use("core:1")
    kicks = bench.kicks
    bench.names.found["core"].append("127.0.0.2")
    await bench.client.resolve_once()
    assert bench.kicks == kicks + 1


async def test_a_poll_tells_load_and_the_return_of_an_endpoint(bench: Bench) -> None:
    async with core_for(bench) as core:
        core.load = 0.95
        await bench.client.poll_once()
        assert bench.open() is None
        core.load = 0.2
        kicks = bench.kicks
        await bench.client.poll_once()
        assert bench.kicks == kicks + 1
        await core.stop()
        await bench.client.poll_once()
        assert bench.client.problem()
        await core.start(core.port)
        await bench.until(lambda: True)
        for _ in range(20):
            await bench.client.poll_once()
            if not bench.client.problem():
                break
            await asyncio.sleep(0.1)
        assert bench.client.usable


async def test_a_missing_certificate_is_named_and_nothing_goes_out_unencrypted(bench: Bench) -> None:
    bench.client.configure(AiCoreSpec(addresses=("core:1",), tls_secret_name="core-tls"))  # noqa: S106 - a name
    await bench.client.resolve_once()
    assert bench.client.missing_secret == "core-tls/ca.crt"  # noqa: S105 - a name
    assert bench.open() is None
    assert not bench.client.usable


async def test_certificates_that_rotate_are_taken_without_a_restart(bench: Bench) -> None:
    """The next look finds them; sessions that live go on over what they were opened with."""
    names = ("ca.crt", "tls.crt", "tls.key")
    bench.secrets = {("core-tls", name): b"old" for name in names}
    bench.client.configure(AiCoreSpec(addresses=("core:1",), tls_secret_name="core-tls"))  # noqa: S106 - a name
    await bench.client.resolve_once()
    (old,) = bench.client._endpoints.values()
    session = bench.open()
    assert session
    bench.secrets = {("core-tls", name): b"new" for name in names}
    await bench.client.resolve_once()
    (new,) = bench.client._endpoints.values()
    assert old.credentials == Credentials(b"old", b"old", b"old")
    assert new.credentials == Credentials(b"new", b"new", b"new")
    assert old.gone
    assert old.sessions == 1
    assert bench.client.missing_secret is None
    session.close(None)


async def test_a_session_that_fails_in_the_turn_it_was_opened_in_leaves_nothing(bench: Bench) -> None:
    async with core_for(bench) as core:
        for _ in range(3):
            session = bench.open()
            assert session
            session.close(Failure.PACKETS)
        endpoint = next(iter(bench.client._endpoints.values()))
        await bench.until(lambda: endpoint.sessions == 0)
        assert core.opened == []
        await bench.use()
        await bench.until(lambda: endpoint.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN)


async def test_of_too_many_addresses_each_pod_takes_its_own(bench: Bench) -> None:
    bench.names.found["core"] = [f"10.0.{number // 256}.{number % 256}" for number in range(300)]
    await bench.use("core:1")
    mine = {key[0] for key in bench.client._endpoints}
    assert len(mine) == MAX_ENDPOINTS
    await bench.client.resolve_once()
    assert {key[0] for key in bench.client._endpoints} == mine, "the choice stays"
