"""The ConfigMap that pods watch: what they apply while they run, under a generation that they acknowledge.

`config.json` is acknowledged. `owners.json` (which pod serves which room) and `addresses.json` (where peers reach each
medium) stand beside it, outside the generation: a pod that comes or goes needs no new acknowledgements.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from auralink_operator.index import ANNOTATION_POLICIES, Key, Obj, Observed
from auralink_operator.manifests.labels import (
    UnrenderableError,
    annotations_of,
    canonical,
    child_name,
    new_child,
    short_hash,
)
from auralink_operator.models import Bridge, Compiled, PublicAddress, Scene
from auralink_operator.settings import Settings

CONFIG_GENERATION = "auralink.io/config-generation"
CONFIG_HASH = "auralink.io/config-hash"
CONFIG_LIMIT_BYTES = 900_000
# One edit a second for 30 000 years: a longer number is nobody's count, and following it would leave no next one.
_DIGITS = 12
_HOT = (
    *("region", "environment", "logLevel", "endpoints", "rooms", "aiCore", "compression"),
    *("redis", "postgres", "dashboard", "communication", "api"),
)


class ConfigTooLargeError(UnrenderableError):
    """The configuration does not fit into a ConfigMap."""


def next_generation(wanted_hash: str, seen: Sequence[tuple[int, str]]) -> int:
    """The generation of a configuration, given every (generation, hash) found: a crash or a loss never lowers it."""
    generation, known_hash = max(seen, default=(0, ""))
    return generation if known_hash == wanted_hash else generation + 1


def hot_spec(bridge: Bridge, settings: Settings) -> dict[str, Any]:
    """The part of the spec that pods apply while they run."""
    spec = bridge.spec.written_out()
    spec["aiCore"].setdefault("addresses", [settings.ai_core_address])
    hot = {name: spec[name] for name in _HOT if name in spec}
    return {**hot, "drain": {"strategy": spec["drain"]["strategy"]}}


def config_name(bridge: str) -> str:
    return f"{child_name(bridge)}-config"


def config_map(bridge: Bridge, compiled: Compiled, observed: Observed, scene: Scene, settings: Settings) -> Obj:
    name = config_name(bridge.meta.name)
    hot = {
        "bridge": hot_spec(bridge, settings),
        "policies": [policy.rendered() for policy in compiled.policies],
    }
    wanted = short_hash(hot)
    live = observed.children.get(Key("ConfigMap", bridge.meta.namespace, name))
    generation = next_generation(wanted, _seen_generations(bridge, live))
    data = {
        "config.json": canonical({"version": 1, "generation": generation, **hot}),
        "owners.json": canonical({room: pod.name for room, pod in scene.owners.items()}),
        "addresses.json": canonical({name: _address(found) for name, found in scene.addresses.items()}),
    }
    if sum(len(text.encode()) for text in data.values()) > CONFIG_LIMIT_BYTES:
        raise ConfigTooLargeError(
            f"the configuration is larger than {CONFIG_LIMIT_BYTES} bytes: use fewer rooms or policies per bridge"
        )
    found = new_child(bridge, settings, "ConfigMap", name, data=data)
    found["metadata"]["annotations"] |= {
        CONFIG_GENERATION: str(generation),
        CONFIG_HASH: wanted,
        ANNOTATION_POLICIES: canonical({policy.name: policy.generation for policy in compiled.policies}),
    }
    return found


def _address(found: PublicAddress) -> Mapping[str, Any]:
    return {**({"ip": found.ip} if found.ip else {"hostname": found.hostname}), "port": found.port}


def _seen_generations(bridge: Bridge, live: Obj | None) -> list[tuple[int, str]]:
    annotations = annotations_of(live)
    config = bridge.meta.status.get("config") or {}
    found = [
        (str(annotations.get(CONFIG_GENERATION)), str(annotations.get(CONFIG_HASH) or "")),
        (str(config.get("desiredGeneration")), str(config.get("hash") or "")),
        # Of what a pod has applied the content is not known: the same number must not stand for another one.
        *((str(entry.get("configGeneration")), "") for entry in bridge.meta.status.get("pods") or ()),
    ]
    return [(int(number), known) for number, known in found if number.isdecimal() and len(number) <= _DIGITS]


def config_of(children: Sequence[Obj]) -> tuple[int, str]:
    """Generation and hash of the rendered configuration."""
    for found in children:
        if found["kind"] == "ConfigMap":
            annotations = found["metadata"]["annotations"]
            return int(annotations[CONFIG_GENERATION]), annotations[CONFIG_HASH]
    raise LookupError("no ConfigMap among the children")
