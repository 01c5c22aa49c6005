"""The compiled packet core through its Python face, over real loopback sockets. What it decides is tested in Rust, in
virtual time (`dataplane/native/tests`); here only that sockets, threads, types and errors are as the stub says."""

import ast
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import auralink_native as native
import pytest

from tests.unit.dataplane.loopback import DELTA, IDR, PPS, SPS, START, WAIT_S, Peer, leg

STUB = Path(__file__).parents[3] / "dataplane/native/auralink_native.pyi"

VIDEO = {"type": 96, "codec": "H264", "clock_rate": 90000}

_T = TypeVar("_T")


@pytest.fixture
def engine() -> Iterator[native.Engine]:
    engine = native.Engine()
    yield engine
    engine.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


def wait_for(engine: native.Engine, kind: type[_T]) -> _T:
    """The next thing of a type; others are left aside."""
    deadline = time.monotonic() + WAIT_S
    while (left := deadline - time.monotonic()) > 0:
        select.select([engine.fileno()], [], [], left)
        for item in engine.poll():
            if isinstance(item, kind):
                return item
    raise AssertionError(f"no {kind} within {WAIT_S} s")


def bridge(engine: native.Engine, peer: Peer, mode: int) -> tuple[int, int]:
    """Legs from the peer to its sink, the first key on its way; (stream, port)."""
    inlet = engine.open_leg("room", leg("Receive"))
    outlet = engine.open_leg("room", leg("Send", remote=f"127.0.0.1:{peer.sink.getsockname()[1]}"))
    port = engine.local_ports(inlet)["video"]
    peer.send(port, SPS, PPS, IDR)
    started = wait_for(engine, native.StreamStarted)
    assert (started.leg, started.ssrc, started.payload_type) == (inlet, 0x11223344, 96)
    assert (started.codec, started.media) == ("H264", "video")
    engine.link(started.stream, outlet)
    engine.set_mode(started.stream, mode)
    return started.stream, port


def test_bypassed_frames_cross_without_python_seeing_them(engine: native.Engine, peer: Peer) -> None:
    stream, port = bridge(engine, peer, native.BYPASS)
    assert peer.frame()[2] == [SPS, PPS, IDR]
    timestamp = peer.send(port, DELTA)
    assert peer.frame() == (timestamp, bytes.fromhex("01000003e800000000" + "01" + "00" * 6), [DELTA])
    assert not any(isinstance(item, native.Frame) for item in engine.poll())
    row = engine.stats()["streams"][stream]
    assert (row["frames"], row["keys"], row["mode"]) == (2, 1, native.BYPASS)


def test_counters_have_the_names_that_the_stub_gives_them(engine: native.Engine, peer: Peer) -> None:
    stream, _ = bridge(engine, peer, native.BYPASS)
    peer.frame()
    declared = {
        one.name: {field.target.id for field in one.body if isinstance(field, ast.AnnAssign)}  # type: ignore[union-attr]
        for one in ast.parse(STUB.read_text()).body
        if isinstance(one, ast.ClassDef)
    }
    stats = engine.stats()
    assert stats.keys() == declared["Stats"]
    assert stats["streams"][stream].keys() == declared["StreamStats"]
    [out] = stats["outs"].values()
    assert out.keys() == declared["OutStats"]
    assert out["latency_ms"].keys() == declared["LatencyStats"]
    for leg_row in stats["legs"].values():
        assert leg_row.keys() == declared["LegStats"] - {"audio"}
        assert leg_row["video"].keys() == declared["LegMediumStats"]


def test_a_frame_goes_up_whole_and_its_answer_leaves(engine: native.Engine, peer: Peer) -> None:
    before = time.monotonic()
    stream, _ = bridge(engine, peer, native.COMPRESS)
    frame = wait_for(engine, native.Frame)
    assert frame.data == START + SPS + START + PPS + START + IDR
    assert (frame.stream, frame.frame_id, frame.mode, frame.codec) == (stream, 0, native.COMPRESS, "H264")
    assert (frame.key, frame.discardable, frame.width, frame.height) == (True, False, 1280, 720)
    assert frame.rtp_ts & 0xFFFFFFFF == 0xFFFFFF00
    assert before <= frame.t_first <= frame.t_last <= frame.t_complete <= time.monotonic()
    smaller = IDR[:50]
    answer = START + SPS + START + PPS + START + smaller
    references = sys.getrefcount(answer)
    engine.submit(stream, 0, answer, bytes([1]) + bytes(15), True)
    timestamp, extension, payloads = peer.frame()
    assert (timestamp, payloads[-1]) == (0xFFFFFF00, smaller)
    assert extension is not None
    assert extension[9] == 0x02, "a key, compressed, no switch"
    engine.submit(stream, 0, None, None, True)
    refused = wait_for(engine, native.SubmitRefused)
    assert (refused.stream, refused.frame_id, refused.native) == (stream, 0, True)
    assert refused.reason == "unknown_frame", "answered before"
    assert sys.getrefcount(answer) == references, "it was lent, not kept"


