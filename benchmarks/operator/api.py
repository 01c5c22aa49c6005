"""A small client of the API server for the parts that the measurement itself plays. Used by all modules here."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp

Obj = dict[str, Any]

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
# Plural -> group and version of what is measured or played.
GROUPS = {
    "auralinkbridges": "auralink.io/v1alpha1",
    "roompolicies": "auralink.io/v1alpha1",
    "deployments": "apps/v1",
    "roles": "rbac.authorization.k8s.io/v1",
    "rolebindings": "rbac.authorization.k8s.io/v1",
    "clusterroles": "rbac.authorization.k8s.io/v1",
    "clusterrolebindings": "rbac.authorization.k8s.io/v1",
    "endpointslices": "discovery.k8s.io/v1",
    "poddisruptionbudgets": "policy/v1",
    "networkpolicies": "networking.k8s.io/v1",
    "horizontalpodautoscalers": "autoscaling/v2",
    "customresourcedefinitions": "apiextensions.k8s.io/v1",
}


class Refused(Exception):  # noqa: N818 - what the API server did
    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


def path_of(plural: str, namespace: str = "", name: str = "", subresource: str = "") -> str:
    version = GROUPS.get(plural, "v1")
    parts = ["", "apis" if "/" in version else "api", version]
    parts += ["namespaces", namespace] if namespace else []
    return "/".join([*parts, plural, *filter(None, (name, subresource))])


@dataclass(slots=True)
class Api:
    """One identity, known in the audit log by its user and its agent."""

    session: aiohttp.ClientSession
    base: str
    token: str
    agent: str

    def _headers(self, content_type: str = "application/json") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "User-Agent": self.agent, "Content-Type": content_type}

    async def call(self, verb: str, path: str, body: Obj | None = None, content_type: str = "application/json") -> Obj:
        data = None if body is None else json.dumps(body)
        headers = self._headers(content_type)
        async with self.session.request(verb, self.base + path, data=data, headers=headers, ssl=False) as answer:
            found: Obj = json.loads(await answer.read())
            if answer.status >= 300:
                raise Refused(answer.status, str(found.get("message")))
            return found

    async def create(self, plural: str, obj: Obj) -> Obj:
        return await self.call("POST", path_of(plural, obj["metadata"].get("namespace", "")), obj)

    async def apply(self, plural: str, obj: Obj, manager: str, subresource: str = "") -> Obj:
        meta = obj["metadata"]
        query = urlencode({"fieldManager": manager, "force": "true"})
        path = path_of(plural, meta.get("namespace", ""), meta["name"], subresource)
        return await self.call("PATCH", f"{path}?{query}", obj, APPLY)

    async def merge(self, plural: str, namespace: str, name: str, patch: Obj, subresource: str = "") -> Obj:
        return await self.call("PATCH", path_of(plural, namespace, name, subresource), patch, MERGE)

    async def delete(self, plural: str, namespace: str, name: str) -> None:
        await self.call("DELETE", path_of(plural, namespace, name))

    async def get(self, plural: str, namespace: str, name: str) -> Obj:
        return await self.call("GET", path_of(plural, namespace, name))

    async def list(self, plural: str, namespace: str = "", selector: str = "") -> tuple[list[Obj], str]:
        """All objects in pages, and the version to watch from."""
        items: list[Obj] = []
        query = {"limit": "500", **({"labelSelector": selector} if selector else {})}
        while True:
            page = await self.call("GET", f"{path_of(plural, namespace)}?{urlencode(query)}")
            items += page["items"]
            if not (token := page["metadata"].get("continue")):
                return items, page["metadata"]["resourceVersion"]
            query["continue"] = token

    async def watch(self, plural: str, selector: str = "") -> AsyncIterator[tuple[str, Obj]]:
        """What is there, as ADDED, then every event. A watch that ends (the server drops readers that lag) begins anew
        with a list; what went in between is told as DELETED."""
        known: dict[str, Obj] = {}
        while True:
            items, version = await self.list(plural, selector=selector)
            there = {item["metadata"]["uid"] for item in items}
            for uid in known.keys() - there:
                yield "DELETED", known.pop(uid)
            for item in items:
                known[item["metadata"]["uid"]] = item
                yield "ADDED", item
            async for event, obj in self._events(plural, selector, version):
                if event == "ERROR":
                    break
                if event == "DELETED":
                    known.pop(obj["metadata"]["uid"], None)
                else:
                    known[obj["metadata"]["uid"]] = obj
                yield event, obj

    async def _events(self, plural: str, selector: str, version: str) -> AsyncIterator[tuple[str, Obj]]:
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "7200"}
        query |= {"labelSelector": selector} if selector else {}
        url = f"{self.base}{path_of(plural)}?{urlencode(query)}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with self.session.get(url, headers=self._headers(), ssl=False, timeout=timeout) as answer:
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    yield event["type"], event["object"]


@asynccontextmanager
async def connected(base: str, token: str, agent: str, connections: int = 32) -> AsyncIterator[Api]:
    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield Api(session, base, token, agent)
