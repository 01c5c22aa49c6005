"""From kopf's watches to the store and to keys in the queue; kopf does nothing else here.

Every handler is a spy: none creates, updates or finalizes, so kopf writes nothing. What an index function raises would
take the object out of kopf's index and what an event handler raises is logged and lost: so both only move data.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import kopf

from auralink_operator.index import POLICY, RESOURCES, Obj
from auralink_operator.resync import selector
from auralink_operator.settings import Settings


class Watcher(Protocol):
    """Whom the watches tell."""

    def seen(self, obj: Obj) -> None:
        """An object as it is now, from a list or an event, before `changed`."""

    def changed(self, kind_of_event: str | None, obj: Obj) -> None:
        """Each event after all lists are in; None for an object of a list. Of `obj` the metadata is certain only."""


def registry(kinds: Sequence[str], watcher: Watcher) -> kopf.OperatorRegistry:
    found = kopf.OperatorRegistry()

    async def objects(body: kopf.Body, **_: Any) -> None:
        watcher.seen(dict(body))
        _lighten(body)

    async def spy(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002 - kopf names it
        watcher.changed(type, dict(body))

    kopf.on.login(registry=found)(_login)
    for kind in kinds:
        group, version, plural = _kopf_name(kind)
        # An index, because kopf calls it before the events' handlers and holds those back until all lists are in.
        kopf.index(group, version, plural, id="objects", registry=found)(objects)
        kopf.on.event(group, version, plural, id="spy", registry=found)(spy)
    return found


def _lighten(body: kopf.Body) -> None:
    """Empties what nobody needs after `seen`: kopf holds every listed object until all kinds are listed.

    At 1000 bridges that is 200 MB and, for what kopf compares in vain, half of the time.
    """
    if body.get("kind") == POLICY:
        return
    for name, part in body.items():
        if isinstance(part, dict) and name != "metadata":
            part.clear()
    body["metadata"].pop("managedFields", None)


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


def kopf_settings(kinds: Sequence[str], settings: Settings) -> kopf.OperatorSettings:
    found = kopf.OperatorSettings()
    found.peering.standalone = True  # our Lease says who works; no peering objects
    found.posting.enabled = False  # our own events say what happened to a resource
    found.scanning.disabled = True  # no watch on CRDs and namespaces, no right to it
    found.watching.server_timeout, found.watching.client_timeout = 300, 310
    found.watching.inactivity_timeout, found.watching.chunk_size = 70, 500
    for kind in kinds:
        if text := selector(kind, settings):
            found.watching.label_selectors[_kopf_name(kind)] = text
    found.networking.request_timeout, found.networking.connect_timeout = 30, 5
    found.networking.enforce_retry_after = True
    found.networking.error_backoffs = [0.2, 0.5, 1, 2, 4, 8]
    found.queueing.worker_limit = None  # fewer workers than indexed objects would deadlock
    found.queueing.idle_timeout = 0.5  # a worker per object keeps the object: gone soon after the lists
    found.persistence.diffbase_storage, found.persistence.progress_storage = _NoDiffBase(), _NoProgress()
    found.persistence.finalizer = "auralink.io/kopf-unused"
    found.process.ultimate_exiting_timeout = 30
    return found
