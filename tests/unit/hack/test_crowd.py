"""The crowd's pictures survive their packets, and what happened to a room is told as it was."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hack.lab.crowd import (
    COMPLETE,
    KEY,
    KEY_WANTED,
    PAYLOAD_LIMIT,
    PAYLOAD_TYPE,
    RECEIVED,
    RECORD,
    SENT,
    Assembly,
    packets_of,
    picture_of,
    read,
    wants_key,
)
from hack.lab.moves import DROPPED_MS, figures, stories

START = b"\0\0\0\1"
SECOND = 1_000_000_000


def unit(kind: int, size: int) -> bytes:
    return bytes([0x60 | kind]) + bytes(1 + n % 250 for n in range(size))


def datagrams(picture: bytes, *, sequence: int, timestamp: int, ssrc: int = 7, extended: bool = False) -> list[bytes]:
    payloads = packets_of(picture)
    extension = struct.pack(">HHI", 0xBEDE, 1, 0) if extended else b""
    return [
        struct.pack(
            ">BBHII", 0x90 if extended else 0x80, PAYLOAD_TYPE | 0x80 * (n == len(payloads) - 1), sequence + n & 0xFFFF,
            timestamp, ssrc,
        ) + extension + payload
        for n, payload in enumerate(payloads)
    ]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from([1, 5, 6, 7, 8]), st.integers(1, 4000)), min_size=1, max_size=6))
def test_a_picture_is_the_same_after_its_packets(units: list[tuple[int, int]]) -> None:
    picture = b"".join(START + unit(kind, size) for kind, size in units)
    payloads = packets_of(picture)
    assert max(map(len, payloads)) <= PAYLOAD_LIMIT
    assert picture_of(payloads) == (picture, any(kind == 5 for kind, _ in units))


def test_units_that_were_put_together_are_taken_apart() -> None:
    """A bridge sends small units in one packet (STAP-A)."""
    units = [unit(7, 10), unit(8, 4), unit(5, 30)]
    together = b"\x78" + b"".join(len(one).to_bytes(2, "big") + one for one in units)
    assert picture_of([together]) == (b"".join(START + one for one in units), True)


def test_a_receiver_sees_whole_pictures_and_what_is_missing() -> None:
    key, delta = START + unit(7, 9) + START + unit(5, 3000), START + unit(1, 2500)
    assembly = Assembly()
    first = [assembly.take(one) for one in datagrams(key, sequence=65534, timestamp=0, extended=True)]
    assert first[-1] == (7, 0, key, True, True, 0)
    assert not any(first[:-1])
    cut = datagrams(delta, sequence=(65534 + len(first)) & 0xFFFF, timestamp=6000)
    assert [assembly.take(one) for one in (cut[0], cut[2])][-1][3:] == (False, False, 1)  # type: ignore[index]
    anew = [assembly.take(one) for one in datagrams(key, sequence=9, timestamp=12000, ssrc=8)]
    assert anew[-1] == (8, 12000, key, True, True, 0)
    assert assembly.take(datagrams(key, sequence=9, timestamp=12000, ssrc=8)[0]) is None, "a repeated packet"


@pytest.mark.parametrize(
    ("datagram", "wanted"),
    [
        (struct.pack(">BBHII", 0x81, 206, 2, 1, 2), True),
        (struct.pack(">BBHII", 0x84, 206, 2, 1, 2), True),
        (struct.pack(">BBHI", 0x80, 201, 1, 1) + struct.pack(">BBHII", 0x81, 206, 2, 1, 2), True),
        (struct.pack(">BBHII", 0x81, 205, 2, 1, 2), False),
        (b"", False),
    ],
)
def test_a_request_for_a_key_is_found_in_a_report(datagram: bytes, wanted: bool) -> None:
    assert wants_key(datagram) is wanted


def received(room: int, second: float, *, ssrc: int = 1, flags: int = COMPLETE, lost: int = 0) -> bytes:
    return RECORD.pack(round(second * SECOND), RECEIVED, room, ssrc, 0, flags, lost)


def test_a_room_that_moves_is_told_with_its_longest_gap() -> None:
    log = b"".join(
        [
            *(received(0, 1 + n / 10, flags=COMPLETE | KEY * (n == 0)) for n in range(10)),
            *(received(0, 2.5 + n / 10, ssrc=2, flags=COMPLETE | KEY * (n == 0)) for n in range(10)),
            *(received(1, 1 + n / 10, flags=COMPLETE | KEY) for n in range(25)),
            RECORD.pack(2 * SECOND, KEY_WANTED, 0, 1, 0, 0, 0),
            RECORD.pack(2 * SECOND, SENT, 0, 1, 0, 0, 0),
        ]
    )
    moved, stayed = stories(read(log + b"torn"), 2, SECOND, round(3.5 * SECOND))
    assert (moved.sources, moved.pictures, moved.keys_wanted, moved.lost) == (2, 20, 1, 0)
    assert moved.longest_gap_ms == pytest.approx(600)
    assert moved.begins_at_keys
    assert stayed.longest_gap_ms == pytest.approx(100)
    told = figures([moved, stayed])
    assert (told.sessions, told.moved, told.dropped, told.gap_ms_max, told.undecodable) == (2, 1, 0, 600, 0)


def test_a_sender_that_stalls_is_told_beside_the_gap() -> None:
    sent = [RECORD.pack(round((1 + at) * SECOND), SENT, 0, 1, 0, 0, 0) for at in (0, 0.1, 0.2, 0.3, 1.5, 1.6)]
    [story] = stories(read(b"".join(sent) + received(0, 1.1) + received(0, 2.6)), 1, SECOND, 3 * SECOND)
    assert story.stalled_ms == pytest.approx(1000)
    assert story.longest_gap_ms == pytest.approx(1500)
    assert figures([story]).stalled_ms == 1000


def test_a_receiver_that_sees_nothing_more_has_lost_its_session() -> None:
    log = received(0, 1) + received(1, 1) + received(1, 2 + DROPPED_MS / 1000)
    silent, frozen = stories(read(log), 2, SECOND, round((3 + DROPPED_MS / 1000) * SECOND))
    assert silent.dropped
    assert frozen.dropped
    assert figures([silent, frozen]).dropped == 2


def test_a_source_that_does_not_begin_with_a_key_cannot_be_decoded() -> None:
    log = received(0, 1, flags=COMPLETE | KEY) + received(0, 1.1, ssrc=2) + received(0, 1.2, ssrc=2, lost=3, flags=0)
    [story] = stories(read(log), 1, SECOND, 2 * SECOND)
    assert not story.begins_at_keys
    assert story.lost == 4
    assert figures([story]).undecodable == 1
