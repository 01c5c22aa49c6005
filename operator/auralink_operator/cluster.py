"""The only module that calls Kubernetes (kopf's watches apart): plain dicts over the asyncio client of `kubernetes`.

`Connection` carries requests, for `lease` too; `Cluster` is what reconciles call. Its writes are server-side applies,
are refused while another replica leads, and are given up before another can. A token bucket keeps it polite: it halves
when the server says 429, and lets nothing through for as long as the server asks.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from math import inf
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import client as kube
from kubernetes.aio import config as kube_config

from auralink_operator.index import RESOURCES, Key, Obj
from auralink_operator.metrics import Metrics

log = logging.getLogger(__name__)

JSON = "application/json"
_APPLY, _MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_ATTEMPT_S, _CONNECT_S = 20.0, 5.0
_RETRIES_S = (0.2, 0.5, 1.0, 2.0)
_PATIENCE_S = 45.0  # no further attempt later than this; the queue comes back to it
_BUDGET_S, _TELL_S = 45.0, 30.0  # of a look at a key: in all, and for its status; an attempt may last beyond them
_LONGEST_PAUSE_S = 300.0  # whatever the server asks for
_HALVING_S = 1.0
_PAGE = 500
# Requests on their way at the same time, whoever waits: each has a TLS connection of its own, of 0.4 MB.
_AT_ONCE = 24

_FAULTS = {0: "NoAnswer", 403: "Denied", 404: "NotFound", 409: "Conflict", 422: "Invalid", 429: "Throttled"}


@dataclass(slots=True)
class CallBudget:
    """What the look that the current task has at a key may ask of the API server, and how long it has waited for it.

    A server that does not answer must not keep a look from telling its status: once a request has failed in a way that
    may pass by itself, the others are tried once each (`hasty`), and none begins later than `until`.
    """

    until: float = inf
    hasty: bool = False
    waited_s: float = 0.0

    def begin(self, now: float, *, hasty: bool) -> None:
        """`hasty`: the look before has failed already."""
        self.until, self.hasty, self.waited_s = now + _BUDGET_S, hasty, 0.0


call_budget: ContextVar[CallBudget | None] = ContextVar("call_budget", default=None)


def tell() -> None:
    """From now on the look tells what it came to, for which there is time left in any case."""
    if (budget := call_budget.get()) is not None:
        budget.until += _TELL_S


class ApiError(Exception):
    """An answer that is no success; status 0 stands for no answer at all.

    `retry_after_s`: not to be tried again before, by the server's own word.
    """

    def __init__(
        self, status: int, reason: str, message: str, causes: tuple[str, ...] = (), retry_after_s: float = 0.0
    ) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message, self.causes = status, reason, message, causes
        self.retry_after_s = retry_after_s

    @property
    def transient(self) -> bool:
        return self.status in (0, 408, 429) or self.status >= 500

    @property
    def fault(self) -> str:
        """Class of the error, for the metric."""
        return _FAULTS.get(self.status, "Server" if self.status >= 500 else "Refused")


class NotLeaderError(Exception):
    """Another replica may lead by now: nothing must be written."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; status 0 and the reason as text if nothing did."""

    status: int
    text: bytes
    retry_after_s: float = 0.0

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Obj:
        try:
            found = json.loads(self.text)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def error(self) -> ApiError:
        found = self.json()
        causes = (found.get("details") or {}).get("causes") or ()
        return ApiError(
            self.status,
            str(found.get("reason") or ("NoAnswer" if self.status == 0 else "")),
            str(found.get("message") or self.text[:500].decode(errors="replace")),
            tuple(str(cause.get("reason") or "") for cause in causes),
            min(self.retry_after_s, _LONGEST_PAUSE_S),
        )


