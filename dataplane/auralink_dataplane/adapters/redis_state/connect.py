"""Clients of redis-py, one kind per topology, and its many errors as our few."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from redis import exceptions
from redis.asyncio import ConnectionPool, Redis, RedisCluster, Sentinel, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

from auralink_dataplane.adapters.redis_state.scripts import Script
from auralink_dataplane.rooms.store import ForeignError, RefusedError, StoreError, TooLargeError, UnavailableError
from auralink_dataplane.settings.addresses import split_address
from auralink_dataplane.settings.bridge import RedisSpec

MAX_CONNECTIONS: Final = 50
"""To one server, of one pod."""
ANSWER_S: Final = 2.0
"""To connect, and for each answer. Two tries fit into what is left of a lease when it is to be renewed."""

_NOW: Final = Retry(NoBackoff(), 0)
"""No second try inside a call: the caller decides, and `link` brings the connection back."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where Redis is, and what its Secrets hold."""

    spec: RedisSpec
    password: str | None = field(default=None, repr=False)
    ca: str | None = None  # PEM; None: the system's

    def client_options(self, *, authenticate: bool = True) -> dict[str, Any]:
        options: dict[str, Any] = {
            "socket_timeout": ANSWER_S,
            "socket_connect_timeout": ANSWER_S,
            "retry": _NOW,
            "protocol": 2,
            "driver_info": None,  # no CLIENT SETINFO, which takes a right of its own
        }
        if authenticate:
            options |= {"username": self.spec.user or None, "password": self.password}
        if self.spec.tls:
            options |= {"ssl_ca_data": self.ca, "ssl_check_hostname": True, "ssl_min_version": ssl.TLSVersion.TLSv1_2}
        return options


Argument = str | int


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a script."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[Argument]

    def words(self, *, by_sha: bool) -> tuple[Any, ...]:
        head = ("EVALSHA", self.script.sha) if by_sha else ("EVAL", self.script.text)
        values = (one if isinstance(one, int) else one.encode(errors="surrogatepass") for one in self.arguments)
        return (*head, len(self.keys), *self.keys, *values)


class Client(Protocol):
    async def run(self, call: Call) -> Any:
        """Its answer. Raises what redis-py raises."""

    async def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """The answers or exceptions, in order."""

    async def listener(self) -> Redis:
        """For a subscription; to be closed by the caller."""

    def connections(self) -> int: ...

    async def close(self) -> None: ...


