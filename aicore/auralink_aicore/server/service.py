"""The gRPC service: who is served, frames to the workers and results back. The only module that knows gRPC."""

import asyncio
import gc
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

from auralink_aicore.codecs import SERVED, Codec
from auralink_aicore.controller import Policy
from auralink_aicore.http import HttpServer
from auralink_aicore.metrics import Metrics
from auralink_aicore.model import Model, packaged
from auralink_aicore.server.call import MAX_IN_FLIGHT, Call
from auralink_aicore.server.evidence import Evidence
from auralink_aicore.server.opening import PROTOCOL_MINOR, BadRequestError, Fault, check_protocol, parse_open
from auralink_aicore.server.rooms import share_rooms
from auralink_aicore.settings import Evidence as EvidenceLevel
from auralink_aicore.transcoder import FLAG_DEGRADED, Disposition, Session
from auralink_aicore.worker.admission import MAX_SEATS, Admission, Load
from auralink_aicore.worker.costs import largest, refusal
from auralink_aicore.worker.pool import Pool
from auralink_aicore.worker.wire import Opening, Timed

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
SILENT_S = 60.0  # a client that sends nothing so long has forgotten the session
SWEEP_S = 5.0
DRAIN_S = 5.0  # a client moves within some frames of the notice, or never
CUT_S = 0.5  # for the last word to those that did not
ALLOCATE_EVERY_S = 1.0
# Calls beyond the sessions that may be seated: those on their way in or out. gRPC's own limit, twice as high, bounds
# the other services too; it is the last resort because it cancels some calls without a word.
SPARE_CALLS = 512
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

    def __init__(
        self,
        workers: int,
        metrics: Metrics,
        picture_cores: int = 1,
        model: Model | None = None,
        *,
        evidence: EvidenceLevel = EvidenceLevel.OFF,
        ffmpeg: str = "ffmpeg",
    ) -> None:
        """`picture_cores`: how many may work on one picture; `model`: None for the packaged one."""
        self.metrics = metrics
        self.model = model or packaged()
        self._evidence = Evidence(metrics, evidence, ffmpeg)
        self._admission = Admission(picture_cores=picture_cores)
        self._pool = Pool(workers, self, self.model, picture_cores)
        self._size = workers
        self._calls: set[Call] = set()
        self._under_way = 0  # calls, with or without a session
        self._most_calls = workers * MAX_SEATS + SPARE_CALLS
        self._seated: dict[int, Call] = {}  # by the number of its seat
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        # Looking a label up takes as long as everything else a frame costs the metrics.
        self._frames = {one: metrics.frames.labels(one.name.lower()) for one in Disposition}
        self._encoder_s = {key: metrics.encoder_s.labels(str(key).lower()) for key in (True, False)}
        metrics.load.set_function(self._admission.load)
        metrics.host_factor.set_function(lambda: self._admission.host_factor)
        metrics.sessions.set_function(lambda: len(self._calls))
        metrics.workers.set_function(lambda: len(self._pool.pids))

    @property
    def model_id(self) -> str:
        """Of the model in use."""
        return self.model.id

    def use(self, model: Model) -> None:
        """Another model: sessions change to it at their next window, and their clients are told."""
        log.info("model changed", extra={"model": model.id, "was": self.model.id, "sha256": model.sha256})
        self.model = model
        self._pool.use(model)
        for call in self._calls:
            call.notice(pb.Notice.KIND_MODEL_CHANGED, model.id)

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
        self._under_way += 1
        try:
            if self._under_way > self._most_calls:
                text = f"more than {self._most_calls} calls at once"
                raise BadRequestError(text, Fault.RESOURCE_EXHAUSTED)  # noqa: TRY301 - as every other end of a call
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
        finally:
            self._under_way -= 1

    async def GetCapabilities(self, request: Any, context: Any) -> pb.Capabilities:  # noqa: N802, ARG002 - gRPC's
        """What can be done now."""
        return pb.Capabilities(
            codecs=[self._capability(codec) for codec in SERVED],
            workers=self._size,
            protocol_minor=PROTOCOL_MINOR,
            load=self._admission.load(),
            host_factor=self._admission.host_factor,
            model=self.model.id,
            model_sha256=self.model.sha256,
            draining=self._draining,
            keeps_temporal_layers=False,
            lossless_references=False,
        )

    def _capability(self, codec: Codec) -> pb.CodecCapability:
        width, height = largest(codec, Policy().latency_budget_ms, self._admission.host)
        return pb.CodecCapability(codec=int(codec), max_width=width, max_height=height)  # type: ignore[arg-type]

    def collects(self, call: Call, collect: pb.Collect.ValueType) -> None:
        """What may be kept of it from now on."""
        self._evidence.allowed(call, collect)

    def count(self, timed: Timed, call: Call, source_bytes: int, pair: tuple[bytes, bool] | None) -> None:
        """Take one answer into the metrics, the evidence and the live cost of a frame."""
        result, metrics = timed.result, self.metrics
        self._evidence.answered(call, timed, source_bytes, pair)
        self._frames[result.disposition].inc()
        if result.disposition is not Disposition.COMPRESSED:
            return
        metrics.bytes_in.inc(source_bytes)
        metrics.bytes_out.inc(len(result.payload))
        self._encoder_s[result.key].observe(timed.encoder_us / 1e6)
        metrics.queue_s.observe(timed.queue_us / 1e6)
        if not result.key and not result.flags & FLAG_DEGRADED:
            self._admission.observed(timed.encoder_us / 1000, call.load.codec, timed.pixels)

    def turned(self, call: Call) -> None:
        """A session that watched compresses now, and may need the room of others that still watch."""
        if call.seat is not None:
            self._shed(self._admission.crowded(call.seat.worker.index))

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
            "model": self.model.id,
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
        session = parse_open(request, self.model.id)
        if isinstance(session, str):
            return None, self._refuse(pb.SessionOpened.STATUS_UNSUPPORTED, session)
        if self._draining:
            return None, self._refuse(pb.SessionOpened.STATUS_FULL, "this AI Core is shutting down")
        too_slow = refusal(session.codec, request.width, request.height, session.policy, self._admission.host)
        if too_slow:
            return None, self._refuse(pb.SessionOpened.STATUS_UNSUPPORTED, too_slow)
        shadow = request.mode == pb.MODE_SHADOW
        place = self._admission.place(Load(session.codec, request.width * request.height, request.max_fps, shadow))
        if place is None:
            return None, self._refuse(pb.SessionOpened.STATUS_FULL, "every worker has as many streams as it can take")
        self._shed(place.shed)
        call = self._seat(request, session, place.worker, str(caller.get("auralink-bridge-id", "")))
        log.info(
            "session opened",
            extra={"session": call.name, "worker": place.worker, "bridge": caller.get("auralink-bridge-id", "")},
        )
        opened = pb.SessionOpened(status=pb.SessionOpened.STATUS_OK, max_in_flight=MAX_IN_FLIGHT, model=self.model.id)
        return call, opened

    def _seat(self, request: pb.SessionOpen, session: Session, worker: int, bridge: str) -> Call:
        load = Load(
            session.codec, request.width * request.height, request.max_fps, shadow=request.mode == pb.MODE_SHADOW
        )
        room = (bridge, request.group_id) if request.group_id else None
        call = Call(self, request.session_id, load, room)
        opening = Opening(session, self._admission.host_factor, reports=room is not None)
        call.seat = self._pool.seat(worker, opening, call)
        self._admission.seats[worker][call.seat.number] = load
        self._seated[call.seat.number] = call
        self._evidence.opened(call, request.policy.collect)
        self._calls.add(call)
        self._idle.clear()
        return call

    def _shed(self, numbers: Sequence[int]) -> None:
        """End the calls of these standbys; their seats are free at once."""
        for number in numbers:
            call = self._seated[number]
            self.metrics.shed.inc()
            log.info("session shed", extra={"session": call.name})
            call.shed("its room is needed by a stream that compresses")
            self._free(call)

    def _free(self, call: Call) -> None:
        if call.seat is not None and self._seated.pop(call.seat.number, None) is not None:
            call.seat.close()
            self._admission.seats.get(call.seat.worker.index, {}).pop(call.seat.number, None)

    def _refuse(self, status: pb.SessionOpened.Status.ValueType, reason: str) -> pb.SessionOpened:
        name = pb.SessionOpened.Status.Name(status).removeprefix("STATUS_").lower()
        self.metrics.refused.labels(name).inc()
        return pb.SessionOpened(status=status, reason=reason, model=self.model.id)

    async def _serve(self, call: Call, messages: AsyncIterator[pb.ClientMessage], context: _Context) -> None:
        reader = asyncio.create_task(call.read(messages), name=f"read {call.name}")
        try:
            await call.run(context.write)
        finally:
            reader.cancel()
            self._close(call)
            await asyncio.gather(reader, return_exceptions=True)

    def _close(self, call: Call) -> None:
        self._free(call)
        self._calls.discard(call)
        self._evidence.closed(call)
        if not self._calls:
            self._idle.set()
        log.info("session closed", extra={"session": call.name})

    async def _sweep(self) -> None:
        """End the calls of clients that went silent."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self._admission.relax()
            now = time.monotonic()
            for call in self._calls:
                if now - call.heard_s > SILENT_S:
                    call.fail(BadRequestError(f"nothing heard for {SILENT_S:.0f} s", Fault.DEADLINE_EXCEEDED))

    async def _allocate(self) -> None:
        """Let the streams of each room share its bytes."""
        while True:
            await asyncio.sleep(ALLOCATE_EVERY_S)
            share_rooms(self._calls, time.monotonic())

    # Lifecycle.

    async def run(self, listen: str, http_port: int, tls: TlsFiles | None, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain. Raises OSError or RuntimeError when a port is not to be had."""
        http = HttpServer(self.metrics.registry, self.health, self._evidence.told)
        server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=2 * self._most_calls)
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
            self._evidence.start()
            await self._set_health(health_pb2.HealthCheckResponse.SERVING)
            gc.collect()
            gc.freeze()  # what the imports made stays; a collection that looks through it stops all streams for 30 ms
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
            chores = [
                asyncio.create_task(self._sweep(), name="sweeper"),
                asyncio.create_task(self._allocate(), name="allocator"),
            ]
            await stop.wait()
            for chore in chores:
                chore.cancel()
            await self._drain()
        finally:
            await server.stop(0.5)
            await self._pool.stop()
            await self._evidence.stop()
            await http.close()

    async def _drain(self) -> None:
        """Take nothing new, ask the clients to go, and give them a little time for it."""
        self._draining = True
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        log.info("draining", extra={"sessions": len(self._calls)})
        for call in self._calls:
            call.notice(pb.Notice.KIND_DRAINING, "this AI Core is shutting down")
        if await self._emptied(DRAIN_S):
            return
        log.warning("sessions cut off", extra={"sessions": len(self._calls)})
        for call in self._calls:
            call.fail(BadRequestError("this AI Core has shut down", Fault.UNAVAILABLE))
        await self._emptied(CUT_S)

    async def _emptied(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _set_health(self, status: Any) -> None:
        for name in ("", SERVICE):
            await self._health.set(name, status)


def _credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(tls.key, tls.certificate)],
        root_certificates=tls.ca,
        require_client_auth=tls.ca is not None,
    )
