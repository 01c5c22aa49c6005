"""What a pod knows of each participant, beside what its side says of it: presence, and all of it in one record. Pure.

Presence is as little as anybody needs, for neither side tells more: LiveKit has no "away", and Jitsi clients do not
send XMPP's `<show/>`.

    OFFLINE --joined--> ACTIVE --nothing for IDLE_S--> IDLE
       ^                  | ^                           |
       +------left--------+ +---------acted-------------+     (left leads to OFFLINE from everywhere)
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field

from auralink_dataplane.rooms.capabilities import MediaCapabilities
from auralink_dataplane.rooms.events import MAX_NAME, Participant, Role, Side, Track, Version
from auralink_dataplane.rooms.identity import MAX_AURA_ID
from auralink_dataplane.rooms.quality import QoSMetrics, Timestamp
from auralink_dataplane.rooms.wire import WIRE

IDLE_S: Final = 300.0
"""As long as an identity is believed; longer than a speaker's turn takes in a meeting."""

MAX_TRACKS: Final = 64

Name = Annotated[str, Field(max_length=MAX_NAME)]


class PresenceStatus(Enum):
    ACTIVE = "ACTIVE"
    IDLE = "IDLE"
    OFFLINE = "OFFLINE"


class Sign(Enum):
    """What a participant gives of itself."""

    JOINED = "joined"
    ACTED = "acted"  # spoke, wrote, raised a hand, published, muted or unmuted
    LEFT = "left"


_TABLE: Final[Mapping[tuple[PresenceStatus, Sign], PresenceStatus]] = MappingProxyType(
    {
        (PresenceStatus.OFFLINE, Sign.JOINED): PresenceStatus.ACTIVE,
        (PresenceStatus.OFFLINE, Sign.ACTED): PresenceStatus.OFFLINE,  # told late: it has left meanwhile
        (PresenceStatus.OFFLINE, Sign.LEFT): PresenceStatus.OFFLINE,
        (PresenceStatus.ACTIVE, Sign.JOINED): PresenceStatus.ACTIVE,
        (PresenceStatus.ACTIVE, Sign.ACTED): PresenceStatus.ACTIVE,
        (PresenceStatus.ACTIVE, Sign.LEFT): PresenceStatus.OFFLINE,
        (PresenceStatus.IDLE, Sign.JOINED): PresenceStatus.ACTIVE,  # again, from another device
        (PresenceStatus.IDLE, Sign.ACTED): PresenceStatus.ACTIVE,
        (PresenceStatus.IDLE, Sign.LEFT): PresenceStatus.OFFLINE,
    }
)


@dataclass(frozen=True, slots=True)
class Presence:
    """`since`: when the status began; `acted`: the last sign. By the clock that `observe` and `look` are given, s."""

    status: PresenceStatus = PresenceStatus.OFFLINE
    since: float = 0.0
    acted: float = 0.0


def observe(presence: Presence, sign: Sign, now: float) -> Presence:
    """After a sign. What happened between the last look and now comes first."""
    presence = look(presence, now)
    status = _TABLE[presence.status, sign]
    acted = max(presence.acted, now) if status is PresenceStatus.ACTIVE else presence.acted
    return _entered(replace(presence, acted=acted), status, now)


def look(presence: Presence, now: float) -> Presence:
    """As it is now without any sign."""
    quiet = presence.status is PresenceStatus.ACTIVE and now - presence.acted >= IDLE_S
    return _entered(presence, PresenceStatus.IDLE, presence.acted + IDLE_S) if quiet else presence


def _entered(presence: Presence, status: PresenceStatus, now: float) -> Presence:
    return presence if status is presence.status else replace(presence, status=status, since=now)


@dataclass(frozen=True, slots=True)
class ParticipantMetadata:
    """All of one participant, as other pods and `GET /participants` read it. `name` is what the room's privacy allows
    (`identity.shown`); attributes of the side are not in it, for they may hold anything."""

    __pydantic_config__: ClassVar[ConfigDict] = WIRE

    participant_id: Name
    side: Side
    version: Version
    name: Name = ""
    aura_id: Annotated[str, Field(max_length=MAX_AURA_ID)] = ""
    role: Role = Role.SPEAKER
    hand_raised: bool = False
    tracks: Annotated[tuple[Track, ...], Field(max_length=MAX_TRACKS)] = ()
    origin: Annotated[str, Field(max_length=4 * MAX_NAME)] = ""
    is_bridge: bool = False
    media_capabilities: MediaCapabilities | None = None
    qos_metrics: QoSMetrics | None = None  # the newest
    presence: PresenceStatus = PresenceStatus.ACTIVE
    updated_at: Timestamp = 0


def describe(
    participant: Participant,
    *,
    name: str,
    aura_id: str,
    presence: Presence,
    now_ms: int,
    capabilities: MediaCapabilities | None = None,
    qos: QoSMetrics | None = None,
) -> ParticipantMetadata:
    """What is over the bounds is cut: a name of 300 characters must not hide who is there."""
    return ParticipantMetadata(
        participant_id=participant.id,
        side=participant.side,
        version=participant.version,
        name=name[:MAX_NAME],
        aura_id=aura_id,
        role=participant.role,
        hand_raised=participant.hand_raised,
        tracks=participant.tracks[:MAX_TRACKS],
        origin=participant.origin,
        is_bridge=participant.is_bridge,
        media_capabilities=capabilities,
        qos_metrics=qos,
        presence=presence.status,
        updated_at=max(0, now_ms),
    )
