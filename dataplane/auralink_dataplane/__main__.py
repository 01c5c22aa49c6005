"""Starts a pod: `python -m auralink_dataplane [--config auralink.conf]`. The only place that reads the environment,
files and the wall clock. CONFIG_MAP set means Kubernetes. Exit 78: the configuration is unusable; every reason is told.
Exit 69: a port is taken. Exit 1: a bug; the log has it.
"""

import argparse
import json
import logging
import os
import random
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvloop

from auralink_dataplane.adapters.kubernetes_api import KubernetesApi
from auralink_dataplane.app import App, Host, TaskDiedError
from auralink_dataplane.media.packets import NativePackets
from auralink_dataplane.settings import ConfigError, Settings, from_cluster, from_file

log = logging.getLogger("auralink_dataplane")

EX_CONFIG: Final = 78
EX_UNAVAILABLE: Final = 69
EX_BUG: Final = 1
_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object per line; `extra` fields stand beside the message."""

    def __init__(self, fixed: dict[str, str]) -> None:
        super().__init__()
        self._fixed = fixed

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **self._fixed,
            **{name: value for name, value in vars(record).items() if name not in _PLAIN},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m auralink_dataplane", description="The data plane of AuraLink.")
    parser.add_argument("--config", type=Path, default=Path("/etc/auralink/auralink.conf"), help="default: %(default)s")
    chosen = parser.parse_args(arguments)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines({}))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        settings = load(chosen.config)
    except ConfigError as error:
        for line in error.errors:
            sys.stderr.write(f"{line}\n")
        return EX_CONFIG
    handler.setFormatter(JsonLines({"bridge": settings.pod.bridge_id, "pod": settings.pod.name}))
    if settings.unused:
        log.info("configured, but without a user in this version", extra={"sections": settings.unused})
    try:
        uvloop.run(serve(settings))
    except OSError as error:
        log.critical("cannot start", extra={"error": str(error)})
        return EX_UNAVAILABLE
    except TaskDiedError:  # told where it happened
        return EX_BUG
    return 0


def load(path: Path) -> Settings:
    """Raises ConfigError."""
    if os.environ.get("CONFIG_MAP"):
        return from_cluster(os.environ)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read ({error}); name the file with --config"]) from error
    return from_file(text, os.environ)


async def serve(settings: Settings) -> None:
    secrets = Path(settings.secrets_dir)

    def read_secret(name: str, key: str) -> bytes | None:
        try:
            return (secrets / name / key).read_bytes()
        except OSError:
            return None

    pod = settings.pod
    cluster = (
        KubernetesApi.in_cluster(
            namespace=pod.namespace, bridge=pod.bridge, pod=pod.name, config_map=settings.config_map
        )
        if settings.config_map
        else None
    )
    host = Host(
        clock=time.monotonic,
        wall_ms=lambda: int(time.time() * 1000),
        started_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        read_secret=read_secret,
        jitter=random.random,
    )
    await App(settings, host, NativePackets(), cluster).run()


if __name__ == "__main__":
    sys.exit(main())
