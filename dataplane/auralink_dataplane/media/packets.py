"""Face of the packet core, and its only importer: the crate's objects become `frames` values here.

`streams` and `legs` are written against the Protocol below, which the tests' in-memory engine satisfies too.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import auralink_native as native

from auralink_dataplane.media.frames import (
    Event,
    Frame,
    FrameSent,
    KeyWanted,
    LegFailed,
    Mode,
    ModeApplied,
    StreamEnded,
    StreamFailed,
    StreamStarted,
    SubmitRefused,
)

if TYPE_CHECKING:  # for annotations; the crate itself gives and takes plain dicts
    from auralink_native import LegConfig as LegConfig
    from auralink_native import MediumConfig as MediumConfig
    from auralink_native import OutStats as OutStats
    from auralink_native import SrtpConfig as SrtpConfig
    from auralink_native import Stats as Stats
    from auralink_native import StreamStats as StreamStats


class PacketEngine(Protocol):
    """Sockets, timers and packets of one pod. Calls return at once; what happens is told by `poll`, refusals of answers
    among it."""

    def fileno(self) -> int: ...
    def poll(self) -> list[Frame | Event]: ...
    def open_leg(self, room: str, config: "LegConfig") -> int: ...
    def close_leg(self, leg: int, *, bye: bool = True) -> None: ...
    def set_remote(self, leg: int, medium: str, remote: str) -> None: ...
    def local_ports(self, leg: int) -> Mapping[str, int]: ...
    def link(self, stream: int, leg: int) -> int: ...
    def unlink(self, out: int) -> None: ...
    def set_mode(self, stream: int, mode: Mode, *, extension: bool, degraded: bool, at_frame: int | None) -> None: ...
    def hold(self, stream: int) -> None: ...
    def submit(self, stream: int, frame_id: int, data: bytes | None, ext16: bytes | None, key: bool) -> None: ...
    def drop(self, stream: int, frame_id: int) -> None: ...
    def request_key(self, stream: int) -> None: ...
    def stats(self) -> "Stats": ...
    def close(self, *, bye: bool = True) -> None: ...


class NativePackets:
    """The crate, speaking `frames`."""

    def __init__(self) -> None:
        self._engine = native.Engine()
        self.fileno = self._engine.fileno
        self.open_leg = self._engine.open_leg
        self.close_leg = self._engine.close_leg
        self.set_remote = self._engine.set_remote
        self.local_ports = self._engine.local_ports
        self.link = self._engine.link
        self.unlink = self._engine.unlink
        self.hold = self._engine.hold
        self.submit = self._engine.submit
        self.drop = self._engine.drop
        self.request_key = self._engine.request_key
        self.stats = self._engine.stats
        self.close = self._engine.close

    def poll(self) -> list[Frame | Event]:
        return [_translate(event) for event in self._engine.poll()]

    def set_mode(self, stream: int, mode: Mode, *, extension: bool, degraded: bool, at_frame: int | None) -> None:
        self._engine.set_mode(stream, int(mode), extension=extension, degraded=degraded, at_frame=at_frame)


def _translate(event: "native.Frame | native.Event") -> Frame | Event:
    match event:
        case native.Frame():
            return Frame(
                stream=event.stream,
                frame_id=event.frame_id,
                mode=Mode(event.mode),
                codec=event.codec,
                rtp_ts=event.rtp_ts,
                key=event.key,
                t_first=event.t_first,
                t_complete=event.t_complete,
                may_reorder=event.may_reorder,
                native_bytes=event.native_bytes,
                data=event.data,
                tid=event.tid,
                sid=event.sid,
            )
        case native.FrameSent():
            return FrameSent(event.stream, event.frame_id, event.t_sent, event.payload_bytes, event.packets)
        case native.SubmitRefused():
            return SubmitRefused(event.stream, event.frame_id, event.native, event.reason)
        case native.ModeApplied():
            return ModeApplied(event.stream, Mode(event.mode), event.frame_id)
        case native.KeyRequested() | native.OutNeedsKey():
            return KeyWanted(event.stream)
        case native.StreamStarted():
            return StreamStarted(event.leg, event.stream, event.ssrc, event.codec, event.media)
        case native.StreamEnded():
            return StreamEnded(event.stream, event.reason)
        case native.StreamFailed():
            return StreamFailed(event.stream, event.reason)
        case native.LegFailed():
            return LegFailed(event.leg, event.reason)
