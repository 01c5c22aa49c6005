"""The status of an object whose spec cannot be read: what is known stays, and the reason is said."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from auralink_operator.models import Meta
from auralink_operator.status.conditions import Condition, Status, shortened, stamped

_REPLACED = ("Ready", "Reconciling", "Stalled")


def derive_invalid(meta: Meta, message: str, now: datetime) -> Status:
    """Pods go on with what they have, and what was last known of them goes on to be shown."""
    found = [
        Condition("Ready", "False", "InvalidSpec", message),
        Condition("Stalled", "True", "InvalidSpec", message),
        *_known(meta),
    ]
    kept = {name: value for name, value in meta.status.items() if name != "pods"}
    return {**kept, "observedGeneration": meta.generation, "conditions": stamped(found, meta, now)}


def _known(meta: Meta) -> Iterator[Condition]:
    listed: list[dict[str, Any]] = list(meta.status.get("conditions") or ())
    for known in listed:
        if known["type"] not in _REPLACED:
            yield Condition(known["type"], known["status"], known["reason"], shortened(known["message"]))
