"""Who a participant is beyond its room: AuraIDs, where they are read, and what may be told of them. Pure.

An AuraID is "aura:" and an id, which the Communication service knows. Not every participant brings one, so `claims`
also takes an e-mail address and a telephone number, and `lookups` asks in that order until one is known.

| kind | LiveKit | Jitsi |
|---|---|---|
| AuraID | `aura.id`; else the identity | `user.id` |
| e-mail | `email`; else the identity | `user.email`; else `email`, which the client wrote itself |
| telephone | `phone` | `user.phone`; else `phone`, which the client wrote itself |

Those are keys of `events.Participant.attributes`; the legs put there what their side gave them: `user.*` only from
`<identity><user>` in presence, which Prosody's `mod_presence_identity` makes of the `context.user` of a checked JWT and
takes out of what clients write. A Jitsi without it lets anybody write them, so its leg must leave them out.

**A claim is not a proof.** What a client wrote itself (`proven` False) is looked up, but never makes a participant
`verified`. LiveKit's attributes are the token's, unless the token grants `canUpdateOwnMetadata`: with such tokens they
prove nothing, and whoever issues them decides that.
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field

from auralink_dataplane.policy import Privacy
from auralink_dataplane.rooms.events import MAX_NAME, Participant, Side
from auralink_dataplane.rooms.wire import WIRE

PREFIX: Final = "aura:"
MAX_AURA_ID: Final = 128  # characters, the prefix among them
MAX_EMAIL: Final = 254  # RFC 5321 4.5.3.1.3, less the angle brackets
MAX_EMAIL_LOCAL: Final = 64  # RFC 5321 4.5.3.1.1
_MAX_TEXT: Final = 320  # longer input is not looked at

_AURA_ID: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._~-]{{0,{MAX_AURA_ID - len(PREFIX) - 1}}}")
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL: Final = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@({_LABEL}(?:\.{_LABEL})+)")
_SEPARATORS: Final = str.maketrans("", "", " \t\u00a0\u202f-\u2010\u2011\u2013.()/")
_E164: Final = re.compile(r"\+(?!1[01])[1-9][0-9]{6,14}")


class Kind(Enum):
    AURA_ID = "aura"
    EMAIL = "email"
    PHONE = "phone"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a participant says it is, normalised. Equal claims are one lookup, so `proven` does not count among them."""

    kind: Kind
    value: str


@dataclass(frozen=True, slots=True)
class Claimed:
    claim: Claim
    proven: bool


@dataclass(frozen=True, slots=True)
class IdentityInfo:
    """What the Communication service knows of somebody; its fields are the guide's. `verified`: it has checked the
    person, which says nothing of whether the participant is that person."""

    __pydantic_config__: ClassVar[ConfigDict] = WIRE

    aura_id: Annotated[str, Field(min_length=1, max_length=MAX_AURA_ID)]
    display_name: Annotated[str, Field(max_length=MAX_NAME)] = ""
    email: Annotated[str, Field(max_length=MAX_EMAIL)] = ""
    phone: Annotated[str, Field(max_length=16)] = ""
    verified: bool = False


# --- what is read ---------------------------------------------------------------------------------------------

_READ: Final[Mapping[Side, tuple[tuple[Kind, str, bool], ...]]] = {
    Side.LIVEKIT: ((Kind.AURA_ID, "aura.id", True), (Kind.EMAIL, "email", True), (Kind.PHONE, "phone", True)),
    Side.JITSI: (
        (Kind.AURA_ID, "user.id", True),
        (Kind.EMAIL, "user.email", True),
        (Kind.EMAIL, "email", False),
        (Kind.PHONE, "user.phone", True),
        (Kind.PHONE, "phone", False),
    ),
}
"""Kind, attribute, and whether the side vouches for it; in the order in which they are looked up."""


def claims(participant: Participant) -> tuple[Claimed, ...]:
    """In the order in which they are to be looked up, each once. Nothing of those that we put there ourselves."""
    if participant.is_bridge or participant.origin:
        return ()
    said = [(kind, participant.attributes.get(name, ""), proven) for kind, name, proven in _READ[participant.side]]
    if participant.side is Side.LIVEKIT:  # its identity is the token's subject; Jitsi's is a random endpoint id
        said += [(Kind.AURA_ID, participant.id, True), (Kind.EMAIL, participant.id, True)]
    order = list(Kind)
    found: dict[Claim, bool] = {}
    for kind, text, proven in sorted(said, key=lambda one: order.index(one[0])):
        claim = claim_of(kind, text)
        if claim is not None:
            found.setdefault(claim, proven)
    return tuple(Claimed(claim, proven) for claim, proven in found.items())


def claim_of(kind: Kind, text: str) -> Claim | None:
    """None for text that is none of that kind."""
    value = {Kind.AURA_ID: aura_id, Kind.EMAIL: email, Kind.PHONE: phone}[kind](text)
    return None if value is None else Claim(kind, value)


def aura_id(text: str) -> str | None:
    """ "aura:12345", as it is looked up: the prefix in small letters, the id as it was written. An id has 1..123 ASCII
    letters, digits, and `-._~`, the first a letter or digit. Without the prefix it is none: any user id would be."""
    text = _trimmed(text)
    start, rest = text[: len(PREFIX)], text[len(PREFIX) :]
    return f"{PREFIX}{rest}" if start.lower() == PREFIX and _AURA_ID.fullmatch(rest) else None


