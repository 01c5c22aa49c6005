"""Calls of `StateStore` as scripts, bounded in time and connections, and the task that keeps Redis in reach."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar
from uuid import uuid4

from redis.asyncio import Redis

from auralink_dataplane.adapters.redis_state import scripts
from auralink_dataplane.adapters.redis_state.connect import (
    ANSWER_S,
    FAILURES,
    MAX_CONNECTIONS,
    Access,
    Argument,
    Call,
    Client,
    client_of,
    is_of_the_link,
    translated,
)
from auralink_dataplane.adapters.redis_state.link import LinkState
from auralink_dataplane.adapters.redis_state.subscription import RedisSubscription
from auralink_dataplane.backoff import backoff
from auralink_dataplane.rooms.keys import Keys
from auralink_dataplane.rooms.store import (
    FENCE_TTL_S,
    MAX_DOCUMENTS,
    MAX_PODS,
    MAX_ROOM_BYTES,
    POD_TTL_S,
    ROOM_TTL_S,
    Beat,
    ForeignError,
    Gone,
    Granted,
    HeldBy,
    Link,
    NoAnswer,
    Renewed,
    RoomState,
    Stale,
    StoreError,
    UnavailableError,
    Written,
    check_bounds,
    check_rooms,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

CALLS_AT_ONCE: Final = MAX_CONNECTIONS - 4
"""The others are for subscriptions and probes."""
CALL_S: Final = 2.5
"""For a call in all: to wait for its turn, to connect, to be answered."""
PROBE_S: Final = 2.0
"""Between looks while nothing fails."""
RETRY_FIRST_S: Final = 0.2
RETRY_MAX_S: Final = 5.0
STABLE_S: Final = 10.0
"""A connection that lasted so long may be replaced at once; one that did not is part of the last trouble."""


class RedisState:
    """`StateStore` in Redis. Made inside a running loop; connects by itself, and again."""

    def __init__(self, access: Access, keys: Keys, pod: str, *, lease_s: float = 10.0) -> None:
        self._access = access
        self._keys = keys
        self._pod = pod
        self._lease_ms = round(lease_s * 1000)
        self._clock = asyncio.get_running_loop().time
        self._client: Client | None = None
        self._link = LinkState(self._clock)
        self._turns = asyncio.Semaphore(CALLS_AT_ONCE)
        self._keeper = asyncio.create_task(self._keep(), name="redis-link")

    # --- the link -------------------------------------------------------------------------------------------

    @property
    def link(self) -> Link:
        return self._link.now

    @property
    def connections(self) -> int:
        """Open ones, but for those of subscriptions to a cluster."""
        return self._client.connections() if self._client else 0

    async def wait_return(self, seen: int) -> Link:
        return await self._link.wait_return(seen)

    async def close(self) -> None:
        self._keeper.cancel()
        with suppress(asyncio.CancelledError):
            await self._keeper
        self._link.closed()
        await self._drop_client()

    async def _keep(self) -> None:
        failures = attempt = 0
        while True:
            try:
                birth = await self._connect(attempt)
            except StoreError as error:
                self._link.lost(str(error))
            except Exception as error:  # the task's root; a CA that is none, for one
                log.exception("connecting to Redis failed")
                self._link.lost(f"{type(error).__name__}: {error}")
            else:
                self._link.found(birth)
                up_since = self._link.now.since
                await self._link.wait_lost(PROBE_S)
                if self._link.now.up:
                    continue
                if self._clock() - up_since >= STABLE_S:
                    failures = 0
            await self._drop_client()  # its connections may lead to a server that is gone, or serves no longer
            failures, attempt = failures + 1, attempt + 1
            jitter = random.random()  # noqa: S311 - spreads the pods
            await asyncio.sleep(backoff(failures, RETRY_FIRST_S, RETRY_MAX_S, jitter))

    async def _connect(self, attempt: int) -> bytes:
        """The name of the data that it found."""
        try:
            if self._client is None:
                self._client = client_of(self._access, attempt)
            async with asyncio.timeout(CALL_S):
                probe = Call(scripts.PROBE, [self._keys.birth_key()], [uuid4().hex, _ms(POD_TTL_S)])
                return bytes(await self._client.run(probe))
        except FAILURES as error:
            found = translated(error)
            if isinstance(found, ForeignError):
                return b""  # in reach, with somebody else's value in that place
            raise found from error

    async def _drop_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(*FAILURES):
                async with asyncio.timeout(ANSWER_S):
                    await client.close()

    async def _ask(self, run: Callable[[Client], Awaitable[T]]) -> T:
        client = self._client
        if client is None or not self._link.now.up:
            raise UnavailableError(self._link.now.reason)
        deadline = self._clock() + CALL_S
        try:
            async with asyncio.timeout_at(deadline):
                await self._turns.acquire()
        except TimeoutError:
            raise UnavailableError(f"more than {CALLS_AT_ONCE} calls at once") from None
        try:
            async with asyncio.timeout_at(deadline):
                return await run(client)
        except FAILURES as error:
            found = translated(error)
            if is_of_the_link(error) and client is self._client:
                self._link.lost(str(found))
            raise found from error
        finally:
            self._turns.release()

    async def _run(self, call: Call) -> Any:
        return await self._ask(lambda client: client.run(call))

    async def _run_all(self, calls: Sequence[Call]) -> list[Any]:
        check_rooms(calls)
        if not calls:
            return []
        answers = await self._ask(lambda client: client.run_all(calls))
        for error in answers:
            if isinstance(error, Exception) and is_of_the_link(error):
                self._link.lost(str(translated(error)))
        return answers

    # --- pods -----------------------------------------------------------------------------------------------

    async def beat(self, *, leaving: bool = False) -> Mapping[str, Beat]:
        arguments: list[Argument] = [self._pod, int(leaving), _ms(POD_TTL_S), MAX_PODS]
        answer = await self._run(Call(scripts.BEAT, [self._keys.pods_key()], arguments))
        now = int(answer[0])
        beats = {}
        for pod, score in zip(answer[1::2], answer[2::2], strict=True):
            try:
                at = float(score)
                beats[_text(pod)] = Beat(max(0.0, (now - abs(at)) / 1000), leaving=at < 0)
            except ValueError as error:
                raise ForeignError(self._keys.pods_key()) from error
        return beats

    # --- leases ---------------------------------------------------------------------------------------------

    async def acquire(self, rooms: Collection[str]) -> Mapping[str, Granted | HeldBy | NoAnswer]:
        arguments: list[Argument] = [self._pod, self._lease_ms, _ms(FENCE_TTL_S)]
        calls = [
            Call(scripts.ACQUIRE, [self._keys.lease_key(room), self._keys.fence_key(room)], arguments) for room in rooms
        ]
        answers = await self._run_all(calls)
        return {room: self._acquired(answer) for room, answer in zip(rooms, answers, strict=True)}

    def _acquired(self, answer: Any) -> Granted | HeldBy | NoAnswer:
        match answer:
            case [token]:
                return Granted(int(token))
            case [pod, remaining_ms]:
                return self._held_by(pod, remaining_ms)
        return _no_answer(answer)

    async def renew(self, leases: Mapping[str, int]) -> Mapping[str, Renewed | HeldBy | Gone | NoAnswer]:
        calls = []
        for room, token in leases.items():
            arguments: list[Argument] = [self._pod, str(token), self._lease_ms, _ms(FENCE_TTL_S), _ms(ROOM_TTL_S)]
            calls.append(Call(scripts.RENEW, self._room_keys(room), arguments))
        answers = await self._run_all(calls)
        return {room: self._renewed(answer) for room, answer in zip(leases, answers, strict=True)}

    def _renewed(self, answer: Any) -> Renewed | HeldBy | Gone | NoAnswer:
        match answer:
            case []:
                return Renewed()
            case [_nobody]:
                return Gone()
            case [pod, remaining_ms]:
                return self._held_by(pod, remaining_ms)
        return _no_answer(answer)

    async def release(self, leases: Mapping[str, int]) -> None:
        await self._run_all(
            [
                Call(scripts.RELEASE, [self._keys.lease_key(room)], [self._pod, str(token), self._keys.channel(room)])
                for room, token in leases.items()
            ]
        )

    def _held_by(self, pod: bytes, remaining_ms: int) -> HeldBy:
        """A lease without an end is not ours to end, and is asked for again after as long as one of ours takes."""
        remaining_ms = remaining_ms if remaining_ms >= 0 else self._lease_ms
        return HeldBy(pod.decode(errors="surrogateescape"), remaining_ms / 1000)

    # --- rooms ----------------------------------------------------------------------------------------------

    async def read(self, room: str) -> RoomState:
        answer = await self._run(Call(scripts.READ, self._room_keys(room), [MAX_DOCUMENTS, MAX_ROOM_BYTES]))
        lease, token, revision, *pieces = answer
        try:
            texts = [_text(piece) for piece in pieces]
            return RoomState(
                documents=dict(zip(texts[::2], texts[1::2], strict=True)),
                revision=int(revision or 0),
                token=int(token or 0),
                holder=_text(lease).partition(" ")[2] if lease else None,
            )
        except ValueError as error:
            raise ForeignError(self._keys.room_key(room)) from error

    async def write(self, room: str, token: int, documents: Mapping[str, str | None]) -> Written | Stale:
        check_bounds(documents)
        arguments: list[Argument] = [self._pod, str(token), _ms(FENCE_TTL_S), _ms(ROOM_TTL_S)]
        arguments += [MAX_DOCUMENTS, MAX_ROOM_BYTES, self._keys.channel(room)]
        for name, document in documents.items():
            arguments += [name, "-" if document is None else f"+{document}"]
        match await self._run(Call(scripts.WRITE, self._room_keys(room), arguments)):
            case [revision, changed]:
                return Written(int(revision), changed)
            case [newest]:
                return Stale(int(newest))
        raise ForeignError(self._keys.room_key(room))

    def subscribe(self) -> RedisSubscription:
        return RedisSubscription(self._listener, self._keys)

    async def _listener(self) -> Redis:
        client = self._client
        if client is None or not self._link.now.up:
            raise UnavailableError(self._link.now.reason)
        return await client.listener()

    def _room_keys(self, room: str) -> list[str]:
        return [self._keys.lease_key(room), self._keys.fence_key(room), self._keys.room_key(room)]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _text(data: bytes) -> str:
    return data.decode(errors="surrogatepass")


def _no_answer(answer: Any) -> NoAnswer:
    return NoAnswer(str(translated(answer)) if isinstance(answer, Exception) else "an answer that is none")
