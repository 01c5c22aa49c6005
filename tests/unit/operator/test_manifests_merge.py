"""How a bridge's pod template is laid over ours. `test_operator_template` compares with the real API server."""

import copy
from contextlib import suppress
from typing import Any

import pytest
from auralink_operator.index import Obj
from auralink_operator.manifests import TemplateError, merge_template
from auralink_operator.manifests.merge import MERGE_KEYS
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st

BASE: Obj = {
    "metadata": {"labels": {"a": "1"}},
    "spec": {
        "containers": [{"name": "main", "image": "i:1", "env": [{"name": "A", "value": "1"}, {"name": "B"}]}],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "tolerations": [{"key": "x"}],
    },
}


def merged(patch: Obj) -> Any:
    return merge_template(BASE, patch)


def test_neither_the_base_nor_the_patch_is_changed() -> None:
    base, patch = (
        copy.deepcopy(BASE),
        {"spec": {"containers": [{"name": "main", "env": [{"name": "A", "value": "2"}]}]}},
    )
    before = copy.deepcopy(patch)
    assert merge_template(base, patch)["spec"]["containers"][0]["env"][0] == {"name": "A", "value": "2"}
    assert (base, patch) == (BASE, before)


def test_a_list_without_a_key_is_replaced() -> None:
    assert merged({"spec": {"tolerations": [{"key": "y"}]}})["spec"]["tolerations"] == [{"key": "y"}]


def test_a_null_removes_a_field_and_says_nothing_where_there_is_none() -> None:
    found = merged({"metadata": {"labels": {"a": None, "b": None}}, "spec": {"new": {"x": None, "y": 1}}})
    assert found["metadata"]["labels"] == {}
    assert found["spec"]["new"] == {"y": 1}


def test_a_list_of_the_same_name_elsewhere_is_none_with_a_key() -> None:
    """`ports` of a container merge; nobody knows what `ports` of something else may mean one day."""
    base: Obj = {"spec": {"gateway": {"ports": [{"containerPort": 1}]}, "ports": [{"containerPort": 1}]}}
    patch = {"spec": {"gateway": {"ports": [{"containerPort": 2}]}, "ports": [{"containerPort": 2}]}}
    assert merge_template(base, patch) == patch


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"spec": {"containers": [{"image": "x"}]}}, "spec.pod.template.spec.containers: each item needs name"),
        ({"spec": {"containers": ["x"]}}, "its items are objects"),
        ({"spec": {"containers": [{"name": "x", "$patch": "merge"}]}}, "write delete or replace"),
        ({"spec": {"$patch": "merge"}}, r"spec.pod.template.spec.\$patch"),
        ({"spec": {"$setElementOrder/containers": []}}, "this directive is not supported"),
        (
            {"spec": {"volumes": [{"name": "tmp", "$retainKeys": "name"}]}},
            r"volumes\[tmp\].\$retainKeys: must be a list",
        ),
        ({"spec": {"volumes": [{"name": "tmp", "$retainKeys": ["x"], "emptyDir": None}]}}, "must name name too"),
        ({"spec": {"containers": [{"name": "main", "env": [{"value": "1"}]}]}}, r"containers\[main\].env: each item"),
        ({"spec": {"volumes": [{"name": [1]}]}}, r"spec.pod.template.spec.volumes: each item needs name"),
        ({"spec": {"volumes": [{"name": None}]}}, r"spec.pod.template.spec.volumes: each item needs name"),
        ({"spec": {"volumes": [{"name": {}, "$patch": "delete"}]}}, r"spec.volumes: each item needs name"),
        (
            {"spec": {"containers": [{"name": "main", "env": [{"name": {"a": "b"}}]}]}},
            r"spec.containers\[main\].env: each item needs name",
        ),
        # the first of two of one name has nothing to merge with, and the second meets what the first has brought
        *(
            ({"spec": {"containers": [{"name": "new", "env": first}, {"name": "new", "env": [{"name": "A"}]}]}}, said)
            for first, said in (
                ([{"name": {"a": "b"}}], r"spec.containers\[new\].env: each item needs name"),
                ([{"value": "1"}], r"spec.containers\[new\].env: each item needs name"),
                (["A=1"], r"spec.containers\[new\].env: its items are objects"),
            )
        ),
    ],
)
def test_what_cannot_be_merged_is_refused_by_its_path(patch: Obj, said: str) -> None:
    with pytest.raises(TemplateError, match=said):
        merged(patch)


NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
ITEMS = st.lists(NAMES, unique=True, max_size=5)


@given(base=ITEMS, patch=ITEMS)
def test_items_keep_their_order_on_both_sides_where_the_sides_agree(base: list[str], patch: list[str]) -> None:
    """What the patch names stands in the order of the patch, and what only the base has in the order of the base."""
    have: Obj = {"spec": {"volumes": [{"name": name} for name in base]}}
    found = merge_template(have, {"spec": {"volumes": [{"name": name} for name in patch]}})
    names = [item["name"] for item in found["spec"]["volumes"]]
    assert sorted(names) == sorted({*base, *patch})
    assert [name for name in names if name in patch] == patch
    assert [name for name in names if name not in patch] == [name for name in base if name not in patch]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["x", "y"]),
    lambda inner: st.dictionaries(st.sampled_from(["p", "q", "spec"]), inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)
MAPS = st.dictionaries(st.sampled_from(["p", "q", "spec"]), VALUES, max_size=3)


@given(base=MAPS, patch=MAPS)
def test_merging_twice_is_merging_once(base: Obj, patch: Obj) -> None:
    once = merge_template(base, patch)
    assert merge_template(once, patch) == once


VALUE = st.sampled_from([None, True, 0, "main", "A", "tmp", "delete", "replace", [1], {"a": "b"}, [], {}])


def odd(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What may stand where a list of objects with these fields belongs."""
    directives = {"$patch": VALUE, "$retainKeys": VALUE}
    item = st.fixed_dictionaries(fields) | st.fixed_dictionaries({}, optional={**fields, **directives})
    return st.lists(item, max_size=3) | st.lists(VALUE, max_size=1) | VALUE


CONTAINERS = odd(name=st.sampled_from(["main", "new"]) | VALUE, env=odd(name=VALUE), ports=odd(containerPort=VALUE))


@runs(max_examples=300)
@given(CONTAINERS, odd(name=VALUE))
def test_whatever_cannot_be_merged_is_a_template_error(containers: Any, volumes: Any) -> None:
    with suppress(TemplateError):
        assert merged({"spec": {"containers": containers, "volumes": volumes}})["metadata"] == BASE["metadata"]


def test_the_keys_are_those_of_kubernetes() -> None:
    """patchMergeKey of PodSpec, Container and their parts in k8s.io/api/core/v1 (1.34)."""
    assert MERGE_KEYS == {
        "containers": "name",
        "initContainers": "name",
        "env": "name",
        "ports": "containerPort",
        "volumeMounts": "mountPath",
        "volumeDevices": "devicePath",
        "volumes": "name",
        "imagePullSecrets": "name",
        "hostAliases": "ip",
        "topologySpreadConstraints": "topologyKey",
        "resourceClaims": "name",
        "schedulingGates": "name",
    }
