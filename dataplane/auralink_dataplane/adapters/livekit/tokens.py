"""LiveKit's access tokens: JWTs with HS256, signed with the secret of the API key that their `iss` names.

Pure: the time is an argument. Sources: RFC 7519, RFC 7515; the claims are those of livekit/protocol `auth/grants.go`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

import jwt

from auralink_dataplane.rooms.events import MAX_ATTRIBUTES_BYTES, MAX_METADATA_BYTES, MAX_NAME

ALGORITHM: Final = "HS256"
SKEW_S: Final = 60.0
"""How far the clock of who signed may be off; LiveKit's servers allow each other the same."""
VALID_S: Final = 600.0
MAX_TOKEN_BYTES: Final = 16 << 10
"""Of a token that comes to us. One that we issue may carry metadata, and be larger."""
MAX_KEYS: Final = 8


@dataclass(frozen=True, slots=True)
class Key:
    """An API key and its secret. Raises ValueError if either is empty."""

    id: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        if not self.id or not self.secret:
            raise ValueError("an API key needs an id and a secret, neither of them empty")


@dataclass(frozen=True, slots=True)
class Keys:
    """Those that are valid now, several while they are being changed, be it for another id or another secret of the
    same one. The first signs. Raises ValueError if there is none, or more than MAX_KEYS."""

    all: tuple[Key, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.all) <= MAX_KEYS:
            raise ValueError(f"1 to {MAX_KEYS} API keys, not {len(self.all)}")

    @property
    def signing(self) -> Key:
        return self.all[0]

    def of(self, issuer: str) -> tuple[Key, ...]:
        return tuple(key for key in self.all if key.id == issuer)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows: the claim `video`. None leaves it to LiveKit, which then allows it to who joins."""

    room: str = ""  # name; of room_join and room_admin
    room_join: bool = False
    room_admin: bool = False
    room_list: bool = False
    room_create: bool = False
    can_publish: bool | None = None
    can_subscribe: bool | None = None
    can_publish_data: bool | None = None
    can_publish_sources: tuple[str, ...] = ()  # "camera", "microphone", "screen_share", "screen_share_audio"; (): any
    hidden: bool = False

    def claim(self) -> dict[str, Any]:
        claim: dict[str, Any] = {
            "room": self.room,
            "roomJoin": self.room_join,
            "roomAdmin": self.room_admin,
            "roomList": self.room_list,
            "roomCreate": self.room_create,
            "canPublish": self.can_publish,
            "canSubscribe": self.can_subscribe,
            "canPublishData": self.can_publish_data,
            "canPublishSources": list(self.can_publish_sources),
            "hidden": self.hidden,
        }
        unset = ("canPublish", "canSubscribe", "canPublishData")
        return {name: value for name, value in claim.items() if (value is not None if name in unset else value)}


@dataclass(frozen=True, slots=True)
class Holder:
    """Who joins with a token, as the others in the room see him."""

    identity: str
    name: str = ""
    kind: str = ""  # "bridge" for whom we put there; empty: a person's client
    metadata: str = ""
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


class Problem(Enum):
    """Why a token is refused."""

    UNREADABLE = "unreadable"
    NO_SUCH_KEY = "no such key"
    FORGED = "forged"  # its signature is not of this key, or not HS256
    EXPIRED = "expired"
    EARLY = "not yet valid"


class TokenError(Exception):
    """The peer's fault. The message never holds the token."""

    def __init__(self, problem: Problem, detail: str) -> None:
        super().__init__(f"{problem.value}: {detail}")
        self.problem = problem
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Verified:
    issuer: str
    subject: str
    expires_at: float  # seconds since 1970
    claims: Mapping[str, Any] = field(repr=False)


