"""The chart on a real API server: rendered, installed by Helm, and the rights of the operator that it installs."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.kube_api import ROOT, ApiServer, Obj, find_tool, start, stop

CHART = ROOT / "charts/auralink"
RELEASE, SYSTEM = "auralink", "auralink-system"
PODS = ("auralink-operator", "auralink-ai-core")
# The Prometheus operator's kinds as far as the chart fills them; stand-ins, strict in what they name.
_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_RULE = {
    "type": "object",
    "required": ["alert", "expr"],
    "properties": {
        "alert": {"type": "string", "pattern": "^AuraLink[A-Za-z]+$"},
        "expr": {"type": "string", "minLength": 1},
        "for": {"type": "string", "pattern": "^[0-9]+(s|m|h)$"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
_GROUP = {
    "type": "object",
    "required": ["name", "rules"],
    "properties": {"name": {"type": "string"}, "rules": {"type": "array", "items": _RULE}},
}
_SPECS: dict[str, Obj] = {
    "ServiceMonitor": {
        "type": "object",
        "required": ["selector", "endpoints"],
        "properties": {"selector": _OPEN, "endpoints": {"type": "array", "minItems": 1, "items": _OPEN}},
    },
    "PrometheusRule": {
        "type": "object",
        "required": ["groups"],
        "properties": {"groups": {"type": "array", "minItems": 1, "items": _GROUP}},
    },
}


class ToolError(Exception):
    """What helm or kubectl said when it refused."""


class Unique(yaml.SafeLoader):
    """A key that stands twice in a mapping is an error, as it is to kustomize."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        if len(names) != len(set(names)):
            raise yaml.constructor.ConstructorError(None, None, f"a key stands twice in {names}", node.start_mark)
        return super().construct_mapping(node, deep)


@cache
def tool(name: str) -> str:
    """helm or kubectl, built if it is missing."""
    done = subprocess.run([ROOT / "hack/tools.sh", "path", name], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def run(command: Sequence[str], stdin: str | None = None, environment: dict[str, str] | None = None) -> str:
    env = {**os.environ, "HELM_CACHE_HOME": "/nowhere", **(environment or {})}
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=120, env=env)
    if done.returncode != 0:
        raise ToolError(done.stderr.strip() or done.stdout.strip())
    return done.stdout


def render(values: Obj, *options: str, release: str = RELEASE) -> list[Obj]:
    """What `helm template` makes of values, hooks included."""
    command = [tool("helm"), "template", release, str(CHART), "--namespace", SYSTEM, "--kube-version", "1.32.0"]
    return list(parsed(run([*command, "--values", "-", *options], yaml.safe_dump(values))))


def parsed(text: str) -> Iterator[Obj]:
    """Documents that say something."""
    yield from filter(None, yaml.load_all(text, Unique))


def documents(path: Path) -> Iterator[Obj]:
    return parsed(path.read_text())


def of_kind(objects: Sequence[Obj], kind: str) -> list[Obj]:
    return [obj for obj in objects if obj["kind"] == kind]


@contextmanager
def a_server(*flags: str) -> Iterator[ApiServer]:
    """One of its own: releases and kinds of the chart belong to the whole cluster."""
    missing = [name for name in ("kube-apiserver", "etcd") if find_tool(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not built: make cluster-tools, or set AURALINK_TOOLS to their folder")
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="auralink-chart-", dir=memory) as name:
        server, processes = start(Path(name), flags)
        try:
            yield server
        finally:
            stop(processes)


def kubectl(server: ApiServer, *arguments: str, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
    command = [tool("kubectl"), "--kubeconfig", str(kubeconfig or server.kubeconfig), *arguments]
    return run(command, stdin, {"HOME": str(server.folder)})


def helm(server: ApiServer, *arguments: str) -> str:
    command = [tool("helm"), "--kubeconfig", str(server.kubeconfig), "--namespace", SYSTEM, *arguments]
    return run(command, None, {"HOME": str(server.folder)})


def apply(server: ApiServer, *objects: Obj) -> None:
    kubectl(server, "apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(objects))


def get(server: ApiServer, *arguments: str) -> Obj:
    found: Obj = json.loads(kubectl(server, "get", *arguments, "-o", "json"))
    return found


def add_namespaces(server: ApiServer, *names: str) -> None:
    """Under the strictest pod security standard, and with a warning for a template that breaks it."""
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    for name in names:
        apply(server, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})


def add_monitoring_kinds(server: ApiServer) -> None:
    for kind, spec in _SPECS.items():
        plural = f"{kind.lower()}s"
        schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
        body = {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        }
        name = f"{plural}.monitoring.coreos.com"
        crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name}}
        apply(server, {**crd, "spec": body})
        kubectl(server, "wait", "--for=condition=Established", f"crd/{name}", "--timeout=20s")
