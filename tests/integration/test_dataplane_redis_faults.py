"""Redis that is gone, hangs, holds other people's data, wants credentials, or moves: what pods see of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from auralink_dataplane.adapters.redis_state import Access, RedisState
from auralink_dataplane.rooms.keys import Keys, prefix
from auralink_dataplane.rooms.store import (
    Change,
    ForeignError,
    Gone,
    Granted,
    HeldBy,
    Missed,
    News,
    NoAnswer,
    RefusedError,
    Renewed,
    Stale,
    UnavailableError,
    Written,
)
from auralink_dataplane.settings.bridge import RedisSpec

from tests.integration.redis_servers import (
    MISSING,
    WHY,
    RedisServer,
    certificates,
    redis_cluster,
    redis_server,
    with_sentinels,
)

pytestmark = pytest.mark.skipif(MISSING, reason=WHY)
KEYS = Keys(prefix("tests", "faults"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


@asynccontextmanager
async def opened(access: Access, pod: str = "a", lease_s: float = 10.0) -> AsyncIterator[RedisState]:
    store = RedisState(access, KEYS, pod, lease_s=lease_s)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def connected(server: RedisServer, pod: str = "a", lease_s: float = 10.0) -> AsyncIterator[RedisState]:
    async with opened(access_to(server), pod, lease_s) as store:
        await returned(store, 0)
        yield store


def access_to(server: RedisServer, **fields: Any) -> Access:
    return Access(RedisSpec(addresses=(server.address,), **fields))


async def returned(store: RedisState, seen: int, limit_s: float = 10.0) -> None:
    async with asyncio.timeout(limit_s):
        await store.wait_return(seen)


async def take(store: RedisState, room: str = "room") -> int:
    answer = (await store.acquire([room]))[room]
    assert isinstance(answer, Granted), answer
    return answer.token


async def until(condition: Callable[[], Awaitable[bool]], limit_s: float = 20.0) -> None:
    async with asyncio.timeout(limit_s):
        while not await condition():  # noqa: ASYNC110 - it is servers that change
            await asyncio.sleep(0.05)


async def _unavailable(call: Awaitable[Any]) -> float:
    """How long it took to say so."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    with pytest.raises(UnavailableError):
        await call
    return loop.time() - start


# --- gone and back ------------------------------------------------------------------------------------------


async def test_a_server_that_comes_back_empty_is_told_of_and_tokens_still_grow(server: RedisServer) -> None:
    async with connected(server) as store, connected(server, "b") as other:
        news = store.subscribe()
        await news.follow(["room"])
        token = await take(store)
        await store.write("room", token, {"p": "1"})
        assert await news.get() == Change("room", 1, "a", {"p": "1"})
        up = store.link
        server.kill()
        await _unavailable(store.read("room"))
        assert not store.link.up
        assert store.link.since >= up.since
        assert max([await _unavailable(store.beat()) for _ in range(50)]) < 0.1
        assert await store.wait_return(0) == store.link
        server.start()
        await returned(store, up.returns)
        assert store.link.up
        assert await store.renew({"room": token}) == {"room": Gone()}
        async with asyncio.timeout(10):
            assert isinstance(await news.get(), Missed)
        await returned(other, 1)
        newer = await take(other)
        assert newer > token
        assert await store.write("room", token, {"p": "late"}) == Stale(newer)
        assert await other.write("room", newer, {"p": "2"}) == Written(1, 1)
        assert await news.get() == Change("room", 1, "b", {"p": "2"})
        await news.close()


async def test_a_holder_whose_lease_was_lost_with_the_data_may_go_on_until_another_takes_it(
    server: RedisServer,
) -> None:
    async with connected(server) as store:
        token = await take(store)
        server.cli("flushall")
        assert await store.write("room", token, {"p": "1"}) == Written(1, 1)
        assert await take(store) > token


async def test_a_server_that_hangs_blocks_no_call_for_long_and_never_the_loop(server: RedisServer) -> None:
    async with connected(server) as store:
        loop = asyncio.get_running_loop()
        lags = []

        async def watch() -> None:
            while True:
                start = loop.time()
                await asyncio.sleep(0.02)
                lags.append(loop.time() - start)

        watcher = asyncio.create_task(watch())
        server.freeze()
        waits = await asyncio.gather(*(_unavailable(store.read(f"room-{number}")) for number in range(200)))
        assert max(waits) < 4
        assert await _unavailable(store.beat()) < 0.1
        server.thaw()
        await returned(store, 1)
        await store.beat()
        watcher.cancel()
        assert max(lags) < 0.5


