"""Calls of LiveKit's server API: Twirp in JSON over HTTP, with deadlines, bounds, retries and errors by kind.

    POST {url}/twirp/livekit.RoomService/{method}    {"room": ".."}
    200 {..}    or    4xx, 5xx {"code": "not_found", "msg": ".."}

Source: https://twitchtv.github.io/twirp/docs/spec_v7.html
"""

import asyncio
import json
import random
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp
from yarl import URL

from auralink_dataplane.adapters.livekit.tokens import VALID_S, Grant, Key, Keys, issue
from auralink_dataplane.backoff import backoff

DEADLINE_S: Final = 8.0
"""Of a call with all its tries."""
TRY_S: Final = 4.0
"""LiveKit itself waits up to 3 s for the node that has the room."""
CONNECT_S: Final = 2.0
TRIES: Final = 3
RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 1.0
MAX_ANSWER_BYTES: Final = 16 << 20
"""A listing of some thousand participants; one of them with all its attributes is 64 KiB."""
MAX_REFUSAL_BYTES: Final = 16 << 10
MAX_CONNECTIONS: Final = 16
MAX_TOKENS: Final = 1024
"""Each room has a token of its own."""
RENEW_S: Final = 120.0
"""A token is not used any more when it ends within this, twice what two clocks may be apart."""

_UNANSWERED: Final = "no response from servers"  # livekit/psrpc `errors.go`
_UNREACHED: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_SCHEMES: Final = {"ws": "http", "wss": "https", "http": "http", "https": "https"}


class LiveKitError(Exception):
    """A call that failed. The message says of which server and call, why, and what to do; it holds no secret."""


class NotFoundError(LiveKitError):
    """There is no such room, participant or track (any more): whoever asked may forget it."""


class UnauthorizedError(LiveKitError):
    """The user's fault: the keys are not those of the server, or may not do this. Asking again does not help."""


class RejectedError(LiveKitError):
    """Our fault, or the server's settings: it will not do this, however often it is asked."""


class UnavailableError(LiveKitError):
    """The server, or the way to it, does not work now: later it may."""


class UnansweredError(UnavailableError):
    """The server works, but for 3 s no node of it has answered for this room or participant: they are gone, or the node
    is lost."""


class UnreadableError(LiveKitError):
    """What answers is not LiveKit, or says more than is taken."""


_KINDS: Final[Mapping[str, type[LiveKitError]]] = {
    "not_found": NotFoundError,
    "unauthenticated": UnauthorizedError,
    "permission_denied": UnauthorizedError,
    "canceled": UnavailableError,
    "unknown": UnavailableError,
    "deadline_exceeded": UnavailableError,
    "resource_exhausted": UnavailableError,
    "aborted": UnavailableError,
    "internal": UnavailableError,
    "unavailable": UnavailableError,
    "dataloss": UnavailableError,
}
"""By Twirp's code; the others say that the call is wrong."""

_REMEDIES: Final[Mapping[type[LiveKitError], str]] = {
    UnauthorizedError: "check the API key and secret of the endpoint, and the clocks",
    UnavailableError: "check the LiveKit server and the network between",
    UnreadableError: "check the URL of the endpoint",
    RejectedError: "check the settings and the version of the LiveKit server",
}


def base_url(url: str) -> URL:
    """The API's address from the endpoint's (ws, wss, http or https). Raises ValueError, which does not show the URL:
    it may hold a password."""
    try:
        parsed = URL(url)
    except ValueError:
        parsed = URL()
    scheme = _SCHEMES.get(parsed.scheme)
    if scheme is None or not parsed.host:
        raise ValueError('write the URL of a LiveKit endpoint as "wss://host" or "https://host"')
    return parsed.with_scheme(scheme).with_user(None).with_path(parsed.path.rstrip("/"))


class Tokens:
    """The tokens of our calls, one per grant, used until shortly before they end."""

    def __init__(self, keys: Callable[[], Keys], clock: Callable[[], float]) -> None:
        self._keys = keys
        self._clock = clock
        self._issued: OrderedDict[tuple[Key, Grant], tuple[str, float]] = OrderedDict()

    def token(self, grant: Grant) -> str:
        now = self._clock()
        wanted = (self._keys().signing, grant)
        token, until = self._issued.get(wanted, ("", 0.0))
        # A clock that was set back must not leave tokens that begin in the future.
        if not now < until <= now + VALID_S:
            token, until = issue(wanted[0], grant, now), now + VALID_S - RENEW_S
            self._issued[wanted] = (token, until)
        self._issued.move_to_end(wanted)
        while len(self._issued) > MAX_TOKENS:
            self._issued.popitem(last=False)
        return token


