"""The rules by which Flux, kstatus and Argo CD tools read conditions, as one checker; named as in Flux's own set."""

from collections.abc import Mapping
from typing import Any

NEGATIVE = ("Reconciling", "Stalled")


def broken(generation: int, status: Mapping[str, Any]) -> list[str]:
    """Names of the rules that a status breaks."""
    conditions = {c["type"]: c for c in status.get("conditions", [])}
    negative = {name: conditions[name] for name in NEGATIVE if name in conditions}
    ready = conditions.get("Ready", {})
    observed, is_ready = status.get("observedGeneration", -1), ready.get("status") == "True"
    true = {name for name, c in negative.items() if c["status"] == "True"}
    named = next((c for c in negative.values() if c["status"] == "True"), None)
    rules = {
        "FAIL0001 nothing negative while Ready": is_ready and bool(true),
        "FAIL0002 Ready is there": not ready,
        "FAIL0003 Reconciling means not Ready": "Reconciling" in true and ready.get("status") != "False",
        "FAIL0004 Stalled means not Ready": "Stalled" in true and ready.get("status") != "False",
        "FAIL0005 Reconciling or Stalled": len(negative) > 1,
        "FAIL0006 no generation from the future": observed > generation,
        "FAIL0007 an old generation is not Ready": observed < generation and is_ready,
        "FAIL0008 Ready with old conditions": is_ready
        and any(c["observedGeneration"] < generation for c in conditions.values()),
        "FAIL0009 Ready is of one generation": is_ready
        and any(c["observedGeneration"] != observed for c in conditions.values()),
        "FAIL0011 Unknown means Reconciling": ready.get("status") == "Unknown" and "Reconciling" not in true,
        "WARN0001 nothing negative is there while Ready": is_ready and bool(negative),
        "WARN0002 Ready says why": named is not None
        and (named["reason"], named["message"]) != (ready.get("reason"), ready.get("message")),
        "WARN0003 negative ones go, and are not False": any(c["status"] != "True" for c in negative.values()),
        "WARN0005 all have a generation": any("observedGeneration" not in c for c in conditions.values()),
    }
    return [name for name, is_broken in rules.items() if is_broken]


def kstatus(generation: int, obj: Mapping[str, Any]) -> str:
    """What `kubectl wait`-like tools make of an object: Terminating, InProgress, Failed or Current."""
    status = obj.get("status", {})
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    if "deletionTimestamp" in obj["metadata"]:
        return "Terminating"
    if status.get("observedGeneration", generation) != generation or conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    if conditions.get("Ready", "True") != "True":
        return "InProgress"
    return "Current"
