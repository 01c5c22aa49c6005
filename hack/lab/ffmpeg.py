"""FFmpeg's command lines as a live sender and a receiver: what any user would type, the same in pods and in tests."""

from hack.lab.codec import H264, Codec

VIDEO_PAYLOAD_TYPE = 96
AUDIO_PAYLOAD_TYPE = 97
PACKET_SIZE = 1200

# A low tone that swells four times a second: the rhythm of speech.
_SPEECH = "sine=frequency=180:sample_rate=48000,tremolo=f=4:d=0.9"


def send_video(stream: str, target: str, codec: Codec = H264) -> list[str]:
    """Plays a file with one video track for ever, as it is. RTP timestamps go on evenly where it starts over.

    Without the initial burst limit FFmpeg sends the first half second at once.
    """
    pace = ["-re", "-readrate_initial_burst", "0.001", "-stream_loop", "-1"]
    output = [*codec.options, *_rtp("copy", VIDEO_PAYLOAD_TYPE, "v", target)]
    return ["ffmpeg", "-nostdin", "-v", "error", *pace, "-i", stream, *output]


def send_audio(target: str) -> list[str]:
    """Opus at 48 kb/s, 20 ms a packet."""
    encode = ["-b:a", "48k", "-application", "voip"]
    source = ["-re", "-f", "lavfi", "-i", _SPEECH]
    return ["ffmpeg", "-nostdin", "-v", "error", *source, *encode, *_rtp("libopus", AUDIO_PAYLOAD_TYPE, "a", target)]


def _rtp(codec: str, payload_type: int, kind: str, target: str) -> list[str]:
    output = ["-f", "rtp", "-payload_type", str(payload_type), "-sdp_file", "/dev/null"]
    return [f"-c:{kind}", codec, *output, f"rtp://{target}?pkt_size={PACKET_SIZE}"]


def sdp(kind: str, port: int, codec: Codec = H264) -> str:
    """What a receiver of one medium opens. One medium per FFmpeg: with two, sender reports shift a picture's time."""
    video, audio = f"{VIDEO_PAYLOAD_TYPE} {codec.encoding}", f"{AUDIO_PAYLOAD_TYPE} opus/48000/2"
    encoding = {"video": video, "audio": audio}[kind]
    payload_type = encoding.split()[0]
    lines = [
        *("v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=AuraLink", "c=IN IP4 127.0.0.1", "t=0 0"),
        *(f"m={kind} {port} RTP/AVP {payload_type}", f"a=rtpmap:{encoding}"),
    ]
    if kind == "video" and codec.fmtp:
        lines.append(f"a=fmtp:{payload_type} {codec.fmtp}")
    return "\r\n".join(lines) + "\r\n"


def record(sdp_file: str, out: str, codec: Codec = H264) -> list[str]:
    """Writes what arrives, undecoded, to a Matroska file that can be read while it grows (half a second behind).

    Waits ten minutes for the first packet. No reorder queue: a bridge delivers in order, and FFmpeg's queue would throw
    away half of what follows a change of SSRC. `-copyts` keeps the first packet's time at zero.
    """
    receive = ["-listen_timeout", "600", "-buffer_size", "4194304", "-reorder_queue_size", "0", "-copyts"]
    from_the_start = ["-copyinkf:v"] if codec.keys_unseen else []
    return [
        *("ffmpeg", "-nostdin", "-y", "-v", "error", "-protocol_whitelist", "file,udp,rtp", *receive, *codec.options),
        *("-i", sdp_file, "-c", "copy", *from_the_start),
        *("-f", "matroska", "-flush_packets", "1", "-cluster_time_limit", "500", out),
    ]
