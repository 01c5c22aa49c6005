"""What the watches know: slim copies of objects, and the two corrections that make them safe to decide on.

`handlers` fills the `Store` (kopf's own index takes ten times the memory), `reconcile` reads it through `observe`. A
watch cache has two flaws. It lags behind our own writes: `Expectations` holds a key back until the index shows them.
And after a relist kopf keeps what vanished meanwhile: `Ghosts` hides such objects until they are seen again.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from json import JSONDecodeError, dumps, loads
from sys import intern
from typing import Any, NamedTuple
from zlib import compress, decompress

Obj = dict[str, Any]

BRIDGE, POLICY, POD, NODE, SERVICE_MONITOR = "AuraLinkBridge", "RoomPolicy", "Pod", "Node", "ServiceMonitor"
LABEL_BRIDGE = "auralink.io/bridge"
ANNOTATION_BRIDGE_UID = "auralink.io/bridge-uid"
ANNOTATION_POLICIES = "auralink.io/policies"
# Kind -> (API group and version, plural) of everything that is watched or written.
RESOURCES: Mapping[str, tuple[str, str]] = {
    BRIDGE: ("auralink.io/v1alpha1", "auralinkbridges"),
    POLICY: ("auralink.io/v1alpha1", "roompolicies"),
    POD: ("v1", "pods"),
    "ServiceAccount": ("v1", "serviceaccounts"),
    "Role": ("rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("rbac.authorization.k8s.io/v1", "rolebindings"),
    "ConfigMap": ("v1", "configmaps"),
    "Service": ("v1", "services"),
    "EndpointSlice": ("discovery.k8s.io/v1", "endpointslices"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "Deployment": ("apps/v1", "deployments"),
    "HorizontalPodAutoscaler": ("autoscaling/v2", "horizontalpodautoscalers"),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies"),
    SERVICE_MONITOR: ("monitoring.coreos.com/v1", "servicemonitors"),
    NODE: ("v1", "nodes"),
    "Event": ("events.k8s.io/v1", "events"),
}

REMEMBERED_S = 60.0  # an answer of the API server is less than half as old
_NOISE = ("kubectl.kubernetes.io/last-applied-configuration",)


class Key(NamedTuple):
    """Names an object: what the queue holds, and what children are found by."""

    kind: str
    namespace: str
    name: str


def key_of(obj: Mapping[str, Any]) -> Key:
    meta = obj["metadata"]
    return Key(obj["kind"], meta.get("namespace", ""), meta["name"])


def version_of(obj: Mapping[str, Any]) -> int:
    """Resource versions order as integers since Kubernetes 1.35 says so, and did on every etcd-backed server before."""
    return int(obj["metadata"].get("resourceVersion") or 0)


def slim(obj: Mapping[str, Any]) -> Obj:
    """The object without what no decision needs: who wrote which field is most of its weight, a pod's spec the next."""
    meta = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    if annotations := meta.get("annotations"):
        meta["annotations"] = {name: value for name, value in annotations.items() if name not in _NOISE}
    kept = {name: value for name, value in obj.items() if name != "metadata"}
    if obj["kind"] == POD:
        kept["spec"] = {"nodeName": (obj.get("spec") or {}).get("nodeName") or ""}
    if obj["kind"] == "Deployment":
        meta["replicasManagers"] = _managers_of(obj, "f:replicas")
        if (obj.get("spec") or {}).get("paused"):
            meta["pausedManagers"] = _managers_of(obj, "f:paused")
    return {**kept, "metadata": meta}


def _managers_of(obj: Mapping[str, Any], name: str) -> list[str]:
    """Field managers that own a field of the spec, sorted: whether an autoscaler has taken `replicas` over, say."""
    fields = obj["metadata"].get("managedFields") or ()
    return sorted({f["manager"] for f in fields if name in ((f.get("fieldsV1") or {}).get("f:spec") or {})})


class Held(NamedTuple):
    """One object in the store: what it is looked up by, and the rest packed, a tenth of its size as dicts."""

    key: Key
    uid: str
    version: int
    bridge: str  # the bridge that a child or pod belongs to
    brief: Obj  # what is asked of many at once: to unpack a thousand for it takes a tenth of a second
    packed: bytes

    def open(self) -> Obj:
        found: Obj = loads(decompress(self.packed))
        return found