class PooledClient:
    """A server, or the master that sentinels name."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._redis = Redis(connection_pool=pool)

    async def run(self, call: Call) -> Any:
        try:
            return await self._redis.execute_command(*call.words(by_sha=True))  # type: ignore[no-untyped-call]
        except exceptions.NoScriptError:
            return await self._redis.execute_command(*call.words(by_sha=False))  # type: ignore[no-untyped-call]

    async def run_all(self, calls: Sequence[Call]) -> list[Any]:
        return await _pipelined(self._redis, calls)

    async def listener(self) -> Redis:
        return Redis(connection_pool=self._pool)

    def connections(self) -> int:
        return len(self._pool._in_use_connections) + len(self._pool._available_connections)

    async def close(self) -> None:
        await self._redis.aclose()
        await self._pool.disconnect()


class ClusterClient:
    def __init__(self, access: Access) -> None:
        self._options = access.client_options()
        nodes = [ClusterNode(*split_address(address)) for address in access.spec.addresses]
        self._tls = access.spec.tls
        self._cluster = RedisCluster(
            startup_nodes=nodes, ssl=self._tls, max_connections=MAX_CONNECTIONS, **self._options
        )

    async def run(self, call: Call) -> Any:
        try:
            return await self._cluster.execute_command(*call.words(by_sha=True))
        except exceptions.NoScriptError:
            return await self._cluster.execute_command(*call.words(by_sha=False))

    async def run_all(self, calls: Sequence[Call]) -> list[Any]:
        return await _pipelined(self._cluster, calls)

    async def listener(self) -> Redis:
        """Of any node: they pass news on to each other."""
        await self._cluster.initialize()
        node = self._cluster.get_random_node()
        return Redis(host=node.host, port=int(node.port), ssl=self._tls, **self._options)

    def connections(self) -> int:
        return sum(len(node._connections) for node in self._cluster.get_nodes())

    async def close(self) -> None:
        await self._cluster.aclose()


def client_of(access: Access, attempt: int) -> Client:
    """`attempt`: from 0 on. Several addresses are tried in turn; sentinels with our credentials and, as many have
    none, without."""
    spec = access.spec
    addresses = [split_address(address) for address in spec.addresses]
    match spec.topology:
        case "Cluster":
            return ClusterClient(access)
        case "Sentinel":
            sentinel_options = access.client_options(authenticate=attempt % 2 == 0) | {"ssl": spec.tls}
            sentinels = Sentinel(addresses, sentinel_kwargs=sentinel_options)  # type: ignore[no-untyped-call]
            options = access.client_options() | {
                "db": spec.database,
                "ssl": spec.tls,
                "max_connections": MAX_CONNECTIONS,
            }
            pool = SentinelConnectionPool(spec.master, sentinels, **options)  # type: ignore[no-untyped-call]
            return PooledClient(pool)
        case _:
            host, port = addresses[attempt % len(addresses)]
            kind = SSLConnection if spec.tls else Connection
            options = access.client_options() | {"db": spec.database, "connection_class": kind}
            return PooledClient(ConnectionPool(host=host, port=port, max_connections=MAX_CONNECTIONS, **options))


async def _pipelined(client: Any, calls: Sequence[Call]) -> list[Any]:
    answers = await _sent(client, calls, by_sha=True)
    unknown = [at for at, answer in enumerate(answers) if isinstance(answer, exceptions.NoScriptError)]
    if unknown:
        again = await _sent(client, [calls[at] for at in unknown], by_sha=False)
        for at, answer in zip(unknown, again, strict=True):
            answers[at] = answer
    return answers


async def _sent(client: Any, calls: Sequence[Call], *, by_sha: bool) -> list[Any]:
    async with client.pipeline(transaction=False) as pipeline:
        for call in calls:
            pipeline.execute_command(*call.words(by_sha=by_sha))
        return list(await pipeline.execute(raise_on_error=False))


FAILURES: Final = (exceptions.RedisError, exceptions.RedisClusterException, OSError, TimeoutError, UnicodeError)
"""All that redis-py lets out for another reason than a mistake of ours."""
_NOT_ALLOWED: Final = (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError)
_ANOTHER_SERVER: Final = ("READONLY", "LOADING", "CLUSTERDOWN", "MASTERDOWN")
_NOT_NOW: Final = ("BUSY", "TRYAGAIN", "MISCONF", "NOREPLICAS", "OOM", "UNKILLABLE")


def translated(error: BaseException) -> StoreError:
    """Texts of Redis name keys and its own addresses, never credentials."""
    text = (str(error) or type(error).__name__)[:200]
    if isinstance(error, _NOT_ALLOWED):
        return RefusedError(text)
    if is_of_the_link(error):
        return UnavailableError(text)
    if "FOREIGN" in text or "WRONGTYPE" in text:
        return ForeignError(text)
    if "TOOLARGE" in text:
        return TooLargeError(text)
    return UnavailableError(text) if _has(text, _NOT_NOW) else RefusedError(text)


def is_of_the_link(error: BaseException) -> bool:
    """No answer, or one that says to look for another server."""
    if not isinstance(error, exceptions.ResponseError) or isinstance(error, exceptions.ReadOnlyError):
        return True
    return isinstance(error, exceptions.ClusterError) or _has(str(error), _ANOTHER_SERVER)


def _has(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text for word in words)
