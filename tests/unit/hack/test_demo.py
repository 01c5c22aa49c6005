"""The demo's bridge and its sender speak the same codec, whichever of those that a bridge knows is asked for."""

import subprocess
from fractions import Fraction
from pathlib import Path

import pytest
from auralink_operator.models import parse_bridge
from auralink_operator.models.schema import VideoCodec

from hack.demo.__main__ import kbps_for, speaking
from hack.lab import clip, ffmpeg
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


@pytest.mark.parametrize(("width", "height", "kbps"), [(1280, 720, 4000), (720, 1280, 4000), (640, 360, 1500)])
def test_senders_are_well_fed_at_any_size(width: int, height: int, kbps: int) -> None:
    assert kbps_for(clip.Clip(Path("any"), width, height, Fraction(25), 132)) == kbps


def test_a_clip_is_scaled_once_and_keeps_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "small.mp4"
    make = ["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=96x64:r=25", "-frames:v", "7", "-pix_fmt", "yuv420p"]
    subprocess.run([clip.ffmpeg(), *make, path], check=True, timeout=60)
    original = clip.probe(path)
    scaled = clip.scaled(original, 32)
    assert (scaled.width, scaled.height, scaled.fps, scaled.frames, scaled.name) == (48, 32, Fraction(25), 7, "small")
    made_ns = scaled.path.stat().st_mtime_ns
    assert clip.scaled(original, 32).path.stat().st_mtime_ns == made_ns
    assert clip.scaled(original, 64) == original
