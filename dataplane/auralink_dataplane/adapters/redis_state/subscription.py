"""What other pods change, as it happens: one connection in Redis' subscriber mode, whose messages become values.

Redis forgets messages for whoever is not connected, so each time that the connection was away the taker gets `Missed`.
"""

import asyncio
import json
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from contextlib import aclosing, suppress
from typing import Any, Final

from redis.asyncio import Redis

from auralink_dataplane.adapters.redis_state.connect import ANSWER_S, FAILURES
from auralink_dataplane.backoff import backoff
from auralink_dataplane.rooms.keys import Keys
from auralink_dataplane.rooms.store import MAX_QUEUED, Change, Freed, Missed, News, StoreError

log = logging.getLogger(__name__)

SILENCE_S: Final = 2.0
"""After so long without a message the server is asked for a sign of life, and has as long to give it."""
RETRY_FIRST_S: Final = 0.2
RETRY_MAX_S: Final = 5.0


class RedisSubscription:
    """`listener` opens a client of its own, or raises StoreError."""

    def __init__(self, listener: Callable[[], Awaitable[Redis]], keys: Keys) -> None:
        self._listener = listener
        self._keys = keys
        self._wanted: frozenset[str] = frozenset()  # channels
        self._confirmed: set[str] = set()
        self._pubsub: Any = None
        self._news: deque[News] = deque()
        self._arrived = asyncio.Event()
        self._settled = asyncio.Event()
        self._sending = asyncio.Lock()
        self._incomplete = False  # something may have been missed since the taker was told last
        self._task = asyncio.create_task(self._run(), name="redis-subscription")

    async def follow(self, rooms: Collection[str]) -> None:
        """See `Subscription`. One round trip, however many rooms change."""
        self._wanted = frozenset(map(self._keys.channel, rooms))
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._send()
                while not self._confirmed >= self._wanted:
                    self._settled.clear()
                    await self._settled.wait()
        except FAILURES:
            self._incomplete = True

    async def get(self) -> News:
        while not self._news:
            self._arrived.clear()
            await self._arrived.wait()
        return self._news.popleft()

    async def close(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    # --- the connection -------------------------------------------------------------------------------------

    async def _run(self) -> None:
        failures = 0
        while True:
            heard = 0
            try:
                async for _ in self._messages():
                    heard += 1
            except (*FAILURES, StoreError) as error:
                failures = 1 if heard > 1 else failures + 1
                if failures == 1:
                    log.info("subscription interrupted", extra={"reason": str(error) or type(error).__name__})
            except Exception:  # the task's root
                failures += 1
                log.exception("subscription failed")
            self._incomplete = True
            jitter = random.random()  # noqa: S311 - spreads the pods
            await asyncio.sleep(backoff(failures, RETRY_FIRST_S, RETRY_MAX_S, jitter))

    async def _messages(self) -> Any:
        """Each message after it was taken. Raises what redis-py raises, TimeoutError after silence."""
        redis = await self._listener()
        async with aclosing(redis), aclosing(redis.pubsub()) as pubsub:
            await pubsub.subscribe(self._own_channel)
            self._pubsub, self._confirmed = pubsub, set()
            try:
                await self._send()
                asked = False
                while True:
                    message = await pubsub.get_message(timeout=SILENCE_S)
                    if message is None:
                        if asked:
                            raise TimeoutError("no sign of life")
                        await pubsub.ping()
                    asked = message is None
                    if message is not None:
                        self._take(message)
                        yield message
            finally:
                async with self._sending:  # who sends now would open another connection
                    self._pubsub, self._confirmed = None, set()

    @property
    def _own_channel(self) -> str:
        """One that is always subscribed to: without any, Redis takes the connection for an ordinary one."""
        return f"{self._keys.prefix}subscribers"

    async def _send(self) -> None:
        """What is wanted and not subscribed to yet, and the other way round."""
        async with self._sending:
            pubsub = self._pubsub
            if pubsub is None:
                return
            known = {channel.decode() for channel in pubsub.channels} - {self._own_channel}
            if new := sorted(self._wanted - known):
                await pubsub.subscribe(*new)
            if old := sorted(known - self._wanted):
                await pubsub.unsubscribe(*old)
                self._confirmed -= set(old)

    # --- messages -------------------------------------------------------------------------------------------

    def _take(self, message: dict[str, Any]) -> None:
        channel = message["channel"].decode() if message.get("channel") else ""
        if message["type"] == "subscribe":
            self._confirmed.add(channel)
            if self._confirmed >= self._wanted:
                self._settled.set()
                if self._incomplete:
                    self._incomplete = False
                    self._put(Missed("the connection was away"))
        elif message["type"] == "message" and channel in self._wanted:
            news = news_of(self._keys.room_of(channel), message["data"])
            if news is None:
                log.debug("a message that is not ours", extra={"channel": channel})
            else:
                self._put(news)

    def _put(self, news: News) -> None:
        if len(self._news) >= MAX_QUEUED:
            self._news.clear()
            news = Missed(f"more than {MAX_QUEUED} waited to be taken")
        self._news.append(news)
        self._arrived.set()


def news_of(room: str, data: bytes) -> News | None:
    """`[]`: freed; else `[revision, pod, id, document or false, ..]`. None where it is neither."""
    try:
        parts = json.loads(data)
        if parts == []:
            return Freed(room)
        revision, pod, *rest = parts
        documents = dict(zip(rest[::2], rest[1::2], strict=True))
        change = Change(
            room, int(revision), pod, {name: None if text is False else text for name, text in documents.items()}
        )
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (pod, *change.documents)
    values = (text for text in change.documents.values() if text is not None)
    return change if all(isinstance(text, str) for text in (*texts, *values)) else None
