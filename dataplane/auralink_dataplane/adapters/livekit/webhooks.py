"""LiveKit's webhooks: who may send them, and what they say.

Pure: `http` brings the raw body, the header and the time. A webhook is a hint that comes late, out of order, twice or
never (livekit/livekit#2399); what it lacks the listing tells.

    POST, application/webhook+json, Authorization: <JWT>    (without "Bearer", which is taken too)
    claims: iss = API key, exp = 5 min, sha256 = base64(SHA-256(body))

Source: livekit/protocol `webhook/verifier.go`, `webhook/url_notifier.go`, `protobufs/livekit_webhook.proto`.
"""

import hashlib
import hmac
import json
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from auralink_dataplane.adapters.livekit.mapping import (
    as_object,
    field_of,
    id_of,
    is_present,
    participant_of,
    text_of,
    track_of,
    version_of,
    whole_of,
)
from auralink_dataplane.adapters.livekit.tokens import SKEW_S, Keys, TokenError, verify
from auralink_dataplane.rooms.events import Event, Left, Participant, RoomEnded, RoomOpened, Seen, Side, Source, Track

MAX_BODY_BYTES: Final = 1 << 20
"""A room's metadata alone can be half of it. What is larger is lost, and the listing tells it."""
MAX_REMEMBERED: Final = 65_536
"""Webhooks whose copies are known as such: 180 a second for the six minutes for which a copy would be valid."""

_BEARER: Final = "bearer "
_MAX_EVENT: Final = 64
_LEFT: Final = ("participant_left", "participant_connection_aborted")
_TRACKS: Final = ("track_published", "track_unpublished")


class Reason(Enum):
    """Why a webhook is refused. Those of its token are named as `tokens.Problem` names them."""

    OVERSIZED = "oversized"
    UNREADABLE = "unreadable"
    NO_SUCH_KEY = "no such key"
    FORGED = "forged"
    EXPIRED = "expired"
    EARLY = "not yet valid"
    ALTERED = "altered"  # the body is not the one that was signed
    REPLAYED = "replayed"  # or sent again by LiveKit, who did not hear our answer


_STATUSES: Final[Mapping[Reason, int]] = {
    Reason.OVERSIZED: 413,
    Reason.UNREADABLE: 400,
    Reason.REPLAYED: 200,  # anything else would have LiveKit send it once more
}


@dataclass(frozen=True, slots=True)
class Refused:
    """`detail` is for our log, and holds nothing secret."""

    reason: Reason
    detail: str

    @property
    def status(self) -> int:
        """What to answer over HTTP."""
        return _STATUSES.get(self.reason, 401)


@dataclass(frozen=True, slots=True)
class Webhook:
    """`facts`: what it says of the room. A webhook of a track names its participant without name, version or other
    tracks, so that no fact can be made of it alone: `ask_for` is then the identity to ask LiveKit for."""

    id: str
    event: str  # LiveKit's name: "participant_joined"
    room: str  # name; empty where it is of no room
    room_sid: str
    facts: tuple[Event, ...]
    ask_for: str  # empty: of nobody
    track: Track | None  # of track_published and track_unpublished
    created_at_s: int  # since 1970, by LiveKit's clock; orders nothing
    expires_at: float  # seconds since 1970: from then on (and SKEW_S) a copy of it is refused anyhow

    def is_shown_by(self, participant: Participant) -> bool:
        """Whether the participant that was asked for is as this webhook left him."""
        if self.track is None:
            return True
        return (self.track.id in {track.id for track in participant.tracks}) is (self.event == "track_published")


