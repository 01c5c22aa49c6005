"""Composition root of a data-plane pod: open, start, ready, drain, close.

Configuration comes in through `take`, whatever its source; from then on the pod serves the rooms that are its own until
it is told to go, by signal, by `POST /drain` or because its ConfigMap is gone. How it goes is `rooms.drain`.
"""

import asyncio
import logging
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from auralink_dataplane import __version__
from auralink_dataplane.app.duty import Duty
from auralink_dataplane.app.views import Views, packet_counters
from auralink_dataplane.http import Servers
from auralink_dataplane.media.aic import AicClient, Identity, Resolve, resolve_all
from auralink_dataplane.media.legs.plain_rtp import PlainRtpLegs
from auralink_dataplane.media.packets import PacketEngine
from auralink_dataplane.media.pipeline import Limits
from auralink_dataplane.media.streams import Streams
from auralink_dataplane.metrics import Metrics
from auralink_dataplane.rooms.drain import Drain, Facts, Stage, Times, advance
from auralink_dataplane.settings import Settings, parse_documents
from auralink_dataplane.status_reporter import Phase, Snapshot, StatusReporter

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
DRAIN_LOOK_S: Final = 0.2
LOSS_PROBLEM: Final = 0.05
STALLED_S: Final = 30.0
"""A loop that has not looked for so long is stuck, and liveness says so."""


class TaskDiedError(Exception):
    """A task of the pod ended, which none of them does by itself: a bug, whose cause is this error's."""


class Cluster(Protocol):
    """What the Kubernetes adapter does for a pod."""

    def config_maps(self) -> AsyncIterator[dict[str, str] | None]: ...
    async def apply_pod_entry(self, entry: Mapping[str, Any] | None) -> None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Host:
    """What `__main__` gives: the machine around the pod, replaceable in tests."""

    clock: Callable[[], float]
    wall_ms: Callable[[], int]
    started_at: str  # RFC 3339
    read_secret: Callable[[str, str], bytes | None]
    jitter: Callable[[], float]
    """A new number in 0..1 each time, evenly spread: what fails together comes back one by one."""
    resolve: Resolve = resolve_all


