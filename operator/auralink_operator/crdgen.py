"""Writes the CRDs from `models`: `python -m auralink_operator.crdgen [--check]`, run by `make generate` and by CI.

Kubernetes wants a structural schema, pydantic writes JSON schema. The difference is small: no references, no null, no
titles, defaults of objects written out. What a structural schema can say and JSON schema cannot (list types, CEL) is
already in the models.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from auralink_operator.models import GROUP, MAX_POLICIES, VERSION, BridgeSpec, Model, PolicySpec, rule
from auralink_operator.status import DEGRADING

Schema = dict[str, Any]

_DROPPED = ("title", "propertyNames", "additionalProperties")
_TEXT63: Schema = {"type": "string", "maxLength": 63}
_NAME: Schema = {"type": "string", "maxLength": 253}
_COUNT: Schema = {"type": "integer", "format": "int64", "minimum": 0}
_TIME: Schema = {"type": "string", "maxLength": 64}


def structural(model: type[Model]) -> Schema:
    """The model as a structural schema."""
    raw = model.model_json_schema(by_alias=True)
    found = _convert(raw, raw.get("$defs", {}))
    found.pop("default", None)
    return found


def _convert(node: Schema, defs: dict[str, Schema]) -> Schema:
    if "$ref" in node:
        target = defs[node["$ref"].rsplit("/", 1)[1]]
        return _joined(_convert(target, defs), _convert({k: v for k, v in node.items() if k != "$ref"}, defs))
    if "anyOf" in node and "x-kubernetes-int-or-string" not in node:
        (only,) = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
        return _convert({**only, **{k: v for k, v in node.items() if k not in ("anyOf", "default")}}, defs)
    found = {name: value for name, value in node.items() if name not in (*_DROPPED, "$defs")}
    if isinstance(node.get("additionalProperties"), dict):
        found["additionalProperties"] = _convert(node["additionalProperties"], defs)
    if "properties" in node:
        found["properties"] = {name: _convert(value, defs) for name, value in node["properties"].items()}
        found.pop("description", None) if "\n" in node.get("description", "") else None
    if "items" in node:
        found["items"] = _convert(node["items"], defs)
    if "default" in node:
        found["default"] = _without_none(node["default"])
        if node["default"] is None:
            del found["default"]
    return found


def _joined(target: Schema, more: Schema) -> Schema:
    """A referenced schema with what its user adds; rules of both hold, the user's description wins."""
    rules = [*target.get("x-kubernetes-validations", ()), *more.get("x-kubernetes-validations", ())]
    joined = {**target, **more}
    return {**joined, "x-kubernetes-validations": rules} if rules else joined


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(item) for name, item in value.items() if item is not None}
    return value


def _list_map(item: Schema, limit: int, *keys: str) -> Schema:
    return {
        "type": "array",
        "maxItems": limit,
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": list(keys),
    }


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    found: Schema = {"type": "object", "properties": properties}
    return {**found, "required": list(required)} if required else found


def _names(limit: int, length: int) -> Schema:
    return {
        "type": "array",
        "maxItems": limit,
        "items": {"type": "string", "maxLength": length},
        "x-kubernetes-list-type": "set",
    }


_CONDITIONS = _list_map(
    _object(
        ("type", "status", "reason", "message", "lastTransitionTime"),
        type={"type": "string", "maxLength": 316},
        status={"type": "string", "enum": ["True", "False", "Unknown"]},
        reason={"type": "string", "maxLength": 1024},
        message={"type": "string", "maxLength": 32768},
        lastTransitionTime={"type": "string", "format": "date-time"},
        observedGeneration={"type": "integer", "format": "int64"},
    ),
    16,
    "type",
)

_PROBLEMS = ["CredentialsMissing", *DEGRADING]

_POD = _object(
    ("name", "uid"),
    name=_NAME,
    uid=_TEXT63,
    node=_NAME,
    phase={"type": "string", "enum": ["Starting", "Serving", "Draining"]},
    configGeneration={"type": "integer", "format": "int64"},
    rooms=_COUNT,
    sessions=_COUNT,
    savedPercent={"type": "integer"},
    version=_TEXT63,
    since=_TIME,
    message={"type": "string", "maxLength": 256},
    problems={**_names(12, 63), "items": {"type": "string", "enum": _PROBLEMS}},
)

# kstatus calls an object without our first status InProgress only if it is older than its generation.
_OBSERVED: Schema = {"default": {"observedGeneration": -1}}

BRIDGE_STATUS: Schema = {
    **_object(
        observedGeneration={"type": "integer", "format": "int64"},
        conditions=_CONDITIONS,
        replicas={"type": "integer", "format": "int32"},
        readyReplicas={"type": "integer", "format": "int32"},
        drainingReplicas={"type": "integer", "format": "int32"},
        selector={"type": "string", "maxLength": 512},
        version={"type": "string", "maxLength": 253},
        lastHandledReconcileAt={"type": "string", "maxLength": 253},
        rooms=_COUNT,
        sessions=_COUNT,
        savedPercent={"type": "integer"},
        config=_object(
            desiredGeneration={"type": "integer", "format": "int64"},
            ackedGeneration={
                "type": "integer",
                "format": "int64",
                "description": "the least that a ready, serving pod has acknowledged",
            },
            hash=_TEXT63,
        ),
        appliedPolicies=_list_map(
            _object(
                ("name",),
                name=_NAME,
                priority={"type": "integer"},
                observedGeneration={"type": "integer", "format": "int64"},
                overridden={**_names(16, 317), "description": "fields that another policy won: 'field: winner'"},
            ),
            MAX_POLICIES,
            "name",
        ),
        pods={**_list_map(_POD, 256, "name"), "description": "what each pod reports about itself"},
    ),
    **_OBSERVED,
}

