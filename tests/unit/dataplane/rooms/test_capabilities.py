"""What participants can, each and together."""

from random import Random

import pytest
from auralink_dataplane.rooms.capabilities import (
    Measured,
    MediaCapabilities,
    codec_name,
    intersect,
    lines_of,
    of_jitsi,
    of_livekit,
    resolution,
)
from auralink_dataplane.rooms.events import Participant, Side, Track, TrackSource, Version
from hypothesis import given
from hypothesis import strategies as st


def participant(*tracks: Track, side: Side = Side.LIVEKIT) -> Participant:
    return Participant(side, "p", Version(1), tracks=tracks)


def test_a_livekit_participant_has_the_rooms_codecs_and_its_tracks() -> None:
    camera = Track("TR_1", TrackSource.CAMERA, mime="video/AV1", width=1920, height=1080)
    capabilities = of_livekit(
        participant(camera),
        ["audio/opus", "audio/red", "video/h264", "video/vp8", "video/rtx"],
        Measured(simulcast=True),
    )
    assert capabilities == MediaCapabilities(
        ("H.264", "VP8", "AV1"), ("Opus", "RED"), "1080p", supports_aic=True, supports_simulcast=True
    )


def test_a_jitsi_participant_has_its_list_in_its_own_order() -> None:
    capabilities = of_jitsi(participant(side=Side.JITSI), "av1,vp9,vp8,h264", Measured(720, 29.97, 2500))
    assert capabilities == MediaCapabilities(
        ("AV1", "VP9", "VP8", "H.264"), ("Opus",), "720p", 30, 2500, supports_aic=True, supports_simulcast=False
    )


@given(st.text())
def test_a_codec_list_may_say_anything(text: str) -> None:
    capabilities = of_jitsi(participant(side=Side.JITSI), text)
    assert len(capabilities.video_codecs) <= 16
    assert capabilities.audio_codecs[-1:] or "Opus" in capabilities.audio_codecs


def test_encrypted_tracks_and_unknown_codecs_are_not_for_the_ai_core() -> None:
    assert not of_livekit(
        participant(Track("t", TrackSource.CAMERA, mime="video/vp8", encrypted=True)), []
    ).supports_aic
    assert not of_livekit(participant(), ["video/ogg", "audio/opus"]).supports_aic


def test_a_microphone_has_no_picture() -> None:
    assert of_livekit(participant(Track("t", TrackSource.MICROPHONE, width=640, height=480)), []).max_resolution == ""


@pytest.mark.parametrize(
    ("lines", "name"),
    [(1080, "1080p"), (1088, "1080p"), (1079, "720p"), (180, "180p"), (90, "144p"), (0, ""), (-4, "")],
)
def test_resolutions_have_names(lines: int, name: str) -> None:
    assert resolution(lines) == name


@pytest.mark.parametrize("text", ["", "p", "1080", "HD", "-5p", "1e3p", "²p", "999999p"])
def test_other_text_is_no_resolution(text: str) -> None:
    assert lines_of(text) == 0


@pytest.mark.parametrize(("text", "name"), [("video/H264", "H.264"), (" vp9 ", "VP9"), ("HEVC", "H.265"), ("rtx", "")])
def test_codecs_have_the_guides_names(text: str, name: str) -> None:
    assert codec_name(text) == name


def test_a_room_can_what_all_can() -> None:
    room = intersect(
        [
            MediaCapabilities(("VP8", "H.264", "VP9"), ("Opus",), "1080p", 30, 2500, True, True),
            MediaCapabilities(("AV1", "H.264", "VP8"), ("Opus", "RED"), "720p", 60, 0, True, True),
        ]
    )
    assert room == MediaCapabilities(("H.264", "VP8"), ("Opus",), "720p", 30, 2500, True, True)


def test_who_has_not_told_something_does_not_narrow_the_room() -> None:
    told = MediaCapabilities(("VP8",), ("Opus",), "720p", 30, 900, True, True)
    room = intersect([told, MediaCapabilities(supports_aic=True, supports_simulcast=True)])
    assert room == told


def test_one_that_cannot_is_enough_for_the_room_not_to() -> None:
    room = intersect(
        [MediaCapabilities(("VP8",), supports_aic=True), MediaCapabilities(("H.264",), supports_aic=False)]
    )
    assert (room.video_codecs, room.supports_aic) == ((), False)


def test_an_empty_room_can_nothing() -> None:
    assert intersect([]) == MediaCapabilities()


CAPABILITIES = st.builds(
    MediaCapabilities,
    st.lists(st.sampled_from(["H.264", "VP8", "VP9", "AV1"]), unique=True).map(tuple),
    st.lists(st.sampled_from(["Opus", "RED"]), unique=True).map(tuple),
    st.sampled_from(["", "1080p", "720p", "360p"]),
    st.integers(0, 60),
    st.integers(0, 5000),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(CAPABILITIES, max_size=6), st.randoms())
def test_the_order_of_participants_does_not_matter(everybody: list[MediaCapabilities], random: Random) -> None:
    shuffled = random.sample(everybody, len(everybody))
    assert intersect(shuffled) == intersect(everybody) == intersect(everybody * 2)
