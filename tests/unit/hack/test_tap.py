import io
import socket
import struct
import threading
import time

from hack.lab import tap


def rtp(sequence: int = 7, timestamp: int = 90_000, payload: bytes = b"picture", extension: bytes = b"") -> bytes:
    first = 0x90 if extension else 0x80
    return struct.pack(">BBHII", first, 0x80 | 96, sequence, timestamp, 0x1234) + extension + payload


def test_a_record_reads_back_as_the_packet_it_was_made_of() -> None:
    block = bytes.fromhex("bede0005ef") + bytes(range(16)) + bytes(3)

    [packet] = tap.read(tap.record(11, 12, 5004, rtp(extension=block)))

    assert (packet.arrived_ns, packet.left_ns, packet.port) == (11, 12, 5004)
    assert (packet.sequence, packet.timestamp, packet.ssrc) == (7, 90_000, 0x1234)
    assert (packet.payload_type, packet.marker) == (96, True)
    assert packet.extension == block
    assert packet.payload_bytes == len(b"picture")


def test_the_extension_is_no_part_of_the_payload_checksum() -> None:
    block = bytes.fromhex("bede0001") + bytes(4)

    [bare] = tap.read(tap.record(0, 0, 1, rtp()))
    [dressed] = tap.read(tap.record(0, 0, 1, rtp(extension=block)))

    assert bare.payload_crc == dressed.payload_crc
    assert dressed.size == bare.size + len(block)


def test_reports_and_garbage_are_counted_but_are_no_packets() -> None:
    rtcp = bytes([0x80, 200]) + bytes(26)
    data = b"".join(tap.record(0, 0, 5005, datagram) for datagram in (rtcp, b"", b"garbage", rtp()[:11]))

    assert list(tap.read(data)) == []
    assert tap.count_other(data, 5005) == 4
    assert tap.count_other(data, 5004) == 0


def test_an_extension_that_claims_more_than_the_datagram_leaves_an_empty_payload() -> None:
    block = bytes.fromhex("bede00ff") + bytes(4)

    [packet] = tap.read(tap.record(0, 0, 1, rtp(payload=b"", extension=block)))

    assert packet.payload_bytes == 0


def test_a_record_that_is_still_being_written_is_left_out() -> None:
    whole = tap.record(0, 0, 1, rtp())

    assert len(list(tap.read(whole + whole[:-1]))) == 1


def test_routes_are_read_from_their_command_line_form() -> None:
    assert tap.parse_route("5004=bridge.example:5006") == tap.Route(5004, ("bridge.example", 5006))
    assert tap.parse_route("5005=") == tap.Route(5005, None)


def test_datagrams_go_on_unchanged_and_the_file_stays_bounded() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver, socket.socket(type=socket.SOCK_DGRAM) as sender:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        with socket.socket(type=socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        out = io.BytesIO()
        relay = tap.Tap([tap.Route(port, receiver.getsockname())], out, max_records=2)
        thread = threading.Thread(target=relay.run)
        thread.start()
        sent = [rtp(sequence=n, payload=bytes([n]) * n) for n in range(1, 5)]
        for datagram in sent:
            sender.sendto(datagram, ("127.0.0.1", port))
        arrived = [receiver.recv(2048) for _ in sent]
        relay.stop()
        thread.join(5)

    assert arrived == sent
    packets = list(tap.read(out.getvalue()))
    assert [p.sequence for p in packets] == [1, 2]
    assert all(abs(p.arrived_ns - time.time_ns()) < 60e9 and p.arrived_ns <= p.left_ns for p in packets)
