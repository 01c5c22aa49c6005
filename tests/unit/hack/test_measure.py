from dataclasses import replace
from fractions import Fraction

import pytest

from hack.lab import measure
from hack.lab.tap import Packet

# 0.4 saved, quality 0.92, model "encodec", flags 0, behind the one-byte head of element 14.
VECTOR = bytes.fromhex("bede0005ef0101900398a031850d00000000000000000000")


def extension(flags: int) -> bytes:
    return VECTOR[:14] + bytes([flags]) + VECTOR[15:]


def packet(sequence: int, timestamp: int, **changes: object) -> Packet:
    base = Packet(
        arrived_ns=sequence * 1_000_000,
        left_ns=sequence * 1_000_000 + 1000,
        port=5004,
        size=1112,
        payload_type=96,
        marker=True,
        sequence=sequence % 65536,
        timestamp=timestamp % 2**32,
        ssrc=1,
        payload_bytes=1000,
        payload_crc=sequence,
        extension=b"",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_the_extension_is_read_from_its_16_bytes() -> None:
    parsed = measure.parse_extension(VECTOR)

    assert parsed == measure.Extension(version=1, saved=0.4, quality=0.92, model_hash=0xA031850D, flags=0)
    assert not parsed.native


def test_other_elements_and_padding_stand_before_it() -> None:
    block = bytes.fromhex("bede0006") + bytes.fromhex("1099") + bytes(2) + VECTOR[4:21] + bytes(3)

    assert measure.parse_extension(block) is not None


@pytest.mark.parametrize(
    "block",
    [b"", VECTOR[:12], b"\x10\x00" + VECTOR[2:], VECTOR[:5] + b"\x02" + VECTOR[6:], bytes.fromhex("bede0001f0000000")],
    ids=["absent", "cut off", "two-byte form", "other version", "id 15 ends the block"],
)
def test_what_is_not_the_extension_is_not_read(block: bytes) -> None:
    assert measure.parse_extension(block) is None


def test_frames_are_put_together_across_the_wrap_of_both_counters() -> None:
    packets = [
        packet(65534, 2**32 - 3600, marker=False),
        packet(65535, 2**32 - 3600),
        packet(65536, 2**32, marker=False),
        packet(65537, 2**32),
    ]

    flow = measure.flow(packets, 96)

    assert [(f.timestamp, f.packets, f.complete) for f in flow.frames] == [(2**32 - 3600, 2, True), (2**32, 2, True)]
    assert (flow.lost, flow.reordered) == (0, 0)


def test_reordering_is_counted_and_undone_and_duplicates_count_once() -> None:
    flow = measure.flow([packet(1, 0, marker=False), packet(3, 0), packet(2, 0, marker=False), packet(2, 0)], 96)

    assert [(f.packets, f.complete) for f in flow.frames] == [(3, True)]
    assert (flow.packets, flow.lost, flow.reordered) == (4, 0, 2)


def test_a_missing_packet_is_lost_and_its_frame_incomplete() -> None:
    flow = measure.flow([packet(1, 0, marker=False), packet(3, 0), packet(4, 3600)], 96)

    assert flow.lost == 1
    assert [f.complete for f in flow.frames] == [False, True]


def test_a_new_source_begins_its_own_numbers() -> None:
    flow = measure.flow([packet(10, 0), packet(40_000, 3600, ssrc=2), packet(40_001, 7200, ssrc=2)], 96)

    assert flow.ssrcs == (1, 2)
    assert (flow.lost, flow.reordered) == (0, 0)


def test_other_payload_types_are_left_out() -> None:
    assert measure.flow([packet(1, 0, payload_type=97)], 96).frames == ()


def test_a_crossing_counts_header_extensions_as_bytes_out() -> None:
    sent = measure.flow([packet(n, 3600 * n) for n in range(10)], 96)
    received = measure.flow(
        [packet(n, 3600 * n, payload_bytes=576, extension=extension(measure.KEY if n == 2 else 0)) for n in range(9)],
        96,
    )

    crossed = measure.crossing(sent, received, 3600, 3600 * 9)

    assert (crossed.frames_in, crossed.frames_out, crossed.missing) == (9, 8, 1)
    assert (crossed.bytes_in, crossed.bytes_out) == (9000, 8 * 600)
    assert (crossed.compressed, crossed.native, crossed.unmarked) == (8, 0, 0)
    assert crossed.saved_percent == pytest.approx(100 * (1 - 4800 / 9000))


def test_the_received_flow_unwraps_to_the_numbers_of_the_sent_one() -> None:
    sent = measure.flow([packet(n, 2**32 - 3600 + 3600 * n) for n in range(4)], 96)
    late = [packet(n, 3600 * n) for n in range(2)]

    received = measure.flow(late, 96, near=sent.frames[0].timestamp)

    assert set(received.by_timestamp) <= set(sent.by_timestamp)


def test_percentiles_are_values_that_occurred() -> None:
    spread = measure.distribution(range(1, 101))

    assert spread == measure.Distribution(count=100, p50=50, p95=95, p99=99, largest=100)
    assert measure.distribution([]) is None
    assert measure.distribution([3.0]) == measure.Distribution(1, 3.0, 3.0, 3.0, 3.0)


def test_untouched_payloads_are_told_from_changed_and_missing_ones() -> None:
    sent = [packet(n, 960 * n, payload_type=97) for n in range(6)]
    received = [sent[1], replace(sent[2], payload_crc=99), sent[4]]

    assert measure.untouched(sent, received, 97) == measure.Payloads(sent=4, same=2, changed=1, missing=1)


def test_runs_follow_the_fallback_flag() -> None:
    flags = [0, 0, measure.FALLBACK | measure.KEY, measure.FALLBACK, 0]
    flow = measure.flow([packet(n, 3600 * n, extension=extension(flag)) for n, flag in enumerate(flags)], 96)

    assert [(r.native, r.frames) for r in measure.runs(flow.frames)] == [(False, 2), (True, 2), (False, 1)]


def test_the_longest_silence_is_the_largest_gap_between_pictures() -> None:
    flow = measure.flow([packet(1, 0), packet(2, 3600), packet(90, 7200)], 96)

    assert measure.longest_silence_ms(flow.frames) == 88


def test_timestamps_tell_the_picture_of_a_looped_clip() -> None:
    line = measure.Timeline(start=1000, ticks_per_frame=Fraction(90_000 * 1001, 30_000), frames=10)

    assert [line.picture(1000 + round(n * line.ticks_per_frame)) for n in (0, 9, 10, 25)] == [0, 9, 0, 5]


def test_whole_loops_end_with_the_last_picture_of_the_clip() -> None:
    line = measure.Timeline(start=0, ticks_per_frame=Fraction(3600), frames=10)

    assert line.whole_loops(until=3600 * 29, count=2) == (3600 * 10, 3600 * 29)
    assert line.whole_loops(until=3600 * 28, count=2) == (0, 3600 * 19)
    assert line.whole_loops(until=3600 * 18, count=2) is None
