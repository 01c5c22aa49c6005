"""Alerts that can fire: every metric and label that one names exists, and each alert has its page in the manual."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from auralink_aicore.metrics import Metrics as AICoreMetrics
from auralink_dataplane.metrics import Metrics as PodMetrics
from auralink_operator.manifests.scale import SESSIONS_METRIC
from auralink_operator.metrics import Metrics as OperatorMetrics
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

ROOT = Path(__file__).parents[3]
FILES = ROOT / "charts/auralink/files"
# What Prometheus adds to a series that it takes from a ServiceMonitor's pods.
OF_THE_TARGET = {"job", "namespace", "service", "pod", "instance"}
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def groups() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    return found


ALERTS: list[dict[str, Any]] = [rule for group in groups() for rule in group["rules"]]
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))


def served(registry: CollectorRegistry) -> Iterator[tuple[str, set[str]]]:
    """Names of series, and their labels; also of those that have no value yet."""
    for collector in registry._collector_to_names:
        if isinstance(collector, MetricWrapperBase):
            more = {"le"} if collector._type == "histogram" else set()
            for suffix in SUFFIXES[collector._type or ""]:
                yield collector._name + suffix, {*collector._labelnames, *more}
        else:
            for family in collector.collect():
                for sample in family.samples:
                    yield sample.name, set(sample.labels)


@pytest.fixture(scope="module")
def series() -> dict[str, set[str]]:
    pods = PodMetrics()
    pods.observe_packets(lambda: {"drops": {"duplicate": 1}, "packets": {"in": 1, "out": 1}})
    return {
        name: labels
        for registry in (OperatorMetrics().registry, pods.registry, AICoreMetrics().registry)
        for name, labels in served(registry)
    }


def selected(expression: str) -> list[tuple[str, set[str]]]:
    """Each series that an expression reads, with the labels that it asks for."""
    found = []
    for name, labels in re.findall(r"\b(auralink_[a-z_]+)(?:\{([^}]*)\})?", expression):
        found.append((name, set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", labels))))
    return found


@each_alert
def test_an_alert_reads_only_what_is_measured(alert: dict[str, Any], series: dict[str, set[str]]) -> None:
    reads = selected(alert["expr"])
    assert reads
    for name, labels in reads:
        assert name in series
        assert labels <= series[name] | OF_THE_TARGET, name


@each_alert
def test_an_alert_sums_up_by_labels_that_there_are(alert: dict[str, Any], series: dict[str, set[str]]) -> None:
    there = set.union(OF_THE_TARGET, *(series[name] for name, _ in selected(alert["expr"])))
    for names in re.findall(r"\b(?:by|on|without|ignoring) \(([^)]*)\)", alert["expr"]):
        assert {name.strip() for name in names.split(",")} <= there


@each_alert
def test_an_alert_tells_only_of_labels_that_it_has_left(alert: dict[str, Any]) -> None:
    kept = [{name.strip() for name in names.split(",")} for names in re.findall(r"\bby \(([^)]*)\)", alert["expr"])]
    told = set(re.findall(r"\$labels\.([a-z_]+)", alert["annotations"]["description"]))
    assert told <= (kept[0] if kept else set())


@each_alert
def test_parentheses_and_quotes_of_an_alert_are_paired(alert: dict[str, Any]) -> None:
    for opening, closing in ("()", "{}", "[]"):
        assert alert["expr"].count(opening) == alert["expr"].count(closing)
    assert alert["expr"].count('"') % 2 == 0


@each_alert
def test_an_alert_says_how_bad_it_is_and_what_is_the_matter(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["description"].endswith(".")


def test_the_manual_says_what_to_do_for_each_alert_and_for_no_other() -> None:
    text = (ROOT / "docs/running.md").read_text()
    documented = re.findall(r"^### (AuraLink\w+)$", text, re.MULTILINE)
    assert documented == [alert["alert"] for alert in ALERTS]


def test_the_adapter_serves_what_autoscalers_ask_for(series: dict[str, set[str]]) -> None:
    (rule,) = yaml.safe_load((FILES / "adapter.yaml").read_text())["rules"]
    assert rule["name"]["as"] == SESSIONS_METRIC
    assert SESSIONS_METRIC in series
    assert rule["seriesQuery"].startswith(SESSIONS_METRIC + "{")