def held(obj: Mapping[str, Any]) -> Held:
    key, meta = key_of(obj), obj["metadata"]
    bridge = "" if key.kind in (BRIDGE, POLICY) else bridge_of(obj)
    packed = compress(dumps(slim(obj), separators=(",", ":")).encode(), 1)
    own = Key(intern(key.kind), intern(key.namespace), key.name)
    return Held(own, meta["uid"], version_of(obj), bridge, _brief(obj), packed)


def _brief(obj: Mapping[str, Any]) -> Obj:
    """What `selects`, `affected` and a policy's reconcile look at, where the object has it; {} of other kinds."""
    meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    if obj["kind"] == BRIDGE:
        kept = {name: meta[name] for name in ("namespace", "name", "uid", "deletionTimestamp") if name in meta}
        applied = [{"name": policy.get("name")} for policy in status.get("appliedPolicies") or ()]
        return {
            "kind": BRIDGE,
            "metadata": {**kept, "labels": dict(meta.get("labels") or {})},
            "spec": {"suspend": bool(spec.get("suspend"))},
            "status": {"appliedPolicies": applied, "stalled": _is_stalled(status)},
        }
    if obj["kind"] == POLICY:
        matched = [{"name": bridge.get("name")} for bridge in status.get("matchedBridges") or ()]
        wanted = dict((spec.get("bridgeSelector") or {}).get("matchLabels") or {})
        return {
            "metadata": {"name": meta["name"]},
            "spec": {"bridgeSelector": {"matchLabels": wanted}},
            "status": {"matchedBridges": matched},
        }
    if obj["kind"] == "ConfigMap":
        note = (meta.get("annotations") or {}).get(ANNOTATION_POLICIES, "")
        owners = [{"uid": owner.get("uid")} for owner in meta.get("ownerReferences") or ()]
        return {"metadata": {"ownerReferences": owners, "annotations": {ANNOTATION_POLICIES: note}}}
    return {}


def _is_stalled(status: Mapping[str, Any]) -> bool:
    return any(c.get("type") == "Stalled" and c.get("status") == "True" for c in status.get("conditions") or ())


Groups = dict[tuple[str, str], dict[Key, None]]


def _take_out(groups: Groups, group: tuple[str, str], key: Key) -> None:
    if (keys := groups.get(group)) is not None:
        keys.pop(key, None)
        if not keys:
            del groups[group]


class Removals:
    """The versions that objects had when they were gone, by uid, for longer than a read may be on its way.

    Bounded: of what is forgotten too soon an old read could bring one back, until the next comparison finds it out."""

    def __init__(self, clock: Callable[[], float], limit: int = 10_000) -> None:
        self._clock = clock
        self._limit = limit
        self._versions: dict[str, tuple[int, float]] = {}  # with when each went, the oldest first

    def add(self, obj: Mapping[str, Any]) -> None:
        uid, now = obj["metadata"]["uid"], self._clock()
        before, _ = self._versions.pop(uid, (0, now))
        self._versions[uid] = max(before, version_of(obj)), now
        while len(self._versions) > self._limit or now - next(iter(self._versions.values()))[1] > REMEMBERED_S:
            del self._versions[next(iter(self._versions))]

    def covers(self, uid: str, version: int) -> bool:
        """Whether an object in this version is one of before it went. What only left a watch's selection may come back,
        in a later version."""
        gone, at = self._versions.get(uid, (-1, 0.0))
        return version <= gone and self._clock() - at <= REMEMBERED_S

    def __len__(self) -> int:
        return len(self._versions)


