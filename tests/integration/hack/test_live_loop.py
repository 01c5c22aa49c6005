"""The measuring lab on itself: FFmpeg -> tap -> tap -> FFmpeg with nothing between, so that whatever it reports about a
bridge is the bridge's doing."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from hack.lab import clip, ffmpeg, measure, picture, tap

LIVE_S = 9.0


@dataclass(frozen=True, slots=True)
class Taken:
    sent: measure.Flow
    received: measure.Flow
    audio: measure.Payloads
    recording: Path
    snapshot: Path  # of the recording while it grew
    timeline: measure.Timeline
    clip: clip.Clip


@contextmanager
def running(command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    command[0] = {"ffmpeg": str(clip.ffmpeg())}.get(command[0], command[0])
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)


def free_ports(count: int) -> list[int]:
    """Even ports whose odd neighbours are free too."""
    found: list[int] = []
    for port in range(26000, 32000, 2):
        with socket.socket(type=socket.SOCK_DGRAM) as even, socket.socket(type=socket.SOCK_DGRAM) as odd:
            try:
                even.bind(("0.0.0.0", port))
                odd.bind(("0.0.0.0", port + 1))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free UDP ports")


def start_tap(stack: ExitStack, out: Path, *routes: str) -> None:
    stack.enter_context(running([sys.executable, str(Path(tap.__file__)), "--out", str(out), *routes]))


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Taken:
    folder = tmp_path_factory.mktemp("live")
    original = clip.default_clip()
    stream = clip.sender_stream(original)
    sending, between, receiving, audio_in, audio_out = free_ports(5)
    (folder / "video.sdp").write_text(ffmpeg.sdp("video", receiving))
    recording, snapshot = folder / "video.mkv", folder / "growing.mkv"
    with ExitStack() as taps:
        start_tap(taps, folder / "sent.tap", f"{sending}=127.0.0.1:{between}", f"{audio_in}=127.0.0.1:{audio_out}")
        start_tap(taps, folder / "received.tap", f"{between}=127.0.0.1:{receiving}", f"{audio_out}=")
        with ExitStack() as senders, running(ffmpeg.record(str(folder / "video.sdp"), str(recording))):
            time.sleep(1)
            senders.enter_context(running(ffmpeg.send_audio(f"127.0.0.1:{audio_in}")))
            senders.enter_context(running(ffmpeg.send_video(str(stream.path), f"127.0.0.1:{sending}")))
            time.sleep(LIVE_S)
            snapshot.write_bytes(recording.read_bytes())
    went, came = (list(tap.read((folder / name).read_bytes())) for name in ("sent.tap", "received.tap"))
    sent = measure.flow(went, ffmpeg.VIDEO_PAYLOAD_TYPE)
    start = sent.frames[0].timestamp
    return Taken(
        sent=sent,
        received=measure.flow(came, ffmpeg.VIDEO_PAYLOAD_TYPE, near=start),
        audio=measure.untouched(went, came, ffmpeg.AUDIO_PAYLOAD_TYPE),
        recording=recording,
        snapshot=snapshot,
        timeline=measure.Timeline(start, original.ticks_per_frame, original.frames),
        clip=original,
    )


def test_nothing_is_lost_or_changed_between_two_taps(taken: Taken) -> None:
    first, last = taken.received.frames[0].timestamp, taken.received.frames[-1].timestamp
    crossed = measure.crossing(taken.sent, taken.received, first, last)

    assert (taken.received.lost, taken.received.reordered, taken.received.largest_packet) == (0, 0, 1200)
    assert (crossed.missing, crossed.incomplete, crossed.saved_percent) == (0, 0, 0)
    assert taken.audio.sent > 50 * (LIVE_S - 4)
    assert taken.audio.same == taken.audio.sent


def test_timestamps_go_on_evenly_where_the_clip_starts_over(taken: Taken) -> None:
    frames = taken.sent.frames
    assert len(frames) > taken.clip.frames
    assert {b.timestamp - a.timestamp for a, b in pairwise(frames)} == {3600}


def test_a_recording_decodes_whole_and_while_it_grows(taken: Taken) -> None:
    whole = picture.decode_strictly(taken.recording)
    early = picture.decode_strictly(picture.cut(taken.snapshot, LIVE_S - 3, taken.snapshot.with_name("cut.mkv")))

    assert whole.clean
    assert whole.frames == len(picture.picture_times(taken.recording, 0))
    assert early.clean
    assert early.frames == pytest.approx((LIVE_S - 3) * 25, abs=1)


def test_a_damaged_recording_is_not_called_clean(taken: Taken, tmp_path: Path) -> None:
    data = bytearray(taken.recording.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = bytes(20_000)
    (tmp_path / "damaged.mkv").write_bytes(data)

    assert not picture.decode_strictly(tmp_path / "damaged.mkv").clean


def test_the_same_pictures_score_the_same_before_and_after_the_wire(taken: Taken) -> None:
    span = taken.timeline.whole_loops(taken.received.frames[-1].timestamp, 1)
    assert span is not None
    times = picture.picture_times(taken.recording, taken.received.frames[0].timestamp)
    shown = [taken.timeline.picture(t) if span[0] <= t <= span[1] else None for t in times]

    before = picture.vmaf_of_sender(clip.sender_stream(taken.clip))
    after = picture.vmaf(taken.recording, shown, taken.clip)

    assert after.frames == taken.clip.frames
    assert after.mean == pytest.approx(before.mean, abs=0.01)
