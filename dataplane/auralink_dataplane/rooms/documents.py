"""What pods write into Redis for each other, to and from text. Pure; `keys` says where, `docs/redis.md` for whom.

A document is a JSON object with `schema` (a number), `kind`, and the fields of its type in camelCase. Fields may be
added under the same number: who does not know them ignores them, and what is missing has its default. A change that
an older reader would misread raises the number, and such a reader refuses the document instead of guessing.

Redis is shared and may hold anything: whatever is read there ends as the type, or as a `DocumentError` that says why.
It never repeats values, for they are people's.
"""

import json
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, ClassVar, Final, Generic, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from auralink_dataplane.rooms.capabilities import MediaCapabilities
from auralink_dataplane.rooms.identity import IdentityInfo
from auralink_dataplane.rooms.media_state import MediaState
from auralink_dataplane.rooms.participants import Name, ParticipantMetadata
from auralink_dataplane.rooms.quality import Timestamp
from auralink_dataplane.rooms.wire import WIRE

T = TypeVar("T")

SCHEMA: Final = 1
MAX_DOCUMENT_BYTES: Final = 64 << 10
_MAX_INT: Final = (1 << 53) - 1


class Fault(Enum):
    """Why something is no document of ours."""

    TOO_LARGE = "too large"
    NOT_JSON = "not JSON"
    FOREIGN = "not of this kind"
    NEWER = "of a newer schema"
    INVALID = "invalid"


class DocumentError(ValueError):
    """What cannot be read as what it should be, or a value that cannot be written."""

    def __init__(self, kind: str, fault: Fault, detail: str = "") -> None:
        super().__init__(f"{kind} document {fault.value}{f': {detail}' if detail else ''}")
        self.kind = kind
        self.fault = fault


@dataclass(frozen=True, slots=True)
class RoomRecord:
    """A room, as its owner last saw it."""

    __pydantic_config__: ClassVar[ConfigDict] = WIRE

    name: Name
    owner: Name  # pod
    livekit_sid: Name = ""
    jitsi_meeting_id: Name = ""
    participants: Annotated[int, Field(ge=0, le=_MAX_INT)] = 0  # on both sides, our own mirrors not counted
    media_capabilities: MediaCapabilities | None = None  # of all of them
    opened_at: Timestamp = 0
    updated_at: Timestamp = 0


@dataclass(frozen=True, slots=True)
class IdentityRecord:
    """A looked-up identity; None: the Communication service does not know it. Of an e-mail address or number it has the
    AuraID only, which has a record of its own."""

    __pydantic_config__: ClassVar[ConfigDict] = WIRE

    identity: IdentityInfo | None
    asked_at: Timestamp


class Document(Generic[T]):
    """Encoder and decoder of one kind."""

    def __init__(self, kind: str, type_: type[T]) -> None:
        self.kind = kind
        self._adapter: TypeAdapter[T] = TypeAdapter(type_)

    def encode(self, value: T) -> str:
        """Raises `DocumentError` for what `decode` would refuse: a pod never writes what the next one cannot read."""
        try:
            fields = self._adapter.dump_python(value, mode="json", by_alias=True, warnings=False)
            whole = {"schema": SCHEMA, "kind": self.kind, **fields}
            text = json.dumps(whole, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            self.decode(text.encode())
        except DocumentError:
            raise
        except (ValueError, TypeError) as error:
            raise DocumentError(self.kind, Fault.INVALID, type(error).__name__) from None
        return text

    def decode(self, data: str | bytes) -> T:
        """Raises `DocumentError`."""
        if len(data) <= MAX_DOCUMENT_BYTES and isinstance(data, str):
            data = data.encode(errors="surrogatepass")
        if len(data) > MAX_DOCUMENT_BYTES:
            raise DocumentError(self.kind, Fault.TOO_LARGE, f"over {MAX_DOCUMENT_BYTES} bytes")
        try:
            envelope = from_json(data, allow_inf_nan=False)
        except ValueError:
            raise DocumentError(self.kind, Fault.NOT_JSON) from None
        schema = envelope.get("schema") if isinstance(envelope, dict) else None
        if not isinstance(envelope, dict) or envelope.get("kind") != self.kind or type(schema) is not int or schema < 1:
            raise DocumentError(self.kind, Fault.FOREIGN)
        if schema > SCHEMA:
            raise DocumentError(self.kind, Fault.NEWER, "this pod is older than its writer")
        try:
            return self._adapter.validate_json(data, strict=True)
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_context=False, include_input=False)
            where = ", ".join(f"{'.'.join(map(str, one['loc']))} {one['type']}" for one in wrong[:3])
            raise DocumentError(self.kind, Fault.INVALID, where) from None


PARTICIPANT: Final = Document("participant", ParticipantMetadata)
ROOM: Final = Document("room", RoomRecord)
MEDIA: Final = Document("media", MediaState)
IDENTITY: Final = Document("identity", IdentityRecord)
