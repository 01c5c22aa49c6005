"""`python -m auralink_dataplane.migrate --phase pre|post`: runs what is pending of a phase, and makes partitions.

The database is the one of DATABASE_ADDRESS, DATABASE_NAME, DATABASE_USER, DB_PASSWORD, DATABASE_TLS and
DATABASE_CA_FILE;
without DATABASE_ADDRESS, of the section `database` of `auralink.conf`. Exit 78: the configuration is unusable. Exit 69:
the database cannot be reached, or somebody else migrates for too long; another try may do. Exit 65: schema and code do
not go together, or a migration failed; another try will not.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from auralink_dataplane.adapters.postgres import (
    DatabaseError,
    Migration,
    MigrationError,
    Phase,
    Target,
    applied_migrations,
    connected,
    load_migrations,
    load_queries,
    maintain,
    migrate,
    pending,
    set_retention,
    tls_context,
)
from auralink_dataplane.settings import ConfigError, Database, database_from_environment, from_file

EX_CONFIG: Final = 78
EX_UNAVAILABLE: Final = 69
EX_DATAERR: Final = 65
MAX_DAYS: Final = 36_500


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    try:
        target = _target(_database(chosen.config))
        asyncio.run(_run(chosen, target))
    except ConfigError as error:
        return _fail(EX_CONFIG, *error.errors)
    except MigrationError as error:
        return _fail(EX_DATAERR, str(error))
    except DatabaseError as error:
        return _fail(EX_UNAVAILABLE, f"{target.host}:{target.port}/{target.database}: {error}")
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m auralink_dataplane.migrate", description="Brings the schema of AuraLink's records up to date."
    )
    made.add_argument(
        "--phase", choices=["pre", "post"], default="pre", help="before or after the roll-out (default: %(default)s)"
    )
    made.add_argument("--dry-run", action="store_true", help="say what would run, and change nothing")
    made.add_argument("--retention-days", type=_days, help="how long records stay; default: as it is, at first 90")
    made.add_argument("--audit-retention-days", type=_days, help="the same of the audit; at first 365")
    made.add_argument(
        "--timeout-s",
        type=_timeout,
        default=300,
        help="of a statement, and of the wait for whoever else migrates (default: %(default)s)",
    )
    made.add_argument("--config", type=Path, default=Path("/etc/auralink/auralink.conf"), help="default: %(default)s")
    return made


def _days(text: str) -> int:
    return _bounded(text, MAX_DAYS)


def _timeout(text: str) -> int:
    return _bounded(text, 86_400)


def _bounded(text: str, most: int) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"must be from 1 to {most}, not {text}")
    return int(text)


def _database(config: Path) -> Database:
    """Raises ConfigError."""
    if found := database_from_environment(os.environ):
        return found
    try:
        text = config.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            [f"{config}: cannot be read ({error}); set DATABASE_ADDRESS, or name the file with --config"]
        ) from error
    if found := from_file(text, os.environ).database:
        return found
    raise ConfigError([f"{config}: has no section auralink.database; add it, or set DATABASE_ADDRESS"])


def _target(database: Database) -> Target:
    """Raises ConfigError."""
    password = database.password.get_secret_value() if database.password else ""
    try:
        ca = Path(database.ca_file).read_text(encoding="ascii") if database.ca_file else None
        tls = tls_context(ca) if database.tls else None
    except (OSError, ValueError) as error:
        raise ConfigError([f"DATABASE_CA_FILE: {error}"]) from error
    host, port = database.host_port
    return Target(host, port, database.name, database.user, lambda: password, tls, application="auralink migrate")


async def _run(chosen: argparse.Namespace, target: Target) -> None:
    known, queries = load_migrations(), load_queries()
    phase: Phase = chosen.phase
    async with connected(target, statement_s=chosen.timeout_s) as connection:
        if chosen.dry_run:
            todo = pending(known, await applied_migrations(connection, queries), phase)
            for one in todo:
                _say(f"would run {one}")
        else:
            todo = await migrate(connection, queries, known, phase, _tell)
            await set_retention(connection, queries, days=chosen.retention_days, audit_days=chosen.audit_retention_days)
            for partition in await maintain(connection, queries):
                _say(f"dropped {partition}, past its retention")
    if not todo:
        _say(f"nothing to do in phase {phase}")


def _tell(one: Migration) -> None:
    _say(f"running {one}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _fail(code: int, *lines: str) -> int:
    for line in lines:
        sys.stderr.write(f"{line}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
