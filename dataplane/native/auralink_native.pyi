"""Packets of one pod: sockets, RTP, frames. Everything per packet happens here, outside the GIL; Python gets whole
frames and gives whole frames. Instants are seconds of CLOCK_MONOTONIC (`time.monotonic()`).

Ids of legs, streams and outs are never used twice. Calls with the id of something that has just ended do nothing; only
`link` raises, for it has an id to return. `submit`, `drop`, `hold`, `set_mode` and `request_key` wait for nothing: the
core does them in the order of the calls, and tells by an event what it refuses. Once the engine is closed every call
raises RuntimeError but `close`, `fileno` and `poll`, which hands over what is left."""

from typing import Final, Literal, NotRequired, TypedDict, final

__all__ = [
    "BYPASS",
    "COMPRESS",
    "SHADOW",
    "Engine",
    "Frame",
    "FrameSent",
    "KeyRequested",
    "LegFailed",
    "ModeApplied",
    "OutNeedsKey",
    "StreamEnded",
    "StreamFailed",
    "StreamStarted",
    "SubmitRefused",
    "__version__",
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
    codec: str  # "H264", "H265", "VP8", "VP9", "AV1"
    rtp_ts: int  # unwrapped to 64 bit, in the codec's clock; the low 32 bits are what the packets say
    key: bool
    discardable: bool  # no other frame references it
    # The highest temporal and spatial layer in it, 0 the lowest or unknown: by VP8's and VP9's payload header, H.265's
    # temporal id, AV1's OBU extension, or a dependency descriptor.
    tid: int
    sid: int
    width: int  # pixels, 0 = unknown
    height: int
    may_reorder: bool  # pictures may be shown in another order than they are sent (B-frames)
    t_first: float  # first packet received
    t_last: float  # last packet received
    t_complete: float  # released by reorder and assembly
    native_bytes: int  # RTP payload bytes it came in
    # H.264, H.265: Annex B, parameter sets before every key; VP8: the frame; VP9: all layers, a superframe; AV1: a
    # temporal unit as OBUs with sizes, without its delimiter.
    data: bytes

@final
class StreamStarted:
    """A source began on a leg. Link it and set its mode; until then at most 16 frames from its first key are kept."""

    leg: int
    stream: int
    ssrc: int
    payload_type: int
    codec: str  # "H264", "H265", "VP8", "VP9", "AV1", "Opus"
    media: str  # "video" or "audio"

@final
class StreamEnded:
    """No more frames; those in flight are gone. After "silence" and "replaced" its outs wait 30 s for a successor
    from the same leg, which takes them over when it is linked to the same leg (same id, SSRC and numbers);
    `unlink` ends them now."""

    stream: int
    reason: str  # "bye", "silence", "replaced", "leg closed"

@final
class StreamFailed:
    """Frames of a COMPRESS stream were lost between the core and Python (queue full, or more than 16 in flight), or
    commands for any stream on their way to the core (more than 1024 or 64 MiB of answers waiting;
    `command_overflow`). The core holds the output and drops what is in flight; `set_mode` decides what comes next. A
    mode set before still counts, if it was not itself lost."""

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
    """The last packet of a submitted frame was handed to the kernel. Rides along with the next `poll`; does not
    wake."""

    stream: int
    frame_id: int
    t_sent: float
    payload_bytes: int  # RTP payload, all outs
    packets: int

@final
class SubmitRefused:
    """An answer did not leave. What an encoder makes behind one of its own that was refused refers to it, and is
    refused as well until a key comes."""

    stream: int
    frame_id: int
    native: bool  # `submit` without data
    # "illegal_switch": between native and compressed off a key. "awaiting_key", "leading_picture": a native frame whose
    # reference did not leave; for the first a key is asked for. "unknown_frame": no such frame, or the stream has
    # ended, was held or failed. "bad_submit", "no_parameter_sets": data is no frame (not of the codec, over 2 MiB,
    # `key` and no key in it or the reverse).
    reason: str

Event = (
    StreamStarted
    | StreamEnded
    | StreamFailed
    | ModeApplied
    | OutNeedsKey
    | KeyRequested
    | LegFailed
    | FrameSent
    | SubmitRefused
)

class PayloadConfig(TypedDict):
    type: int  # 0..127, with rtcp_mux not 64..95
    codec: str  # "H264", "H265", "VP8", "VP9", "AV1", "Opus"
    clock_rate: int  # Hz
    fmtp: NotRequired[str]
    rtx_type: NotRequired[int | None]  # video: of its retransmissions (RFC 4588); None: a packet goes again as it was
    red_type: NotRequired[int | None]  # audio: of RED around it (RFC 2198); None: the peer has none

class MediumConfig(TypedDict):
    payloads: list[PayloadConfig]
    listen_port: NotRequired[int]  # 0 or absent: ephemeral
    remote: NotRequired[str | None]  # "ip:port"; None: learn the source

class SrtpConfig(TypedDict):
    suite: Literal["AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM"]
    rx: bytes  # the peer's master key (16 bytes), then its salt (14, or 12 of GCM)
    tx: bytes  # ours

class LegConfig(TypedDict):
    name: NotRequired[str]
    direction: Literal["Both", "Receive", "Send"]
    feedback: NotRequired[Literal["None", "AVPF"]]
    rtcp_mux: NotRequired[bool]
    extension_id: NotRequired[int]  # 1..14
    # Others, id (1..255, not 15) -> URI: kept to legs that know the URI. A leg that knows dependency descriptors takes
    # the two-byte form too (a=extmap-allow-mixed).
    extensions: NotRequired[dict[int, str]]
    carrier: NotRequired[Literal["None", "InBand"]]  # InBand: our extension in the video, too
    bind: NotRequired[str]  # "::" takes IPv4 too, and is "0.0.0.0" where the kernel knows no IPv6
    media: dict[str, MediumConfig]  # by "video", "audio"
    srtp: NotRequired[SrtpConfig | None]  # None: plain RTP

class LegMediumStats(TypedDict):
    packets: int
    aic_packets: int  # with our extension
    stream: int | None
    remote: str | None  # "ip:port"

class LegStats(TypedDict):
    room: str
    name: str
    video: NotRequired[LegMediumStats]
    audio: NotRequired[LegMediumStats]

class StreamStats(TypedDict):
    """What is not required is of video only."""

    leg: int
    codec: str
    media: str
    ssrc: int
    packets: int
    payload_bytes: int
    lost_packets: int
    mode: int | None  # None: none yet, held, or audio
    held: NotRequired[int]
    in_flight: NotRequired[int]
    frames: NotRequired[int]
    keys: NotRequired[int]
    frames_abandoned: NotRequired[int]
    markerless_frames: NotRequired[int]
    illegal_switch: NotRequired[int]
    key_requests_sent: NotRequired[int]
    nacks_sent: NotRequired[int]
    repaired_packets: NotRequired[int]  # came as retransmission (RFC 4588); `lost_packets` counts them too

class LatencyStats(TypedDict):
    """Frame complete -> last packet handed to the kernel."""

    le: list[float]  # ms
    count: list[int]  # one more than bounds

class OutStats(TypedDict):
    stream: int | None  # None: waits for a successor
    leg: int
    codec: str
    ssrc: int
    packets: int
    payload_bytes: int
    frames: int  # of audio packets
    native_frames: int
    compressed_frames: int
    dropped_frames: int
    illegal_switch: int
    resent_packets: int
    key_requests: int
    last_rtp_ts: int | None
    round_trip_ms: float | None
    latency_ms: LatencyStats

class Stats(TypedDict):
    """Counters since start, of what exists now, by id."""

    drops: dict[str, int]  # by reason, those that occurred; `resend_limit`: copies that NACKs asked for in vain
    legs: dict[int, LegStats]
    streams: dict[int, StreamStats]
    outs: dict[int, OutStats]

@final
class Engine:
    """Sockets, timers and packets of one pod, on threads that do not hold the GIL. Thread-safe."""

    def __new__(cls, *, threads: int | None = None) -> Engine:
        """Starts 1 to 16 threads (ValueError otherwise); by default as many as there are cores but one. A room lives
        on one of them. Raises OSError when epoll or eventfd cannot be had."""

    def fileno(self) -> int:
        """An eventfd, readable while `poll` has something; for `loop.add_reader`."""

    def poll(self, max: int = 256) -> list[Frame | Event]:  # noqa: A002
        """At most `max` things that happened, frames in order within a stream. Never blocks; clears the
        eventfd when nothing is left."""

    def open_leg(self, room: str, config: LegConfig) -> int:
        """Binds the sockets of a plain-RTP leg and returns its id. Raises ValueError naming the key at fault, OSError
        when a port is taken."""

    def close_leg(self, leg: int, *, bye: bool = True) -> None:
        """Ends its streams and outs, also those on other legs that its streams feed, sends BYE, closes the sockets.
        Without `bye` receivers hear nothing: the room goes on from another pod under another SSRC, and some (FFmpeg)
        take the BYE of one SSRC for the end of all. Unknown ids are ignored (a race with LegFailed)."""

    def set_remote(self, leg: int, medium: str, remote: str) -> None:
        """Sends to "ip:port" from now on, and takes media from there only (a name that resolved anew). ValueError
        if the leg has no such medium."""

    def local_ports(self, leg: int) -> dict[str, int]:
        """The bound RTP port per medium."""

    def link(self, stream: int, leg: int) -> int:
        """Sends a stream to a leg: own SSRC, own contiguous video sequence numbers, starting at a key. Returns the
        out's id; the same again if it is linked already. Frames kept since StreamStarted go on once the stream
        has both an out and a mode. Raises ValueError if the stream or leg is gone, the leg only receives, has
        no payload type for the codec, or is of another room."""

    def unlink(self, out: int) -> None: ...
    def set_mode(
        self, stream: int, mode: int, *, extension: bool = True, degraded: bool = False, at_frame: int | None = None
    ) -> None:
        """From the next key (or from frame `at_frame` on, if that is still to come) frames are handled in `mode`;
        answered by ModeApplied. COMPRESS -> BYPASS and COMPRESS -> SHADOW drop nothing by themselves: frames
        already handed up keep their mode. `extension`: native frames carry the 16 bytes too (policy on).
        `degraded`: with flag 0x20."""

    def hold(self, stream: int) -> None:
        """Drops everything in flight and sends nothing until the mode set by `set_mode`, before or after, starts at
        a key."""

    def submit(self, stream: int, frame_id: int, data: bytes | None, ext16: bytes | None, key: bool) -> None:
        """Answers one COMPRESS frame; `data` None sends it native. Frames leave in frame_id order. What must not leave
        is dropped, counted and told by SubmitRefused. `key` says what `data` is; a native frame knows it itself. Data
        has one layer, and the payload header says so; it is not copied. The core sets flags 0x01, 0x02 and 0x04 of the
        extension. `ext16` None: with data no extension, without data the core's own."""

    def drop(self, stream: int, frame_id: int) -> None:
        """Answers one COMPRESS frame: nothing goes out for it (later ones stay contiguous)."""

    def request_key(self, stream: int) -> None:
        """PLI upstream: at once, then one per second until a key comes, at most three per 10 s. Without AVPF:
        nothing, counted as `key_request_unsupported`."""

    def stats(self) -> Stats: ...
    def close(self, *, bye: bool = True) -> None:
        """Stops the thread, after BYE on every leg if asked to; idempotent."""
