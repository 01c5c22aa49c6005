"""What keeps a bridge's pods running: the Deployment."""

from collections.abc import Mapping
from json import loads

from auralink_operator.index import Key, Obj, Observed
from auralink_operator.manifests.labels import annotations_of, canonical, child_name, new_child, selector, short_hash
from auralink_operator.manifests.network import HOST_MODES
from auralink_operator.manifests.template import pod_template, template_inputs
from auralink_operator.models import Bridge, Scene
from auralink_operator.rollouts import BY_DEFAULT, was_well
from auralink_operator.settings import Settings

# What tells a change of the operator's own defaults, which may have to wait for its turn, from a user's change.
TEMPLATE_HASH = "auralink.io/template-hash"
TEMPLATE_INPUTS = "auralink.io/template-inputs"
# The template as it was written: what is there may be another by somebody's hand, and has the server's defaults in it.
TEMPLATE = "auralink.io/template"
TEMPLATE_LIMIT_BYTES = 131_072  # all annotations together may have 262,144
_NOTES = (TEMPLATE_HASH, TEMPLATE_INPUTS, TEMPLATE, BY_DEFAULT)


def deployment(bridge: Bridge, observed: Observed, scene: Scene, settings: Settings) -> Obj:
    """Always a Deployment: a StatefulSet cannot choose which pod goes when there are to be fewer.

    `replicas` stands in it unless the HorizontalPodAutoscaler has taken the field over. Dropping it any earlier would
    set it to 1, because nobody else owns it then.
    """
    name = child_name(bridge.meta.name)
    template, notes = _template(bridge, observed, scene, settings)
    # A new pod is there before an old one leaves, so that a rollout takes nobody's place away; but where a pod has its
    # Node for itself, the new one can only come after.
    one_per_node = bridge.spec.exposure.mode in HOST_MODES
    rolling = {"maxUnavailable": 1, "maxSurge": 0} if one_per_node else {"maxUnavailable": 0, "maxSurge": 1}
    found = new_child(
        bridge,
        settings,
        "Deployment",
        name,
        spec={
            **({} if scene.replicas is None else {"replicas": scene.replicas}),
            "progressDeadlineSeconds": 300,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": selector(bridge.meta.name)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            "template": template,
        },
    )
    found["metadata"]["annotations"] |= notes
    return found


def _template(bridge: Bridge, observed: Observed, scene: Scene, settings: Settings) -> tuple[Obj, dict[str, str]]:
    """The template with the notes on what it is made of; while a rollout waits, the live one with its own notes."""
    live = observed.children.get(Key("Deployment", bridge.meta.namespace, child_name(bridge.meta.name)))
    if scene.held_template is not None:
        noted = annotations_of(live)
        return scene.held_template, {name: noted[name] for name in _NOTES if name in noted}
    template = pod_template(bridge, settings)
    inputs = short_hash(template_inputs(bridge, settings))
    notes = {TEMPLATE_HASH: short_hash(template), TEMPLATE_INPUTS: inputs}
    if len((text := canonical(template)).encode()) <= TEMPLATE_LIMIT_BYTES:
        notes[TEMPLATE] = text
    return template, notes | ({BY_DEFAULT: "true"} if live is not None and _by_default(live, notes) else {})


def noted_template(live: Obj) -> Obj | None:
    """What was written last of a Deployment's pods, whatever somebody has made of it since; None if no note tells, or
    none that can be trusted."""
    notes = annotations_of(live)
    try:
        template: Obj = loads(notes.get(TEMPLATE, ""))
    except (ValueError, RecursionError):
        return None
    return template if short_hash(template) == notes.get(TEMPLATE_HASH) else None


def _by_default(live: Obj, notes: Mapping[str, str]) -> bool:
    """Whether a default of the operator is what the pods' change to this template began with.

    Pods that are in trouble already are so by the change before: what is added to that does not alter whose it is.
    """
    old = annotations_of(live)
    if not was_well(live):
        return BY_DEFAULT in old
    if old.get(TEMPLATE_HASH) == notes[TEMPLATE_HASH]:
        return False  # it came through, and what goes wrong from now on is something else
    return old.get(TEMPLATE_INPUTS) in (None, notes[TEMPLATE_INPUTS])
