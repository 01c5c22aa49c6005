"""The demo's bridge and its sender speak the same codec, whichever of those that a bridge knows is asked for."""

import pytest
from auralink_operator.models import parse_bridge
from auralink_operator.models.schema import VideoCodec

from hack.demo.__main__ import speaking
from hack.lab import ffmpeg
from hack.lab.bridge import QUICKSTART
from hack.lab.codec import CODECS, H264, Codec


def test_a_sender_knows_every_codec_that_a_bridge_knows() -> None:
    assert set(CODECS) == {codec.value for codec in VideoCodec}


@pytest.mark.parametrize(
    "codec", [codec for codec in CODECS.values() if codec is not H264], ids=lambda codec: codec.name
)
def test_the_example_speaks_another_codec_on_each_leg_and_nothing_else_changes(codec: Codec) -> None:
    name = codec.name
    documents = speaking(name)
    assert isinstance(documents, list)
    bridge = parse_bridge({**documents[0], "metadata": {**documents[0]["metadata"], "namespace": "ns", "uid": "u"}})
    payloads = [
        p
        for room in bridge.spec.rooms
        for leg in room.legs
        if leg.rtp and leg.rtp.video
        for p in leg.rtp.video.payloads
    ]
    assert [(payload.type, payload.codec.value) for payload in payloads] == [(ffmpeg.VIDEO_PAYLOAD_TYPE, name)] * 2
    assert documents[1]["kind"] == "RoomPolicy"


def test_by_default_the_example_is_applied_as_it_is() -> None:
    assert speaking(H264.name) == QUICKSTART


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.name)
def test_a_receiver_is_told_the_codec(codec: Codec) -> None:
    name = codec.name
    text = ffmpeg.sdp("video", 5004, CODECS[name])
    assert f"a=rtpmap:96 {name}/90000" in text
    assert ("a=fmtp" in text) == (name == "H264")
