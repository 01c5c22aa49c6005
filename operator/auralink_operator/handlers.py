"""From kopf's watches to keys in the queue; kopf does nothing else here.

Every handler is a spy: none creates, updates or finalizes, so kopf writes nothing. An index must never fail or answer
None (it would keep or drop the old value), an event handler's error would be logged and lost: so both only move data.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import kopf

from auralink_operator.index import RESOURCES, Obj, entries
from auralink_operator.reconcile import WATCHED, selector

Started = Callable[[Mapping[Any, Any]], Awaitable[None]]
Changed = Callable[[str | None, Obj], None]


def registry(started: Started, changed: Changed) -> kopf.OperatorRegistry:
    """`started` gets the live index before the first event, `changed` each event after all lists are in the index."""
    found = kopf.OperatorRegistry()

    async def objects(body: kopf.Body, **_: Any) -> dict[tuple[str, ...], Obj]:
        return entries(dict(body))

    async def spy(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002 - kopf names it
        changed(type, dict(body))

    async def begin(**arguments: Any) -> None:
        await started(arguments["objects"])

    kopf.on.startup(registry=found)(begin)
    kopf.on.login(registry=found)(_login)
    for kind in WATCHED:
        version, plural = RESOURCES[kind]
        group, _, version = version.rpartition("/")
        kopf.index(group, version, plural, id="objects", registry=found)(objects)
        kopf.on.event(group, version, plural, id="spy", registry=found)(spy)
    return found


def _login(**arguments: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)


def kopf_settings() -> kopf.OperatorSettings:
    found = kopf.OperatorSettings()
    found.peering.standalone = True  # one replica; no peering objects
    found.posting.enabled = False  # our own events say what happened to a resource
    found.scanning.disabled = True  # no watch on CRDs and namespaces, no right to it
    found.watching.server_timeout, found.watching.client_timeout = 300, 310
    found.watching.inactivity_timeout, found.watching.chunk_size = 70, 500
    for kind in WATCHED:
        version, plural = RESOURCES[kind]
        group, _, version = version.rpartition("/")
        if selector(kind):
            found.watching.label_selectors[group, version, plural] = selector(kind)
    found.networking.request_timeout, found.networking.connect_timeout = 30, 5
    found.networking.enforce_retry_after = True
    found.networking.error_backoffs = [0.2, 0.5, 1, 2, 4, 8]
    found.queueing.worker_limit = None  # fewer workers than indexed objects would deadlock
    found.persistence.finalizer = "auralink.io/kopf-unused"
    found.process.ultimate_exiting_timeout = 30
    return found
