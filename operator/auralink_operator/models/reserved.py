"""What `spec.pod.template` may not touch: that which the operator finds pods by, and that which keeps their sessions.

`manifests` merges the template onto the rendered one. Here it is looked at before, as the user has written it, so that
a message can name the field and say what to do instead.
"""

from collections.abc import Iterator, Mapping
from typing import Any

CONTAINER = "data-plane"
PREFIXES = ("auralink.io/", "app.kubernetes.io/")
ENVIRONMENT = frozenset(
    (
        "BRIDGE_ID",
        "CONFIG_MAP",
        "DRAIN_PROPAGATION_S",
        "DRAIN_TIMEOUT_S",
        "HTTP_PORT",
        "METRICS_PORT",
        "NODE_NAME",
        "POD_IP",
        "POD_NAME",
        "POD_NAMESPACE",
        "POD_UID",
    )
)
PORTS = (8080, 9090)
VOLUMES = ("tmp", "secrets")
MOUNTS = ("/tmp", "/etc/auralink")  # noqa: S108 - a path in the pod

_REMOVE = "remove it"
_SPEC: Mapping[str, str] = {
    "terminationGracePeriodSeconds": "set spec.drain instead",
    "hostNetwork": "set spec.exposure.mode instead",
    "restartPolicy": _REMOVE,
    "serviceAccountName": _REMOVE,
    "serviceAccount": _REMOVE,
    "automountServiceAccountToken": _REMOVE,
}
_CONTAINER: Mapping[str, str] = {
    "image": "set spec.image instead",
    "resources": "set spec.resources instead",
    "command": _REMOVE,
    "args": _REMOVE,
    "lifecycle": "the process itself delays its end, see spec.drain: remove it",
    "startupProbe": _REMOVE,
    "livenessProbe": _REMOVE,
    "readinessProbe": _REMOVE,
}
# Merge directives may remove what they do not name: not where the operator has something to lose.
_DIRECTIVES = ("$patch", "$retainKeys")


def reserved(template: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a template, each with the way out."""
    path = "spec.pod.template"
    yield from _directives(template, path)
    for name in template:
        if name not in ("metadata", "spec", *_DIRECTIVES):
            yield f"{path}.{name}: a pod template has metadata and spec, nothing else: {_REMOVE}"
    yield from _metadata(template, f"{path}.metadata")
    spec, here = template.get("spec", {}), f"{path}.spec"
    if not isinstance(spec, dict):
        yield f"{here}: an object is needed"
        return
    yield from _directives(spec, here)
    for name, remedy in _SPEC.items():
        if name in spec:
            yield f"{here}.{name}: the operator sets it: {remedy}"
    for name, item, at in _items(spec, "containers", "name", here):
        if item is None:
            yield at
        elif name == CONTAINER:
            yield from _container(item, at)
    yield from _named(spec, "volumes", "name", VOLUMES, here)


def is_merge_key(value: Any) -> bool:
    """Whether items of a list can be told apart by the value: the schema lets any object stand in a template."""
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _metadata(template: Mapping[str, Any], path: str) -> Iterator[str]:
    meta = template.get("metadata", {})
    if not isinstance(meta, dict):
        yield f"{path}: an object is needed"
        return
    yield from _directives(meta, path)
    for name, value in meta.items():
        if name in _DIRECTIVES:
            continue
        if name not in ("labels", "annotations"):
            yield f"{path}.{name}: of the metadata only labels and annotations may be set: {_REMOVE}"
        elif not isinstance(value, dict):
            yield f"{path}.{name}: an object is needed"
        else:
            yield from _directives(value, f"{path}.{name}")
            for key in value:
                if key.startswith(PREFIXES):
                    yield f"{path}.{name}: {key} is the operator's: choose another prefix"


def _container(item: Mapping[str, Any], path: str) -> Iterator[str]:
    """The data plane's own: more environment, ports and mounts are welcome, ours stay."""
    yield from _directives(item, path)
    for name, remedy in _CONTAINER.items():
        if name in item:
            yield f"{path}.{name}: the operator sets it: {remedy}"
    yield from _named(item, "env", "name", ENVIRONMENT, path)
    yield from _named(item, "ports", "containerPort", PORTS, path)
    for mount, value, at in _items(item, "volumeMounts", "mountPath", path):
        if value is None:
            yield at
        elif any(str(mount) == mine or str(mount).startswith(f"{mine}/") for mine in MOUNTS):
            yield f"{at}: the operator mounts something there: choose another path"


def _named(owner: Mapping[str, Any], field: str, key: str, ours: Any, path: str) -> Iterator[str]:
    for name, item, at in _items(owner, field, key, path):
        if item is None:
            yield at
        elif name in ours:
            yield f"{at}: it is the operator's: choose another {key}"


def _items(
    owner: Mapping[str, Any], field: str, key: str, path: str
) -> Iterator[tuple[Any, Mapping[str, Any] | None, str]]:
    """Key, item and path of each item of a list; where it cannot be so no item, and what is wrong for a path."""
    if field not in owner:
        return
    items, here = owner[field], f"{path}.{field}"
    if not isinstance(items, list):
        yield None, None, f"{here}: a list is needed; null would remove what the operator has there"
        return
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            yield None, None, f"{here}: its items are objects"
        elif item.get("$patch") == "replace":
            yield None, None, f"{here}: $patch: replace would remove what the operator has there: {_REMOVE}"
        elif item.get(key) is not None and not is_merge_key(item[key]):
            yield None, None, f"{here}[{number}].{key}: text or a number is needed, by which the item is found"
        else:
            yield item.get(key), item, f"{here}[{item.get(key)}]"


def _directives(value: Mapping[str, Any], path: str) -> Iterator[str]:
    for name in _DIRECTIVES:
        if name in value:
            yield f"{path}.{name}: it would remove what the operator has there: {_REMOVE}"
