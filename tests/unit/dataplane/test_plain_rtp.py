"""Plain-RTP legs: what is opened, what is left alone, names that move, and the SDP a peer opens."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import get_args

import pytest
from auralink_dataplane.media.legs.plain_rtp import PlainRtpLegs, changes, engine_config, sdp
from auralink_dataplane.settings import ExtensionSpec, LegSpec, MediumSpec, Payload, RoomSpec, RtpSpec
from auralink_dataplane.settings.bridge import Codec
from pydantic import ValidationError

from tests.fakes.packets import FakePackets

H264 = (Payload(96, "H264", "packetization-mode=1"),)
OPUS = (Payload(97, "Opus"),)


def leg(name: str, port: int | None = None, remote: str | None = None, **rtp: object) -> LegSpec:
    medium = MediumSpec(H264, port, remote)
    return LegSpec(name, RtpSpec(video=medium, **rtp), "Send" if port is None else "Receive")  # type: ignore[arg-type]


class Desk:
    """Legs over the twin, with a resolver that the test edits."""

    def __init__(self) -> None:
        self.names = {"peer": "10.0.0.1"}
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.packets = FakePackets()
        self.secrets: dict[tuple[str, str], bytes] = {}
        self.legs = PlainRtpLegs(
            self.packets,
            self.resolve,
            lambda name, key: self.secrets.get((name, key)),
            opened=lambda one: self.opened.append(one.spec.name),
            closed=lambda one: self.closed.append(one.spec.name),
        )

    async def resolve(self, host: str, port: int) -> Sequence[tuple[str, int]]:
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(self.names[host], port)]

    async def want(self, *specs: LegSpec) -> None:
        self.legs.want([RoomSpec("r", specs)])
        await self.round()

    async def round(self) -> None:
        """What the legs do every few seconds, until it is done."""
        self.legs.settle()
        await asyncio.gather(*self.legs.opening)
        await self.legs.follow()


def test_only_what_differs_is_touched() -> None:
    a, b, c = leg("a", 5000), leg("b", 5002), leg("c", 5004)
    have = {("r", "a"): a, ("r", "b"): b}
    assert changes(have, {("r", "a"): a, ("r", "b"): leg("b", 6000), ("r", "c"): c}) == (
        [("r", "b")], [("r", "b"), ("r", "c")],
    )  # fmt: skip
    assert changes(have, have) == ([], [])
    assert changes(have, {}) == ([("r", "a"), ("r", "b")], [])


async def test_a_leg_waits_for_the_name_of_its_peer_and_says_so() -> None:
    desk = Desk()
    await desk.want(leg("in", 5000), leg("out", None, "nobody:6000"))
    assert desk.opened == ["in"]
    assert "video.remote nobody:6000 does not resolve" in desk.legs.problems["r", "out"]
    desk.names["nobody"] = "10.0.0.9"
    await desk.round()
    assert desk.opened == ["in", "out"]
    assert not desk.legs.problems


async def test_a_peer_that_moves_is_followed_without_reopening() -> None:
    desk = Desk()
    await desk.want(leg("in", 5000), leg("out", None, "peer:6000"))
    desk.names["peer"] = "10.0.0.2"
    await desk.round()
    out = desk.legs.open["r", "out"]
    assert desk.packets.remotes == [(out.id, "video", "10.0.0.2:6000")]
    assert out.remotes == {"video": "10.0.0.2:6000"}
    del desk.names["peer"]
    await desk.round()
    assert desk.legs.open["r", "out"].remotes == {"video": "10.0.0.2:6000"}
    assert not desk.closed


async def test_a_leg_that_the_packet_core_gave_up_is_opened_again() -> None:
    desk = Desk()
    await desk.want(leg("in", 5000), leg("out", None, "peer:6000"))
    desk.legs.failed(desk.legs.open["r", "in"].id, "socket closed")
    assert desk.closed == ["in"]
    await desk.round()
    assert desk.opened == ["in", "out", "in"]


async def test_a_name_that_takes_long_keeps_no_other_leg_waiting() -> None:
    desk = Desk()
    slow = asyncio.Event()
    fast = desk.resolve

    async def resolve(host: str, port: int) -> Sequence[tuple[str, int]]:
        if host == "slow":
            await slow.wait()
        return await fast(host, port)

    desk.legs._resolve = resolve
    desk.legs.want([RoomSpec("r", (leg("in", 5000), leg("late", None, "slow:1"), leg("out", None, "peer:6000")))])
    running = asyncio.create_task(desk.legs.run())
    try:
        while len(desk.opened) < 2:  # noqa: ASYNC110 - a few turns of the loop
            await asyncio.sleep(0)
        assert sorted(desk.opened) == ["in", "out"]
        desk.legs.want([RoomSpec("q", (leg("new", 5010), leg("next", None, "10.0.0.3:6010")))])
        while len(desk.opened) < 4:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        assert sorted(desk.opened[2:]) == ["new", "next"]
        slow.set()
        await asyncio.gather(*desk.legs.opening)
        assert "late" not in desk.opened, "nobody wants it any more"
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_room_that_goes_on_elsewhere_is_left_without_bye() -> None:
    desk = Desk()
    out = leg("out", None, "peer:6000")
    desk.legs.want([RoomSpec("a", (leg("in", 5000), out)), RoomSpec("b", (leg("in", 5010), out))])
    await desk.round()
    ended = {one.id for one in desk.legs.open.values() if one.room == "b"}
    desk.legs.want([], elsewhere=["a"])
    desk.legs.settle()
    assert set(desk.packets.byes) == ended
    assert not desk.legs.open


async def test_close_closes_all() -> None:
    desk = Desk()
    await desk.want(leg("in", 5000), leg("out", None, "peer:6000"))
    desk.legs.close()
    assert not desk.packets.legs


def test_the_packet_core_is_told_everything_about_a_leg() -> None:
    spec = LegSpec("x", RtpSpec(video=MediumSpec(H264, 5000), audio=MediumSpec(OPUS, None, "h:7"), rtcp_mux=True))
    assert engine_config(spec, {"audio": "10.0.0.1:7"}) == {
        "name": "x", "direction": "Both", "feedback": "None", "rtcp_mux": True, "extension_id": 14, "carrier": "None",
        "extensions": {}, "bind": "::",
        "media": {
            "video": {
                "payloads": [
                    {
                        "type": 96, "codec": "H264", "clock_rate": 90000, "fmtp": "packetization-mode=1",
                        "rtx_type": None, "red_type": None,
                    }
                ],
                "remote": None,
                "listen_port": 5000,
            },
            "audio": {
                "payloads": [
                    {
                        "type": 97, "codec": "Opus", "clock_rate": 48000, "fmtp": "", "rtx_type": None,
                        "red_type": None,
                    }
                ],
                "remote": "10.0.0.1:7",
            },
        },
        "srtp": None,
    }  # fmt: skip


@pytest.mark.parametrize("remotes", [{}, {"audio": "10.0.0.1:7"}, {"audio": "[::1]:7"}])
def test_a_leg_can_be_reached_by_peers_of_either_family(remotes: dict[str, str]) -> None:
    spec = LegSpec("x", RtpSpec(video=MediumSpec(H264, 5000), audio=MediumSpec(OPUS, None, "h:7")))
    assert engine_config(spec, remotes)["bind"] == "::"


@pytest.mark.parametrize("codec", get_args(Codec))
def test_every_codec_has_a_clock_and_a_name_in_the_sdp(codec: Codec) -> None:
    name = "audio" if codec == "Opus" else "video"
    medium = MediumSpec((Payload(96, codec),), 5000)
    spec = LegSpec("in", RtpSpec(audio=medium) if name == "audio" else RtpSpec(video=medium), "Receive")
    rate = engine_config(spec, {})["media"][name]["payloads"][0]["clock_rate"]
    assert f"a=rtpmap:96 {codec}/{rate}".casefold() in sdp("r", spec, {name: ("10.1.2.3", 5000)}).casefold()


def test_the_sdp_of_a_receiving_leg_names_our_port_and_feedback() -> None:
    spec = LegSpec(
        "in", RtpSpec(video=MediumSpec(H264, 5000), feedback="AVPF", rtcp_mux=True, extension_id=3), "Receive"
    )
    text = sdp("r", spec, {"video": ("10.1.2.3", 5000)})
    assert text.split("\r\n") == [
        "v=0", "o=- 0 0 IN IP4 10.1.2.3", "s=r/in", "t=0 0", "m=video 5000 RTP/AVPF 96", "c=IN IP4 10.1.2.3",
        "a=rtpmap:96 H264/90000", "a=fmtp:96 packetization-mode=1", "a=extmap:3 urn:auralink:rtp-hdrext:aic:1",
        "a=rtcp-fb:* nack", "a=rtcp-fb:* nack pli", "a=rtcp-fb:* ccm fir", "a=rtcp-mux", "a=recvonly", "",
    ]  # fmt: skip


@pytest.mark.parametrize("id_", [4, 20])
def test_a_leg_with_dependency_descriptors_says_that_it_takes_the_two_byte_form(id_: int) -> None:
    medium = MediumSpec((Payload(96, "AV1"),), 5000)
    descriptor = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
    for uri, mixed in ((descriptor, True), ("urn:x", id_ > 14)):
        spec = LegSpec("in", RtpSpec(video=medium, extensions=(ExtensionSpec(id_, uri),)), "Receive")
        lines = sdp("r", spec, {"video": ("10.1.2.3", 5000)}).split("\r\n")
        assert f"a=extmap:{id_} {uri}" in lines
        assert ("a=extmap-allow-mixed" in lines) == mixed


def test_retransmissions_redundancy_and_other_extensions_are_in_the_sdp_and_told_to_the_packet_core() -> None:
    spec = LegSpec(
        "in",
        RtpSpec(
            video=MediumSpec((Payload(96, "VP8", rtx_type=97),), 5000),
            audio=MediumSpec((Payload(111, "Opus", red_type=63),), 5002),
            feedback="AVPF",
            extensions=(ExtensionSpec(1, "urn:3gpp:video-orientation"), ExtensionSpec(20, "urn:x")),
        ),
        "Receive",
    )
    lines = sdp("r", spec, {"video": ("10.1.2.3", 5000), "audio": ("10.1.2.3", 5002)}).split("\r\n")
    assert "m=video 5000 RTP/AVPF 96 97" in lines
    assert "m=audio 5002 RTP/AVPF 111 63" in lines
    for line in (
        "a=rtpmap:97 rtx/90000", "a=fmtp:97 apt=96", "a=rtpmap:63 red/48000/2", "a=fmtp:63 111/111",
        "a=extmap:1 urn:3gpp:video-orientation", "a=extmap:20 urn:x", "a=extmap-allow-mixed",
    ):  # fmt: skip
        assert line in lines, line
    config = engine_config(spec, {})
    assert config["extensions"] == {1: "urn:3gpp:video-orientation", 20: "urn:x"}
    assert config["media"]["video"]["payloads"][0]["rtx_type"] == 97
    assert config["media"]["audio"]["payloads"][0]["red_type"] == 63


@pytest.mark.parametrize("codec", ["H264", "H265", "AV1"])
def test_the_packet_core_is_told_of_the_carrier_of_a_codec_that_takes_one(codec: Codec) -> None:
    video = MediumSpec((Payload(98, "VP8"), Payload(96, codec)), 5000)
    assert engine_config(LegSpec("x", RtpSpec(video=video, carrier="InBand")), {})["carrier"] == "InBand"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Payload(96, "Opus", rtx_type=97), "remove rtxType"),
        (lambda: Payload(96, "H264", red_type=97), "remove redType"),
        (lambda: MediumSpec((Payload(96, "H264", rtx_type=96),), 5000), "96 is given twice"),
        (lambda: RtpSpec(video=MediumSpec((Payload(96, "VP8"),), 5000), carrier="InBand"), "set carrier to None"),
        (lambda: RtpSpec(audio=MediumSpec(OPUS, 5000), carrier="InBand"), "set carrier to None"),
        (lambda: RtpSpec(video=MediumSpec((Payload(96, "VP8", rtx_type=97),), 5000)), "set feedback to AVPF"),
        (lambda: RtpSpec(video=MediumSpec(H264, 5000), extensions=(ExtensionSpec(15, "urn:a"),)), "15 is reserved"),
        (lambda: RtpSpec(video=MediumSpec(H264, 5000), extensions=(ExtensionSpec(14, "urn:a"),)), "14 is given twice"),
        (
            lambda: RtpSpec(
                video=MediumSpec(H264, 5000), extensions=(ExtensionSpec(1, "urn:a"), ExtensionSpec(2, "urn:a"))
            ),
            "urn:a is given twice",
        ),
    ],
)
def test_what_two_peers_could_not_tell_apart_is_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        make()