async def test_a_subscription_notices_a_server_that_hangs(server: RedisServer) -> None:
    async with connected(server) as store:
        news = store.subscribe()
        await news.follow(["room"])
        server.freeze()
        await asyncio.sleep(5)
        server.thaw()
        async with asyncio.timeout(15):
            assert isinstance(await news.get(), Missed)
        await returned(store, 0)
        await until(lambda: _is_up(store))
        await store.write("room", await take(store), {"p": "1"})
        async with asyncio.timeout(5):
            assert isinstance(await news.get(), Change)
        await news.close()


async def _is_up(store: RedisState) -> bool:
    return store.link.up


async def test_a_pod_that_starts_before_redis_finds_it_later(server: RedisServer) -> None:
    server.kill()
    async with opened(access_to(server)) as store:
        assert await _unavailable(store.beat()) < 0.1
        news = store.subscribe()
        await news.follow(["room"])
        server.start()
        await returned(store, 0)
        async with asyncio.timeout(10):
            assert isinstance(await news.get(), Missed)
        await news.close()


async def test_data_that_were_lost_unnoticed_count_as_a_return(server: RedisServer) -> None:
    """A server that restarts between two calls."""
    async with connected(server) as store:
        server.kill()
        server.start()
        await returned(store, 1)
        assert store.link.up


# --- bounds -------------------------------------------------------------------------------------------------


async def test_many_calls_at_once_share_fifty_connections(server: RedisServer) -> None:
    async with connected(server) as store:
        news = store.subscribe()
        await news.follow(["room"])
        await asyncio.gather(*(store.read(f"room-{number}") for number in range(2000)))
        clients = int(server.cli("info", "clients").split("connected_clients:")[1].split()[0])
        assert 10 < clients - 1 <= 50
        assert store.connections <= 50
        await news.close()


async def test_each_call_is_one_script_per_room_and_one_round_trip(server: RedisServer) -> None:
    async with connected(server) as store:
        rooms = [f"room-{number}" for number in range(100)]
        tokens = {room: await take(store, room) for room in rooms}
        many = {f"p{number}": "x" * 100 for number in range(300)}
        await store.write("room-0", tokens["room-0"], many)
        await store.read("room-0")
        await store.renew(tokens)
        server.cli("config", "resetstat")
        await store.write("room-0", tokens["room-0"], dict.fromkeys(many, "y"))
        assert len((await store.read("room-0")).documents) == 300
        await store.renew(tokens)
        stats = server.cli("info", "commandstats")
        assert "cmdstat_evalsha:calls=102," in stats
        assert "cmdstat_eval:" not in stats
        # reads of the socket: the pipeline of 100 scripts comes in a few
        assert int(server.cli("info", "stats").split("total_reads_processed:")[1].split()[0]) < 40


async def test_what_is_not_renewed_goes_by_itself(server: RedisServer) -> None:
    async with connected(server) as store:
        await store.beat()
        await store.write("room", await take(store), {"p": "1"})
        keys = server.cli("keys", "*").split("\n")
        assert len(keys) == 5
        assert all(int(server.cli("pttl", key)) > 0 for key in keys)


# --- what is not ours ---------------------------------------------------------------------------------------

OTHER_TYPES = [
    ("set", ["set", "{}", "somebody's"]),
    ("list", ["rpush", "{}", "somebody's"]),
    ("sorted set", ["zadd", "{}", "1", "somebody's"]),
]


@pytest.mark.parametrize(("kind", "command"), OTHER_TYPES)
async def test_keys_of_another_type_are_left_alone(server: RedisServer, kind: str, command: list[str]) -> None:
    async with connected(server) as store:
        for room, key in (
            ("one", KEYS.room_key("one")),
            ("two", KEYS.lease_key("two")),
            ("three", KEYS.fence_key("three")),
        ):
            server.cli(*(word.format(key) if word == "{}" else word for word in command))
            before = server.cli("dump", key), server.cli("pttl", key)
            token = 1
            answer = (await store.acquire([room, "good"]))["good"]
            assert isinstance(answer, Granted)
            if room == "one":
                token = await take(store, room)
                assert await store.renew({room: token}) == {room: Renewed()}
            else:
                assert isinstance((await store.acquire([room]))[room], NoAnswer)
            with pytest.raises(ForeignError):
                await store.write(room, token, {"p": "1"})
            with pytest.raises(ForeignError):
                await store.read(room)
            assert (server.cli("dump", key), server.cli("pttl", key)) == before
        assert store.link.up
        assert store.link.returns == 1


