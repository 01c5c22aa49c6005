"""Where a live child differs from the wanted one, as servers show what they were given."""

from typing import Any

import pytest
from auralink_operator.index import Obj
from auralink_operator.manifests import differs
from hypothesis import given
from hypothesis import strategies as st

PORT = {"name": "http", "port": 8080, "protocol": "TCP"}


def container(**fields: Any) -> Obj:
    return {"containers": [{"name": "x", **fields}]}


@pytest.mark.parametrize(
    ("want", "have", "path"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, None),
        ({"a": 1}, {"a": 2}, ".a"),
        ({"a": 1}, {}, ".a"),
        ({"a": {"b": "x"}}, {"a": None}, ".a"),
        ({"a": []}, {}, None),
        ({"a": ""}, {"a": None}, None),
        ({"a": False}, {}, ".a"),
        ({"a": 0}, {}, ".a"),
        ({"a": True}, {"a": 1}, ".a"),
        ({"a": [1, 2]}, {"a": [1, 2]}, None),
        ({"a": [1, 2]}, {"a": [2, 1]}, ".a[0]"),
        ({"a": [1]}, {"a": [1, 2]}, ".a"),
        ({"rules": [{"verbs": ["get"]}]}, {"rules": [{"verbs": ["get"]}, {"verbs": ["list"]}]}, ".rules"),
        ({"a": "0.5"}, {"a": "500m"}, ".a"),
    ],
)
def test_only_what_we_want_and_do_not_find_is_a_difference(want: Obj, have: Obj, path: str | None) -> None:
    assert differs(want, have) == path


@pytest.mark.parametrize(
    ("want", "have", "path"),
    [
        (container(v=1), {"containers": [{"name": "y", "v": 2}, {"name": "x", "v": 1, "w": 3}]}, None),
        (container(v=1), container(v=2), ".containers[x].v"),
        (container(), {"containers": [{"name": "y"}]}, ".containers[x]"),
        ({"ports": [PORT]}, {"ports": [{**PORT, "port": 81}, {**PORT, "nodePort": 30001}]}, None),
        ({"ports": [PORT]}, {"ports": [{**PORT, "protocol": "UDP"}]}, ".ports[8080,TCP]"),
        ({"ports": [{"containerPort": 5}]}, {"ports": [{"containerPort": 5, "protocol": "TCP"}]}, None),
        (
            {"ports": [{"containerPort": 5, "protocol": "TCP"}, {"containerPort": 5, "protocol": "UDP"}]},
            {"ports": [{"containerPort": 5, "protocol": "UDP"}, {"containerPort": 5, "protocol": "TCP"}]},
            None,
        ),
        ({"volumeMounts": [{"mountPath": "/a", "name": "v"}]}, {"volumeMounts": []}, ".volumeMounts[/a]"),
        # a Service's EndpointSlice has a list of ports too: the keys are there, and all is compared all the same
        ({"ports": [{"port": 1, "protocol": "UDP"}]}, {"ports": [{"port": 2, "protocol": "UDP"}]}, ".ports[1,UDP]"),
    ],
)
def test_items_of_a_list_that_is_a_map_are_found_by_their_keys(want: Obj, have: Obj, path: str | None) -> None:
    assert differs(want, have) == path


@pytest.mark.parametrize(
    ("want", "have", "path"),
    [
        ({"volumes": [{"name": [1]}]}, {"volumes": [{"name": [1]}]}, None),
        ({"volumes": [{"name": [1]}]}, {"volumes": [{"name": "x"}]}, ".volumes[0].name"),
        ({"volumes": [{"name": "x"}]}, {"volumes": [{"name": {"a": "b"}}]}, ".volumes[0].name"),
        ({"volumes": [{"name": "x"}]}, {"volumes": [{"name": {}}, {"name": "x"}]}, ".volumes"),
        ({"ports": [{"containerPort": {}}]}, {"ports": [{"containerPort": 1}]}, ".ports[0].containerPort"),
    ],
)
def test_items_that_cannot_be_found_by_a_key_are_compared_one_by_one(want: Obj, have: Obj, path: str | None) -> None:
    assert differs(want, have) == path


