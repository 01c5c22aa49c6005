"""ExposureReady: whether peers know where to send."""

from auralink_operator.models import Bridge, ExposureMode, Scene
from auralink_operator.status.conditions import Condition, Problem, compact
from auralink_operator.status.outcome import Outcome

HOST_MODES = (ExposureMode.HOST_PORT, ExposureMode.HOST_NETWORK)
MAX_ENDPOINTS = 256


def exposure_ready(bridge: Bridge, outcome: Outcome, stuck: Problem | None) -> Condition:
    """`stuck`: what keeps pods from being created; in the host modes that is often the exposure itself."""
    mode = bridge.spec.exposure.mode
    if mode is ExposureMode.CLUSTER_IP:
        return Condition("ExposureReady", "True", "NotRequired", "mode ClusterIP: peers are inside the cluster")
    if not any(room.listen_ports() for room in bridge.spec.rooms):
        return Condition("ExposureReady", "True", "NotRequired", "no room has a listenPort")
    if stuck and stuck.reason == "PodSecurityForbidden" and mode in HOST_MODES:
        return Condition("ExposureReady", "False", stuck.reason, stuck.message)
    if outcome.exposure:
        return Condition("ExposureReady", "False", outcome.exposure.reason, outcome.exposure.message)
    return Condition("ExposureReady", "True", "AddressKnown", "status.endpoints has the address of every room")


def endpoints(scene: Scene) -> list[dict[str, object]]:
    """`status.endpoints`: one entry per medium that a room receives."""
    listed = sorted(scene.addresses.items())[:MAX_ENDPOINTS]
    return [
        compact(
            {
                "name": name,
                "pod": address.pod,
                "ip": address.ip,
                "hostname": address.hostname,
                "port": address.port,
                "protocol": "UDP",
            }
        )
        for name, address in listed
    ]
