"""A whole pod: configuration in, frames through, status and HTTP out, drain."""

import asyncio
import json
import logging
import os
import signal
from typing import Any

import pytest
from auralink_dataplane.settings import parse_documents
from auralink_pb.aicore.v1 import aicore_pb2 as pb

from tests.fakes.aicore import FakeAiCore
from tests.unit.dataplane.whole import TOKEN, PodUnderTest, bridge, documents


async def test_it_is_alive_but_not_ready_before_its_first_configuration(pod: PodUnderTest) -> None:
    assert (await pod.get("/health"))[0] == 200
    code, text = await pod.get("/ready")
    assert (code, json.loads(text)["status"]) == (503, "starting")


async def test_frames_go_up_to_the_core_and_out_again_smaller(pod: PodUnderTest) -> None:
    await pod.configure()
    assert (await pod.get("/ready"))[0] == 200
    stream = await pod.stream()
    await pod.play(stream, 60)
    source = pod.packets.sources[stream]
    await pod.until(lambda: len(source.sent) == 60)
    assert all(sent.ours for sent in source.sent)
    assert source.sent[0].extension is not None
    assert not source.garbage
    await pod.until(lambda: pod.app.streams.books.savings.bytes_in)
    status = json.loads((await pod.get("/status"))[1])
    compression = status["aic_compression"]
    assert status["service"]["name"] == "ingress-egress"
    assert compression["frames_compressed"] == 60
    assert 30 < compression["saved_percent"] < 40  # 60 % of the bytes and 24 of extension a frame
    assert compression["grpc_stats"]["successful_requests"] == 60
    assert compression["grpc_stats"]["failed_requests"] == 0
    assert compression["latency_ms"]["ai_core"]["count"] == 60
    assert compression["latency_ms"]["pod"]["p95"] is not None
    [entry] = compression["streams"]
    assert (entry["mode"], entry["frames_in"]) == ("compress", 60)
    code, metrics = await pod.get("/metrics", port=1)
    assert code == 200
    assert "auralink_aic_frames_compressed_total 60.0" in metrics
    for name in (
        "auralink_aic_frames_processed_total", "auralink_aic_compression_ratio", "auralink_aic_bandwidth_saved_bytes",
        "auralink_aic_latency_ms_bucket", "auralink_rooms_active 1.0", "auralink_participants_total 1.0",
        'auralink_frame_latency_ms_count{stage="pod"} 60.0', 'auralink_packets_dropped_total{reason="not_rtp"} 3.0',
    ):  # fmt: skip
        assert name in metrics


async def test_nothing_is_said_to_be_saved_once_compression_is_off(pod: PodUnderTest) -> None:
    await pod.configure()
    stream = await pod.stream()
    await pod.play(stream, 60)
    await pod.until(lambda: pod.app.snapshot().saved)
    await pod.configure(spec=bridge(pod.core.address, mode="Disabled"))
    pod.skew_s += 60
    await pod.play(stream, 60)
    await pod.until(lambda: "auralink_aic_compression_ratio 0.0" in pod.app.metrics_text().decode())
    compression = pod.app.status()["aic_compression"]
    assert (compression["saved_percent"], compression["streams"][0]["saved_percent"]) == (None, None)
    assert pod.app.snapshot().saved is None


async def test_audio_is_linked_and_never_touched(pod: PodUnderTest) -> None:
    await pod.configure()
    legs = await pod.legs_open()
    stream = pod.packets.start_stream(legs["in"], media="audio", codec="Opus")
    await pod.until(lambda: pod.packets.sources[stream].links)
    pod.packets.feed(stream, key=True, size=80)
    pod.packets.feed(stream, key=False, size=80)
    assert [sent.ours for sent in pod.packets.sources[stream].sent] == [False, False]


