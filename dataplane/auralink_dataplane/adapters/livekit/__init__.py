"""LiveKit: its server API, its tokens and its webhooks, in the language of `rooms/events`.

    webhook --receive--> Webhook --Replays.check--> --LiveKitApi.facts--> facts
    every 10 s           LiveKitApi.listing ------------------------------> Listed

`tokens`, `webhooks` and `mapping` are pure; `twirp` is one call, `client` all that are called. Only here is it known
what LiveKit writes. Its Python SDK is not used: the ten calls are plain JSON, a second copy of its generated messages
would be loaded beside ours, and its WebhookReceiver hashes the decoded text and compares in variable time.
"""

from auralink_dataplane.adapters.livekit.client import LiveKitApi
from auralink_dataplane.adapters.livekit.mapping import Room
from auralink_dataplane.adapters.livekit.tokens import Grant, Holder, Key, Keys, issue
from auralink_dataplane.adapters.livekit.twirp import (
    LiveKitError,
    NotFoundError,
    RejectedError,
    UnansweredError,
    UnauthorizedError,
    UnavailableError,
    UnreadableError,
)
from auralink_dataplane.adapters.livekit.webhooks import Reason, Refused, Replays, Webhook, receive

__all__ = [
    "Grant",
    "Holder",
    "Key",
    "Keys",
    "LiveKitApi",
    "LiveKitError",
    "NotFoundError",
    "Reason",
    "Refused",
    "RejectedError",
    "Replays",
    "Room",
    "UnansweredError",
    "UnauthorizedError",
    "UnavailableError",
    "UnreadableError",
    "Webhook",
    "issue",
    "receive",
]
