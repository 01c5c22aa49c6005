"""What no schema can refuse: two sockets on one port, media in a circle, templates that take from pods."""

import copy
from typing import Any

import pytest
from auralink_operator.manifests import pod_template
from auralink_operator.models import check, parse_bridge
from auralink_operator.models.reserved import reserved
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st

from tests.unit.operator import samples
from tests.unit.operator.whole import BASES


def test_a_port_has_one_user_and_rtcp_is_one() -> None:
    room = samples.room(port=5004)
    room["legs"][0]["rtp"]["audio"] = samples.medium("Opus", listen=5005)
    (problem,) = check(parse_bridge(samples.bridge(rooms=[room])))
    assert "5005" in problem
    assert "room demo, leg in, audio" in problem
    room["legs"][0]["rtp"]["rtcpMux"] = True
    assert check(parse_bridge(samples.bridge(rooms=[room]))) == []


def test_rooms_share_the_ports_of_a_pod() -> None:
    rooms = [samples.room("one", 5004), samples.room("two", 5004)]
    assert check(parse_bridge(samples.bridge(rooms=rooms)))


def endpoint_room(*rooms: str | None, endpoints: tuple[str, ...] = ("meet", "meet"), **more: Any) -> dict[str, Any]:
    legs = [
        {"name": f"leg-{number}", "endpoint": endpoint, **({"room": room} if room else {})}
        for number, (room, endpoint) in enumerate(zip(rooms, endpoints, strict=True))
    ]
    return {"name": "demo", "legs": legs, **more}


@pytest.mark.parametrize(
    ("room", "circle"),
    [
        (endpoint_room(None, None), True),
        (endpoint_room("{room}", None), True),
        (endpoint_room("demo", None), True),
        (endpoint_room("a", "a"), True),
        (endpoint_room("a", "b"), False),
        (endpoint_room(None, None, endpoints=("meet", "live")), False),
        (endpoint_room("demo", None, glob="*"), False),
        (endpoint_room("{room}", None, glob="*"), True),
    ],
)
def test_two_legs_into_one_conference_are_refused(room: dict[str, Any], circle: bool) -> None:
    problems = check(parse_bridge(samples.bridge(rooms=[room])))
    assert len(problems) == circle
    assert all("legs leg-0 and leg-1" in problem and "change room or endpoint" in problem for problem in problems)


def problems_of(template: Any) -> list[str]:
    return check(parse_bridge(samples.bridge(pod={"template": template})))


FINE: tuple[dict[str, Any], ...] = (
    {},
    {"metadata": {"labels": {"team": "media"}, "annotations": {"example.com/a": "b"}}},
    {"spec": {"tolerations": [{"operator": "Exists"}], "affinity": {}, "priority": None}},
    {"spec": {"containers": [{"name": "sidecar", "image": "x", "env": [{"name": "POD_NAME", "value": "y"}]}]}},
    {"spec": {"containers": [{"name": "data-plane", "env": [{"name": "HTTPS_PROXY", "value": "x"}]}]}},
    {"spec": {"containers": [{"name": "data-plane", "volumeMounts": [{"name": "x", "mountPath": "/tmpfiles"}]}]}},
    {"spec": {"containers": [{"name": "sidecar", "$patch": "delete"}]}},
    {"spec": {"volumes": [{"name": "more", "emptyDir": {}}], "initContainers": [{"name": "first", "image": "x"}]}},
)


@pytest.mark.parametrize("template", FINE, ids=str)
def test_what_a_template_adds_is_welcome(template: dict[str, Any]) -> None:
    assert problems_of(template) == []


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


def ours(**fields: Any) -> dict[str, Any]:
    return spec(containers=[{"name": "data-plane", **fields}])