class Store:
    """Every object that the watches have shown, by name; one of each name, the newest.

    `clock`: in seconds. A read that was on its way when an event told of the object's end brings nothing back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._removals = Removals(clock)
        self._held: dict[Key, Held] = {}
        self._of_kind: Groups = {}  # by kind and namespace
        self._of_bridge: Groups = {}  # by namespace and bridge

    def put(self, obj: Mapping[str, Any]) -> None:
        """Takes an object in, unless a newer one of its name is there: a late event must not bring an old one back."""
        new = held(obj)
        if self._removals.covers(new.uid, new.version):
            return
        old = self._held.get(new.key)
        if old is not None:
            if old.version > new.version:
                return
            self._drop(old)
        self._held[new.key] = new
        self._of_kind.setdefault((new.key.kind, new.key.namespace), {})[new.key] = None
        if new.bridge:
            self._of_bridge.setdefault((new.key.namespace, new.bridge), {})[new.key] = None

    def remove(self, obj: Mapping[str, Any]) -> None:
        """Forgets an object; one that came later under the same name stays."""
        self._removals.add(obj)
        old = self._held.get(key_of(obj))
        if old is not None and old.uid == obj["metadata"]["uid"]:
            self._drop(old)

    def _drop(self, old: Held) -> None:
        del self._held[old.key]
        _take_out(self._of_kind, (old.key.kind, old.key.namespace), old.key)
        _take_out(self._of_bridge, (old.key.namespace, old.bridge), old.key)

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Key) -> Held | None:
        return self._held.get(key)

    def of_bridge(self, namespace: str, bridge: str, kind: str = "") -> list[Held]:
        """Children and pods of a bridge, or those of one kind."""
        keys = self._of_bridge.get((namespace, bridge), ())
        return [self._held[key] for key in keys if not kind or key.kind == kind]

    def of_namespace(self, kind: str, namespace: str) -> list[Held]:
        return [self._held[key] for key in self._of_kind.get((kind, namespace), ())]

    def of_kind(self, kind: str) -> list[Held]:
        return [self._held[key] for (of, _), keys in self._of_kind.items() if of == kind for key in keys]


def bridge_of(obj: Mapping[str, Any]) -> str:
    """The bridge that a child or a pod belongs to; "" for none.

    A child's owner, not its label: somebody who edits the label must not take the child out of sight. The owner of a
    pod is a ReplicaSet, and which bridge that serves only the label says.
    """
    owners = obj["metadata"].get("ownerReferences") or ()
    label = (obj["metadata"].get("labels") or {}).get(LABEL_BRIDGE)
    return str(next((owner["name"] for owner in owners if owner.get("kind") == BRIDGE), label) or "")


class Ghosts:
    """Uids that are gone although the index still has them. Bounded: a forgotten ghost costs one look-up again."""

    def __init__(self, limit: int = 10_000) -> None:
        self._uids: dict[str, None] = {}
        self._limit = limit

    def add(self, uid: str) -> None:
        self._uids[uid] = None
        while len(self._uids) > self._limit:
            del self._uids[next(iter(self._uids))]

    def seen(self, uid: str) -> None:
        self._uids.pop(uid, None)

    def __contains__(self, uid: object) -> bool:
        return uid in self._uids

    def __len__(self) -> int:
        return len(self._uids)


class Indices:
    """What the watches have shown, without ghosts. Objects are the caller's copies, briefs are not."""

    def __init__(self, store: Store, ghosts: Ghosts) -> None:
        self._store = store
        self._ghosts = ghosts

    def _real(self, found: Iterable[Held]) -> list[Held]:
        return [one for one in found if one.uid not in self._ghosts]

    def get(self, key: Key) -> Obj | None:
        found = self.held(key)
        return None if found is None else found.open()

    def held(self, key: Key) -> Held | None:
        """As `get`, but name, uid and version only."""
        found = self._store.get(key)
        return None if found is None or found.uid in self._ghosts else found

    def of_bridge(self, namespace: str, bridge: str) -> list[Obj]:
        """Children and pods of a bridge."""
        return [one.open() for one in self._real(self._store.of_bridge(namespace, bridge))]

    def of_namespace(self, kind: str, namespace: str) -> list[Obj]:
        return [one.open() for one in self._real(self._store.of_namespace(kind, namespace))]

    def briefs(self, kind: str, namespace: str, bridge: str = "") -> list[Obj]:
        """The briefs of a kind in a namespace, or of one bridge's. Not the caller's own: nothing must be altered."""
        store = self._store
        found = store.of_bridge(namespace, bridge, kind) if bridge else store.of_namespace(kind, namespace)
        return [one.brief for one in self._real(found)]

    def shown(self, obj: Mapping[str, Any]) -> None:
        """As if a watch had shown it: something that it is late with, and that somebody has asked for."""
        self._store.put(obj)

    def size(self) -> int:
        """How many objects there are, ghosts included."""
        return len(self._store)

    def of_kind(self, kind: str) -> dict[str, Held]:
        """Every object of a kind by uid."""
        return {one.uid: one for one in self._real(self._store.of_kind(kind))}


