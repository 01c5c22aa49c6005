"""What a pod tells of itself, and to whom."""

import json
from typing import Any

from auralink_dataplane.app.views import packet_counters

from tests.unit.dataplane.whole import TOKEN, PodUnderTest, bridge, documents


async def test_the_open_status_names_no_room_leg_or_peer_also_not_in_its_problems(pod: PodUnderTest) -> None:
    spec = bridge(pod.core.address, mode="Always")
    video = {"payloads": [{"type": 96, "codec": "H264"}], "remote": "no..name:6000"}
    secret = spec["rooms"][0] | {"name": "secret-meeting"}
    secret["legs"] = [secret["legs"][0], {"name": "audience", "direction": "Send", "rtp": {"video": video}}]
    await pod.configure(spec=spec | {"rooms": [secret]})
    assert pod.cluster
    pod.cluster.queue.put_nowait(
        documents(spec | {"rooms": [secret]}) | {"owners.json": json.dumps({"secret-meeting": "pod-1"})}
    )
    await pod.until(lambda: pod.app.legs.problems and pod.app.legs.open)
    legs = {leg.spec.name: leg.id for leg in pod.app.legs.open.values()}
    pod.packets.start_stream(legs["in"])
    await pod.until(lambda: pod.app.sessions)
    text = (await pod.get("/status"))[1]
    for told in ("secret-meeting", "audience", "no..name", "127.0.0.1:6000", '"ports"'):
        assert told not in text
    status = json.loads(text)
    assert status["problems"] == ["LegNotOpen"]
    assert status["room_sync"] == {"active_rooms": 1, "total_participants": 1}
    assert "secret-meeting" in (await pod.get("/rooms", token=TOKEN))[1]


async def test_with_the_token_the_numbers_of_the_status_have_names(pod: PodUnderTest) -> None:
    await pod.configure()
    stream = await pod.stream()
    await pod.until(lambda: pod.packets.sources[stream].links)
    [told] = (await status_of(pod))["aic_compression"]["streams"]
    [room] = json.loads((await pod.get("/rooms", token=TOKEN))[1])["rooms"]
    names = {leg["id"]: leg["name"] for leg in room["legs"]}
    assert (told["stream"], names[told["leg"]]) == (stream, "in")
    assert [names[out["leg"]] for out in told["outs"]] == ["out"]
    assert room == json.loads((await pod.get("/rooms/demo", token=TOKEN))[1])


async def test_a_room_is_shown_with_the_rules_that_hold_for_it(pod: PodUnderTest) -> None:
    policy = {"name": "p", "media": {"audio": "Deny"}, "codecs": ["H264"], "compression": {"qualityLevel": 3}}
    await pod.configure(policies=[policy])
    await pod.legs_open()
    [room] = pod.app.rooms()
    assert (room["name"], room["state"], room["media"]) == ("demo", "owned", {"audio": "Deny", "video": "Allow"})
    assert (room["codecs"], room["compression"]["quality_level"]) == (["H264"], 3)
    assert [(leg["name"], leg["direction"], leg["open"]) for leg in room["legs"]] == [
        ("in", "Receive", True), ("out", "Send", True),
    ]  # fmt: skip
    assert room["legs"][0]["ports"]


def test_packets_are_summed_over_what_exists() -> None:
    stats: Any = {"streams": {1: {"packets": 5}, 2: {"packets": 2}}, "outs": {3: {"packets": 4}}, "drops": {"late": 1}}
    assert packet_counters(stats) == {"drops": {"late": 1}, "packets": {"in": 7, "out": 4}}


async def status_of(pod: PodUnderTest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((await pod.get("/status"))[1])
    return found


async def test_a_leg_without_its_port_says_so_and_the_others_serve(pod: PodUnderTest) -> None:
    pod.packets.refuse_port = 5100
    await pod.configure()
    await pod.legs_open(1)
    [room] = json.loads((await pod.get("/rooms", token=TOKEN))[1])["rooms"]
    assert "port 5100 is taken" in room["legs"][1]["problem"]


async def test_the_sdp_names_the_public_address_on_whichever_pod_it_is_asked(pod: PodUnderTest) -> None:
    assert pod.cluster
    config = documents(bridge(pod.core.address), owner="pod-2")
    pod.cluster.queue.put_nowait(config)
    await pod.until(lambda: pod.app.snapshot().generation == 1)
    path = "/rooms/demo/legs/in.sdp"
    assert (await pod.get(path, token=TOKEN))[0] == 404, "not here, and no public address is known"
    addresses = {"demo/in/video": {"ip": "203.0.113.9", "port": 30004}, "demo/in/audio": {"hostname": "a.b", "port": 7}}
    addresses["demo/out/audio"] = {"ip": "203.0.113.9", "port": 30008}
    pod.cluster.queue.put_nowait(config | {"addresses.json": json.dumps(addresses)})
    await pod.until(lambda: pod.app.duty.addresses)
    text = (await pod.get(path, token=TOKEN))[1]
    assert "m=video 30004 RTP/AVP 96\r\nc=IN IP4 203.0.113.9\r\n" in text
    assert "m=audio 7 RTP/AVP 97\r\nc=IN IP4 a.b\r\n" in text
    assert "m=video 6000" in (await pod.get("/rooms/demo/legs/out.sdp", token=TOKEN))[1]
    assert (await pod.get("/rooms/demo/legs/none.sdp", token=TOKEN))[0] == 404
