"""Client of the AI Core, and the only one that speaks gRPC: endpoints, their breakers, one stream per session.

`streams` opens a session for every video stream that is to be compressed and hears of it through a Listener. An
endpoint is one address behind `aiCore.addresses` (a headless Service's name gives several), with one channel and one
breaker; a session goes to the usable endpoint that its name hashes highest with, so it comes back to the same one
while that lives. Nothing here retries a session: `pipeline` decides when, this module says when an endpoint has become
usable.
"""

import asyncio
import hashlib
import json
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import grpc
from auralink_pb.aicore.v1 import aicore_pb2 as pb
from auralink_pb.aicore.v1 import aicore_pb2_grpc as rpc

from auralink_dataplane.media.breaker import Breaker, Limits, Permit, State
from auralink_dataplane.media.frames import Advice, Disposition, Frame, Mode, Result
from auralink_dataplane.media.pipeline import Failure, Refusal
from auralink_dataplane.policy import Compression
from auralink_dataplane.settings import AiCoreSpec, split_address

log = logging.getLogger(__name__)

PROTOCOL_MINOR: Final = 0
RESOLVE_S: Final = 5.0
POLL_S: Final = 5.0
POLL_TIMEOUT_S: Final = 2.0
LOAD_LIMIT: Final = 0.9
FULL_REST_S: Final = 5.0
CLOSE_S: Final = 0.5
"""For sessions that have said goodbye; the AI Core answers what it still has."""
OUTBOX: Final = 64
"""Messages waiting for the transport; 16 frames in flight keep it far below, beyond it the session is broken."""

MAX_ENDPOINTS: Final = 64
"""Addresses behind the configured names that a pod uses, each with a channel of its own."""

Resolve = Callable[[str, int], Awaitable[Sequence[tuple[str, int]]]]
"""Every address behind a name. Raises OSError; socket.gaierror with EAI_AGAIN when nobody could be asked."""

_CODECS: Final = {"H264": pb.CODEC_H264}
_DISPOSITIONS: Final = {
    pb.DISPOSITION_COMPRESSED: Disposition.COMPRESSED,
    pb.DISPOSITION_UNCHANGED: Disposition.UNCHANGED,
    pb.DISPOSITION_SKIPPED: Disposition.SKIPPED,
    pb.DISPOSITION_FAILED: Disposition.FAILED,
}
_ADVICE: Final = {pb.ADVICE_COMPRESS: Advice.COMPRESS, pb.ADVICE_NATIVE: Advice.NATIVE}
_OPTIONS: Final = [
    ("grpc.max_send_message_length", 8 << 20),
    ("grpc.max_receive_message_length", 8 << 20),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 10_000),
    ("grpc.use_local_subchannel_pool", 1),  # endpoints do not share a connection's fate, nor its backoff
    ("grpc.enable_retries", 0),
]


@dataclass(frozen=True, slots=True)
class Identity:
    bridge_id: str
    pod: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """PEM; the client's certificate and key only where the AI Core asks for them."""

    ca: bytes
    certificate: bytes | None = None
    key: bytes | None = None


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """`name` is the same for every session of a stream; `number` tells them apart."""

    name: str
    number: int
    room: str
    codec: str
    clock_rate: int
    policy: Compression


class Listener(Protocol):
    """Called on the event loop, never after the session was closed."""

    def session_opened(self, session: int, max_in_flight: int, *, probe: bool) -> None: ...
    def session_refused(self, session: int, why: Refusal) -> None: ...
    def session_result(self, session: int, result: Result) -> None: ...
    def session_failed(self, session: int, failure: Failure) -> None: ...
    def session_draining(self, session: int) -> None: ...
    def session_shed(self, session: int) -> None: ...


class Endpoint:
    """One AI Core server."""

    def __init__(self, address: str, host: str, credentials: Credentials | None, limits: Limits) -> None:
        self.address = address
        self.credentials = credentials
        self.breaker = Breaker(limits)
        self.load = 0.0
        self.draining = False
        self.reachable: bool | None = None  # None: not heard of yet
        self.rests_until = 0.0
        self.sessions = 0
        self.gone = False
        if credentials is None:
            self.channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        else:
            self.channel = grpc.aio.secure_channel(
                address,
                grpc.ssl_channel_credentials(credentials.ca, credentials.key, credentials.certificate),
                options=[*_OPTIONS, ("grpc.ssl_target_name_override", host)],
            )
        self.stub = rpc.AICoreStub(self.channel)

    @property
    def serves(self) -> bool:
        """As far as is known."""
        return self.breaker.state is State.CLOSED and self.reachable is not False and not self.draining

    def open_for(self, now: float) -> bool:
        """Whether a new session may go here, the breaker apart."""
        return not self.draining and self.load < LOAD_LIMIT and now >= self.rests_until