@dataclass(frozen=True, slots=True)
class Observed:
    """One bridge and all around it, as the index has it."""

    bridge: Obj
    children: Mapping[Key, Obj]
    pods: tuple[Obj, ...]
    policies: tuple[Obj, ...]


@dataclass(frozen=True, slots=True)
class ObservedPolicy:
    """A policy, and in brief the bridges that it selects and, by bridge, their ConfigMaps."""

    policy: Obj
    bridges: tuple[Obj, ...]
    config_maps: Mapping[str, Obj]


def is_owned_by(obj: Obj, uid: str) -> bool:
    return any(owner.get("uid") == uid for owner in obj["metadata"].get("ownerReferences") or ())


def is_pod_of(pod: Obj, bridge: Obj) -> bool:
    """Whether a pod is this bridge's, and not of an earlier one of its name: the note that it was made with says so.

    Where somebody has taken the note off it is known by its ReplicaSet's name, and by its own entry in the status: to
    write that it takes this bridge's ServiceAccount, and that of an earlier bridge went with it.
    """
    meta, of = pod["metadata"], bridge["metadata"]
    if noted := (meta.get("annotations") or {}).get(ANNOTATION_BRIDGE_UID):
        return bool(noted == of["uid"])
    sets = (str(owner.get("name")) for owner in meta.get("ownerReferences") or () if owner.get("kind") == "ReplicaSet")
    entries = (bridge.get("status") or {}).get("pods") or ()
    return any(name.rpartition("-")[0] == f"auralink-{of['name']}" for name in sets) and any(
        (entry.get("name"), entry.get("uid")) == (meta["name"], meta["uid"]) for entry in entries
    )


def observe(indices: Indices, key: Key) -> Observed | None:
    """A bridge with the children that are really its own: an earlier bridge of the same name had another uid."""
    bridge = indices.get(key)
    if bridge is None:
        return None
    uid = bridge["metadata"]["uid"]
    children: dict[Key, Obj] = {}
    pods: list[Obj] = []
    for obj in indices.of_bridge(key.namespace, key.name):
        if obj["kind"] == POD:
            if is_pod_of(obj, bridge):
                pods.append(obj)
        elif is_owned_by(obj, uid):
            children[key_of(obj)] = obj
    pods.sort(key=lambda pod: str(pod["metadata"]["name"]))
    return Observed(bridge, children, tuple(pods), tuple(indices.of_namespace(POLICY, key.namespace)))


def observe_policy(indices: Indices, key: Key) -> ObservedPolicy | None:
    policy = indices.get(key)
    if policy is None:
        return None
    bridges = [bridge for bridge in indices.briefs(BRIDGE, key.namespace) if selects(policy, bridge)]
    bridges.sort(key=lambda bridge: str(bridge["metadata"]["name"]))
    config_maps: dict[str, Obj] = {}
    for bridge in bridges:
        name, uid = bridge["metadata"]["name"], bridge["metadata"]["uid"]
        for obj in indices.briefs("ConfigMap", key.namespace, name):
            if is_owned_by(obj, uid):
                config_maps[name] = obj
    return ObservedPolicy(policy, tuple(bridges), config_maps)


def selects(policy: Obj, bridge: Obj) -> bool:
    """Whether a policy's bridgeSelector fits: no selector fits every bridge of the namespace."""
    wanted = ((policy.get("spec") or {}).get("bridgeSelector") or {}).get("matchLabels") or {}
    labels = bridge["metadata"].get("labels") or {}
    return all(labels.get(name) == value for name, value in wanted.items())