async def test_a_packet_of_audio_counts_as_a_frame(pod: PodUnderTest) -> None:
    await pod.configure()
    legs = await pod.legs_open()
    stream = pod.packets.start_stream(legs["in"], media="audio", codec="Opus")
    await pod.until(lambda: pod.packets.sources[stream].links)
    for _ in range(50):
        pod.packets.feed(stream, key=True, size=80)
    await pod.until(lambda: next(iter(pod.app.streams)).counted.frames)
    [told] = pod.app.status()["aic_compression"]["streams"]
    assert (told["frames_in"], told["frames_out"]) == (50, 50)
    assert pod.app.status()["aic_compression"]["frames_processed"] == 0


async def test_a_core_that_dies_freezes_until_a_native_key_and_comes_back(pod: PodUnderTest) -> None:
    await pod.configure()
    stream = await pod.stream()
    source = pod.packets.sources[stream]
    await pod.play(stream, 10)
    await pod.until(lambda: len(source.sent) == 10)
    await pod.core.stop()
    await pod.until(lambda: next(iter(pod.app.streams)).pipeline.state == "hold")  # type: ignore[union-attr]
    await pod.play(stream, 5)
    assert source.sent[10].key
    assert not source.sent[10].ours
    assert "AICoreUnavailable" in pod.app.problems()
    assert (await pod.get("/ready"))[0] == 200
    await pod.core.start(pod.core.port)
    for _ in range(12):
        await pod.play(stream, 60)
        if source.sent[-1].ours:
            break
    assert source.sent[-1].ours
    assert not source.garbage
    assert source.illegal_switch == 0
    assert not pod.app.problems()
    assert "auralink_aic_fallback_total{reason=" in (await pod.get("/metrics", port=1))[1]


async def test_a_policy_change_applies_to_running_streams_without_touching_legs(pod: PodUnderTest) -> None:
    await pod.configure()
    stream = await pod.stream()
    await pod.play(stream, 5)
    rule = {"name": "less", "priority": 1, "rooms": {"names": ["de*"]}, "compression": {"targetSavingsPercent": 20}}
    await pod.configure(policies=[rule])
    await pod.until(lambda: pod.core.controls)
    assert pod.core.controls[0].policy.target_savings == pytest.approx(0.2)
    assert not pod.packets.closed_legs
    assert (
        json.loads((await pod.get("/rooms", token=TOKEN))[1])["rooms"][0]["compression"]["target_savings_percent"] == 20
    )


async def test_only_changed_legs_are_opened_anew(pod: PodUnderTest) -> None:
    await pod.configure()
    legs = await pod.legs_open()
    spec = bridge(pod.core.address, mode="Always")
    spec["rooms"][0]["legs"][1]["rtp"]["extensionId"] = 3
    await pod.configure(spec=spec)
    await pod.until(lambda: pod.packets.closed_legs)
    assert pod.packets.closed_legs == [legs["out"]]
    await pod.until(lambda: len(pod.app.legs.open) == 2)


async def test_replacing_both_legs_of_a_live_stream_starts_over_and_stops_nothing(pod: PodUnderTest) -> None:
    await pod.configure()
    await pod.stream()
    spec = bridge(pod.core.address, mode="Always")
    for leg in spec["rooms"][0]["legs"]:
        leg["rtp"]["extensionId"] = 3
    await pod.configure(spec=spec)
    await pod.until(lambda: len(pod.packets.closed_legs) == 2)
    await pod.until(lambda: len(pod.app.legs.open) == 2)
    assert pod.app.sessions == 0
    again = await pod.stream()
    await pod.until(lambda: pod.packets.sources[again].links)
    assert not pod.task.done()


async def test_a_stream_that_ends_while_a_leg_opens_is_no_error(pod: PodUnderTest) -> None:
    await pod.configure()
    stream = await pod.stream()
    pod.packets.sources[stream].ended = True  # its event is on the way
    spec = bridge(pod.core.address, mode="Always")
    spec["rooms"][0]["legs"][1]["rtp"]["extensionId"] = 3
    await pod.configure(spec=spec)
    await pod.until(lambda: pod.packets.closed_legs)
    legs = await pod.legs_open()
    assert legs["out"] not in pod.packets.sources[stream].links
    assert not pod.task.done()


