"""Pods that share rooms, in virtual time over one memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress

from auralink_dataplane.adapters.memory_state import MemoryRooms, MemoryState
from auralink_dataplane.roomsync.leasing import Leasing

from tests.fakes.virtual_time import in_virtual_time

ROOMS = frozenset(f"room-{number}" for number in range(60))


class Pod:
    """`Host` that keeps what it was told, and looks whether it is alone."""

    def __init__(self, bridge: "Bridge", name: str) -> None:
        self.name = name
        self.serving: dict[str, int] = {}
        self.leaves_after_s = 0.0
        self._bridge = bridge
        self.leasing = Leasing(MemoryState(bridge.shared, name), self, name, bridge.shared.clock)
        self.leasing.rooms = ROOMS
        self.task = asyncio.create_task(self.leasing.run())

    def serve(self, room: str, token: int) -> None:
        others = [pod.name for pod in self._bridge.pods if pod is not self and room in pod.leasing.held]
        assert not others
        self.serving[room] = token

    def suspend(self, room: str) -> None:
        self.serving.pop(room)

    async def leave(self, room: str) -> None:
        await asyncio.sleep(self.leaves_after_s)
        self.serving.pop(room, None)


class Bridge:
    def __init__(self) -> None:
        self.shared = MemoryRooms(asyncio.get_running_loop().time)
        self.pods: list[Pod] = []

    def start(self, *names: str) -> list[Pod]:
        started = [Pod(self, name) for name in names]
        self.pods += started
        return started

    async def kill(self, pod: Pod) -> None:
        """Nothing is said or let go."""
        self.pods.remove(pod)
        pod.task.cancel()
        with suppress(asyncio.CancelledError):
            await pod.task

    def served(self) -> list[str]:
        return sorted(room for pod in self.pods for room in pod.serving)


@asynccontextmanager
async def bridge() -> AsyncIterator[Bridge]:
    made = Bridge()
    try:
        yield made
    finally:
        for pod in list(made.pods):
            await made.kill(pod)


async def seconds_until(condition: Callable[[], bool]) -> float:
    start = asyncio.get_running_loop().time()
    while not condition():  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.05)
    return asyncio.get_running_loop().time() - start


def all_served(made: Bridge, rooms: Iterable[str] = ROOMS) -> Callable[[], bool]:
    return lambda: made.served() == sorted(rooms)


def test_pods_share_the_rooms_and_a_later_one_takes_none_of_those_that_run() -> None:
    async def run() -> None:
        async with bridge() as made:
            first, second = made.start("a", "b")
            await asyncio.sleep(30)
            assert made.served() == sorted(ROOMS)
            assert min(len(first.serving), len(second.serving)) > 15
            before = dict(first.serving)
            made.start("c")
            await asyncio.sleep(60)
            assert first.serving == before

    in_virtual_time(run())


def test_the_rooms_of_a_killed_pod_are_held_elsewhere_within_12_s() -> None:
    async def run() -> None:
        async with bridge() as made:
            first, second, third = made.start("a", "b", "c")
            await asyncio.sleep(31.7)
            kept = dict(second.serving)
            await made.kill(first)
            assert await seconds_until(all_served(made)) <= 12
            assert kept.items() <= second.serving.items()
            assert len(third.serving) > 15

    in_virtual_time(run())


def test_a_pod_that_drains_hands_over_within_seconds() -> None:
    """And no room is taken before it is closed there."""

    async def run() -> None:
        async with bridge() as made:
            first, _ = made.start("a", "b")
            await asyncio.sleep(30)
            first.leaves_after_s = 1.0
            first.leasing.hands_over = True
            assert await seconds_until(lambda: not first.serving and all_served(made)()) <= 5
            await asyncio.sleep(60)
            assert not first.serving

    in_virtual_time(run())


def test_a_room_that_is_no_more_is_let_go_and_one_that_comes_is_taken() -> None:
    async def run() -> None:
        async with bridge() as made:
            made.start("a", "b")
            await asyncio.sleep(30)
            rooms = (ROOMS - {"room-1"}) | {"room-new"}
            for pod in made.pods:
                pod.leasing.rooms = rooms
            assert await seconds_until(all_served(made, rooms)) <= 2

    in_virtual_time(run())


def test_rooms_where_nobody_is_move_to_a_new_pod() -> None:
    async def run() -> None:
        async with bridge() as made:
            (first,) = made.start("a")
            await asyncio.sleep(30)
            assert len(first.serving) == len(ROOMS)
            first.leasing.idle = frozenset(sorted(ROOMS)[:40])
            (second,) = made.start("b")
            await asyncio.sleep(10)
            assert made.served() == sorted(ROOMS)
            assert second.serving.keys() <= first.leasing.idle
            assert len(second.serving) > 10

    in_virtual_time(run())


def test_a_pod_alone_holds_all_and_keeps_holding() -> None:
    async def run() -> None:
        async with bridge() as made:
            (only,) = made.start("a")
            assert await seconds_until(all_served(made)) <= 5
            before = dict(only.serving)
            await asyncio.sleep(600)
            assert only.serving == before == dict(only.leasing.held)

    in_virtual_time(run())