def email(text: str) -> str | None:
    """In small letters, for no provider tells them apart. Refused: quoted local parts, address literals
    ("[192.0.2.1]"), domains of one label, anything beyond ASCII (an international domain has an ASCII form), and names
    around it."""
    match = _EMAIL.fullmatch(_trimmed(text))
    if match is None or len(match[1]) > MAX_EMAIL_LOCAL or len(match[0]) > MAX_EMAIL:
        return None
    return match[0].lower()


def phone(text: str) -> str | None:
    """E.164: "+", 7..15 digits, the first of them not 0. Spaces, hyphens, dots, slashes and parentheses between digits
    are dropped, so are "tel:" and the "(0)" of "+49 (0)30"; "00" in front stands for "+", as ITU-T E.164 recommends.

    Refused, for only a country's numbering plan could tell: national numbers ("030 1234", "(555) 010-9999"), other
    international prefixes ("011", "0011", "8~10"), short and vanity numbers; and what has an extension or parameters.
    Whether a country code is assigned, or a number long enough for it, is not checked, but that no area code
    of +1 begins with 0 or 1: so "0011", which some dial for "+", is not taken for +11."""
    text = _trimmed(text).removeprefix("tel:").replace("(0)", "", 1)
    number = text.translate(_SEPARATORS)
    if number.startswith("00"):
        number = f"+{number[2:]}"
    return number if _E164.fullmatch(number) else None


def _trimmed(text: str) -> str:
    return text.strip() if len(text) <= _MAX_TEXT else ""


# --- what is told ---------------------------------------------------------------------------------------------


class Audience(Enum):
    """ROOM: everybody on the other side. STAFF: whoever has the pod's token or reads its records."""

    ROOM = "room"
    STAFF = "staff"


@dataclass(frozen=True, slots=True)
class Shown:
    """What an audience learns; empty is nothing. `verified` only where the participant has proven to be that person."""

    name: str = ""
    aura_id: str = ""
    email: str = ""
    phone: str = ""
    verified: bool = False


_NAME: Final = frozenset({"name"})
_PERSON: Final = frozenset({"name", "aura_id", "verified"})
_ALL: Final = frozenset({"name", "aura_id", "email", "phone", "verified"})
_PSEUDONYM: Final = frozenset({"pseudonym"})

FIELDS: Final[Mapping[tuple[Privacy, Audience], frozenset[str]]] = {
    ("Full", Audience.ROOM): _ALL,
    ("Full", Audience.STAFF): _ALL,
    ("DisplayName", Audience.ROOM): _NAME,
    ("DisplayName", Audience.STAFF): _PERSON,
    ("Pseudonym", Audience.ROOM): _PSEUDONYM,
    ("Pseudonym", Audience.STAFF): _PSEUDONYM,
    ("Hidden", Audience.ROOM): frozenset(),
    ("Hidden", Audience.STAFF): _PSEUDONYM,
}
"""By `identity.privacy`, of a proven identity. Staff of a hidden room can tell its participants apart, and no more."""

_CLAIMED: Final[Mapping[Audience, frozenset[str]]] = {
    Audience.ROOM: _NAME,
    Audience.STAFF: frozenset({"name", "aura_id"}),
}


def shown(
    participant: Participant,
    identity: IdentityInfo | None,
    *,
    proven: bool,
    privacy: Privacy,
    audience: Audience,
    secret: bytes,
) -> Shown:
    """`identity`: what `lookups` found for it, by a claim that was `proven` or not. `secret`: see `pseudonym`.

    Of an identity that is only claimed nobody learns an address or number, and the room not even the AuraID: else it
    would be enough to know somebody's e-mail address to read the rest, or to appear as that person. Its name counts
    only where the participant has none, and could then have been typed as well."""
    fields = FIELDS[privacy, audience]
    if "pseudonym" in fields:
        subject = identity.aura_id if identity and proven else f"{participant.side.value}:{participant.id}"
        return Shown(name=pseudonym(subject, secret))
    if identity is None:
        return Shown(name=participant.name if "name" in fields else "")
    if not proven:
        fields &= _CLAIMED[audience]
    names = (identity.display_name, participant.name) if proven else (participant.name, identity.display_name)
    return Shown(
        name=next(filter(None, names), "") if "name" in fields else "",
        aura_id=identity.aura_id if "aura_id" in fields else "",
        email=identity.email if "email" in fields else "",
        phone=identity.phone if "phone" in fields else "",
        verified=identity.verified if "verified" in fields else False,
    )


_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U
_PSEUDONYM_LETTERS: Final = 8


def pseudonym(subject: str, secret: bytes) -> str:
    """ "Guest 7K2M-QX4D": the same for a subject on every pod with the same `secret` (16 bytes or more, the bridge's
    own), and not to be traced back without it. Of 1000 participants two share one with a chance of one in two million.
    A Jitsi guest without an identity is a new subject each time it joins, as its endpoint id is."""
    digest = hmac.new(secret, subject.encode("utf-8", "surrogatepass"), sha256).digest()
    letters = "".join(_ALPHABET[byte % 32] for byte in digest[:_PSEUDONYM_LETTERS])
    half = _PSEUDONYM_LETTERS // 2
    return f"Guest {letters[:half]}-{letters[half:]}"
