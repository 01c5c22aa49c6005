"""What the chart renders is what an API server takes; and kinds are upgraded with it and outlive it."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from auralink_dataplane.migrate import __main__ as migration
from auralink_dataplane.settings import Database, database_from_environment
from auralink_operator.__main__ import parse
from pydantic import SecretStr

from tests.integration.chart_bench import (
    CHART,
    PODS,
    RELEASE,
    SYSTEM,
    ToolError,
    a_server,
    add_monitoring_kinds,
    add_namespaces,
    apply,
    documents,
    get,
    helm,
    kubectl,
    of_kind,
    render,
    run,
    tool,
)
from tests.integration.kube_api import ROOT, ApiServer, Obj
from tests.integration.operator_bench import a_bridge

CRDS = ("auralinkbridges.auralink.io", "roompolicies.auralink.io")
SERVED = ("--api-versions", "monitoring.coreos.com/v1/ServiceMonitor,monitoring.coreos.com/v1/PrometheusRule")
MATRIX: dict[str, Obj] = {
    "as it is": {},
    "in two namespaces": {
        "operator": {"watchNamespaces": ["team-a", "team-b"]},
        "rbac": {"nodes": False, "aggregate": False},
    },
    "a shard": {
        "crds": {"install": False},
        "operator": {"shard": "eu-1", "inheritLabels": ["team", "example.com/cost-center"], "replicas": 1},
        "aiCore": {"enabled": False, "address": "[fd00::1]:50051"},
    },
    "monitored": {
        "operator": {"networkPolicy": {"monitoringNamespace": "monitoring"}},
        "monitoring": {
            "serviceMonitor": "Enabled",
            "alerts": "Enabled",
            "labels": {"release": "prometheus"},
            "adapterRule": True,
        },
    },
    "bare": {
        "operator": {"podDisruptionBudget": False, "networkPolicy": {"enabled": False}, "paused": True},
        "monitoring": {"serviceMonitor": "Disabled", "alerts": "Disabled"},
    },
    "placed": {
        "imagePullSecrets": [{"name": "registry"}],
        "operator": {
            "podAnnotations": {"example.com/note": "true"},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "infra", "operator": "Exists", "effect": "NoSchedule"}],
            "priorityClassName": "system-cluster-critical",
            "networkPolicy": {"apiServerPorts": [16443]},
        },
        "aiCore": {"replicas": 3, "workers": 4, "tlsSecretName": "ai-core-tls", "nodeSelector": {"gpu": "no"}},
    },
    "with records": {
        "imagePullSecrets": [{"name": "registry"}],
        "dataPlane": {"image": "registry.example/data-plane:1"},
        "database": {
            "address": "records.example.com:5432",
            "passwordSecret": {"name": "records"},
            "tls": True,
            "caSecret": {"name": "records-ca", "key": "root.pem"},
            "retentionDays": 30,
        },
    },
}


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with a_server() as found:
        add_namespaces(found, SYSTEM, "team-a", "team-b")
        add_monitoring_kinds(found)
        yield found


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
@pytest.mark.parametrize("served", [(), SERVED], ids=["alone", "beside the Prometheus operator"])
def test_an_api_server_takes_all_that_the_chart_renders(
    server: ApiServer, values: Obj, served: tuple[str, ...]
) -> None:
    """Without a warning either: pods fit the pod security standard `restricted`, and no field is unknown."""
    objects = render(values, *served)
    dry = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-")
    said = kubectl(server, *dry, stdin=yaml.safe_dump_all(objects))
    assert len(said.splitlines()) == len(objects)


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_every_object_says_where_it_is_and_to_which_release_it_belongs(values: Obj) -> None:
    cluster_wide = ("ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition")
    for obj in render(values, *SERVED):
        if obj["kind"] not in cluster_wide:
            assert obj["metadata"]["namespace"] in (SYSTEM, *values.get("operator", {}).get("watchNamespaces", ()))
        if obj["kind"] != "CustomResourceDefinition":
            assert obj["metadata"]["labels"]["app.kubernetes.io/instance"] == RELEASE


def test_two_releases_in_one_cluster_share_no_name() -> None:
    """But for the AI Core, which only one of them installs."""
    values = {"crds": {"install": False}, "aiCore": {"enabled": False, "address": "ai-core.other:50051"}}
    first, second = render(values, *SERVED), render(values, *SERVED, release="eu")
    names = [
        {(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in one} for one in (first, second)
    ]
    assert names[0].isdisjoint(names[1])


def test_the_longest_release_name_still_makes_valid_names(server: ApiServer) -> None:
    objects = render({"crds": {"install": False}}, release="r" * 53)
    kubectl(server, "apply", "--server-side", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(objects))


def test_with_namespaces_there_is_no_right_beyond_them() -> None:
    kinds = {obj["kind"] for obj in render(MATRIX["in two namespaces"])}
    assert "Role" in kinds
    assert "ClusterRole" not in kinds
    assert "ClusterRoleBinding" not in kinds


def test_two_replicas_have_a_budget_and_one_has_none() -> None:
    def budgets(replicas: int) -> list[Obj]:
        return of_kind(render({"operator": {"replicas": replicas}}), "PodDisruptionBudget")

    (budget,) = budgets(2)
    assert budget["spec"]["maxUnavailable"] == 1
    assert budgets(1) == []


def test_replicas_elect_a_leader_in_their_own_namespace() -> None:
    (operator,) = (o for o in of_kind(render({}), "Deployment") if o["metadata"]["name"] == PODS[0])
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    assert operator["spec"]["replicas"] == 2
    assert operator["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert {"--leader-elect=true", f"--lease-namespace={SYSTEM}", "--lease-name=auralink-operator"} <= set(
        container["args"]
    )
    assert container["resources"] == {"requests": {"cpu": "100m", "memory": "150Mi"}, "limits": {"memory": "300Mi"}}


@pytest.mark.parametrize(
    ("switch", "options", "there"),
    [
        ("Auto", (), False),
        ("Auto", SERVED, True),
        ("Enabled", (), True),
        ("Disabled", SERVED, False),
    ],
)
def test_monitoring_comes_where_the_cluster_knows_it_or_by_force(
    switch: str, options: tuple[str, ...], there: bool
) -> None:
    objects = render({"monitoring": {"serviceMonitor": switch, "alerts": switch}}, *options)
    assert len(of_kind(objects, "ServiceMonitor")) == (2 if there else 0)
    assert len(of_kind(objects, "PrometheusRule")) == (1 if there else 0)


def test_alerts_of_a_release_watch_that_release() -> None:
    values = {"monitoring": {"alerts": "Enabled", "labels": {"release": "prometheus"}}}
    (rules,) = of_kind(render(values, release="eu"), "PrometheusRule")
    text = yaml.safe_dump(rules["spec"])
    assert set(re.findall(r'job="([^"]*)"', text)) == {"eu-operator"}
    assert rules["metadata"]["labels"]["release"] == "prometheus"
    (plain,) = documents(CHART / "files/alerts.yaml")
    assert [group["name"] for group in rules["spec"]["groups"]][1:] == [g["name"] for g in plain["groups"]][1:]


def test_monitors_of_bridges_get_the_labels_that_the_chart_s_own_get() -> None:
    labels = {"release": "prometheus", "example.com/team": "media"}
    (operator,) = (
        o for o in of_kind(render({"monitoring": {"labels": labels}}), "Deployment") if o["metadata"]["name"] == PODS[0]
    )
    arguments = operator["spec"]["template"]["spec"]["containers"][0]["args"]
    assert dict(parse(arguments, {}).monitor_labels) == labels


def jobs(values: Obj) -> dict[str, Obj]:
    """The migrations, by the hook they run at."""
    return {job["metadata"]["annotations"]["helm.sh/hook"]: job for job in of_kind(render(values), "Job")}


def test_the_schema_is_migrated_before_and_after_the_rest_where_there_is_a_database() -> None:
    assert jobs({}) == {}
    found = jobs(MATRIX["with records"])
    assert set(found) == {"pre-install,pre-upgrade", "post-install,post-upgrade"}
    for hook, job in found.items():
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        (rule,) = job["spec"]["podFailurePolicy"]["rules"]
        assert rule["onExitCodes"]["values"] == [migration.EX_DATAERR, migration.EX_CONFIG]
        assert container["image"] == "registry.example/data-plane:1"
        assert container["command"] == ["python", "-m", "auralink_dataplane.migrate"]
        chosen = migration.parser().parse_args(container["args"])
        assert (chosen.phase, chosen.retention_days) == (hook[: hook.index("-")], 30)
        env = {one["name"]: one.get("value", "secret") for one in container["env"]}
        database = database_from_environment(env)
        assert database == Database(
            "records.example.com:5432",
            "auralink",
            "auralink",
            SecretStr("secret"),
            tls=True,
            ca_file="/etc/auralink/database/root.pem",
        )
        (volume,) = pod["volumes"]
        assert volume["secret"]["items"] == [{"key": "root.pem", "path": "root.pem"}]
        assert container["volumeMounts"][0]["mountPath"] == str(Path(database.ca_file or "").parent)
        (password,) = (one for one in container["env"] if one["name"] == "DB_PASSWORD")
        assert password["valueFrom"]["secretKeyRef"] == {"name": "records", "key": "password"}


REFUSED: dict[str, tuple[Obj, str]] = {
    "a misspelt value": ({"operator": {"replica": 2}}, "replica"),
    "a misspelt value far down": ({"operator": {"networkPolicy": {"enable": True}}}, "enable"),
    "a wrong type": ({"operator": {"replicas": "two"}}, "replicas"),
    "a level that does not exist": ({"operator": {"logLevel": "debug"}}, "logLevel"),
    "no namespace name": ({"operator": {"watchNamespaces": ["Team A"]}}, "watchNamespaces"),
    "a shard that is no label": ({"operator": {"shard": "EU"}}, "shard"),
    "a label that the operator sets": ({"operator": {"inheritLabels": ["app.kubernetes.io/name"]}}, "inheritLabels"),
    "more than all rollouts": ({"operator": {"maxRollouts": 0}}, "maxRollouts"),
    "a quantity that is none": ({"operator": {"resources": {"limits": {"memory": "300 MB"}}}}, "memory"),
    "an AI Core without an address": ({"aiCore": {"enabled": False}}, "aiCore.address"),
    "an address without a port": ({"aiCore": {"address": "ai-core"}}, "address"),
    "a label of a monitor that the operator sets": (
        {"monitoring": {"labels": {"auralink.io/bridge": "b"}}},
        "auralink.io/bridge",
    ),
    "a label that is none": ({"monitoring": {"labels": {"release": "a b"}}}, "release"),
    "a database without a port": ({"database": {"address": "records"}}, "address"),
    "a retention that is none": ({"database": {"retentionDays": -1}}, "retentionDays"),
    "a switch that is none": ({"monitoring": {"alerts": True}}, "alerts"),
}


@pytest.mark.parametrize(("values", "named"), REFUSED.values(), ids=REFUSED)
def test_values_that_cannot_work_are_refused_by_name(values: Obj, named: str) -> None:
    with pytest.raises(ToolError, match=re.escape(named)):
        render(values)


def test_plain_manifests_are_what_helm_would_install(server: ApiServer, tmp_path: Path) -> None:
    """`make manifests`: kinds first, then all else, without what only Helm can run."""
    command = [str(ROOT / "hack/manifests.sh"), "--to", str(tmp_path), "--set", "operator.image=registry.example/op:1"]
    run(command)
    crds, rest = (list(documents(tmp_path / f"{name}.yaml")) for name in ("crds", "install"))
    assert sorted(crd["metadata"]["name"] for crd in crds) == list(CRDS)
    assert rest[0]["kind"] == "Namespace"
    helms = [obj for obj in render({}) if "helm.sh/hook" not in (obj["metadata"].get("annotations") or {})]
    known = {(obj["kind"], obj["metadata"]["name"]) for obj in helms}
    assert {(obj["kind"], obj["metadata"]["name"]) for obj in [*crds, *rest[1:]]} == known
    assert "registry.example/op:1" in (tmp_path / "install.yaml").read_text()
    for name in ("crds.yaml", "install.yaml"):
        kubectl(server, "apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", str(tmp_path / name))


def older(folder: Path) -> Path:
    """The chart as it would have been before bridges had a log level."""
    chart = folder / "auralink"
    shutil.copytree(CHART, chart)
    (crd,) = (found for found in render({}) if found["metadata"]["name"] == CRDS[0])
    del crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["logLevel"]
    (chart / "templates/crds" / f"{CRDS[0]}.yaml").write_text(yaml.safe_dump(crd))
    return chart


def fields(server: ApiServer) -> set[str]:
    schema = get(server, "crd", CRDS[0])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return set(schema["properties"]["spec"]["properties"])


def test_an_upgrade_brings_new_fields_and_the_end_of_the_release_keeps_kinds_and_bridges(
    server: ApiServer, tmp_path: Path
) -> None:
    helm(server, "install", RELEASE, str(older(tmp_path)))
    kubectl(server, "wait", "--for=condition=Established", *(f"crd/{name}" for name in CRDS), "--timeout=20s")
    assert "logLevel" not in fields(server)
    old = a_bridge("old")
    apply(server, {**old, "metadata": {"name": "old", "namespace": "team-a"}})
    uid = get(server, "auralinkbridge", "old", "-n", "team-a")["metadata"]["uid"]

    helm(server, "upgrade", RELEASE, str(CHART), "--reset-then-reuse-values")
    assert "logLevel" in fields(server)
    # What was stored before is served with the new field's default, and takes the new field.
    found = get(server, "auralinkbridge", "old", "-n", "team-a")
    assert found["metadata"]["uid"] == uid
    assert found["spec"]["logLevel"] == "Info"
    kubectl(
        server, "patch", "auralinkbridge", "old", "-n", "team-a", "--type=merge", "-p", '{"spec":{"logLevel":"Debug"}}'
    )

    helm(server, "uninstall", RELEASE)
    assert get(server, "auralinkbridge", "old", "-n", "team-a")["metadata"]["uid"] == uid
    with pytest.raises(ToolError, match="not found"):
        get(server, "deployment", PODS[0], "-n", SYSTEM)

    helm(server, "install", RELEASE, str(CHART))  # the kinds that stayed are taken over again
    helm(server, "uninstall", RELEASE)


def test_a_release_without_kinds_leaves_those_of_another_alone(server: ApiServer) -> None:
    kubectl(server, "apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    before = {name: get(server, "crd", name)["metadata"]["resourceVersion"] for name in CRDS}
    helm(server, "install", "eu", str(CHART), "--set", "crds.install=false,operator.shard=eu")
    helm(server, "uninstall", "eu")
    assert {name: get(server, "crd", name)["metadata"]["resourceVersion"] for name in CRDS} == before


def test_the_chart_passes_helms_own_linter() -> None:
    assert "0 chart(s) failed" in run([tool("helm"), "lint", "--strict", str(CHART)])
