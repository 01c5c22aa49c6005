"""The ConfigMap that pods watch: what they apply while they run, under a generation that they acknowledge."""

from collections.abc import Sequence
from typing import Any

from auralink_operator.index import ANNOTATION_POLICIES, Key, Obj, Observed
from auralink_operator.manifests.labels import HTTP_PORT, annotations_of, canonical, child_name, new_child, short_hash
from auralink_operator.manifests.network import owner_of
from auralink_operator.models import Bridge, Compiled, PodView
from auralink_operator.settings import Settings

CONFIG_GENERATION = "auralink.io/config-generation"
CONFIG_HASH = "auralink.io/config-hash"
CONFIG_LIMIT_BYTES = 900_000


class ConfigTooLargeError(ValueError):
    """The configuration does not fit into a ConfigMap."""


def next_generation(wanted_hash: str, seen: Sequence[tuple[int, str]]) -> int:
    """The generation of a configuration, given every (generation, hash) found: a crash or a loss never lowers it."""
    generation, known_hash = max(seen, default=(0, ""))
    return generation if known_hash == wanted_hash else generation + 1


def hot_spec(bridge: Bridge, settings: Settings) -> dict[str, Any]:
    """The part of the spec that pods apply while they run."""
    spec = bridge.spec.written_out()
    spec["aiCore"].setdefault("addresses", [settings.ai_core_address])
    return {name: spec[name] for name in ("region", "environment", "logLevel", "rooms", "aiCore", "compression", "api")}


def config_map(
    bridge: Bridge, compiled: Compiled, observed: Observed, pods: Sequence[PodView], settings: Settings
) -> Obj:
    name = f"{child_name(bridge.meta.name)}-config"
    hot = {
        "bridge": hot_spec(bridge, settings),
        "policies": [policy.rendered() for policy in compiled.policies],
    }
    wanted = short_hash(hot)
    live = observed.children.get(Key("ConfigMap", bridge.meta.namespace, name))
    generation = next_generation(wanted, _seen_generations(bridge, live))
    config = canonical({"version": 1, "generation": generation, **hot})
    owners = {room.name: pod.name for room in bridge.spec.rooms if (pod := owner_of(room.name, pods))}
    addresses = {pod.name: [{"ip": pod.ip, "port": HTTP_PORT}] for pod in pods if pod.serving and pod.ip}
    child = new_child(
        bridge,
        "ConfigMap",
        name,
        data={"config.json": config, "owners.json": canonical(owners), "addresses.json": canonical(addresses)},
    )
    if sum(len(text.encode()) for text in child["data"].values()) > CONFIG_LIMIT_BYTES:
        raise ConfigTooLargeError(
            f"the configuration is larger than {CONFIG_LIMIT_BYTES} bytes: use fewer rooms or policies per bridge"
        )
    child["metadata"]["annotations"] |= {
        CONFIG_GENERATION: str(generation),
        CONFIG_HASH: wanted,
        ANNOTATION_POLICIES: canonical({policy.name: policy.generation for policy in compiled.policies}),
    }
    return child


def _seen_generations(bridge: Bridge, live: Obj | None) -> list[tuple[int, str]]:
    annotations = annotations_of(live)
    config = bridge.meta.status.get("config") or {}
    found = [
        (str(annotations.get(CONFIG_GENERATION)), str(annotations.get(CONFIG_HASH) or "")),
        (str(config.get("desiredGeneration")), str(config.get("hash") or "")),
    ]
    return [(int(number), known) for number, known in found if number.isdigit()]


def config_of(children: Sequence[Obj]) -> tuple[int, str]:
    """Generation and hash of the rendered configuration."""
    for child in children:
        if child["kind"] == "ConfigMap":
            annotations = child["metadata"]["annotations"]
            return int(annotations[CONFIG_GENERATION]), annotations[CONFIG_HASH]
    raise LookupError("no ConfigMap among the children")
