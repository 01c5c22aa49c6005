"""The AI Core's benchmark against the real server and the real worker process, in seconds instead of minutes."""

import pytest
from auralink_aicore.codecs import SERVED

from benchmarks.aicore import capacity, served
from hack.lab import clip, sender
from hack.lab.sender import Sent


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> list[Sent]:
    folder = tmp_path_factory.mktemp("clip")
    camera = ["-f", "lavfi", "-i", "mandelbrot=s=320x240:r=30:maxiter=100,noise=alls=6:allf=t", "-frames:v", "90"]
    path = folder / "camera.mkv"
    clip.run_ffmpeg([*camera, *clip.LOSSLESS, str(path)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        return [sender.send(clip.probe(path), codec.name, 400, 90) for codec in SERVED]


async def test_a_stream_crosses_the_server_and_every_part_of_its_way_is_known(streams: list[Sent]) -> None:
    answers = await served.hop(streams[0], 2)
    assert [answer.frame_id for answer in answers] == list(range(30, 90))
    assert all(answer.encoder_ms > 0 and 0 < answer.transport_ms < answer.took_ms for answer in answers)


async def test_all_codecs_last_through_a_soak_in_which_their_streams_start_over(streams: list[Sent]) -> None:
    said: list[str] = []
    found = await served.soak(streams, 6 / 60, 2, said.append)
    assert found.frames == 180 * len(SERVED)
    assert [account.broken for _, account in found.sessions] == [""] * len(SERVED)
    assert [len(account.answers) for _, account in found.sessions] == [180] * len(SERVED)
    assert found.resident_mb[0] > 20


async def test_streams_are_added_until_the_most_that_are_tried(
    streams: list[Sent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "MOST", 2)
    monkeypatch.setattr(capacity, "IN_TIME", 0.0)
    monkeypatch.setattr(capacity, "OUR_LATENESS_S", 1.0)
    steps = await capacity.measure(streams[0], 1, print)
    assert [(step.sessions, step.frames) for step in steps] == [(1, 30), (2, 60)]
    assert all(0 < step.in_time <= step.frames and step.p95_ms > 0 for step in steps)
