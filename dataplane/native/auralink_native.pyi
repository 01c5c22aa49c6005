"""Packets of one pod: sockets, RTP, frames. Everything per packet happens here, outside the GIL; Python gets whole
frames and gives whole frames. Instants are seconds of CLOCK_MONOTONIC (`time.monotonic()`)."""

from typing import Any, Final, Literal, final

__all__ = [
    "BYPASS", "COMPRESS", "SHADOW", "Engine", "Frame", "FrameSent", "KeyRequested", "LegFailed", "ModeApplied", "OutNeedsKey",
    "StreamEnded", "StreamFailed", "StreamStarted", "__version__",
]

__version__: Final[str]

BYPASS: Final[int]
"""Native frames go out at once and never enter Python."""
COMPRESS: Final[int]
"""Frames go up to Python and wait for `submit` or `drop`."""
SHADOW: Final[int]
"""Native frames go out at once; a copy goes up to Python."""

Mode = Literal[0, 1, 2]

@final
class Frame:
    """One complete access unit of a COMPRESS or SHADOW stream."""

    stream: int
    frame_id: int  # +1 per frame of the stream, whatever its mode
    mode: int  # COMPRESS or SHADOW: what the core does with it
    codec: str  # "H264"
    rtp_ts: int  # unwrapped to 64 bit, in the codec's clock
    key: bool
    discardable: bool  # no other frame references it
    width: int  # pixels, 0 = unknown
    height: int
    t_first: float  # first packet received
    t_last: float  # last packet received
    t_complete: float  # released by reorder and assembly
    native_bytes: int  # RTP payload bytes it came in
    data: bytes  # H.264: Annex B, SPS and PPS before every key

@final
class StreamStarted:
    """A source began on a leg. Link it and set its mode; until then at most 16 frames from its first key are kept."""

    leg: int
    stream: int
    ssrc: int
    payload_type: int
    codec: str  # "H264", "Opus"
    media: str  # "video" or "audio"

@final
class StreamEnded:
    stream: int
    reason: str  # "bye", "silence", "replaced", "leg closed"

@final
class StreamFailed:
    """Frames of a COMPRESS stream were lost between the core and Python (queue full). The core holds the
    output and drops what is in flight; `set_mode` decides what comes next."""

    stream: int
    reason: str

@final
class ModeApplied:
    """`set_mode` took effect: frames from `frame_id` on are handled in `mode`."""

    stream: int
    mode: int
    frame_id: int

@final
class OutNeedsKey:
    """An out was linked mid-stream of a COMPRESS source and starts at the next key."""

    out: int
    stream: int

@final
class KeyRequested:
    """A receiver of a COMPRESS source sent PLI or FIR. In BYPASS and SHADOW the core passes it upstream itself."""

    out: int
    stream: int

@final
class LegFailed:
    leg: int
    reason: str

@final
class FrameSent:
    """The last packet of a submitted frame was handed to the kernel. Rides along with the next `poll`; does not wake."""

    stream: int
    frame_id: int
    t_sent: float
    payload_bytes: int  # RTP payload, all outs
    packets: int

Event = StreamStarted | StreamEnded | StreamFailed | ModeApplied | OutNeedsKey | KeyRequested | LegFailed | FrameSent

@final
class Engine:
    """Sockets, timers and packets of one pod, on a thread that does not hold the GIL. Thread-safe."""

    def __new__(cls) -> Engine:
        """Starts the thread. Raises OSError when epoll or eventfd cannot be had."""

    def fileno(self) -> int:
        """An eventfd, readable while `poll` has something; for `loop.add_reader`."""

    def poll(self, max: int = 256) -> list[Frame | Event]:
        """At most `max` things that happened, frames in order within a stream. Never blocks; clears the
        eventfd when nothing is left."""

    def open_leg(self, room: str, config: dict[str, Any]) -> int:
        """Binds the sockets of a plain-RTP leg and returns its id.

        config: {"name": str, "direction": "Both"|"Receive"|"Send", "feedback": "None"|"AVPF", "rtcp_mux": bool,
        "extension_id": 1..14, "bind": "0.0.0.0"|"::", "media": {"video"|"audio": {"payloads": [{"type": 0..127,
        "codec": "H264"|"Opus", "clock_rate": Hz, "fmtp": str}], "listen_port": int (0 = ephemeral; absent =
        ephemeral, send only), "remote": "ip:port" | None (None = learn the source)}}}
        Raises ValueError naming the key at fault, OSError when a port is taken."""

    def close_leg(self, leg: int) -> None:
        """Ends its streams and outs, sends BYE, closes the sockets. Unknown ids are ignored (a race with LegFailed)."""

    def set_remote(self, leg: int, medium: str, remote: str) -> None:
        """Sends to "ip:port" from now on (a name that resolved anew)."""

    def local_ports(self, leg: int) -> dict[str, int]:
        """The bound RTP port per medium."""

    def link(self, stream: int, leg: int) -> int:
        """Sends a stream to a leg: own SSRC, own contiguous video sequence numbers, starting at a key. Returns
        the out's id. Raises ValueError if the leg has no payload type for the codec."""

    def unlink(self, out: int) -> None: ...
    def set_mode(self, stream: int, mode: int, *, extension: bool = True, degraded: bool = False, at_frame: int | None = None) -> None:
        """From the next key (or from frame `at_frame` on, if that is still to come) frames are handled in `mode`;
        answered by ModeApplied. COMPRESS -> BYPASS and COMPRESS -> SHADOW drop nothing by themselves: frames already handed up keep their mode.
        `extension`: native frames carry the 16 bytes too (policy on). `degraded`: with flag 0x20."""

    def hold(self, stream: int) -> None:
        """Drops everything in flight and sends nothing until the mode set by `set_mode` starts at a key."""

    def submit(self, stream: int, frame_id: int, data: bytes | None, ext16: bytes | None, key: bool) -> bool:
        """Answers one COMPRESS frame; `data` None sends it native. Frames leave in frame_id order. Returns False,
        counts `illegal_switch` and drops the frame if it changes between native and compressed off a key;
        False too for an unknown frame. The core sets flags 0x01 and 0x04 of the extension."""

    def drop(self, stream: int, frame_id: int) -> None:
        """Answers one COMPRESS frame: nothing goes out for it (later ones stay contiguous)."""

    def request_key(self, stream: int) -> None:
        """PLI (or FIR) upstream: at once, then at most one per second and three per 10 s. Without AVPF: nothing,
        counted as `key_request_unsupported`."""

    def stats(self) -> dict[str, Any]:
        """Counters since start: {"drops": {reason: int}, "legs": {id: {...}}, "streams": {id: {"leg", "codec", "media", "packets",
        "payload_bytes", "frames", "keys", "lost_packets", "frames_abandoned", "mode", ...}}, "outs": {id: {"stream",
        "leg", "ssrc", "packets", "payload_bytes", "frames", "native_frames", "compressed_frames", "dropped_frames",
        "illegal_switch", "last_rtp_ts", ...}}}."""

    def close(self) -> None:
        """Stops the thread after BYE; idempotent."""
