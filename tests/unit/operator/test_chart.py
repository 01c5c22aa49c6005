"""The chart and the operator agree: flags, rights, values, and that pods get no right the operator lacks."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from auralink_operator.index import BRIDGE, POD, POLICY, RESOURCES
from auralink_operator.manifests import CHILDREN
from auralink_operator.manifests.access import role
from auralink_operator.models import parse_bridge
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


@pytest.mark.parametrize("kind", [BRIDGE, POLICY, POD, *CHILDREN])
def test_what_is_watched_may_be_watched(kind: str) -> None:
    assert {"get", "list", "watch"} <= allowed(*group_and_plural(kind))


@pytest.mark.parametrize("kind", CHILDREN)
def test_children_may_be_made_and_only_a_deployment_not_deleted(kind: str) -> None:
    verbs = allowed(*group_and_plural(kind))
    assert verbs - {"delete"} == {"get", "list", "watch", "create", "patch"}
    assert ("delete" in verbs) == (kind != "Deployment")


def test_bridges_pods_and_policies_are_neither_made_nor_deleted() -> None:
    """A bridge gets the finalizer of drain.onDelete, a pod its deletion cost, a policy nothing but its status."""
    assert allowed(*group_and_plural(BRIDGE)) == {"get", "list", "watch", "patch"}
    assert allowed(*group_and_plural(POD)) == {"get", "list", "watch", "patch"}
    assert allowed(*group_and_plural(POLICY)) == {"get", "list", "watch"}
    for kind in (BRIDGE, POLICY):
        group, plural = group_and_plural(kind)
        assert allowed(group, f"{plural}/status") == {"patch"}


def test_pods_get_no_right_that_the_operator_lacks() -> None:
    granted = role(parse_bridge(samples.bridge()), samples.SETTINGS)["rules"]
    assert granted
    for rule in granted:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                assert set(rule["verbs"]) <= allowed(group, resource)


def test_every_flag_of_the_chart_is_one_of_the_operator() -> None:
    used = set(re.findall(r"- (--[a-z-]+)=", (CHART / "templates/operator.yaml").read_text()))
    assert used <= {option.flag for option in OPTIONS}
    assert {option.flag for option in OPTIONS if option.default is None} <= used


def test_every_setting_can_be_set_by_the_chart() -> None:
    """But for the port, which the chart's own probes and Service name."""
    used = set(re.findall(r"- (--[a-z-]+)=", (CHART / "templates/operator.yaml").read_text()))
    assert {option.flag for option in OPTIONS} - used == {"--health-port"}


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    return found


def test_every_value_is_in_the_schema_and_back() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(node: Any, described: Any, path: str) -> None:
        missing = set(described["properties"]) - set(node) - {"global"}
        assert not missing, f"{path}: {missing}"
        assert set(node) <= set(described["properties"]), path
        for name, value in node.items():
            below = described["properties"][name]
            if isinstance(value, dict) and below.get("properties") and name != "resources":
                compare(value, below, f"{path}.{name}")

    compare(values, schema(), "values")


def objects(node: Any, path: str = "values") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield path, node
        for name, below in node.items():
            yield from objects(below, f"{path}.{name}")


def test_a_misspelt_value_is_refused_at_any_depth() -> None:
    for path, node in objects(schema()):
        if not path.endswith(".global"):
            assert node.get("additionalProperties") is False or isinstance(node["additionalProperties"], dict), path


def test_every_value_is_explained() -> None:
    def look(node: dict[str, Any], path: str) -> None:
        for name, below in node.get("properties", {}).items():
            assert below.get("description"), f"{path}.{name}"
            if name not in ("resources", "tolerations"):
                look(below, f"{path}.{name}")

    look(schema(), "values")


def test_an_operator_that_the_settings_refuse_cannot_be_installed() -> None:
    """Bounds of the schema are those of the flags: a typo fails `helm install`, not the pod."""
    operator = schema()["properties"]["operator"]["properties"]
    bounded = {
        "--workers": operator["limits"]["properties"]["workers"],
        "--qps": operator["limits"]["properties"]["qps"],
        "--burst": operator["limits"]["properties"]["burst"],
        "--resync-s": operator["resyncSeconds"],
        "--max-rollouts": operator["maxRollouts"],
    }
    parsers = {option.flag: option.parse for option in OPTIONS}
    for flag, described in bounded.items():
        for good in (described["minimum"], described["maximum"]):
            parsers[flag](str(good))
        for bad in (described["minimum"] - 1, described["maximum"] + 1):
            with pytest.raises(ValueError, match="must be from"):
                parsers[flag](str(bad))


@pytest.mark.parametrize("name", ["release", "example.com/team", "auralink.io/bridge", "a b", "app.kubernetes.io/name"])
@pytest.mark.parametrize("value", ["prometheus", "", "a b", "-", "x" * 63, "x" * 64])
def test_labels_of_monitors_are_spelt_in_the_schema_as_in_the_settings(name: str, value: str) -> None:
    described = schema()["properties"]["monitoring"]["properties"]["labels"]
    names, values = described["propertyNames"], described["additionalProperties"]
    fits = bool(re.search(names["pattern"], name) and re.search(values["pattern"], value))
    fits = fits and not re.search(names["not"]["pattern"], name)
    (parse,) = (option.parse for option in OPTIONS if option.flag == "--monitor-label")
    try:
        parse(f"{name}={value}")
    except ValueError:
        assert not fits
    else:
        assert fits


@pytest.mark.parametrize("shard", ["a", "eu-1", "x" * 32])
@pytest.mark.parametrize("spoilt", ["", "-", "A", "."])
def test_a_shard_is_spelt_in_the_schema_as_in_the_settings(shard: str, spoilt: str) -> None:
    described = schema()["properties"]["operator"]["properties"]["shard"]
    (parse,) = (option.parse for option in OPTIONS if option.flag == "--shard")
    name = shard + spoilt
    fits = len(name) <= described["maxLength"] and re.search(described["pattern"], name) is not None
    try:
        parse(name)
    except ValueError:
        assert not fits
    else:
        assert fits