async def test_a_room_of_another_pod_is_not_served_and_given_up_when_it_moves(pod: PodUnderTest) -> None:
    await pod.configure(owner="pod-2")
    assert pod.app.snapshot().rooms == 0
    await pod.configure(owner="pod-1")
    legs = await pod.legs_open()
    stream = pod.packets.start_stream(legs["in"])
    await pod.until(lambda: pod.app.sessions == 1)
    await pod.configure(owner="pod-2")
    for _ in range(3):  # nobody has told the sender's node yet
        await pod.play(stream, 120)
        pod.skew_s += 1.5
        assert pod.app.sessions == 1
        assert pod.app.rooms()[0]["state"] == "leaving"
    pod.skew_s += 5.0
    await pod.until(lambda: pod.app.sessions == 0)
    await pod.until(lambda: not pod.app.legs.open)
    assert not pod.packets.byes, "its receivers go on with the other pod"
    assert "auralink_rooms_left_total 1.0" in (await pod.get("/metrics", port=1))[1]


async def test_a_room_that_is_removed_says_goodbye(pod: PodUnderTest) -> None:
    await pod.configure()
    legs = await pod.legs_open()
    await pod.configure(spec={**bridge(pod.core.address), "rooms": []})
    await pod.until(lambda: not pod.app.legs.open)
    assert set(pod.packets.byes) == set(legs.values())


@pytest.mark.parametrize(
    ("effect", "goes"),
    [
        ({"media": {"video": "Deny"}}, {"video": False, "audio": True}),
        ({"media": {"audio": "Deny"}}, {"video": True, "audio": False}),
        ({"codecs": ["VP8"]}, {"video": False, "audio": True}),
        ({"codecs": ["VP8", "H264"], "maxParticipants": 5}, {"video": True, "audio": True}),
    ],
)
async def test_what_a_policy_denies_goes_nowhere_until_it_is_allowed(
    pod: PodUnderTest, effect: dict[str, Any], goes: dict[str, bool]
) -> None:
    await pod.configure()
    legs = await pod.legs_open()
    streams = {
        medium: pod.packets.start_stream(legs["in"], media=medium, codec=codec)
        for medium, codec in (("video", "H264"), ("audio", "Opus"))
    }

    def linked() -> dict[str, bool]:
        return {medium: bool(pod.packets.sources[stream].links) for medium, stream in streams.items()}

    await pod.until(lambda: all(linked().values()))
    await pod.configure(policies=[{"name": "strict", **effect}])
    assert linked() == goes
    late = pod.packets.start_stream(legs["in"], media="video", codec="H264")
    await pod.until(lambda: len(list(pod.app.streams)) == 3)
    assert bool(pod.packets.sources[late].links) == goes["video"]
    await pod.configure()
    assert all(linked().values())
    assert pod.packets.sources[late].links


async def test_a_bad_configuration_is_reported_and_the_old_one_stays(pod: PodUnderTest) -> None:
    await pod.configure()
    assert pod.cluster
    spec = bridge(pod.core.address)
    spec["rooms"][0]["legs"][0]["rtp"]["video"]["payloads"][0]["codec"] = "VP7"
    pod.cluster.queue.put_nowait(documents(spec, generation=2))
    await pod.until(lambda: "ConfigInvalid" in pod.app.problems())
    await pod.until(lambda: any(entry and "ConfigInvalid" in entry["problems"] for entry in pod.cluster.entries))  # type: ignore[union-attr]
    entry = pod.cluster.entries[-1]
    assert entry
    assert entry["configGeneration"] == 1
    assert "codec" in entry["message"]
    assert (await pod.get("/ready"))[0] == 200


