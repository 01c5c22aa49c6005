"""The schemas of both statuses. Nothing parses them, so they are written as schemas and not as models.

Every number has bounds, so that no pod can write one which spoils what is worked out of it, and so the bridge's status.
"""

from auralink_operator.crdgen.structural import Schema
from auralink_operator.models import (
    MAX_GENERATION,
    MAX_POD_NAME,
    MAX_PODS,
    MAX_POLICIES,
    PHASES,
    POD_FIGURES,
    POD_NAME,
    PROBLEMS,
)


def _list_map(item: Schema, limit: int, *keys: str, of: str) -> Schema:
    return {
        "type": "array",
        "description": of,
        "maxItems": limit,
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": list(keys),
    }


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    found: Schema = {"type": "object", "properties": properties}
    return {**found, "required": list(required)} if required else found


def _set(limit: int, item: Schema, of: str) -> Schema:
    return {"type": "array", "description": of, "maxItems": limit, "items": item, "x-kubernetes-list-type": "set"}


def _text(limit: int, of: str) -> Schema:
    return {"type": "string", "maxLength": limit, "description": of}


def _enum(*values: str, of: str) -> Schema:
    return {"type": "string", "enum": list(values), "description": of}


def _integer(of: str, maximum: int, minimum: int = 0) -> Schema:
    return {"type": "integer", "format": "int64", "description": of, "minimum": minimum, "maximum": maximum}


def _generation(of: str, minimum: int = 0) -> Schema:
    return _integer(of, MAX_GENERATION, minimum)


def _count(of: str) -> Schema:
    """Of pods or bridges, as Kubernetes counts them itself."""
    return {"type": "integer", "format": "int32", "description": of, "minimum": 0, "maximum": 2**31 - 1}


def _percent(of: str) -> Schema:
    return {"type": "integer", "description": of, "minimum": 0, "maximum": POD_FIGURES["savedPercent"]}


_CONDITIONS = _list_map(
    _object(
        ("type", "status", "reason", "message", "lastTransitionTime"),
        type=_text(316, "what is said"),
        status=_enum("True", "False", "Unknown", of="whether it is so"),
        reason=_text(1024, "why, in one word"),
        message=_text(32768, "why, and what to do"),
        lastTransitionTime={"type": "string", "format": "date-time", "description": "when status changed last"},
        observedGeneration=_generation("generation of the resource that it is about"),
    ),
    16,
    "type",
    of="what is so and what is not; Ready is always there",
)

_POD = _object(
    ("name", "uid"),
    name={**_text(MAX_POD_NAME, "name of the pod"), "minLength": 1, "pattern": POD_NAME},
    uid=_text(63, "uid of the pod: an entry of another pod of that name does not count"),
    node=_text(253, "Node that it runs on"),
    phase=_enum(*PHASES, of="Draining: it takes no new rooms and is about to leave"),
    configGeneration=_generation("generation of the configuration that it has applied"),
    rooms=_integer("rooms that it carries, rounded down: 0 1 2 5 10 20 50 ..", POD_FIGURES["rooms"]),
    sessions=_integer("sessions that it carries, rounded down: 0 1 2 5 10 20 50 ..", POD_FIGURES["sessions"]),
    savedPercent=_percent("share of video bytes that it saves, in steps of 5; absent: nothing is compressed"),
    version=_text(63, "version of the data plane"),
    since=_text(64, "when it has begun"),
    message=_text(256, "what is wrong, in its words"),
    problems=_set(12, {"type": "string", "enum": list(PROBLEMS)}, "what is wrong"),
)

_ENDPOINT = _object(
    ("name",),
    name=_text(253, "<room>/<leg>/<medium>"),
    pod=_text(253, "pod that owns the room"),
    ip=_text(45, "IP address for peers"),
    hostname=_text(253, "host name for peers, where there is no IP address"),
    port={"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535, "description": "port for peers"},
    protocol=_text(16, "transport, UDP"),
)

_APPLIED = _object(
    ("name",),
    name=_text(253, "name of the RoomPolicy"),
    priority={"type": "integer", "description": "its priority", "minimum": -1000, "maximum": 1000},
    observedGeneration=_generation("generation of it that pods get"),
    overridden=_set(16, {"type": "string", "maxLength": 317}, "fields that another policy won: 'field: winner'"),
)

# kstatus calls an object without our first status InProgress only if it is older than its generation.
_OBSERVED: Schema = {"default": {"observedGeneration": -1}}
_OBSERVED_GENERATION = _generation("generation of the resource that this status is about; -1 before the first", -1)

BRIDGE_STATUS: Schema = {
    **_object(
        observedGeneration=_OBSERVED_GENERATION,
        conditions=_CONDITIONS,
        replicas=_count("pods that there are"),
        readyReplicas=_count("pods that are ready"),
        drainingReplicas=_count("pods that wait for their sessions to end"),
        selector=_text(512, "label selector of the pods, for the scale subresource"),
        version=_text(253, "versions of the data plane that run"),
        lastHandledReconcileAt=_text(253, "value of reconcile.fluxcd.io/requestedAt that was handled last"),
        rooms=_integer("sum over pods", MAX_PODS * POD_FIGURES["rooms"]),
        sessions=_integer("sum over pods", MAX_PODS * POD_FIGURES["sessions"]),
        savedPercent=_percent("share of video bytes saved, mean over pods by sessions; absent: nothing is compressed"),
        config={
            **_object(
                desiredGeneration=_generation("generation of the configuration that pods are to apply"),
                ackedGeneration=_generation("the least that a ready, serving pod has applied"),
                hash=_text(63, "hash of that configuration"),
            ),
            "description": "the configuration that pods apply while they run",
        },
        endpoints=_list_map(_ENDPOINT, 256, "name", of="where RTP peers reach each medium of each room that listens"),
        appliedPolicies=_list_map(_APPLIED, MAX_POLICIES, "name", of="RoomPolicies of this bridge, in merge order"),
        pods=_list_map(_POD, MAX_PODS, "name", of="what each pod reports about itself"),
    ),
    **_OBSERVED,
    "description": "what the operator and the pods say of the bridge",
}

_MATCHED = _object(
    ("name",),
    name=_text(253, "name of the AuraLinkBridge"),
    conflicts=_set(
        16,
        {"type": "string", "maxLength": 317},
        "fields that a policy of the same priority won here against the other's will: 'field: winner'",
    ),
)

POLICY_STATUS: Schema = {
    **_object(
        observedGeneration=_OBSERVED_GENERATION,
        conditions=_CONDITIONS,
        matchedBridgeCount=_count("bridges that it selects"),
        matchedBridges=_list_map(_MATCHED, 256, "name", of="bridges that it selects, the first 256 by name"),
    ),
    **_OBSERVED,
    "description": "what the operator says of the policy",
}
