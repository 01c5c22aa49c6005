"""The audit log's judge: who is held to what, and what is no fault of the writer's."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hack.audit import check, requests
from hack.audit.__main__ import main
from tests.unit.hack.audit.test_rules import NOT_READY, READY, condition, status

Obj = dict[str, Any]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
OPERATOR = "auralink-operator-status"


def line(
    seconds: float,
    version: int,
    written: Obj | None,
    *,
    manager: str = OPERATOR,
    sent: Obj | None = None,
    generation: int = 2,
    name: str = "b",
    resource: str = "auralinkbridges",
    **more: Any,
) -> str:
    """One line as the API server writes it for a status."""
    obj = {"metadata": {"uid": f"uid-{name}", "resourceVersion": str(version), "generation": generation}}
    event = {
        "stage": "ResponseComplete",
        "verb": "patch",
        "stageTimestamp": (NOON + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z"),
        "requestURI": f"/apis/auralink.io/v1alpha1/namespaces/ns/{resource}/{name}/status?fieldManager={manager}",
        "user": {"username": "operator"},
        "userAgent": "auralink-operator/one",
        "objectRef": {"resource": resource, "namespace": "ns", "name": name, "subresource": "status"},
        "responseStatus": {"code": 200},
        "requestObject": {"status": sent if sent is not None else written},
        "responseObject": {**obj, "status": written},
        **more,
    }
    return json.dumps(event)


def asked(seconds: float, verb: str, name: str = "b", resource: str = "auralinkbridges") -> str:
    plain: dict[str, Any] = {"verb": verb, "objectRef": {"resource": resource, "namespace": "ns", "name": name}}
    return line(seconds, 0, None, **plain, requestObject=None, responseObject=None)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def test_a_good_run_breaks_nothing(log: Path) -> None:
    log.write_text("\n".join([line(0, 1, status(NOT_READY, condition("Reconciling"))), line(1, 2, status(READY)), "{"]))
    report = check(log)
    assert report.violations == []
    assert report.written == {"operator": 2}
    assert "2 statuses of 1 objects" in str(report)


def test_a_broken_rule_is_told_with_object_and_writer(log: Path) -> None:
    log.write_text(line(0, 7, status(READY, condition("Stalled"))))
    found = check(log).violations
    assert any("FAIL0001" in one and "AuraLinkBridge ns/b" in one and "version 7" in one for one in found)


def test_both_kinds_are_judged_and_refused_writes_are_not(log: Path) -> None:
    bad = status(condition("Available"))
    refused = line(0, 1, bad, responseStatus={"code": 409})
    log.write_text("\n".join([refused, line(1, 2, bad, resource="roompolicies")]))
    found = check(log).violations
    assert len(found) == 1
    assert "RoomPolicy" in found[0]


def test_versions_order_the_writes_whatever_the_log_says(log: Path) -> None:
    first, second = status(condition("Ready", at=1)), status(condition("Ready", "False", at=2))
    log.write_text("\n".join([line(0, 12, second), line(1, 9, first)]))
    assert check(log).violations == []


def test_a_write_that_says_nothing_new_is_counted(log: Path) -> None:
    log.write_text("\n".join([line(0, 1, status(READY)), line(1, 1, status(READY))]))
    assert check(log).unchanged == 1


OLD = status(condition("Ready", of=1), observed=1)


def test_a_status_that_an_edit_overtook_must_be_followed_by_one_of_the_new_spec(log: Path) -> None:
    log.write_text("\n".join([line(0, 1, OLD), line(1, 2, status(READY)), asked(60, "get")]))
    report = check(log)
    assert (report.violations, report.overtaken) == ([], 1)
    log.write_text("\n".join([line(0, 1, OLD), asked(60, "get")]))
    assert any("FAIL0007" in one and "none of the new followed" in one for one in check(log).violations)


def test_an_overtaken_status_needs_no_other_if_the_object_goes_or_the_writer_ends(log: Path) -> None:
    log.write_text("\n".join([line(0, 1, OLD), asked(2, "delete"), asked(60, "get")]))
    assert check(log).violations == []
    log.write_text("\n".join([line(0, 1, OLD), asked(5, "get")]))
    assert check(log).violations == []


def test_an_old_generation_excuses_nothing_else(log: Path) -> None:
    log.write_text(line(0, 1, status(condition("Ready", of=1), condition("Stalled", of=1), observed=1)))
    assert any("FAIL0001" in one for one in check(log).violations)


def test_a_pod_writes_its_entry_and_leaves_the_conditions(log: Path) -> None:
    by_pod: dict[str, Any] = {"manager": "auralink-pod.p1"}
    own = {"pods": [{"name": "p1", "uid": "u"}]}
    old = status(condition("Ready", of=1), observed=1)
    lines = [line(0, 1, old, generation=1), line(1, 2, old, sent=own, **by_pod), line(2, 3, old, sent={}, **by_pod)]
    log.write_text("\n".join(lines))
    assert check(log).violations == [], "the spec is newer than what the operator has looked at: not the pod's fault"
    log.write_text("\n".join([*lines, line(3, 4, old, sent={"pods": [{"name": "p2"}]}, **by_pod)]))
    assert "writes more than its own entry" in check(log).violations[0]
    log.write_text("\n".join([*lines, line(3, 4, status(READY), sent=own, **by_pod)]))
    assert "has changed the conditions" in check(log).violations[0]


def test_another_shard_tells_of_its_bridges_only(log: Path) -> None:
    shard: dict[str, Any] = {"manager": f"{OPERATOR}-east", "resource": "roompolicies"}
    log.write_text(line(0, 1, {}, sent={"matchedBridges": [{"name": "b"}]}, **shard))
    assert check(log).violations == []
    log.write_text(line(0, 1, {}, sent={"conditions": []}, **shard))
    assert "a shard writes conditions" in check(log).violations[0]


def test_others_are_counted_and_not_judged(log: Path) -> None:
    log.write_text(
        "\n".join([line(0, 1, status(), manager="kubectl-edit"), line(1, 2, status(condition("Ready", at=1)))])
    )
    report = check(log)
    assert (report.violations, report.written["others"]) == ([], 1)


def test_a_log_without_bodies_shows_nothing_and_says_so(log: Path) -> None:
    log.write_text(line(0, 1, status(READY), responseObject=None))
    assert "another audit policy" in check(log).violations[0]


def test_what_was_rotated_away_counts_and_what_was_before_does_not(log: Path) -> None:
    (log.parent / "audit-2026-01-01T00-00-00.000.log").write_text(line(0, 1, status(READY)))
    log.write_text(line(100, 2, status(READY, message_of("new"))))
    assert sum(check(log).written.values()) == 2
    assert sum(check(log, NOON + timedelta(seconds=50)).written.values()) == 1
    assert sum(check(log, None, NOON + timedelta(seconds=50)).written.values()) == 1


def message_of(text: str) -> Obj:
    return condition("Degraded", message=text)


def test_requests_are_counted_by_verb_and_resource(log: Path) -> None:
    other = line(3, 3, status(READY), user={"username": "somebody"})
    log.write_text("\n".join([line(0, 1, status(READY)), line(1, 2, status(READY)), asked(2, "get"), other]))
    assert requests(log, "operator") == {("patch", "auralinkbridges/status"): 2, ("get", "auralinkbridges"): 1}
    assert requests(log)["patch", "auralinkbridges/status"] == 3


def test_the_command_prints_what_it_checked_and_fails_on_a_violation_or_on_nothing(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*lines: str) -> int:
        log.write_text("\n".join(lines))
        monkeypatch.setattr("sys.argv", ["audit", str(log)])
        return main()

    assert run(line(0, 1, status(READY))) == 0
    assert run(line(0, 1, status(condition("Available")))) == 1
    assert "FAIL0002" in capsys.readouterr().out
    assert run() == 1
    log.write_text(asked(0, "list"))
    monkeypatch.setattr("sys.argv", ["audit", str(log), "--requests"])
    assert main() == 0
    assert "1 list auralinkbridges" in capsys.readouterr().out