def test_a_frame_says_which_layers_it_has(engine: native.Engine, peer: Peer) -> None:
    """A picture of VP9 with two spatial layers, of temporal layer 3."""
    payloads = [{"type": 96, "codec": "VP9", "clock_rate": 90000}]

    def vp9(remote: str | None) -> Any:
        return {"video": {"payloads": payloads, "listen_port": 0, "remote": remote}}

    inlet = engine.open_leg("room", leg("Receive", media=vp9(None)))
    outlet = engine.open_leg("room", leg("Send", media=vp9(f"127.0.0.1:{peer.sink.getsockname()[1]}")))
    key = bytes.fromhex("82498342 0015f011f600 0102")
    lower, upper = bytes.fromhex("2c6009"), bytes.fromhex("2c6309")
    for _ in range(3):  # it has to prove itself
        peer.send(engine.local_ports(inlet)["video"], lower + key, upper + bytes.fromhex("860708"))
    started = wait_for(engine, native.StreamStarted)
    engine.link(started.stream, outlet)
    engine.set_mode(started.stream, native.COMPRESS)
    frame = wait_for(engine, native.Frame)
    assert (frame.key, frame.tid, frame.sid) == (True, 3, 1)


def test_frame_sent_rides_along_with_the_next_poll(engine: native.Engine, peer: Peer) -> None:
    stream, port = bridge(engine, peer, native.COMPRESS)
    wait_for(engine, native.Frame)
    before = time.monotonic()
    engine.submit(stream, 0, None, None, True)
    peer.frame()
    peer.send(port, DELTA)
    select.select([engine.fileno()], [], [], WAIT_S)
    items = engine.poll()
    sent = next(item for item in items if isinstance(item, native.FrameSent))
    assert (sent.stream, sent.frame_id, sent.packets) == (stream, 0, 3)
    assert sent.payload_bytes == len(SPS + PPS + IDR)
    assert before <= sent.t_sent <= time.monotonic()


def test_the_descriptor_is_readable_while_poll_has_something(engine: native.Engine, peer: Peer) -> None:
    def readable() -> bool:
        return bool(select.select([engine.fileno()], [], [], 0)[0])

    assert not readable()
    inlet = engine.open_leg("room", leg("Receive"))
    peer.send(engine.local_ports(inlet)["video"], SPS, PPS, IDR)
    assert select.select([engine.fileno()], [], [], WAIT_S)[0]
    assert isinstance(engine.poll(1)[0], native.StreamStarted)
    assert not readable()
    assert engine.poll() == []


def test_an_ipv6_leg_takes_ipv4_senders(engine: native.Engine, peer: Peer) -> None:
    inlet = engine.open_leg("room", leg("Receive", bind="::"))
    peer.send(engine.local_ports(inlet)["video"], SPS, PPS, IDR)
    wait_for(engine, native.StreamStarted)
    remote = engine.stats()["legs"][inlet]["video"]["remote"]
    assert remote == f"127.0.0.1:{peer.outlet.getsockname()[1]}"


def test_garbage_is_counted_and_nothing_else(engine: native.Engine, peer: Peer) -> None:
    inlet = engine.open_leg("room", leg("Receive"))
    port = engine.local_ports(inlet)["video"]
    for garbage in (b"", b"x", b"\x80", bytes(3000), bytes([0x80, 200]) * 700):
        peer.outlet.sendto(garbage, ("127.0.0.1", port))
    peer.send(port, SPS, PPS, IDR)
    wait_for(engine, native.StreamStarted)
    assert engine.stats()["drops"] == {"malformed": 3, "truncated": 1, "unknown_payload_type": 1}


def test_a_taken_port_is_an_os_error_and_leaves_nothing_open(engine: native.Engine, peer: Peer) -> None:
    config = leg("Receive")
    config["media"]["video"]["listen_port"] = peer.sink.getsockname()[1]
    with pytest.raises(OSError, match="video port"):
        engine.open_leg("room", config)
    assert engine.stats()["legs"] == {}


