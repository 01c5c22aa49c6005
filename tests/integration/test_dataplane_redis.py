"""State that pods share: the same tests over memory and over a real Redis."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from auralink_dataplane.adapters.memory_state import MemoryRooms, MemoryState
from auralink_dataplane.adapters.redis_state import Access, RedisState
from auralink_dataplane.rooms.keys import Keys, prefix
from auralink_dataplane.rooms.store import (
    MAX_DOCUMENT_BYTES,
    MAX_DOCUMENTS,
    MAX_QUEUED,
    MAX_ROOM_BYTES,
    MAX_ROOMS_AT_ONCE,
    Change,
    Freed,
    Gone,
    Granted,
    HeldBy,
    Missed,
    Renewed,
    RoomState,
    Stale,
    StateStore,
    Subscription,
    TooLargeError,
    Written,
)
from auralink_dataplane.settings.bridge import RedisSpec

from tests.integration.redis_servers import MISSING, WHY, RedisServer, redis_server

SOON_S = 5.0
PREFIXES = (prefix("tests", f"bridge-{number}") for number in count())


@dataclass
class Bench:
    """Pods of one bridge over one store."""

    make: Callable[[str, float], StateStore]
    opened: list[StateStore] = field(default_factory=list)

    async def open(self, pod: str, lease_s: float = 10.0) -> StateStore:
        store = self.make(pod, lease_s)
        self.opened.append(store)
        async with asyncio.timeout(SOON_S):
            await store.wait_return(0)
        return store


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    if MISSING:
        pytest.skip(WHY)
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(params=["memory", "redis"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "memory":
        shared = MemoryRooms(asyncio.get_running_loop().time)
        made = Bench(lambda pod, lease_s: MemoryState(shared, pod, lease_s=lease_s))
    else:
        access = Access(RedisSpec(addresses=(request.getfixturevalue("server").address,)))
        keys = Keys(next(PREFIXES))
        made = Bench(lambda pod, lease_s: RedisState(access, keys, pod, lease_s=lease_s))
    yield made
    for store in made.opened:
        await store.close()


async def next_of(subscription: Subscription) -> Any:
    async with asyncio.timeout(SOON_S):
        return await subscription.get()


async def take(store: StateStore, room: str) -> int:
    """Its token."""
    answer = (await store.acquire([room]))[room]
    assert isinstance(answer, Granted)
    return answer.token


ANY_NAME = ["plain", "a/b", "{braces}", "}{", "ümläut 会議室", "", "room/", "*?[]", "new\nline", "\udc80"]


class TestStateStore:
    async def test_pods_see_each_other_and_who_leaves(self, bench: Bench) -> None:
        first, second = await bench.open("a"), await bench.open("b")
        assert set(await first.beat()) == {"a"}
        await second.beat(leaving=True)
        found = await first.beat()
        assert {pod: beat.leaving for pod, beat in found.items()} == {"a": False, "b": True}
        assert all(0 <= beat.age_s < SOON_S for beat in found.values())
        await asyncio.sleep(0.3)
        assert (await first.beat())["b"].age_s >= 0.3
        await second.beat()
        assert not (await first.beat())["b"].leaving

    async def test_of_many_pods_that_ask_at_once_each_room_gets_one(self, bench: Bench) -> None:
        pods = [await bench.open(f"pod-{number}") for number in range(8)]
        rooms = [f"room-{number}" for number in range(40)]
        answers = await asyncio.gather(*(pod.acquire(rooms) for pod in pods))
        for room in rooms:
            found = [answer[room] for answer in answers]
            holders = [f"pod-{number}" for number, one in enumerate(found) if isinstance(one, Granted)]
            assert len(holders) == 1
            others = [one for one in found if isinstance(one, HeldBy)]
            assert {one.pod for one in others} == set(holders)
            assert len(others) == 7
            assert all(0 < one.remaining_s <= 10 for one in others)

    async def test_a_lease_ends_unless_renewed(self, bench: Bench) -> None:
        first, second = await bench.open("a", lease_s=0.6), await bench.open("b", lease_s=0.6)
        token = await take(first, "room")
        for _ in range(4):
            await asyncio.sleep(0.3)
            assert await first.renew({"room": token}) == {"room": Renewed()}
        assert isinstance((await second.acquire(["room"]))["room"], HeldBy)
        await asyncio.sleep(0.7)
        assert await first.renew({"room": token}) == {"room": Gone()}
        assert await take(second, "room") > token
        assert isinstance((await first.renew({"room": token}))["room"], HeldBy)

    async def test_tokens_grow_with_every_acquisition(self, bench: Bench) -> None:
        first, second = await bench.open("a"), await bench.open("b")
        tokens = []
        for _ in range(3):
            tokens += [await take(first, "room"), await take(first, "room")]
            await first.release({"room": tokens[-1]})
            tokens.append(await take(second, "room"))
            await second.release({"room": tokens[-1]})
        assert tokens == sorted(set(tokens))

    async def test_only_the_holder_lets_go_and_followers_hear_of_it(self, bench: Bench) -> None:
        first, second = await bench.open("a"), await bench.open("b")
        news = second.subscribe()
        await news.follow(["room"])
        old = await take(first, "room")
        token = await take(first, "room")
        await first.release({"room": old})
        await second.release({"room": token})
        assert isinstance((await second.acquire(["room"]))["room"], HeldBy)
        await first.release({"room": token})
        assert await next_of(news) == Freed("room")
        await take(second, "room")
        await news.close()

    async def test_a_stale_token_writes_nothing(self, bench: Bench) -> None:
        """A pod that was stopped for longer than its lease, and goes on."""
        first, second = await bench.open("a", lease_s=0.3), await bench.open("b")
        stale = await take(first, "room")
        assert await first.write("room", stale, {"p": "from a"}) == Written(1, 1)
        await asyncio.sleep(0.4)
        assert await first.write("room", stale, {"p": "still the newest"}) == Written(2, 1)
        token = await take(second, "room")
        assert await first.write("room", stale, {"p": "late", "q": "late"}) == Stale(token)
        assert await second.write("room", token, {"p": "from b"}) == Written(3, 1)
        await second.release({"room": token})
        assert await first.write("room", stale, {"p": "late"}) == Stale(token)
        assert await first.read("room") == RoomState({"p": "from b"}, 3, token, None)

    async def test_what_one_pod_writes_another_reads(self, bench: Bench) -> None:
        first, second = await bench.open("a"), await bench.open("b")
        token = await take(first, "room")
        await first.write("room", token, {"p": '{"name": "Zoë 😀"}', "q": "", "": "\0 \r\n"})
        assert await second.read("room") == RoomState(
            {"p": '{"name": "Zoë 😀"}', "q": "", "": "\0 \r\n"}, revision=1, token=token, holder="a"
        )
        await first.write("room", token, {"p": None, "never there": None})
        assert (await second.read("room")).documents == {"q": "", "": "\0 \r\n"}
        assert await second.read("another") == RoomState({})

    async def test_a_change_is_told_once_and_what_did_not_change_is_not(self, bench: Bench) -> None:
        first, second = await bench.open("a"), await bench.open("b")
        news = second.subscribe()
        await news.follow(["room"])
        token = await take(first, "room")
        await first.write("room", token, {"p": "1", "q": "1"})
        assert await first.write("room", token, {"p": "1", "q": "1"}) == Written(1, 0)
        await first.write("room", token, {"p": "1", "q": None, "r": '/\\"ü'})
        assert await next_of(news) == Change("room", 1, "a", {"p": "1", "q": "1"})
        assert await next_of(news) == Change("room", 2, "a", {"q": None, "r": '/\\"ü'})
        await news.close()

    async def test_only_what_is_followed_is_told(self, bench: Bench) -> None:
        store = await bench.open("a")
        news = store.subscribe()
        tokens = {room: await take(store, room) for room in ("one", "two", "three")}
        await news.follow(["one", "two"])
        await news.follow(["two", "three"])
        for room, token in tokens.items():
            await store.write(room, token, {"p": "1"})
        assert {(await next_of(news)).room, (await next_of(news)).room} == {"two", "three"}
        await news.follow([])
        await store.write("two", tokens["two"], {"p": "2"})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await news.get()
        await news.close()

    async def test_news_that_nobody_takes_become_one_word(self, bench: Bench) -> None:
        store = await bench.open("a")
        news = store.subscribe()
        await news.follow(["room"])
        token = await take(store, "room")
        for number in range(MAX_QUEUED + 5):
            await store.write("room", token, {"p": str(number)})
        await asyncio.sleep(0.3)
        assert isinstance(await next_of(news), Missed)
        rest = [(await next_of(news)).revision for _ in range(4)]
        assert rest == list(range(MAX_QUEUED + 2, MAX_QUEUED + 6))
        await news.close()

    @pytest.mark.parametrize("name", ANY_NAME)
    async def test_any_name_will_do(self, bench: Bench, name: str) -> None:
        store = await bench.open("a")
        news = store.subscribe()
        await news.follow([name])
        token = await take(store, name)
        await store.write(name, token, {name: name})
        assert (await store.read(name)).documents == {name: name}
        assert await store.renew({name: token}) == {name: Renewed()}
        assert await next_of(news) == Change(name, 1, "a", {name: name})
        await store.release({name: token})
        assert await next_of(news) == Freed(name)
        await news.close()

    async def test_what_is_too_large_is_refused_whole(self, bench: Bench) -> None:
        store = await bench.open("a")
        token = await take(store, "room")
        with pytest.raises(TooLargeError):
            await store.write("room", token, {"p": "x" * MAX_DOCUMENT_BYTES})
        most = {f"p{number}": "1" for number in range(MAX_DOCUMENTS)}
        assert await store.write("room", token, most) == Written(1, MAX_DOCUMENTS)
        with pytest.raises(TooLargeError):
            await store.write("room", token, {"one more": "1", "p0": "2"})
        assert await store.write("room", token, {"instead": "1", "p0": None}) == Written(2, 2)
        assert len((await store.read("room")).documents) == MAX_DOCUMENTS
        with pytest.raises(ValueError, match="at most"):
            await store.acquire([f"room-{number}" for number in range(MAX_ROOMS_AT_ONCE + 1)])

    async def test_a_room_cannot_grow_beyond_what_can_be_read(self, bench: Bench) -> None:
        store = await bench.open("a")
        token = await take(store, "room")
        large = "x" * (MAX_DOCUMENT_BYTES - 10)
        for number in range(MAX_ROOM_BYTES // MAX_DOCUMENT_BYTES):
            await store.write("room", token, {f"p{number}": large})
        await store.write("room", token, {"p0": "y" + large[1:]})
        with pytest.raises(TooLargeError):
            await store.write("room", token, {"one more": large})
        await store.write("room", token, {"p0": None, "another": large})
        assert len((await store.read("room")).documents) == MAX_ROOM_BYTES // MAX_DOCUMENT_BYTES

    async def test_nothing_is_asked_of_nothing(self, bench: Bench) -> None:
        store = await bench.open("a")
        assert await store.acquire([]) == await store.renew({}) == {}
        await store.release({})


# --- pods as processes --------------------------------------------------------------------------------------

ROOMS = [f"conference-{number}" for number in range(12)]


@dataclass(frozen=True)
class Served:
    pod: str
    token: int
    at: float


@dataclass
class Pods:
    """Processes that share ROOMS."""

    port: int
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    served: dict[str, Served] = field(default_factory=dict)
    suspended: set[str] = field(default_factory=set)
    left: list[str] = field(default_factory=list)
    readers: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self, *names: str) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        for name in names:
            command = ["-m", "tests.integration.room_pod", str(self.port), name, *ROOMS]
            self.processes[name] = await asyncio.create_subprocess_exec(
                sys.executable, *command, stdout=asyncio.subprocess.PIPE, env=environment
            )
            self.readers.append(asyncio.create_task(self._read(name)))

    async def _read(self, name: str) -> None:
        lines = self.processes[name].stdout
        assert lines is not None
        async for line in lines:
            word, room, *rest = line.decode().split()
            if word == "serve":
                self.served[room] = Served(name, int(rest[0]), time.monotonic())
                self.suspended.discard(room)
            elif word == "suspend":
                self.suspended.add(room)
            else:
                self.left.append(f"{name}: {room}")

    async def stop(self) -> None:
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        await asyncio.gather(*self.readers)


@pytest.fixture
async def pods(tmp_path: Path) -> AsyncIterator[tuple[RedisServer, Pods]]:
    """a, b and c, which hold all rooms by now."""
    if MISSING:
        pytest.skip(WHY)
    with redis_server(tmp_path) as running:
        made = Pods(running.port)
        try:
            await made.start("a", "b", "c")
            await until(lambda: len(made.served) == len(ROOMS), 30)
            await asyncio.sleep(4)  # leases have been renewed
            yield running, made
        finally:
            await made.stop()


async def test_the_rooms_of_a_killed_process_are_held_elsewhere_within_12_s(pods: tuple[RedisServer, Pods]) -> None:
    """kill -9: its rooms move, each with a greater token, and no other does."""
    _, made = pods
    before = dict(made.served)
    dead = before[ROOMS[0]].pod
    made.processes[dead].kill()
    died = time.monotonic()
    await until(lambda: all(one.pod != dead for one in made.served.values()), 15)
    assert max(one.at for one in made.served.values()) - died <= 12
    for room, one in before.items():
        assert made.served[room].token > one.token if one.pod == dead else made.served[room] == one
    assert not made.left
    assert not made.suspended


async def test_rooms_stay_where_they_are_when_redis_was_away_and_lost_all(pods: tuple[RedisServer, Pods]) -> None:
    """Nobody writes while the leases are in doubt; then each pod takes its own again, with a greater token."""
    running, made = pods
    before = dict(made.served)
    running.kill()
    await until(lambda: made.suspended == set(ROOMS), 12)
    await asyncio.sleep(3)
    running.start()
    await until(lambda: not made.suspended, 12)
    for room, one in before.items():
        assert made.served[room].pod == one.pod
        assert made.served[room].token > one.token
    assert not made.left


async def until(condition: Callable[[], bool], limit_s: float) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - it is other processes that change
            await asyncio.sleep(0.02)
