"""That the table of wrong objects, which a real API server refuses, leaves nothing out; and that the models agree."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from auralink_operator import crdgen
from auralink_operator.crdgen.pages import fields, rules
from auralink_operator.manifests import child_name
from auralink_operator.models import InvalidSpecError, check, parse_bridge, parse_policy
from auralink_operator.report import POD_MANAGER

from tests.unit.operator.whole import BASES
from tests.unit.operator.wrong import RULES, Wrong, rights, spots, wrongs

CRDS = crdgen.crds()
SPOTS = list(spots(CRDS))
ROOTS = {crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for crd in CRDS.values()}


@pytest.mark.parametrize("kind", ROOTS)
def test_every_field_is_in_an_example_and_so_in_the_table(kind: str) -> None:
    shown = {spot.path for spot in SPOTS if BASES[spot.base]["kind"] == kind}
    assert {f"spec.{row.path}" for row in fields(ROOTS[kind]["properties"]["spec"])} <= shown


@pytest.mark.parametrize("kind", ROOTS)
def test_every_rule_is_broken_by_a_row(kind: str) -> None:
    said = [row.said[-1] for row in RULES if BASES[row.base]["kind"] == kind]
    for message in rules(ROOTS[kind]):
        assert any(part in message for part in said), message


def test_every_field_has_a_row_for_each_of_its_bounds() -> None:
    """By count: a keyword that `wrongs` does not know would go untested."""
    known = {
        "type", "minimum", "maximum", "minLength", "maxLength", "pattern", "enum", "required", "maxItems", "minItems",
        "maxProperties", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-validations", "items",
        "properties", "additionalProperties", "description", "default", "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-int-or-string", "anyOf",
    }  # fmt: skip
    for spot in SPOTS:
        assert spot.schema.keys() <= known, spot.path
        assert list(wrongs(spot)), spot.path


def _parsed(row: Wrong) -> None:
    obj = row.made()
    obj["metadata"] |= {"namespace": "ns", "uid": "u"}
    (parse_bridge if obj["kind"] == "AuraLinkBridge" else parse_policy)(obj)


@pytest.mark.parametrize("base", BASES)
def test_the_examples_are_what_the_models_take(base: str) -> None:
    obj = {**BASES[base], "metadata": {"name": "b", "namespace": "ns", "uid": "u"}}
    if obj["kind"] == "AuraLinkBridge":
        bridge = parse_bridge(obj)
        assert check(bridge) == []
        assert bridge.spec.written_out() == obj["spec"]
    else:
        assert parse_policy(obj).spec.written_out() == obj["spec"]


def test_the_models_refuse_what_the_schema_refuses() -> None:
    """So that an object of an older CRD, which the API server still hands out, is stalled and not misread."""
    taken = []
    for row in (row for spot in SPOTS for row in wrongs(spot) if "Duplicate" not in row.said[1]):
        try:
            _parsed(row)
        except InvalidSpecError:
            continue
        taken.append(row.name)
    assert taken == []


def test_bounds_themselves_are_within() -> None:
    assert sum(1 for spot in SPOTS for _ in rights(spot)) > 50


# --- statuses ------------------------------------------------------------------------------------------------------

FIELD_MANAGER, POD_TEMPLATE_HASH, POD_SUFFIX = 128, 10, 5  # characters at most, says Kubernetes


def numbers(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every integer below a schema."""
    for name, child in schema.get("properties", {}).items():
        here = f"{path}.{name}".lstrip(".")
        if child.get("type") == "integer":
            yield here, child
        yield from numbers(child, here)
        yield from numbers(child.get("items", {}), here)


def status_numbers(kind: str) -> dict[str, dict[str, Any]]:
    return dict(numbers(ROOTS[kind]["properties"]["status"]))


@pytest.mark.parametrize("kind", ROOTS)
def test_every_number_of_a_status_has_bounds_that_its_format_holds(kind: str) -> None:
    found = status_numbers(kind)
    assert found
    for path, schema in found.items():
        most = 2**31 - 1 if schema.get("format") == "int32" else 2**53 - 1  # what every reader of JSON holds exactly
        assert -1000 <= schema["minimum"] < schema["maximum"] <= most, path


def test_the_figures_of_a_bridge_hold_those_of_all_its_pods() -> None:
    found = status_numbers("AuraLinkBridge")
    pods = ROOTS["AuraLinkBridge"]["properties"]["status"]["properties"]["pods"]["maxItems"]
    for name in ("rooms", "sessions"):
        assert found[name]["maximum"] >= pods * found[f"pods.{name}"]["maximum"]
    assert found["config.ackedGeneration"]["maximum"] >= found["pods.configGeneration"]["maximum"]
    for name in ("savedPercent", "pods.savedPercent"):
        assert (found[name]["minimum"], found[name]["maximum"]) == (0, 100)


def test_a_pod_that_has_an_entry_has_a_field_manager_to_remove_it() -> None:
    """And every pod has: its ReplicaSet names it after the Deployment."""
    root = ROOTS["AuraLinkBridge"]
    longest = root["properties"]["status"]["properties"]["pods"]["items"]["properties"]["name"]["maxLength"]
    assert len(POD_MANAGER) + longest == FIELD_MANAGER
    (named,) = (re.search(r"size\(\) <= (\d+)", rule["rule"]) for rule in root["x-kubernetes-validations"][:1])
    assert named
    assert len(child_name("b" * int(named[1]))) + len("--") + POD_TEMPLATE_HASH + POD_SUFFIX <= longest


@pytest.mark.parametrize("name", ["", "P1", "a/b", "-a", "a-", "a..b", "a b", "x" * 116])
def test_no_entry_can_have_a_name_that_no_pod_has(name: str) -> None:
    root = ROOTS["AuraLinkBridge"]["properties"]["status"]["properties"]
    schema = root["pods"]["items"]["properties"]["name"]
    fits = schema["minLength"] <= len(name) <= schema["maxLength"]
    assert not (fits and re.search(schema["pattern"], name))
    assert re.search(schema["pattern"], "auralink-b-5d4f8c7b9-x2x4z")
