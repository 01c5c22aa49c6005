"""The only module that calls Kubernetes (kopf's watches apart): plain dicts over the asyncio client of `kubernetes`.

Writes are server-side applies. A token bucket keeps the operator polite, and is halved when the server says 429.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import client as kube
from kubernetes.aio import config as kube_config

from auralink_operator.index import RESOURCES, Key, Obj
from auralink_operator.metrics import Metrics

_APPLY = "application/apply-patch+yaml"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
_RETRIES_S = (0.2, 0.5, 1.0)
_PAGE = 500


class ApiError(Exception):
    """An answer that is no success; status 0 stands for no answer at all."""

    def __init__(self, status: int, reason: str, message: str, causes: tuple[str, ...] = ()) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message, self.causes = status, reason, message, causes

    @property
    def transient(self) -> bool:
        return self.status in (0, 408, 429) or self.status >= 500


class Bucket:
    """A token bucket whose rate halves on 429 and comes back over a minute. Pure: `take` says how long to wait."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._full_rate, self._burst = rate, float(burst)
        self._rate, self._tokens, self._at = rate, float(burst), now

    def take(self, now: float) -> float:
        elapsed, self._at = max(0.0, now - self._at), max(now, self._at)
        self._rate = min(self._full_rate, self._rate + self._full_rate * elapsed / 60)
        self._tokens = min(self._burst, self._tokens + elapsed * self._rate) - 1
        return 0.0 if self._tokens >= 0 else -self._tokens / self._rate

    def slow_down(self) -> None:
        self._rate = max(1.0, self._rate / 2)
        self._tokens = min(self._tokens, 0.0)


class Cluster:
    def __init__(self, client: Any, metrics: Metrics, bucket: Bucket, clock: Callable[[], float]) -> None:
        self._client = client
        self._metrics = metrics
        self._bucket = bucket
        self._clock = clock

    @classmethod
    async def connect(
        cls, metrics: Metrics, qps: float, burst: int, clock: Callable[[], float], kubeconfig: str = ""
    ) -> "Cluster":
        """A client as the pod's service account, or outside a cluster as the kubeconfig says (default: ~/.kube)."""
        configuration = kube.Configuration()
        try:
            kube_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except kube_config.ConfigException:
            await kube_config.load_kube_config(kubeconfig or None, client_configuration=configuration)  # type: ignore[no-untyped-call]
        client = kube.ApiClient(configuration)
        client.user_agent = "auralink-operator"
        return cls(client, metrics, Bucket(qps, burst, clock()), clock)

    async def close(self) -> None:
        await self._client.close()

    async def apply(self, obj: Obj, *, manager: str, subresource: str = "", force: bool = True) -> Obj:
        """Server-side apply; answers with the object as it is now."""
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        key = Key(obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        return await self._request("PATCH", key, query, body=obj, content_type=_APPLY, subresource=subresource)

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

    async def _request(
        self,
        verb: str,
        key: Key,
        query: dict[str, str],
        *,
        body: Obj | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        subresource: str = "",
    ) -> Obj:
        path = _path(key, subresource) + (f"?{urlencode(query)}" if query else "")
        headers = {"Content-Type": content_type, "Accept": accept}
        for pause_s in (*_RETRIES_S, None):
            if (wait_s := self._bucket.take(self._clock())) > 0:
                await asyncio.sleep(wait_s)
            status, text, retry_after = await self._once(verb, path, headers, body)
            self._metrics.api_requests.labels(verb, RESOURCES[key.kind][1], str(status)).inc()
            if 200 <= status < 300:
                answer = json.loads(text)
                return answer if isinstance(answer, dict) else {}
            error = _error(status, text)
            if status == 429:
                self._bucket.slow_down()
            if not error.transient or pause_s is None or verb == "POST":
                raise error
            await asyncio.sleep(max(pause_s, min(retry_after, 30.0)))
        raise AssertionError("the last pause is None")

    async def _once(self, verb: str, path: str, headers: dict[str, str], body: Obj | None) -> tuple[int, bytes, float]:
        try:
            request = await self._client.param_serialize(
                verb, path, header_params=dict(headers), body=body, auth_settings=["BearerToken"]
            )
            response = await self._client.call_api(*request, _request_timeout=_TIMEOUT)
            text = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return 0, str(error or type(error).__name__).encode(), 0.0
        try:
            retry_after = float(response.headers.get("Retry-After") or 0)
        except ValueError:
            retry_after = 0.0
        return int(response.status), bytes(text), retry_after


def _path(key: Key, subresource: str) -> str:
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


def _error(status: int, text: bytes) -> ApiError:
    try:
        answer = json.loads(text)
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    causes = (answer.get("details") or {}).get("causes") or ()
    return ApiError(
        status,
        str(answer.get("reason") or "NoAnswer" if status == 0 else answer.get("reason") or ""),
        str(answer.get("message") or text[:500].decode(errors="replace")),
        tuple(str(cause.get("reason") or "") for cause in causes),
    )