def test_rtp_and_rtcp_ports_are_neighbours_and_free_after_close(engine: native.Engine) -> None:
    opened = engine.open_leg("room", leg("Receive"))
    port = engine.local_ports(opened)["video"]
    assert port % 2 == 0
    for taken in (port, port + 1):
        with socket.socket(type=socket.SOCK_DGRAM) as probe, pytest.raises(OSError, match="in use"):
            probe.bind(("127.0.0.1", taken))
    engine.close_leg(opened)
    engine.close_leg(opened)
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", port))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"direction": "Sideways"}, "direction"),
        ({"feedback": "Loud"}, "feedback"),
        ({"extension_id": 15}, "extension_id"),
        ({"carrier": "Pigeon"}, "carrier"),
        ({"extensions": {14: "urn:a"}}, "extensions"),
        ({"extensions": {1: "urn:a", 2: "urn:a"}}, "extensions"),
        ({"extensions": {256: "urn:a"}}, "extensions"),
        ({"media": {"video": {"payloads": [{**VIDEO, "red_type": 97}]}}}, r"payloads\[0\]\.red_type"),
        ({"media": {"video": {"payloads": [{**VIDEO, "rtx_type": 128}]}}}, r"payloads\[0\]\.rtx_type"),
        ({"bind": "here"}, "bind"),
        ({"media": {}}, "media"),
        ({"media": {"smell": {"payloads": []}}}, "smell"),
        ({"media": {"video": {"payloads": []}}}, r"media\.video\.payloads"),
        ({"media": {"video": {"payloads": [{"type": 128, "codec": "H264", "clock_rate": 1}]}}}, r"payloads\[0\]\.type"),
        ({"media": {"video": {"payloads": [{"type": 96, "codec": "Opus", "clock_rate": 1}]}}}, r"payloads\[0\]\.codec"),
        ({"media": {"video": {"payloads": [{"type": 96, "codec": "H264"}]}}}, "clock_rate"),
    ],
)
def test_a_wrong_configuration_names_the_key_at_fault(engine: native.Engine, change: dict[str, Any], key: str) -> None:
    config: Any = {**leg("Receive"), **change}
    with pytest.raises(ValueError, match=key):
        engine.open_leg("room", config)


def test_payload_types_that_look_like_rtcp_are_refused_on_one_port_only(engine: native.Engine, peer: Peer) -> None:
    payload = {"type": 72, "codec": "H264", "clock_rate": 90000}
    media = {"video": {"payloads": [payload], "listen_port": 0}}
    with pytest.raises(ValueError, match="64 to 95"):
        engine.open_leg("room", leg("Receive", media=media, rtcp_mux=True))
    port = engine.local_ports(engine.open_leg("room", leg("Receive", media=media)))["video"]
    for sequence in range(3):
        header = struct.pack("!BBHII", 0x80, 0x80 | 72, sequence, 0, 7)
        peer.outlet.sendto(header + IDR, ("127.0.0.1", port))
    assert wait_for(engine, native.StreamStarted).payload_type == 72


def test_unknown_ids_do_nothing_but_link_raises(engine: native.Engine) -> None:
    engine.close_leg(99)
    engine.unlink(99)
    engine.hold(99)
    engine.drop(99, 1)
    engine.request_key(99)
    engine.set_mode(99, native.BYPASS)
    engine.submit(99, 1, b"", None, False)
    assert wait_for(engine, native.SubmitRefused).reason == "unknown_frame"
    with pytest.raises(ValueError, match="no stream 99"):
        engine.link(99, 1)
    with pytest.raises(ValueError, match="16 bytes"):
        engine.submit(99, 1, b"", b"short", False)


def test_a_closed_engine_says_so(peer: Peer) -> None:
    engine = native.Engine()
    stream, _ = bridge(engine, peer, native.BYPASS)
    engine.close()
    engine.close()
    assert [item.stream for item in engine.poll() if isinstance(item, native.StreamEnded)] == [stream]
    for call in (engine.stats, lambda: engine.submit(stream, 0, None, None, True), lambda: engine.hold(stream)):
        with pytest.raises(RuntimeError, match="closed"):
            call()


@pytest.mark.parametrize("threads", [0, 17])
def test_the_number_of_threads_has_bounds(threads: int) -> None:
    with pytest.raises(ValueError, match="threads: must be 1 to 16"):
        native.Engine(threads=threads)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_stream_stays_in_its_room(peer: Peer, threads: int) -> None:
    engine = native.Engine(threads=threads)
    inlet = engine.open_leg("a", leg("Receive"))
    elsewhere = engine.open_leg("b", leg("Send", remote="127.0.0.1:9"))
    peer.send(engine.local_ports(inlet)["video"], SPS, PPS, IDR)
    started = wait_for(engine, native.StreamStarted)
    with pytest.raises(ValueError, match="different rooms"):
        engine.link(started.stream, elsewhere)
    engine.close()
