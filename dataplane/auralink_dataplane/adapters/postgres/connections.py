"""Connections to PostgreSQL, and whose fault an error is. The only importer of asyncpg."""

import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol

import asyncpg

MAX_CONNECTIONS: Final = 20
"""Of a pod; most of the time it needs one, and an idle one is closed after IDLE_S."""
IDLE_S: Final = 60.0
CONNECT_S: Final = 5.0
STATEMENT_S: Final = 10.0
"""The server gives a statement up after so long."""
ANSWER_S: Final = 2.0
"""And we the server, if it has not said so after so long."""
CACHED_STATEMENTS: Final = 64

_UNAVAILABLE: Final = ("08", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58", "F0", "XX")
"""Classes of SQLSTATE (PostgreSQL manual, appendix A) that say something of the server, its configuration or its
schema. All else is said of the values of a statement."""


class Connection(Protocol):
    """What is used of asyncpg's, which has no types of its own."""

    async def execute(self, query: str, *values: object) -> str: ...
    async def fetch(self, query: str, *values: object) -> Sequence[Mapping[str, Any]]: ...
    async def fetchval(self, query: str, *values: object) -> Any: ...
    async def prepare(self, query: str) -> object: ...
    def transaction(self) -> AbstractAsyncContextManager[object]: ...
    def is_in_transaction(self) -> bool: ...
    async def close(self, *, timeout: float) -> None: ...  # noqa: ASYNC109 - asyncpg's own
    def terminate(self) -> None: ...


class Fault(Enum):
    SERVER = "server"  # it is away, full, being migrated, or refuses us: the same values may do later
    VALUES = "values"  # they will never do


class DatabaseError(Exception):
    """Of the server or of what it was sent; `reason` is an SQLSTATE, or a word where the server said none."""

    def __init__(self, fault: Fault, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.fault = fault
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Target:
    """Where records go. `password` is asked for at every connection, so that a new one is taken without a restart.
    `tls` None: plaintext."""

    host: str
    port: int
    database: str
    user: str
    password: Callable[[], str]
    tls: ssl.SSLContext | None = None
    application: str = "auralink"


def tls_context(ca_pem: str | None) -> ssl.SSLContext:
    """Checks the server's certificate and its name, against the CA or, without one, the system's. Raises ValueError."""
    try:
        context = ssl.create_default_context(cadata=ca_pem)
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(f"the CA cannot be read: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


@asynccontextmanager
async def connected(target: Target, *, statement_s: float = STATEMENT_S) -> AsyncIterator[Connection]:
    """One connection of its own. Raises DatabaseError, also for what goes wrong while it is used."""
    with _translating():
        connection: Connection = await asyncpg.connect(**_arguments(target, statement_s))
        try:
            yield connection
        finally:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=CONNECT_S)


class Pool:
    """At most MAX_CONNECTIONS. None is made before one is asked for, so a pod starts without its database."""

    def __init__(self, target: Target) -> None:
        self._pool = asyncpg.create_pool(
            **_arguments(target, STATEMENT_S),
            statement_cache_size=CACHED_STATEMENTS,
            max_cached_statement_lifetime=0,
            min_size=0,
            max_size=MAX_CONNECTIONS,
            max_inactive_connection_lifetime=IDLE_S,
            reset=_nothing_to_reset,
        )

    async def open(self) -> None:
        await self._pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """To lend and to give back costs no round trip. Raises DatabaseError, also for what goes wrong while it is
        used."""
        async with self._acquired() as connection:
            try:
                yield connection
            except Exception as error:
                cause = translated(error)
                if isinstance(cause, DatabaseError) and cause.fault is Fault.SERVER:
                    connection.terminate()  # nothing else would find out that it is no good any more
                raise

    @asynccontextmanager
    async def _acquired(self) -> AsyncIterator[Connection]:
        with _translating():
            async with self._pool.acquire(timeout=CONNECT_S) as connection:
                yield connection

    @property
    def active(self) -> int:
        return int(self._pool.get_size() - self._pool.get_idle_size())

    @property
    def idle(self) -> int:
        return int(self._pool.get_idle_size())

    def terminate(self) -> None:
        """At once: whoever uses a connection gets an error."""
        self._pool.terminate()


def translated(error: Exception) -> Exception:
    """What the driver raised, as whose fault it is; anything else as it was."""
    match error:
        case asyncpg.PostgresError():
            state = error.sqlstate or "XX000"
            fault = Fault.SERVER if state.startswith(_UNAVAILABLE) else Fault.VALUES
            return DatabaseError(fault, state, str(error))
        case TimeoutError():
            return DatabaseError(Fault.SERVER, "timeout", "no answer in time")
        case ssl.SSLError():
            return DatabaseError(Fault.SERVER, "tls", str(error))
        case asyncpg.InterfaceError() if isinstance(error, ValueError) and not _is_configuration(error):
            return DatabaseError(Fault.VALUES, "encoding", str(error))  # a value that the driver cannot send
        case OSError() | asyncpg.InterfaceError() | asyncpg.InternalClientError():
            return DatabaseError(Fault.SERVER, "connection", str(error) or type(error).__name__)
        case UnicodeError() | OverflowError():
            return DatabaseError(Fault.VALUES, "encoding", type(error).__name__)
        case _:
            return error


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        cause = translated(error)
        if cause is error:
            raise
        raise cause from error


def _is_configuration(error: Exception) -> bool:
    return isinstance(error, asyncpg.ClientConfigurationError)


def _arguments(target: Target, statement_s: float) -> dict[str, Any]:
    return {
        "host": target.host,
        "port": target.port,
        "database": target.database,
        "user": target.user,
        "password": target.password,
        "ssl": target.tls or False,
        "timeout": CONNECT_S,
        "command_timeout": statement_s + ANSWER_S,
        "server_settings": _session(target, statement_s),
    }


def _session(target: Target, statement_s: float) -> dict[str, str]:
    return {
        "application_name": target.application[:63],
        "timezone": "UTC",
        "search_path": "pg_catalog",
        "statement_timeout": str(int(statement_s * 1000)),
        "lock_timeout": str(int(statement_s * 1000)),
        "idle_in_transaction_session_timeout": str(int(statement_s * 1000)),
    }


async def _nothing_to_reset(_connection: object) -> None:
    """No statement of ours leaves anything behind in a session, so giving a connection back costs no round trip."""
