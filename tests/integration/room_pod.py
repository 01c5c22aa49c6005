"""A pod as far as rooms go, as a process: `python -m tests.integration.room_pod PORT POD ROOM..`.

Prints a line for whatever it is told to do with a room: "serve ROOM TOKEN", "suspend ROOM", "leave ROOM".
"""

import asyncio
import sys
from collections.abc import Sequence

from auralink_dataplane.adapters.redis_state import Access, RedisState
from auralink_dataplane.rooms.keys import Keys, prefix
from auralink_dataplane.roomsync.leasing import Leasing
from auralink_dataplane.settings.bridge import RedisSpec


class Printer:
    def serve(self, room: str, token: int) -> None:
        print("serve", room, token, flush=True)

    def suspend(self, room: str) -> None:
        print("suspend", room, flush=True)

    async def leave(self, room: str) -> None:
        print("leave", room, flush=True)


async def run(port: str, pod: str, rooms: Sequence[str]) -> None:
    access = Access(RedisSpec(addresses=(f"127.0.0.1:{port}",)))
    store = RedisState(access, Keys(prefix("tests", "pods")), pod)
    leasing = Leasing(store, Printer(), pod, asyncio.get_running_loop().time)
    leasing.rooms = frozenset(rooms)
    await leasing.run()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], sys.argv[3:]))
