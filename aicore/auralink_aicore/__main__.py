"""Starts the AI Core: ``python -m auralink_aicore``. The only module that reads the environment and files."""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import uvloop

from auralink_aicore.metrics import Metrics
from auralink_aicore.model import MAX_BYTES, BadModelError, Model, packaged, read, version_of
from auralink_aicore.server import AiCore, TlsFiles
from auralink_aicore.settings import USAGE, Settings, SettingsError, from_env

EX_CONFIG = 78
_STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class _JsonFormatter(logging.Formatter):
    """One line per record; what was given as `extra` becomes fields."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{stamp}.{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **{name: value for name, value in record.__dict__.items() if name not in _STANDARD_FIELDS},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def usable_cores() -> int:
    """Cores this process may use: its affinity, cut by the container's quota where there is one (cgroup v2 or v1)."""
    cores = len(os.sched_getaffinity(0))
    root = Path("/sys/fs/cgroup")
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        if quota != "max" and int(quota) > 0:
            cores = min(cores, max(int(quota) // int(period), 1))
    except (OSError, ValueError):
        pass  # no such file: no quota
    return cores


@dataclass(frozen=True, slots=True)
class Configured:
    """The settings, and what is in the files that they name."""

    settings: Settings
    tls: TlsFiles | None
    model: Model


def configured(env: Mapping[str, str], cores: int) -> Configured:
    """All that is to be told, files included. Raises SettingsError with every mistake found."""
    problems: list[str] = []
    settings, tls, model = None, None, None
    try:
        settings = from_env(env, cores)
    except SettingsError as error:
        problems += error.problems
    try:
        if folder := env.get("AICORE_TLS_DIR"):
            tls = read_tls(Path(folder))
    except SettingsError as error:
        problems += error.problems
    try:
        model = read_model(settings.model if settings else None)
    except SettingsError as error:
        problems += error.problems
    if problems or settings is None or model is None:
        raise SettingsError(problems)
    return Configured(settings, tls, model)


def read_model(path: Path | None) -> Model:
    """The file of AICORE_MODEL, of a folder the newest version, or the packaged one. Raises SettingsError."""
    if path is None:
        return packaged()
    try:
        if path.is_dir():
            path = newest(path)
        with path.open("rb") as file:
            return read(path.name, file.read(MAX_BYTES + 1))
    except OSError as error:
        raise SettingsError([f"AICORE_MODEL: {path}: {error.strerror}"]) from error
    except BadModelError as error:
        raise SettingsError([f"AICORE_MODEL: {path}: {error}"]) from error


def newest(folder: Path) -> Path:
    """The model file of the highest version in it. Raises OSError, SettingsError if there is none."""
    found = [(version, path) for path in folder.iterdir() if (version := version_of(path.name))]
    if not found:
        raise SettingsError([f"AICORE_MODEL: {folder} has no auralink-q-<version>.json"])
    return max(found)[1]


def newer_model(path: Path | None, old: Model) -> Model | None:
    """What SIGHUP found; None for the one in use. Raises SettingsError, also for other bytes under the same id."""
    new = read_model(path)
    if new.id != old.id:
        return new
    if new.sha256 != old.sha256:
        raise SettingsError([f"AICORE_MODEL: {new.id} is not what it was; another model needs another version"])
    return None


def read_tls(folder: Path) -> TlsFiles:
    """The PEM files of AICORE_TLS_DIR. Raises SettingsError naming every one that cannot be read."""
    problems: list[str] = []
    contents: dict[str, bytes] = {}
    for name in ("tls.crt", "tls.key", "ca.crt"):
        try:
            contents[name] = (folder / name).read_bytes()
        except OSError as error:
            if name != "ca.crt" or not isinstance(error, FileNotFoundError):
                problems.append(f"AICORE_TLS_DIR: {folder / name}: {error.strerror}")
    certificate, key = contents.get("tls.crt"), contents.get("tls.key")
    if problems or certificate is None or key is None:
        raise SettingsError(problems)
    return TlsFiles(certificate, key, contents.get("ca.crt"))


async def run(told: Configured) -> None:
    """Serve until the first SIGTERM or SIGINT, drain; the second ends at once. SIGHUP reads the model file again."""
    settings = told.settings
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    serving = asyncio.current_task()

    def on_signal() -> None:
        if stop.is_set() and serving is not None:
            serving.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    core = AiCore(
        settings.workers,
        Metrics(),
        settings.picture_cores,
        told.model,
        evidence=settings.evidence,
        ffmpeg=settings.ffmpeg,
    )

    def on_hangup() -> None:
        try:
            model = newer_model(settings.model, core.model)
            if model is not None:
                core.use(model)
        except SettingsError as error:
            logging.error("the model stays", extra={"model": core.model.id, "reason": str(error)})  # noqa: TRY400 - as below

    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    await core.run(settings.listen, settings.http_port, told.tls, stop)


def main() -> int:
    """Returns the exit code: 78 for bad settings, 1 when serving failed."""
    if sys.argv[1:]:
        asked = sys.argv[1:] in (["--help"], ["-h"])
        print(USAGE if asked else f"{USAGE}\nno arguments are taken, got: {' '.join(sys.argv[1:])}", end="")
        return 0 if asked else EX_CONFIG
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        told = configured(os.environ, usable_cores())
    except SettingsError as error:
        for problem in error.problems:
            logging.error("bad setting: %s", problem)  # noqa: TRY400 - the message says it all
        return EX_CONFIG
    try:
        uvloop.run(run(told))
    except asyncio.CancelledError:
        return 1
    except (OSError, RuntimeError, TimeoutError) as error:
        logging.error("cannot serve: %s", error)  # noqa: TRY400 - the message says it all
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
