"""The gRPC service: who is served, frames to the workers and results back. Wired and run by `__main__`.

A `Compress` call is two loops: one reads messages and hands frames to the session's seat, the other writes what
comes back, in order. Everything a call may hold is bounded by the frames the client may have unanswered.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import grpc.aio
from auralink_pb.aicore.v1 import aicore_pb2 as pb
from auralink_pb.aicore.v1 import aicore_pb2_grpc as pb_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from auralink_aicore.codecs import MAX_PIXELS, MAX_SIDE, MIN_SIDE, SERVED, Codec
from auralink_aicore.codecs.h264 import Limits
from auralink_aicore.controller import Policy
from auralink_aicore.http import HttpServer
from auralink_aicore.metrics import Metrics
from auralink_aicore.transcoder import MODEL, Disposition, Frame, Mode, Session
from auralink_aicore.worker.admission import Admission, Load
from auralink_aicore.worker.pool import Pool, Seat
from auralink_aicore.worker.wire import Timed

log = logging.getLogger(__name__)

PROTOCOL_MINOR = 0
MAX_IN_FLIGHT = 16
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
SILENT_S = 60.0  # a client that sends nothing so long has forgotten the session
NAME_LIMIT = 512  # characters; a pod, a room and two numbers
FPS_LIMIT = 240  # a session of more would fill a worker by its own word
SWEEP_S = 5.0
DRAIN_S = 5.0  # a client moves within some frames of the notice, or never
SERVICE = pb.DESCRIPTOR.services_by_name["AICore"].full_name

_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
    # Clients ping every 10 s, also between sessions.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
)


_Context: TypeAlias = "grpc.aio.ServicerContext[pb.ClientMessage, pb.ServerMessage]"


class BadRequestError(ValueError):
    """The client broke the protocol; its call ends with this."""

    def __init__(self, text: str, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Contents of the three PEM files; with `ca`, clients must show a certificate."""

    certificate: bytes
    key: bytes
    ca: bytes | None


class _End:
    """Closes a call's outgoing side once everything before it is written."""


