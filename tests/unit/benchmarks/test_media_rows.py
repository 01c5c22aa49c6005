"""The table of the packet core: every promised number is in it, and one that is missing never looks like one that is
kept."""

import pytest

from benchmarks.media import rows, rtpengine
from benchmarks.media.__main__ import GROUPS, MEASUREMENTS
from benchmarks.media.rows import Rate
from hack.lab.report import Row

STEP = {"seconds": 8.0, "packets": 800, "frames": 100, "lost_frames": 0, "holes": 0, "dropped": 0, "late_ms": 1.0}


def cpu_line(peer: str, us: float) -> dict[str, object]:
    return {"peer": peer, "packets": 300_000, "cpu_us_per_packet": us}


def by_id(found: list[Row]) -> dict[str, Row]:
    return {row.id: row for row in found}


def test_every_budget_is_measured_by_one_group() -> None:
    assert sorted(rows.budgets()) == sorted(name for names in GROUPS.values() for name in names)
    assert GROUPS.keys() == MEASUREMENTS.keys()


@pytest.mark.parametrize(
    ("name", "kept", "missed"),
    [("cpu_per_packet", 1.3, 1.31), ("streams_720p_per_core", 300, 299), ("packets_per_core_asyncio", 10.01, 10)],
)
def test_a_bound_is_kept_up_to_where_it_says(name: str, kept: float, missed: float) -> None:
    assert rows.row(name, kept, "").met is True
    assert rows.row(name, missed, "").met is False


def test_what_was_not_measured_is_neither_kept_nor_missed() -> None:
    [row] = rows.not_run(["pod_latency_p99"], "no such thing here")
    assert (row.value, row.met, row.note) == (None, None, "not measured: no such thing here")


def test_of_the_suites_of_srtp_the_slower_one_counts() -> None:
    lines = [cpu_line("relay", 3.0), cpu_line("bridge", 3.0), cpu_line("bridge_compress", 4.2)]
    found = by_id(rows.cpu([*lines, cpu_line("bridge_srtp_cm", 9.0), cpu_line("bridge_srtp_gcm", 8.0)]))
    assert found["cpu_per_packet"].value == pytest.approx(1.4)
    assert found["cpu_per_packet"].met is False
    assert (found["cpu_per_packet_srtp"].value, found["cpu_per_packet_srtp"].met) == (9.0, True)


def test_a_peer_that_cannot_be_had_spoils_its_own_row_alone() -> None:
    ours = [Rate(300_000, 200_000, 0)]
    found = by_id(rows.capacity(ours, {"rtpengine": "no such package", "asyncio": [Rate(30_000, 25_000, 0)]}))
    assert (found["packets_per_core"].value, found["packets_per_core"].met) == (None, None)
    assert "no such package" in found["packets_per_core"].note
    assert found["packets_per_core_asyncio"].value == 10


def test_speed_with_a_loss_is_no_speed_at_zero_loss() -> None:
    theirs = [Rate(100_000, 90_000, 0)]
    found = by_id(rows.capacity([Rate(300_000, 200_000, 1)], {"rtpengine": theirs, "asyncio": theirs}))
    assert found["packets_per_core"].met is False
    assert "bridge lost 1!" in found["packets_per_core"].note


def test_as_many_streams_count_as_the_last_step_without_loss_had() -> None:
    lines = [{**STEP, "streams": 300, "cpu": 0.3}, {**STEP, "streams": 400, "cpu": 0.4, "lost_frames": 2}]
    [row] = rows.streams(lines)
    assert (row.value, row.met) == (300, True)
    assert "400 lost 2 of 100 frames" in row.note
    assert rows.streams(lines[1:])[0].value == 0


def test_a_step_whose_sender_did_not_keep_the_pace_proves_nothing() -> None:
    [row] = rows.streams([{**STEP, "streams": 300, "cpu": 0.3, "late_ms": 50.0}])
    assert row.value == 0


def test_the_most_memory_of_both_ways_counts_and_growth_from_the_first_minute_on() -> None:
    engine = {"kind": "engine", "streams": 100, "samples": [[0, 1], [10, 1_000_000], [60, 1_250_000]]}
    core = {"kind": "core", "streams": 10, "samples": [[10, 1], [60, 1_000_000], [3540, 1_100_000]]}
    found = by_id(rows.memory([engine, core]))
    assert found["memory_per_stream"].value == 1.25
    assert found["memory_growth"].value == pytest.approx(10)


def test_rtpengines_dictionaries_are_written_in_order_and_read_back() -> None:
    said = {"command": "offer", "ICE": "remove", "flags": ["a", "b"], "n": 7}
    assert rtpengine.bencode(said) == b"d3:ICE6:remove7:command5:offer5:flagsl1:a1:be1:ni7ee"
    assert rtpengine.bdecode(rtpengine.bencode(said)) == (said, b"")
    with pytest.raises(ValueError, match="cut short"):
        rtpengine.bdecode(b"5:abc")


def test_a_frame_that_the_bridge_loses_is_a_miss_and_one_of_the_bare_relay_is_told() -> None:
    percentiles = {f"{who}_p{p}_us": 100.0 for who in ("relay", "bridge", "added") for p in (50, 99)}
    waits = {"relay_waited_ms": 1.0, "bridge_waited_ms": 2.0}
    line = {"frames": 1000, "lost": 0, "relay_lost": 2, **percentiles, **waits}
    [row] = rows.latency(line, 20)
    assert (row.value, row.met) == (0.1, True)
    assert "The bare relay lost 2" in row.note
    [row] = rows.latency({**line, "lost": 1}, 20)
    assert row.met is False
