"""Which compression a room gets, pure. The operator compiles the RoomPolicies that select a bridge into merge order;
every pod merges them per room with these rules, `app` does so whenever configuration changes.

Per field the first policy that selects the room and sets it wins; the bridge's own compression comes last. Then the
minimum saving is clamped to the target. A policy with `roomsPercent` counts for a fixed share of rooms: crc32 decides,
so that a canary keeps its rooms over restarts and on every pod.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass

CAMEL = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid")
"""The custom resource's spelling; a field nobody knows is an error, not a surprise later."""

CompressionMode = Literal["Disabled", "Auto", "Always"]
Savings = Annotated[int, Field(ge=0, le=90)]
QualityLevel = Annotated[int, Field(ge=1, le=10)]
QualityFloor = Annotated[int, Field(ge=0, le=100)]
Model = Annotated[str, Field(max_length=63)]


@dataclass(frozen=True, slots=True, config=CAMEL)
class Compression:
    mode: CompressionMode = "Auto"
    target_savings_percent: Savings = 40
    min_savings_percent: Savings = 15
    quality_level: QualityLevel = 7
    quality_floor: QualityFloor = 80
    model: Model = ""

    @property
    def enabled(self) -> bool:
        return self.mode != "Disabled"


@dataclass(frozen=True, slots=True, config=CAMEL)
class CompressionRule:
    """What a policy sets; None leaves the field to the next one."""

    mode: CompressionMode | None = None
    target_savings_percent: Savings | None = None
    min_savings_percent: Savings | None = None
    quality_level: QualityLevel | None = None
    quality_floor: QualityFloor | None = None
    model: Model | None = None
    rooms_percent: Annotated[int, Field(ge=0, le=100)] | None = None


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


def compression_for(
    name: str, labels: Mapping[str, str], bridge: Compression, policies: Sequence[Policy]
) -> Compression:
    """`policies` in merge order, the strongest first."""
    rules = [policy.compression for policy in policies if policy.compression and _counts(policy, name, labels)]
    merged = {
        field.name: next(
            (value for rule in rules if (value := getattr(rule, field.name)) is not None), getattr(bridge, field.name)
        )
        for field in fields(Compression)
    }
    merged["min_savings_percent"] = min(merged["min_savings_percent"], merged["target_savings_percent"])
    return Compression(**merged)


def _counts(policy: Policy, name: str, labels: Mapping[str, str]) -> bool:
    share = policy.compression.rooms_percent if policy.compression else None
    return policy.rooms.selects(name, labels) and (share is None or zlib.crc32(name.encode()) % 100 < share)
