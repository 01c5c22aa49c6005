"""`python -m auralink_operator run`: reads flags and environment, and puts the operator together.

Tasks, all owned here: kopf's watches, the workers that reconcile, the comparison with the API server, the election, the
health server. SIGTERM ends them all; any task that ends by itself takes the process down, because Kubernetes restarts
it whole. A standby watches and compares like the leader, so that its index is warm, but nothing enters its queue.
"""

import argparse
import asyncio
import json
import logging
import os
import random
import signal
import sys
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import inf
from typing import Any

import kopf

from auralink_operator import handlers, health
from auralink_operator.cluster import ApiError, Bucket, CallBudget, Cluster, Connection, NotLeaderError, call_budget
from auralink_operator.context import Context
from auralink_operator.index import (
    BRIDGE,
    POLICY,
    Expectations,
    Ghosts,
    Indices,
    Key,
    Obj,
    Store,
    affected,
    key_of,
)
from auralink_operator.lease import Elector, LeaseLostError
from auralink_operator.metrics import Metrics
from auralink_operator.models.observed import Capabilities
from auralink_operator.queue import BULK, WorkQueue
from auralink_operator.reconcile import reconcile
from auralink_operator.resync import DeadWatchError, KindsChangedError, Resync, discover, watched
from auralink_operator.settings import OPTIONS, Settings, SettingsError, from_env

log = logging.getLogger("auralink_operator")

RECONCILE_LIMIT_S = 110.0  # below what liveness allows; a look limits its requests itself, and never comes so far
_FINISH_S = 1.0  # for what is at work when the process ends; the next leader is to work within 2 s
_FAILURES_TO_TELL = 5
_A_WATCH = "watcher for "  # as kopf names their tasks

