"""From records to rows: which table, which columns, and one row for all that a batch says of the same thing. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

from auralink_dataplane.adapters.postgres.queries import Query
from auralink_dataplane.rooms.records import (
    AuditEntry,
    CompressionSample,
    ParticipantJoined,
    ParticipantLeft,
    QosSample,
    Record,
    RoomClosed,
    RoomOpened,
    SessionClosed,
    SessionOpened,
)

Value = str | int | float | UUID | datetime | None
Key = tuple[UUID, datetime]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Table:
    """`columns`: in the order of the query's arrays, the key first."""

    name: str
    query: Query
    columns: tuple[str, ...]
    with_pod: bool = False


ROOMS: Final = Table("rooms", Query.WRITE_ROOMS, ("room_id", "opened_at", "name", "closed_at", "close_reason"))
SESSIONS: Final = Table(
    "sessions",
    Query.WRITE_SESSIONS,
    (
        "session_id", "opened_at", "room_id", "leg", "medium", "codec", "closed_at", "bytes_in", "bytes_out",
        "close_reason",
    ),
    with_pod=True,
)  # fmt: skip
PARTICIPANTS: Final = Table(
    "participants",
    Query.WRITE_PARTICIPANTS,
    ("participant_id", "joined_at", "room_id", "side", "name", "identity", "left_at", "leave_reason"),
)
QOS_HISTORY: Final = Table(
    "qos_history",
    Query.WRITE_QOS_HISTORY,
    ("participant_id", "at", "loss_percent", "jitter_ms", "rtt_ms", "bandwidth_kbps", "mos"),
)
COMPRESSION_STATISTICS: Final = Table(
    "compression_statistics",
    Query.WRITE_COMPRESSION_STATISTICS,
    (
        "session_id", "at", "frames", "frames_compressed", "frames_fallback", "bytes_in", "bytes_out", "latency_ms",
    ),
)  # fmt: skip
AUDIT: Final = Table("audit", Query.WRITE_AUDIT, ("entry_id", "at", "actor", "action", "subject", "details"))

TABLES: Final = (ROOMS, SESSIONS, PARTICIPANTS, QOS_HISTORY, COMPRESSION_STATISTICS, AUDIT)
"""In the order in which a batch is written."""

Row = tuple[Table, Mapping[str, Value]]


def row_of(record: Record) -> Row:
    """The columns that it says something of."""
    match record:
        case RoomOpened():
            return ROOMS, {"room_id": record.room, "opened_at": _at(record.opened_ms), "name": record.name}
        case RoomClosed():
            return ROOMS, {
                "room_id": record.room,
                "opened_at": _at(record.opened_ms),
                "closed_at": _at(record.closed_ms),
                "close_reason": record.reason,
            }
        case SessionOpened():
            return SESSIONS, {
                "session_id": record.session,
                "opened_at": _at(record.opened_ms),
                "room_id": record.room,
                "leg": record.leg,
                "medium": record.medium,
                "codec": record.codec,
            }
        case SessionClosed():
            return SESSIONS, {
                "session_id": record.session,
                "opened_at": _at(record.opened_ms),
                "closed_at": _at(record.closed_ms),
                "bytes_in": record.bytes_in,
                "bytes_out": record.bytes_out,
                "close_reason": record.reason,
            }
        case ParticipantJoined():
            return PARTICIPANTS, {
                "participant_id": record.participant,
                "joined_at": _at(record.joined_ms),
                "room_id": record.room,
                "side": record.side.value,
                "name": record.name,
                "identity": record.identity,
            }
        case ParticipantLeft():
            return PARTICIPANTS, {
                "participant_id": record.participant,
                "joined_at": _at(record.joined_ms),
                "left_at": _at(record.left_ms),
                "leave_reason": record.reason,
            }
        case QosSample():
            return QOS_HISTORY, {
                "participant_id": record.participant,
                "at": _at(record.at_ms),
                "loss_percent": record.loss_percent,
                "jitter_ms": record.jitter_ms,
                "rtt_ms": record.rtt_ms,
                "bandwidth_kbps": record.bandwidth_kbps,
                "mos": record.mos,
            }
        case CompressionSample():
            return COMPRESSION_STATISTICS, {
                "session_id": record.session,
                "at": _at(record.at_ms),
                "frames": record.frames,
                "frames_compressed": record.frames_compressed,
                "frames_fallback": record.frames_fallback,
                "bytes_in": record.bytes_in,
                "bytes_out": record.bytes_out,
                "latency_ms": record.latency_ms,
            }
        case AuditEntry():
            return AUDIT, {
                "entry_id": record.entry,
                "at": _at(record.at_ms),
                "actor": record.actor,
                "action": record.action,
                "subject": record.subject,
                "details": json.dumps(dict(record.details), ensure_ascii=False),
            }


def table_of(record: Record) -> Table:
    return row_of(record)[0]


def day_of(record: Record) -> date:
    """Of the time in its key, which says what partition it goes to (UTC)."""
    table, values = row_of(record)
    at = values[table.columns[1]]
    assert isinstance(at, datetime)  # noqa: S101 - the second column of every table
    return at.date()


def columns_of(table: Table, records: Iterable[Record]) -> Sequence[list[Value]]:
    """An array per column, for the query of a table that all of them go to.

    What several say of one key is one row, and the later of two words counts: a statement may touch a row once only.
    Rows are in the order of their keys, in which every pod takes its locks, so that no two wait for each other.
    """
    merged: dict[Key, dict[str, Value]] = {}
    for record in records:
        _, values = row_of(record)
        key = tuple(values[name] for name in table.columns[:2])
        said = {name: value for name, value in values.items() if value is not None}
        merged.setdefault(key, {}).update(said)  # type: ignore[arg-type]
    rows = [merged[key] for key in sorted(merged)]
    return [[row.get(name) for row in rows] for name in table.columns]


def _at(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)
