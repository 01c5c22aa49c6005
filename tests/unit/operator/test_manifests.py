"""What is rendered, what stays put when hot fields change, and where a live child differs."""

import copy
import json
from typing import Any

import pytest
from auralink_operator.index import Key, Obj, Observed, key_of
from auralink_operator.manifests import (
    ConfigTooLargeError,
    config_of,
    desired,
    is_drift,
    next_generation,
    prunable,
)
from auralink_operator.models import Compiled, CompiledPolicy, Scene, parse_bridge, pod_views
from auralink_operator.scaling import owners
from auralink_operator.settings import Settings
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.operator import samples


def observed(bridge: Obj, *children: Obj, pods: tuple[Obj, ...] = ()) -> Observed:
    return Observed(bridge, {key_of(child): child for child in children}, pods, ())


def render(
    bridge: Obj | None = None,
    *live: Obj,
    compiled: Compiled | None = None,
    pods: tuple[Obj, ...] = (),
    settings: Settings = samples.SETTINGS,
    **scene: Any,
) -> list[Obj]:
    obj = bridge or samples.bridge()
    parsed = parse_bridge(obj)
    views = pod_views(pods, obj["status"])
    serving = owners([room.name for room in parsed.spec.rooms], views)
    given = Scene(**{"pods": views, "owners": serving, "replicas": parsed.spec.wanted_replicas(), **scene})
    return list(desired(parsed, compiled or Compiled(), observed(obj, *live, pods=pods), given, settings))


def one(children: list[Obj], kind: str, suffix: str = "") -> Obj:
    (found,) = [c for c in children if c["kind"] == kind and c["metadata"]["name"].endswith("auralink-b" + suffix)]
    return found


def template(children: list[Obj]) -> Any:
    return one(children, "Deployment")["spec"]["template"]


def test_children_of_a_pod_come_before_the_deployment() -> None:
    kinds = [child["kind"] for child in render()]
    assert kinds.index("ServiceAccount") < kinds.index("RoleBinding") < kinds.index("Deployment")


def test_a_policy_leaves_the_pod_template_alone_and_raises_the_generation() -> None:
    first = render()
    live = one(first, "ConfigMap", "-config")
    policy = CompiledPolicy("p", 0, 3, {"names": ["*"], "labels": {}}, {"compression": {"mode": "Always"}})
    second = render(None, live, compiled=Compiled((policy,)))
    assert template(second) == template(first)
    assert (config_of(first)[0], config_of(second)[0]) == (1, 2)
    config = json.loads(one(second, "ConfigMap", "-config")["data"]["config.json"])
    assert config["policies"] == [policy.rendered()]
    assert config["bridge"]["aiCore"]["addresses"] == ["ai-core:50051"]


def test_pods_are_restricted_and_run_as_nobody() -> None:
    spec = template(render())["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["terminationGracePeriodSeconds"] == 5 + 3600 + 30


def test_secrets_are_optional_and_one_volume_under_their_names() -> None:
    bridge = samples.bridge(aiCore={"tlsSecretName": "tls"}, api={"tokenRef": {"name": "tls", "key": "token"}})
    spec = template(render(bridge))["spec"]
    (volume,) = [v for v in spec["volumes"] if v["name"] == "secrets"]
    (source,) = volume["projected"]["sources"]
    assert source["secret"]["optional"]
    assert [item["path"] for item in source["secret"]["items"]] == [
        "tls/ca.crt",
        "tls/tls.crt",
        "tls/tls.key",
        "tls/token",
    ]


def test_a_pod_may_read_its_own_configuration_and_write_its_own_status() -> None:
    assert one(render(), "Role")["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": ["auralink-b-config"],
            "verbs": ["get", "list", "watch"],
        },
        {
            "apiGroups": ["auralink.io"],
            "resources": ["auralinkbridges/status"],
            "resourceNames": ["b"],
            "verbs": ["patch"],
        },
    ]


@pytest.mark.parametrize(("replicas", "wanted", "there"), [(1, True, 0), (2, True, 1), (2, False, 0)])
def test_a_budget_from_two_replicas(replicas: int, wanted: bool, there: int) -> None:
    children = render(samples.bridge(replicas=replicas, podDisruptionBudget=wanted))
    assert sum(child["kind"] == "PodDisruptionBudget" for child in children) == there


def test_a_bridge_without_listening_rooms_has_no_rtp_service() -> None:
    names = [c["metadata"]["name"] for c in render(samples.bridge(rooms=[])) if c["kind"] == "Service"]
    assert names == ["auralink-b"]