def issue(key: Key, grant: Grant, now: float, *, holder: Holder | None = None, valid_s: float = VALID_S) -> str:
    """A token, valid from `now` (seconds since 1970) on. `holder`: with `room_join`, who joins. Raises ValueError for
    what LiveKit would refuse."""
    if grant.room_join and not (holder and holder.identity and grant.room):
        raise ValueError("who joins needs an identity and a room")
    claims: dict[str, Any] = {
        "iss": key.id,
        "nbf": int(now),
        "iat": int(now),
        "exp": int(now + valid_s),
        "video": grant.claim(),
    }
    if holder is not None:
        _check(holder)
        claims["sub"] = holder.identity
        said = {"name": holder.name, "kind": holder.kind, "metadata": holder.metadata}
        claims |= {name: value for name, value in said.items() if value}
        if holder.attributes:
            claims["attributes"] = dict(holder.attributes)
    return jwt.encode(claims, key.secret, algorithm=ALGORITHM)


def _check(holder: Holder) -> None:
    if max(len(holder.identity), len(holder.name)) > MAX_NAME:
        raise ValueError(f"an identity or a name is longer than {MAX_NAME} characters")
    if len(holder.metadata.encode()) > MAX_METADATA_BYTES:
        raise ValueError(f"metadata is larger than {MAX_METADATA_BYTES} bytes")
    if (
        sum(len(name.encode()) + len(value.encode()) for name, value in holder.attributes.items())
        > MAX_ATTRIBUTES_BYTES
    ):
        raise ValueError(f"attributes are larger than {MAX_ATTRIBUTES_BYTES} bytes")


def verify(token: str, keys: Keys, now: float) -> Verified:
    """What a token says, if one of the keys has signed it and it is valid at `now` (seconds since 1970) give or take
    SKEW_S. Signatures are compared in constant time. A token without an end is unreadable. Raises TokenError."""
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenError(Problem.UNREADABLE, f"larger than {MAX_TOKEN_BYTES} bytes")
    header, claimed = _parse(token)
    if header.get("alg") != ALGORITHM:
        raise TokenError(Problem.FORGED, f"not signed with {ALGORITHM}")
    issuer = claimed.get("iss")
    if not isinstance(issuer, str):
        raise TokenError(Problem.UNREADABLE, "it names no API key")
    of_issuer = keys.of(issuer)
    if not of_issuer:
        raise TokenError(Problem.NO_SUCH_KEY, f"signed with the API key {issuer[:64]!r}, which is not ours")
    if not any(_signed(token, key) for key in of_issuer):
        raise TokenError(Problem.FORGED, f"its signature is not that of the API key {issuer[:64]!r}")
    expires_at, begins_at = _moment(claimed, "exp"), _moment(claimed, "nbf", 0.0)
    if now >= expires_at + SKEW_S:
        raise TokenError(Problem.EXPIRED, f"{now - expires_at:.0f} s ago")
    if now < begins_at - SKEW_S:
        raise TokenError(Problem.EARLY, f"valid in {begins_at - now:.0f} s: are the clocks right?")
    subject = claimed.get("sub")
    return Verified(issuer, subject if isinstance(subject, str) else "", expires_at, MappingProxyType(claimed))


def _parse(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, of which nothing is known to be true yet."""
    try:
        parts = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise TokenError(Problem.UNREADABLE, "not a JSON Web Token") from error
    return parts["header"], parts["payload"]


def _signed(token: str, key: Key) -> bool:
    """Of what else it would check, the library has its own clock and no bounds."""
    try:
        jwt.decode(
            token,
            key.secret,
            algorithms=[ALGORITHM],
            options={
                "verify_signature": True,
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_aud": False,
                "verify_iss": False,
                "verify_sub": False,
                "verify_jti": False,
            },
        )
    except (jwt.PyJWTError, ValueError):
        return False
    return True


def _moment(claims: Mapping[str, Any], name: str, otherwise: float | None = None) -> float:
    value = claims.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TokenError(Problem.UNREADABLE, f"{name} is not a time")
    return float(value)
