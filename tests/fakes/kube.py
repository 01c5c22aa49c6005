"""An API server in memory, for the operator's reconcile: as much of apply, deletion and versions as it uses.

`store` is what an index would hold after every event; `lag` freezes it, as a slow watch does. Failures are queued per
verb. The real one is held to the same promises in tests/integration/test_operator_bridge.py.
"""

import copy
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from auralink_operator.cluster import ApiError
from auralink_operator.index import Key, Obj, entries, key_of


class FakeCluster:
    def __init__(self, *objects: Obj) -> None:
        self.objects: dict[Key, Obj] = {key_of(obj): copy.deepcopy(obj) for obj in objects}
        self.calls: list[tuple[str, Key]] = []
        self.failures: dict[str, list[ApiError]] = {}
        self.version = 100
        self.frozen: dict[Key, Obj] | None = None
        self.before_apply: Callable[[Obj], None] = lambda _: None

    # --- the watch's side ---

    @property
    def seen(self) -> dict[Key, Obj]:
        return self.objects if self.frozen is None else self.frozen

    def lag(self) -> None:
        self.frozen = copy.deepcopy(self.objects)

    def catch_up(self) -> None:
        self.frozen = None

    # --- the operator's side ---

    def _answer(self, verb: str, key: Key) -> None:
        self.calls.append((verb, key))
        if waiting := self.failures.get(verb):
            raise waiting.pop(0)

    async def apply(self, obj: Obj, *, manager: str, subresource: str = "", force: bool = True) -> Obj:
        key = key_of(obj)
        self._answer("status" if subresource else "apply", key)
        self.before_apply(obj)
        if subresource:
            return self._apply_status(key, obj, manager)
        old = self.objects.get(key)
        if old is not None and all(old.get(part) == value for part, value in obj.items() if part != "metadata"):
            self.objects[key] = {**old, "metadata": {**old["metadata"], **copy.deepcopy(obj["metadata"])}}
            return self.objects[key]
        self.version += 1
        meta = {**(old or {"metadata": {"uid": f"uid-{key.kind}-{key.name}"}})["metadata"], **obj["metadata"]}
        meta["resourceVersion"] = str(self.version)
        self.objects[key] = {**(old or {}), **copy.deepcopy(obj), "metadata": copy.deepcopy(meta)}
        return self.objects[key]

    def _apply_status(self, key: Key, obj: Obj, manager: str) -> Obj:
        live = self.objects.get(key)
        if live is None:
            raise ApiError(404, "NotFound", f"{key} not found")
        pods = [pod for pod in live["status"].get("pods", []) if f"auralink-pod.{pod['name']}" != manager]
        status = obj.get("status") if not manager.startswith("auralink-pod.") else live["status"]
        self.version += 1
        live["status"] = {**(status or {}), **({"pods": pods} if pods else {})}
        if not pods:
            live["status"].pop("pods", None)
        live["metadata"]["resourceVersion"] = str(self.version)
        return live

    async def get(self, key: Key) -> Obj | None:
        self._answer("get", key)
        return self.objects.get(key)

    async def delete(self, key: Key, *, uid: str, resource_version: str) -> None:
        self._answer("delete", key)
        live = self.objects[key]
        assert (live["metadata"]["uid"], live["metadata"]["resourceVersion"]) == (uid, resource_version)
        del self.objects[key]

    async def create(self, obj: Obj) -> None:
        self._answer("create", Key(obj["kind"], obj["metadata"]["namespace"], obj["reason"]))

    async def list_metadata(self, kind: str, namespace: str = "", selector: str = "") -> AsyncIterator[Obj]:
        self._answer("list", Key(kind, namespace, ""))
        for obj in list(self.objects.values()):
            if obj["kind"] == kind:
                yield obj


class LiveStore(dict[Any, Any]):
    """The index over a fake: made anew at each look, so that it is never behind unless the fake lags."""

    def __init__(self, cluster: FakeCluster) -> None:
        super().__init__()
        self._cluster = cluster

    def _built(self) -> dict[Any, list[Obj]]:
        found: dict[Any, list[Obj]] = {}
        for obj in copy.deepcopy(list(self._cluster.seen.values())):
            for key, small in entries(obj).items():
                found.setdefault(key, []).append(small)
        return found

    def __contains__(self, key: object) -> bool:
        return key in self._built()

    def __getitem__(self, key: Any) -> Iterable[Obj]:
        return self._built()[key]

    def __iter__(self) -> Any:
        return iter(self._built())