def test_a_room_s_slice_follows_its_owner_and_stays_while_there_is_none() -> None:
    bridge = samples.bridge(status={"pods": [samples.entry("p1")]})
    (slice_,) = [c for c in render(bridge, pods=(samples.pod("p1"),)) if c["kind"] == "EndpointSlice"]
    assert slice_["endpoints"][0]["addresses"] == ["10.0.0.1"]
    assert slice_["metadata"]["annotations"]["auralink.io/room"] == "demo"
    (empty,) = [c for c in render(bridge, slice_) if c["kind"] == "EndpointSlice"]
    assert empty["endpoints"] == []
    assert not [c for c in render(bridge) if c["kind"] == "EndpointSlice"]


def test_a_configuration_that_does_not_fit_is_refused() -> None:
    policies = tuple(
        CompiledPolicy(
            f"p{n}", 0, 1, {"names": ["*"], "labels": {"k": "v" * 20_000}}, {"compression": {"mode": "Auto"}}
        )
        for n in range(64)
    )
    with pytest.raises(ConfigTooLargeError, match="900000"):
        render(None, compiled=Compiled(policies))


# --- generations -------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["both", "map", "status", "none"])), max_size=30))
def test_a_generation_never_falls_and_never_names_two_configurations(steps: list[tuple[str, str]]) -> None:
    """Whatever of ConfigMap and status a crash or a deletion leaves, as long as one of them is there."""
    in_map: tuple[int, str] | None = None
    in_status: tuple[int, str] | None = None
    names: dict[int, str] = {}
    last = 0
    for wanted, survives in steps:
        seen = [found for found in (in_map, in_status) if found]
        generation = next_generation(wanted, seen)
        assert generation >= last
        assert names.setdefault(generation, wanted) == wanted
        last = generation
        in_map = (generation, wanted)
        if survives == "both":
            in_status = in_map
        elif survives == "status" and in_status == in_map:
            in_map = None


def test_the_same_configuration_keeps_its_generation() -> None:
    assert next_generation("a", []) == 1
    assert next_generation("a", [(4, "a"), (3, "b")]) == 4
    assert next_generation("b", [(4, "a"), (3, "b")]) == 5


@pytest.mark.parametrize("said", [2**63 - 1, 2**53 - 1, 10**12, "\N{SUPERSCRIPT TWO}", "9" * 5000, "-1"])
def test_a_generation_that_nobody_counts_to_leads_nowhere(said: int | str) -> None:
    """One more than the largest int64 could not be written, by the operator or by any pod, ever again."""
    status = {"pods": [{**samples.entry("p1"), "configGeneration": said}]}
    live = one(render(), "ConfigMap", "-config")
    live["metadata"]["annotations"] |= {"auralink.io/config-generation": str(said)}
    assert config_of(render(samples.bridge(status=status), live))[0] == 1


def test_our_own_change_is_no_drift_and_somebody_else_s_is() -> None:
    old, new = one(render(), "Service"), one(render(samples.bridge(replicas=2)), "Deployment")
    assert is_drift(old, {**copy.deepcopy(old), "spec": {}})
    assert not is_drift(new, one(render(), "Deployment"))


def test_what_is_wanted_no_longer_is_pruned_but_never_the_deployment() -> None:
    two = render(samples.bridge(replicas=2))
    seen = observed(samples.bridge(), *two)
    assert [key_of(child) for child in prunable(render(), seen)] == [Key("PodDisruptionBudget", "ns", "auralink-b")]
    assert all(child["kind"] != "Deployment" for child in prunable([], seen))


def bare(child: Obj, uid: str = "uid-b", **labels: str) -> Obj:
    """A child whose labels somebody took off; what the server adds does not matter here."""
    meta = {**child["metadata"], "labels": labels}
    meta["ownerReferences"] = [{**meta["ownerReferences"][0], "uid": uid}]
    return {**child, "metadata": meta}


SCALED = {"minReplicas": 2, "maxReplicas": 9}


def test_a_child_of_a_fixed_name_is_pruned_by_its_owner_whatever_has_become_of_its_labels() -> None:
    """An autoscaler that nobody wants any longer would go on scaling."""
    hpa = one(render(samples.bridge(autoscaling=SCALED)), "HorizontalPodAutoscaler")
    assert prunable(render(), observed(samples.bridge(), bare(hpa))) == [bare(hpa)]
    assert prunable(render(samples.bridge(autoscaling=SCALED)), observed(samples.bridge(), bare(hpa))) == []
    going = bare(hpa)
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert prunable(render(), observed(samples.bridge(), going)) == []


def test_what_is_somebody_else_s_is_not_pruned() -> None:
    """Another owner's object of that name, and what a user has hung onto the bridge so that it goes with it."""
    hpa = one(render(samples.bridge(autoscaling=SCALED)), "HorizontalPodAutoscaler")
    named = bare(hpa)
    named["metadata"]["name"] = "mine"
    config = bare(one(render(), "ConfigMap", "-config"))
    config["metadata"]["name"] = "mine"
    seen = observed(samples.bridge(), bare(hpa, "uid-of-before"), named, config)
    assert prunable(render(), seen) == []