_PLAIN = set(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object per line; what callers pass in `extra` becomes fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.name.startswith("auralink_operator"):
            line |= {name: value for name, value in vars(record).items() if name not in _PLAIN}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class OncePerChange(logging.Filter):
    """Without kopf's line per attempt of each of its watches: `cluster` says once that the server is away, and back."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.name.startswith("kopf.") and record.getMessage().startswith("Request attempt"))


def set_up_logging(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    if level != "Debug":
        handler.addFilter(OncePerChange())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("kopf").setLevel(logging.WARNING if level != "Debug" else logging.DEBUG)


class Operator:
    """The running parts; `run` owns their tasks."""

    def __init__(self, settings: Settings, identity: str = "auralink-operator") -> None:
        self.settings = settings
        self.identity = identity  # the pod's name, where there is one
        self.metrics = Metrics()
        self.queue = WorkQueue(time.monotonic, random.random)
        self.store, self.ghosts = Store(time.monotonic), Ghosts()
        self.indices = Indices(self.store, self.ghosts)
        self.context: Context | None = None
        self.full = False
        self.leading = asyncio.Event()
        self._filled = asyncio.Event()
        self._elector: Elector | None = None
        self._at_work: set[str] = set()  # names of the workers that have a key
        self._ending = False

    async def run(self) -> None:
        """Until SIGTERM, or until something ends that must not."""
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        runner = await health.serve(self.settings.health_port, self.metrics, self.queue, lambda: self.full)
        connection = await Connection.open(self.settings.kubeconfig, self.identity)
        tasks = [
            asyncio.create_task(self._operate(connection, stop), name="operate"),
            asyncio.create_task(stop.wait(), name="stop"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await _cancelled(tasks)
            await connection.close()
            await runner.cleanup()

    async def _operate(self, connection: Connection, stop: asyncio.Event) -> None:
        cluster = self._cluster(connection)
        self.context = context = self._context(cluster, await self._wait_for_kinds(cluster))
        resync = self._resync(context)
        end_watches = asyncio.Event()
        watches = asyncio.create_task(self._watch(context, stop, end_watches), name="watches")
        workers = [
            asyncio.create_task(self._worker(f"worker {n}", context), name=f"worker {n}")
            for n in range(self.settings.workers)
        ]
        others = [
            asyncio.create_task(self._compare(resync), name="resync"),
            asyncio.create_task(self._lead(), name="lead"),
        ]
        try:
            done, _ = await asyncio.wait([watches, *workers, *others], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await self._finish(workers)
            await _cancelled([*workers, *others])
            if self._elector is not None:
                await self._elector.release()
            end_watches.set()  # or kopf would have the process killed later
            await _cancelled([watches])

    async def _finish(self, workers: Sequence[asyncio.Task[None]]) -> None:
        """Lets what is at work come to its end: nothing of it may be written once another leads."""
        self._ending = True
        if busy := [task for task in workers if task.get_name() in self._at_work]:
            await asyncio.wait(busy, timeout=_FINISH_S)

    # --- the parts ---

    def _cluster(self, connection: Connection) -> Cluster:
        settings = self.settings
        if settings.leader_elect:
            self._elector = Elector(
                connection,
                settings.lease_namespace,
                settings.lease,
                f"{self.identity}_{uuid.uuid4().hex[:12]}",  # a restarted container is another process
                _clock_that_goes_on,
                lambda: datetime.now(UTC),
                random.random,
            )
        bucket = Bucket(settings.qps, settings.burst, time.monotonic())
        return Cluster(connection, self.metrics, bucket, time.monotonic, random.random, self._writing_s)

    def _context(self, cluster: Cluster, capabilities: Capabilities) -> Context:
        return Context(
            cluster=cluster,
            queue=self.queue,
            settings=self.settings,
            indices=self.indices,
            ghosts=self.ghosts,
            metrics=self.metrics,
            clock=time.monotonic,
            now=lambda: datetime.now(UTC),
            identity=self.identity,
            expectations=Expectations(),
            capabilities=capabilities,
        )

    def _resync(self, context: Context) -> Resync:
        def again(key: Key, after_s: float) -> None:
            if self.leading.is_set():
                self.queue.add(key, priority=BULK, after_s=after_s)

        return Resync(
            context.cluster,
            self.indices,
            self.metrics,
            self.settings,
            context.capabilities,
            time.monotonic,
            random.random,
            context.hide,
            again,
        )

    def _writing_s(self) -> float:
        """For how long a write of this process may be on its way; 0 while it must not write."""
        if self._elector is not None:
            return self._elector.writing_s()
        return inf if self.leading.is_set() else 0.0

    async def _wait_for_kinds(self, cluster: Cluster) -> Capabilities:
        """kopf looks for kinds once: until the API server serves both of ours there is nothing to start."""
        said = False
        while True:
            try:
                for kind in (BRIDGE, POLICY):
                    for namespace in self.settings.namespaces or ("",):
                        async for _ in cluster.list_metadata(kind, namespace):
                            break
                return await discover(cluster)
            except ApiError as error:
                if not said:
                    log.warning("waiting for the API server to serve both kinds", extra={"error": str(error)})
                    said = True
                await asyncio.sleep(1.0)

    async def _watch(self, context: Context, stop: asyncio.Event, end: asyncio.Event) -> None:
        kinds, namespaces = watched(context.capabilities), self.settings.namespaces
        tasks = await kopf.spawn_tasks(
            registry=handlers.registry(kinds, self),
            settings=handlers.kopf_settings(kinds, self.settings),
            memories=handlers.NoMemories(),
            clusterwide=not namespaces,
            namespaces=namespaces,
            stop_flag=end,
            # Else kopf asks the system for a user name, and a container's user has none.
            identity=self.identity,  # type: ignore[arg-type]
        )
        # In place of kopf's own handler, which ends the watches first while our work goes on without them for seconds.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        try:
            await kopf.run_tasks(tasks, ignored=_Everything())
        finally:
            # Where one watch fails kopf forgets the others, and they outlive a cancellation of all tasks at once.
            await _cancelled([task for task in asyncio.all_tasks() if task.get_name().startswith(_A_WATCH)])

    # --- what the watches tell ---

    def told(self, kind_of_event: str | None, obj: Obj) -> None:
        context, key = self.context, key_of(obj)
        if context is None:
            return
        self.metrics.watch_events.labels(key.kind).inc()
        if kind_of_event == "DELETED":
            self.store.remove(obj)
            concerned = context.deleted(obj)
        else:
            self.store.put(obj)
            self.ghosts.seen(obj["metadata"]["uid"])
            concerned = affected(self.indices, obj) if self.leading.is_set() else set()
        self._show(key)
        if self.leading.is_set():
            for one in concerned:
                echo = context.expectations.shows_only(one, obj)
                self.queue.add(one, priority=BULK if kind_of_event is None else 0, echo=echo)

    def _show(self, key: Key) -> None:
        if key.kind == BRIDGE and (found := self.indices.get(key)) is not None:
            conditions = (found.get("status") or {}).get("conditions") or ()
            shown = {condition["type"]: condition["status"] == "True" for condition in conditions}
            self.metrics.bridges.conditions(f"{key.namespace}/{key.name}", shown)

    # --- who works, and the work ---

    async def _lead(self) -> None:
        """From the moment when this process may write until it may not; the index is full by then."""
        await self._filled.wait()
        if self._elector is not None:
            await self._elector.run(self._gained)
        else:
            self._gained()
            await asyncio.Event().wait()

    def _gained(self) -> None:
        self.leading.set()
        self.metrics.leader.set(1)
        for kind in (BRIDGE, POLICY):
            for one in self.indices.of_kind(kind).values():
                self.queue.add(one.key, priority=BULK)

    async def _compare(self, resync: Resync) -> None:
        """First until the index is full, then again and again whether it still is."""
        while not self.full:
            try:
                await resync.fill()
                self.full = True
            except ApiError as error:
                log.warning("the index cannot be compared yet", extra={"error": str(error)})
                await asyncio.sleep(1.0)
        self._filled.set()
        log.info("ready: the index is full", extra={"objects": resync.counts()})
        await resync.run()

    async def _worker(self, name: str, context: Context) -> None:
        await self.leading.wait()
        call_budget.set(budget := CallBudget())
        while not self._ending:
            # A look that costs no request waits for nothing: with many in a row no event and no lease would get a turn.
            await asyncio.sleep(0)
            key = await self.queue.get()
            self._at_work.add(name)
            began, wait_s = time.monotonic(), self.queue.waited_s(key)
            budget.begin(began, hasty=self.queue.failures(key) > 0)
            try:
                result = await self._one(key, context)
            finally:
                self._at_work.discard(name)
            took_s = time.monotonic() - began
            self.metrics.reconcile.labels(key.kind, result).inc()
            self.metrics.reconcile_seconds.observe(took_s)
            self.metrics.queue_wait_seconds.observe(wait_s)
            self.metrics.reconcile_own_seconds.observe(wait_s + max(0.0, took_s - budget.waited_s))

    async def _one(self, key: Key, context: Context) -> str:
        before = self.queue.failures(key)
        try:
            async with asyncio.timeout(RECONCILE_LIMIT_S):
                again_s = await reconcile(key, context)
        except (ApiError, NotLeaderError, TimeoutError) as error:
            return self._failed(key, error, error.fault if isinstance(error, ApiError) else type(error).__name__)
        except Exception as error:
            log.exception("reconcile failed", extra={"kind": key.kind, "object": key[1:]})
            return self._failed(key, error, "bug")
        if before >= _FAILURES_TO_TELL:
            log.info("reconciled at last", extra={"kind": key.kind, "object": key[1:], "failures": before})
        self.queue.done(key)
        if again_s is not None:
            self.queue.add(key, after_s=again_s)
        return "ok"

    def _failed(self, key: Key, error: Exception, fault: str) -> str:
        """Back into the queue; one line only when it has become a habit, for once in a while is usual."""
        after_s = error.retry_after_s if isinstance(error, ApiError) else 0.0
        self.queue.done(key, failed=True, not_before_s=after_s)
        self.metrics.errors.labels(fault).inc()
        if self.queue.failures(key) == _FAILURES_TO_TELL:
            fields = {"kind": key.kind, "object": key[1:], "error": str(error), "failures": _FAILURES_TO_TELL}
            log.warning("reconcile fails again and again", extra=fields)
        return "error" if fault == "bug" else "retry"


class _Everything(Collection[Any]):
    """Contains whatever it is asked for. In the end kopf waits for and cancels every task but those that it is to
    ignore, and these would be all of ours; its own end with its root tasks."""

    def __contains__(self, _: object) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0


async def _cancelled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _clock_that_goes_on() -> float:
    """Seconds that also count while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Flags win over variables; raises SystemExit for --help and for wrong settings (exit code 78)."""
    parser = argparse.ArgumentParser(
        prog="python -m auralink_operator", description="Keeps AuraLinkBridges and RoomPolicies as declared."
    )
    commands = parser.add_subparsers(required=True, metavar="run")
    run = commands.add_parser("run", help="run the operator", description="Each flag is also a variable, in brackets.")
    for option in OPTIONS:
        default = f", default {option.default}" if option.default else ""
        run.add_argument(
            option.flag,
            dest=option.field,
            action="append" if option.many else "store",
            nargs="?" if option.switch else None,
            const="true" if option.switch else None,
            metavar="VALUE",
            help=f"{option.help} [{option.variable}{default}]",
        )
    given = vars(parser.parse_args(arguments))
    values = dict(environment)
    for option in OPTIONS:
        if (value := given[option.field]) is not None:
            values[option.variable] = ",".join(value) if option.many else value
    try:
        return from_env(values)
    except SettingsError as error:
        print(error, file=sys.stderr)
        raise SystemExit(78) from None


def main() -> int:
    settings = parse(sys.argv[1:], os.environ)
    set_up_logging(settings.log_level)
    try:
        asyncio.run(_run(settings))
    except (asyncio.CancelledError, KeyboardInterrupt):
        return 0
    except KindsChangedError as error:
        log.info("the operator starts anew", extra={"reason": str(error)})
        return 0
    except (LeaseLostError, DeadWatchError) as error:
        log.error("the operator ends", extra={"reason": str(error)})  # noqa: TRY400 - it is no bug
        return 1
    except Exception:
        log.exception("the operator ends")
        return 1
    return 0


async def _run(settings: Settings) -> None:
    await Operator(settings, os.environ.get("HOSTNAME") or "auralink-operator").run()


if __name__ == "__main__":
    sys.exit(main())
