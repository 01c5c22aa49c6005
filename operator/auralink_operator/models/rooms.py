"""Rooms and their legs: who exchanges media with whom."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from auralink_operator.models.schema import (
    CLOSED,
    Address,
    Codec,
    JsonSchema,
    Label,
    Labels,
    Model,
    RoomName,
    SecretKey,
    cel,
    list_map,
    rule,
)


class Direction(StrEnum):
    BOTH = "Both"
    RECEIVE = "Receive"
    SEND = "Send"


class Feedback(StrEnum):
    NONE = "None"
    AVPF = "AVPF"


class Carrier(StrEnum):
    NONE = "None"
    IN_BAND = "InBand"


class SrtpSuite(StrEnum):
    AES_CM_128_HMAC_SHA1_80 = "AES_CM_128_HMAC_SHA1_80"
    AEAD_AES_128_GCM = "AEAD_AES_128_GCM"


class Payload(Model):
    type: Annotated[int, Field(ge=0, le=127, description="RTP payload type, as in the peer's SDP")]
    codec: Annotated[
        Codec,
        Field(description="what packets of this type carry"),
    ]
    fmtp: (
        Annotated[
            str,
            Field(
                max_length=256,
                pattern=r"^[^\x00-\x1f\x7f]*$",
                description="parameters as in SDP a=fmtp, e.g. sprop-stereo=1",
            ),
        ]
        | None
    ) = None


class VideoPayload(Payload):
    rtx_type: (
        Annotated[
            int,
            Field(
                ge=0,
                le=127,
                description="payload type of its retransmissions (RFC 4588), as in the peer's SDP a=fmtp apt;"
                " absent: a packet is sent again as it was",
            ),
        ]
        | None
    ) = None


class AudioPayload(Payload):
    red_type: (
        Annotated[
            int,
            Field(
                ge=0,
                le=127,
                description="payload type of Opus with redundancy (RED, RFC 2198), which goes on to legs that have it"
                " too and as plain Opus to others; absent: the peer has none",
            ),
        ]
        | None
    ) = None


_PAYLOADS = Field(
    min_length=1,
    max_length=4,
    json_schema_extra=list_map("type"),
    description="payload types that the peer sends and takes, the preferred one first",
)


class Medium(Model):
    model_config = ConfigDict(
        json_schema_extra=cel(
            rule(
                "has(self.listenPort) || has(self.remote)",
                "a medium needs listenPort (where the bridge receives) or remote (where it sends): set one of them",
            ),
        )
    )
    payloads: Annotated[tuple[Payload, ...], _PAYLOADS]
    listen_port: (
        Annotated[
            int,
            Field(
                ge=1024,
                le=65534,
                description="UDP port on which the bridge receives it; without rtcpMux RTCP takes the next one",
            ),
        ]
        | None
    ) = None
    remote: (
        Annotated[
            Address,
            Field(description="peer that gets this medium, host:port; a name is looked up again every few seconds"),
        ]
        | None
    ) = None


class VideoMedium(Medium):
    payloads: Annotated[tuple[VideoPayload, ...], _PAYLOADS]


class AudioMedium(Medium):
    payloads: Annotated[tuple[AudioPayload, ...], _PAYLOADS]


class Srtp(Model):
    suite: Annotated[SrtpSuite, Field(description="cipher and authentication, as the peer uses them (RFC 4568, 7714)")]
    key_ref: Annotated[
        SecretKey,
        Field(description="Secret key with the peer's master key and salt in base64, 30 bytes or, of GCM, 28"),
    ]
    send_key_ref: (
        Annotated[SecretKey, Field(description="Secret key with what the bridge sends with; absent: that of keyRef")]
        | None
    ) = None


def _own_types(key: str) -> JsonSchema:
    """Payload types that wrap others are nobody else's."""
    others = f"q.type != p.{key} && (q.type == p.type || !has(q.{key}) || q.{key} != p.{key})"
    return rule(
        f"self.payloads.all(p, !has(p.{key}) || self.payloads.all(q, {others}))",
        f"a payload type stands for one thing: give {key} a number of its own",
        ".payloads",
    )


