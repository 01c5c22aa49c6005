"""An API server in memory, for the operator's reconcile: server-side apply, versions, deletion, as far as it uses them.

`store` is what an index would hold after every event; `lag` freezes it, as a slow watch does. Failures are queued per
verb. tests/unit/operator/cluster_promises.py holds it to what the real server does.
"""

import copy
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from auralink_operator.cluster import ApiError
from auralink_operator.index import Held, Key, Obj, Store, held, key_of

# Lists that are maps or sets to the server: an apply merges their items. Every other list is replaced as a whole.
_ITEM_KEYS = {
    "conditions": "type",
    "containers": "name",
    "env": "name",
    "matchedBridges": "name",
    "appliedPolicies": "name",
    "ownerReferences": "uid",
    "pods": "name",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
_SETS = ("finalizers",)


class FakeCluster:
    def __init__(self, *objects: Obj) -> None:
        self.objects: dict[Key, Obj] = {key_of(obj): copy.deepcopy(obj) for obj in objects}
        self.applied: dict[tuple[Key, str, str], Obj] = {}  # by object, manager and subresource
        self.calls: list[tuple[str, Key]] = []
        self.failures: dict[str, list[ApiError]] = {}
        self.version = 100
        self.frozen: dict[Key, Obj] | None = None
        self.shows: Callable[[Obj], bool] = lambda _: True  # what the watches select
        self.before_apply: Callable[[Obj], None] = lambda _: None
        self.after_apply: Callable[[Obj], None] = lambda _: None

    # --- the watch's side ---

    @property
    def seen(self) -> dict[Key, Obj]:
        there = self.objects if self.frozen is None else self.frozen
        return {key: obj for key, obj in there.items() if self.shows(obj)}

    def lag(self) -> None:
        self.frozen = copy.deepcopy(self.objects)

    def catch_up(self) -> None:
        self.frozen = None

    # --- others' hands ---

    def put(self, *objects: Obj) -> None:
        for obj in objects:
            self.objects[key_of(obj)] = self._new_version(copy.deepcopy(obj))

    def change(self, key: Key, patch: Obj) -> None:
        """A merge patch by somebody else."""
        live = self.objects[key]
        self.objects[key] = self._changed(live, merged(live, patch))

    def scale(self, key: Key, replicas: int, manager: str = "kube-controller-manager") -> None:
        """What an autoscaler does: the field is its own from then on."""
        for (of, _, _), body in self.applied.items():
            if of == key:
                (body.get("spec") or {}).pop("replicas", None)
        self.applied[key, manager, ""] = {"spec": {"replicas": replicas}}
        self.change(key, {"spec": {"replicas": replicas}})
        self._show_managers(key)

    def report(self, key: Key, entry: Obj) -> None:
        """What a pod says of itself in its bridge's status."""
        body = {"status": {"pods": [entry]}}
        self._server_side(key, self.objects[key], body, f"auralink-pod.{entry['name']}", "status")

    def delete_now(self, key: Key) -> None:
        """As `kubectl delete`: what has a finalizer stays and is marked."""
        live = self.objects[key]
        if live["metadata"].get("finalizers"):
            self.change(key, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
        else:
            self._gone(key)

    def _gone(self, key: Key) -> None:
        del self.objects[key]
        self.applied = {owner: body for owner, body in self.applied.items() if owner[0] != key}

    # --- the operator's side ---

    def _answer(self, verb: str, key: Key) -> None:
        self.calls.append((verb, key))
        if waiting := self.failures.get(verb):
            raise waiting.pop(0)

    async def apply(self, obj: Obj, *, manager: str, subresource: str = "", force: bool = True) -> Obj:
        key = key_of(obj)
        self._answer("status" if subresource else "apply", key)
        self.before_apply(obj)
        live = self.objects.get(key)
        if live is None and subresource:
            raise ApiError(404, "NotFound", f"{key} not found")
        uid = None if subresource else obj["metadata"].get("uid")
        if live is None and uid is not None:
            raise ApiError(409, "Conflict", f"uid mismatch: there is no {key} with {uid}")
        if live is not None and uid not in (None, live["metadata"]["uid"]):
            raise ApiError(422, "Invalid", "metadata.uid: field is immutable")
        body = {"status": obj.get("status") or {}} if subresource else _without(obj, "status")
        found = self._server_side(key, live, copy.deepcopy(body), manager, subresource)
        self.after_apply(found)
        return copy.deepcopy(found)

    def _server_side(self, key: Key, live: Obj | None, body: Obj, manager: str, subresource: str) -> Obj:
        mine = (key, manager, subresource)
        before = self.applied.get(mine) or {}
        others = [tree for owner, tree in self.applied.items() if owner[0] == key and owner != mine]
        self.applied[mine] = body
        if live is None:
            # Another each time: what comes back under a name is not what was there before.
            uid = f"uid-{key.kind}-{key.name}-{self.version + 1}"
            fresh = {**body, "metadata": {"generation": 1, **body["metadata"], "uid": uid}}
            self.objects[key] = self._new_version(fresh)
        else:
            kept = _pruned(copy.deepcopy(live), before, body, others)
            self.objects[key] = self._changed(live, laid_over(kept, body))
        self._show_managers(key)
        return self.objects[key]

    def _changed(self, old: Obj, new: Obj) -> Obj:
        """The object under a new version, and a new generation if its spec is another, or the annotations of a
        Deployment; the old one if nothing is."""
        if old == new:
            return old
        noted = [obj["metadata"].get("annotations") if obj["kind"] == "Deployment" else None for obj in (old, new)]
        if old.get("spec") != new.get("spec") or noted[0] != noted[1]:
            new["metadata"]["generation"] = int(old["metadata"].get("generation") or 0) + 1
        return self._new_version(new)

    def _new_version(self, obj: Obj) -> Obj:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        return obj

    def _show_managers(self, key: Key) -> None:
        self.objects[key]["metadata"]["managedFields"] = [
            {"manager": manager, "subresource": subresource, "fieldsV1": _fields_of(body)}
            for (of, manager, subresource), body in self.applied.items()
            if of == key
        ]

    async def merge(self, key: Key, body: Obj, *, manager: str) -> Obj | None:
        self._answer("merge", key)
        live = self.objects.get(key)
        if live is None:
            return None
        expected = body.get("metadata", {}).get("resourceVersion")
        if expected not in (None, live["metadata"]["resourceVersion"]):
            raise ApiError(409, "Conflict", "the object has been modified")
        new = self._changed(live, merged(live, body))
        self.objects[key] = new
        if "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers"):
            self._gone(key)
        return copy.deepcopy(new)

    async def get(self, key: Key) -> Obj | None:
        self._answer("get", key)
        return copy.deepcopy(self.objects.get(key))

    async def delete(self, key: Key, *, uid: str, resource_version: str) -> None:
        self._answer("delete", key)
        live = self.objects.get(key)
        if live is None:
            return
        if (live["metadata"]["uid"], live["metadata"]["resourceVersion"]) != (uid, resource_version):
            raise ApiError(409, "Conflict", "the preconditions do not hold")
        self.delete_now(key)

    async def create(self, obj: Obj) -> None:
        self._answer("create", Key(obj["kind"], obj["metadata"]["namespace"], obj["reason"]))

    async def list_metadata(self, kind: str, namespace: str = "", selector: str = "") -> AsyncIterator[Obj]:
        self._answer("list", Key(kind, namespace, ""))
        for obj in list(self.objects.values()):
            if obj["kind"] == kind:
                yield obj

    async def serves(self, group_version: str, plural: str) -> bool:
        return True


def _without(obj: Obj, *names: str) -> Obj:
    return {name: value for name, value in obj.items() if name not in names}


def merged(live: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    found = copy.deepcopy(live) if isinstance(live, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


def laid_over(live: Any, body: Any, field: str = "") -> Any:
    """What an apply makes of a value, removals apart."""
    if isinstance(body, dict) and isinstance(live, dict):
        return {**live, **{name: laid_over(live.get(name), value, name) for name, value in body.items()}}
    if field in _SETS and isinstance(live, list):
        return [*live, *(item for item in body if item not in live)]
    if (key := _ITEM_KEYS.get(field)) and isinstance(live, list):
        return _in_order(live, [laid_over(_by(live, key).get(item[key]), item) for item in body], key)
    return copy.deepcopy(body)


def _pruned(live: Any, before: Any, now: Any, others: Iterable[Any], field: str = "") -> Any:
    """Without what a manager applied before and does not now, unless somebody else applies it."""
    others = [tree for tree in others if tree is not None]
    if isinstance(before, dict) and isinstance(live, dict):
        return {
            name: value for name, old in live.items() if (value := _left(old, before, now, others, name)) is not None
        }
    if field in _SETS and isinstance(live, list):
        gone = set(before or ()) - set(now or ())
        return [item for item in live if item not in gone or any(item in tree for tree in others)]
    if (key := _ITEM_KEYS.get(field)) and isinstance(live, list):
        trees = [_by(before, key), _by(now, key), *(_by(tree, key) for tree in others)]
        items = ((item[key], item) for item in live)
        found = (_left(item, trees[0], trees[1], trees[2:], name) for name, item in items)
        return [item for item in found if item is not None]
    return live


def _left(value: Any, before: Any, now: Any, others: Iterable[Any], name: Any) -> Any:
    """What remains of a field or item; None for nothing."""
    now = now if isinstance(now, dict) else {}
    trees = [tree.get(name) for tree in others if isinstance(tree, dict)]
    if name not in before:
        return value
    if name not in now and not any(tree is not None for tree in trees) and not isinstance(value, dict):
        if name in _ITEM_KEYS or name in _SETS:
            return _pruned(value, before[name], None, trees, name) or None
        return None
    if name not in now and isinstance(value, dict):
        return _pruned(value, before[name], {}, trees) or None
    return _pruned(value, before[name], now.get(name), trees, str(name))


def _in_order(live: list[Any], body: list[Any], key: str) -> list[Any]:
    """Items as they were applied; others before the one that they stood before."""
    found: list[Any] = []
    rest = list(body)
    for item in live:
        if item[key] not in _by(body, key):
            found.append(item)
        while item[key] in _by(rest, key):
            found.append(rest.pop(0))
    return [*found, *rest]


def _by(items: Any, key: str) -> dict[Any, Any]:
    return {item[key]: item for item in items or ()}


def _fields_of(body: Any) -> dict[str, Any]:
    """The fieldsV1 of maps; what is within lists is not told apart."""
    if not isinstance(body, dict):
        return {}
    return {f"f:{name}": _fields_of(value) for name, value in body.items()}


class LiveStore(Store):
    """The index over a fake: made anew at each look, so that it is never behind unless the fake lags."""

    def __init__(self, cluster: FakeCluster) -> None:
        super().__init__(lambda: 0.0)
        self._cluster = cluster

    def _of(self, *kinds: str) -> list[Held]:
        return [held(obj) for key, obj in self._cluster.seen.items() if not kinds or key.kind in kinds]

    def put(self, obj: Mapping[str, Any]) -> None:
        if self._cluster.frozen is not None:
            self._cluster.frozen[key_of(obj)] = copy.deepcopy(dict(obj))

    def __len__(self) -> int:
        return len(self._cluster.seen)

    def get(self, key: Key) -> Held | None:
        obj = self._cluster.seen.get(key)
        return None if obj is None else held(obj)

    def of_bridge(self, namespace: str, bridge: str, kind: str = "") -> list[Held]:
        return [
            one for one in self._of(*filter(None, (kind,))) if (one.key.namespace, one.bridge) == (namespace, bridge)
        ]

    def of_namespace(self, kind: str, namespace: str) -> list[Held]:
        return [one for one in self._of(kind) if one.key.namespace == namespace]

    def of_kind(self, kind: str) -> list[Held]:
        return self._of(kind)
