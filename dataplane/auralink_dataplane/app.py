"""Composition root of a data-plane pod: open, start, ready, drain, close. `__main__` runs it.

Configuration comes in through `apply`, whatever its source; from then on the pod serves the rooms that it owns until it
is told to stop, by signal, by `POST /drain` or because its ConfigMap is gone.
"""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from auralink_dataplane import __version__
from auralink_dataplane.http import Servers
from auralink_dataplane.media.aic import AicClient, Identity, Resolve, resolve_all
from auralink_dataplane.media.legs.plain_rtp import PlainRtpLegs, sdp
from auralink_dataplane.media.packets import PacketEngine
from auralink_dataplane.media.pipeline import Limits
from auralink_dataplane.media.streams import Stream, Streams
from auralink_dataplane.metrics import Metrics
from auralink_dataplane.policy import Compression, compression_for
from auralink_dataplane.settings import BridgeConfig, ConfigError, RoomSpec, Settings, parse_documents
from auralink_dataplane.status_reporter import Phase, Snapshot, StatusReporter

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
DRAIN_LOOK_S: Final = 0.2
LOSS_PROBLEM: Final = 0.05
STALLED_S: Final = 30.0
"""A loop that has not looked for so long is stuck, and liveness says so."""


class Cluster(Protocol):
    """What the Kubernetes adapter does for a pod."""

    def config_maps(self) -> AsyncIterator[dict[str, str] | None]: ...
    async def apply_pod_entry(self, entry: Mapping[str, Any] | None) -> None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Drain:
    """Not ready first, while media flows, until load balancers have noticed; then until no session is left."""

    started: float
    propagation_s: float
    timeout_s: float

    def over(self, now: float, *, sessions: int, forced: bool, abandoned: bool) -> bool:
        """`abandoned`: the bridge is deleted, nobody waits for its sessions."""
        elapsed = now - self.started
        if forced or elapsed >= self.propagation_s + self.timeout_s:
            return True
        return elapsed >= self.propagation_s and (sessions == 0 or abandoned)


@dataclass(frozen=True, slots=True)
class Host:
    """What `__main__` gives: the machine around the pod, replaceable in tests."""

    clock: Callable[[], float]
    wall_ms: Callable[[], int]
    started_at: str  # RFC 3339
    read_secret: Callable[[str, str], bytes | None]
    resolve: Resolve = resolve_all


