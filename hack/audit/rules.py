"""The rules by which Flux, kstatus and Argo CD tools read conditions, each as one line. Pure.

Named as in Flux's own set (fluxcd/pkg: runtime/conditions/check/fail.go, warn.go), which has no FAIL0010 any more. All
of them hold for a status at the end of a reconcile. We write none in between, so all of them hold always; and where
Flux's WARN0002 leaves Reconciling and Stalled out, we hold Ready to their words too.
"""

from collections.abc import Mapping
from typing import Any

NEGATIVE = ("Reconciling", "Stalled")


def broken(generation: int, status: Mapping[str, Any]) -> list[str]:
    """Names of the rules that a status breaks, for an object of that generation."""
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    negative = [conditions[name] for name in NEGATIVE if name in conditions]
    true = {c["type"] for c in negative if c["status"] == "True"}
    ready = conditions.get("Ready", {})
    observed, state = status.get("observedGeneration", 0), ready.get("status")
    is_ready, of = state == "True", [c.get("observedGeneration", 0) for c in conditions.values()]
    rules = {
        "FAIL0001 nothing negative is True while Ready": is_ready and bool(true),
        "FAIL0002 Ready is there": not ready,
        "FAIL0003 Reconciling means Ready=False": "Reconciling" in true and state != "False",
        "FAIL0004 Stalled means Ready=False": "Stalled" in true and state != "False",
        "FAIL0005 Reconciling or Stalled": len(negative) > 1,
        "FAIL0006 no generation from the future": observed > generation,
        "FAIL0007 an old generation is not Ready": observed < generation and is_ready,
        "FAIL0008 no old condition while Ready": is_ready and any(one < generation for one in of),
        "FAIL0009 Ready is of one generation": is_ready and any(one != observed for one in of),
        "FAIL0011 Unknown means Reconciling": state == "Unknown" and "Reconciling" not in true,
        "WARN0001 nothing negative is there while Ready": is_ready and bool(negative),
        "WARN0002 Ready has the words of what is negative": any(_words(c) != _words(ready) for c in negative),
        "WARN0003 Reconciling goes, and is not False": _is(conditions, "Reconciling", "False"),
        "WARN0004 Stalled goes, and is not False": _is(conditions, "Stalled", "False"),
        "WARN0005 every condition has a generation": any(one < 1 for one in of),
    }
    return [name for name, is_broken in rules.items() if is_broken]


def _words(condition: Mapping[str, Any]) -> tuple[Any, Any]:
    return condition.get("reason"), condition.get("message")


def _is(conditions: Mapping[str, Mapping[str, Any]], name: str, status: str) -> bool:
    return name in conditions and conditions[name]["status"] == status


def kstatus(obj: Mapping[str, Any]) -> str:
    """What `kubectl wait`, Flux and Argo CD's kin make of an object, in the order that they document.

    kubernetes-sigs/cli-utils: pkg/kstatus/status, `checkGenericProperties`, then `checkReadyCondition`.
    """
    meta, status = obj["metadata"], obj.get("status") or {}
    if meta.get("deletionTimestamp"):
        return "Terminating"
    if "generation" in meta and status.get("observedGeneration", meta["generation"]) != meta["generation"]:
        return "InProgress"
    conditions = status.get("conditions") or ()
    for condition in conditions:
        if condition["status"] == "True" and condition["type"] in NEGATIVE:
            return "InProgress" if condition["type"] == "Reconciling" else "Failed"
    ready = next((condition["status"] for condition in conditions if condition["type"] == "Ready"), "")
    return "InProgress" if ready in ("False", "Unknown") else "Current"


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What one write may not do to the status before it: times that move without a flip, and messages that count."""
    old = {c["type"]: c for c in before.get("conditions") or ()}
    found = []
    for condition in after.get("conditions") or ():
        was = old.get(condition["type"])
        if was is None:
            continue
        flipped, moved = (
            was["status"] != condition["status"],
            was["lastTransitionTime"] != condition["lastTransitionTime"],
        )
        if moved and not flipped:
            found.append(f"TIME of {condition['type']} moved without a flip")
        if condition["lastTransitionTime"] < was["lastTransitionTime"]:
            found.append(f"TIME of {condition['type']} went back")
        if _counts(was, condition):
            found.append(f"COUNTER in the message of {condition['type']}: {condition['message']}")
    return found


def _counts(was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two messages of one reason differ in nothing but numbers that stand alone."""
    alike = (was["status"], was["reason"]) == (now["status"], now["reason"])
    return alike and was["message"] != now["message"] and _numberless(was["message"]) == _numberless(now["message"])


def _numberless(message: str) -> list[str]:
    return ["#" if word.strip("(),.;:").isdigit() else word for word in message.split()]
