"""The chart and the operator agree: flags, rights, and that pods get no right the operator lacks."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from auralink_operator.index import BRIDGE, POD, POLICY, RESOURCES, Observed
from auralink_operator.manifests import CHILDREN, desired
from auralink_operator.models import Capabilities, Compiled, Scene, parse_bridge
from auralink_operator.resync import watched
from auralink_operator.settings import OPTIONS

from tests.unit.operator import samples

CHART = Path(__file__).parents[3] / "charts/auralink"


def rules() -> list[dict[str, Any]]:
    text = (CHART / "templates/_helpers.tpl").read_text()
    block = re.search(r'\{\{- define "auralink.operator.rules" -\}\}(.*?)\{\{- end \}\}', text, re.DOTALL)
    assert block
    found: list[dict[str, Any]] = yaml.safe_load(block.group(1))
    return found


def allowed(group: str, resource: str) -> set[str]:
    return {
        verb
        for rule in rules()
        if group in rule["apiGroups"] and resource in rule["resources"]
        for verb in rule["verbs"]
    }


def group_and_plural(kind: str) -> tuple[str, str]:
    version, plural = RESOURCES[kind]
    return version.rpartition("/")[0], plural


def test_no_wildcard_no_secret_and_no_way_to_more_rights() -> None:
    text = json.dumps(rules())
    for word in ("*", "secrets", "escalate", "bind", "impersonate"):
        assert f'"{word}"' not in text


@pytest.mark.parametrize("kind", watched(Capabilities(service_monitors=True)))
def test_what_is_watched_may_be_watched(kind: str) -> None:
    assert {"get", "list", "watch"} <= allowed(*group_and_plural(kind))


@pytest.mark.parametrize("kind", CHILDREN)
def test_children_may_be_made_and_only_a_deployment_not_deleted(kind: str) -> None:
    verbs = allowed(*group_and_plural(kind))
    assert {"create", "patch"} <= verbs
    assert ("delete" in verbs) == (kind != "Deployment")


def test_bridges_pods_and_policies_are_never_written_but_for_their_status() -> None:
    for kind in (BRIDGE, POLICY, POD):
        assert allowed(*group_and_plural(kind)) == {"get", "list", "watch"}
    for kind in (BRIDGE, POLICY):
        group, plural = group_and_plural(kind)
        assert allowed(group, f"{plural}/status") == {"get", "patch"}


def test_pods_get_no_right_that_the_operator_lacks() -> None:
    obj = samples.bridge()
    children = desired(parse_bridge(obj), Compiled(), Observed(obj, {}, (), ()), Scene(), samples.SETTINGS)
    (role,) = [child for child in children if child["kind"] == "Role"]
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                assert set(rule["verbs"]) <= allowed(group, resource)


def test_every_flag_of_the_chart_is_one_of_the_operator() -> None:
    text = (CHART / "templates/operator.yaml").read_text()
    used = set(re.findall(r"- (--[a-z-]+)=", text))
    assert used <= {option.flag for option in OPTIONS}
    assert {option.flag for option in OPTIONS if option.default is None} <= used


def test_every_value_is_in_the_schema_and_back() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(node: Any, described: Any, path: str) -> None:
        assert set(node) <= set(described["properties"]), path
        for name, value in node.items():
            below = described["properties"][name]
            if isinstance(value, dict) and below.get("properties") and not below.get("additionalProperties", True):
                compare(value, below, f"{path}.{name}")

    compare(values, schema, "values")
