"""Where a child differs from what it should be.

Two looks decide whether a child must be written. `auralink.io/applied-hash` tells that what we want has changed,
removals included. `differs` tells that somebody else changed what we want: leaf by leaf, so that fields which the API
server or other controllers add are left alone.
"""

import re
from decimal import Decimal, InvalidOperation
from typing import Any

from auralink_operator.index import Obj
from auralink_operator.manifests.labels import APPLIED_HASH, annotations_of

_LIST_KEYS = ("name", "mountPath", "uid", "containerPort")
_QUANTITY = re.compile(r"^([+-]?[0-9.]+)(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?[0-9]+|)$")
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


def differs(want: Obj, have: Obj) -> str | None:
    """The path of the first leaf that is not as wanted; None if all are. What `have` has beyond that is not ours."""
    return _differs(want, have, "")


def _differs(want: Any, have: Any, path: str) -> str | None:
    if not want and not have and not isinstance(want, (bool, int)) and not isinstance(have, (bool, int)):
        return None  # [], {} and "" come back as nothing
    if isinstance(want, dict):
        if not isinstance(have, dict):
            return path or "."
        for name, value in want.items():
            if found := _differs(value, have.get(name), f"{path}.{name}"):
                return found
        return None
    if isinstance(want, list):
        return _differs_list(want, have, path)
    if want == have and isinstance(want, bool) == isinstance(have, bool):
        return None
    return None if _same_quantity(want, have, path) else path


def _differs_list(want: list[Any], have: Any, path: str) -> str | None:
    if not isinstance(have, list):
        return path
    if key := next((k for k in _LIST_KEYS if _keyed(want, k) and _keyed(have, k)), None):
        by_key = {item[key]: item for item in have}
        for item in want:
            if found := _differs(item, by_key.get(item[key]), f"{path}[{item[key]}]"):
                return found
        return None
    if len(want) != len(have):
        return path
    for number, (wanted, found_item) in enumerate(zip(want, have, strict=True)):
        if found := _differs(wanted, found_item, f"{path}[{number}]"):
            return found
    return None


def _keyed(items: list[Any], key: str) -> bool:
    """Whether a list is a map by that key; lists that Kubernetes replaces as a whole have none of the keys."""
    values = [item.get(key) for item in items if isinstance(item, dict)]
    return len(values) == len(items) and None not in values and len(set(values)) == len(values)


def _same_quantity(want: Any, have: Any, path: str) -> bool:
    """The API server writes 0.5 as 500m."""
    if not any(part in path for part in (".requests.", ".limits.", ".sizeLimit")):
        return False
    wanted, found = _quantity(str(want)), _quantity(str(have))
    return wanted is not None and wanted == found


def _quantity(text: str) -> Decimal | None:
    match = _QUANTITY.match(text)
    if not match:
        return None
    number, unit = match.groups()
    try:
        value: Decimal = Decimal(number)
    except InvalidOperation:
        return None
    if unit in _BINARY:
        return value * Decimal(1024) ** _BINARY[unit]
    exponent = _DECIMAL[unit] if unit in _DECIMAL else int(unit[1:])
    return value.scaleb(exponent)


def needs_write(want: Obj, have: Obj | None) -> str | None:
    """Why a child must be applied; None if it must not."""
    if have is None:
        return "missing"
    return differs(want, have)


def is_drift(want: Obj, have: Obj) -> bool:
    """Whether a difference is somebody else's doing: what we last wrote is still what we want."""
    return bool(want["metadata"]["annotations"][APPLIED_HASH] == annotations_of(have).get(APPLIED_HASH))
