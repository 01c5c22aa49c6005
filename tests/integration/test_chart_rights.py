"""The operator as the chart's service account: it does its whole job, uses every right it has, and has no other."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest
from auralink_operator.__main__ import Operator, parse

from hack.audit import events
from tests.integration.chart_bench import (
    CHART,
    RELEASE,
    SYSTEM,
    ToolError,
    a_server,
    add_monitoring_kinds,
    add_namespaces,
    get,
    helm,
    kubectl,
)
from tests.integration.kube_api import ROOT, ApiServer, Kube, Obj, eventually, free_ports
from tests.integration.operator_bench import Bench, a_bridge, a_policy

NAME, TEAM, OTHER = "auralink-operator", "team", "other"
ACCOUNT = f"system:serviceaccount:{SYSTEM}:{NAME}"
# Not on by default, but in some distributions: whoever blocks an owner's deletion must have a right on it.
ENFORCED = "--enable-admission-plugins=OwnerReferencesPermissionEnforcement"
# What the whole job below need not use, and what each is for.
UNUSED = {
    ("auralinkbridges/finalizers", "update"): "asked for by an admission plugin, on no request of its own: below",
    ("roompolicies", "get"): "only where the watch lags by seconds",
    ("endpointslices", "get"): "only where the watch lags by seconds",
}
NOT_ALLOWED = (
    f"get secrets -n {TEAM}",
    f"list secrets -n {SYSTEM}",
    f"list configmaps -n {OTHER}",
    f"list configmaps -n {SYSTEM}",
    f"list auralinkbridges.auralink.io -n {OTHER}",
    f"create auralinkbridges.auralink.io -n {TEAM}",
    f"delete auralinkbridges.auralink.io -n {TEAM}",
    f"patch roompolicies.auralink.io -n {TEAM}",
    f"delete deployments.apps -n {TEAM}",
    f"create pods -n {TEAM}",
    f"delete pods -n {TEAM}",
    f"create pods --subresource=exec -n {TEAM}",
    f"create serviceaccounts --subresource=token -n {TEAM}",
    f"escalate roles.rbac.authorization.k8s.io -n {TEAM}",
    f"bind roles.rbac.authorization.k8s.io -n {TEAM}",
    f"update leases.coordination.k8s.io/other -n {SYSTEM}",
    f"create leases.coordination.k8s.io -n {TEAM}",
    "list nodes",
    "patch nodes",
    "list namespaces",
    "impersonate users",
)


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with a_server(ENFORCED) as found:
        add_namespaces(found, SYSTEM, TEAM, OTHER)
        add_monitoring_kinds(found)
        kubectl(found, "apply", "--server-side", "-f", str(ROOT / "crds"))
        kubectl(found, "wait", "--for=condition=Established", "crd", "--all", "--timeout=20s")
        values = f"crds.install=false,operator.watchNamespaces={{{TEAM}}}"
        helm(found, "install", RELEASE, str(CHART), "--set", values)
        token = kubectl(found, "create", "token", NAME, "-n", SYSTEM, "--duration=1h").strip()
        found.write_kubeconfig("operator.kubeconfig", token)
        yield found


def granted(server: ApiServer) -> set[tuple[str, str]]:
    """(resource, verb) of everything that the chart's roles hold; a resource has one group in them."""
    roles = (
        ("role", NAME, "-n", TEAM),
        ("role", f"{NAME}-lease", "-n", SYSTEM),
        ("clusterrole", f"{SYSTEM}-{NAME}-nodes"),
    )
    return {
        (resource, verb)
        for role in roles
        for rule in get(server, *role)["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@asynccontextmanager
async def operating(server: ApiServer, monkeypatch: pytest.MonkeyPatch, identity: str) -> AsyncIterator[Operator]:
    """With the flags that the chart gives to its pods."""
    monkeypatch.setenv("KUBECONFIG", str(server.operator_kubeconfig))
    deployment = get(server, "deployment", NAME, "-n", SYSTEM)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    settings = replace(
        parse(container["args"], {}), kubeconfig=str(server.operator_kubeconfig), health_port=free_ports(1)[0]
    )
    operator = Operator(settings, identity)
    task = asyncio.create_task(operator.run())

    async def full() -> bool:
        if task.done():
            task.result()
        return operator.full

    try:
        await eventually(full, "the operator's index is full")
        yield operator
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def administrator(server: ApiServer) -> AsyncIterator[Kube]:
    async with aiohttp.ClientSession() as session:
        yield Kube(session, f"https://127.0.0.1:{server.port}", TEAM)


async def add_node(kube: Kube, name: str, address: str) -> None:
    await kube.raw("POST", "/api/v1/nodes", {"metadata": {"name": name}})
    status = {"status": {"addresses": [{"type": "ExternalIP", "address": address}]}}
    await kube.raw("PATCH", f"/api/v1/nodes/{name}/status", status, "application/merge-patch+json")


def children(server: ApiServer) -> set[str]:
    """Names of all objects of the bridge, such as `service/auralink-b`."""
    kinds = (
        "serviceaccounts,roles,rolebindings,configmaps,services,endpointslices,deployments,poddisruptionbudgets,"
        "horizontalpodautoscalers,networkpolicies,servicemonitors"
    )
    return set(kubectl(server, "get", kinds, "-n", TEAM, "-l", "auralink.io/bridge=b", "-o", "name").split())


async def until_gone(server: ApiServer, *parts: str) -> None:
    async def gone() -> bool:
        return not [name for name in children(server) if any(part in name for part in parts)]

    await eventually(gone, f"no {' or '.join(parts)} is left")


async def add_leftovers(at: Bench) -> None:
    """What an operator of another version made of this bridge, in kinds of which each bridge has just one."""
    bridge = await at.bridge()
    old = await at.child("roles", "auralink-b")
    meta = {
        "name": "auralink-b-old",
        "labels": old["metadata"]["labels"],
        "ownerReferences": old["metadata"]["ownerReferences"],
    }
    assert meta["ownerReferences"][0]["uid"] == bridge["metadata"]["uid"]
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "auralink-b-old"}
    bodies: tuple[tuple[str, Obj], ...] = (
        ("serviceaccounts", {}),
        ("configmaps", {}),
        ("roles", {"rules": []}),
        ("rolebindings", {"roleRef": reference, "subjects": []}),
    )
    for plural, body in bodies:
        await at.kube.create(plural, {"metadata": dict(meta), **body})


async def whole_job(at: Bench) -> None:
    """A bridge with every kind of child comes, changes, is repaired, loses children and a pod, drains and goes."""
    kube = at.kube
    await add_node(kube, "node-1", "203.0.113.1")
    await kube.create("roompolicies", a_policy("saving", targetSavingsPercent=30))
    await kube.create(
        "auralinkbridges",
        a_bridge(autoscaling={"maxReplicas": 4}, exposure={"mode": "NodePort"}, drain={"onDelete": True}),
    )
    await at.child("deployments", "auralink-b")
    for number, name in enumerate(("p1", "p2"), 1):
        pod = await kube.run_pod("b", name, f"10.1.0.{number}")
        await kube.report("b", pod, await at.generation(), sessions=5 * number)
    await kube.roll_out("b")
    await at.until("Ready", "True", "Succeeded")
    await at.until("Ready", "True", "Succeeded", "saving", "roompolicies")

    async def marked() -> bool:
        found = await kube.get("pods", "p2")
        return "controller.kubernetes.io/pod-deletion-cost" in ((found or {})["metadata"].get("annotations") or {})

    await eventually(marked, "the busier pod costs more")
    await kube.delete("services", "auralink-b")
    await at.child("services", "auralink-b")
    await add_leftovers(at)
    await until_gone(at.server, "auralink-b-old")
    less = {
        "autoscaling": None,
        "replicas": 1,
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": False,
        "monitoring": {"serviceMonitor": "Disabled"},
        "exposure": {"mode": "HostPort"},
    }
    await kube.merge("auralinkbridges", "b", {"spec": less})
    gone = ("horizontalpodautoscaler", "networkpolicy", "poddisruptionbudget", "servicemonitor", "-rtp")
    await until_gone(at.server, *gone)
    await kube.remove_pod("p2")

    async def forgotten() -> bool:
        return [pod["name"] for pod in (await at.bridge())["status"].get("pods", ())] == ["p1"]

    await eventually(forgotten, "the dead pod's entry is gone")
    await kube.delete("auralinkbridges", "b")

    async def lowered() -> bool:
        return bool((await at.child("deployments", "auralink-b"))["spec"]["replicas"] == 0)

    await eventually(lowered, "the pods are told to drain")
    await kube.remove_pod("p1")
    await kube.roll_out("b")

    async def finished() -> bool:
        return await kube.get("auralinkbridges", "b") is None

    await eventually(finished, "the bridge has drained and is gone", 30)


async def test_every_right_of_the_chart_is_used_and_none_is_missing(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with administrator(server) as kube, operating(server, monkeypatch, "first") as first:
        async with operating(server, monkeypatch, "second") as second:
            leader = await eventually(lambda: leads(first, second), "one leads")
            assert leader is first
            await whole_job(Bench(kube, server, first))
        assert not second.leading.is_set(), "the standby watched the Lease and went first"
    asked = [event for event in events(server.audit_log, having=NAME) if event.user == ACCOUNT and event.resource]
    refused = {(event.verb, event.what, event.name) for event in asked if event.code == 403}
    assert refused == set()
    used = {(event.what, event.verb) for event in asked}
    # An apply of what is not there is authorised as a creation too.
    used |= {(event.what, "create") for event in asked if event.verb == "patch" and event.code == 201}
    assert used <= granted(server)
    assert granted(server) - used <= set(UNUSED)


async def leads(*operators: Operator) -> Operator | None:
    return next((one for one in operators if one.leading.is_set()), None)


@pytest.mark.parametrize("what", NOT_ALLOWED)
def test_the_operator_may_not(server: ApiServer, what: str) -> None:
    review = ("auth", "can-i", *what.split())
    with pytest.raises(ToolError):
        kubectl(server, *review, kubeconfig=server.operator_kubeconfig)
    assert kubectl(server, *review).strip() == "yes", "the administrator may: the question is spelt right"


def test_the_operator_cannot_give_away_what_it_has_not(server: ApiServer) -> None:
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "more", "namespace": TEAM},
    }
    with pytest.raises(ToolError, match="attempting to grant RBAC permissions not currently held"):
        kubectl(
            server,
            *("create", "--validate=false", "-f", "-"),
            stdin=json.dumps({**role, "rules": [rule]}),
            kubeconfig=server.operator_kubeconfig,
        )