POLICY_STATUS: Schema = {
    **_object(
        observedGeneration={"type": "integer", "format": "int64"},
        conditions=_CONDITIONS,
        matchedBridgeCount={"type": "integer", "format": "int32"},
        matchedBridges=_list_map(_object(("name",), name=_NAME), 256, "name"),
    ),
    **_OBSERVED,
}


def _column(name: str, path: str, of: str = "string", **more: Any) -> Schema:
    return {"name": name, "type": of, "jsonPath": path, **more}


def _condition(of: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{of}")].{field}'


def _crd(kind: str, plural: str, short: str, version: Schema) -> Schema:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "conversion": {"strategy": "None"},
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["auralink"],
            },
            "versions": [{"name": VERSION, "served": True, "storage": True, **version}],
        },
    }


def _root(description: str, spec: Schema, status: Schema, *rules: Schema) -> Schema:
    root: Schema = {
        "type": "object",
        "description": description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }
    return {**root, "x-kubernetes-validations": list(rules)} if rules else root


def crds() -> dict[str, Schema]:
    """Both CRDs by file name."""
    bridge = _crd(
        "AuraLinkBridge",
        "auralinkbridges",
        "aub",
        {
            "schema": {
                "openAPIV3Schema": _root(
                    "A bridge: rooms whose legs exchange media, and the pods that carry it.",
                    structural(BridgeSpec),
                    BRIDGE_STATUS,
                    rule(
                        "self.metadata.name.size() <= 36 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                        "metadata.name must have up to 36 lower-case letters, digits and '-', and begin with a letter"
                        " (names of children are made from it): choose such a name",
                    ),
                )
            },
            "subresources": {
                "status": {},
                "scale": {
                    "specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.selector",
                },
            },
            "selectableFields": [{"jsonPath": ".spec.region"}, {"jsonPath": ".spec.suspend"}],
            "additionalPrinterColumns": [
                _column("Ready", _condition("Ready", "status")),
                _column("Pods", ".status.readyReplicas", "integer"),
                _column("Rooms", ".status.rooms", "integer"),
                _column("Sessions", ".status.sessions", "integer"),
                _column("Saved%", ".status.savedPercent", "integer"),
                _column("Reason", _condition("Ready", "reason"), priority=1),
                _column("Config", ".status.config.ackedGeneration", "integer", priority=1),
                _column("Mode", ".spec.compression.mode", priority=1),
                _column("Version", ".status.version", priority=1),
                _column("Message", _condition("Ready", "message"), priority=1),
                _column("Age", ".metadata.creationTimestamp", "date"),
            ],
        },
    )
    policy = _crd(
        "RoomPolicy",
        "roompolicies",
        "rpol",
        {
            "schema": {
                "openAPIV3Schema": _root(
                    "What rooms of the bridges in this namespace get, by room name and label.",
                    structural(PolicySpec),
                    POLICY_STATUS,
                )
            },
            "subresources": {"status": {}},
            "additionalPrinterColumns": [
                _column("Ready", _condition("Ready", "status")),
                _column("Priority", ".spec.priority", "integer"),
                _column("Bridges", ".status.matchedBridgeCount", "integer"),
                _column("Reason", _condition("Ready", "reason"), priority=1),
                _column("Message", _condition("Ready", "message"), priority=1),
                _column("Age", ".metadata.creationTimestamp", "date"),
            ],
        },
    )
    return {f"{crd['metadata']['name']}.yaml": crd for crd in (bridge, policy)}


class _Dumper(yaml.SafeDumper):
    """Without anchors: the same sub-schema is written again, as a reader of a CRD expects."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the name is the library's
        return True


_HEAD = "# Written by `make generate` from operator/auralink_operator/models.py. Do not edit.\n"


def files(root: Path) -> dict[Path, str]:
    """Every generated file with its content: plain CRDs for kubectl, and the chart's templates."""
    found: dict[Path, str] = {}
    for name, crd in crds().items():
        found[root / "crds" / name] = _HEAD + yaml.dump(crd, Dumper=_Dumper, sort_keys=False, width=120)
        kept = {**crd, "metadata": {**crd["metadata"], "annotations": {"helm.sh/resource-policy": "keep"}}}
        text = yaml.dump(kept, Dumper=_Dumper, sort_keys=False, width=120)
        found[root / "charts/auralink/templates/crds" / name] = (
            f"{_HEAD}{{{{- if .Values.crds.install }}}}\n{text}{{{{- end }}}}\n"
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m auralink_operator.crdgen", description="Writes the CRDs.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not what it should be")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[2], help="folder of the repository")
    arguments = parser.parse_args()
    stale = []
    for path, text in files(arguments.root).items():
        if path.exists() and path.read_text() == text:
            continue
        stale.append(path)
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if arguments.check and stale:
        print("not what the models say, run make generate: " + ", ".join(map(str, stale)), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
