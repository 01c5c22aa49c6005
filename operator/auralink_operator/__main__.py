"""`python -m auralink_operator run`: reads flags and environment, and puts the operator together.

Tasks, all owned here: kopf's watches, the workers that reconcile, the resync, the health server. SIGTERM ends them all;
any task that ends by itself takes the process down, because Kubernetes restarts it whole.
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
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import kopf

from auralink_operator import handlers, health
from auralink_operator.cluster import ApiError, Cluster
from auralink_operator.index import BRIDGE, POLICY, Expectations, Ghosts, Indices, Key, Obj, affected, key_of
from auralink_operator.metrics import Metrics
from auralink_operator.queue import BULK, WorkQueue
from auralink_operator.reconcile import (
    DEAD_WATCH_S,
    WATCHED,
    Context,
    DeadWatchError,
    listed,
    reconcile,
    resync,
    still_lacking,
)
from auralink_operator.settings import OPTIONS, Settings, SettingsError, from_env

log = logging.getLogger("auralink_operator")

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


def set_up_logging(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("kopf").setLevel(logging.WARNING if level != "Debug" else logging.DEBUG)


class Operator:
    """The running parts; `run` owns their tasks."""

    def __init__(self, settings: Settings, identity: str = "auralink-operator") -> None:
        self.settings = settings
        self.identity = identity  # the pod's name, where there is one
        self.metrics = Metrics()
        self.queue = WorkQueue(time.monotonic, random.random)
        self.ghosts = Ghosts()
        self.context: Context | None = None
        self.full = False
        self.started = asyncio.Event()

    async def run(self) -> None:
        runner = await health.serve(
            self.settings.health_port, self.metrics, self.queue.oldest_s, self.queue.depth, lambda: self.full
        )
        settings = self.settings
        cluster = await Cluster.connect(self.metrics, settings.qps, settings.burst, time.monotonic, settings.kubeconfig)
        try:
            await self._wait_for_kinds(cluster)
            await self._run_tasks(cluster)
        finally:
            await cluster.close()
            await runner.cleanup()

    async def _wait_for_kinds(self, cluster: Cluster) -> None:
        """kopf looks for kinds once: until the API server serves both of ours there is nothing to start."""
        said = False
        while True:
            try:
                for kind in (BRIDGE, POLICY):
                    for namespace in self.settings.namespaces or ("",):
                        async for _ in cluster.list_metadata(kind, namespace):
                            break
            except ApiError as error:
                if not said:
                    log.warning("waiting for the API server to serve both kinds", extra={"error": str(error)})
                    said = True
                await asyncio.sleep(1.0)
            else:
                return

    async def _run_tasks(self, cluster: Cluster) -> None:
        stop = asyncio.Event()

        async def started(store: Mapping[Any, Any]) -> None:
            self.context = Context(
                cluster=cluster,
                queue=self.queue,
                settings=self.settings,
                indices=Indices(store, self.ghosts),
                ghosts=self.ghosts,
                metrics=self.metrics,
                clock=time.monotonic,
                now=lambda: datetime.now(UTC),
                identity=self.identity,
                expectations=Expectations(),
            )
            # In place of kopf's own handler, which first waits for every task that it does not know.
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
            self.started.set()

        namespaces = self.settings.namespaces
        watches = asyncio.create_task(
            kopf.operator(
                registry=handlers.registry(started, self.changed),
                settings=handlers.kopf_settings(),
                clusterwide=not namespaces,
                namespaces=namespaces,
                stop_flag=stop,
                # Else kopf asks the system for a user name, and a container's user has none.
                identity=self.identity,  # type: ignore[arg-type]
            ),
            name="watches",
        )
        others: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._worker(), name=f"worker {n}") for n in range(self.settings.workers)
        ]
        others.append(asyncio.create_task(self._compare(), name="resync"))
        others.append(asyncio.create_task(stop.wait(), name="stop"))
        try:
            done, _ = await asyncio.wait([watches, *others], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            stop.set()  # or kopf would have the process killed later
            for task in (watches, *others):
                task.cancel()
            await asyncio.gather(watches, *others, return_exceptions=True)

    def changed(self, kind_of_event: str | None, obj: Obj) -> None:
        """A watch event, already in the index."""
        context = self.context
        if context is None:
            return
        if kind_of_event == "DELETED":
            for key in affected(context.indices, obj):
                context.expectations.saw_deleted(key, obj)
            if key_of(obj).kind in (BRIDGE, POLICY):
                context.forget(key_of(obj))
        context.ghosts.seen(obj["metadata"].get("uid", ""))
        for key in affected(context.indices, obj):
            self.queue.add(key, priority=BULK if kind_of_event is None else 0)

    async def _worker(self) -> None:
        await self.started.wait()
        assert self.context is not None  # noqa: S101 - set before `started`
        while True:
            key = await self.queue.get()
            began = time.monotonic()
            result = await self._one(key, self.context)
            self.metrics.reconcile.labels(key.kind, result).inc()
            self.metrics.reconcile_seconds.observe(time.monotonic() - began)

    async def _one(self, key: Key, context: Context) -> str:
        try:
            again_s = await reconcile(key, context)
        except ApiError as error:
            log.warning(
                "reconcile will be tried again", extra={"kind": key.kind, "object": key[1:], "error": str(error)}
            )
            self.queue.done(key, failed=True)
            return "retry"
        except Exception:
            log.exception("reconcile failed", extra={"kind": key.kind, "object": key[1:]})
            self.queue.done(key, failed=True)
            return "error"
        self.queue.done(key)
        if again_s is not None:
            self.queue.add(key, after_s=again_s)
        return "ok"

    async def _compare(self) -> None:
        """First until the index is full, then again and again whether it still is."""
        await self.started.wait()
        context = self.context
        assert context is not None  # noqa: S101 - set before `started`
        there = {kind: await listed(context, kind) for kind in WATCHED}
        while not all(set(uids) <= set(context.indices.of_kind(kind)) for kind, uids in there.items()):
            await asyncio.sleep(0.2)
            there = {kind: await listed(context, kind) for kind in WATCHED}
        self.full = True
        log.info("ready: the index is full", extra={"objects": {kind: len(uids) for kind, uids in there.items()}})
        while True:
            await asyncio.sleep(self.settings.resync_s * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load
            try:
                lacking = await resync(context)
            except ApiError as error:
                log.warning("resync failed", extra={"error": str(error)})
                continue
            if lacking:
                await asyncio.sleep(DEAD_WATCH_S)
                if kinds := still_lacking(context, lacking):
                    raise DeadWatchError(f"no event for {', '.join(kinds)} in {DEAD_WATCH_S:.0f} s")


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
    except Exception:
        log.exception("the operator ends")
        return 1
    return 0


async def _run(settings: Settings) -> None:
    await Operator(settings, os.environ.get("HOSTNAME") or "auralink-operator").run()


if __name__ == "__main__":
    sys.exit(main())
