"""Which of several replicas works: the holder of a Lease. Started by `__main__`, which ends when the Lease is lost.

The rules are those of client-go. A candidate never compares clocks: it takes note of when, by its own clock, it saw
the Lease change, and takes it over once that is a lease duration ago. The holder stops earlier than that, by its own
clock too: `held` is false once its last renewal was sent longer than the renew deadline ago, and what it writes at that
moment is over before the Lease is (`writing_s`). A write of the Lease names the version it replaces, so of two
candidates one is refused.

Unlike the library's election this one watches while it waits, and gives the Lease up when it ends: then the next leader
works within two seconds. `Election` decides, with the time as an argument; `Elector` asks and writes.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from auralink_operator.cluster import Answer, ApiError
from auralink_operator.index import Obj

log = logging.getLogger(__name__)

# A leader that is killed right after it renewed must be replaced within 15 s, the first reconcile of the next included.
LEASE_S = 13
RENEW_DEADLINE_S = 9.0
RENEW_EVERY_S = 5.0
_RETRY_S = 1.0
_REQUEST_S = 3.0
_WATCH_S = 300
_AT_ONCE_S = 0.2  # candidates that see a release spread over so long
_PATH = "/apis/coordination.k8s.io/v1/namespaces"


class LeaseLostError(Exception):
    """Another replica leads, or may: this one must end."""


class Connection(Protocol):
    """The part of `cluster.Connection` that is used here: without rate limit, for a late renewal is a lost lease."""

    async def send(self, verb: str, path: str, body: Obj | None = None, *, timeout_s: float = ...) -> Answer: ...

    def stream(self, path: str, *, longest_s: float) -> AsyncGenerator[Obj, None]: ...


@dataclass(slots=True)
class Election:
    """Pure. What this process knows of the Lease; every `now` is of its own clock, which never goes back."""

    identity: str
    lease: Obj | None = None
    _seen: tuple[object, ...] = ()
    _seen_at: float = 0.0
    _renewed_at: float | None = None  # when the last successful renewal was sent; None: not the leader

    def observe(self, lease: Obj | None, now: float) -> None:
        """Takes note of the Lease as the server has it; only a change counts as a sign of life of its holder."""
        spec = (lease or {}).get("spec") or {}
        seen = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        self.lease = lease

    @property
    def holder(self) -> str:
        return str(((self.lease or {}).get("spec") or {}).get("holderIdentity") or "")

    def vacant_in_s(self, now: float) -> float:
        """After how long the Lease may be taken; 0 now."""
        if not self.holder or self.holder == self.identity:
            return 0.0
        duration_s = ((self.lease or {}).get("spec") or {}).get("leaseDurationSeconds") or LEASE_S
        return max(0.0, self._seen_at + float(duration_s) - now)

    def claim(self, wall: datetime) -> Obj:
        """The spec that makes or keeps this process the leader."""
        spec = dict((self.lease or {}).get("spec") or {})
        stamp = wall.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if spec.get("holderIdentity") != self.identity:
            spec["leaseTransitions"] = int(spec["leaseTransitions"] or 0) + 1 if "leaseTransitions" in spec else 0
            spec["acquireTime"] = stamp
        return {**spec, "holderIdentity": self.identity, "leaseDurationSeconds": LEASE_S, "renewTime": stamp}

    def release(self, wall: datetime) -> Obj:
        """The spec that lets anybody take over at once; empty if this process does not hold the Lease."""
        if self._renewed_at is None or self.holder != self.identity:
            return {}
        spec = dict((self.lease or {}).get("spec") or {})
        return {**spec, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": f"{wall:%Y-%m-%dT%H:%M:%S.%fZ}"}

    def renewed(self, lease: Obj, sent_at: float, now: float) -> None:
        self.observe(lease, now)
        self._renewed_at = sent_at

    def released(self) -> None:
        self._renewed_at = None

    def left_s(self, now: float) -> float:
        """How long this process is the leader without another renewal."""
        return 0.0 if self._renewed_at is None else max(0.0, self._renewed_at + RENEW_DEADLINE_S - now)

    def held(self, now: float) -> bool:
        return self.left_s(now) > 0

    def writing_s(self, now: float) -> float:
        """For how long a write may be on its way that is sent now; 0 if none may be sent.

        Nobody can take the Lease any sooner: whoever waits counts from when it saw the renewal.
        """
        return self._renewed_at + LEASE_S - now if self._renewed_at is not None and self.held(now) else 0.0


@dataclass(slots=True)
class Elector:
    """`clock` must go on while the machine sleeps; `jitter` gives numbers from 0 to 1."""

    connection: Connection
    namespace: str
    name: str
    identity: str
    clock: Callable[[], float]
    wall: Callable[[], datetime]
    jitter: Callable[[], float]
    election: Election = field(init=False)
    _complained: int = 0

    def __post_init__(self) -> None:
        self.election = Election(self.identity)

    def held(self) -> bool:
        return self.election.held(self.clock())

    def writing_s(self) -> float:
        return self.election.writing_s(self.clock())

    async def run(self, gained: Callable[[], None]) -> None:
        """Waits for the Lease, tells `gained` and renews it until it is lost (LeaseLostError) or this is cancelled."""
        while not await self._wait_and_claim():
            await self._pause()
        log.info("leader", extra={"lease": self.name, "identity": self.identity})
        gained()
        await self._keep()

    async def release(self) -> None:
        """Gives the Lease up, if it is held; a failure only makes the next leader wait."""
        if not (spec := self.election.release(self.wall())):
            return
        self.election.released()
        answer = await self._write(spec)
        if answer.good:
            log.info("no longer the leader: gave the lease up", extra={"lease": self.name})
        else:
            log.warning("could not give the lease up", extra={"lease": self.name, "error": str(answer.error())})

    # --- while another leads ---

    async def _wait_and_claim(self) -> bool:
        election = self.election
        if not await self._look():
            return False
        if election.vacant_in_s(self.clock()) > 0:
            await self._until_vacant()
            # Whatever the watch said: what counts is what the server has now.
            if not await self._look() or election.vacant_in_s(self.clock()) > 0:
                return False
        sent_at = self.clock()
        answer = await self._write(election.claim(self.wall()))
        if answer.good:
            election.renewed(answer.json(), sent_at, self.clock())
        elif answer.status != 409:
            self._complain(answer)
        return answer.good

    async def _until_vacant(self) -> None:
        """Watches until the Lease is given up, has not been renewed for too long, or the watch ends."""
        version = ((self.election.lease or {}).get("metadata") or {}).get("resourceVersion", "")
        query = f"watch=1&fieldSelector=metadata.name={self.name}&timeoutSeconds={_WATCH_S}&resourceVersion={version}"
        events = self.connection.stream(f"{self._collection}?{query}", longest_s=_WATCH_S + 10)
        try:
            while (left_s := self.election.vacant_in_s(self.clock())) > 0:
                event = await asyncio.wait_for(anext(events), left_s)
                if event.get("type") not in ("ADDED", "MODIFIED", "DELETED"):
                    return
                self.election.observe(None if event["type"] == "DELETED" else event["object"], self.clock())
        except (TimeoutError, StopAsyncIteration):
            return
        except ApiError as error:
            log.info("the watch on the lease ended", extra={"lease": self.name, "error": str(error)})
            return
        finally:
            await events.aclose()
        await asyncio.sleep(_AT_ONCE_S * self.jitter())

    # --- while this one leads ---

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            while not await self._renew():
                await self._pause()

    async def _renew(self) -> bool:
        election = self.election
        for _ in range(2):
            sent_at = self.clock()
            if (left_s := election.left_s(sent_at)) <= 0:
                raise LeaseLostError(f"the lease could not be renewed for {RENEW_DEADLINE_S:.0f} s")
            answer = await self._write(election.claim(self.wall()), min(_REQUEST_S, left_s))
            if answer.good:
                election.renewed(answer.json(), sent_at, self.clock())
                return True
            if answer.status not in (404, 409) or not await self._look():
                return False
            if election.holder not in ("", self.identity):
                raise LeaseLostError(f"{election.holder} holds the lease")
        return False  # twice it was changed, or deleted, in between

    # --- what goes over the wire ---

    @property
    def _collection(self) -> str:
        return f"{_PATH}/{self.namespace}/leases"

    async def _look(self) -> bool:
        """Whether the Lease could be read, or is not there."""
        answer = await self.connection.send("GET", f"{self._collection}/{self.name}", timeout_s=_REQUEST_S)
        if answer.good or answer.status == 404:
            self.election.observe(answer.json() if answer.good else None, self.clock())
            return True
        self._complain(answer)
        return False

    async def _write(self, spec: Obj, timeout_s: float = _REQUEST_S) -> Answer:
        meta = {"name": self.name, "namespace": self.namespace}
        body: Obj = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
        if (lease := self.election.lease) is None:
            return await self.connection.send("POST", self._collection, body, timeout_s=timeout_s)
        body["metadata"] = lease["metadata"]  # with its version: what has changed since is not overwritten
        return await self.connection.send("PUT", f"{self._collection}/{self.name}", body, timeout_s=timeout_s)

    async def _pause(self) -> None:
        await asyncio.sleep(_RETRY_S * (0.5 + self.jitter()))

    def _complain(self, answer: Answer) -> None:
        """Once per kind of failure; that the server does not answer at all, the connection says."""
        if answer.status not in (0, self._complained):
            log.warning("no access to the lease", extra={"lease": self.name, "error": str(answer.error())})
        self._complained = answer.status
