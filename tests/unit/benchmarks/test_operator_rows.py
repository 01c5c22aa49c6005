"""The table holds every promised number, and a number that is missing never looks like one that is kept."""

from benchmarks.operator import rows
from benchmarks.operator.__main__ import GROUPS
from benchmarks.operator.audit import Request
from benchmarks.operator.phases import Brought, Delays, Steady


def request(verb: str = "patch", resource: str = "configmaps", name: str = "auralink-b00001", sub: str = "") -> Request:
    return Request("operator", "auralink-operator", verb, resource, sub, "n", name, 200, "", 0.0, 0.0)


def test_every_budget_is_measured_by_one_group() -> None:
    assert sorted(rows.budgets()) == sorted(name for names in GROUPS.values() for name in names)


def test_a_figure_at_its_budget_keeps_it_and_one_above_misses_it() -> None:
    assert rows.row("failover_graceful", 2.0, "").met is True
    assert rows.row("failover_graceful", 2.01, "").met is False


def test_what_was_not_measured_is_neither_kept_nor_missed() -> None:
    assert rows.row("failover_graceful", None, "why").met is None


def test_the_part_of_the_api_server_is_no_time_of_ours_but_our_processor_time_always_is() -> None:
    brought = Brought(100.0, {"operator-0": 20.0, "kube-apiserver": 70.0}, ())
    assert rows.ready(brought, 60.0).value == 40.0
    assert rows.ready(brought, 95.0).value == 20.0
    assert rows.ready(brought, None).value == 100.0


def test_an_edit_without_effect_is_a_miss_however_fast_the_others_were() -> None:
    assert rows.delay("drift_repair_p99", Delays([0.1, 0.1], missing=1), "").met is False
    assert rows.delay("drift_repair_p99", Delays([0.1, 0.1]), "").met is True
    assert rows.delay("drift_repair_p99", Delays([], missing=3), "").value is None


def test_the_own_time_is_the_bound_of_the_bucket_that_holds_the_99th_of_a_hundred() -> None:
    inf = float("inf")
    before, after = {0.05: 10.0, 0.1: 10.0, inf: 10.0}, {0.05: 108.0, 0.1: 110.0, inf: 110.0}
    assert rows.own_time(before, after).value == 0.1
    assert rows.own_time(before, after | {0.05: 109.0}).value == 0.05
    assert rows.own_time({}, {}).value is None


def test_a_resync_without_reads_and_writes_of_its_own_is_steady() -> None:
    lists = [request("list"), request("get", "leases", "l"), request("update", "leases", "l"), request("watch")]
    found = {row.id: row.value for row in rows.at_rest(Steady(10.0, lists, 1000), 1000, 600)}
    assert found == {"steady_reads": 0, "steady_writes": 0, "steady_requests": 0.4, "status_writes_per_hour": 0}


def test_a_resync_that_was_hurried_counts_as_rarely_as_it_comes() -> None:
    found = rows.at_rest(Steady(60.0, [request("list")] * 60 + [request("update", "leases", "l")] * 6, 10), 10, 60)
    assert {row.id: row.value for row in found}["steady_requests"] == (6 + 60 / 10) / 60


def test_one_write_in_steady_state_shows() -> None:
    status = request("patch", "auralinkbridges", "b00001", "status")
    found = {row.id: row.value for row in rows.at_rest(Steady(3600.0, [status], 1000), 10, 600)}
    assert found["steady_writes"] == 0.001
    assert found["status_writes_per_hour"] == 0.1


def test_no_reconcile_means_nothing_was_measured() -> None:
    assert {row.value for row in rows.at_rest(Steady(10.0, [], 0), 10, 600)} == {None}


def test_the_requests_of_the_busiest_bridge_count() -> None:
    brought = Brought(1.0, {}, [request(), request(), request(name="auralink-b00002")])
    assert rows.new_bridge(brought)[0].value == 2