@pytest.mark.parametrize(
    ("want", "have", "path"),
    [
        ({"r": {"requests": {"cpu": "0.5"}}}, {"r": {"requests": {"cpu": "500m"}}}, None),
        ({"r": {"limits": {"memory": 1024}}}, {"r": {"limits": {"memory": "1Ki"}}}, None),
        ({"r": {"limits": {"memory": "1e3"}}}, {"r": {"limits": {"memory": "1k"}}}, None),
        ({"r": {"limits": {"memory": "1Gi"}}}, {"r": {"limits": {"memory": "1G"}}}, ".r.limits.memory"),
        ({"target": {"averageValue": "1000"}}, {"target": {"averageValue": "1k"}}, None),
        ({"emptyDir": {"sizeLimit": "1024Mi"}}, {"emptyDir": {"sizeLimit": "1Gi"}}, None),
        ({"r": {"limits": {"memory": "lots"}}}, {"r": {"limits": {"memory": "more"}}}, ".r.limits.memory"),
        ({"r": {"limits": {"memory": "1e9999999"}}}, {"r": {"limits": {"memory": "1Gi"}}}, ".r.limits.memory"),
        ({"r": {"limits": {"memory": "1e" + "9" * 5000}}}, {"r": {"limits": {"memory": "1"}}}, ".r.limits.memory"),
    ],
)
def test_quantities_are_compared_by_what_they_mean(want: Obj, have: Obj, path: str | None) -> None:
    assert differs(want, have) == path


@pytest.mark.parametrize(
    ("want", "have", "path"),
    [
        ({"hostNetwork": False}, {}, None),
        ({"hostNetwork": False}, {"hostNetwork": True}, ".hostNetwork"),
        ({"livenessProbe": {"initialDelaySeconds": 0}}, {"livenessProbe": {}}, None),
        ({"livenessProbe": {"timeoutSeconds": 0}}, {"livenessProbe": {"timeoutSeconds": 1}}, None),
        (
            {"livenessProbe": {"timeoutSeconds": 2}},
            {"livenessProbe": {"timeoutSeconds": 1}},
            ".livenessProbe.timeoutSeconds",
        ),
        ({"automountServiceAccountToken": False}, {}, ".automountServiceAccountToken"),
        ({"allowPrivilegeEscalation": False}, {}, ".allowPrivilegeEscalation"),
    ],
)
def test_false_and_nothing_are_the_same_only_where_kubernetes_says_so(want: Obj, have: Obj, path: str | None) -> None:
    assert differs(want, have) == path


@pytest.mark.parametrize("name", ["selector", "podSelector", "nodeSelector"])
def test_a_key_more_in_a_selector_is_a_difference(name: str) -> None:
    """Elsewhere an addition is left alone; here it changes what is selected."""
    assert differs({name: {"a": "1"}}, {name: {"a": "1"}}) is None
    assert differs({name: {"a": "1"}}, {name: {"a": "1", "b": "2"}}) == f".{name}.b"
    assert differs({"labels": {"a": "1"}}, {"labels": {"a": "1", "b": "2"}}) is None


def test_an_empty_selector_selects_all_and_one_with_a_key_does_not() -> None:
    want: Obj = {"from": [{"namespaceSelector": {}}]}
    assert differs(want, {"from": [{"namespaceSelector": {}}]}) is None
    assert differs(want, {"from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]}) is not None
    assert differs(want, {"from": [{}]}) is not None


VALUE = st.sampled_from([None, True, 0, 1, 1.5, "", "x", "1e9999999", "1.1.1", "1Ki", [1], {"a": "b"}, [], {}])
ITEM = st.fixed_dictionaries({}, optional={"name": VALUE, "limits": st.fixed_dictionaries({"cpu": VALUE})})
ANYTHING = VALUE | st.lists(ITEM | VALUE, max_size=3)


@given(ANYTHING, ANYTHING)
def test_nothing_that_may_be_wanted_or_found_is_too_odd_to_be_compared(want: Any, have: Any) -> None:
    found = differs({"containers": want}, {"containers": have})
    assert found is None or found.startswith(".containers")
