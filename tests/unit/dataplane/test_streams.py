"""What one stream asks of the AI Core for all its receivers, and what counts as saved."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from auralink_dataplane.media.frames import EXTENSION_BYTES_ON_WIRE, Frame, Mode
from auralink_dataplane.media.streams.books import WISH_HOLDS_S
from auralink_pb.aicore.v1 import aicore_pb2 as pb

from tests.unit.dataplane.whole import PodUnderTest, bridge


def spec(pod: PodUnderTest, *receivers: str) -> dict[str, Any]:
    """The usual bridge with one sending leg per profile-level-id."""
    found = bridge(pod.core.address, mode="Always")
    first, out = found["rooms"][0]["legs"]
    legs = [first]
    for number, receiver in enumerate(receivers):
        video = out["rtp"]["video"]
        payload = {**video["payloads"][0], "fmtp": f"packetization-mode=1;profile-level-id={receiver}"}
        port = video["listenPort"] + 10 * number
        medium = {**video, "payloads": [payload], "listenPort": port, "remote": f"127.0.0.1:{6000 + number}"}
        legs.append({"name": f"out-{number}", "direction": "Send", "rtp": {"video": medium}})
    found["rooms"][0]["legs"] = legs
    return found


async def test_the_ai_core_is_asked_for_no_more_than_every_receiver_decodes(pod: PodUnderTest) -> None:
    await pod.configure(spec=spec(pod, "640028", "42e01f"))  # High 4.0, constrained baseline 3.1
    legs = await pod.legs_open(3)
    await pod.until(lambda: pod.app.aic.endpoints())
    pod.packets.start_stream(legs["in"])
    await pod.until(lambda: pod.core.opened)
    assert pod.core.opened[0].max_profile == pb.H264_PROFILE_CONSTRAINED_BASELINE
    assert pod.core.opened[0].max_level == 31


async def test_a_receiver_that_decodes_less_gets_a_session_of_its_measure_from_a_key_on(pod: PodUnderTest) -> None:
    await pod.configure(spec=spec(pod, "640028"))
    legs = await pod.legs_open(2)
    await pod.until(lambda: pod.app.aic.endpoints())
    stream = pod.packets.start_stream(legs["in"])
    source = pod.packets.sources[stream]
    await pod.play(stream, 40)
    await pod.until(lambda: len(source.sent) == 40)
    assert [opened.max_level for opened in pod.core.opened] == [40]

    await pod.configure(spec=spec(pod, "640028", "42e01f"))
    await pod.legs_open(3)
    await pod.until(lambda: len(source.links) == 2)
    for _ in range(12):
        await pod.play(stream, 60)
        if len(pod.core.opened) > 1 and source.sent[-1].ours:
            break

    assert [opened.max_level for opened in pod.core.opened] == [40, 31]
    assert source.sent[-1].ours
    assert source.illegal_switch == 0
    assert not source.garbage


@pytest.mark.parametrize("held", [False, True])
async def test_pictures_that_do_not_go_out_save_nothing(pod: PodUnderTest, held: bool) -> None:
    await pod.configure()
    stream = await pod.stream()
    await pod.play(stream, 30)
    await pod.until(lambda: len(pod.packets.sources[stream].sent) == 30)
    if held:
        await pod.core.stop()
        await pod.until(lambda: next(iter(pod.app.streams)).pipeline.state == "hold")  # type: ignore[union-attr]
    else:
        pod.core.disposition = pb.DISPOSITION_SKIPPED
    for _ in range(50):
        pod.packets.feed(stream, key=False, size=1000, now=asyncio.get_running_loop().time())
        await asyncio.sleep(0.005)
    await pod.until(lambda: not any(pod.packets.sources[stream].slots))
    pod.app.streams.sample(asyncio.get_running_loop().time())
    savings = pod.app.streams.books.savings
    assert len(pod.packets.sources[stream].sent) == 30
    assert (savings.bytes_in, savings.bytes_out) == (30 * 1000, 30 * (600 + EXTENSION_BYTES_ON_WIRE))
    [told] = pod.app.status()["aic_compression"]["streams"]
    assert (told["bytes_in"], told["bytes_out"]) == (savings.bytes_in, savings.bytes_out)
    text = pod.app.metrics_text().decode()
    assert "auralink_aic_input_bytes_total 30000.0" in text
    assert f"auralink_aic_bandwidth_saved_bytes {savings.bytes_in - savings.bytes_out}.0" in text


async def test_a_refused_answer_freezes_the_picture_until_a_native_key(pod: PodUnderTest) -> None:
    await pod.configure()
    stream = await pod.stream()
    source = pod.packets.sources[stream]
    await pod.play(stream, 10)
    await pod.until(lambda: len(source.sent) == 10)
    [running] = pod.app.streams
    source.run = None  # whatever the reason: what comes next does not fit
    pod.packets.feed(stream, key=False, size=1000, now=asyncio.get_running_loop().time())
    await pod.until(lambda: running.pipeline and running.pipeline.state == "hold")
    assert (source.illegal_switch, source.held) == (1, True)
    await pod.play(stream, 1)
    assert len(source.sent) == 11
    assert source.sent[10].key
    assert not source.sent[10].ours
    assert not source.garbage


async def test_what_the_ai_core_wishes_of_a_sender_is_shown_while_it_stands_and_counted(pod: PodUnderTest) -> None:
    pod.core.asks = 1_500_000, pb.ASK_REASON_CODEC
    await pod.configure()
    stream = await pod.stream()
    await pod.play(stream, 3)
    await pod.until(lambda: len(pod.packets.sources[stream].sent) == 3)
    [told] = pod.app.status()["aic_compression"]["streams"]
    assert (told["ask_sender_bps"], told["ask_reason"]) == (1_500_000, "codec")
    assert 'auralink_aic_sender_hints_total{reason="codec"} 3.0' in pod.app.metrics_text().decode()
    [running] = pod.app.streams
    assert running.ask(asyncio.get_running_loop().time() + WISH_HOLDS_S) is None


async def test_a_reason_of_a_newer_ai_core_is_told_as_another(pod: PodUnderTest) -> None:
    pod.core.asks = 700_000, pb.AskReason.ValueType(99)
    await pod.configure()
    stream = await pod.stream()
    await pod.play(stream, 1)
    await pod.until(lambda: pod.packets.sources[stream].sent)
    [told] = pod.app.status()["aic_compression"]["streams"]
    assert (told["ask_sender_bps"], told["ask_reason"]) == (700_000, "other")


async def test_frames_that_come_up_are_counted_by_type_and_layer(pod: PodUnderTest) -> None:
    await pod.configure()
    stream = await pod.stream()
    [running] = pod.app.streams
    one = Frame(
        stream, 0, Mode.COMPRESS, "H264", 0, key=True, t_first=0.0, t_complete=0.0, may_reorder=False, native_bytes=9,
        data=b"\0\0\1\x65\xb8\xff",
    )  # fmt: skip
    for frame in (
        one,
        replace(one, data=b"\0\0\1\x41\xe0\xff", tid=1),
        replace(one, data=b"\0\0\1\x41\xa0\xff", tid=1),
    ):
        running.pictures.came(frame)
    [told] = pod.app.status()["aic_compression"]["streams"]
    assert told["frame_types"] == {"I": 1, "P": 1, "B": 1}
    assert told["layers"] == {"S0T0": 1, "S0T1": 2}


async def test_a_loop_that_is_always_late_still_tells_the_time(pod: PodUnderTest) -> None:
    """The first late ring is put off, so that answers which came meanwhile are read; the second counts."""
    await pod.configure(spec=spec(pod, "640028"))
    legs = await pod.legs_open(2)
    number = pod.packets.start_stream(legs["in"])
    await pod.until(lambda: pod.core.opened)
    [stream] = [one for one in pod.app.streams if one.id == number]
    assert stream.pipeline is not None
    ticks: list[float] = []
    stream.pipeline.tick = lambda now: ticks.append(now) or []  # type: ignore[method-assign,func-returns-value]
    for expected in (0, 1, 1, 2):
        stream._timer_at = stream._clock() - 1.0
        stream._ring()
        assert len(ticks) == expected
