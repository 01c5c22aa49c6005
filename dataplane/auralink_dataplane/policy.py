"""What a room gets, pure. The operator compiles the RoomPolicies that select a bridge into merge order; every pod
merges them per room with these rules, `app` does so whenever configuration changes.

Per field the first policy that selects the room and sets it wins; the bridge's own spec comes last. Then the minimum
saving is clamped to the target. `roomsPercent` limits a policy's compression to a fixed share of rooms: crc32 decides,
so that a canary keeps its rooms over restarts and on every pod.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass

T = TypeVar("T")

CAMEL = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid")
"""The custom resource's spelling; a field nobody knows is an error, not a surprise later."""

CompressionMode = Literal["Disabled", "Auto", "Always"]
Savings = Annotated[int, Field(ge=0, le=90)]
QualityLevel = Annotated[int, Field(ge=1, le=10)]
QualityFloor = Annotated[int, Field(ge=0, le=100)]
LatencyBudget = Annotated[int, Field(ge=1, le=1000)]
Model = Annotated[str, Field(max_length=63)]
Consent = Literal["Allow", "Deny"]
Privacy = Literal["Full", "DisplayName", "Pseudonym", "Hidden"]
VideoCodec = Literal["H264", "VP8", "VP9", "H265", "AV1"]
VideoCodecs = Annotated[tuple[VideoCodec, ...], Field(min_length=1, max_length=5)]
Participants = Annotated[int, Field(ge=1, le=1000)]


# --- what a room ends up with -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, config=CAMEL)
class Compression:
    mode: CompressionMode = "Auto"
    target_savings_percent: Savings = 40
    min_savings_percent: Savings = 15
    quality_level: QualityLevel = 7
    quality_floor: QualityFloor = 80
    latency_budget_ms: LatencyBudget = 10
    model: Model = ""

    @property
    def enabled(self) -> bool:
        return self.mode != "Disabled"


@dataclass(frozen=True, slots=True, config=CAMEL)
class Media:
    audio: Consent = "Allow"
    video: Consent = "Allow"
    screen_share: Consent = "Allow"
    data: Consent = "Allow"


@dataclass(frozen=True, slots=True, config=CAMEL)
class Rules:
    """All that policies say of one room. `codecs` None: every one."""

    compression: Compression = Field(default_factory=Compression)
    max_participants: Participants | None = None
    media: Media = Field(default_factory=Media)
    privacy: Privacy = "Full"
    codecs: VideoCodecs | None = None

    def forwards(self, medium: str, codec: str) -> bool:
        """Whether a source of this medium ("audio", "video") and codec may be sent on."""
        if medium == "audio":
            return self.media.audio == "Allow"
        return self.media.video == "Allow" and (self.codecs is None or codec in self.codecs)

    def compression_of(self, medium: str, codec: str) -> Compression:
        """What goes nowhere is not compressed either."""
        return self.compression if self.forwards(medium, codec) else replace(self.compression, mode="Disabled")


# --- what one policy sets; None leaves the field to the next one ----------------------------------------------


@dataclass(frozen=True, slots=True, config=CAMEL)
class CompressionRule:
    mode: CompressionMode | None = None
    target_savings_percent: Savings | None = None
    min_savings_percent: Savings | None = None
    quality_level: QualityLevel | None = None
    quality_floor: QualityFloor | None = None
    latency_budget_ms: LatencyBudget | None = None
    model: Model | None = None
    rooms_percent: Annotated[int, Field(ge=0, le=100)] | None = None


@dataclass(frozen=True, slots=True, config=CAMEL)
class MediaRule:
    audio: Consent | None = None
    video: Consent | None = None
    screen_share: Consent | None = None
    data: Consent | None = None


@dataclass(frozen=True, slots=True, config=CAMEL)
class IdentityRule:
    privacy: Privacy | None = None


@dataclass(frozen=True, slots=True, config=CAMEL)
class RoomSelector:
    names: Annotated[tuple[str, ...], Field(max_length=64)] = ("*",)
    labels: Annotated[Mapping[str, str], Field(max_length=16)] = Field(default_factory=dict)

    def selects(self, name: str, labels: Mapping[str, str]) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.names) and all(
            labels.get(key) == value for key, value in self.labels.items()
        )


@dataclass(frozen=True, slots=True, config=CAMEL)
class Policy:
    name: str
    priority: int = 0
    rooms: RoomSelector = Field(default_factory=RoomSelector)
    compression: CompressionRule | None = None
    max_participants: Participants | None = None
    media: MediaRule | None = None
    identity: IdentityRule | None = None
    codecs: VideoCodecs | None = None


# --- the merge ------------------------------------------------------------------------------------------------


def rules_for(name: str, labels: Mapping[str, str], bridge: Compression, policies: Sequence[Policy]) -> Rules:
    """`policies` in merge order, the strongest first."""
    selected = [policy for policy in policies if policy.rooms.selects(name, labels)]
    compression = _merged(bridge, [one.compression for one in selected if _in_share(one.compression, name)])
    clamped = min(compression.min_savings_percent, compression.target_savings_percent)
    privacy: Privacy | None = _first(one.identity.privacy for one in selected if one.identity)
    return Rules(
        compression=replace(compression, min_savings_percent=clamped),
        max_participants=_first(one.max_participants for one in selected),
        media=_merged(Media(), [one.media for one in selected]),
        privacy=privacy or "Full",
        codecs=_first(one.codecs for one in selected),
    )


def _merged(last: T, rules: Iterable[Any]) -> T:
    """Field by field: the first rule that sets it, else `last`."""
    present = [rule for rule in rules if rule is not None]
    values = {
        field.name: _first([*(getattr(rule, field.name) for rule in present), getattr(last, field.name)])
        for field in fields(last)  # type: ignore[arg-type]
    }
    return type(last)(**values)


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)


def _in_share(rule: CompressionRule | None, name: str) -> bool:
    share = rule.rooms_percent if rule else None
    return share is None or zlib.crc32(name.encode()) % 100 < share
