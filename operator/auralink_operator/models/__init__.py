"""Both kinds as typed classes: `crdgen` writes the CRDs from them, `reconcile` parses what the API server hands out.

Bounds are on everything, so that the API server can price each CEL rule. Objects with defaulted fields default to
themselves written out, because a rule over a literal `{}` default gets the CRD refused.

`schema` holds what the others are made of, `rooms` and `services` parts of `bridge`; `policy` is the other kind,
`observed` what is seen around a bridge, `checks` parses and finds what no schema can refuse.
"""

from auralink_operator.models.bridge import (
    Autoscaling,
    Bridge,
    BridgeSpec,
    DrainStrategy,
    Driver,
    ExposureMode,
    NodeAddressType,
    ServiceMonitorMode,
)
from auralink_operator.models.checks import InvalidSpecError, check, meta_of, parse_bridge, parse_policy
from auralink_operator.models.observed import (
    MAX_GENERATION,
    MAX_POD_NAME,
    MAX_PODS,
    PHASES,
    POD_FIGURES,
    POD_NAME,
    PROBLEMS,
    Capabilities,
    PodView,
    PublicAddress,
    Scene,
    is_pod_name,
    nobody,
    pod_views,
)
from auralink_operator.models.policy import (
    EFFECTS,
    LEAVES,
    MAX_POLICIES,
    Compiled,
    CompiledPolicy,
    Conflict,
    PolicySpec,
    RoomPolicy,
)
from auralink_operator.models.reserved import is_merge_key
from auralink_operator.models.rooms import Direction, Leg, Medium, Room, Rtp
from auralink_operator.models.schema import API_VERSION, GROUP, VERSION, Meta, Model, SecretKey, rule
from auralink_operator.models.services import EndpointType

__all__ = [
    "API_VERSION",
    "EFFECTS",
    "GROUP",
    "LEAVES",
    "MAX_GENERATION",
    "MAX_PODS",
    "MAX_POD_NAME",
    "MAX_POLICIES",
    "PHASES",
    "POD_FIGURES",
    "POD_NAME",
    "PROBLEMS",
    "VERSION",
    "Autoscaling",
    "Bridge",
    "BridgeSpec",
    "Capabilities",
    "Compiled",
    "CompiledPolicy",
    "Conflict",
    "Direction",
    "DrainStrategy",
    "Driver",
    "EndpointType",
    "ExposureMode",
    "InvalidSpecError",
    "Leg",
    "Medium",
    "Meta",
    "Model",
    "NodeAddressType",
    "PodView",
    "PolicySpec",
    "PublicAddress",
    "Room",
    "RoomPolicy",
    "Rtp",
    "Scene",
    "SecretKey",
    "ServiceMonitorMode",
    "check",
    "is_merge_key",
    "is_pod_name",
    "meta_of",
    "nobody",
    "parse_bridge",
    "parse_policy",
    "pod_views",
    "rule",
]
