"""What LiveKit says, as the server of version 1.13 writes it; for the tests beside it."""

import hashlib
import json
from base64 import b64encode
from typing import Any

import jwt
from auralink_dataplane.adapters.livekit.tokens import Key, Keys

NOW = 1_790_000_000.0
KEY = Key("APIours", "a secret of thirty-two characters")
OTHER = Key("APIother", "another secret of many characters")
KEYS = Keys((KEY,))

ROOM = {"sid": "RM_1", "name": "standup", "creationTime": "1789999990", "creationTimeMs": "1789999990123"}


def participant(**fields: Any) -> dict[str, Any]:
    """As in a webhook: camelCase, 64-bit numbers as strings, without what is zero."""
    return {
        "sid": "PA_1",
        "identity": "alice",
        "state": "ACTIVE",
        "joinedAt": "1789999995",
        "joinedAtMs": "1789999995250",
        "name": "Alice",
        "version": 3,
        "permission": {"canSubscribe": True, "canPublish": True, "canPublishData": True},
        **fields,
    }


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"event": kind, "id": "EV_1", "createdAt": "1790000000", "room": ROOM, **fields}


def signed(body: bytes, key: Key = KEY, *, now: float = NOW, **claims: Any) -> str:
    """The header of a webhook, written without our own code."""
    said = {
        "iss": key.id,
        "nbf": int(now),
        "iat": int(now),
        "exp": int(now) + 300,
        "sha256": b64encode(hashlib.sha256(body).digest()).decode(),
        **claims,
    }
    return jwt.encode({name: value for name, value in said.items() if value is not None}, key.secret, "HS256")


def webhook(kind: str, **fields: Any) -> tuple[bytes, str]:
    """Body and header."""
    body = json.dumps(event(kind, **fields)).encode()
    return body, signed(body)
