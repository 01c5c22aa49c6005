"""The gRPC service: who is served, frames to the workers and results back. The only module that knows gRPC."""

import asyncio
import logging
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

from auralink_aicore.codecs import MAX_SIDE, SERVED
from auralink_aicore.http import HttpServer
from auralink_aicore.metrics import Metrics
from auralink_aicore.server.call import MAX_IN_FLIGHT, Call
from auralink_aicore.server.opening import PROTOCOL_MINOR, BadRequestError, Fault, check_protocol, parse_open
from auralink_aicore.transcoder import MODEL, Disposition
from auralink_aicore.worker.admission import Admission, Load
from auralink_aicore.worker.pool import Pool
from auralink_aicore.worker.wire import Timed

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
SILENT_S = 60.0  # a client that sends nothing so long has forgotten the session
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


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Contents of the three PEM files; with `ca`, clients must show a certificate."""

    certificate: bytes
    key: bytes
    ca: bytes | None


class AiCore(pb_grpc.AICoreServicer):
    """The service, and everything of it that outlives a call."""

    def __init__(self, workers: int, metrics: Metrics) -> None:
        self.metrics = metrics
        self._admission = Admission()
        self._pool = Pool(workers, self)
        self._size = workers
        self._calls: set[Call] = set()
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
            await context.abort(grpc.StatusCode[error.fault.name], str(error))

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
            raise BadRequestError(text, Fault.DEADLINE_EXCEEDED) from None

    def _open(self, first: pb.ClientMessage, caller: Mapping[str, str | bytes]) -> tuple[Call | None, pb.SessionOpened]:
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
        call = Call(self, request.session_id, load)
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

    async def _serve(self, call: Call, messages: AsyncIterator[pb.ClientMessage], context: _Context) -> None:
        reader = asyncio.create_task(call.read(messages), name=f"read {call.name}")
        try:
            await call.write(context.write)
        finally:
            reader.cancel()
            self._close(call)
            await asyncio.gather(reader, return_exceptions=True)

    def _close(self, call: Call) -> None:
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
                    call.fail(BadRequestError(f"nothing heard for {SILENT_S:.0f} s", Fault.DEADLINE_EXCEEDED))

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


def _credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(tls.key, tls.certificate)],
        root_certificates=tls.ca,
        require_client_auth=tls.ca is not None,
    )
