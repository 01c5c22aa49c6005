"""The two CRDs: names, columns, subresources and the rules on the whole object."""

from typing import Any

from auralink_operator.crdgen.status import BRIDGE_STATUS, POLICY_STATUS
from auralink_operator.crdgen.structural import Schema, structural
from auralink_operator.models import GROUP, VERSION, BridgeSpec, PolicySpec, rule


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
            "spec": {**spec, "description": "what is wanted"},
            "status": status,
        },
    }
    return {**root, "x-kubernetes-validations": list(rules)} if rules else root


_SCALE: Schema = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}
_BRIDGE_NAME = rule(
    "self.metadata.name.size() <= 36 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "metadata.name must have up to 36 lower-case letters, digits and '-', and begin with a letter"
    " (names of children are made from it): choose such a name",
)


def _bridge() -> Schema:
    root = _root(
        "A bridge: rooms whose legs exchange media, and the pods that carry it.",
        structural(BridgeSpec),
        BRIDGE_STATUS,
        _BRIDGE_NAME,
    )
    return {
        "schema": {"openAPIV3Schema": root},
        "subresources": {"status": {}, "scale": _SCALE},
        "selectableFields": [{"jsonPath": ".spec.region"}, {"jsonPath": ".spec.suspend"}],
        "additionalPrinterColumns": [
            _column("Ready", _condition("Ready", "status")),
            _column("Pods", ".status.readyReplicas", "integer"),
            _column("Rooms", ".status.rooms", "integer"),
            _column("Sessions", ".status.sessions", "integer"),
            _column("Saved%", ".status.savedPercent", "integer"),
            _column("Reason", _condition("Ready", "reason"), priority=1),
            _column("Draining", ".status.drainingReplicas", "integer", priority=1),
            _column("Config", ".status.config.ackedGeneration", "integer", priority=1),
            _column("Mode", ".spec.compression.mode", priority=1),
            _column("Version", ".status.version", priority=1),
            _column("Message", _condition("Ready", "message"), priority=1),
            _column("Age", ".metadata.creationTimestamp", "date"),
        ],
    }


def _policy() -> Schema:
    root = _root(
        "What rooms of the bridges in this namespace get, by room name and label.",
        structural(PolicySpec),
        POLICY_STATUS,
    )
    return {
        "schema": {"openAPIV3Schema": root},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            _column("Ready", _condition("Ready", "status")),
            _column("Priority", ".spec.priority", "integer"),
            _column("Bridges", ".status.matchedBridgeCount", "integer"),
            _column("Conflicted", _condition("Conflicted", "status")),
            _column("Reason", _condition("Ready", "reason"), priority=1),
            _column("Message", _condition("Ready", "message"), priority=1),
            _column("Age", ".metadata.creationTimestamp", "date"),
        ],
    }


def crds() -> dict[str, Schema]:
    """Both CRDs by file name."""
    bridge = _crd("AuraLinkBridge", "auralinkbridges", "aub", _bridge())
    policy = _crd("RoomPolicy", "roompolicies", "rpol", _policy())
    return {f"{crd['metadata']['name']}.yaml": crd for crd in (bridge, policy)}
