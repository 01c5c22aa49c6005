"""ExposureReady: whether peers know where to send."""

from auralink_operator.exposure import required, without_address
from auralink_operator.models import Bridge, ExposureMode, Scene
from auralink_operator.status.conditions import Condition, Problem, named
from auralink_operator.status.outcome import Outcome

_HOST_MODES = (ExposureMode.HOST_PORT, ExposureMode.HOST_NETWORK)


def exposure_ready(bridge: Bridge, scene: Scene, outcome: Outcome, stuck: Problem | None) -> Condition:
    """`stuck`: what keeps pods from being created; in the host modes that is often the exposure itself."""
    mode = bridge.spec.exposure.mode
    if not required(bridge):
        inside = mode is ExposureMode.CLUSTER_IP
        why = "mode ClusterIP: peers are inside the cluster" if inside else "no room has a listenPort"
        return Condition("ExposureReady", "True", "NotRequired", why)
    if stuck and stuck.reason == "PodSecurityForbidden" and mode in _HOST_MODES:
        return Condition("ExposureReady", "False", stuck.reason, stuck.message)
    if outcome.exposure:
        return Condition("ExposureReady", "False", outcome.exposure.reason, outcome.exposure.message)
    if missing := without_address(bridge, scene.addresses):
        return Condition("ExposureReady", "False", "AddressPending", f"not known yet: {named(missing)}")
    return Condition("ExposureReady", "True", "AddressKnown", "status.endpoints has the address of every room")
