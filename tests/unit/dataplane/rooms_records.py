"""Records for tests: one of each kind, and any."""

from uuid import UUID

from auralink_dataplane.rooms.events import Side
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

ROOM, SESSION, PARTICIPANT, ENTRY = (UUID(int=number) for number in range(1, 5))


def one_of_each(at_ms: int) -> tuple[Record, ...]:
    return (
        RoomOpened(ROOM, at_ms, "standup"),
        RoomClosed(ROOM, at_ms, at_ms + 9000, "empty"),
        SessionOpened(SESSION, at_ms, ROOM, "in", "video", "VP8"),
        SessionClosed(SESSION, at_ms, at_ms + 8000, 9000, 5000, "left"),
        ParticipantJoined(PARTICIPANT, at_ms, ROOM, Side.JITSI, "Ann", "ann@example.com"),
        ParticipantLeft(PARTICIPANT, at_ms, at_ms + 8000, "hung up"),
        QosSample(PARTICIPANT, at_ms, 0.5, 12.0, 40.0, 1500.0, 4.25),
        CompressionSample(SESSION, at_ms, 100, 90, 2, 90_000, 50_000, 7.5),
        AuditEntry(ENTRY, at_ms, "operator", "drain", "pod-1", {"why": "rollout"}),
    )


def qos(number: int, at_ms: int = 0) -> QosSample:
    return QosSample(UUID(int=number), at_ms, 0.0)


def audit(number: int, at_ms: int = 0, subject: str = "") -> AuditEntry:
    return AuditEntry(UUID(int=number), at_ms, "a", "b", subject)


def left(number: int, at_ms: int = 0) -> ParticipantLeft:
    return ParticipantLeft(UUID(int=number), at_ms, at_ms)
