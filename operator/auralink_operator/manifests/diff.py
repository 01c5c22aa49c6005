"""Where a child differs from what it should be.

Two looks decide whether a child must be written. `auralink.io/applied-hash` tells that what we want has changed,
removals included. `differs` tells that somebody else changed what we want: leaf by leaf, so that fields which the API
server or other controllers add are left alone. It knows how a server shows what it was given: lists that are maps by
some key, quantities in their canonical form, empty values as nothing, and small numbers and false as nothing too in the
few fields where Kubernetes means the same by both.

Nothing here remembers: a manager that sets a field back each time we set it would get an answer each time. What keeps
the two from flooding the API server is `rollouts.Fights`, which `reconcile` asks before it writes: after a few repairs
in a row each further one of that child waits twice as long as the one before.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, DecimalException
from typing import Any

from auralink_operator.index import Obj
from auralink_operator.manifests.labels import APPLIED_HASH, annotations_of
from auralink_operator.models import is_merge_key

# Lists that are maps: field -> what an item is found by. The first entry of which all items have all fields, all
# different, each text or a number, is taken; any other list is compared item by item, as Kubernetes replaces it as a
# whole. Nothing that stands in a template or in the cluster may stop the comparing.
_LIST_KEYS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "containers": (("name",),),
    "initContainers": (("name",),),
    "env": (("name",),),
    "ports": (("containerPort", "protocol"), ("port", "protocol")),
    "volumes": (("name",),),
    "volumeMounts": (("mountPath",),),
    "volumeDevices": (("devicePath",),),
    "imagePullSecrets": (("name",),),
    "topologySpreadConstraints": (("topologyKey", "whenUnsatisfiable"),),
    "hostAliases": (("ip",),),
    "resourceClaims": (("name",),),
    "schedulingGates": (("name",),),
    "ownerReferences": (("uid",),),
}
# Maps that Kubernetes takes as a whole: a key more is another selector.
_WHOLE = frozenset({"selector", "matchLabels", "podSelector", "namespaceSelector", "labelSelector", "nodeSelector"})
# Of these nothing selects nothing, and an empty one everything.
_SELECTORS = frozenset({"podSelector", "namespaceSelector", "labelSelector"})
# Fields of a pod template where false, 0 and nothing are the same to the server, which then shows nothing ...
_NOTHING = frozenset(
    {"hostNetwork", "hostPID", "hostIPC", "readOnly", "stdin", "stdinOnce", "tty", "hostPort", "initialDelaySeconds"}
)
# ... or a default of its own.
_DEFAULTED = frozenset({"timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"})
_QUANTITIES = frozenset({"requests", "limits"})
_QUANTITY_FIELDS = frozenset({"sizeLimit", "averageValue", "divisor"})
_QUANTITY = re.compile(r"^([+-]?[0-9.]+)(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?[0-9]+|)$")
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


def differs(want: Obj, have: Obj) -> str | None:
    """The path of the first leaf that is not as wanted; None if all are. What `have` has beyond that is not ours."""
    return next(_differences(want, have, "", ("", "")), None)


def _differences(want: Any, have: Any, path: str, field: tuple[str, str]) -> Iterator[str]:
    """`field` is the name of the field that a value belongs to, after the name of the one around it."""
    if _absent(want) and _absent(have) and (have is not None or field[1] not in _SELECTORS):
        return  # [], {} and "" come back as nothing
    if isinstance(want, dict):
        yield from _map_differences(want, have, path, field[1])
    elif isinstance(want, list):
        yield from _list_differences(want, have, path, field[1])
    elif not (_same(want, have) or _same_to_the_server(want, have, field)):
        yield path


def _absent(value: Any) -> bool:
    return not value and not isinstance(value, (bool, int))


def _same(want: Any, have: Any) -> bool:
    return bool(want == have) and isinstance(want, bool) == isinstance(have, bool)


def _same_to_the_server(want: Any, have: Any, field: tuple[str, str]) -> bool:
    around, name = field
    if name in _NOTHING:
        return not want and not have
    if name in _DEFAULTED and want == 0:
        return True
    return (around in _QUANTITIES or name in _QUANTITY_FIELDS) and _same_quantity(want, have)


def _map_differences(want: Mapping[str, Any], have: Any, path: str, name: str) -> Iterator[str]:
    if not isinstance(have, dict):
        yield path or "."
        return
    for key, value in want.items():
        yield from _differences(value, have.get(key), f"{path}.{key}", (name, key))
    if name in _WHOLE:
        yield from (f"{path}.{key}" for key in have if key not in want and not _absent(have[key]))


def _list_differences(want: list[Any], have: Any, path: str, name: str) -> Iterator[str]:
    if not isinstance(have, list):
        yield path
        return
    if keys := _keys(name, want, have):
        by_key = {_key(item, keys): item for item in have}
        for item in want:
            here = f"{path}[{','.join(str(part) for part in _key(item, keys))}]"
            yield from _differences(item, by_key.get(_key(item, keys)), here, ("", name))
        return
    if len(want) != len(have):
        yield path
        return
    for number, (wanted, found) in enumerate(zip(want, have, strict=True)):
        yield from _differences(wanted, found, f"{path}[{number}]", ("", name))


def _keys(name: str, want: list[Any], have: list[Any]) -> tuple[str, ...] | None:
    candidates = _LIST_KEYS.get(name, ())
    return next((keys for keys in candidates if _keyed(want, keys) and _keyed(have, keys)), None)


def _keyed(items: list[Any], keys: tuple[str, ...]) -> bool:
    found = [_key(item, keys) for item in items if isinstance(item, dict)]
    return all(is_merge_key(part) for key in found for part in key) and len(found) == len(items) == len(set(found))


def _key(item: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[Any, ...]:
    """A protocol that is not given is TCP."""
    return tuple(item.get(key, "TCP" if key == "protocol" else None) for key in keys)


def _same_quantity(want: Any, have: Any) -> bool:
    """The API server writes 0.5 as 500m, and 1000 as 1k."""
    wanted, found = _quantity(str(want)), _quantity(str(have))
    return wanted is not None and wanted == found


def _quantity(text: str) -> Decimal | None:
    match = _QUANTITY.match(text)
    if not match:
        return None
    number, unit = match.groups()
    try:
        value: Decimal = Decimal(number)
        if unit in _BINARY:
            return value * Decimal(1024) ** _BINARY[unit]
        return value.scaleb(_DECIMAL[unit] if unit in _DECIMAL else int(unit[1:]))
    except (DecimalException, ValueError):  # 1.1.1, or an exponent beyond all bounds
        return None


def needs_write(want: Obj, have: Obj | None) -> str | None:
    """Why a child must be applied; None if it must not."""
    if have is None:
        return "missing"
    return differs(want, have)


def is_drift(want: Obj, have: Obj, applied: str = "") -> bool:
    """Whether a difference is somebody else's doing: what we last wrote is still what we want.

    `applied`: the hash of what we last wrote, if that is remembered; else the child tells, which others may edit.
    """
    last = applied or annotations_of(have).get(APPLIED_HASH)
    return bool(want["metadata"]["annotations"][APPLIED_HASH] == last)
