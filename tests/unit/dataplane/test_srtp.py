"""Encrypted plain-RTP legs: no leg without its keys, other keys open it anew, and no key is told to anybody."""

import base64
import logging

import pytest
from auralink_dataplane.media.legs.plain_rtp import engine_config, sdp
from auralink_dataplane.media.legs.srtp import MASTER_BYTES, KeyProblemError, SrtpKeys, read_keys
from auralink_dataplane.settings import LegSpec, MediumSpec, RtpSpec, SecretRef, SrtpSpec

from tests.unit.dataplane.test_plain_rtp import H264, Desk
from tests.unit.dataplane.whole import PodUnderTest, bridge

KEY, OTHER = SecretRef("call", "peer"), SecretRef("call", "bridge")
GCM, CM = SrtpSpec("AEAD_AES_128_GCM", KEY), SrtpSpec("AES_CM_128_HMAC_SHA1_80", KEY)
BOTH = SrtpSpec("AEAD_AES_128_GCM", KEY, OTHER)
PLAIN = LegSpec("out", RtpSpec(video=MediumSpec(H264, None, "peer:6000")), "Send")


def text(fill: int, size: int = 28) -> bytes:
    return base64.b64encode(bytes([fill] * size)) + b"\n"


def leg(srtp: SrtpSpec, **more: object) -> LegSpec:
    return LegSpec("in", RtpSpec(video=MediumSpec(H264, 5000), srtp=srtp, **more), "Receive")  # type: ignore[arg-type]


@pytest.mark.parametrize(("spec", "size"), [(GCM, 28), (CM, 30)])
def test_a_key_serves_both_directions_unless_the_bridge_has_its_own(spec: SrtpSpec, size: int) -> None:
    secrets = {("call", "peer"): text(1, size), ("call", "bridge"): text(2, size)}
    found = read_keys(spec, lambda *ref: secrets.get(ref), both_ways=False)
    assert (found.rx, found.tx) == (bytes([1] * size), bytes([1] * size))
    found = read_keys(SrtpSpec(spec.suite, KEY, OTHER), lambda *ref: secrets.get(ref), both_ways=True)
    assert (found.rx, found.tx) == (bytes([1] * size), bytes([2] * size))
    assert "x01" not in repr(found)


@pytest.mark.parametrize("value", [None, b"", b" \n", text(1, 27), text(1, 30), b"no base64 at all!", b"AAAA\xff"])
def test_a_key_that_cannot_be_used_is_named_without_its_value(value: bytes | None) -> None:
    with pytest.raises(
        KeyProblemError, match=r"^Secret call/peer is (missing or empty|not the base64 of 28 bytes)"
    ) as said:
        read_keys(GCM, lambda *_: value, both_ways=False)
    assert "no base64 at all" not in str(said.value)


async def test_an_encrypted_leg_waits_for_its_keys_and_says_which() -> None:
    desk = Desk()
    await desk.want(leg(BOTH), PLAIN)
    assert desk.opened == ["out"]
    assert desk.legs.problems["r", "in"].startswith("Secret call/peer is missing or empty: put")
    desk.secrets["call", "peer"] = text(1)
    await desk.round()
    assert desk.legs.problems["r", "in"].startswith("Secret call/bridge is missing or empty: put")
    desk.secrets["call", "bridge"] = text(2)
    await desk.round()
    assert desk.opened == ["out", "in"]
    _, config = desk.packets.legs[desk.legs.open["r", "in"].id]
    assert config["srtp"] == {"suite": "AEAD_AES_128_GCM", "rx": bytes([1] * 28), "tx": bytes([2] * 28)}
    assert not desk.legs.problems


@pytest.mark.parametrize("spec", [GCM, SrtpSpec("AEAD_AES_128_GCM", KEY, KEY), BOTH])
async def test_one_key_for_both_ways_is_refused_with_what_to_do(spec: SrtpSpec) -> None:
    desk = Desk()
    desk.secrets["call", "peer"] = desk.secrets["call", "bridge"] = text(1)
    two_way = LegSpec("in", RtpSpec(video=MediumSpec(H264, 5000, "peer:6000"), srtp=spec), "Both")
    await desk.want(two_way, PLAIN)
    assert desk.opened == ["out"]
    assert desk.legs.problems["r", "in"].startswith("one key serves both ways")
    assert desk.legs.problems["r", "in"].endswith("another key than that of call/peer in sendKeyRef")
    desk.secrets["call", "bridge"] = text(2)
    await desk.round()
    assert desk.opened == (["out", "in"] if spec == BOTH else ["out"])


