"""Reads an audit log: one JSON object per line, in files that the API server cuts off at a size and keeps beside it."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Obj = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """One completed request. Bodies are there only where the audit policy asks for them."""

    at: datetime
    user: str
    agent: str
    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    manager: str  # fieldManager, as the client named itself
    request: Obj | None
    response: Obj | None

    @property
    def what(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def files(log: Path) -> list[Path]:
    """The log and what was cut off of it, oldest first: `audit-2026-01-01T00-00-00.000.log`, ..., `audit.log`."""
    return [*sorted(log.parent.glob(f"{log.stem}-*{log.suffix}")), *([log] if log.exists() else [])]


def events(
    log: Path, since: datetime | None = None, until: datetime | None = None, having: str = ""
) -> Iterator[Event]:
    """Completed requests in the order of the log. `having`: only lines with this text; saves reading the others."""
    for path in files(log):
        with path.open() as lines:
            for line in lines:
                if having in line and (event := _event(line)) is not None and _within(event.at, since, until):
                    yield event


def requests(
    log: Path, user: str = "", since: datetime | None = None, until: datetime | None = None
) -> Counter[tuple[str, str]]:
    """How often a user (any, without a name) asked for what: by (verb, "resource/subresource")."""
    return Counter((event.verb, event.what) for event in events(log, since, until, user) if user in ("", event.user))


def _within(at: datetime, since: datetime | None, until: datetime | None) -> bool:
    return (since is None or at >= since) and (until is None or at <= until)


def _event(line: str) -> Event | None:
    try:
        raw = json.loads(line)
    except json.JSONDecodeError:
        return None  # the last line may be half-written
    if raw.get("stage") != "ResponseComplete":
        return None
    target = raw.get("objectRef") or {}
    query = parse_qs(urlsplit(raw.get("requestURI") or "").query)
    return Event(
        at=datetime.fromisoformat(raw["stageTimestamp"]),
        user=(raw.get("user") or {}).get("username") or "",
        agent=raw.get("userAgent") or "",
        verb=raw.get("verb") or "",
        resource=target.get("resource") or "",
        subresource=target.get("subresource") or "",
        namespace=target.get("namespace") or "",
        name=target.get("name") or "",
        code=int((raw.get("responseStatus") or {}).get("code") or 0),
        manager=(query.get("fieldManager") or [""])[0],
        request=raw.get("requestObject"),
        response=raw.get("responseObject"),
    )
