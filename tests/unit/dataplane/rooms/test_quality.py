"""What is known of a connection, by whom, and for how long."""

import pytest
from auralink_dataplane.rooms.quality import (
    HISTORY,
    HISTORY_S,
    QoSHistory,
    QoSMetrics,
    QoSSource,
    max_enabled_lines,
    of_jitsi,
    of_livekit,
    of_receiver_report,
)
from hypothesis import given
from hypothesis import strategies as st


def sample(at: int, source: QoSSource = QoSSource.OWN_LEG, **figures: float) -> QoSMetrics:
    return QoSMetrics(source, at, **figures)  # type: ignore[arg-type]


def test_a_report_block_is_told_in_percent_and_milliseconds() -> None:
    metrics = of_receiver_report(
        fraction_lost=26, jitter=480, clock_hz=48_000, rtt_ms=40.4, now_ms=5, bandwidth_kbps=63.6, codec="opus"
    )
    assert (metrics.packet_loss_percent, metrics.jitter_ms, metrics.rtt_ms, metrics.bandwidth_kbps) == (
        10.16,
        10,
        40,
        64,
    )
    assert metrics.source is QoSSource.OWN_LEG
    assert metrics.mos_score is not None
    assert 2.5 < metrics.mos_score < 3.5


def test_video_has_no_mos_and_a_codec_without_figures_neither() -> None:
    for codec in ("", "VP8", "G722"):
        metrics = of_receiver_report(fraction_lost=0, jitter=0, clock_hz=90_000, rtt_ms=None, now_ms=5, codec=codec)
        assert (metrics.mos_score, metrics.rtt_ms) == (None, None)


def test_the_guides_example_is_judged_somewhat_harder_than_the_guide_does() -> None:
    """2.5 % of loss, 15 ms of jitter, 45 ms round trip: the guide writes 4.1, without saying for what codec."""
    opus = of_receiver_report(fraction_lost=6, jitter=720, clock_hz=48_000, rtt_ms=45, now_ms=0, codec="opus")
    pcmu = of_receiver_report(fraction_lost=6, jitter=120, clock_hz=8_000, rtt_ms=45, now_ms=0, codec="PCMU")
    assert opus.mos_score == pytest.approx(3.9, abs=0.1)
    assert pcmu.mos_score == pytest.approx(4.1, abs=0.1)


@pytest.mark.parametrize(
    ("quality", "score", "mos"),
    [("EXCELLENT", None, 4.34), ("GOOD", None, 3.1), ("POOR", 0, 1.61), ("LOST", None, 1.0), ("GOOD", 3.75, 3.75)],
)
def test_livekit_tells_a_class_and_a_score(quality: str, score: float | None, mos: float) -> None:
    metrics = of_livekit(quality, score, 7)
    assert metrics is not None
    assert metrics.mos_score == pytest.approx(mos, abs=0.01)
    assert metrics.packet_loss_percent is None


def test_a_class_of_a_newer_livekit_is_no_sample() -> None:
    assert of_livekit("SPLENDID", 4.0, 7) is None


def test_a_jitsi_client_tells_of_its_way_to_the_bridge() -> None:
    said = {"packetLoss": {"total": 3, "upload": 2, "download": 4}, "bitrate": {"upload": 1200}, "jvbRTT": 35}
    metrics = of_jitsi(said, 9)
    assert metrics is not None
    assert (metrics.packet_loss_percent, metrics.rtt_ms, metrics.bandwidth_kbps) == (2, 35, 1200)
    assert metrics.jitter_ms is None
    assert metrics.mos_score is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(loss=JSON, bitrate=JSON, rtt=JSON, upload=JSON)
def test_a_client_may_tell_anything(loss: object, bitrate: object, rtt: object, upload: object) -> None:
    for said in (
        {"packetLoss": loss, "bitrate": bitrate, "jvbRTT": rtt},
        {"packetLoss": {"upload": upload}, "jvbRTT": 5},
    ):
        metrics = of_jitsi(said, 9)
        if metrics is not None and metrics.packet_loss_percent is not None:
            assert 0 <= metrics.packet_loss_percent <= 100


def test_the_history_is_bounded_by_number() -> None:
    history = QoSHistory()
    for at in range(3 * HISTORY):
        history.add(sample(at))
    assert len(history) == HISTORY
    assert [one.timestamp for one in history.last(3)] == [179, 178, 177]


def test_the_history_is_bounded_by_time() -> None:
    history = QoSHistory()
    history.add(sample(1000))
    history.add(sample(2000))
    history.forget_before(int(HISTORY_S * 1000) + 1500)
    assert [one.timestamp for one in history.last(9)] == [2000]
    history.forget_before(int(HISTORY_S * 1000) + 2001)
    assert history.latest() is None


def test_a_sample_that_is_told_twice_or_late_is_not_taken() -> None:
    history = QoSHistory()
    assert history.add(sample(5000))
    assert not history.add(sample(5000))
    assert not history.add(sample(4000))
    assert history.add(sample(4000, QoSSource.LIVEKIT))
    assert len(history) == 2


def test_sources_are_not_averaged_with_each_other() -> None:
    history = QoSHistory()
    history.add(sample(1, packet_loss_percent=2.0, mos_score=4.0))
    history.add(sample(2, QoSSource.LIVEKIT, mos_score=1.0))
    history.add(sample(3, packet_loss_percent=4.0))
    mean = history.mean(QoSSource.OWN_LEG)
    assert mean == sample(3, packet_loss_percent=3.0, mos_score=4.0)
    assert history.mean(QoSSource.JITSI) is None
    assert history.mean(QoSSource.OWN_LEG, since_ms=2) == sample(3, packet_loss_percent=4.0)
    assert history.latest(QoSSource.LIVEKIT) == sample(2, QoSSource.LIVEKIT, mos_score=1.0)


def test_a_source_that_tells_often_pushes_out_none_that_tells_seldom() -> None:
    history = QoSHistory()
    history.add(sample(1, QoSSource.JITSI))
    for at in range(2, 1000):
        history.add(sample(at))
    assert history.latest(QoSSource.JITSI) == sample(1, QoSSource.JITSI)
    assert history.latest() == sample(999)
    assert len(history) == HISTORY + 1


@pytest.mark.parametrize(
    ("said", "lines"), [(720, 720), (0, 0), (None, 0), ("720", 0), (-5, 0), (1e99, 65_535), (True, 0)]
)
def test_the_largest_picture_that_a_jitsi_client_may_send(said: object, lines: int) -> None:
    assert max_enabled_lines({"maxEnabledResolution": said}) == lines
