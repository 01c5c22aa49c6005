"""A strategic merge of a pod template, as `kubectl patch` and the API server do it. Pure.

`spec.pod.template` of a bridge is laid over the template that we render. Maps merge key by key and null removes a key.
A list is replaced as a whole, but for those below, whose items have a key: items of the same key merge, others are
added. In such a list `$patch: delete` in an item removes the item with its key, and an item of `$patch: replace` alone
makes the rest of the list replace what was there; in a map, `$patch: replace` does the same for the map. Volumes take
`$retainKeys` besides. The other directives are what `kubectl apply` computes and nobody writes by hand: refused.

Source: kubernetes/apimachinery, pkg/util/strategicpatch/patch.go; keys: `patchMergeKey` in kubernetes/api,
core/v1/types.go. An integration test compares with the real server, order of items included.
"""

from collections.abc import Mapping
from typing import Any

from auralink_operator.index import Obj
from auralink_operator.manifests.labels import UnrenderableError
from auralink_operator.models import is_merge_key

# Field -> what its items are found by. Lists of other names are replaced as a whole.
MERGE_KEYS: Mapping[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "volumes": "name",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
    "schedulingGates": "name",
}
# What these lists are part of; the others are part of the pod's spec. Elsewhere a list of the same name is another.
_PARENTS: Mapping[str, tuple[str, ...]] = {
    "env": ("containers", "initContainers"),
    "ports": ("containers", "initContainers"),
    "volumeMounts": ("containers", "initContainers"),
    "volumeDevices": ("containers", "initContainers"),
}
_DIRECTIVE, _RETAIN = "$patch", "$retainKeys"


class TemplateError(UnrenderableError):
    """A template that cannot be merged; the message names the field."""


def merge_template(base: Obj, patch: Mapping[str, Any]) -> Obj:
    """The base with the patch laid over it; neither is changed. Raises TemplateError."""
    return _merge_map(base, patch, "spec.pod.template", "template")


def _merge_map(base: Mapping[str, Any], patch: Mapping[str, Any], path: str, field: str) -> Obj:
    match patch.get(_DIRECTIVE):
        case None:
            pass
        case "replace":
            return {name: _plain(value, f"{path}.{name}") for name, value in patch.items() if name != _DIRECTIVE}
        case "delete":
            return {}
        case other:
            raise TemplateError(f"{path}.$patch: {other!r} is not known here: write replace or delete")
    merged = _retained(base, patch, path)
    for name, value in patch.items():
        here = f"{path}.{name}"
        if name == _RETAIN:
            continue
        if name.startswith("$"):
            raise TemplateError(f"{here}: this directive is not supported: write $patch, $retainKeys or a null")
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge_value(merged.get(name), value, here, name, field)
    return merged


def _merge_value(base: Any, patch: Any, path: str, name: str, parent: str) -> Any:
    if isinstance(base, dict) and isinstance(patch, dict):
        return _merge_map(base, patch, path, name)
    if isinstance(base, list) and isinstance(patch, list) and (key := _merge_key(name, parent)):
        return _merge_list(base, patch, path, name, key)
    return _plain(patch, path)


def _merge_key(name: str, parent: str) -> str | None:
    parents = _PARENTS.get(name, ("spec",))
    return MERGE_KEYS.get(name) if parent in parents else None


def _retained(base: Mapping[str, Any], patch: Mapping[str, Any], path: str) -> Obj:
    if (keep := patch.get(_RETAIN)) is None:
        return dict(base)
    if not isinstance(keep, list):
        raise TemplateError(f"{path}.{_RETAIN}: must be a list of field names")
    if missing := [name for name in patch if name != _RETAIN and name not in keep]:
        raise TemplateError(f"{path}.{_RETAIN}: must name {missing[0]} too, which the template sets")
    return {name: value for name, value in base.items() if name in keep}


def _merge_list(base: list[Any], patch: list[Any], path: str, field: str, key: str) -> list[Any]:
    items = [_keyed(item, key, path) for item in patch]
    directives = [item.get(_DIRECTIVE) for item in items]
    wanted = [item for item, directive in zip(items, directives, strict=True) if directive is None]
    if unknown := [name for name in directives if name not in (None, "delete", "replace")]:
        raise TemplateError(f"{path}: $patch: {unknown[0]!r} is not known here: write delete or replace")
    if "replace" in directives:
        return [_plain(item, path) for item in wanted]
    gone = [item[key] for item, directive in zip(items, directives, strict=True) if directive == "delete"]
    # Where the template names an item twice, the base is what its first naming has brought, as the user wrote it.
    kept = [item for item in (_keyed(item, key, path) for item in base) if item[key] not in gone]
    by_key = {item[key]: item for item in kept}
    merged: dict[Any, Obj] = {}
    for item in wanted:
        here, value = f"{path}[{item[key]}]", item[key]
        have = merged.get(value, by_key.get(value))
        merged[value] = _plain(item, here) if have is None else _merge_map(have, item, here, field)
    return _in_order(kept, merged, key)


def _keyed(item: Any, key: str, path: str) -> Obj:
    if not isinstance(item, dict):
        raise TemplateError(f"{path}: its items are objects")
    if not is_merge_key(item.get(key)) and item.get(_DIRECTIVE) != "replace":
        raise TemplateError(f"{path}: each item needs {key}, text or a number, by which it is found")
    return item


def _in_order(base: list[Obj], merged: Mapping[Any, Obj], key: str) -> list[Obj]:
    """Items of the patch in its order; an item that only the base has goes before the next of them that came after it.

    So do items of the patch that are new come first: the server's order, kept because the order of `env` has a meaning.
    """
    place = {item[key]: number for number, item in enumerate(base)}
    alone = [item for item in base if item[key] not in merged]
    found: list[Obj] = []
    for value, item in merged.items():
        while alone and value in place and place[alone[0][key]] < place[value]:
            found.append(alone.pop(0))
        found.append(item)
    return found + alone


def _plain(value: Any, path: str) -> Any:
    """A value that meets nothing to merge with: without nulls and directives, which say nothing here."""
    if isinstance(value, dict):
        if value.get(_DIRECTIVE) == "delete":
            return {}
        return {
            name: _plain(item, f"{path}.{name}")
            for name, item in value.items()
            if item is not None and not name.startswith("$")
        }
    if isinstance(value, list):
        return [_plain(item, path) for item in value if not _is_directive(item)]
    return value


def _is_directive(item: Any) -> bool:
    return isinstance(item, dict) and _DIRECTIVE in item
