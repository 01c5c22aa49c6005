"""The endpoints of the configured AI Core, kept to what its names stand for, and the sessions placed on them."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from typing import Final

from auralink_dataplane.media.aic.endpoint import Endpoint
from auralink_dataplane.media.aic.names import Resolve, look_up, resolve_all, weight
from auralink_dataplane.media.aic.session import CLOSE_S, Listener, Session
from auralink_dataplane.media.aic.wire import Credentials, Identity, SessionRequest
from auralink_dataplane.media.breaker import Limits, Permit, State
from auralink_dataplane.settings import AiCoreSpec

log = logging.getLogger(__name__)

RESOLVE_S: Final = 5.0
POLL_S: Final = 5.0

MAX_ENDPOINTS: Final = 64
"""Addresses behind the configured names that a pod uses, each with a channel of its own."""


class AicClient:
    """Endpoints of the configured AI Core. `available` is called whenever one has become usable."""

    def __init__(
        self,
        identity: Identity,
        *,
        clock: Callable[[], float],
        read_secret: Callable[[str, str], bytes | None],
        available: Callable[[], None],
        resolve: Resolve | None = None,
    ) -> None:
        self._identity = identity
        self._clock = clock
        self._read_secret = read_secret
        self._available = available
        self._resolve = resolve or resolve_all
        self._spec = AiCoreSpec()
        self._limits = Limits()
        self._endpoints: dict[tuple[str, Credentials | None], Endpoint] = {}
        self._unresolved: dict[str, str] = {}  # address -> what the resolver said
        self._missing_secret: str | None = None
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._owned: set[asyncio.Task[None]] = set()

    # --- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._keep_resolving(), name="aic-resolve"),
            asyncio.create_task(self._keep_polling(), name="aic-poll"),
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for endpoint in self._endpoints.values():
            await endpoint.channel.close(grace=CLOSE_S)
        await asyncio.gather(*self._owned, return_exceptions=True)
        self._endpoints.clear()

    def _own(self, task: asyncio.Task[None]) -> None:
        """Kept until it ends, and waited for in the end; an error in it is ours."""
        self._owned.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._owned.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("task died", extra={"task": task.get_name()}, exc_info=error)

    def configure(self, spec: AiCoreSpec) -> None:
        """Live sessions go on; addresses that are gone get no new ones."""
        self._spec = spec
        self._limits = Limits(spec.breaker.failures, float(spec.breaker.open_seconds))
        for endpoint in self._endpoints.values():
            endpoint.breaker.limits = self._limits
        self._changed.set()

    # --- placement ------------------------------------------------------------------------------------------

    def open(self, request: SessionRequest, listener: Listener) -> Session | None:
        """None when no endpoint is usable now. One that does not answer gets a session only where no other is."""
        now = self._clock()
        usable = [one for one in self._endpoints.values() if one.open_for(now)]
        return self._open_on(usable, request, listener, now)

    def open_standby(self, request: SessionRequest, listener: Listener, beside: Session) -> Session | None:
        """Never where `beside` is, nor where nobody answers. None when there is no such endpoint now."""
        now = self._clock()
        active = beside.endpoint_address
        usable = [one for one in self._endpoints.values() if one.open_for(now) and one.answers]
        return self._open_on([one for one in usable if one.address != active], request, listener, now, standby=True)

    def _open_on(
        self,
        usable: Iterable[Endpoint],
        request: SessionRequest,
        listener: Listener,
        now: float,
        *,
        standby: bool = False,
    ) -> Session | None:
        """On the first that the name prefers and whose breaker allows it."""
        for endpoint in sorted(usable, key=lambda one: (one.answers, weight(one.address, request.name)), reverse=True):
            permit = endpoint.breaker.permit(now)
            if permit is not Permit.NONE:
                return self._place(endpoint, request, listener, probe=permit is Permit.PROBE, standby=standby)
        return None

    def _place(
        self, endpoint: Endpoint, request: SessionRequest, listener: Listener, *, probe: bool, standby: bool
    ) -> Session:
        endpoint.sessions += 1
        session = Session(endpoint, self._identity, request, listener, probe=probe, standby=standby)
        self._own(session.task)
        # Not from within: a task that is cancelled before its first step runs none of its own code.
        session.task.add_done_callback(lambda _: self._finished(endpoint))
        return session

    def _finished(self, endpoint: Endpoint) -> None:
        endpoint.sessions -= 1
        self._discard_if_done(endpoint)

    def problem(self) -> str | None:
        """Why nothing can be compressed, and what to do; None while an endpoint answers (or was not tried yet)."""
        if not self._spec.addresses:
            return "no AI Core address is configured: set aiCore.addresses"
        if self._missing_secret:
            return None  # another problem, told by `missing_secret`
        if not self._endpoints:
            if not self._unresolved:
                return None
            address, said = next(iter(self._unresolved.items()))
            return f"{address} does not resolve ({said}): is the AI Core running, is aiCore.addresses right?"
        if any(one.serves for one in self._endpoints.values()):
            return None
        names = ", ".join(sorted(one.address for one in self._endpoints.values())[:3])
        return f"AI Core at {names} does not answer or shuts down: check its pods and the network between"

    def standby_problem(self) -> str | None:
        """Why a stream that is to have a standby has none, and what to do, where that is the AI Cores' fault and one of
        them still answers."""
        if self._spec.failover != "Standby" or not self.usable or not self._endpoints:
            return None
        silent = sorted(one.address for one in self._endpoints.values() if not one.serves)
        if len(self._endpoints) - len(silent) > 1:
            return None
        if silent:
            names = ", ".join(silent[:3])
            return f"AI Core at {names} does not answer or shuts down, one other is left: check its pods"
        [only] = self._endpoints.values()
        return f"aiCore.addresses stand for {only.address} alone: run a second AI Core behind them"

    @property
    def missing_secret(self) -> str | None:
        return self._missing_secret

    @property
    def usable(self) -> bool:
        return self.problem() is None and self._missing_secret is None

    @property
    def circuit_breaker_open(self) -> bool:
        """Every endpoint's is."""
        states = [endpoint.breaker.state for endpoint in self._endpoints.values()]
        return bool(states) and all(state is not State.CLOSED for state in states)

    def endpoints(self) -> list[dict[str, object]]:
        """For /status."""
        return [
            {
                "address": endpoint.address,
                "breaker": endpoint.breaker.state.value,
                "reachable": endpoint.reachable,
                "load": round(endpoint.load, 3),
                "sessions": endpoint.sessions,
                "standbys": endpoint.standbys,
                "takeovers": endpoint.takeovers,
            }
            for endpoint in self._endpoints.values()
        ]

    # --- endpoints ------------------------------------------------------------------------------------------

    async def _keep_resolving(self) -> None:
        while True:
            self._changed.clear()
            try:
                await self.resolve_once()
            except Exception:
                log.exception("AI Core names were not looked up")
            try:
                async with asyncio.timeout(RESOLVE_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def resolve_once(self) -> None:
        """What the names stand for now."""
        spec = self._spec
        credentials = self._credentials(spec)
        if self._missing_secret:
            for key in list(self._endpoints):
                self._retire(key)
            return
        found = await look_up(spec.addresses, self._resolve)
        # Of too many each pod takes its own, so that together they use all.
        ranked = sorted(found.hosts, key=lambda address: weight(address, self._identity.pod), reverse=True)
        wanted = {(address, credentials): found.hosts[address] for address in ranked[:MAX_ENDPOINTS]}
        if spec is not self._spec:
            return  # it changed meanwhile; the next round is due at once
        if set(found.unresolved) != set(self._unresolved):
            log.warning("AI Core names changed", extra={"unresolved": json.dumps(found.unresolved)})
        self._unresolved = found.unresolved
        added = [key for key in wanted if key not in self._endpoints]
        for key in added:
            self._endpoints[key] = self._endpoint(key[0], wanted[key], credentials)
        if found.complete:  # when nobody could be asked, the last known addresses stand
            for key in [key for key in self._endpoints if key not in wanted]:
                self._retire(key)
        if added:
            log.info("AI Core endpoints", extra={"endpoints": sorted(one.address for one in self._endpoints.values())})
            self._available()

    def _endpoint(self, address: str, host: str, credentials: Credentials | None) -> Endpoint:
        return Endpoint(
            address,
            host,
            credentials,
            self._limits,
            identity=self._identity,
            clock=self._clock,
            available=self._available,
        )

    def _credentials(self, spec: AiCoreSpec) -> Credentials | None:
        self._missing_secret = None
        if not spec.tls_secret_name:
            return None
        ca = self._read_secret(spec.tls_secret_name, "ca.crt")
        if ca is None:
            self._missing_secret = f"{spec.tls_secret_name}/ca.crt"
            return None
        return Credentials(
            ca, self._read_secret(spec.tls_secret_name, "tls.crt"), self._read_secret(spec.tls_secret_name, "tls.key")
        )

    def _retire(self, key: tuple[str, Credentials | None]) -> None:
        endpoint = self._endpoints.pop(key)
        endpoint.gone = True
        self._discard_if_done(endpoint)

    def _discard_if_done(self, endpoint: Endpoint) -> None:
        if endpoint.gone and not endpoint.sessions:
            self._own(asyncio.create_task(endpoint.channel.close(grace=None), name=f"aic-close-{endpoint.address}"))

    async def _keep_polling(self) -> None:
        while True:
            try:
                await self.poll_once()
            except Exception:
                log.exception("AI Core endpoints were not polled")
            rests = [one.breaker.rests_for(self._clock()) for one in self._endpoints.values()]
            unknown = not self._endpoints or any(one.reachable is None for one in self._endpoints.values())
            delays = [0.5 if unknown else POLL_S, *(rest + 0.01 for rest in rests if rest and rest > 0)]
            await asyncio.sleep(min(delays))

    async def poll_once(self) -> None:
        """Load and health of each endpoint; also what half-opens a rested breaker."""
        await asyncio.gather(*(endpoint.poll() for endpoint in list(self._endpoints.values())))