class _Call:
    """One `Compress` stream, between its client and its seat."""

    def __init__(self, core: "AiCore", name: str, load: Load) -> None:
        self._core = core
        self.name = name
        self.load = load
        self.seat: Seat | None = None
        self.heard_s = time.monotonic()
        self._outgoing: asyncio.Queue[pb.ServerMessage | BadRequestError | _End] = asyncio.Queue()
        self._policy: Policy | None = None  # controls wait for the next frame, the newest of each kind
        self._force_key = False
        self._unanswered: dict[int, int] = {}  # frame id -> bytes
        self._owed = 0  # frames and promotions without a written result
        self._ending = False
        self._failed = False

    # From the worker.

    def answered(self, timed: Timed) -> None:
        """A result, on its way to the client."""
        result = timed.result
        self.load.pixels = timed.pixels or self.load.pixels
        if result.disposition is Disposition.FAILED and not self._failed:
            self._failed = True
            log.error("session failed", extra={"session": self.name, "reason": result.reason})
        self._core.count(timed, self._unanswered.pop(result.frame_id, 0))
        message = pb.ServerMessage(
            result=pb.FrameResult(
                frame_id=result.frame_id,
                disposition=result.disposition,  # type: ignore[arg-type]
                payload=result.payload,
                key=result.key,
                ratio=result.ratio,
                quality=result.quality,
                model_hash=result.model_hash,
                flags=result.flags,
                encoder_us=timed.encoder_us,
                queue_us=timed.queue_us,
                advice=result.advice,  # type: ignore[arg-type]
                reason=result.reason,
                need_key=result.need_key,
            )
        )
        self._outgoing.put_nowait(message)

    def lost(self, reason: str) -> None:
        """The worker died: tell the client, then end."""
        self._core.metrics.lost.inc()
        self.notice(pb.Notice.KIND_LOST, reason)
        self._outgoing.put_nowait(_End())

    # From the server.

    def notice(self, kind: pb.Notice.Kind.ValueType, detail: str) -> None:
        """Tell the client something about its session."""
        self._outgoing.put_nowait(pb.ServerMessage(notice=pb.Notice(kind=kind, detail=detail)))

    def fail(self, error: BadRequestError) -> None:
        """End the call with an error."""
        self._outgoing.put_nowait(error)

    # From the client.

    async def read(self, messages: AsyncIterator[pb.ClientMessage]) -> None:
        """Hand on what the client sends, until it ends."""
        try:
            async for message in messages:
                if not self._take(message):
                    break
        except BadRequestError as error:
            self.fail(error)
            return
        except Exception:
            log.exception("session broken", extra={"session": self.name})
            self.fail(BadRequestError("internal error", grpc.StatusCode.INTERNAL))
            return
        self._ending = True
        if self._owed == 0:
            self._outgoing.put_nowait(_End())

    def _take(self, message: pb.ClientMessage) -> bool:
        """False at the client's wish to end."""
        assert self.seat is not None  # noqa: S101 - read starts after the seat was given
        self.heard_s = time.monotonic()
        kind = message.WhichOneof("message")
        if kind == "frame":
            self._frame(self.seat, message.frame)
        elif kind == "control":
            control = message.control.WhichOneof("control")
            if control == "end":
                return False
            if control == "promote":
                self._owe()
                self._pass_controls(self.seat)
                self.seat.promote()
            elif control == "force_key":
                self._force_key = True
            elif control == "policy":
                self._policy = parse_policy(message.control.policy)
            else:
                raise BadRequestError("a control without content")
        else:
            raise BadRequestError("expected a frame or a control")
        return True

    def _pass_controls(self, seat: Seat) -> None:
        if self._policy is not None:
            seat.policy(self._policy)
        if self._force_key:
            seat.force_key()
        self._policy, self._force_key = None, False

    def _frame(self, seat: Seat, frame: pb.Frame) -> None:
        if frame.mode not in (pb.MODE_COMPRESS, pb.MODE_SHADOW):
            raise BadRequestError("a frame needs a mode, COMPRESS or SHADOW")
        self._owe()
        self._unanswered[frame.frame_id] = len(frame.payload)
        self.load.shadow = frame.mode == pb.MODE_SHADOW
        deadline_s = self.heard_s + frame.deadline_ms / 1000 if frame.deadline_ms else math.inf
        self._pass_controls(seat)
        seat.frame(Frame(frame.frame_id, frame.payload, frame.key, Mode(frame.mode), self.heard_s, deadline_s))

    def _owe(self) -> None:
        self._owed += 1
        if self._owed > MAX_IN_FLIGHT:
            raise BadRequestError(
                f"more than {MAX_IN_FLIGHT} frames without an answer", grpc.StatusCode.RESOURCE_EXHAUSTED
            )

    # To the client.

    async def write(self, context: _Context) -> None:
        """Write what comes back, until it ends. Raises BadRequestError to end the call with an error."""
        while True:
            message = await self._outgoing.get()
            if isinstance(message, _End):
                return
            if isinstance(message, BadRequestError):
                raise message
            await context.write(message)
            if message.HasField("result"):
                self._owed -= 1
                if self._ending and self._owed == 0:
                    return