_VIDEO_ONLY = cel(
    _own_types("rtxType"),
    rule("self.payloads.all(p, p.codec != 'Opus')", "video.payloads: Opus is an audio codec; put it under audio"),
)
_AUDIO_ONLY = cel(
    _own_types("redType"),
    rule("self.payloads.all(p, p.codec == 'Opus')", "audio.payloads: only Opus is audio; put video codecs under video"),
)


class Extension(Model):
    model_config = ConfigDict(
        json_schema_extra=cel(rule("self.id != 15", "id 15 is reserved (RFC 8285): choose another", ".id"))
    )
    id: Annotated[
        int,
        Field(
            ge=1,
            le=255,
            description="as in the peer's SDP a=extmap; above 14, and with dependency descriptors, it must allow"
            " extmap-allow-mixed",
        ),
    ]
    uri: Annotated[
        str,
        Field(min_length=1, max_length=256, pattern=r"^[!-~]+$", description="e.g. urn:3gpp:video-orientation"),
    ]


def _not_rtcp(medium: str, key: str) -> JsonSchema:
    types = f"(p.type < 64 || p.type > 95) && (!has(p.{key}) || p.{key} < 64 || p.{key} > 95)"
    return rule(
        f"!self.rtcpMux || !has(self.{medium}) || self.{medium}.payloads.all(p, {types})",
        "with rtcpMux payload types 64 to 95 look like RTCP (RFC 5761): use others, or unset rtcpMux",
        f".{medium}",
    )


class Rtp(Model):
    model_config = ConfigDict(
        json_schema_extra=cel(
            rule("has(self.video) || has(self.audio)", "rtp needs video or audio: describe at least one medium"),
            _not_rtcp("video", "rtxType"),
            _not_rtcp("audio", "redType"),
            rule(
                "self.feedback == 'AVPF' || !has(self.video) || self.video.payloads.all(p, !has(p.rtxType))",
                "nobody asks for retransmissions without feedback: set feedback to AVPF, or remove rtxType",
                ".video",
            ),
            rule(
                "!has(self.extensions) || self.extensions.all(e, e.id != self.extensionId"
                " && self.extensions.exists_one(f, f.uri == e.uri))",
                "an id stands for one URI, and extensionId for AuraLink's: give each its own",
                ".extensions",
            ),
            rule(
                "self.carrier == 'None'"
                " || (has(self.video) && self.video.payloads.exists(p, p.codec in ['H264', 'H265', 'AV1']))",
                "only H264, H265 and AV1 carry the extension in band: set carrier to None, or give video one of them",
                ".carrier",
            ),
        )
    )
    video: Annotated[VideoMedium, Field(json_schema_extra=_VIDEO_ONLY, description="the peer's video")] | None = None
    audio: Annotated[AudioMedium, Field(json_schema_extra=_AUDIO_ONLY, description="the peer's audio")] | None = None
    rtcp_mux: Annotated[bool, Field(description="RTCP on the RTP port (RFC 5761); else on the next one")] = False
    feedback: Annotated[
        Feedback, Field(description="AVPF: the peer takes NACK and PLI (RFC 4585); None: it gets neither")
    ] = Feedback.NONE
    extension_id: Annotated[
        int, Field(ge=1, le=14, description="id of AuraLink's RTP header extension on this leg's video (RFC 8285)")
    ] = 14
    carrier: Annotated[
        Carrier,
        Field(
            description="InBand: what the bridge sends has the bytes of that extension in the video too, for receivers"
            " behind somebody who forwards no header extension: as SEI (H264, H265) or metadata OBU (AV1)"
        ),
    ] = Carrier.NONE
    extensions: (
        Annotated[
            tuple[Extension, ...],
            Field(
                max_length=8,
                json_schema_extra=list_map("id"),
                description="the peer's ids of other RTP header extensions (RFC 8285): what a leg brings goes on to"
                " those that name the same URI, e.g. audio level, video orientation, capture time, dependency"
                " descriptor",
            ),
        ]
        | None
    ) = None
    srtp: (
        Annotated[Srtp, Field(description="encrypts the leg with static keys (RFC 3711); absent: plain RTP")] | None
    ) = None

    def media(self) -> tuple[Medium, ...]:
        return tuple(medium for medium in (self.video, self.audio) if medium)


