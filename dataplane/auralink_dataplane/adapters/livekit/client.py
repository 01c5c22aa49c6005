"""What the data plane asks of one LiveKit server, in values of `rooms`.

Every method raises `LiveKitError` by kind, within `twirp.DEADLINE_S` for each call of the server's.
"""

import asyncio
import logging
import uuid
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from auralink_dataplane.adapters.livekit.mapping import (
    MappingError,
    Room,
    as_list,
    is_present,
    listed,
    participant_of,
    participants_of,
    room_of,
    track_of,
)
from auralink_dataplane.adapters.livekit.tokens import Grant, Keys
from auralink_dataplane.adapters.livekit.twirp import NotFoundError, Twirp, UnansweredError, UnreadableError
from auralink_dataplane.adapters.livekit.webhooks import Webhook
from auralink_dataplane.rooms.events import Event, Listed, Participant, Seen, Source, Track

log = logging.getLogger(__name__)

SETTLE_S: Final = (0.05, 0.15)
"""Waits before LiveKit is asked again for what its own webhook said: of a track that ends it tells before it notes."""
_CREATE: Final = Grant(room_create=True)
_LIST: Final = Grant(room_list=True)


def _admin(room: str) -> Grant:
    return Grant(room=room, room_admin=True)


class LiveKitApi:
    """To be made where an event loop runs. `url`: ws, wss, http or https; wss and https are TLS, and the certificate is
    checked. `keys`: asked at each call; `clock`: seconds since 1970. Raises ValueError for another URL."""

    def __init__(self, url: str, keys: Callable[[], Keys], *, clock: Callable[[], float]) -> None:
        self._twirp = Twirp(url, keys, clock=clock)
        self._clock = clock
        self._unreadable = False

    async def close(self) -> None:
        await self._twirp.close()

    async def health(self) -> None:
        """Raises UnavailableError if the server does not say that it is well."""
        await self._twirp.healthy()

    # --- rooms ----------------------------------------------------------------------------------------------

    async def create_room(
        self,
        name: str,
        *,
        metadata: str = "",
        empty_timeout_s: int | None = None,
        departure_timeout_s: int | None = None,
        max_participants: int | None = None,
    ) -> Room:
        """The one that is there already, if there is one. None leaves a setting to the server."""
        request = {
            "name": name,
            "metadata": metadata,
            "empty_timeout": empty_timeout_s,
            "departure_timeout": departure_timeout_s,
            "max_participants": max_participants,
        }
        return self._room("CreateRoom", await self._twirp.call("CreateRoom", _set(request), _CREATE, again=True))

    async def delete_room(self, name: str) -> None:
        """Everybody in it is disconnected. Not tried twice: the second would end the room that took its place."""
        await self._twirp.call("DeleteRoom", {"room": name}, _CREATE, again=False)

    async def list_rooms(self, names: Sequence[str] = ()) -> list[Room]:
        """All, or those of these names that there are."""
        answer = await self._twirp.call("ListRooms", {"names": list(names)}, _LIST, again=True)
        return [self._room("ListRooms", one) for one in self._list("ListRooms", answer, "rooms")]

    async def update_room_metadata(self, room: str, metadata: str) -> Room:
        request = {"room": room, "metadata": metadata}
        answer = await self._twirp.call("UpdateRoomMetadata", request, _admin(room), again=True)
        return self._room("UpdateRoomMetadata", answer)

    # --- participants ---------------------------------------------------------------------------------------

    async def list_participants(self, room: str) -> tuple[Participant, ...]:
        """Who is in a room and not hidden, by id; nobody, if there is no such room."""
        answer = await self._twirp.call("ListParticipants", {"room": room}, _admin(room), again=True)
        try:
            found, unreadable = participants_of(self._list("ListParticipants", answer, "participants"))
        except MappingError as error:
            raise self._unread("ListParticipants", error) from error
        if bool(unreadable) is not self._unreadable:
            self._unreadable = bool(unreadable)
            log.warning("LiveKit participants that cannot be read", extra={"livekit_room": room, "count": unreadable})
        return found

    async def listing(self, room: str, asked_at: float) -> Listed:
        """All of a room, by its name. `asked_at`: the pod's clock now."""
        found = [one for one in await self.list_rooms([room]) if one.name == room]
        if not found:
            return listed(None, (), asked_at)
        return listed(found[0], await self.list_participants(room), asked_at)

    async def get_participant(self, room: str, identity: str) -> Participant:
        """NotFoundError also where he is hidden, or not connected yet."""
        request = {"room": room, "identity": identity}
        answer = await self._twirp.call("GetParticipant", request, _admin(room), again=True)
        if not is_present(answer):
            raise NotFoundError(
                f"LiveKit at {self._twirp.url}: GetParticipant: the participant is hidden or not connected yet"
            )
        return self._participant("GetParticipant", answer)

    async def facts(self, webhook: Webhook) -> tuple[Event, ...]:
        """What a webhook says, with what it leaves out asked for."""
        if not webhook.ask_for:
            return webhook.facts
        for wait_s in (*SETTLE_S, None):
            try:
                participant = await self.get_participant(webhook.room, webhook.ask_for)
            except NotFoundError:
                break  # he has left meanwhile, which another webhook says
            if wait_s is None or webhook.is_shown_by(participant):
                return (*webhook.facts, Seen(participant, Source.WEBHOOK, webhook.room_sid))
            await asyncio.sleep(wait_s)
        return webhook.facts

    async def remove_participant(self, room: str, identity: str) -> None:
        """Ends this joining; tokens that are issued from now on are good for another. Not tried twice, for it could end
        that one."""
        request = {"room": room, "identity": identity, "revoke_token_ts": str(int(self._clock()))}
        await self._twirp.call("RemoveParticipant", request, _admin(room), again=False)

    async def mute_track(self, room: str, identity: str, track_sid: str, *, muted: bool) -> Track:
        """RejectedError for `muted=False`, unless the server has `room.enable_remote_unmute`."""
        # LiveKit itself does not look first, and would wait 3 s for the answer of somebody who has left.
        await self._twirp.call("GetParticipant", {"room": room, "identity": identity}, _admin(room), again=True)
        request = {"room": room, "identity": identity, "track_sid": track_sid, "muted": muted}
        answer = await self._twirp.call("MutePublishedTrack", request, _admin(room), again=True)
        if answer.get("track") is None:
            raise NotFoundError(f"LiveKit at {self._twirp.url}: MutePublishedTrack: there is no such track")
        try:
            return track_of(answer["track"])
        except MappingError as error:
            raise self._unread("MutePublishedTrack", error) from error

    async def update_participant(
        self,
        room: str,
        identity: str,
        *,
        name: str | None = None,
        metadata: str | None = None,
        attributes: Mapping[str, str] | None = None,
        permission: Mapping[str, Any] | None = None,
    ) -> Participant:
        """None leaves as it is; so does an empty name or metadata, in LiveKit. An attribute that is set to "" is
        removed, one that is not named stays. `permission`: LiveKit's ParticipantPermission, replaced as a whole."""
        request: dict[str, Any] = {
            "room": room,
            "identity": identity,
            "name": name,
            "metadata": metadata,
            "attributes": None if attributes is None else dict(attributes),
            "permission": None if permission is None else dict(permission),
        }
        answer = await self._twirp.call("UpdateParticipant", _set(request), _admin(room), again=True)
        return self._participant("UpdateParticipant", answer)

    async def send_data(
        self, room: str, data: bytes, *, topic: str = "", to: Sequence[str] = (), reliable: bool = True
    ) -> None:
        """To everybody, or to these identities. LiveKit passes on one of several tries, by the nonce."""
        request = {
            "room": room,
            "data": b64encode(data).decode(),
            "kind": "RELIABLE" if reliable else "LOSSY",
            "topic": topic,
            "destination_identities": list(to),
            "nonce": b64encode(uuid.uuid4().bytes).decode(),
        }
        try:
            await self._twirp.call("SendData", request, _admin(room), again=True)
        except UnansweredError as error:
            if not await self.list_rooms([room]):
                raise NotFoundError(f"LiveKit at {self._twirp.url}: SendData: there is no such room") from error
            raise

    # --- answers --------------------------------------------------------------------------------------------

    def _list(self, method: str, answer: Mapping[str, Any], name: str) -> list[Any]:
        try:
            return as_list(answer.get(name), name)
        except MappingError as error:
            raise self._unread(method, error) from error

    def _room(self, method: str, answer: Any) -> Room:
        try:
            return room_of(answer)
        except MappingError as error:
            raise self._unread(method, error) from error

    def _participant(self, method: str, answer: Any) -> Participant:
        try:
            return participant_of(answer)
        except MappingError as error:
            raise self._unread(method, error) from error

    def _unread(self, method: str, error: MappingError) -> UnreadableError:
        return UnreadableError(f"LiveKit at {self._twirp.url}: {method}: {error}: check the URL of the endpoint")


def _set(request: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request.items() if value is not None}
