"""From kopf's watches to the operator; kopf does nothing else here.

Every handler is a spy: none creates, updates or finalizes, so kopf writes nothing. Nor is there an index: for one, kopf
would hold every object until all kinds are listed, and wake all of them for each that comes (at 10,000 objects minutes
of work). Nothing depends on that order: `Resync.fill` says when the store is full, and nothing is queued before.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import kopf
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory

from auralink_operator.index import RESOURCES, Obj
from auralink_operator.resync import selector
from auralink_operator.settings import Settings


class Watcher(Protocol):
    """Whom the watches tell."""

    def told(self, kind_of_event: str | None, obj: Obj) -> None:
        """An object as it is now, or as it was when it was DELETED; None for an object of a list. What this raises is
        logged and lost."""


def registry(kinds: Sequence[str], watcher: Watcher) -> kopf.OperatorRegistry:
    found = kopf.OperatorRegistry()

    async def spy(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002 - kopf names it
        watcher.told(type, dict(body))

    kopf.on.login(registry=found)(_login)
    for kind in kinds:
        kopf.on.event(*_kopf_name(kind), id="spy", registry=found)(spy)
    return found


def _kopf_name(kind: str) -> tuple[str, str, str]:
    version, plural = RESOURCES[kind]
    group, _, version = version.rpartition("/")
    return group, version, plural


def _login(**arguments: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)


class _NoDiffBase(kopf.DiffBaseStorage):
    """kopf compares each object with what it last handled; nothing here is handled, so nothing need be copied."""

    def fetch(self, **_: Any) -> None:
        return None

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def store(self, **_: Any) -> None:
        """Never."""


class _NoProgress(kopf.ProgressStorage):
    """Nor does any handler make progress that would have to be remembered."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Never."""

    def purge(self, **_: Any) -> None:
        """Nothing is there."""

    def touch(self, **_: Any) -> None:
        """Never."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


class NoMemories(ResourceMemories):
    """Nor need anything be remembered of an object: kopf's record of each takes a kilobyte, for as long as it lives."""

    async def recall(self, raw_body: Any, **more: Any) -> ResourceMemory:
        return await super().recall(raw_body, **{**more, "ephemeral": True})


def kopf_settings(kinds: Sequence[str], settings: Settings) -> kopf.OperatorSettings:
    found = kopf.OperatorSettings()
    found.peering.standalone = True  # our Lease says who works; no peering objects
    found.posting.enabled = False  # our own events say what happened to a resource
    found.scanning.disabled = True  # no watch on CRDs and namespaces, no right to it
    found.watching.server_timeout, found.watching.client_timeout = 300, 310
    found.watching.inactivity_timeout, found.watching.chunk_size = 150, 500
    for kind in kinds:
        if text := selector(kind, settings):
            found.watching.label_selectors[_kopf_name(kind)] = text
    found.networking.request_timeout, found.networking.connect_timeout = 30, 5
    found.networking.enforce_retry_after = True
    found.networking.error_backoffs = [0.2, 0.5, 1, 2, 4, 8]
    found.queueing.idle_timeout = 0.1  # a worker per object keeps the object: gone soon after the lists
    found.persistence.diffbase_storage, found.persistence.progress_storage = _NoDiffBase(), _NoProgress()
    found.persistence.finalizer = "auralink.io/kopf-unused"
    found.process.ultimate_exiting_timeout = 30
    return found
