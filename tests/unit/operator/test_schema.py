"""That the table of wrong objects, which a real API server refuses, leaves nothing out; and that the models agree."""

import pytest
from auralink_operator import crdgen
from auralink_operator.crdgen.pages import fields, rules
from auralink_operator.models import InvalidSpecError, check, parse_bridge, parse_policy

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
