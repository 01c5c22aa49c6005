"""RoomPolicy: what rooms get beyond their bridge's own settings, and what a bridge's policies come to."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from auralink_operator.models.schema import (
    NOT_YET,
    SET,
    Labels,
    LatencyBudget,
    Meta,
    Mode,
    Model,
    ObjectLabels,
    Percent,
    Quality,
    Saving,
    Text63,
    VideoCodec,
    cel,
    rule,
)

MAX_POLICIES = 64


class Verdict(StrEnum):
    ALLOW = "Allow"
    DENY = "Deny"


class Privacy(StrEnum):
    FULL = "Full"
    DISPLAY_NAME = "DisplayName"
    PSEUDONYM = "Pseudonym"
    HIDDEN = "Hidden"


class PolicyRooms(Model):
    names: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=64)], ...],
        Field(
            min_length=1,
            max_length=64,
            json_schema_extra=SET,
            description="globs on room names (* ? [a-z] [!a-z]), upper and lower case count; one must fit",
        ),
    ] = ("*",)
    labels: Annotated[Labels, Field(description="labels that a room must have, as well as a name that fits")] = {}


class PolicyCompression(Model):
    # No field has a default: what a policy does not set is left to the next one, and last to the bridge.
    mode: Annotated[Mode, Field(description="see the bridge's compression.mode")] | None = None
    target_savings_percent: (
        Annotated[Saving, Field(description="share of bytes to save; see the bridge's compression")] | None
    ) = None
    min_savings_percent: (
        Annotated[Saving, Field(description="below this saving Auto sends the native stream; lowered to the target")]
        | None
    ) = None
    quality_level: Annotated[Quality, Field(description="10 keeps the most quality, 1 saves the most")] | None = None
    quality_floor: (
        Annotated[Percent, Field(description="caps the predicted loss; see the bridge's compression.qualityFloor")]
        | None
    ) = None
    latency_budget_ms: (
        Annotated[
            LatencyBudget,
            Field(description="what the AI Core may take for a frame; see the bridge's compression.latencyBudgetMs"),
        ]
        | None
    ) = None
    model: Annotated[Text63, Field(description="compression model; empty: the AI Core's default")] | None = None
    rooms_percent: (
        Annotated[
            Percent,
            Field(description="share of rooms, always the same ones, that get this policy's compression; absent: 100"),
        ]
        | None
    ) = None


class PolicyMedia(Model):
    audio: Annotated[Verdict, Field(description="Deny: no audio crosses the bridge")] | None = None
    video: Annotated[Verdict, Field(description="Deny: no camera video crosses the bridge")] | None = None
    screen_share: (
        Annotated[Verdict, Field(description=f"Deny: no shared screen crosses the bridge {NOT_YET}")] | None
    ) = None
    data: (
        Annotated[Verdict, Field(description=f"Deny: no chat and data messages cross the bridge {NOT_YET}")] | None
    ) = None


class PolicyIdentity(Model):
    privacy: (
        Annotated[
            Privacy,
            Field(
                description="what the other side learns of a participant: Full all, DisplayName the name only,"
                " Pseudonym a made-up name that stays the same, Hidden nothing"
            ),
        ]
        | None
    ) = None


class BridgeSelector(Model):
    match_labels: Annotated[ObjectLabels, Field(description="labels that a bridge must have, all of them")] = {}


_COMPRESSION = (
    "mode",
    "targetSavingsPercent",
    "minSavingsPercent",
    "qualityLevel",
    "qualityFloor",
    "latencyBudgetMs",
    "model",
)
_MEDIA = ("audio", "video", "screenShare", "data")
LEAVES = (
    *(f"compression.{name}" for name in _COMPRESSION),
    "maxParticipants",
    *(f"media.{name}" for name in _MEDIA),
    "identity.privacy",
    "codecs",
)
"""What policies are merged by: each of these is won by one policy."""


def _effect() -> str:
    """Whether any leaf is set: a rule must ask for the parent first."""
    alone = (f"has(self.{leaf})" for leaf in LEAVES if "." not in leaf)
    parents = dict.fromkeys(leaf.partition(".")[0] for leaf in LEAVES if "." in leaf)
    inside = (
        f"(has(self.{parent}) && ("
        + " || ".join(f"has(self.{leaf})" for leaf in LEAVES if leaf.startswith(f"{parent}."))
        + "))"
        for parent in parents
    )
    return " || ".join((*inside, *alone))


class PolicySpec(Model):
    model_config = ConfigDict(
        json_schema_extra=cel(
            rule(_effect(), f"a policy needs an effect: set at least one of {', '.join(LEAVES)}"),
        )
    )
    bridge_selector: (
        Annotated[BridgeSelector, Field(description="bridges that it is for; absent: every one of the namespace")]
        | None
    ) = None
    rooms: Annotated[PolicyRooms, Field(description="rooms that it is for, by name and labels")] = PolicyRooms()
    priority: Annotated[
        int, Field(ge=-1000, le=1000, description="where policies disagree on a field the higher wins, then the older")
    ] = 0
    compression: (
        Annotated[PolicyCompression, Field(description="how video is recompressed; each field by itself")] | None
    ) = None
    max_participants: (
        Annotated[int, Field(ge=1, le=1000, description=f"participants that a room may bridge at a time {NOT_YET}")]
        | None
    ) = None
    media: Annotated[PolicyMedia, Field(description="what may cross the bridge; each field by itself")] | None = None
    identity: Annotated[PolicyIdentity, Field(description=f"what is told of participants {NOT_YET}")] | None = None
    codecs: (
        Annotated[
            tuple[VideoCodec, ...],
            Field(
                min_length=1,
                max_length=5,
                json_schema_extra=SET,
                description="video codecs that may cross the bridge; streams in others are not bridged; absent: all",
            ),
        ]
        | None
    ) = None

    def effects(self) -> dict[str, Any]:
        """What it sets, as in a resource."""
        written = self.written_out()
        return {name: written[name] for name in EFFECTS if written.get(name)}


EFFECTS = tuple(dict.fromkeys(leaf.partition(".")[0] for leaf in LEAVES))


@dataclass(frozen=True, slots=True)
class RoomPolicy:
    meta: Meta
    spec: PolicySpec


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """One policy as pods get it: what it sets, and for the bridge's status what it lost to whom."""

    name: str
    priority: int
    generation: int
    rooms: Mapping[str, Any]
    effects: Mapping[str, Any]
    overridden: tuple[str, ...] = ()

    def rendered(self) -> dict[str, Any]:
        return {"name": self.name, "priority": self.priority, "rooms": dict(self.rooms), **self.effects}


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two policies of one priority that want different things of the same field: chance, not intent, decides."""

    field: str  # one of LEAVES
    winner: str
    loser: str
    priority: int
    why: str  # what decided, and for which rooms: a whole clause for a message


@dataclass(frozen=True, slots=True)
class Compiled:
    """A bridge's policies in merge order, those beyond the limit, and the conflicts among the former."""

    policies: tuple[CompiledPolicy, ...] = ()
    dropped: tuple[str, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