def test_without_its_right_on_finalizers_children_would_be_refused(server: ApiServer) -> None:
    owner = {
        "apiVersion": "auralink.io/v1alpha1",
        "kind": "AuraLinkBridge",
        "name": "b",
        "uid": "1",
        "controller": True,
    }
    meta = {"name": "probe", "namespace": TEAM, "ownerReferences": [{**owner, "blockOwnerDeletion": True}]}
    probe = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})

    def make() -> None:
        create = ("create", "--dry-run=server", "--validate=false", "-f", "-")
        kubectl(server, *create, stdin=probe, kubeconfig=server.operator_kubeconfig)

    def make_often() -> None:  # the authorizer learns of a change by a watch
        for _ in range(20):
            make()

    make()
    role = get(server, "role", NAME, "-n", TEAM)
    fewer = [rule for rule in role["rules"] if "auralinkbridges/finalizers" not in rule["resources"]]

    def hold(rules: list[Obj]) -> None:
        patch = json.dumps([{"op": "replace", "path": "/rules", "value": rules}])
        kubectl(server, "patch", "role", NAME, "-n", TEAM, "--type=json", "-p", patch)

    hold(fewer)
    try:
        with pytest.raises(ToolError, match="cannot set blockOwnerDeletion"):
            make_often()
    finally:
        hold(role["rules"])


def test_beside_its_roles_it_has_only_what_everybody_has(server: ApiServer) -> None:
    """As the API server sees it: in its bridges' namespace, and in its own."""
    everybody = {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"}
    for namespace in (TEAM, SYSTEM):
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        }
        said = json.loads(
            kubectl(
                server,
                *("create", "--validate=false", "-o", "json", "-f", "-"),
                stdin=json.dumps(review),
                kubeconfig=server.operator_kubeconfig,
            )
        )
        rights = {
            (resource, verb)
            for rule in said["status"]["resourceRules"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
            if resource not in everybody
        }
        assert rights <= granted(server)
        assert ("leases", "update") in rights or namespace == TEAM


def test_who_may_edit_a_namespace_may_edit_its_bridges_but_not_their_status(server: ApiServer) -> None:
    view, edit = (get(server, "clusterrole", f"{SYSTEM}-{RELEASE}-{name}") for name in ("view", "edit"))
    assert view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    assert edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"
    assert {verb for rule in view["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    resources = {resource for rule in edit["rules"] for resource in rule["resources"]}
    assert resources == {"auralinkbridges", "roompolicies", "auralinkbridges/scale"}
