"""Parsing, what the schema cannot refuse, and the join of pods with what they report."""

import json
import re
from pathlib import Path

import pytest
import yaml
from auralink_operator import crdgen
from auralink_operator.crdgen.pages import PageError, fields, rules, with_tables
from auralink_operator.models import Bridge, BridgeSpec, InvalidSpecError, check, parse_bridge, parse_policy, pod_views

from tests.unit.operator import samples


def test_the_spec_is_written_out_in_the_resource_s_own_words() -> None:
    spec = parse_bridge(samples.bridge(aiCore={"breaker": {"openSeconds": 5}})).spec.written_out()
    assert spec["aiCore"] == {"failover": "None", "timeoutMs": 100, "breaker": {"failures": 5, "openSeconds": 5}}
    assert "replicas" not in spec
    assert parse_bridge({**samples.bridge(), "spec": spec}).spec.written_out() == spec


def test_a_spec_that_an_older_crd_let_in_is_refused_with_the_field() -> None:
    with pytest.raises(InvalidSpecError, match=r"spec\.compression\.qualityLevel"):
        parse_bridge(samples.bridge(compression={"qualityLevel": 99}))
    with pytest.raises(InvalidSpecError, match=r"spec\.rooms\[0\]\.legs"):
        parse_bridge(samples.bridge(rooms=[{"name": "demo", "legs": []}]))


def test_fields_of_a_newer_crd_are_left_alone() -> None:
    assert parse_bridge(samples.bridge(later={"x": 1})).spec.replicas is None
    assert parse_policy(samples.policy("p", mode="Auto", later=1)).spec.compression is not None


def test_a_room_listens_on_its_media_and_their_rtcp() -> None:
    spec = BridgeSpec.model_validate({"rooms": [samples.room(port=6000)]})
    assert spec.rooms[0].listen_ports() == (6000, 6001)


def test_an_entry_counts_only_for_the_pod_with_its_name_and_uid() -> None:
    pods = [samples.pod("p1"), samples.pod("p2"), samples.pod("p3", ready=False)]
    stranger = {**samples.entry("p2"), "uid": "another"}
    one, two, three = pod_views(pods, {"pods": [samples.entry("p1", 7), stranger, samples.entry("p3")]})
    assert (one.serving, one.acked) == (True, 7)
    assert (two.serving, two.acked) == (False, 0)
    assert not three.serving


def test_pods_that_have_ended_or_are_ending_do_not_serve() -> None:
    ended = samples.pod("p1")
    ended["status"]["phase"] = "Failed"
    views = pod_views([ended, samples.pod("p2", deleting=True)], {"pods": [samples.entry("p1"), samples.entry("p2")]})
    assert [(view.name, view.serving) for view in views] == [("p2", False)]


def test_what_is_generated_in_the_tree_is_what_the_models_say() -> None:
    root = Path(crdgen.__file__).parents[3]
    for path, text in crdgen.files(root).items():
        assert path.read_text() == text, f"{path}: run make generate"


def test_a_structural_schema_has_no_reference_null_or_title() -> None:
    text = json.dumps(crdgen.crds())
    for word in ("$ref", "$defs", '"null"', "propertyNames", '"title"'):
        assert word not in text


def test_every_list_and_text_that_users_fill_has_a_bound() -> None:
    unbounded = []

    def walk(node: object, path: str) -> None:
        if isinstance(node, dict):
            kind = node.get("type")
            if node.get("x-kubernetes-preserve-unknown-fields"):
                return
            if kind == "string" and not ({"maxLength", "enum", "format"} & node.keys()):
                unbounded.append(path)
            if kind == "array" and "maxItems" not in node:
                unbounded.append(path)
            if "additionalProperties" in node and "maxProperties" not in node:
                unbounded.append(path)
            for name, value in node.items():
                if name not in ("default", "x-kubernetes-validations", "anyOf"):
                    walk(value, f"{path}.{name}")

    for crd in crdgen.crds().values():
        for version in crd["spec"]["versions"]:
            schema = version["schema"]["openAPIV3Schema"]["properties"]
            walk(schema["spec"], "spec")
            walk(schema["status"], "status")
    assert unbounded == []


def test_every_field_says_what_it_does() -> None:
    """`kubectl explain` has nothing else to show."""
    for crd in crdgen.crds().values():
        root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        silent = [row.path for part in ("spec", "status") for row in fields(root[part]) if not row.text.strip()]
        assert silent == []
        assert root["spec"]["description"]


def test_every_rule_names_a_remedy() -> None:
    """A rule's message is all that a user sees: it says what is wrong, then what to do about it."""
    for crd in crdgen.crds().values():
        said = list(rules(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))
        assert said
        for message in said:
            assert ":" in message or ";" in message, message


def test_a_page_without_marks_is_refused() -> None:
    crd = next(iter(crdgen.crds().values()))
    with pytest.raises(PageError, match="spec: written by make generate"):
        with_tables("# A page\n", crd)


def test_the_examples_of_the_pages_are_valid() -> None:
    root = Path(crdgen.__file__).parents[3]
    parse = {"AuraLinkBridge": parse_bridge, "RoomPolicy": parse_policy}
    for kind, parser in parse.items():
        page = (root / f"docs/kinds/{kind.lower()}.md").read_text(encoding="utf-8")
        blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
        examples = [block for block in blocks if block and block.get("kind") == kind]
        assert examples
        for example in examples:
            meta = {**example["metadata"], "namespace": "ns", "uid": "u"}
            parsed = parser({**example, "metadata": meta})
            assert not isinstance(parsed, Bridge) or check(parsed) == []
