"""A conference's media in one line."""

import pytest
from auralink_dataplane.rooms.media_state import MediaState, QualityLevel, StreamFigures, derive
from hypothesis import given
from hypothesis import strategies as st


def camera(width: int, height: int, native: float = 1000, sent: float = 600, *, aic: bool = True) -> StreamFigures:
    return StreamFigures("video", native, sent, width, height, aic)


VOICE = StreamFigures("audio", 32, 32)


def test_the_guides_example() -> None:
    streams = [camera(1280, 720, 1300, 780), camera(1280, 720, 1300, 780), camera(640, 360, 2250, 1350), VOICE, VOICE]
    want = MediaState("conference123", 5, 2974, QualityLevel.HD, aic_enabled=True, compression_ratio=0.4)
    assert derive("conference123", streams, aic_enabled=True) == want


@pytest.mark.parametrize(
    ("width", "height", "level"),
    [
        (3840, 2160, "UHD"),
        (1920, 1080, "FHD"),
        (1080, 1920, "FHD"),
        (1920, 1079, "HD"),
        (720, 1280, "HD"),
        (1278, 719, "SD"),
        (0, 0, "SD"),
    ],
)
def test_the_shorter_side_of_the_largest_picture_is_the_level(width: int, height: int, level: str) -> None:
    state = derive("x", [camera(width, height), camera(64, 64)], aic_enabled=False)
    assert state.quality_level.value == level


def test_a_stream_that_sends_nothing_is_not_there() -> None:
    assert derive("x", [camera(1920, 1080, 500, 0), VOICE], aic_enabled=True) == MediaState(
        "x", 1, 32, QualityLevel.AUDIO, aic_enabled=True
    )
    assert derive("x", [], aic_enabled=True).quality_level is QualityLevel.NONE


def test_only_video_under_aic_counts_for_the_ratio_and_fallback_counts_in() -> None:
    compressed, fallen_back, native = (
        camera(1, 1, 1000, 500),
        camera(1, 1, 1000, 1000),
        camera(1, 1, 9000, 9000, aic=False),
    )
    assert derive("x", [compressed, native, VOICE], aic_enabled=True).compression_ratio == 0.5
    assert derive("x", [compressed, fallen_back], aic_enabled=True).compression_ratio == 0.25
    assert derive("x", [camera(1, 1, 500, 600)], aic_enabled=True).compression_ratio == 0


@given(
    st.lists(
        st.builds(
            StreamFigures, st.sampled_from(["audio", "video"]), *[st.floats(0, 1e12)] * 2, under_aic=st.booleans()
        )
    )
)
def test_any_figures_make_a_state_within_its_bounds(streams: list[StreamFigures]) -> None:
    state = derive("x", streams, aic_enabled=True)
    assert 0 <= state.compression_ratio <= 1
    assert 0 <= state.total_bandwidth_kbps <= 100_000_000
