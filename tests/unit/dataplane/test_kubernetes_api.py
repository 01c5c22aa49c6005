"""What a pod asks of Kubernetes, against a small API server that speaks as the real one does."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from auralink_dataplane.adapters import kubernetes_api
from auralink_dataplane.adapters.kubernetes_api import ApiError, KubernetesApi
from kubernetes.aio.client import Configuration

CONFIG = "/api/v1/namespaces/ns/configmaps"
STATUS = "/apis/auralink.io/v1alpha1/namespaces/ns/auralinkbridges/b/status"


class ApiServer:
    """One ConfigMap, one bridge."""

    def __init__(self) -> None:
        self.data: dict[str, str] | None = {"config.json": "1"}
        self.version = 1
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.watches: list[dict[str, str]] = []
        self.applied: list[tuple[dict[str, str], str, Any]] = []
        self.status_code = 200
        self.broken = 0
        self.garbled = False
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        application = web.Application()
        application.add_routes(
            [web.get(CONFIG + "/cm", self._get), web.get(CONFIG, self._list_or_watch), web.patch(STATUS, self._patch)]
        )
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        assert self._runner
        await self._runner.cleanup()

    def _object(self) -> dict[str, Any]:
        return {"metadata": {"name": "cm", "resourceVersion": str(self.version)}, "data": self.data}

    def change(self, kind: str, data: dict[str, str] | None) -> None:
        self.version += 1
        self.data = data
        self.events.put_nowait({"type": kind, "object": self._object()})

    async def _get(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "bearer t0ken"
        if self.broken:
            self.broken -= 1
            return web.Response(status=503, text="later")
        if self.data is None:
            return web.json_response({"kind": "Status", "code": 404}, status=404)
        return web.json_response(self._object())

    async def _list_or_watch(self, request: web.Request) -> web.StreamResponse:
        assert request.query["fieldSelector"] == "metadata.name=cm"
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": []})
        self.watches.append(dict(request.query))
        response = web.StreamResponse()
        await response.prepare(request)
        while (event := await self.events.get())["type"] != "cut":
            await response.write(json.dumps(event).encode() + b"\n")
        return response

    async def _patch(self, request: web.Request) -> web.Response:
        if self.garbled:
            return web.Response(text="<html>")
        self.applied.append((dict(request.query), request.headers["Content-Type"], json.loads(await request.text())))
        return web.json_response({"message": "no"} if self.status_code >= 300 else {}, status=self.status_code)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    one = ApiServer()
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
async def api(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubernetesApi]:
    monkeypatch.setattr(kubernetes_api, "RETRY_FIRST_S", 0.01)
    configuration = Configuration(host=server.url, api_key={"BearerToken": "bearer t0ken"})
    one = KubernetesApi(configuration, namespace="ns", bridge="b", pod="p-1", config_map="cm")
    yield one
    await one.close()


async def following(api: KubernetesApi) -> AsyncIterator[dict[str, str] | None]:
    async with asyncio.timeout(5):
        async for data in api.config_maps():
            yield data


async def test_the_configmap_is_read_and_watched_by_name(server: ApiServer, api: KubernetesApi) -> None:
    found = following(api)
    assert await anext(found) == {"config.json": "1"}
    server.change("MODIFIED", {"config.json": "2"})
    assert await anext(found) == {"config.json": "2"}
    assert server.watches[0]["resourceVersion"] == "1"
    server.change("DELETED", None)
    assert await anext(found) is None
    server.change("ADDED", {"config.json": "3"})
    assert await anext(found) == {"config.json": "3"}


async def test_a_configmap_that_is_not_there_yet_is_waited_for(server: ApiServer, api: KubernetesApi) -> None:
    server.data = None
    found = following(api)
    assert await anext(found) is None
    server.change("ADDED", {"a": "b"})
    assert await anext(found) == {"a": "b"}


@pytest.mark.parametrize("event", ["cut", "ERROR"])
async def test_the_end_of_a_watch_is_a_new_read(server: ApiServer, api: KubernetesApi, event: str) -> None:
    found = following(api)
    await anext(found)
    server.data = {"config.json": "missed"}
    server.events.put_nowait({"type": event, "object": {"code": 410}})
    if event == "ERROR":
        server.events.put_nowait({"type": "cut"})
    assert await anext(found) == {"config.json": "missed"}


async def test_an_api_server_that_fails_is_asked_again(
    server: ApiServer, api: KubernetesApi, caplog: pytest.LogCaptureFixture
) -> None:
    server.broken = 3
    assert await anext(following(api)) == {"config.json": "1"}
    assert [one.levelname for one in caplog.records if one.name.startswith("auralink")] == ["WARNING"]


async def test_the_entry_is_applied_under_the_pods_own_manager(server: ApiServer, api: KubernetesApi) -> None:
    await api.apply_pod_entry({"name": "p-1", "phase": "Serving"})
    [(query, content_type, body)] = server.applied
    assert query == {"fieldManager": "auralink-pod.p-1", "force": "true"}
    assert content_type == "application/apply-patch+yaml"
    assert body["status"] == {"pods": [{"name": "p-1", "phase": "Serving"}]}
    assert body["metadata"] == {"name": "b", "namespace": "ns"}


async def test_removal_is_an_apply_without_status(server: ApiServer, api: KubernetesApi) -> None:
    await api.apply_pod_entry(None)
    assert "status" not in server.applied[0][2]
    server.status_code = 404
    await api.apply_pod_entry(None)  # the bridge is gone: so is the entry


async def test_refusals_carry_status_and_words(server: ApiServer, api: KubernetesApi) -> None:
    server.status_code = 403
    with pytest.raises(ApiError, match="no") as caught:
        await api.apply_pod_entry({"name": "p-1"})
    assert caught.value.status == 403


async def test_an_answer_that_is_not_json_is_a_refusal(server: ApiServer, api: KubernetesApi) -> None:
    server.garbled = True
    with pytest.raises(ApiError, match="not JSON"):
        await api.apply_pod_entry({"name": "pod"})


async def test_an_unreachable_api_server_is_an_oserror(server: ApiServer, api: KubernetesApi) -> None:
    await server.stop()
    with pytest.raises(OSError):  # noqa: PT011 - whatever the system says
        await api.apply_pod_entry({"name": "p-1"})
    await server.start()