class AiCore(pb_grpc.AICoreServicer):
    """The service, and everything of it that outlives a call."""

    def __init__(self, workers: int, metrics: Metrics) -> None:
        self.metrics = metrics
        self._admission = Admission()
        self._pool = Pool(workers, self)
        self._size = workers
        self._calls: set[_Call] = set()
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        metrics.load.set_function(self._admission.load)
        metrics.host_factor.set_function(lambda: self._admission.host_factor)
        metrics.sessions.set_function(lambda: len(self._calls))
        metrics.workers.set_function(lambda: len(self._pool.pids))

    # The pool tells.

    def worker_up(self, worker: int, calibration_ms: float) -> None:
        """It takes sessions now."""
        self._admission.seats[worker] = {}
        if calibration_ms:
            self._admission.calibrated(calibration_ms)

    def worker_down(self, worker: int) -> None:
        """It died; its calls have been told."""
        self.metrics.worker_deaths.inc()
        self._admission.seats.pop(worker, None)

    # Calls.

    async def Compress(  # type: ignore[override]  # noqa: N802 - gRPC's name; the stub knows only generators
        self, request_iterator: Any, context: _Context
    ) -> None:
        """One session from open to end."""
        try:
            first = await self._first(request_iterator)
            if first is None:
                return
            caller = dict(context.invocation_metadata() or ())
            check_protocol(str(caller.get("auralink-protocol", "1.0")))
            call, opened = self._open(first, caller)
            await context.write(pb.ServerMessage(opened=opened))
            if call is not None:
                await self._serve(call, request_iterator, context)
        except BadRequestError as error:
            await context.abort(error.code, str(error))

    async def GetCapabilities(self, request: Any, context: Any) -> pb.Capabilities:  # noqa: N802, ARG002 - gRPC's
        """What can be done now."""
        return pb.Capabilities(
            codecs=[pb.CodecCapability(codec=int(c), max_width=MAX_SIDE, max_height=MAX_SIDE) for c in SERVED],  # type: ignore[arg-type]
            workers=self._size,
            protocol_minor=PROTOCOL_MINOR,
            load=self._admission.load(),
            host_factor=self._admission.host_factor,
            model=MODEL,
            model_sha256="",
            draining=self._draining,
            keeps_temporal_layers=False,
            lossless_references=False,
        )

    def count(self, timed: Timed, source_bytes: int) -> None:
        """Take one answer into the metrics and the live cost of a frame."""
        result, metrics = timed.result, self.metrics
        metrics.frames.labels(result.disposition.name.lower()).inc()
        if result.disposition is not Disposition.COMPRESSED:
            return
        metrics.bytes_in.inc(source_bytes)
        metrics.bytes_out.inc(len(result.payload))
        metrics.encoder_s.labels("true" if result.key else "false").observe(timed.encoder_us / 1e6)
        metrics.queue_s.observe(timed.queue_us / 1e6)
        if not result.key:
            self._admission.observed(timed.encoder_us / 1000, timed.pixels)

    def health(self) -> tuple[bool, dict[str, Any]]:
        """What `/health` says."""
        up = len(self._admission.seats)
        healthy = bool(up) and not self._draining
        status = "draining" if self._draining else "healthy" if up else "no worker is up"
        return healthy, {
            "status": status,
            "workers": up,
            "sessions": len(self._calls),
            "load": round(self._admission.load(), 3),
            "model": MODEL,
        }

    @staticmethod
    async def _first(messages: AsyncIterator[pb.ClientMessage]) -> pb.ClientMessage | None:
        """What a call begins with. Raises BadRequestError: until it opens a session nothing else bounds its life."""
        try:
            async with asyncio.timeout(SILENT_S):
                return await anext(messages, None)
        except TimeoutError:
            text = f"no open within {SILENT_S:.0f} s"
            raise BadRequestError(text, grpc.StatusCode.DEADLINE_EXCEEDED) from None

    def _open(
        self, first: pb.ClientMessage, caller: Mapping[str, str | bytes]
    ) -> tuple[_Call | None, pb.SessionOpened]:
        """Admit a session or say why not. Raises BadRequestError."""
        if first.WhichOneof("message") != "open":
            raise BadRequestError("the first message must be open")
        request = first.open
        session = parse_open(request)
        if isinstance(session, str):
            return None, self._refuse(pb.SessionOpened.STATUS_UNSUPPORTED, session)
        if self._draining:
            return None, self._refuse(pb.SessionOpened.STATUS_FULL, "this AI Core is shutting down")
        load = Load(request.width * request.height, request.max_fps)
        worker = self._admission.choose(load)
        if worker is None:
            return None, self._refuse(pb.SessionOpened.STATUS_FULL, "every worker has as many streams as it can take")
        call = _Call(self, request.session_id, load)
        call.seat = self._pool.seat(worker, session, call)
        self._admission.seats[worker][call.seat.number] = load
        self._calls.add(call)
        self._idle.clear()
        log.info(
            "session opened",
            extra={"session": call.name, "worker": worker, "bridge": caller.get("auralink-bridge-id", "")},
        )
        opened = pb.SessionOpened(status=pb.SessionOpened.STATUS_OK, max_in_flight=MAX_IN_FLIGHT, model=MODEL)
        return call, opened

    def _refuse(self, status: pb.SessionOpened.Status.ValueType, reason: str) -> pb.SessionOpened:
        name = pb.SessionOpened.Status.Name(status).removeprefix("STATUS_").lower()
        self.metrics.refused.labels(name).inc()
        return pb.SessionOpened(status=status, reason=reason, model=MODEL)

    async def _serve(self, call: _Call, messages: AsyncIterator[pb.ClientMessage], context: _Context) -> None:
        reader = asyncio.create_task(call.read(messages), name=f"read {call.name}")
        try:
            await call.write(context)
        finally:
            reader.cancel()
            self._close(call)
            await asyncio.gather(reader, return_exceptions=True)

    def _close(self, call: _Call) -> None:
        seat = call.seat
        if seat is not None:
            seat.close()
            self._admission.seats.get(seat.worker.index, {}).pop(seat.number, None)
        self._calls.discard(call)
        if not self._calls:
            self._idle.set()
        log.info("session closed", extra={"session": call.name})

    async def _sweep(self) -> None:
        """End the calls of clients that went silent."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            for call in self._calls:
                if now - call.heard_s > SILENT_S:
                    call.fail(BadRequestError(f"nothing heard for {SILENT_S:.0f} s", grpc.StatusCode.DEADLINE_EXCEEDED))

    # Lifecycle.

    async def run(self, listen: str, http_port: int, tls: TlsFiles | None, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain. Raises OSError or RuntimeError when a port is not to be had."""
        http = HttpServer(self.metrics.registry, self.health)
        server = grpc.aio.server(options=_OPTIONS)
        pb_grpc.add_AICoreServicer_to_server(self, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        port = server.add_insecure_port(listen) if tls is None else server.add_secure_port(listen, _credentials(tls))
        try:
            host = listen.rpartition(":")[0].strip("[]")
            http_port = await http.start(host, http_port)
            await self._pool.start()
            await server.start()
            await self._set_health(health_pb2.HealthCheckResponse.SERVING)
            log.info(
                "serving",
                extra={
                    "port": port,
                    "http_port": http_port,
                    "workers": self._size,
                    "tls": tls is not None,
                    "host_factor": round(self._admission.host_factor, 2),
                },
            )
            sweeper = asyncio.create_task(self._sweep(), name="sweeper")
            await stop.wait()
            sweeper.cancel()
            await self._drain()
        finally:
            await server.stop(0.5)
            await self._pool.stop()
            await http.close()

    async def _drain(self) -> None:
        """Take nothing new, ask the clients to go, and give them a little time for it."""
        self._draining = True
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        log.info("draining", extra={"sessions": len(self._calls)})
        for call in self._calls:
            call.notice(pb.Notice.KIND_DRAINING, "this AI Core is shutting down")
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._idle.wait()
        except TimeoutError:
            log.warning("sessions cut off", extra={"sessions": len(self._calls)})

    async def _set_health(self, status: Any) -> None:
        for name in ("", SERVICE):
            await self._health.set(name, status)


def check_protocol(version: str) -> None:
    """Raises BadRequestError for a caller of another major version; minor ones only add."""
    if version.split(".")[0] != "1":
        text = f"protocol {version} is not spoken here, 1.{PROTOCOL_MINOR} is"
        raise BadRequestError(text, grpc.StatusCode.FAILED_PRECONDITION)


def parse_open(request: pb.SessionOpen) -> Session | str:
    """The session asked for, or why this kind of stream is not served. Raises BadRequestError."""
    if request.codec == pb.CODEC_UNSPECIFIED:
        raise BadRequestError("open needs a codec")
    if max(len(request.session_id), len(request.group_id)) > NAME_LIMIT:
        raise BadRequestError(f"session_id and group_id have at most {NAME_LIMIT} characters")
    if request.max_fps > FPS_LIMIT:
        raise BadRequestError(f"max_fps is {request.max_fps}, allowed are up to {FPS_LIMIT}; 0 is unknown")
    name = pb.Codec.Name(request.codec).removeprefix("CODEC_") if request.codec in pb.Codec.values() else request.codec
    if request.codec not in {int(codec) for codec in SERVED}:
        return f"codec {name} is not served by this AI Core"
    width, height = request.width, request.height
    if width and height and (min(width, height) < MIN_SIDE or width * height > MAX_PIXELS):
        return f"pictures of {width}x{height} are not served"
    if not _has_model(request.policy):
        return f"model {request.policy.model!r} is not here, {MODEL!r} is"
    return Session(
        codec=Codec(request.codec),
        policy=parse_policy(request.policy),
        limits=Limits(int(request.max_profile), request.max_level),
        screen=request.content == pb.CONTENT_SCREEN,
    )


def parse_policy(policy: pb.Policy) -> Policy:
    """Unset fields are the defaults. Raises BadRequestError."""
    optional = (
        "target_savings",
        "min_savings",
        "quality_level",
        "quality_floor",
        "latency_budget_ms",
        "max_bitrate_bps",
    )
    given: dict[str, Any] = {name: getattr(policy, name) for name in optional if policy.HasField(name)}  # type: ignore[arg-type]
    if not _has_model(policy):
        raise BadRequestError(f"model {policy.model!r} is not here, {MODEL!r} is")
    try:
        return Policy(always=policy.always, **given)
    except ValueError as error:
        raise BadRequestError(str(error)) from error


def _has_model(policy: pb.Policy) -> bool:
    return policy.model in ("", MODEL)


def _credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(tls.key, tls.certificate)],
        root_certificates=tls.ca,
        require_client_auth=tls.ca is not None,
    )