class Connection:
    """Requests without any policy of their own, and one log line when the server cannot be reached or is back."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._reachable = True

    @classmethod
    async def open(cls, kubeconfig: str = "", identity: str = "") -> "Connection":
        """A client as the pod's service account, or outside a cluster as the kubeconfig says (default: ~/.kube).

        The identity stands in the user agent, so that an audit log tells replicas apart.
        """
        configuration = kube.Configuration()
        try:
            kube_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except kube_config.ConfigException:
            await kube_config.load_kube_config(kubeconfig or None, client_configuration=configuration)  # type: ignore[no-untyped-call]
        # Else each request looks for a proxy and a ~/.netrc anew; kubeconfig and API server need neither.
        configuration.client_session_kwargs = {"trust_env": False}
        client = kube.ApiClient(configuration)
        client.user_agent = "/".join(filter(None, ("auralink-operator", identity)))
        return cls(client)

    async def close(self) -> None:
        await self._client.close()

    async def send(
        self,
        verb: str,
        path: str,
        body: Obj | None = None,
        *,
        content_type: str = JSON,
        accept: str = JSON,
        timeout_s: float = _ATTEMPT_S,
    ) -> Answer:
        headers = {"Content-Type": content_type, "Accept": accept}
        limit = aiohttp.ClientTimeout(total=timeout_s, sock_connect=_CONNECT_S)
        try:
            response = await self._respond(verb, path, headers, body, limit)
            text = bytes(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            said = str(error) or f"{type(error).__name__} after {timeout_s:.0f} s"
            self._found(False, said)
            return Answer(0, said.encode())
        self._found(True, "")
        try:
            retry_after_s = max(0, int(response.headers.get("Retry-After") or 0))
        except ValueError:
            retry_after_s = 0
        return Answer(int(response.status), text, retry_after_s)

    async def stream(self, path: str, *, longest_s: float) -> AsyncGenerator[Obj, None]:
        """The events of a watch until either side ends it; raises ApiError if the server will not begin."""
        limit = aiohttp.ClientTimeout(total=longest_s, sock_connect=_CONNECT_S)
        try:
            response = await self._respond("GET", path, {"Accept": JSON}, None, limit)
            if response.status != 200:
                raise Answer(int(response.status), bytes(await response.read())).error()
            try:
                async for line in response.response.content:
                    yield json.loads(line)
            finally:
                response.response.close()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(0, "NoAnswer", str(error) or type(error).__name__) from error

    async def _respond(self, verb: str, path: str, headers: dict[str, str], body: Obj | None, limit: Any) -> Any:
        request = await self._client.param_serialize(
            verb, path, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        return await self._client.call_api(*request, _request_timeout=limit)

    def _found(self, reachable: bool, why: str) -> None:
        if reachable != self._reachable:
            self._reachable = reachable
            if reachable:
                log.info("the API server answers again")
            else:
                log.warning("the API server does not answer", extra={"error": why})


class Bucket:
    """A token bucket whose rate halves on 429 and comes back over a minute. Pure: `take` says how long to wait.

    Requests that are under way together are refused together: that is one word of the server, and halves the rate once.
    """

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._full_rate, self._burst = rate, float(burst)
        self._rate, self._tokens, self._at = rate, float(burst), now
        self._halved_at = self._not_before = float("-inf")

    def take(self, now: float) -> float:
        elapsed, self._at = max(0.0, now - self._at), max(now, self._at)
        self._rate = min(self._full_rate, self._rate + self._full_rate * elapsed / 60)
        self._tokens = min(self._burst, self._tokens + elapsed * self._rate) - 1
        return self._at - now + (0.0 if self._tokens >= 0 else -self._tokens / self._rate)

    def closed_s(self, now: float) -> float:
        """For how long nothing must be sent at all."""
        return max(0.0, self._not_before - now)

    def slow_down(self, now: float, pause_s: float = 0.0) -> None:
        """The server has refused a request as one too many, and does not want another for `pause_s`."""
        if now - self._halved_at >= _HALVING_S:
            self._halved_at, self._rate = now, max(1.0, self._rate / 2)
        self._tokens = min(self._tokens, 0.0)
        self._not_before = max(self._not_before, now + pause_s)
        self._at = max(self._at, self._not_before)  # nothing runs in until then


@dataclass(slots=True)
class Cluster:
    """`writing_s` is asked before every write: for how long it may be on its way, 0 if it must not be sent at all.
    `jitter` gives numbers from 0 to 1."""

    connection: Connection
    metrics: Metrics
    bucket: Bucket
    clock: Callable[[], float]
    jitter: Callable[[], float]
    writing_s: Callable[[], float] = field(default=lambda: inf)
    _slots: asyncio.Semaphore = field(init=False, default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def apply(self, obj: Obj, *, manager: str, subresource: str = "", force: bool = True) -> Obj:
        """Server-side apply; answers with the object as it is now."""
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        key = Key(obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        return await self._request("PATCH", key, query, body=obj, content_type=_APPLY, subresource=subresource)

    async def merge(self, key: Key, body: Obj, *, manager: str) -> Obj | None:
        """Merge patch; answers with the object as it is now, None for one that has gone meanwhile.

        Not an apply where the object may be gone: that would try to create it (a 422 for a pod).
        """
        try:
            return await self._request("PATCH", key, {"fieldManager": manager}, body=body, content_type=_MERGE)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def get(self, key: Key) -> Obj | None:
        try:
            return await self._request("GET", key, {})
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def delete(self, key: Key, *, uid: str, resource_version: str) -> None:
        """Deletes just that object in just that version; one that is gone already is fine."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid, "resourceVersion": resource_version},
        }
        try:
            await self._request("DELETE", key, {}, body=body)
        except ApiError as error:
            if error.status != 404:
                raise

    async def create(self, obj: Obj) -> None:
        key = Key(obj["kind"], obj["metadata"]["namespace"], "")
        await self._request("POST", key, {}, body=obj)

    async def list_metadata(self, kind: str, namespace: str = "", selector: str = "") -> AsyncIterator[Obj]:
        """Name, uid and version of every object of a kind, in pages."""
        token = ""
        while True:
            query = {"limit": str(_PAGE)}
            if selector:
                query["labelSelector"] = selector
            if token:
                query["continue"] = token
            page = await self._request("GET", Key(kind, namespace, ""), query, accept=_METADATA_LIST)
            for item in page.get("items") or ():
                yield item
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return

    async def serves(self, group_version: str, plural: str) -> bool:
        """Whether the API server has such a resource now (discovery)."""
        prefix = "/apis/" if "/" in group_version else "/api/"
        try:
            found = await self._call("GET", prefix + group_version, "apis", None, JSON, JSON)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return any(resource.get("name") == plural for resource in found.get("resources") or ())

    async def _request(
        self,
        verb: str,
        key: Key,
        query: dict[str, str],
        *,
        body: Obj | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        subresource: str = "",
    ) -> Obj:
        path = path_of(key, subresource) + (f"?{urlencode(query)}" if query else "")
        return await self._call(verb, path, RESOURCES[key.kind][1], body, content_type, accept)

    async def _call(self, verb: str, path: str, resource: str, body: Obj | None, content_type: str, accept: str) -> Obj:
        began, budget = self.clock(), call_budget.get() or CallBudget()
        if began > budget.until:
            raise _not_tried()
        until = min(began + _PATIENCE_S, budget.until)
        try:
            for pause_s in (*_RETRIES_S, None):
                answer = await self._attempt(verb, path, resource, body, content_type, accept, until)
                if answer.good:
                    return answer.json()
                error = answer.error()
                # A creation that may have happened is not repeated; one that was refused unread may be.
                once = answer.status != 429 and (verb == "POST" or budget.hasty)
                if pause_s is None or once or not error.transient:
                    break
                pause_s = max(pause_s * (0.5 + self.jitter()), error.retry_after_s)
                if self.clock() + pause_s > until:
                    break
                await asyncio.sleep(pause_s)
        finally:
            budget.waited_s += self.clock() - began
        budget.hasty = budget.hasty or error.transient
        raise error

    async def _attempt(
        self, verb: str, path: str, resource: str, body: Obj | None, content_type: str, accept: str, until: float
    ) -> Answer:
        await self._turn(until)
        async with self._slots:  # each is free again after _ATTEMPT_S at the latest
            if self.clock() > until:
                raise _not_tried()
            timeout_s = _ATTEMPT_S if verb == "GET" else min(_ATTEMPT_S, self.writing_s())
            if timeout_s <= 0:
                raise NotLeaderError(f"{verb} {path}")
            answer = await self.connection.send(
                verb, path, body, content_type=content_type, accept=accept, timeout_s=timeout_s
            )
        self.metrics.api_requests.labels(verb, resource, str(answer.status)).inc()
        if answer.status == 429:
            self.bucket.slow_down(self.clock(), answer.error().retry_after_s)
        return answer

    async def _turn(self, until: float) -> None:
        """Waits for the bucket; while the server wants to be left alone beyond `until`, a refusal in its name."""
        while (closed_s := self.bucket.closed_s(self.clock())) + self.clock() <= until:
            if (wait_s := self.bucket.take(self.clock())) > 0:
                self.metrics.api_throttled.inc()
                await asyncio.sleep(wait_s)
            if self.bucket.closed_s(self.clock()) <= 0:
                return
        raise ApiError(429, "TooManyRequests", "the API server wants no requests for a while", retry_after_s=closed_s)


def _not_tried() -> ApiError:
    return ApiError(0, "NotTried", "not tried yet: the API server takes too long for the rest")


def path_of(key: Key, subresource: str = "") -> str:
    """An object's path, or its kind's in a namespace if it has no name."""
    version, plural = RESOURCES[key.kind]
    parts = ["", "api" if "/" not in version else "apis", version]
    if key.namespace:
        parts += ["namespaces", quote(key.namespace, safe="")]
    parts.append(plural)
    if key.name:
        parts.append(quote(key.name, safe=""))
    if subresource:
        parts.append(subresource)
    return "/".join(parts)
