"""Plain-RTP legs: a port and a peer per medium, named by the configuration and negotiated with nobody.

`app` says which rooms this pod serves; `reconcile` opens, closes and re-targets legs until that is so. A leg whose
specification has not changed is left alone, whatever else changes. A `remote` given by name is looked up again every
few seconds, and a leg waits to be opened until its remotes are known: without them it would listen to anybody.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from auralink_dataplane.media.packets import PacketEngine
from auralink_dataplane.settings import LegSpec, MediumSpec, RoomSpec, split_address

log = logging.getLogger(__name__)

RESOLVE_S: Final = 5.0
RESOLVE_TIMEOUT_S: Final = 3.0
EXTENSION_URI: Final = "urn:auralink:rtp-hdrext:aic:1"
CLOCK_RATES: Final = {"H264": 90000, "Opus": 48000}
_ENCODINGS: Final = {"H264": "H264/90000", "Opus": "opus/48000/2"}

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
        *,
        opened: Callable[[OpenLeg], None],
        closed: Callable[[OpenLeg], None],
    ) -> None:
        self._engine = engine
        self._resolve = resolve
        self._opened = opened
        self._closed = closed
        self._want: dict[Key, LegSpec] = {}
        self._open: dict[Key, OpenLeg] = {}
        self._changed = asyncio.Event()
        self.problems: dict[Key, str] = {}
        """Why a leg is not open; the user can do something about each."""

    @property
    def open(self) -> Mapping[Key, OpenLeg]:
        return self._open

    def by_id(self, leg: int) -> OpenLeg | None:
        return next((one for one in self._open.values() if one.id == leg), None)

    def want(self, rooms: Iterable[RoomSpec]) -> None:
        self._want = {(room.name, leg.name): leg for room in rooms for leg in room.legs}
        self._changed.set()

    def failed(self, leg: int, reason: str) -> None:
        """The packet core gave it up; it is opened again at the next round."""
        if gone := self.by_id(leg):
            del self._open[gone.key]
            self._complain(gone.key, reason)
            self._closed(gone)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._changed.clear()
            await self.reconcile()
            try:
                async with asyncio.timeout(RESOLVE_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def reconcile(self) -> None:
        """One round: look names up, close what goes, open what comes, follow addresses that moved."""
        want = dict(self._want)
        names = {spec.remote for leg in want.values() for spec in leg.rtp.media.values() if spec.remote}
        found = dict(zip(names, await asyncio.gather(*(self._lookup(name) for name in names)), strict=True))
        close, opening = changes({key: leg.spec for key, leg in self._open.items()}, want)
        for key in close:
            self._close(key)
        for key in opening:
            self._try_open(key, want[key], found)
        for key, leg in list(self._open.items()):
            self._follow(key, leg, found)
        for key in [key for key in self.problems if key not in want]:
            del self.problems[key]

    def close(self) -> None:
        for key in list(self._open):
            self._close(key)

    async def _lookup(self, address: str) -> str | None:
        host, port = split_address(address)
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_S):
                found = await self._resolve(host, port)
        except OSError:
            return None
        ip, number = found[0]
        return f"[{ip}]:{number}" if ":" in ip else f"{ip}:{number}"

    def _close(self, key: Key) -> None:
        leg = self._open.pop(key)
        self._engine.close_leg(leg.id)
        log.info("leg closed", extra={"room": leg.room, "leg": leg.spec.name})
        self._closed(leg)

    def _try_open(self, key: Key, spec: LegSpec, found: Mapping[str, str | None]) -> None:
        remotes: dict[str, str] = {}
        for medium, one in spec.rtp.media.items():
            if one.remote is None:
                continue
            address = found[one.remote]
            if address is None:
                self._complain(
                    key, f"{medium}.remote {one.remote} does not resolve: start the peer or correct the name"
                )
                return
            remotes[medium] = address
        try:
            leg = self._engine.open_leg(key[0], engine_config(spec, remotes))
        except (OSError, ValueError) as error:
            self._complain(key, f"cannot be opened: {error}")
            return
        opened = OpenLeg(leg, key[0], spec, remotes, dict(self._engine.local_ports(leg)))
        self._open[key] = opened
        self.problems.pop(key, None)
        log.info("leg open", extra={"room": key[0], "leg": key[1], "ports": opened.ports, "remotes": remotes})
        self._opened(opened)

    def _follow(self, key: Key, leg: OpenLeg, found: Mapping[str, str | None]) -> None:
        """A name that does not resolve now keeps its last address: the peer may only be restarting."""
        moved = {
            medium: address
            for medium, spec in leg.spec.rtp.media.items()
            if spec.remote and (address := found.get(spec.remote)) and address != leg.remotes.get(medium)
        }
        for medium, address in moved.items():
            self._engine.set_remote(leg.id, medium, address)
            log.info("remote moved", extra={"room": leg.room, "leg": leg.spec.name, "medium": medium, "to": address})
        if moved:
            self._open[key] = OpenLeg(leg.id, leg.room, leg.spec, {**leg.remotes, **moved}, leg.ports)

    def _complain(self, key: Key, problem: str) -> None:
        if self.problems.get(key) != problem:
            self.problems[key] = problem
            log.warning("leg is not open", extra={"room": key[0], "leg": key[1], "reason": problem})


def engine_config(spec: LegSpec, remotes: Mapping[str, str]) -> dict[str, Any]:
    """The packet core's description of a leg."""
    return {
        "name": spec.name,
        "direction": spec.direction,
        "feedback": spec.rtp.feedback,
        "rtcp_mux": spec.rtp.rtcp_mux,
        "extension_id": spec.rtp.extension_id,
        "bind": "::" if any(address.startswith("[") for address in remotes.values()) else "0.0.0.0",  # noqa: S104
        "media": {name: _medium_config(medium, remotes.get(name)) for name, medium in spec.rtp.media.items()},
    }