def receive(body: bytes, authorization: str | None, keys: Keys, now: float) -> Webhook | Refused:
    """`body`: as it came, undecoded; `authorization`: the header's value; `now`: seconds since 1970. Whether it is a
    copy of one that came before, `Replays` knows."""
    if len(body) > MAX_BODY_BYTES:
        return Refused(Reason.OVERSIZED, f"{len(body)} bytes, of at most {MAX_BODY_BYTES}")
    token = (authorization or "").strip()
    if token[: len(_BEARER)].lower() == _BEARER:
        token = token[len(_BEARER) :].strip()
    if not token:
        return Refused(Reason.UNREADABLE, "it has no Authorization header: webhooks must be signed with an API key")
    try:
        verified = verify(token, keys, now)
    except TokenError as error:
        return Refused(Reason(error.problem.value), error.detail)
    signed = verified.claims.get("sha256")
    if not isinstance(signed, str) or not _is_hash_of(signed, body):
        return Refused(Reason.ALTERED, "its body is not the one that was signed")
    try:
        return _read(as_object(json.loads(body), "the webhook"), verified.expires_at)
    except (ValueError, RecursionError) as error:
        return Refused(Reason.UNREADABLE, str(error)[:200])


def _is_hash_of(claimed: str, body: bytes) -> bool:
    return hmac.compare_digest(claimed.encode(errors="replace"), b64encode(hashlib.sha256(body).digest()))


# --- what it says --------------------------------------------------------------------------------------------


def _read(said: Mapping[str, Any], expires_at: float) -> Webhook:
    event = text_of(said, "event", _MAX_EVENT)
    room = field_of(said, "room")
    room = as_object(room, "the room") if room is not None else {}
    track = field_of(said, "track")
    about_track = event in _TRACKS
    return Webhook(
        id=id_of(said, "id"),
        event=event,
        room=id_of(room, "name") if room else "",
        room_sid=text_of(room, "sid"),
        facts=_facts(event, said, room),
        ask_for=id_of(as_object(field_of(said, "participant"), "the participant"), "identity") if about_track else "",
        track=track_of(track) if about_track else None,
        created_at_s=whole_of(said, "created_at"),
        expires_at=expires_at,
    )


def _facts(event: str, said: Mapping[str, Any], room: Mapping[str, Any]) -> tuple[Event, ...]:
    if event == "room_started":
        return (RoomOpened(Side.LIVEKIT, id_of(room, "sid"), Source.WEBHOOK),)
    if event == "room_finished":
        return (RoomEnded(Side.LIVEKIT, id_of(room, "sid"), Source.WEBHOOK),)
    sid = text_of(room, "sid")
    participant = field_of(said, "participant")
    if event == "participant_joined":
        if not is_present(as_object(participant, "the participant")):
            return ()
        return (Seen(participant_of(participant), Source.WEBHOOK, sid),)
    if event in _LEFT:
        gone = as_object(participant, "the participant")
        told = text_of(gone, "disconnect_reason", _MAX_EVENT).lower()
        reason = told if told and told != "unknown_reason" else event.removeprefix("participant_")
        return (Left(Side.LIVEKIT, id_of(gone, "identity"), version_of(gone), Source.WEBHOOK, sid, reason),)
    return ()


# --- copies --------------------------------------------------------------------------------------------------


class Replays:
    """The webhooks that came, each remembered for as long as its token would be taken; of more than `most` the oldest
    are forgotten, and counted."""

    def __init__(self, most: int = MAX_REMEMBERED) -> None:
        self._most = most
        self._until: OrderedDict[str, float] = OrderedDict()
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._until)

    def check(self, webhook: Webhook, now: float) -> Webhook | Refused:
        """The webhook, the first time; to be asked only of one that was verified."""
        while self._until and (oldest := next(iter(self._until.items())))[1] <= now:
            del self._until[oldest[0]]
        if self._until.get(webhook.id, now) > now:
            return Refused(Reason.REPLAYED, f"{webhook.event} {webhook.id[:64]} came before")
        self._until.pop(webhook.id, None)
        if len(self._until) >= self._most:
            self._until.popitem(last=False)
            self.forgotten += 1
        self._until[webhook.id] = webhook.expires_at + SKEW_S
        return webhook
