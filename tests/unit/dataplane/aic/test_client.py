"""The endpoints that the client keeps, against the twin: placement, problems, names that come and go."""

import socket

import pytest
from auralink_dataplane.media.aic.client import MAX_ENDPOINTS
from auralink_dataplane.media.aic.wire import Credentials
from auralink_dataplane.settings import AiCoreSpec

from tests.unit.dataplane.aic.bench import Bench


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
    [((_, credentials), old)] = bench.client._endpoints.items()
    assert credentials == Credentials(b"old", b"old", b"old")
    session = bench.open()
    assert session
    bench.secrets = {("core-tls", name): b"new" for name in names}
    await bench.client.resolve_once()
    [(_, credentials)] = bench.client._endpoints
    assert credentials == Credentials(b"new", b"new", b"new")
    assert old.gone
    assert old.sessions == 1
    assert bench.client.missing_secret is None
    session.close(None)


async def test_of_too_many_addresses_each_pod_takes_its_own(bench: Bench) -> None:
    bench.names.found["core"] = [f"10.0.{number // 256}.{number % 256}" for number in range(300)]
    await bench.use("core:1")
    mine = {key[0] for key in bench.client._endpoints}
    assert len(mine) == MAX_ENDPOINTS
    await bench.client.resolve_once()
    assert {key[0] for key in bench.client._endpoints} == mine, "the choice stays"
