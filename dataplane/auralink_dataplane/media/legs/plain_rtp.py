"""Plain-RTP legs: a port and a peer per medium, named by the configuration and negotiated with nobody.

`app` says which rooms this pod serves; `settle` opens and closes legs until that is so. A leg whose specification has
not changed is left alone, whatever else changes. A `remote` given by name is looked up again every few seconds
(`follow`), and a leg waits to be opened until its remotes are known: without them it would listen to anybody. It waits
for its own names only: a room that comes from another pod is served at once, however slow the name of a third.
An encrypted leg waits for its keys too. Other keys than it has open it anew; keys that are gone do not close it.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from auralink_dataplane.media.legs.srtp import KeyProblemError, ReadSecret, SrtpKeys, read_keys
from auralink_dataplane.media.packets import PacketEngine
from auralink_dataplane.settings import LegSpec, MediumSpec, RoomSpec, RtpSpec, split_address

if TYPE_CHECKING:
    from auralink_dataplane.media.packets import LegConfig, MediumConfig

log = logging.getLogger(__name__)

RESOLVE_S: Final = 5.0
RESOLVE_TIMEOUT_S: Final = 3.0
EXTENSION_URI: Final = "urn:auralink:rtp-hdrext:aic:1"
DESCRIPTOR_URI: Final = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
MAX_ONE_BYTE_ID: Final = 14
"""Above it, and with an element of more than 16 bytes, a packet takes the two-byte form (RFC 8285 section 4.3)."""
CLOCK_RATES: Final = {"H264": 90000, "H265": 90000, "VP8": 90000, "VP9": 90000, "AV1": 90000, "Opus": 48000}
_ENCODINGS: Final = {
    "H264": "H264/90000",
    "H265": "H265/90000",
    "VP8": "VP8/90000",
    "VP9": "VP9/90000",
    "AV1": "AV1/90000",
    "Opus": "opus/48000/2",
}

Key = tuple[str, str]
"""Room and leg."""
Resolve = Callable[[str, int], Awaitable[Sequence[tuple[str, int]]]]


@dataclass(frozen=True, slots=True)
class OpenLeg:
    id: int
    room: str
    spec: LegSpec
    remotes: Mapping[str, str]
    """Medium -> "ip:port"; a medium without a configured remote learns its source."""
    ports: Mapping[str, int]
    """Medium -> local RTP port."""
    srtp: SrtpKeys | None = None

    @property
    def key(self) -> Key:
        return self.room, self.spec.name


def changes(have: Mapping[Key, LegSpec], want: Mapping[Key, LegSpec]) -> tuple[list[Key], list[Key]]:
    """Which legs to close and which to open. Only what differs is touched."""
    close = [key for key, spec in have.items() if want.get(key) != spec]
    return close, [key for key in want if key in close or key not in have]


class PlainRtpLegs:
    """`opened` and `closed` are told after the fact; `streams` links sources then."""

    def __init__(
        self,
        engine: PacketEngine,
        resolve: Resolve,
        read_secret: ReadSecret,
        *,
        opened: Callable[[OpenLeg], None],
        closed: Callable[[OpenLeg], None],
    ) -> None:
        self._engine = engine
        self._resolve = resolve
        self._read_secret = read_secret
        self._opened = opened
        self._closed = closed
        self._want: dict[Key, LegSpec] = {}
        self._elsewhere: frozenset[str] = frozenset()
        self._open: dict[Key, OpenLeg] = {}
        self._opening: dict[Key, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self.problems: dict[Key, str] = {}
        """Why a leg is not open; the user can do something about each."""

    @property
    def open(self) -> Mapping[Key, OpenLeg]:
        return self._open

    def by_id(self, leg: int) -> OpenLeg | None:
        return next((one for one in self._open.values() if one.id == leg), None)

    @property
    def opening(self) -> Collection[asyncio.Task[None]]:
        """Legs that wait for the names of their peers."""
        return self._opening.values()

    def want(self, rooms: Iterable[RoomSpec], elsewhere: Collection[str] = ()) -> None:
        """`elsewhere`: rooms that go on in another pod, so that their legs close without a BYE."""
        self._want = {(room.name, leg.name): leg for room in rooms for leg in room.legs}
        self._elsewhere = frozenset(elsewhere)
        self._changed.set()

    def failed(self, leg: int, reason: str) -> None:
        """The packet core gave it up; it is opened again at the next round."""
        if gone := self.by_id(leg):
            del self._open[gone.key]
            self._complain(gone.key, reason)
            self._closed(gone)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_settling(), name="legs-settle")
                tasks.create_task(self._keep_following(), name="legs-follow")
        finally:
            for task in self._opening.values():
                task.cancel()

    async def _keep_settling(self) -> None:
        while True:
            self._changed.clear()
            self.settle()
            try:
                async with asyncio.timeout(RESOLVE_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _keep_following(self) -> None:
        while True:
            await asyncio.sleep(RESOLVE_S)
            await self.follow()

    def settle(self) -> None:
        """Closes what goes, and starts to open what comes."""
        rotated = [key for key, leg in self._open.items() if self._want.get(key) == leg.spec and self._rotated(leg)]
        have = {key: leg.spec for key, leg in self._open.items() if key not in rotated}
        close, opening = changes(have, self._want)
        for key in [*rotated, *close]:
            self._close(key, bye=key not in self._want and key[0] not in self._elsewhere)
        for key in opening:
            if key not in self._opening:
                name = f"open {key[0]}/{key[1]}"
                self._opening[key] = asyncio.create_task(self._open_when_known(key, self._want[key]), name=name)
        for key in [key for key in self.problems if key not in self._want]:
            del self.problems[key]

    async def follow(self) -> None:
        """Looks up the names of all open legs, and sends to where they have moved."""
        names = {spec.remote for leg in self._open.values() for spec in leg.spec.media.values() if spec.remote}
        found = await self._look_up(names)
        for key, leg in list(self._open.items()):
            self._follow(key, leg, found)

    def _rotated(self, leg: OpenLeg) -> bool:
        """A peer needs a while for new keys too, so unusable ones leave the leg as it is."""
        if leg.srtp is None:
            return False
        try:
            keys = read_keys(leg.srtp.spec, self._read_secret, both_ways=leg.spec.both_ways)
        except KeyProblemError as problem:
            self._complain(leg.key, f"{problem}; it goes on with its former key")
            return False
        self.problems.pop(leg.key, None)
        return keys != leg.srtp

    def close(self, *, bye: bool = True) -> None:
        for key in list(self._open):
            self._close(key, bye=bye)

    async def _open_when_known(self, key: Key, spec: LegSpec) -> None:
        try:
            found = await self._look_up({medium.remote for medium in spec.media.values() if medium.remote})
            if self._want.get(key) == spec and key not in self._open:
                self._try_open(key, spec, found)
        except Exception:
            log.exception("leg was not opened", extra={"room": key[0], "leg": key[1]})
        finally:
            del self._opening[key]
            if self._want.get(key, spec) != spec:  # changed meanwhile
                self._changed.set()

    async def _look_up(self, names: Collection[str]) -> dict[str, str | None]:
        found = await asyncio.gather(*(self._lookup(name) for name in names))
        return dict(zip(names, found, strict=True))

    async def _lookup(self, address: str) -> str | None:
        """An address is its own name: the few threads that look names up may all be waiting for a dead server."""
        host, port = split_address(address)
        try:
            ip, number = ipaddress.ip_address(host).compressed, port
        except ValueError:
            try:
                async with asyncio.timeout(RESOLVE_TIMEOUT_S):
                    ip, number = (await self._resolve(host, port))[0]
            except OSError:
                return None
        return f"[{ip}]:{number}" if ":" in ip else f"{ip}:{number}"

    def _close(self, key: Key, *, bye: bool) -> None:
        leg = self._open.pop(key)
        self._engine.close_leg(leg.id, bye=bye)
        log.info("leg closed", extra={"room": leg.room, "leg": leg.spec.name})
        self._closed(leg)

    def _try_open(self, key: Key, spec: LegSpec, found: Mapping[str, str | None]) -> None:
        remotes: dict[str, str] = {}
        for medium, one in spec.media.items():
            if one.remote is None:
                continue
            address = found[one.remote]
            if address is None:
                self._complain(
                    key, f"{medium}.remote {one.remote} does not resolve: start the peer or correct the name"
                )
                return
            remotes[medium] = address
        wanted = spec.rtp.srtp if spec.rtp else None
        try:
            keys = read_keys(wanted, self._read_secret, both_ways=spec.both_ways) if wanted else None
            leg = self._engine.open_leg(key[0], engine_config(spec, remotes, keys))
        except KeyProblemError as problem:
            self._complain(key, str(problem))
            return
        except (OSError, ValueError) as error:
            self._complain(key, f"cannot be opened: {error}")
            return
        opened = OpenLeg(leg, key[0], spec, remotes, dict(self._engine.local_ports(leg)), keys)
        self._open[key] = opened
        self.problems.pop(key, None)
        log.info("leg open", extra={"room": key[0], "leg": key[1], "ports": opened.ports, "remotes": remotes})
        self._opened(opened)

    def _follow(self, key: Key, leg: OpenLeg, found: Mapping[str, str | None]) -> None:
        """A name that does not resolve now keeps its last address: the peer may only be restarting."""
        moved = {
            medium: address
            for medium, spec in leg.spec.media.items()
            if spec.remote and (address := found.get(spec.remote)) and address != leg.remotes.get(medium)
        }
        for medium, address in moved.items():
            self._engine.set_remote(leg.id, medium, address)
            log.info("remote moved", extra={"room": leg.room, "leg": leg.spec.name, "medium": medium, "to": address})
        if moved:
            self._open[key] = replace(leg, remotes={**leg.remotes, **moved})

    def _complain(self, key: Key, problem: str) -> None:
        if self.problems.get(key) != problem:
            self.problems[key] = problem
            log.warning("leg is not as wanted", extra={"room": key[0], "leg": key[1], "reason": problem})


def engine_config(spec: LegSpec, remotes: Mapping[str, str], keys: SrtpKeys | None = None) -> "LegConfig":
    """The packet core's description of a leg."""
    rtp = _rtp(spec)
    if rtp.srtp and not keys:
        raise ValueError(f"leg {spec.name} has no keys, and is not opened without the encryption asked for")
    return {
        "name": spec.name,
        "direction": spec.direction,
        "feedback": rtp.feedback,
        "rtcp_mux": rtp.rtcp_mux,
        "extension_id": rtp.extension_id,
        "carrier": rtp.carrier,
        "extensions": {extension.id: extension.uri for extension in rtp.extensions},
        "bind": "::",  # a learned peer may be of either family, and a name may move to the other
        "media": {name: _medium_config(medium, remotes.get(name)) for name, medium in rtp.media.items()},
        "srtp": keys.config if keys else None,
    }


