"""AuraLinkBridge: its rooms, what it talks to, and how its pods are run."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from auralink_operator.models.rooms import Room
from auralink_operator.models.schema import (
    NOT_YET,
    SET,
    Annotations,
    Cidr,
    Ip,
    LatencyBudget,
    Meta,
    Mode,
    Model,
    Name253,
    ObjectLabels,
    Percent,
    PodAnnotations,
    PodLabels,
    Quality,
    Saving,
    SecretName,
    Text63,
    cel,
    list_map,
    rule,
)
from auralink_operator.models.services import AICore, Api, Communication, Dashboard, Endpoint, Postgres, Redis


class LogLevel(StrEnum):
    DEBUG = "Debug"
    INFO = "Info"
    WARNING = "Warning"
    ERROR = "Error"


class Compression(Model):
    mode: Annotated[
        Mode,
        Field(description="Auto compresses streams where it pays, Always every stream, Disabled none"),
    ] = Mode.AUTO
    target_savings_percent: Annotated[Saving, Field(description="share of bytes to save")] = 40
    min_savings_percent: Annotated[
        Saving, Field(description="below this saving Auto sends the native stream; lowered to the target if above it")
    ] = 15
    quality_level: Annotated[Quality, Field(description="10 keeps the most quality, 1 saves the most")] = 7
    quality_floor: Annotated[
        Percent,
        Field(
            description="caps the predicted loss at 100 minus this, in points of VMAF; qualityLevel by itself allows"
            " 0.5 (level 10) to 12 (level 1)"
        ),
    ] = 80
    latency_budget_ms: Annotated[
        LatencyBudget,
        Field(
            description="what the AI Core may take for a frame; Auto leaves a stream native whose codec and size take"
            " longer there"
        ),
    ] = 10
    model: Annotated[Text63, Field(description="compression model; empty: the AI Core's default")] = ""


class Driver(StrEnum):
    HPA = "HPA"
    OPERATOR = "Operator"


class Autoscaling(Model):
    model_config = ConfigDict(
        json_schema_extra=cel(
            rule(
                "self.minReplicas <= self.maxReplicas",
                "minReplicas (2 where it is not set) is above maxReplicas: lower it, or raise maxReplicas",
                ".minReplicas",
            )
        )
    )
    driver: Annotated[
        Driver,
        Field(
            description="who scales: HPA a HorizontalPodAutoscaler (needs metrics APIs),"
            " Operator the operator itself, from status.pods"
        ),
    ] = Driver.HPA
    min_replicas: Annotated[int, Field(ge=1, le=100, description="pods that stay without any session")] = 2
    max_replicas: Annotated[int, Field(ge=1, le=100, description="pods at most")]
    target_sessions_per_pod: Annotated[
        int, Field(ge=1, le=10000, description="sessions that a pod should carry on average")
    ] = 50
    target_cpu_percent: Annotated[
        int,
        Field(
            ge=10,
            le=95,
            alias="targetCPUPercent",
            description="share of its CPU request that a pod should use on average; driver HPA only",
        ),
    ] = 60
    scale_down_stabilization_seconds: Annotated[
        int, Field(ge=300, le=3600, description="how long the need must be lower before a pod goes")
    ] = 300


class ExposureMode(StrEnum):
    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"
    HOST_PORT = "HostPort"
    HOST_NETWORK = "HostNetwork"


class NodeAddressType(StrEnum):
    EXTERNAL_IP = "ExternalIP"
    INTERNAL_IP = "InternalIP"


class MappedAddress(Model):
    discovered: Annotated[Ip, Field(description="IP address as the cluster shows it")]
    public: Annotated[Ip, Field(description="IP address under which peers reach it")]


class Exposure(Model):
    mode: Annotated[
        ExposureMode,
        Field(
            description="how RTP peers reach listenPorts: by a Service (ClusterIP, NodePort, LoadBalancer) or on the"
            " Node of the room's pod (HostPort, HostNetwork; one pod per Node)"
        ),
    ] = ExposureMode.CLUSTER_IP
    node_address_type: Annotated[
        NodeAddressType, Field(description="address of a Node that peers use; NodePort, HostPort and HostNetwork only")
    ] = NodeAddressType.EXTERNAL_IP
    load_balancer_class: (
        Annotated[Name253, Field(description="loadBalancerClass of the Service; absent: the cluster's default")] | None
    ) = None
    service_annotations: Annotated[
        Annotations,
        Field(description="annotations of the Service that carries media, e.g. for a cloud's load balancer"),
    ] = {}
    address_map: Annotated[
        tuple[MappedAddress, ...],
        Field(
            max_length=100,
            json_schema_extra=list_map("discovered"),
            description="public addresses in place of those that the cluster shows, e.g. behind NAT",
        ),
    ] = ()


class DrainStrategy(StrEnum):
    HANDOVER = "Handover"
    WAIT = "Wait"


class Drain(Model):
    strategy: Annotated[
        DrainStrategy,
        Field(description="Handover: a leaving pod gives its rooms to others; Wait: it keeps them until they end"),
    ] = DrainStrategy.HANDOVER
    timeout_seconds: Annotated[int, Field(ge=0, le=86400, description="how long a leaving pod waits for sessions")] = (
        3600
    )
    propagation_seconds: Annotated[int, Field(ge=0, le=60, description="how long a leaving pod still takes media")] = 5
    on_delete: Annotated[
        bool,
        Field(
            description="a deleted bridge stays, by a finalizer, until its pods have drained; false: its sessions end"
        ),
    ] = False


class Network(Model):
    enabled: Annotated[bool, Field(description="makes a NetworkPolicy for the pods")] = True
    media_from: Annotated[
        tuple[Cidr, ...],
        Field(max_length=32, json_schema_extra=SET, description="who may send to listenPorts; empty: nobody"),
    ] = ("0.0.0.0/0", "::/0")
    monitoring_namespace: Annotated[
        Text63, Field(description="namespace that may read metrics; empty: every one of the cluster")
    ] = ""
    webhooks_from: (
        Annotated[
            tuple[Cidr, ...],
            Field(max_length=32, json_schema_extra=SET, description="who may send webhooks; absent: like mediaFrom"),
        ]
        | None
    ) = None


class ServiceMonitorMode(StrEnum):
    AUTO = "Auto"
    DISABLED = "Disabled"


class Monitoring(Model):
    service_monitor: Annotated[
        ServiceMonitorMode, Field(description="Auto: a ServiceMonitor where the cluster knows that kind")
    ] = ServiceMonitorMode.AUTO


_QUANTITY = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"
Quantities = Annotated[
    dict[str, int | Annotated[str, Field(pattern=_QUANTITY)]],
    Field(
        max_length=16,
        json_schema_extra={
            "additionalProperties": {
                "anyOf": [{"type": "integer"}, {"type": "string"}],
                "pattern": _QUANTITY,
                "x-kubernetes-int-or-string": True,
            }
        },
    ),
]


class Resources(Model):
    requests: Annotated[Quantities, Field(description="what a pod is scheduled by, e.g. cpu and memory")] = {
        "cpu": "500m",
        "memory": "512Mi",
    }
    limits: Annotated[Quantities, Field(description="what a pod may use at most")] = {"memory": "1Gi"}


class PullSecret(Model):
    name: Annotated[SecretName, Field(description="name of a Secret in the bridge's namespace")]


class PodSettings(Model):
    labels: Annotated[PodLabels, Field(description="more labels of pods")] = {}
    annotations: Annotated[PodAnnotations, Field(description="more annotations of pods")] = {}
    node_selector: Annotated[ObjectLabels, Field(description="labels of Nodes that pods may run on")] = {}
    priority_class_name: Annotated[Name253, Field(description="PriorityClass of pods")] | None = None
    image_pull_secrets: Annotated[
        tuple[PullSecret, ...],
        Field(max_length=8, json_schema_extra=list_map("name"), description="Secrets that images are pulled with"),
    ] = ()
    template: (
        Annotated[
            dict[str, Any],
            Field(
                json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
                description="a part of a PodTemplateSpec, merged onto the rendered one (strategic merge): tolerations,"
                " affinity, sidecars, volumes; what the operator itself needs there is refused",
            ),
        ]
        | None
    ) = None


# Pods share endpoint rooms through Redis; the operator assigns plain-RTP rooms.
_ONE_POD = "(has(self.autoscaling) ? self.autoscaling.maxReplicas : (has(self.replicas) ? self.replicas : 1)) <= 1"


class BridgeSpec(Model):
    model_config = ConfigDict(
        json_schema_extra=cel(
            rule(
                "!(has(self.replicas) && has(self.autoscaling))",
                "replicas and autoscaling exclude each other: remove one of them",
                ".replicas",
            ),
            rule(
                f"{_ONE_POD} || has(self.redis) || self.rooms.all(r, r.legs.all(l, has(l.rtp)))",
                "several pods share rooms of endpoints through Redis: set redis, or have one pod"
                " (replicas or autoscaling.maxReplicas 1)",
            ),
            rule(
                "self.rooms.all(r, r.legs.all(l, !has(l.endpoint) || self.endpoints.exists(e, e.name == l.endpoint)))",
                "a leg names an endpoint that is not in spec.endpoints: add it there, or correct the leg's endpoint",
                ".rooms",
            ),
        )
    )
    suspend: Annotated[bool, Field(description="look and report, change nothing")] = False
    region: Annotated[Text63, Field(description="region of the bridge, in metrics and records; selectable")] = ""
    environment: Annotated[Text63, Field(description="environment of the bridge, in metrics and records")] = ""
    log_level: Annotated[LogLevel, Field(description="least level that pods log")] = LogLevel.INFO
    endpoints: Annotated[
        tuple[Endpoint, ...],
        Field(
            max_length=8,
            json_schema_extra=list_map("name"),
            description=f"conference servers that legs lead to {NOT_YET}",
        ),
    ] = ()
    rooms: Annotated[
        tuple[Room, ...],
        Field(max_length=128, json_schema_extra=list_map("name"), description="rooms that the bridge carries"),
    ] = ()
    ai_core: Annotated[AICore, Field(description="where video is recompressed, and what happens if that fails")] = (
        AICore()
    )
    compression: Annotated[
        Compression, Field(description="how video is recompressed where no RoomPolicy says otherwise")
    ] = Compression()
    redis: (
        Annotated[
            Redis, Field(description=f"shared state of pods {NOT_YET}; needed by several pods with rooms of endpoints")
        ]
        | None
    ) = None
    postgres: Annotated[Postgres, Field(description=f"where records are kept {NOT_YET}; absent: none are")] | None = (
        None
    )
    dashboard: Annotated[Dashboard, Field(description=f"where figures are sent {NOT_YET}; absent: nowhere")] | None = (
        None
    )
    communication: (
        Annotated[Communication, Field(description=f"where AuraIDs are looked up {NOT_YET}; absent: they are not")]
        | None
    ) = None
    api: Annotated[Api, Field(description="the pods' own HTTP API")] = Api()
    replicas: (
        Annotated[
            int,
            Field(ge=0, le=100, description="pods; absent: 1 (set it before kubectl scale); not with autoscaling"),
        ]
        | None
    ) = None
    autoscaling: (
        Annotated[Autoscaling, Field(description="scales by live sessions; absent: replicas is fixed")] | None
    ) = None
    exposure: Annotated[Exposure, Field(description="how RTP peers reach the bridge from outside")] = Exposure()
    drain: Annotated[Drain, Field(description="how a pod leaves")] = Drain()
    network_policy: Annotated[Network, Field(description="who may talk to pods, and they to whom")] = Network()
    monitoring: Annotated[Monitoring, Field(description="how pods are scraped")] = Monitoring()
    pod_disruption_budget: Annotated[
        bool, Field(description="from two sure pods on: at most one is evicted at a time")
    ] = True
    image: Annotated[str, Field(max_length=512, description="data-plane image; empty: the operator's")] = ""
    resources: Annotated[Resources, Field(description="what a pod asks for and may use")] = Resources()
    pod: Annotated[PodSettings, Field(description="what else pods have")] = PodSettings()

    def wanted_replicas(self) -> int:
        return 1 if self.replicas is None else self.replicas


@dataclass(frozen=True, slots=True)
class Bridge:
    meta: Meta
    spec: BridgeSpec