class Session:
    """One `Compress` stream. Sending never blocks; answers go to the listener until `close`."""

    def __init__(
        self, client: "AicClient", endpoint: Endpoint, request: SessionRequest, listener: Listener, *, probe: bool
    ) -> None:
        self.number = request.number
        self.model = ""
        self._client = client
        self._endpoint = endpoint
        self._listener: Listener | None = listener
        self._probe = probe
        self._outbox: deque[pb.ClientMessage] = deque()
        self._wake = asyncio.Event()
        self._put(pb.ClientMessage(open=_open_message(client.identity, request)))
        name = f"aic-session-{request.name}-{request.number}"
        self._task = client.own(asyncio.create_task(self._run(), name=name))
        # Not from within: a task that is cancelled before its first step runs none of its own code.
        self._task.add_done_callback(lambda _: client.finished(endpoint))

    @property
    def endpoint_address(self) -> str:
        return self._endpoint.address

    def send(self, frame: Frame, mode: Mode, deadline_ms: int) -> None:
        self._put(
            pb.ClientMessage(
                frame=pb.Frame(
                    frame_id=frame.frame_id,
                    rtp_timestamp=frame.rtp_ts & 0xFFFFFFFF,
                    key=frame.key,
                    payload=frame.data,
                    deadline_ms=deadline_ms,
                    mode=pb.MODE_COMPRESS if mode is Mode.COMPRESS else pb.MODE_SHADOW,
                )
            )
        )

    def force_key(self) -> None:
        self._put(pb.ClientMessage(control=pb.Control(force_key=pb.ForceKey())))

    def update_policy(self, policy: Compression) -> None:
        self._put(pb.ClientMessage(control=pb.Control(policy=_policy_message(policy))))

    def proven(self) -> None:
        """It has answered enough frames in time."""
        self._client.proven(self._endpoint)

    def close(self, failure: Failure | None) -> None:
        """`failure`: why it ends badly; the endpoint's breaker hears of it where that is to blame."""
        if self._listener is None:
            return
        self._listener = None
        self._client.ended(self._endpoint, failure, probe=self._probe)
        if failure is None:
            self._put(pb.ClientMessage(control=pb.Control(end=pb.End())))
            asyncio.get_running_loop().call_later(CLOSE_S, self._task.cancel)
        else:
            self._task.cancel()

    def _put(self, message: pb.ClientMessage) -> None:
        if len(self._outbox) < OUTBOX:
            self._outbox.append(message)
            self._wake.set()
        else:  # not at once: the listener is amid its decisions
            asyncio.get_running_loop().call_soon(self._fail, Failure.OVERFLOW)

    def _fail(self, failure: Failure) -> None:
        if self._listener:
            self._listener.session_failed(self.number, failure)

    async def _run(self) -> None:
        call = self._endpoint.stub.Compress(metadata=self._client.metadata)  # type: ignore[call-arg]  # stubs want an iterator
        writer = asyncio.create_task(self._write(call), name=f"{self._task.get_name()}-writer")
        failure = Failure.BROKEN
        try:
            async for message in call:
                self._client.heard(self._endpoint)
                self._dispatch(message)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                failure = Failure.UNREACHABLE
                self._client.lost(self._endpoint)
            if self._listener:
                log.warning(
                    "AI Core session broke",
                    extra={"endpoint": self._endpoint.address, "code": error.code().name, "detail": error.details()},
                )
        finally:
            writer.cancel()
            call.cancel()
        self._fail(failure)

    async def _write(self, call: "grpc.aio.StreamStreamCall[pb.ClientMessage, pb.ServerMessage]") -> None:
        """Ends with the call; its error is the reader's to report."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._outbox:
                    await call.write(self._outbox.popleft())
                if self._listener is None:
                    await call.done_writing()
                    return
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return

    def _dispatch(self, message: pb.ServerMessage) -> None:
        if self._listener is None:
            return
        match message.WhichOneof("message"):
            case "result":
                answer = message.result
                if answer.disposition != pb.DISPOSITION_FAILED:
                    self._endpoint.breaker.succeeded()
                self._listener.session_result(self.number, _result(answer))
            case "opened":
                self._opened(message.opened)
            case "notice":
                self._noticed(message.notice)
            case _:
                self._listener.session_failed(self.number, Failure.BROKEN)

    def _opened(self, opened: pb.SessionOpened) -> None:
        assert self._listener is not None  # noqa: S101 - the one caller has looked
        if opened.status == pb.SessionOpened.STATUS_OK:
            self.model = opened.model
            self._listener.session_opened(self.number, opened.max_in_flight, probe=self._probe)
            return
        full = opened.status == pb.SessionOpened.STATUS_FULL
        if full:
            self._client.rest(self._endpoint)
        log.info("AI Core refused a session", extra={"endpoint": self._endpoint.address, "reason": opened.reason})
        self._listener.session_refused(self.number, Refusal.FULL if full else Refusal.UNSUPPORTED)

    def _noticed(self, notice: pb.Notice) -> None:
        assert self._listener is not None  # noqa: S101 - the one caller has looked
        match notice.kind:
            case pb.Notice.KIND_DRAINING:
                self._endpoint.draining = True
                self._listener.session_draining(self.number)
            case pb.Notice.KIND_SHED:
                self._listener.session_shed(self.number)
            case pb.Notice.KIND_LOST:
                self._listener.session_failed(self.number, Failure.LOST)
            case _:
                log.info("AI Core notice", extra={"endpoint": self._endpoint.address, "detail": notice.detail})


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
        self.identity = identity
        self.metadata = (
            ("auralink-protocol", f"1.{PROTOCOL_MINOR}"),
            ("auralink-bridge-id", identity.bridge_id),
            ("auralink-pod", identity.pod),
        )
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

    def own(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """Kept until it ends, and waited for in the end; an error in it is ours."""
        self._owned.add(task)
        task.add_done_callback(self._ended)
        return task

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
        """None when no endpoint is usable now."""
        now = self._clock()
        usable = [endpoint for endpoint in self._endpoints.values() if endpoint.open_for(now)]
        for endpoint in sorted(usable, key=lambda one: _weight(one.address, request.name), reverse=True):
            permit = endpoint.breaker.permit(now)
            if permit is not Permit.NONE:
                endpoint.sessions += 1
                return Session(self, endpoint, request, listener, probe=permit is Permit.PROBE)
        return None

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
            }
            for endpoint in self._endpoints.values()
        ]

    # --- what sessions report -------------------------------------------------------------------------------

    def ended(self, endpoint: Endpoint, failure: Failure | None, *, probe: bool) -> None:
        if failure is not None and failure.blames_core:
            before = endpoint.breaker.state
            endpoint.breaker.failed(self._clock())
            self._log_breaker(endpoint, before)
        elif probe:
            endpoint.breaker.released()

    def proven(self, endpoint: Endpoint) -> None:
        before = endpoint.breaker.state
        if endpoint.breaker.proven(self._clock()):
            self._log_breaker(endpoint, before)
            self._available()

    def heard(self, endpoint: Endpoint) -> None:
        endpoint.reachable = True

    def lost(self, endpoint: Endpoint) -> None:
        endpoint.reachable = False

    def rest(self, endpoint: Endpoint) -> None:
        endpoint.rests_until = self._clock() + FULL_REST_S

    def finished(self, endpoint: Endpoint) -> None:
        endpoint.sessions -= 1
        self._discard_if_done(endpoint)

    def _log_breaker(self, endpoint: Endpoint, before: State) -> None:
        if endpoint.breaker.state is not before:
            log.warning(
                "circuit breaker changed",
                extra={"endpoint": endpoint.address, "from": before.value, "to": endpoint.breaker.state.value},
            )

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
        wanted: dict[tuple[str, Credentials | None], str] = {}
        unresolved: dict[str, str] = {}
        keeps = False
        for address in spec.addresses:
            host, port = split_address(address)
            try:
                found = await self._resolve(host, port)
            except OSError as error:
                keeps = keeps or (isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN)
                unresolved[address] = error.strerror or str(error)
                continue
            for ip, number in found:
                wanted[f"[{ip}]:{number}" if ":" in ip else f"{ip}:{number}", credentials] = host
        # Of too many each pod takes its own, so that together they use all.
        ranked = sorted(wanted, key=lambda key: _weight(key[0], self.identity.pod), reverse=True)
        wanted = {key: wanted[key] for key in ranked[:MAX_ENDPOINTS]}
        if spec is not self._spec:
            return  # it changed meanwhile; the next round is due at once
        if set(unresolved) != set(self._unresolved):
            log.warning("AI Core names changed", extra={"unresolved": json.dumps(unresolved)})
        self._unresolved = unresolved
        added = [key for key in wanted if key not in self._endpoints]
        for key in added:
            self._endpoints[key] = Endpoint(key[0], wanted[key], credentials, self._limits)
        if not keeps:  # when nobody could be asked, the last known addresses stand
            for key in [key for key in self._endpoints if key not in wanted]:
                self._retire(key)
        if added:
            log.info("AI Core endpoints", extra={"endpoints": sorted(one.address for one in self._endpoints.values())})
            self._available()

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
            self.own(asyncio.create_task(endpoint.channel.close(grace=None), name=f"aic-close-{endpoint.address}"))

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
        await asyncio.gather(*(self._poll(endpoint) for endpoint in list(self._endpoints.values())))

    async def _poll(self, endpoint: Endpoint) -> None:
        was_usable = endpoint.reachable is not False and endpoint.open_for(self._clock())
        try:
            answer = await endpoint.stub.GetCapabilities(
                pb.CapabilitiesRequest(), timeout=POLL_TIMEOUT_S, metadata=self.metadata
            )
        except grpc.aio.AioRpcError as error:
            if endpoint.reachable is not False:
                log.warning("AI Core is unreachable", extra={"endpoint": endpoint.address, "code": error.code().name})
            endpoint.reachable = False
            return
        if endpoint.reachable is False:
            log.info("AI Core answers again", extra={"endpoint": endpoint.address})
        endpoint.reachable = True
        endpoint.load, endpoint.draining = answer.load, answer.draining
        half_opened = endpoint.breaker.rest(self._clock())
        if half_opened or (not was_usable and endpoint.open_for(self._clock())):
            self._available()


async def resolve_all(host: str, port: int) -> Sequence[tuple[str, int]]:
    try:
        host.encode("idna")
    except UnicodeError as error:  # "a..b", or a label beyond 63 characters; getaddrinfo would raise it unchanged
        raise socket.gaierror(socket.EAI_NONAME, f"no host name: {error}") from error
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({(str(entry[4][0]), port) for entry in found})


def _weight(address: str, name: str) -> bytes:
    """Rendezvous: each session prefers the endpoint that hashes highest with it."""
    return hashlib.blake2b(f"{address}\n{name}".encode(), digest_size=8).digest()


def _open_message(identity: Identity, request: SessionRequest) -> pb.SessionOpen:
    return pb.SessionOpen(
        session_id=f"{identity.pod}/{request.name}/{request.number}",
        codec=_CODECS.get(request.codec, pb.CODEC_UNSPECIFIED),
        clock_rate=request.clock_rate,
        policy=_policy_message(request.policy),
        group_id=request.room,
        content=pb.CONTENT_CAMERA,  # plain RTP carries no signalling that could say otherwise
        protocol_minor=PROTOCOL_MINOR,
    )


def _policy_message(policy: Compression) -> pb.Policy:
    return pb.Policy(
        target_savings=policy.target_savings_percent / 100,
        min_savings=policy.min_savings_percent / 100,
        quality_level=policy.quality_level,
        quality_floor=policy.quality_floor,
        model=policy.model,
        always=policy.mode == "Always",
    )


def _result(answer: pb.FrameResult) -> Result:
    return Result(
        frame_id=answer.frame_id,
        disposition=_DISPOSITIONS.get(answer.disposition, Disposition.FAILED),
        payload=answer.payload,
        key=answer.key,
        ratio=answer.ratio,
        quality=answer.quality,
        model_hash=answer.model_hash,
        flags=answer.flags,
        encoder_us=answer.encoder_us,
        queue_us=answer.queue_us,
        advice=_ADVICE.get(answer.advice, Advice.KEEP),
        reason=answer.reason,
        need_key=answer.need_key,
    )