def carried_policies(config_map: Obj | None) -> dict[str, int]:
    """Names and generations of the policies that a bridge's ConfigMap carries; {} for a missing or foreign note."""
    note = ((config_map or {}).get("metadata", {}).get("annotations") or {}).get(ANNOTATION_POLICIES)
    try:
        parsed = loads(note) if note else {}
    except JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def affected(indices: Indices, obj: Mapping[str, Any]) -> set[Key]:
    """The keys whose reconcile may come out differently because of this object's event."""
    key = key_of(obj)
    namespace = key.namespace
    if key.kind == POLICY:
        found = {key}
        for bridge in indices.briefs(BRIDGE, namespace):
            name = bridge["metadata"]["name"]
            applied = (bridge.get("status") or {}).get("appliedPolicies") or ()
            if selects(dict(obj), bridge) or any(policy.get("name") == key.name for policy in applied):
                found.add(Key(BRIDGE, namespace, name))
        return found
    if key.kind == BRIDGE:
        found = {key}
        for policy in indices.briefs(POLICY, namespace):
            matched = (policy.get("status") or {}).get("matchedBridges") or ()
            if selects(policy, dict(obj)) or any(bridge.get("name") == key.name for bridge in matched):
                found.add(Key(POLICY, namespace, policy["metadata"]["name"]))
        return found
    bridge_name = bridge_of(obj)
    if not bridge_name:
        return set()
    found = {Key(BRIDGE, namespace, bridge_name)}
    if key.kind == "ConfigMap":
        found |= {Key(POLICY, namespace, name) for name in carried_policies(dict(obj))}
    return found


@dataclass(slots=True)
class _Expected:
    deadline: float
    versions: dict[Key, int] = field(default_factory=dict)
    gone: dict[Key, str] = field(default_factory=dict)


class Expectations:
    """What the index must show of our own writes before a key is looked at again."""

    def __init__(self, patience_s: float = 5.0) -> None:
        self._patience_s = patience_s
        self._expected: dict[Key, _Expected] = {}

    def _of(self, key: Key, now: float) -> _Expected:
        expected = self._expected.setdefault(key, _Expected(now + self._patience_s))
        expected.deadline = now + self._patience_s
        return expected

    def wrote(self, key: Key, obj: Obj, now: float) -> None:
        expected = self._of(key, now)
        expected.versions[key_of(obj)] = version_of(obj)
        expected.gone.pop(key_of(obj), None)

    def deleted(self, key: Key, child: Key, uid: str, now: float) -> None:
        expected = self._of(key, now)
        expected.gone[child] = uid
        expected.versions.pop(child, None)

    def saw_deleted(self, key: Key, obj: Mapping[str, Any]) -> None:
        """The deletion of what we wrote also shows that the write has been seen."""
        expected = self._expected.get(key)
        if expected and expected.versions.get(key_of(obj), version_of(obj) + 1) <= version_of(obj):
            del expected.versions[key_of(obj)]

    def shows_only(self, key: Key, obj: Mapping[str, Any]) -> bool:
        """Whether an event tells of our own last write and of nothing since."""
        expected = self._expected.get(key)
        return expected is not None and expected.versions.get(key_of(obj)) == version_of(obj)

    def pending(self, key: Key, indices: Indices) -> list[Key]:
        """Objects of which the index does not show our last write yet; forgets those that it does."""
        expected = self._expected.get(key)
        if expected is None:
            return []
        for child, version in list(expected.versions.items()):
            have = indices.held(child)
            if have is not None and have.version >= version:
                del expected.versions[child]
        for child, uid in list(expected.gone.items()):
            left = indices.get(child)
            if left is None or left["metadata"]["uid"] != uid or "deletionTimestamp" in left["metadata"]:
                del expected.gone[child]
        awaited = [*expected.versions, *expected.gone]
        if not awaited:
            del self._expected[key]
        return awaited

    def remaining_s(self, key: Key, now: float) -> float:
        expected = self._expected.get(key)
        return max(0.0, expected.deadline - now) if expected else 0.0

    def settled(self, key: Key, child: Key) -> None:
        """Nothing more is expected of one object."""
        if (expected := self._expected.get(key)) is not None:
            expected.versions.pop(child, None)
            expected.gone.pop(child, None)

    def forget(self, key: Key) -> None:
        self._expected.pop(key, None)