class App:
    def __init__(self, settings: Settings, host: Host, engine: PacketEngine, cluster: Cluster | None) -> None:
        self.settings = settings
        self._host = host
        self._engine = engine
        self._cluster = cluster
        self._times = Times(float(settings.drain_propagation_s), float(settings.drain_timeout_s))
        self._drain = Drain()
        self._gone_since: float | None = None
        self._asked = asyncio.Event()
        self._forced = asyncio.Event()
        self._died: TaskDiedError | None = None
        self._looked_at = host.clock()
        self._stats = engine.stats()  # at the last look
        self._told: dict[str, str] = {}  # problems that the log knows of
        self._tasks: list[asyncio.Task[None]] = []
        self.metrics = Metrics()
        self.metrics.observe_packets(lambda: packet_counters(self._stats))
        self.duty = Duty(settings.pod.name, host.read_secret, self._times.propagation_s)
        self.streams = Streams(engine, self.metrics, clock=host.clock, jitter=host.jitter)
        self.aic = AicClient(
            Identity(settings.pod.bridge_id, settings.pod.name),
            clock=host.clock,
            read_secret=host.read_secret,
            available=self.streams.endpoint_available,
            resolve=host.resolve,
        )
        self.legs = PlainRtpLegs(
            engine,
            host.resolve,
            host.read_secret,
            opened=self.streams.leg_opened,
            closed=self.streams.leg_closed,
        )
        self.streams.connect(self.aic, self.legs)
        self.views = Views(settings, self.duty, self.legs, self.streams, self.aic)
        self.servers = Servers(self)
        self.reporter = self._make_reporter(cluster) if cluster else None

    def _make_reporter(self, cluster: Cluster) -> StatusReporter:
        pod = self.settings.pod
        fixed = {"name": pod.name, "uid": pod.uid, "version": __version__, "since": self._host.started_at}
        if pod.node:
            fixed["node"] = pod.node
        return StatusReporter(cluster, self.snapshot, fixed, clock=self._host.clock, jitter=self._host.jitter())

    # --- life -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until it has drained. Raises OSError when a port is taken, TaskDiedError when nothing was left to drain."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.request_stop)
        try:
            await self.start()
            await self._asked.wait()
            await self._leave()
        finally:
            await self.close()
        if self._died:
            raise self._died

    async def start(self) -> None:
        await self.servers.start(self.settings.http_port, self.settings.metrics_port)
        self.streams.start()
        self.aic.start()
        if self.settings.config:
            self.duty.serve_all(self.settings.config, self._host.clock())
            self._apply()
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
        if task.cancelled() or self._died:
            return
        self._died = TaskDiedError(task.get_name())
        self._died.__cause__ = task.exception()
        log.critical("task died", extra={"task": task.get_name()}, exc_info=self._died)
        self._forced.set()
        self._asked.set()

    async def _leave(self) -> None:
        while True:
            before = self._drain
            self._drain = advance(before, self._facts(), self._times, self._host.clock())
            if self._drain.stage is not before.stage:
                self._stage_changed()
            if self._drain.stage is Stage.EXIT:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_LOOK_S):
                    await self._forced.wait()

    def _facts(self) -> Facts:
        bridge = self.duty.bridge
        return Facts(
            asked=self._asked.is_set(),
            forced=self._forced.is_set(),
            abandoned=self._abandoned,
            hands_over=bridge is None or bridge.drain.strategy == "Handover",
            moving=len(self.duty.custody.leaving),
            sessions=self.sessions,
        )

    @property
    def _abandoned(self) -> bool:
        """The bridge is gone for so long that it is no mistake that somebody repairs."""
        return self._gone_since is not None and self._host.clock() >= self._gone_since + self._times.propagation_s

    def _stage_changed(self) -> None:
        stage, sessions = self._drain.stage, self.sessions
        log.info("draining", extra={"stage": stage.value, "sessions": sessions, "rooms": len(self.duty.rooms)})
        self.metrics.draining(stage.value)
        if stage is Stage.EXIT:
            self.metrics.sessions_cut.inc(sessions)
        if self.reporter:
            self.reporter.poke()

    async def close(self) -> None:
        """In reverse, whatever state `start` had reached. Receivers hear BYE where no other pod goes on."""
        for task in reversed(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.reporter:
            await self.reporter.remove()
        bye = self._cluster is None or self._gone_since is not None
        self.legs.close(bye=bye)
        self.streams.stop()
        await self.aic.close()
        self._engine.close(bye=bye)
        await self.servers.close()
        if self._cluster:
            await self._cluster.close()

    def request_stop(self) -> None:
        """A second time forces."""
        if self._asked.is_set():
            self._forced.set()
        self._asked.set()

    def request_drain(self) -> None:
        self._asked.set()

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
        """In force from the next frame on."""
        before = self.duty.custody
        changed = self.duty.take(parse_documents(data), self._host.clock(), refusing=self._asked.is_set())
        self.metrics.rooms_taken.inc(len(self.duty.custody.owned - before.rooms))
        if changed:
            self._apply()
        elif self.duty.custody != before:
            self._want_legs()

    def _config_gone(self) -> None:
        if self.duty.config is not None and self._gone_since is None:
            self._gone_since = self._host.clock()
            log.warning("the ConfigMap is gone: the pod ends unless it comes back")

    def _apply(self) -> None:
        bridge = self.duty.bridge
        if bridge is None:
            return
        logging.getLogger("auralink_dataplane").setLevel(bridge.log_level.upper())
        self.aic.configure(bridge.ai_core)
        core = bridge.ai_core
        limits = Limits(timeout_s=core.timeout_ms / 1000, standby=core.failover == "Standby")
        self.streams.configure(self.duty.rules, limits)
        self._want_legs()
        self.metrics.config_generation.set(self.duty.generation)

    def _want_legs(self) -> None:
        rooms = self.duty.rooms
        self.legs.want(rooms, self.duty.elsewhere)
        self.metrics.rooms_active.set(len(rooms))

    # --- looking --------------------------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        while True:
            now = self._looked_at = self._host.clock()
            self._stats = self.streams.sample(now)
            self.metrics.sessions_active.set(self.sessions)
            self.metrics.participants.set(self.sessions)
            self.duty.look_for_secrets()
            if left := self.duty.look(self._packets_by_room(), now):
                self.metrics.rooms_left.inc(len(left))
                self._want_legs()
            if self._abandoned:
                self._asked.set()
            self._log_problems()
            await asyncio.sleep(LOOK_S)

    def _log_problems(self) -> None:
        """Once when one comes or is put in other words, once when it goes."""
        found = self.problems()
        for name in sorted(name for name in found if found[name] != self._told.get(name)):
            log.warning("problem", extra={"problem": name, "said": found[name]})
        for name in sorted(self._told.keys() - found.keys()):
            log.info("problem is over", extra={"problem": name})
        self._told = found

    def _packets_by_room(self) -> Mapping[str, int]:
        counters = self._stats["streams"]
        found: Counter[str] = Counter()
        for stream in self.streams:
            if counted := counters.get(stream.id):
                found[stream.room] += counted["packets"]
        return found

    @property
    def sessions(self) -> int:
        return len(self.streams.live_legs())

    @property
    def phase(self) -> Phase:
        if self._asked.is_set():
            return "Draining"
        return "Serving" if self.duty.config else "Starting"

    def snapshot(self) -> Snapshot:
        return Snapshot(
            phase=self.phase,
            generation=self.duty.generation,
            rooms=len(self.duty.rooms),
            sessions=self.sessions,
            saved=self.streams.books.savings.share(self._host.clock()),
            problems=self.problems(),
        )

    def problems(self) -> dict[str, str]:
        """Name -> what is wrong and what to do."""
        found = self.duty.problems()
        if self.duty.compresses and (secret := self.aic.missing_secret):
            said = f"Secret {secret} is missing: create it; video goes on uncompressed"
            found["CredentialsMissing"] = "; ".join(filter(None, (said, found.get("CredentialsMissing"))))
        if self.duty.compresses and (problem := self.aic.problem()):
            found["AICoreUnavailable"] = f"{problem}; video goes on uncompressed"
        if self.duty.compresses and (problem := self.aic.standby_problem()):
            found["StandbyUnavailable"] = f"{problem}; until then a failure costs the picture until the next keyframe"
        if refused := [stream for stream in self.streams if stream.pipeline and stream.pipeline.unsupported]:
            one = refused[0]
            found["CompressionDisabled"] = (
                f"room {one.room}, leg {one.leg.spec.name}: the AI Core does not serve its {one.codec}, which goes"
                " on as it came; set compression.mode Disabled for the room, or use an AI Core that does"
            )
        if closed := sorted(self.legs.problems.items()):
            (room, leg), said = closed[0]
            found["LegNotOpen"] = f"room {room}, leg {leg}: {said}" + (" (and others)" if closed[1:] else "")
        if self.streams.books.packets.share() > LOSS_PROBLEM:
            found["PacketLoss"] = (
                f"over {LOSS_PROBLEM:.0%} of incoming packets are lost: look at the network to the senders"
            )
        return found

    # --- what HTTP asks -------------------------------------------------------------------------------------

    def health(self) -> tuple[bool, dict[str, Any]]:
        alive = self._host.clock() - self._looked_at < STALLED_S
        return alive, {"status": "healthy" if alive else "stalled", "timestamp": self._host.wall_ms()}

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """An AI Core that is down does not unready: the pod still carries its calls."""
        status = {"Starting": "starting", "Serving": "ready", "Draining": "draining"}[self.phase]
        return status == "ready", {"status": status, "dependencies": {"ai_core": self.aic.usable}}

    def metrics_text(self) -> bytes:
        return self.metrics.text()

    def api_token(self) -> bytes | None:
        return self.duty.api_token()

    def rooms(self) -> list[dict[str, Any]]:
        return self.views.rooms()

    def leg_sdp(self, room: str, leg: str) -> str | None:
        return self.views.leg_sdp(room, leg)

    def status(self) -> dict[str, Any]:
        return self.views.status(
            phase=self.phase,
            stage=self._drain.stage.value,
            sessions=self.sessions,
            problems=self.problems(),
            stats=self._stats,
            now=self._host.clock(),
        )
