"""What the API server's audit log says of who asked for what, and when: all counts and most times come from here.

An audit line is written by the server when an answer is complete, so nothing that the operator does can be missed or
counted by itself. Times are the server's own: `received` when the request arrived, `done` when it was answered.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

READS, WRITES = ("get", "list", "watch"), ("create", "update", "patch", "delete", "deletecollection")
_BRIDGE = re.compile(r"^(?:auralink-)?(b[0-9]+)(?:-|$)")
_MANAGER = re.compile(r"fieldManager=([^&]+)")


@dataclass(frozen=True, slots=True)
class Request:
    user: str
    agent: str
    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    manager: str
    received: float
    done: float

    @property
    def bridge(self) -> tuple[str, str] | None:
        """The measured bridge (namespace, name) that the object is, or belongs to, by its name."""
        found = _BRIDGE.match(self.name)
        return (self.namespace, found.group(1)) if found else None

    @property
    def is_write(self) -> bool:
        return self.verb in WRITES

    @property
    def is_status(self) -> bool:
        return self.subresource == "status" and self.is_write


def parse(line: str) -> Request | None:
    """None for a line that is not finished yet, and for stages before the answer (a watch is told as it begins)."""
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    if event["stage"] != ("ResponseStarted" if event["verb"] == "watch" else "ResponseComplete"):
        return None
    ref = event.get("objectRef") or {}
    manager = _MANAGER.search(event["requestURI"])
    return Request(
        user=event["user"]["username"],
        agent=event.get("userAgent", ""),
        verb=event["verb"],
        resource=ref.get("resource", event["requestURI"]),
        subresource=ref.get("subresource", ""),
        namespace=ref.get("namespace", ""),
        name=ref.get("name", ""),
        code=(event.get("responseStatus") or {}).get("code", 0),
        manager=manager.group(1) if manager else "",
        received=_seconds(event["requestReceivedTimestamp"]),
        done=_seconds(event["stageTimestamp"]),
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


class AuditLog:
    """A growing log, read from where the last reading ended."""

    def __init__(self, path: Path, user: str) -> None:
        self._path, self._user = path, f'"username":"{user}"'.encode()

    def mark(self) -> int:
        return self._path.stat().st_size

    def since(self, mark: int, users: Sequence[str] = ()) -> Iterator[Request]:
        """Requests whose answer was complete after `mark`: those of the log's user, and of `users`."""
        wanted = [self._user, *(f'"username":"{user}"'.encode() for user in users)]
        with self._path.open("rb") as log:
            log.seek(mark)
            for line in log:
                if any(name in line for name in wanted) and (found := parse(line.decode())) is not None:
                    yield found


def by_verb(requests: Iterable[Request]) -> str:
    """`patch configmaps 12, ...`, the most frequent first."""
    counts = Counter(f"{one.verb} {one.resource}{'/' * bool(one.subresource)}{one.subresource}" for one in requests)
    return ", ".join(f"{what} {count}" for what, count in counts.most_common(8))


def per_bridge(requests: Iterable[Request]) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """Requests, and writes of the bridge's own status among them, by bridge."""
    every: Counter[tuple[str, str]] = Counter()
    status: Counter[tuple[str, str]] = Counter()
    for one in requests:
        if (bridge := one.bridge) is not None:
            every[bridge] += 1
            status[bridge] += one.is_status and one.resource == "auralinkbridges"
    return every, status


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed; raises ValueError for no values."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("nothing was measured")
    return ordered[max(0, math.ceil(round(share * len(ordered), 9)) - 1)]