def _medium_config(medium: MediumSpec, remote: str | None) -> dict[str, Any]:
    config: dict[str, Any] = {
        "payloads": [
            {
                "type": payload.type,
                "codec": payload.codec,
                "clock_rate": CLOCK_RATES[payload.codec],
                "fmtp": payload.fmtp or "",
            }
            for payload in medium.payloads
        ],
        "remote": remote,
    }
    if medium.listen_port is not None:
        config["listen_port"] = medium.listen_port
    return config


def sdp(leg: OpenLeg, address: str) -> str:
    """What a peer opens (RFC 8866): where the bridge sends, the peer's own address and port, on which it receives; for
    a leg that only receives, ours (`address`), to which the peer sends."""
    rtp = leg.spec.rtp
    origin = f"IN IP{6 if ':' in address else 4} {address}"
    lines = ["v=0", f"o=- 0 0 {origin}", f"s={leg.room}/{leg.spec.name}", "t=0 0"]
    for name, medium in rtp.media.items():
        host, port = address, leg.ports.get(name, 0)
        if leg.spec.sends and name in leg.remotes:
            host, port = split_address(leg.remotes[name])
        profile = "RTP/AVPF" if rtp.feedback == "AVPF" else "RTP/AVP"
        types = " ".join(str(payload.type) for payload in medium.payloads)
        lines += [f"m={name} {port} {profile} {types}", f"c=IN IP{6 if ':' in host else 4} {host}"]
        for payload in medium.payloads:
            lines.append(f"a=rtpmap:{payload.type} {_ENCODINGS[payload.codec]}")
            if payload.fmtp:
                lines.append(f"a=fmtp:{payload.type} {payload.fmtp}")
        if name == "video":
            lines.append(f"a=extmap:{rtp.extension_id} {EXTENSION_URI}")
            if rtp.feedback == "AVPF":
                lines += ["a=rtcp-fb:* nack", "a=rtcp-fb:* nack pli", "a=rtcp-fb:* ccm fir"]
        if rtp.rtcp_mux:
            lines.append("a=rtcp-mux")
        lines.append({"Both": "a=sendrecv", "Send": "a=sendonly", "Receive": "a=recvonly"}[leg.spec.direction])
    return "\r\n".join(lines) + "\r\n"
