"""Rooms that move with their pods while nothing can be made of the spec: the last good children, with other pods.

What pods run is the last good configuration, and stays so. Only the pod that leaves must not take its rooms with it.
"""

import json
from collections.abc import Mapping

from auralink_operator.index import BRIDGE, RESOURCES, Obj, Observed
from auralink_operator.manifests.diff import differs
from auralink_operator.manifests.labels import (
    APPLIED_HASH,
    LABEL_SHARD,
    annotations_of,
    canonical,
    labels,
    short_hash,
)
from auralink_operator.manifests.network import ROOM, endpoint
from auralink_operator.models import PodView, PublicAddress


def moved(
    observed: Observed, owners: Mapping[str, PodView], addresses: Mapping[str, PublicAddress], shard: str = ""
) -> tuple[Obj, ...]:
    """The live ConfigMap and EndpointSlices as far as they name another pod than `owners`, the ConfigMap first; or as
    far as they lack a label by which the watch of this shard finds them."""
    config = next((obj for key, obj in observed.children.items() if key.kind == "ConfigMap"), None)
    if config is None:
        return ()
    children = [_config_map(config, owners, addresses)]
    for key, live in observed.children.items():
        if key.kind == "EndpointSlice" and (owner := owners.get(annotations_of(live).get(ROOM, ""))) and owner.ip:
            endpoints = [endpoint(key.namespace, owner)]
            children.append(
                _child(live, addressType=live["addressType"], ports=live.get("ports") or [], endpoints=endpoints)
            )
    have = {(key.kind, key.name): obj for key, obj in observed.children.items()}
    for child in children:
        meta = child["metadata"]
        others = {name: value for name, value in meta["labels"].items() if name != LABEL_SHARD}
        meta["labels"] = others | labels(observed.bridge["metadata"]["name"], shard)
    found = [child for child in children if _says_more(child, have[child["kind"], child["metadata"]["name"]])]
    for child in found:
        child["metadata"]["annotations"][APPLIED_HASH] = short_hash(child)
    return tuple(found)


def _says_more(child: Obj, live: Obj) -> bool:
    shards = [obj["metadata"].get("labels", {}).get(LABEL_SHARD) for obj in (child, live)]
    said = {name: value for name, value in child.items() if name != "apiVersion"}
    return shards[0] != shards[1] or differs(said, live) is not None


def _config_map(live: Obj, owners: Mapping[str, PodView], addresses: Mapping[str, PublicAddress]) -> Obj:
    """Of an address the port is the running configuration's; where peers find it goes with the pod."""
    data = live.get("data") or {}
    told = _object(data.get("addresses.json"))
    for name, entry in told.items():
        if isinstance(entry, dict) and (found := addresses.get(name)):
            where = {"ip": found.ip} if found.ip else {"hostname": found.hostname}
            told[name] = {**where, "port": entry.get("port", found.port)}
    names = {room: pod.name for room, pod in owners.items()}
    return _child(live, data={**data, "owners.json": canonical(names), "addresses.json": canonical(told)})


def _object(text: str | None) -> Obj:
    try:
        found = json.loads(text or "{}")
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _child(live: Obj, **body: object) -> Obj:
    """An apply says all that we own: what is left out would be taken away."""
    meta = live["metadata"]
    owners = [owner for owner in meta.get("ownerReferences") or () if owner.get("kind") == BRIDGE]
    annotations = {name: value for name, value in annotations_of(live).items() if name != APPLIED_HASH}
    return {
        "apiVersion": RESOURCES[live["kind"]][0],
        "kind": live["kind"],
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": dict(meta.get("labels") or {}),
            "annotations": annotations,
            "ownerReferences": owners,
        },
        **body,
    }