def _rtp(spec: LegSpec) -> RtpSpec:
    if spec.rtp is None:
        raise ValueError(f"leg {spec.name} is no plain-RTP leg")
    return spec.rtp


def _medium_config(medium: MediumSpec, remote: str | None) -> "MediumConfig":
    config: MediumConfig = {
        "payloads": [
            {
                "type": payload.type,
                "codec": payload.codec,
                "clock_rate": CLOCK_RATES[payload.codec],
                "fmtp": payload.fmtp or "",
                "rtx_type": payload.rtx_type,
                "red_type": payload.red_type,
            }
            for payload in medium.payloads
        ],
        "remote": remote,
    }
    if medium.listen_port is not None:
        config["listen_port"] = medium.listen_port
    return config


def sdp(room: str, spec: LegSpec, at: Mapping[str, tuple[str, int]], keys: SrtpKeys | None = None) -> str:
    """What a peer opens (RFC 8866). `at`: host (or name) and port per medium, the peer's own, where the bridge sends to
    it, or ours, where it sends to us. `keys` of an encrypted leg: the one that the bridge sends with is in it, of a leg
    that only receives the peer's (RFC 4568)."""
    rtp = _rtp(spec)
    profile = ("RTP/SAVP" if rtp.srtp else "RTP/AVP") + ("F" if rtp.feedback == "AVPF" else "")
    first = next(host for host, _ in at.values())
    lines = ["v=0", f"o=- 0 0 {_net(first)}", f"s={room}/{spec.name}", "t=0 0"]
    for name, medium in rtp.media.items():
        host, port = at[name]
        types = " ".join(str(one) for payload in medium.payloads for one in payload.types)
        lines += [f"m={name} {port} {profile} {types}", f"c={_net(host)}"]
        for payload in medium.payloads:
            lines.append(f"a=rtpmap:{payload.type} {_ENCODINGS[payload.codec]}")
            if payload.fmtp:
                lines.append(f"a=fmtp:{payload.type} {payload.fmtp}")
            if payload.rtx_type is not None:
                lines += [f"a=rtpmap:{payload.rtx_type} rtx/90000", f"a=fmtp:{payload.rtx_type} apt={payload.type}"]
            if payload.red_type is not None:
                repeated = f"{payload.type}/{payload.type}"
                lines += [f"a=rtpmap:{payload.red_type} red/48000/2", f"a=fmtp:{payload.red_type} {repeated}"]
        lines += [f"a=extmap:{one.id} {one.uri}" for one in rtp.extensions]
        if any(one.id > MAX_ONE_BYTE_ID or one.uri == DESCRIPTOR_URI for one in rtp.extensions):
            lines.append("a=extmap-allow-mixed")
        if name == "video":
            lines.append(f"a=extmap:{rtp.extension_id} {EXTENSION_URI}")
            if rtp.feedback == "AVPF":
                lines += ["a=rtcp-fb:* nack", "a=rtcp-fb:* nack pli", "a=rtcp-fb:* ccm fir"]
        if rtp.rtcp_mux:
            lines.append("a=rtcp-mux")
        if keys:
            lines.append(keys.crypto(keys.tx if spec.sends else keys.rx))
        lines.append({"Both": "a=sendrecv", "Send": "a=sendonly", "Receive": "a=recvonly"}[spec.direction])
    return "\r\n".join(lines) + "\r\n"


def _net(host: str) -> str:
    return f"IN IP{6 if ':' in host else 4} {host}"