CONTAINER = "spec.pod.template.spec.containers[data-plane]"
REFUSED: tuple[tuple[Any, str], ...] = (
    ({"kind": "PodTemplate"}, "spec.pod.template.kind"),
    ({"$patch": "replace"}, "spec.pod.template.$patch"),
    ({"spec": None}, "spec.pod.template.spec: an object"),
    ({"spec": {"$patch": "delete"}}, "spec.pod.template.spec.$patch"),
    ({"spec": {"$retainKeys": ["volumes"]}}, "spec.pod.template.spec.$retainKeys"),
    ({"metadata": None}, "spec.pod.template.metadata: an object"),
    ({"metadata": {"name": "x"}}, "spec.pod.template.metadata.name"),
    ({"metadata": {"labels": None}}, "spec.pod.template.metadata.labels: an object"),
    ({"metadata": {"labels": {"$patch": "replace"}}}, "spec.pod.template.metadata.labels.$patch"),
    ({"metadata": {"labels": {"auralink.io/bridge": "x"}}}, "auralink.io/bridge is the operator's"),
    ({"metadata": {"annotations": {"app.kubernetes.io/name": None}}}, "app.kubernetes.io/name is the operator's"),
    (spec(terminationGracePeriodSeconds=5), "terminationGracePeriodSeconds: the operator sets it: set spec.drain"),
    (spec(hostNetwork=True), "hostNetwork: the operator sets it: set spec.exposure.mode"),
    (spec(serviceAccountName="x"), "serviceAccountName"),
    (spec(automountServiceAccountToken=False), "automountServiceAccountToken"),
    (spec(restartPolicy="Never"), "restartPolicy"),
    (spec(containers=None), "spec.pod.template.spec.containers: a list is needed"),
    (spec(containers=["x"]), "spec.pod.template.spec.containers: its items are objects"),
    (spec(containers=[{"$patch": "replace"}]), "spec.pod.template.spec.containers: $patch: replace"),
    (ours(**{"$patch": "delete"}), f"{CONTAINER}.$patch"),
    (ours(image="x"), f"{CONTAINER}.image: the operator sets it: set spec.image"),
    (ours(resources=None), f"{CONTAINER}.resources: the operator sets it: set spec.resources"),
    (ours(command=["sh"]), f"{CONTAINER}.command"),
    (ours(lifecycle={}), f"{CONTAINER}.lifecycle"),
    (ours(readinessProbe=None), f"{CONTAINER}.readinessProbe"),
    (ours(env=None), f"{CONTAINER}.env: a list is needed"),
    (ours(env=[{"name": "POD_NAME", "value": "x"}]), f"{CONTAINER}.env[POD_NAME]"),
    (ours(env=[{"name": "POD_NAME", "$patch": "delete"}]), f"{CONTAINER}.env[POD_NAME]"),
    (ours(env=[{"$patch": "replace"}]), f"{CONTAINER}.env: $patch: replace"),
    (ours(ports=[{"containerPort": 8080}]), f"{CONTAINER}.ports[8080]"),
    (ours(volumeMounts=[{"mountPath": "/tmp", "name": "x"}]), f"{CONTAINER}.volumeMounts[/tmp]"),
    (ours(volumeMounts=[{"mountPath": "/etc/auralink/x", "name": "x"}]), "[/etc/auralink/x]"),
    (spec(volumes=[{"name": "tmp", "$patch": "delete"}]), "spec.pod.template.spec.volumes[tmp]"),
    (spec(volumes=[{"name": "secrets", "emptyDir": {}}]), "spec.pod.template.spec.volumes[secrets]"),
    (spec(volumes=None), "spec.pod.template.spec.volumes: a list is needed"),
    (spec(containers=[{"name": ["data-plane"]}]), "spec.pod.template.spec.containers[0].name: text or a number"),
    (spec(volumes=[{"name": "x"}, {"name": [1]}]), "spec.pod.template.spec.volumes[1].name: text or a number"),
    (ours(env=[{"name": {"a": "b"}}]), f"{CONTAINER}.env[0].name: text or a number"),
    (ours(ports=[{"containerPort": {}}]), f"{CONTAINER}.ports[0].containerPort: text or a number"),
    (ours(ports=[{"containerPort": True}]), f"{CONTAINER}.ports[0].containerPort: text or a number"),
    (ours(volumeMounts=[{"mountPath": ["/tmp"]}]), f"{CONTAINER}.volumeMounts[0].mountPath: text or a number"),
)


@pytest.mark.parametrize(("template", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_a_template_would_take_from_a_pod_is_refused_by_name(template: Any, said: str) -> None:
    (problem,) = problems_of(template)
    assert said in problem
    assert ": " in problem


VALUE = st.sampled_from(
    [None, True, 0, 8080, "data-plane", "tmp", "/tmp", "delete", "replace", [1], {"a": "b"}, [], {}]
)


def items(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What may stand where a list of objects with these fields belongs."""
    item = st.fixed_dictionaries(fields) | st.fixed_dictionaries({}, optional={**fields, "$patch": VALUE})
    return st.lists(item, max_size=3) | st.lists(VALUE, max_size=1) | VALUE


CONTAINERS = items(
    name=st.just("data-plane") | VALUE,
    env=items(name=VALUE),
    ports=items(containerPort=VALUE),
    volumeMounts=items(mountPath=VALUE),
)


@runs(max_examples=300)
@given(st.fixed_dictionaries({"containers": CONTAINERS}, optional={"volumes": items(name=VALUE)}) | VALUE)
def test_no_template_is_too_odd_to_be_looked_at(odd: Any) -> None:
    assert all(": " in problem for problem in reserved({"spec": odd}))


def test_everything_that_is_rendered_into_the_data_plane_is_protected() -> None:
    """A variable, port, mount, probe or volume that `manifests` comes to render must not be a template's to change."""
    bridge = copy.deepcopy(BASES["fixed"])
    bridge["metadata"] |= {"namespace": "ns", "uid": "u"}
    del bridge["spec"]["pod"]["template"]
    rendered = pod_template(parse_bridge(bridge), samples.SETTINGS)
    (container,) = rendered["spec"]["containers"]

    def refused(template: Any) -> bool:
        return any(reserved(template))

    for field, key in (("env", "name"), ("ports", "containerPort"), ("volumeMounts", "mountPath")):
        for item in container[field]:
            assert refused(ours(**{field: [{key: item[key]}]})), (field, item)
    for name in container.keys() - {"name", "env", "ports", "volumeMounts", "imagePullPolicy", "securityContext"}:
        assert refused(ours(**{name: None})), name
    for volume in rendered["spec"]["volumes"]:
        assert refused(spec(volumes=[{"name": volume["name"]}])), volume
    for key in rendered["metadata"]["labels"].keys() - bridge["spec"]["pod"]["labels"].keys():
        assert refused({"metadata": {"labels": {key: "x"}}}), key
