"""What a pod asks of Kubernetes: the one ConfigMap it may read, and its own entry in the bridge's status."""

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_incluster_config

from auralink_dataplane.backoff import backoff

log = logging.getLogger(__name__)

WATCH_S: Final = 300
"""A watch ends after so long and the ConfigMap is read again, in case an event was lost."""
REQUEST_TIMEOUT_S: Final = 10.0
RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 30.0
FIELD_MANAGER: Final = "auralink-pod."


class ApiError(OSError):
    """The API server answered, and refused."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class KubernetesApi:
    def __init__(self, configuration: Configuration, *, namespace: str, bridge: str, pod: str, config_map: str) -> None:
        self._client = ApiClient(configuration)
        self._namespace = namespace
        self._bridge = bridge
        self._pod = pod
        self._config_map = config_map

    @classmethod
    def in_cluster(cls, *, namespace: str, bridge: str, pod: str, config_map: str) -> "KubernetesApi":
        configuration = Configuration()
        load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        return cls(configuration, namespace=namespace, bridge=bridge, pod=pod, config_map=config_map)

    async def close(self) -> None:
        await self._client.close()  # type: ignore[no-untyped-call]

    # --- configuration --------------------------------------------------------------------------------------

    async def config_maps(self) -> AsyncIterator[dict[str, str] | None]:
        """The ConfigMap's data now and after every change; None while it does not exist. Never ends: without the API
        it retries, and the caller keeps the last it got."""
        failures = 0
        while True:
            try:
                async for data in self._read_and_watch():
                    failures = 0
                    yield data
            except (OSError, aiohttp.ClientError, TimeoutError, ValueError) as error:
                if not failures:
                    log.warning("configuration cannot be watched", extra={"error": str(error) or type(error).__name__})
                failures += 1
                jitter = random.random()  # noqa: S311 - spreads the pods
                await asyncio.sleep(backoff(failures, RETRY_FIRST_S, RETRY_MAX_S, jitter))

    async def _read_and_watch(self) -> AsyncIterator[dict[str, str] | None]:
        path = f"/api/v1/namespaces/{self._namespace}/configmaps"
        found: dict[str, Any] | None
        try:
            found = await self._call("GET", f"{path}/{self._config_map}")
            version = found["metadata"]["resourceVersion"]
        except ApiError as error:
            if error.status != 404:
                raise
            listed = await self._call("GET", path, self._by_name())
            found, version = None, listed["metadata"]["resourceVersion"]
        yield None if found is None else found.get("data") or {}
        query = [*self._by_name(), ("watch", "true"), ("resourceVersion", version), ("timeoutSeconds", str(WATCH_S))]
        async for event in self._stream(path, query):
            match event.get("type"):
                case "ADDED" | "MODIFIED":
                    yield event["object"].get("data") or {}
                case "DELETED":
                    yield None
                case "ERROR":
                    return  # mostly 410 Gone: read again

    def _by_name(self) -> list[tuple[str, str]]:
        return [("fieldSelector", f"metadata.name={self._config_map}")]

    async def _stream(self, path: str, query: list[tuple[str, str]]) -> AsyncIterator[dict[str, Any]]:
        timeout = aiohttp.ClientTimeout(sock_connect=5, sock_read=WATCH_S + 30)
        response = await self._request("GET", path, query, timeout=timeout)
        try:
            async for line in response.content:
                if line.strip():
                    yield json.loads(line)
        finally:
            response.close()

    # --- status ---------------------------------------------------------------------------------------------

    async def apply_pod_entry(self, entry: Mapping[str, Any] | None) -> None:
        """By server-side apply under this pod's own field manager. None applies nothing, which removes what the manager
        owned; a bridge that is gone already is fine then."""
        body: dict[str, Any] = {
            "apiVersion": "auralink.io/v1alpha1",
            "kind": "AuraLinkBridge",
            "metadata": {"name": self._bridge, "namespace": self._namespace},
        }
        if entry is not None:
            body["status"] = {"pods": [dict(entry)]}
        path = f"/apis/auralink.io/v1alpha1/namespaces/{self._namespace}/auralinkbridges/{self._bridge}/status"
        query = [("fieldManager", FIELD_MANAGER + self._pod), ("force", "true")]
        try:
            await self._call("PATCH", path, query, body)
        except ApiError as error:
            if entry is not None or error.status != 404:
                raise
        except aiohttp.ClientError as error:
            raise OSError(str(error)) from error

    # --- requests -------------------------------------------------------------------------------------------

    async def _call(
        self, method: str, path: str, query: list[tuple[str, str]] | None = None, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        response = await self._request(method, path, query or [], body, timeout=timeout)
        try:
            return dict(json.loads(await response.read()))
        except ValueError as error:  # a proxy before the API server
            raise ApiError(response.status, "the answer is not JSON") from error
        finally:
            response.release()

    async def _request(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]],
        body: dict[str, Any] | None = None,
        *,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own, for connect and read apart
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/apply-patch+yaml"
        serialized = await self._client.param_serialize(
            method, path, query_params=query, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        answer = await self._client.call_api(*serialized, _request_timeout=timeout)
        response: aiohttp.ClientResponse = answer.response
        if response.status >= 300:
            text = (await response.content.read(4096)).decode(errors="replace")
            response.close()
            raise ApiError(response.status, text)
        return response