class Leg(Model):
    model_config = ConfigDict(
        json_schema_extra=cel(
            rule(
                "has(self.endpoint) != has(self.rtp)",
                "a leg leads to an endpoint or to an RTP peer: set exactly one of endpoint and rtp",
            ),
            rule(
                "!has(self.room) || has(self.endpoint)",
                "room names a room at an endpoint, and an RTP peer has none: remove room, or set endpoint",
                ".room",
            ),
            rule(
                "self.direction != 'Receive' || !has(self.rtp)"
                " || ((!has(self.rtp.video) || has(self.rtp.video.listenPort))"
                " && (!has(self.rtp.audio) || has(self.rtp.audio.listenPort)))",
                "a leg with direction Receive needs listenPort on each medium: set it, or change direction",
                ".rtp",
            ),
            rule(
                "self.direction != 'Send' || !has(self.rtp) || ((!has(self.rtp.video) || has(self.rtp.video.remote))"
                " && (!has(self.rtp.audio) || has(self.rtp.audio.remote)))",
                "a leg with direction Send needs remote on each medium: set it, or change direction",
                ".rtp",
            ),
        )
    )
    name: Annotated[Label, Field(description="name of the leg within its room")]
    direction: Annotated[
        Direction,
        Field(description="seen from the bridge: Receive takes media from the peer, Send gives it the others' media"),
    ] = Direction.BOTH
    endpoint: (
        Annotated[str, Field(max_length=32, description=f"name of one of spec.endpoints {CLOSED}; either this or rtp")]
        | None
    ) = None
    room: (
        Annotated[
            str,
            Field(
                min_length=1,
                max_length=128,
                pattern=r"^([^{}\x00-\x1f\x7f]|\{room\})+$",
                description="room at the endpoint; {room} stands for the name of this room, which is the default",
            ),
        ]
        | None
    ) = None
    rtp: Annotated[Rtp, Field(description="a peer that speaks plain RTP; either this or endpoint")] | None = None

    @property
    def media(self) -> tuple[tuple[str, Medium], ...]:
        """The RTP media of the leg by name, video first; none for a leg to an endpoint."""
        if self.rtp is None:
            return ()
        named = (("video", self.rtp.video), ("audio", self.rtp.audio))
        return tuple((name, medium) for name, medium in named if medium)

    def ports(self, medium: Medium) -> tuple[int, ...]:
        """UDP ports of one of its media: RTP, and the next one for RTCP where it has its own."""
        if medium.listen_port is None:
            return ()
        muxed = self.rtp is not None and self.rtp.rtcp_mux
        return (medium.listen_port,) if muxed else (medium.listen_port, medium.listen_port + 1)


class Room(Model):
    model_config = ConfigDict(
        json_schema_extra=cel(
            rule(
                "!has(self.glob) || self.legs.all(l, has(l.endpoint))",
                "a room with glob follows rooms at endpoints: give each leg an endpoint, or remove glob",
            )
        )
    )
    name: Annotated[RoomName, Field(description="name of the room; RoomPolicies select by it")]
    labels: Annotated[Labels, Field(description="what RoomPolicies select rooms by, beside the name")] = {}
    glob: (
        Annotated[
            str,
            Field(
                min_length=1,
                max_length=64,
                description="every endpoint room that fits (* ? [a-z]) is bridged as {room}; absent: {room} is name",
            ),
        ]
        | None
    ) = None
    legs: Annotated[
        tuple[Leg, ...],
        Field(
            min_length=2,
            max_length=4,
            json_schema_extra=list_map("name"),
            description="what comes in on one leg goes out on the others",
        ),
    ]

    @property
    def plain(self) -> bool:
        """Whether the operator assigns the room to a pod: every leg is plain RTP."""
        return all(leg.rtp is not None for leg in self.legs)

    def listen_ports(self) -> tuple[int, ...]:
        """UDP ports of the room, in order: RTP, and the next one for RTCP where it has its own."""
        return tuple(sorted({port for leg in self.legs for _, medium in leg.media for port in leg.ports(medium)}))