async def test_a_leg_that_does_not_open_is_a_problem_that_says_which(pod: PodUnderTest) -> None:
    spec = bridge(pod.core.address)
    spec["rooms"][0]["legs"][1]["rtp"]["video"]["remote"] = "no..name:6000"
    await pod.configure(spec=spec)
    await pod.until(lambda: "LegNotOpen" in pod.app.problems())
    assert pod.app.problems()["LegNotOpen"].startswith("room demo, leg out: video.remote no..name:6000 does not")
    await pod.configure()
    await pod.until(lambda: not pod.app.problems())


async def test_a_problem_is_logged_once_when_it_comes_and_once_when_it_goes(
    pod: PodUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "auralink_dataplane")

    def lines() -> list[tuple[str, object]]:
        return [(one.message, vars(one).get("said")) for one in caplog.records if vars(one).get("problem")]

    token = pod.secrets.pop(("api", "token"))
    await pod.configure()
    await pod.until(lines)
    pod.secrets["api", "token"] = token
    await pod.until(lambda: len(lines()) > 1)
    [(came, said), gone] = lines()
    assert (came, gone) == ("problem", ("problem is over", None))
    assert "api/token" in str(said)


async def test_a_stream_that_the_core_does_not_serve_goes_on_and_is_told(pod: PodUnderTest) -> None:
    pod.core.status = pb.SessionOpened.STATUS_UNSUPPORTED
    await pod.configure()
    stream = await pod.stream()
    await pod.play(stream, 10)
    await pod.until(lambda: len(pod.packets.sources[stream].sent) == 10)
    assert not any(sent.ours for sent in pod.packets.sources[stream].sent)
    assert pod.app.problems()["CompressionDisabled"].startswith("room demo, leg in: the AI Core does not serve")


async def test_a_missing_token_of_the_api_is_told_until_it_comes(pod: PodUnderTest) -> None:
    token = pod.secrets.pop(("api", "token"))
    await pod.configure()
    told = "missing or empty Secrets: api/token (api.tokenRef); create them, what needs them stays off"
    assert pod.app.problems() == {"CredentialsMissing": told}
    pod.secrets["api", "token"] = token
    await pod.until(lambda: not pod.app.problems())
    pod.secrets["api", "token"] = b"rotated"
    assert (await pod.get("/rooms", token="rotated"))[0] == 200  # noqa: S106 - of this test


async def test_every_missing_secret_is_named_also_where_nothing_is_compressed(pod: PodUnderTest) -> None:
    pod.secrets.clear()
    spec = bridge(pod.core.address, mode="Always")
    spec["aiCore"]["tlsSecretName"] = "core-tls"
    spec["redis"] = {"addresses": ["redis:6379"], "passwordRef": {"name": "redis", "key": "password"}}
    await pod.configure(spec=spec)
    await pod.until(lambda: "core-tls/ca.crt" in pod.app.problems().get("CredentialsMissing", ""))
    for named in ("api/token (api.tokenRef)", "redis/password (redis.passwordRef)"):
        assert named in pod.app.problems()["CredentialsMissing"]
    spec["compression"] = {"mode": "Disabled"}
    await pod.configure(spec=spec)
    assert "core-tls" not in pod.app.problems()["CredentialsMissing"]
    assert "api/token" in pod.app.problems()["CredentialsMissing"]


async def test_the_status_entry_names_pod_phase_and_generation(pod: PodUnderTest) -> None:
    await pod.configure()
    assert pod.cluster
    await pod.until(lambda: pod.cluster and pod.cluster.entries and pod.cluster.entries[-1]["phase"] == "Serving")  # type: ignore[index]
    entry = pod.cluster.entries[-1]
    assert entry
    assert {name: entry[name] for name in ("name", "uid", "node", "configGeneration", "rooms", "sessions")} == {
        "name": "pod-1", "uid": "uid-1", "node": "node-1", "configGeneration": 1, "rooms": 1, "sessions": 0,
    }  # fmt: skip
    assert entry["since"] == "2026-01-01T00:00:00Z"