class App:
    def __init__(self, settings: Settings, host: Host, engine: PacketEngine, cluster: Cluster | None) -> None:
        self.settings = settings
        self._host = host
        self._engine = engine
        self._cluster = cluster
        self._config: BridgeConfig | None = None
        self._owners: Mapping[str, str] | None = None
        self._rooms: tuple[RoomSpec, ...] = ()
        self._policies: dict[str, Compression] = {}
        self._rejected: str | None = None
        self._draining: Drain | None = None
        self._gone_since: float | None = None
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._looked_at = host.clock()
        self._stats: Mapping[str, Any] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.metrics = Metrics()
        self.metrics.observe_packets(self._packet_counters)
        self.streams = Streams(engine, self.metrics, clock=host.clock)
        self.aic = AicClient(
            Identity(settings.pod.bridge_id, settings.pod.name),
            clock=host.clock,
            read_secret=host.read_secret,
            available=self.streams.endpoint_available,
            resolve=host.resolve,
        )
        self.legs = PlainRtpLegs(engine, host.resolve, opened=self.streams.leg_opened, closed=self.streams.leg_closed)
        self.streams.connect(self.aic, self.legs)
        self.servers = Servers(self)
        self.reporter = self._make_reporter(cluster) if cluster else None

    def _make_reporter(self, cluster: Cluster) -> StatusReporter:
        pod = self.settings.pod
        fixed = {"name": pod.name, "uid": pod.uid, "version": __version__, "since": self._host.started_at}
        if pod.node:
            fixed["node"] = pod.node
        return StatusReporter(cluster, self.snapshot, fixed, clock=self._host.clock)

    # --- life -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until it has drained. Raises OSError when a port is taken."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.request_stop)
        try:
            await self.start()
            await self._stop.wait()
            await self._drain()
        finally:
            await self.close()

    async def start(self) -> None:
        await self.servers.start(self.settings.http_port, self.settings.metrics_port)
        self.streams.start()
        self.aic.start()
        if self.settings.config:
            self.apply(self.settings.config, None)
        self._spawn("legs", self.legs.run())
        self._spawn("look", self._keep_looking())
        if self._cluster:
            self._spawn("configuration", self._follow_config(self._cluster))
        if self.reporter:
            self._spawn("reporter", self.reporter.run())

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """None of them ends by itself: without one the pod is no use, and a restart is better than half a pod."""
        if not task.cancelled() and (error := task.exception()):
            log.critical("task died", extra={"task": task.get_name()}, exc_info=error)
            self._hurry.set()
            self._stop.set()

    async def _drain(self) -> None:
        self._draining = Drain(
            self._host.clock(), float(self.settings.drain_propagation_s), float(self.settings.drain_timeout_s)
        )
        log.info("draining", extra={"sessions": self.sessions})
        if self.reporter:
            self.reporter.poke()
        while not self._draining.over(
            self._host.clock(),
            sessions=self.sessions,
            forced=self._hurry.is_set(),
            abandoned=self._gone_since is not None,
        ):
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_LOOK_S):
                    await self._hurry.wait()
        log.info("drained", extra={"sessions": self.sessions, "forced": self._hurry.is_set()})

    async def close(self) -> None:
        """In reverse, whatever state `start` had reached."""
        for task in reversed(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.reporter:
            await self.reporter.remove()
        self.legs.close()
        self.streams.stop()
        await self.aic.close()
        self._engine.close()
        await self.servers.close()
        if self._cluster:
            await self._cluster.close()

    def request_stop(self) -> None:
        """A second time forces."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def request_drain(self) -> None:
        self._stop.set()

    # --- configuration --------------------------------------------------------------------------------------

    async def _follow_config(self, cluster: Cluster) -> None:
        async for data in cluster.config_maps():
            if data is None:
                self._config_gone()
            else:
                self._gone_since = None
                self._take(data)
            if self.reporter:
                self.reporter.poke()

    def _take(self, data: Mapping[str, str]) -> None:
        """Good: in force from the next frame on. Bad: the old one stays, and the status says why."""
        try:
            config, owners = parse_documents(data)
        except ConfigError as error:
            if self._rejected != str(error):
                log.warning("configuration rejected, the old one stays", extra={"errors": error.errors})
            self._rejected = str(error)
            return
        self._rejected = None
        if config != self._config or owners != self._owners:
            self.apply(config, owners)

    def _config_gone(self) -> None:
        if self._config is not None and self._gone_since is None:
            self._gone_since = self._host.clock()
            log.warning("the ConfigMap is gone: the pod ends unless it comes back")

    def apply(self, config: BridgeConfig, owners: Mapping[str, str] | None) -> None:
        """`owners`: room -> pod; None outside Kubernetes, where one pod serves all."""
        generation = self._config.generation if self._config else None
        self._config, self._owners = config, owners
        bridge = config.bridge
        logging.getLogger("auralink_dataplane").setLevel(bridge.log_level.upper())
        mine = self.settings.pod.name
        self._rooms = tuple(room for room in bridge.rooms if owners is None or owners.get(room.name) == mine)
        self._policies = {
            room.name: compression_for(room.name, room.labels, bridge.compression, config.policies)
            for room in bridge.rooms
        }
        self.aic.configure(bridge.ai_core)
        self.streams.configure(self._policies, Limits(timeout_s=bridge.ai_core.timeout_ms / 1000))
        self.legs.want(self._rooms)
        self.metrics.rooms_active.set(len(self._rooms))
        self.metrics.config_generation.set(config.generation)
        log.info(
            "configuration applied",
            extra={"generation": config.generation, "before": generation, "rooms": len(self._rooms)},
        )

    # --- looking --------------------------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        while True:
            now = self._looked_at = self._host.clock()
            self._stats = self.streams.sample(now)
            self.metrics.sessions_active.set(self.sessions)
            self.metrics.participants.set(self.sessions)
            if self._gone_since is not None and now >= self._gone_since + self.settings.drain_propagation_s:
                self._hurry.set()
                self._stop.set()
            await asyncio.sleep(LOOK_S)

    @property
    def sessions(self) -> int:
        return len(self.streams.live_legs())

    @property
    def phase(self) -> Phase:
        if self._draining:
            return "Draining"
        return "Serving" if self._config else "Starting"

    def snapshot(self) -> Snapshot:
        return Snapshot(
            phase=self.phase,
            generation=self._config.generation if self._config else 0,
            rooms=len(self._rooms),
            sessions=self.sessions,
            saved=self.streams.savings.share(),
            problems=self.problems(),
        )

    def problems(self) -> dict[str, str]:
        """Name -> what is wrong and what to do."""
        found: dict[str, str] = {}
        if self._rejected:
            found["ConfigInvalid"] = f"configuration rejected, the last good one stays: {self._rejected}"
        if missing := self._missing_secrets():
            found["CredentialsMissing"] = "; ".join(missing)
        if self._compresses and (problem := self.aic.problem()):
            found["AICoreUnavailable"] = f"{problem}; video goes on uncompressed"
        if refused := [stream for stream in self.streams if stream.pipeline and stream.pipeline.unsupported]:
            one = refused[0]
            found["CompressionDisabled"] = (
                f"room {one.room}, leg {one.leg.spec.name}: the AI Core does not serve its {one.codec}, which goes"
                " on as it came; set compression.mode Disabled for the room, or use an AI Core that does"
            )
        if closed := sorted(self.legs.problems.items()):
            (room, leg), said = closed[0]
            found["LegNotOpen"] = f"room {room}, leg {leg}: {said}" + (" (and others)" if closed[1:] else "")
        if (loss := self.streams.packets.share()) > LOSS_PROBLEM:
            found["PacketLoss"] = f"{loss:.0%} of incoming packets are lost: look at the network to the senders"
        return found

    @property
    def _compresses(self) -> bool:
        return any(self._policies[room.name].enabled for room in self._rooms)

    def _missing_secrets(self) -> list[str]:
        found = []
        if self._compresses and (secret := self.aic.missing_secret):
            found.append(f"Secret {secret} is missing: create it; video goes on uncompressed")
        ref = self._config.bridge.api.token_ref if self._config else None
        if ref and not self.api_token():
            found.append(f"Secret {ref.name}/{ref.key} is missing or empty: create it; the API stays closed")
        return found

    # --- what HTTP asks -------------------------------------------------------------------------------------

    def health(self) -> tuple[bool, dict[str, Any]]:
        alive = self._host.clock() - self._looked_at < STALLED_S
        return alive, {"status": "healthy" if alive else "stalled", "timestamp": self._host.wall_ms()}

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """An AI Core that is down does not unready: the pod still carries its calls."""
        ready = self._config is not None and self._draining is None and not self._stop.is_set()
        status = "ready" if ready else "draining" if self._stop.is_set() else "starting"
        return ready, {"status": status, "dependencies": {"ai_core": self.aic.usable}}

    def metrics_text(self) -> bytes:
        return self.metrics.text()

    def api_token(self) -> bytes | None:
        ref = self._config.bridge.api.token_ref if self._config else None
        token = self._host.read_secret(ref.name, ref.key) if ref else None
        return token.strip() if token else None

    def leg_sdp(self, room: str, leg: str) -> str | None:
        found = self.legs.open.get((room, leg))
        return sdp(found, self.settings.pod.ip or "127.0.0.1") if found else None

    def rooms(self) -> list[dict[str, Any]]:
        return [self._room_status(room) for room in self._rooms]

    def _room_status(self, room: RoomSpec) -> dict[str, Any]:
        policy = self._policies[room.name]
        legs = []
        for spec in room.legs:
            leg = self.legs.open.get((room.name, spec.name))
            legs.append(
                {
                    "name": spec.name,
                    "direction": spec.direction,
                    "open": leg is not None,
                    "problem": self.legs.problems.get((room.name, spec.name)),
                    "ports": dict(leg.ports) if leg else {},
                    "remotes": dict(leg.remotes) if leg else {},
                }
            )
        return {
            "name": room.name,
            "labels": dict(room.labels),
            "compression": {
                "mode": policy.mode,
                "target_savings_percent": policy.target_savings_percent,
                "min_savings_percent": policy.min_savings_percent,
                "quality_level": policy.quality_level,
                "quality_floor": policy.quality_floor,
                "model": policy.model,
            },
            "legs": legs,
        }

    def status(self) -> dict[str, Any]:
        bridge = self._config.bridge if self._config else None
        return {
            "service": {
                "name": self.settings.service_name,
                "version": __version__,
                "environment": bridge.environment if bridge else "",
                "region": bridge.region if bridge else "",
                "bridge_id": self.settings.pod.bridge_id,
                "pod": self.settings.pod.name,
                "phase": self.phase,
            },
            "config_generation": self._config.generation if self._config else 0,
            "problems": self.problems(),
            "aic_compression": self._compression_status(),
            "room_sync": {"active_rooms": len(self._rooms), "total_participants": self.sessions},
            "rooms": self.rooms(),
            "packets": self._packet_counters(),
        }

    def _compression_status(self) -> dict[str, Any]:
        streams = self.streams
        processed, compressed = streams.frames_processed, streams.frames_compressed
        saved = streams.savings.bytes_in - streams.savings.bytes_out
        share = streams.savings.share()
        book = streams.latency
        now = self._host.clock()
        return {
            "frames_processed": processed,
            "frames_compressed": compressed,
            "compression_rate_percent": _percent(compressed, processed),
            "fallback_rate_percent": _percent(streams.fallback_frames, processed),
            "total_bandwidth_saved_mb": f"{saved / 1e6:.2f}",
            "bytes_in": streams.savings.bytes_in,
            "bytes_out": streams.savings.bytes_out,
            "saved_percent": None if share is None else round(share * 100, 1),
            "latency_ms": {name: window.percentiles(now) for name, window in book.recent.items()},
            "grpc_stats": {
                "total_requests": streams.requests,
                "successful_requests": streams.successes,
                "failed_requests": streams.failures,
                "success_rate_percent": _percent(streams.successes, streams.requests),
                "avg_latency_ms": round(book.ai_core_sum_ms / book.ai_core_count, 3) if book.ai_core_count else None,
                "total_bandwidth_saved_mb": f"{saved / 1e6:.2f}",
                "circuit_breaker_open": self.aic.circuit_breaker_open,
                "endpoints": self.aic.endpoints(),
            },
            "streams": [self._stream_status(stream) for stream in streams],
        }

    def _stream_status(self, stream: Stream) -> dict[str, Any]:
        outs = {leg: dict(self._stats.get("outs", {}).get(out, {})) for leg, out in stream.outs.items()}
        names = {leg.id: leg.spec.name for leg in self.legs.open.values()}
        share = stream.savings.share()
        return {
            **stream.names(),
            "media": stream.media,
            "codec": stream.codec,
            "ssrc": stream.ssrc,
            "mode": stream.pipeline.state.value if stream.pipeline else "bypass",
            "fallback": stream.pipeline.fallback if stream.pipeline else None,
            "frames_in": stream.counted.frames,
            "frames_out": stream.counted.frames_out,
            "bytes_in": stream.savings.bytes_in,
            "bytes_out": stream.savings.bytes_out,
            "saved_percent": None if share is None else round(share * 100, 1),
            "source": dict(self._stats.get("streams", {}).get(stream.id, {})),
            "outs": [{**out, "leg": names.get(leg)} for leg, out in outs.items()],
        }

    def _packet_counters(self) -> dict[str, dict[str, int]]:
        stats = self._stats
        return {
            "drops": dict(stats.get("drops", {})),
            "packets": {
                "in": sum(one.get("packets", 0) for one in stats.get("streams", {}).values()),
                "out": sum(one.get("packets", 0) for one in stats.get("outs", {}).values()),
            },
        }


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 1) if whole else None
