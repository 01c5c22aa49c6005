"""kopf only watches: it tells the store first and the queue then, and keeps nothing that costs."""

from typing import Any

import kopf
import pytest
from auralink_operator.handlers import NoMemories, kopf_settings, registry
from auralink_operator.index import BRIDGE, POLICY, Obj
from auralink_operator.models.observed import Capabilities
from auralink_operator.resync import selector, watched
from auralink_operator.settings import from_env

from tests.unit.operator import samples

KINDS = watched(Capabilities())
GOOD = {"AURALINK_DATA_PLANE_IMAGE": "image:1", "AURALINK_AI_CORE_ADDRESS": "ai:1"}


class Ear:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str | None, Obj]] = []

    def told(self, kind_of_event: str | None, obj: Obj) -> None:
        self.heard.append((kind_of_event, obj))


def test_no_handler_can_make_kopf_write() -> None:
    found = registry(KINDS, Ear())
    assert not found._changing.get_all_handlers()
    assert not found._spawning.get_all_handlers()
    assert not found._webhooks.get_all_handlers()
    assert len(found._watching.get_all_handlers()) == len(KINDS)


def test_kopf_holds_no_object_until_all_are_listed() -> None:
    assert not registry(KINDS, Ear())._indexing.get_all_handlers()


def test_kopf_neither_scans_nor_posts_nor_waits_for_peers() -> None:
    settings = kopf_settings(KINDS, from_env(GOOD))
    assert settings.scanning.disabled
    assert settings.peering.standalone
    assert not settings.posting.enabled


async def test_kopf_remembers_no_object() -> None:
    memories = NoMemories()
    raw: Any = samples.bridge()
    assert await memories.recall(raw, noticed_by_listing=True) is not await memories.recall(raw)
    assert list(memories.iter_all_memories()) == []
    await memories.forget(raw)


@pytest.mark.parametrize("event", [None, "ADDED", "MODIFIED", "DELETED"])
async def test_each_event_is_told_as_it_is(event: str | None) -> None:
    ear = Ear()
    spy: Any = next(iter(registry(KINDS, ear)._watching.get_all_handlers())).fn
    raw: Any = {**samples.bridge(), "apiVersion": "auralink.io/v1alpha1"}
    assert await spy(type=event, body=kopf.Body(raw)) is None
    assert ear.heard == [(event, raw)]


def test_only_what_is_ours_and_of_this_shard_is_watched() -> None:
    whole, shard = from_env(GOOD), from_env({**GOOD, "AURALINK_SHARD": "eu"})
    assert selector(BRIDGE, whole) == "!auralink.io/shard"
    assert selector(BRIDGE, shard) == "auralink.io/shard=eu"
    assert selector(POLICY, shard) == ""
    assert selector("Deployment", shard) == "app.kubernetes.io/managed-by=auralink-operator,auralink.io/shard=eu"
    assert "endpointslice.kubernetes.io/managed-by=auralink-operator" in selector("EndpointSlice", whole)
    settings = kopf_settings(KINDS, shard)
    assert settings.watching.label_selectors["apps", "v1", "deployments"] == selector("Deployment", shard)


def test_service_monitors_are_watched_only_where_they_are_served() -> None:
    assert "ServiceMonitor" not in watched(Capabilities())
    assert "ServiceMonitor" in watched(Capabilities(service_monitors=True))
