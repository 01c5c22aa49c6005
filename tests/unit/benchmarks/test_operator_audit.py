"""The audit log is read as it is written: who asked for what, and when."""

import json
from pathlib import Path

import pytest

from benchmarks.operator.audit import AuditLog, by_verb, parse, per_bridge, percentile

OPERATOR = "operator"


def line(name: str = "auralink-b00001", verb: str = "patch", user: str = OPERATOR, **more: object) -> str:
    event = {
        "stage": "ResponseComplete",
        "verb": verb,
        "requestURI": f"/apis/apps/v1/namespaces/n/deployments/{name}?fieldManager=auralink-operator&force=true",
        "user": {"username": user},
        "userAgent": "auralink-operator",
        "objectRef": {"resource": "deployments", "namespace": "n", "name": name},
        "responseStatus": {"code": 200},
        "requestReceivedTimestamp": "2026-11-24T10:00:00.250000Z",
        "stageTimestamp": "2026-11-24T10:00:00.750000Z",
        **more,
    }
    return json.dumps(event, separators=(",", ":")) + "\n"  # as the API server writes it


def test_a_request_tells_its_object_its_manager_and_how_long_it_took() -> None:
    found = parse(line())
    assert found is not None
    assert (found.resource, found.name, found.manager) == ("deployments", "auralink-b00001", "auralink-operator")
    assert found.done - found.received == pytest.approx(0.5)


def test_a_child_belongs_to_the_bridge_in_its_name() -> None:
    bridges = {
        name: parse(line(name)) for name in ("auralink-b00010", "auralink-b00010-rtp-1ab", "b00010", "lease-b00010")
    }
    assert [found.bridge for found in bridges.values() if found] == [("n", "b00010")] * 3 + [None]


def test_a_half_written_last_line_and_the_beginning_of_a_request_are_left_out() -> None:
    assert parse(line()[:40]) is None
    assert parse(line(stage="ResponseStarted")) is None


def test_a_watch_counts_when_it_begins() -> None:
    assert parse(line(verb="watch", stage="ResponseStarted")) is not None
    assert parse(line(verb="watch")) is None


def test_a_log_is_read_from_a_mark_on_and_for_its_users_only(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_text(line("auralink-b00001"))
    log = AuditLog(path, OPERATOR)
    mark = log.mark()
    path.write_text(path.read_text() + line("auralink-b00002") + line("auralink-b00003", user="somebody"))
    assert [one.name for one in log.since(mark)] == ["auralink-b00002"]
    assert [one.name for one in log.since(mark, ("somebody",))] == ["auralink-b00002", "auralink-b00003"]


def test_status_writes_of_a_bridge_are_counted_apart() -> None:
    status = {"resource": "auralinkbridges", "subresource": "status", "namespace": "n", "name": "b00001"}
    requests = [found for text in (line(), line(objectRef=status)) if (found := parse(text))]
    every, written = per_bridge(requests)
    assert (every["n", "b00001"], written["n", "b00001"]) == (2, 1)
    assert by_verb(requests) == "patch deployments 1, patch auralinkbridges/status 1"


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 0.99)
