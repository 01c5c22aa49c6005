"""What every status is made of: conditions with their times, comparison of two statuses, and what is worth an event."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from auralink_operator.models import Meta

Status = dict[str, Any]

_NAMED = 5
_MESSAGE_LIMIT = 4096
_EVENTFUL = ("Ready", "Stalled", "Degraded", "Draining")
# Not ready for these is the ordinary course of things, and no reason to warn anybody.
_ORDINARY = frozenset({"Progressing", "ConfigPropagating", "RolloutQueued", "Suspended"})


@dataclass(frozen=True, slots=True)
class Problem:
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Condition:
    type: str
    status: str
    reason: str
    message: str


def stamped(found: Iterable[Condition], meta: Meta, now: datetime) -> list[dict[str, Any]]:
    """Conditions as written: lastTransitionTime moves when the status flips, and not with reason or message."""
    before = {condition.get("type"): condition for condition in meta.status.get("conditions") or ()}
    written = []
    for condition in found:
        old = before.get(condition.type) or {}
        kept = old.get("lastTransitionTime") if old.get("status") == condition.status else None
        written.append(
            {
                "type": condition.type,
                "status": condition.status,
                "reason": condition.reason,
                "message": shortened(condition.message),
                "lastTransitionTime": kept or now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "observedGeneration": meta.generation,
            }
        )
    return written


def same(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether two statuses say the same; the order of conditions says nothing, and `pods` is the pods' own."""
    return _comparable(before) == _comparable(after)


def _comparable(status: Mapping[str, Any]) -> dict[str, Any]:
    conditions = sorted(status.get("conditions") or (), key=lambda condition: str(condition.get("type")))
    return {**{name: value for name, value in status.items() if name != "pods"}, "conditions": conditions}


def settled(message: str, status: Mapping[str, Any]) -> str:
    """What another party said, in the words of last time if it differs in numbers only.

    An error that names a port or a request would else be a new status each time, and each status a new attempt.
    """
    before = str(condition_of({"status": status}, "Ready").get("message") or "")
    return before if _without_numbers(before) == _without_numbers(shortened(message)) else message


def _without_numbers(text: str) -> list[str]:
    return [word for word in text.split() if not any(character.isdigit() for character in word)]


def flips(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Condition]:
    """Conditions worth an event: Ready, Stalled, Degraded or Draining came, went or changed.

    What stalls is told once, although Ready goes with it. What went is told by its old reason.
    """
    old = {c.get("type"): c for c in before.get("conditions") or ()}
    new = {c.get("type"): c for c in after.get("conditions") or ()}
    found = []
    for name in _EVENTFUL:
        was, now = old.get(name, {}).get("status", "False"), new.get(name, {}).get("status", "False")
        if was == now:
            continue
        if name in new:
            found.append(Condition(name, now, new[name]["reason"], new[name]["message"]))
        else:
            found.append(Condition(name, now, old[name]["reason"], f"{old[name]['reason']} is over"))
    if any(flip.type == "Stalled" and flip.status == "True" for flip in found):
        found = [flip for flip in found if flip.type != "Ready"]
    return found


def warns(flip: Condition) -> bool:
    """Whether an event of a flip is a warning, or only to be known."""
    if flip.type == "Ready":
        return flip.status == "False" and flip.reason not in _ORDINARY
    return flip.type in ("Stalled", "Degraded") and flip.status == "True"


# --- words and times -----------------------------------------------------------------------------------------------


def named(names: Iterable[str]) -> str:
    """At most five names, sorted: more are not counted, for each change of a number would be a write."""
    listed = sorted(names)
    return ", ".join(listed[:_NAMED]) + (" and others" if len(listed) > _NAMED else "")


def shortened(message: str) -> str:
    return message if len(message) <= _MESSAGE_LIMIT else message[: _MESSAGE_LIMIT - 1] + "…"


def condition_of(holder: Mapping[str, Any] | None, type_: str) -> Mapping[str, Any]:
    """The condition in an object's status; {} if there is none."""
    listed = ((holder or {}).get("status") or {}).get("conditions") or ()
    return next((condition for condition in listed if condition.get("type") == type_), {})


def age_s(condition: Mapping[str, Any], now: datetime) -> float:
    """For how long a condition has had its status; 0 if it does not say."""
    try:
        return max(0.0, (now - datetime.fromisoformat(str(condition.get("lastTransitionTime")))).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def compact(found: dict[str, Any]) -> dict[str, Any]:
    """Without what says nothing: an empty field would come back from the API server as a difference."""
    return {
        name: value
        for name, value in found.items()
        if value is not None and value != "" and value != [] and value != {}
    }
