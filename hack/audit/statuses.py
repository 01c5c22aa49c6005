"""Checks every status that was written, by who wrote it.

**The operator** writes conditions: each of its statuses must keep all rules, for the generation that the object had as
it was written, and must not differ from the one before in a time without a flip, or in a number of a message.

One exception is no fault: somebody edits the spec in the moment in which the operator writes about the last one. Then
the status is of an old generation, and readers take it as in progress. It must be followed by one of the new.

**Pods** apply their own entry of `status.pods` on top of what the operator wrote, and know nothing of conditions. After
an edit of the spec the conditions are of the old generation until the operator has looked, so that the rules on
generations say nothing about a pod's write. What must hold is that the conditions stay as they were, which the rules
have been held against already, and that a pod writes its own entry only.

Anybody else (a test that plays a part, an administrator) is counted and not judged.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from hack.audit.log import Event, events
from hack.audit.rules import broken, changed

KINDS = {"auralinkbridges": "AuraLinkBridge", "roompolicies": "RoomPolicy"}
OPERATOR, POD = "auralink-operator-status", "auralink-pod."
OVERTAKEN_S = 10.0
_OF_GENERATION = ("FAIL0007", "FAIL0008")


@dataclass(slots=True)
class Report:
    """`written`: statuses by writer. `unchanged`: writes of the operator that said what was there already."""

    written: Counter[str] = field(default_factory=Counter)
    objects: set[str] = field(default_factory=set)
    overtaken: int = 0
    unchanged: int = 0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        by = ", ".join(
            f"{self.written[who]} by {who}" for who in ("operator", "shard", "pods", "others") if self.written[who]
        )
        return (
            f"{sum(self.written.values())} statuses of {len(self.objects)} objects checked ({by or 'none'}),"
            f" {self.overtaken} overtaken by an edit of the spec, {self.unchanged} of the operator's changed nothing,"
            f" {len(self.violations)} violations"
        )


@dataclass(frozen=True, slots=True)
class _Written:
    """What one write came to; the rest of the bodies is not kept, for a long run writes thousands."""

    at: datetime
    process: tuple[str, str]  # user and agent
    resource: str
    namespace: str
    name: str
    manager: str
    uid: str
    version: int
    generation: int
    status: dict[str, Any]  # without what is not judged
    applied: tuple[str, ...]  # fields of the status as sent
    entries: tuple[str, ...]  # names in `status.pods` as sent

    @property
    def writer(self) -> str:
        if self.manager == OPERATOR:
            return "operator"
        if self.manager.startswith(f"{OPERATOR}-"):
            return "shard"
        return "pods" if self.manager.startswith(POD) else "others"

    @property
    def observed(self) -> int:
        return int(self.status.get("observedGeneration") or 0)

    def blamed(self, problem: str) -> str:
        who = f"{KINDS[self.resource]} {self.namespace}/{self.name}"
        return f"{self.at:%H:%M:%S.%f} {who} (version {self.version}, by {self.manager}): {problem}"


def _asked(event: Event) -> bool:
    """Whether it is a status of ours, and was taken."""
    ours = event.resource in KINDS and event.subresource == "status"
    return ours and event.verb in ("patch", "update") and event.code in (200, 201)


def _written(event: Event) -> _Written | None:
    if not _asked(event) or not event.response or "metadata" not in event.response:
        return None
    meta, status = event.response["metadata"], event.response.get("status") or {}
    applied = (event.request or {}).get("status") or {}
    return _Written(
        at=event.at,
        process=(event.user, event.agent),
        resource=event.resource,
        namespace=event.namespace,
        name=event.name,
        manager=event.manager,
        uid=meta["uid"],
        version=int(meta["resourceVersion"]),
        generation=int(meta.get("generation") or 0),
        status={name: status[name] for name in ("observedGeneration", "conditions") if name in status},
        applied=tuple(sorted(applied)),
        entries=tuple(str(entry.get("name")) for entry in applied.get("pods") or ()),
    )


def check(log: Path, since: datetime | None = None, until: datetime | None = None) -> Report:
    written: list[_Written] = []
    bodiless = 0
    deleted: set[tuple[str, str, str]] = set()
    last_seen: dict[tuple[str, str], datetime] = {}
    for event in events(log, since, until):
        last_seen[event.user, event.agent] = event.at
        if event.resource in KINDS and event.verb in ("delete", "deletecollection"):
            deleted.add((event.resource, event.namespace, event.name))
        if (write := _written(event)) is not None:
            written.append(write)
        elif _asked(event):
            bodiless += 1
    trial = _Trial(Report())
    if bodiless:
        trial.report.violations.append(
            f"{bodiless} statuses without bodies: the API server was started with another audit policy (make cluster)"
        )
    for write in sorted(written, key=lambda write: write.version):
        trial.hear(write)
    for write, problems in trial.overtaken.values():
        gone = deleted & {(write.resource, write.namespace, name) for name in (write.name, "")}
        went_on = last_seen[write.process] - write.at > timedelta(seconds=OVERTAKEN_S)
        if went_on and not gone:
            trial.report.violations += [
                write.blamed(f"{problem}, and none of the new followed") for problem in problems
            ]
    return trial.report


@dataclass(slots=True)
class _Trial:
    """Hears the writes in the order of their versions. `last`: the write before, by object."""

    report: Report
    last: dict[str, _Written] = field(default_factory=dict)
    overtaken: dict[str, tuple[_Written, list[str]]] = field(default_factory=dict)

    def hear(self, write: _Written) -> None:
        before, writer = self.last.get(write.uid), write.writer
        self.report.objects.add(write.uid)
        self.report.written[writer] += 1
        problems: list[str] = []
        if writer == "operator":
            self.report.unchanged += before is not None and before.version == write.version
            problems = self._excused(write, _of_operator(write, before))
        elif writer == "pods":
            problems = _of_pod(write, before)
        elif writer == "shard" and (more := set(write.applied) - {"matchedBridges"}):
            # It tells of its own bridges, and leaves the conditions to the operator of the default shard.
            problems = [f"a shard writes {', '.join(sorted(more))}"]
        self.report.violations += [write.blamed(problem) for problem in problems]
        self.last[write.uid] = write

    def _excused(self, write: _Written, problems: list[str]) -> list[str]:
        """Without what is only of an old generation, which is judged at the end: by whether a new one follows."""
        stale = [problem for problem in problems if problem.startswith(_OF_GENERATION)]
        if not stale or broken(write.observed, write.status):
            if write.uid in self.overtaken and write.observed >= self.overtaken[write.uid][0].generation:
                del self.overtaken[write.uid]
            return problems
        self.report.overtaken += 1
        self.overtaken[write.uid] = (write, stale)
        return [problem for problem in problems if problem not in stale]


def _of_operator(write: _Written, before: _Written | None) -> list[str]:
    found = broken(write.generation, write.status)
    if any(c.get("observedGeneration") != write.observed for c in write.status.get("conditions") or ()):
        found.append("one write is of one generation")
    if before is not None and before.writer != "others":
        found += changed(before.status, write.status)
    return found


def _of_pod(write: _Written, before: _Written | None) -> list[str]:
    found, name = [], write.manager.removeprefix(POD)
    if set(write.applied) - {"pods"} or set(write.entries) - {name}:
        found.append(f"pod {name} writes more than its own entry")
    if before is not None and before.status != write.status:
        found.append(f"pod {name} has changed the conditions")
    return found