class Twirp:
    """The calls of one server. To be made where an event loop runs.

    `keys`: asked at each call, so that changed secrets are used at once; `clock`: seconds since 1970."""

    def __init__(self, url: str, keys: Callable[[], Keys], *, clock: Callable[[], float]) -> None:
        self._url = base_url(url)
        self._tokens = Tokens(keys, clock)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS),
            timeout=aiohttp.ClientTimeout(total=TRY_S, sock_connect=CONNECT_S),
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    @property
    def url(self) -> str:
        return str(self._url)

    async def close(self) -> None:
        await self._session.close()

    async def call(self, method: str, request: Mapping[str, Any], grant: Grant, *, again: bool) -> dict[str, Any]:
        """The answer. `again`: once more after a failure that may pass; else only where the server was not reached at
        all. Raises LiveKitError within DEADLINE_S."""
        body = json.dumps(request).encode()
        failures = 0
        last: LiveKitError | None = None
        try:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    try:
                        return await self._try(method, body, grant)
                    except UnavailableError as error:
                        failures += 1
                        unreached = isinstance(error.__cause__, _UNREACHED)
                        if failures >= TRIES or isinstance(error, UnansweredError) or not (again or unreached):
                            raise
                        last = error
                    jitter = random.random()  # noqa: S311 - spreads the pods
                    await asyncio.sleep(backoff(failures, RETRY_FIRST_S, RETRY_MAX_S, jitter))
        except TimeoutError:
            raise last or self._error(UnavailableError, method, f"no answer within {DEADLINE_S:g} s") from None

    async def healthy(self) -> None:
        """Raises UnavailableError if the server does not say that it is well, once asked."""
        try:
            async with self._session.get(self._url / "", allow_redirects=False) as answer:
                if answer.status != 200:
                    said = (await answer.content.read(200)).decode(errors="replace").splitlines()
                    raise self._error(UnavailableError, "health", f"{answer.status} {said[0] if said else ''}".strip())
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            raise self._error(UnavailableError, "health", _name(error)) from error

    # --- one try --------------------------------------------------------------------------------------------

    async def _try(self, method: str, body: bytes, grant: Grant) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._tokens.token(grant)}", "Content-Type": "application/json"}
        url = self._url.joinpath("twirp", "livekit.RoomService", method)
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                if answer.status == 200:
                    return self._understood(method, await self._read(method, answer, MAX_ANSWER_BYTES))
                refusal = (await answer.content.read(MAX_REFUSAL_BYTES)).decode(errors="replace")
                raise self._refusal(method, answer.status, refusal)
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            raise self._error(UnavailableError, method, _name(error)) from error

    async def _read(self, method: str, answer: aiohttp.ClientResponse, most: int) -> bytes:
        parts, size = [], 0
        async for part in answer.content.iter_any():
            size += len(part)
            if size > most:
                answer.close()  # the rest is not waited for
                raise self._error(UnreadableError, method, f"the answer is larger than {most} bytes")
            parts.append(part)
        return b"".join(parts)

    def _understood(self, method: str, answer: bytes) -> dict[str, Any]:
        try:
            document = json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise self._error(UnreadableError, method, "the answer is not JSON") from error
        if not isinstance(document, dict):
            raise self._error(UnreadableError, method, "the answer is not an object")
        return document

    def _refusal(self, method: str, status: int, text: str) -> LiveKitError:
        """By Twirp's code; by HTTP's where a proxy answers (the specification's table for those)."""
        try:
            document = json.loads(text)
            code, said = str(document["code"]), str(document.get("msg", ""))
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            code, said = "", " ".join(text.split())
        if code == "unavailable" and _UNANSWERED in said:
            kind: type[LiveKitError] = UnansweredError
        elif code:
            kind = _KINDS.get(code, RejectedError)
        elif status in (401, 403):
            kind = UnauthorizedError
        elif status in (408, 429) or status >= 500:
            kind = UnavailableError
        else:
            kind = UnreadableError  # 404: no LiveKit, or not at this path; 3xx: it is elsewhere
        return self._error(kind, method, f"{status} {code} {said[:200]}".strip())

    def _error(self, kind: type[LiveKitError], method: str, what: str) -> LiveKitError:
        remedy = next((_REMEDIES[one] for one in kind.__mro__ if one in _REMEDIES), None)
        return kind(f"LiveKit at {self._url}: {method}: {what}" + (f": {remedy}" if remedy else ""))


def _name(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error)[:200] or type(error).__name__