async def test_other_keys_open_the_leg_anew_and_leave_the_others_alone() -> None:
    desk = Desk()
    desk.secrets["call", "peer"] = text(1)
    await desk.want(leg(GCM), PLAIN)
    assert desk.opened == ["in", "out"]
    desk.secrets["call", "peer"] = text(3)
    await desk.round()
    assert (desk.closed, desk.opened) == (["in"], ["in", "out", "in"])
    assert not desk.packets.byes, "a receiver would take it for the end"
    assert [config["srtp"]["rx"][0] for _, config in desk.packets.legs.values() if config["srtp"]] == [3]


async def test_a_leg_keeps_its_former_keys_while_the_new_ones_cannot_be_used() -> None:
    desk = Desk()
    desk.secrets["call", "peer"] = text(1)
    await desk.want(leg(GCM), PLAIN)
    for unusable in (b"half a ke", b""):
        desk.secrets["call", "peer"] = unusable
        await desk.round()
        assert not desk.closed
        assert desk.legs.problems["r", "in"].endswith("it goes on with its former key")
    desk.secrets["call", "peer"] = text(1)
    await desk.round()
    assert not desk.legs.problems
    assert not desk.closed


async def test_no_key_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    desk = Desk()
    for value in (b"c2VjcmV0", text(1), text(3), b"bm90IHRoaXM="):
        desk.secrets["call", "peer"] = value
        await desk.want(leg(GCM), PLAIN)
    said = "".join(f"{record.__dict__}" for record in caplog.records)
    assert "leg open" in said
    for key in ("c2VjcmV0", "bm90IHRoaXM", text(1).decode().strip(), text(3).decode().strip()):
        assert key not in said


@pytest.mark.parametrize("suite", MASTER_BYTES)
def test_without_keys_an_encrypted_leg_is_not_opened_in_the_clear(suite: str) -> None:
    with pytest.raises(ValueError, match="has no keys"):
        engine_config(leg(SrtpSpec(suite, KEY)), {})  # type: ignore[arg-type]


@pytest.mark.parametrize(("direction", "fill"), [("Send", 2), ("Both", 2), ("Receive", 1)])
def test_the_sdp_has_the_key_that_its_media_are_encrypted_with(direction: str, fill: int) -> None:
    spec = LegSpec("x", RtpSpec(video=MediumSpec(H264, 5000, "h:6"), feedback="AVPF", srtp=BOTH), direction)  # type: ignore[arg-type]
    keys = SrtpKeys(BOTH, bytes([1] * 28), bytes([2] * 28))
    lines = sdp("r", spec, {"video": ("h", 6)}, keys).split("\r\n")
    assert "m=video 6 RTP/SAVPF 96" in lines
    assert f"a=crypto:1 AEAD_AES_128_GCM inline:{text(fill).decode().strip()}" in lines
    plain = LegSpec("x", RtpSpec(video=MediumSpec(H264, 5000), srtp=CM), "Receive")
    assert "m=video 5000 RTP/SAVP 96" in sdp("r", plain, {"video": ("h", 5000)}, None)


async def test_a_pod_tells_which_secret_a_leg_waits_for_and_gives_the_sdp_only_with_it(pod: PodUnderTest) -> None:
    spec = bridge(pod.core.address)
    spec["rooms"][0]["legs"][0]["rtp"]["srtp"] = {
        "suite": "AEAD_AES_128_GCM",
        "keyRef": {"name": "call", "key": "peer"},
    }
    await pod.configure(spec=spec)
    await pod.until(lambda: "LegNotOpen" in pod.app.problems())
    assert "call/peer (rooms[demo].legs[in].rtp.srtp.keyRef)" in pod.app.problems()["CredentialsMissing"]
    assert "leg in: Secret call/peer is missing" in pod.app.problems()["LegNotOpen"]
    assert pod.app.leg_sdp("demo", "in") is None
    pod.secrets["call", "peer"] = text(1)
    await pod.until(lambda: not pod.app.problems())
    assert f"inline:{text(1).decode().strip()}" in (pod.app.leg_sdp("demo", "in") or "")