async def test_pods_under_a_key_of_another_type_are_left_alone(server: RedisServer) -> None:
    async with connected(server) as store:
        server.cli("set", KEYS.pods_key(), "somebody's")
        with pytest.raises(ForeignError):
            await store.beat()
        assert server.cli("get", KEYS.pods_key()) == "somebody's"


async def test_a_pod_serves_although_the_name_of_the_data_is_not_ours(server: RedisServer) -> None:
    server.cli("rpush", KEYS.birth_key(), "somebody's")
    async with connected(server) as store:
        await store.beat()
        await asyncio.sleep(2.5)  # a probe
        assert store.link.returns == 1
    assert server.cli("lrange", KEYS.birth_key(), "0", "-1") == "somebody's"


async def test_values_that_are_none_of_ours_are_left_alone(server: RedisServer) -> None:
    async with connected(server) as store:
        server.cli("set", KEYS.lease_key("one"), "somebody's")
        server.cli("hset", KEYS.fence_key("two"), "token", "somebody's")
        answers = await store.acquire(["one", "two"])
        assert [type(answer) for answer in answers.values()] == [NoAnswer, NoAnswer]
        for room in ("one", "two"):
            with pytest.raises(ForeignError):
                await store.write(room, 5, {"p": "1"})
            with pytest.raises(ForeignError):
                await store.read(room)
        assert server.cli("get", KEYS.lease_key("one")) == "somebody's"
        assert server.cli("hget", KEYS.fence_key("two"), "token") == "somebody's"
        await store.release({"one": 5})
        assert server.cli("get", KEYS.lease_key("one")) == "somebody's"


async def test_a_lease_without_an_end_is_not_taken(server: RedisServer) -> None:
    async with connected(server) as store:
        server.cli("set", KEYS.lease_key("room"), "5 somebody")
        assert (await store.acquire(["room"]))["room"] == HeldBy("somebody", 10.0)


@pytest.mark.parametrize("message", ["", "hello", "{}", "[1]", "null", '["x", "a"]', '[1, "a", "p"]', '[1, 2, "p", 3]'])
async def test_messages_that_are_none_of_ours_are_passed_over(server: RedisServer, message: str) -> None:
    async with connected(server) as store:
        news = store.subscribe()
        await news.follow(["room"])
        server.cli("publish", KEYS.channel("room"), message)
        await store.write("room", await take(store), {"p": "1"})
        async with asyncio.timeout(5):
            assert await news.get() == Change("room", 1, "a", {"p": "1"})
        await news.close()


# --- credentials --------------------------------------------------------------------------------------------

WORD = "open-sesame"
RIGHTS = "~auralink:* &auralink:* +@scripting +@read +@write +@pubsub +@connection +@keyspace +time"


async def test_a_user_needs_the_rights_that_are_documented_and_no_more(tmp_path: Path) -> None:
    users = ["user default off", f"user auralink on >{WORD} {RIGHTS}"]
    with redis_server(tmp_path, *users) as server:
        right = replace(access_to(server, user="auralink"), password=WORD)
        async with opened(right) as store:
            await returned(store, 0)
            news = store.subscribe()
            await news.follow(["room"])
            await store.beat()
            token = await take(store)
            await store.write("room", token, {"p": "1"})
            assert (await store.read("room")).documents == {"p": "1"}
            assert await store.renew({"room": token}) == {"room": Renewed()}
            assert isinstance(await news.get(), Change)
            await news.close()
        assert WORD not in repr(right)
        for wrong in (replace(right, password=f"another-{WORD}"), access_to(server)):
            async with opened(wrong) as store:
                await until(lambda store=store: _has_reason(store))  # type: ignore[misc]
                assert WORD not in store.link.reason
                assert not store.link.up


async def _has_reason(store: RedisState) -> bool:
    return store.link.reason != "not connected yet"


async def test_a_user_without_a_right_is_refused_and_the_link_stays(tmp_path: Path) -> None:
    with redis_server(tmp_path, "user default off", f"user auralink on >{WORD} {RIGHTS} -zadd") as server:
        async with opened(replace(access_to(server, user="auralink"), password=WORD)) as store:
            await returned(store, 0)
            with pytest.raises(RefusedError):
                await store.beat()
            assert store.link.up


