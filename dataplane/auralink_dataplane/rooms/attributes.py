"""What a mirror carries so that it is known for one, and where it says what else there is to know of its participant.

| constant | value | LiveKit | Jitsi |
|---|---|---|---|
| ORIGIN | `bridge.origin` | participant attribute | not shown: the endpoint id is registered instead |
| AURA_ID | `bridge.aura_id` | participant attribute | not shown |
| HAND | `bridge.hand_raised` | participant attribute, "true" or absent | presence `<jitsi_participant_raisedHand>` |
| ROLE | `bridge.role` | participant attribute, a `Role` value | not shown |

The origin is of the home side: `livekit:<room sid>/<identity>` or `jitsi:<room jid>/<endpoint>`. Two rooms of one name
have two sids, so a mirror of an earlier room is never taken for one of the present.
"""

from typing import Final

from auralink_dataplane.rooms.events import Side

ORIGIN: Final = "bridge.origin"
AURA_ID: Final = "bridge.aura_id"
HAND: Final = "bridge.hand_raised"
ROLE: Final = "bridge.role"

IDENTITY_PREFIX: Final = "auralink:"
"""Of every LiveKit identity that a bridge makes. Whoever carries it is never mirrored."""
STATS_ID: Final = "auralink"
"""Of every Jitsi endpoint that a bridge makes."""


_SIDES: Final = {side.value: side for side in Side}


def origin_of(side: Side, room: str, participant: str) -> str:
    """`room`: LiveKit's sid, Jitsi's room JID; `participant`: identity, endpoint id."""
    return f"{side.value}:{room}/{participant}"


def parse_origin(origin: str) -> tuple[Side, str, str] | None:
    """Side, room and participant; None for text that is no origin. An identity may hold a slash, a room may not."""
    kind, colon, rest = origin.partition(":")
    room, slash, participant = rest.partition("/")
    if not (colon and slash and room and participant) or kind not in _SIDES:
        return None
    return _SIDES[kind], room, participant


def livekit_identity(endpoint: str, room_jid: str) -> str:
    """`auralink:<endpoint>@<room>`: the same for every pod, so LiveKit replaces the mirror of a pod that is gone."""
    return f"{IDENTITY_PREFIX}{endpoint}@{room_jid.partition('@')[0]}"