async def test_drain_waits_for_sessions_then_removes_its_entry(pod: PodUnderTest) -> None:
    await pod.configure()
    stream = await pod.stream()
    os.kill(os.getpid(), signal.SIGTERM)
    await pod.until(lambda: pod.app.phase == "Draining")
    code, text = await pod.get("/ready")
    assert (code, json.loads(text)["status"]) == (503, "draining")
    assert (await pod.get("/health"))[0] == 200
    assert not pod.task.done()
    assert pod.cluster
    await pod.until(lambda: pod.cluster and pod.cluster.entries and pod.cluster.entries[-1]["phase"] == "Draining")  # type: ignore[index]
    pod.packets.end_stream(stream)
    await asyncio.wait_for(pod.task, 5)
    assert pod.cluster.entries[-1] is None
    assert pod.packets.closed
    assert not pod.packets.byes


async def test_a_draining_pod_takes_no_room_and_goes_when_its_last_has_moved(core: FakeAiCore) -> None:
    pod = PodUnderTest(core)
    await pod.configure(owner="pod-2")
    pod.app.request_drain()
    await pod.until(lambda: pod.app.phase == "Draining")
    pod.app.request_drain()
    assert pod.cluster
    pod.cluster.queue.put_nowait(documents(bridge(core.address), generation=9))
    await asyncio.wait_for(pod.task, 5)
    assert not pod.packets.legs


async def test_a_second_signal_forces(pod: PodUnderTest) -> None:
    await pod.configure()
    await pod.stream()
    pod.app.request_stop()
    await pod.until(lambda: pod.app.phase == "Draining")
    pod.app.request_stop()
    await asyncio.wait_for(pod.task, 5)


async def test_a_pod_whose_configmap_is_gone_ends_with_its_sessions(pod: PodUnderTest) -> None:
    await pod.configure()
    await pod.stream()
    assert pod.cluster
    pod.cluster.queue.put_nowait(None)
    await asyncio.wait_for(pod.task, 8)


async def test_a_configmap_that_comes_back_is_no_end(core: FakeAiCore) -> None:
    pod = PodUnderTest(core, propagation_s=2)
    await pod.configure()
    assert pod.cluster
    pod.cluster.queue.put_nowait(None)
    pod.cluster.queue.put_nowait(documents(bridge(core.address), generation=2))
    await pod.until(lambda: pod.app.snapshot().generation == 2)
    pod.skew_s = 60.0  # past the time it would have had
    assert not pod.app.health()[0]
    await pod.until(lambda: pod.app.health()[0])  # it has looked
    assert pod.app.phase == "Serving"
    pod.app.request_stop()
    pod.app.request_stop()
    await asyncio.wait_for(pod.task, 5)


async def test_an_api_server_that_is_away_stops_nothing(pod: PodUnderTest) -> None:
    assert pod.cluster
    pod.cluster.down = True
    await pod.configure()
    await pod.stream()
    assert (await pod.get("/ready"))[0] == 200


async def test_drain_over_http(pod: PodUnderTest) -> None:
    await pod.configure()
    assert (await pod.get("/drain", post=True))[0] == 401
    assert (await pod.get("/drain", post=True, token=TOKEN))[0] == 202
    await asyncio.wait_for(pod.task, 5)


async def test_outside_kubernetes_every_room_is_served(core: FakeAiCore) -> None:
    config = parse_documents(documents(bridge(core.address), owner="somebody else")).config
    assert config
    pod = PodUnderTest(core, config=config)
    await pod.legs_open()
    assert (await pod.get("/ready"))[0] == 200
    pod.app.request_stop()
    await asyncio.wait_for(pod.task, 5)