async def test_tls_connects_with_the_right_authority_only(tmp_path: Path) -> None:
    certificates(tmp_path)
    lines = ["tls-cert-file tls.crt", "tls-key-file tls.key", "tls-ca-cert-file ca.crt", "tls-auth-clients no"]
    with redis_server(tmp_path, *lines, tls=True) as server:
        right = replace(access_to(server, tls=True), ca=(tmp_path / "ca.crt").read_text())
        async with opened(right) as store:
            await returned(store, 0)
            news = store.subscribe()
            await news.follow(["room"])
            await store.write("room", await take(store), {"p": "1"})
            assert isinstance(await news.get(), Change)
            await news.close()
        for wrong in (
            replace(right, ca=(tmp_path / "other.crt").read_text()),
            replace(right, ca=None),
            replace(right, ca=""),
            replace(right, ca="-----BEGIN CERTIFICATE-----\nnone\n"),
            access_to(server),
        ):
            async with opened(wrong) as store:
                await until(lambda store=store: _has_reason(store))  # type: ignore[misc]
                assert not store.link.up
                await _unavailable(store.beat())


# --- more than one server -----------------------------------------------------------------------------------


async def test_the_next_address_is_tried_where_one_does_not_answer(server: RedisServer) -> None:
    async with opened(Access(RedisSpec(addresses=("127.0.0.1:1", server.address)))) as store:
        await returned(store, 0)
        await store.beat()


async def test_a_failover_of_sentinels_is_followed(tmp_path: Path) -> None:
    with with_sentinels(tmp_path, WORD) as (data, sentinels):
        addresses = tuple(one.address for one in sentinels)
        spec = RedisSpec(addresses=addresses, topology="Sentinel", master="rooms")
        async with opened(Access(spec, password=WORD)) as store:
            await returned(store, 0)
            news = store.subscribe()
            await news.follow(["room"])
            token = await take(store)
            await store.write("room", token, {"p": "1"})
            assert isinstance(await news.get(), Change)
            await asyncio.sleep(0.5)  # for the replica
            data[0].kill()
            await until(lambda: _wrote(store, token, {"p": "2"}), 40)
            assert store.link.returns >= 2
            assert data[1].cli("-a", WORD, "--no-auth-warning", "hget", KEYS.room_key("room"), "p") == "2"
            assert await take(store) > token
            found: list[News] = []
            async with asyncio.timeout(20):
                while not (found and isinstance(found[-1], Change) and found[-1].documents == {"p": "3"}):
                    await store.write("room", await take(store), {"p": "0"})
                    await store.write("room", await take(store), {"p": "3"})
                    found.append(await news.get())
            assert any(isinstance(one, Missed) for one in found)
            await news.close()


async def _wrote(store: RedisState, token: int, documents: dict[str, str]) -> bool:
    try:
        return isinstance(await store.write("room", token, documents), Written)
    except UnavailableError:
        return False


async def test_a_cluster_keeps_each_room_on_one_node(tmp_path: Path) -> None:
    with redis_cluster(tmp_path) as servers:
        spec = RedisSpec(addresses=tuple(one.address for one in servers), topology="Cluster")
        async with opened(Access(spec)) as store, opened(Access(spec), "b") as other:
            await returned(store, 0)
            await returned(other, 0)
            rooms = [f"room/{number}" for number in range(60)]
            news = other.subscribe()
            await news.follow(rooms)
            await store.beat()
            assert set(await other.beat()) == {"a", "b"}
            answers = await store.acquire(rooms)
            tokens = {room: one.token for room, one in answers.items() if isinstance(one, Granted)}
            assert set(tokens) == set(rooms)
            assert set((await store.renew(tokens)).values()) == {Renewed()}
            assert all(isinstance(one, HeldBy) for one in (await other.acquire(rooms)).values())
            for room, token in tokens.items():
                assert await store.write(room, token, {"p": room}) == Written(1, 1)
            async with asyncio.timeout(10):
                told = [await news.get() for _ in rooms]
            assert all(Change(room, 1, "a", {"p": room}) in told for room in rooms)  # nodes have no common order
            await store.release(dict(list(tokens.items())[:30]))
            sizes = [int(server.cli("dbsize")) for server in servers]
            assert sum(sizes) == 60 * 3 - 30 + 2
            assert all(size > 20 for size in sizes)
            await news.close()


async def test_a_cluster_that_lost_a_node_fails_fast_and_comes_back(tmp_path: Path) -> None:
    with redis_cluster(tmp_path) as servers:
        spec = RedisSpec(addresses=tuple(one.address for one in servers), topology="Cluster")
        async with opened(Access(spec)) as store:
            await returned(store, 0)
            await store.beat()
            servers[0].kill()

            async def failed() -> bool:
                try:
                    await store.acquire([f"room-{number}" for number in range(50)])
                except UnavailableError:
                    return True
                return False

            await until(failed, 10)
            servers[0].start()

            async def works() -> bool:
                try:
                    answers = await store.acquire([f"room-{number}" for number in range(50)])
                except UnavailableError:
                    return False
                return all(isinstance(one, Granted) for one in answers.values())

            await until(works, 30)
