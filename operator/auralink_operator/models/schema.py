"""What both kinds' schemas are made of: CEL rules, list types, and the bounded types that fields share."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP, VERSION = "auralink.io", "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

NOT_YET = "(not in effect in this version)"
"""In the description of what pods check and then do nothing with."""
CLOSED = "(in this version the room then stays closed)"
"""Of what pods refuse rather than serve by half."""

JsonSchema = dict[str, Any]


def rule(expression: str, message: str, field: str = "") -> JsonSchema:
    """One CEL rule; the message names the field and the remedy, because it is all that a user sees."""
    written = {"rule": expression, "message": message, "reason": "FieldValueInvalid"}
    return {**written, "fieldPath": field} if field else written


def cel(*rules: JsonSchema, **more: Any) -> JsonSchema:
    return {"x-kubernetes-validations": list(rules), **more}


def list_map(*keys: str) -> JsonSchema:
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


SET: JsonSchema = {"x-kubernetes-list-type": "set"}


class Model(BaseModel):
    """Names are camelCase outside and snake_case inside; values never change once parsed."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    def written_out(self) -> dict[str, Any]:
        """The value as in a resource, defaults included."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


@dataclass(frozen=True, slots=True)
class Meta:
    """What an object says about itself beside its spec."""

    name: str
    namespace: str
    uid: str
    generation: int
    created: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    status: Mapping[str, Any]


Text63 = Annotated[str, Field(max_length=63)]
Name63 = Annotated[str, Field(min_length=1, max_length=63)]
Name253 = Annotated[str, Field(min_length=1, max_length=253)]
_DOMAIN = r"[A-Za-z0-9]([-A-Za-z0-9_]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9_]*[A-Za-z0-9])?)*"
Domain = Annotated[Name253, Field(pattern=f"^{_DOMAIN}$")]
SecretName = Annotated[Name253, Field(pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")]
Label = Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
RoomName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
Percent = Annotated[int, Field(ge=0, le=100)]
Saving = Annotated[int, Field(ge=0, le=90)]
Quality = Annotated[int, Field(ge=1, le=10)]
LatencyBudget = Annotated[int, Field(ge=1, le=1000)]
Address = Annotated[
    str,
    Field(
        max_length=260,
        pattern=rf"^(\[[0-9a-fA-F:.]+\]|{_DOMAIN}):[0-9]{{1,5}}$",
        description="host:port; an IPv6 host stands in brackets",
        json_schema_extra=cel(
            # Beside the pattern, whose message is the pattern.
            rule(
                "self.matches('^.+:[0-9]{1,5}$') && int(self.substring(self.lastIndexOf(':') + 1)) >= 1"
                " && int(self.substring(self.lastIndexOf(':') + 1)) <= 65535",
                "an address is host:port with a port from 1 to 65535; an IPv6 host stands in brackets: write it so",
            )
        ),
    ),
]
_URL_REST = r"://[^\s/?#@]+([/?#]\S*)?$"
HttpUrl = Annotated[str, Field(max_length=512, pattern=f"^https?{_URL_REST}")]
SocketUrl = Annotated[str, Field(max_length=512, pattern=f"^wss?{_URL_REST}")]
HttpOrSocketUrl = Annotated[str, Field(max_length=512, pattern=f"^(https?|wss?){_URL_REST}")]
Cidr = Annotated[
    str,
    Field(
        max_length=49,
        json_schema_extra=cel(
            rule("isCIDR(self)", "an address range is written as 10.0.0.0/8 or 2001:db8::/32: write it so")
        ),
    ),
]
Ip = Annotated[
    str,
    Field(
        max_length=45,
        json_schema_extra=cel(rule("isIP(self)", "an IP address without port or range is needed: write it so")),
    ),
]

# Keys of labels of rooms are ours; those of Kubernetes objects may carry a prefix of 253 characters and a slash.
_SHORT_KEYS = rule("self.all(k, k.size() <= 63)", "keys have up to 63 characters: shorten it")
_KUBERNETES_KEYS = rule(
    "self.all(k, !format.qualifiedName().validate(k).hasValue())",
    "keys have up to 63 letters, digits, '-', '_' and '.', after a DNS name and a slash if you like: correct it",
)
_NOT_RESERVED = rule(
    "self.all(k, !k.startsWith('auralink.io/') && !k.startsWith('app.kubernetes.io/'))",
    "keys under auralink.io/ and app.kubernetes.io/ are the operator's: choose another prefix",
)
_LABEL_VALUE = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
_ANNOTATION_VALUE = Annotated[str, Field(max_length=1024)]

Labels = Annotated[dict[str, Text63], Field(max_length=16, json_schema_extra=cel(_SHORT_KEYS))]
ObjectLabels = Annotated[dict[str, _LABEL_VALUE], Field(max_length=16, json_schema_extra=cel(_KUBERNETES_KEYS))]
PodLabels = Annotated[
    dict[str, _LABEL_VALUE], Field(max_length=16, json_schema_extra=cel(_KUBERNETES_KEYS, _NOT_RESERVED))
]
PodAnnotations = Annotated[
    dict[str, _ANNOTATION_VALUE], Field(max_length=16, json_schema_extra=cel(_KUBERNETES_KEYS, _NOT_RESERVED))
]
Annotations = Annotated[dict[str, _ANNOTATION_VALUE], Field(max_length=16, json_schema_extra=cel(_KUBERNETES_KEYS))]


class VideoCodec(StrEnum):
    H264 = "H264"
    VP8 = "VP8"
    VP9 = "VP9"
    H265 = "H265"
    AV1 = "AV1"


class Codec(StrEnum):
    H264 = "H264"
    VP8 = "VP8"
    VP9 = "VP9"
    H265 = "H265"
    AV1 = "AV1"
    OPUS = "Opus"


class Mode(StrEnum):
    DISABLED = "Disabled"
    AUTO = "Auto"
    ALWAYS = "Always"


class SecretKey(Model):
    name: Annotated[SecretName, Field(description="name of a Secret in the bridge's namespace")]
    key: Annotated[Name253, Field(pattern=r"^[-._a-zA-Z0-9]+$", description="key in that Secret")]
