"""A PostgreSQL of a test's own: initialised in a temporary folder, on a free port, as a user without rights.

It listens on 127.0.0.1 with TLS for those who ask and takes passwords by SCRAM; over its socket in the folder the
superuser comes in without one. Nothing of the system's own cluster is touched.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from auralink_dataplane.adapters.postgres import Target, tls_context

from tests.integration.kube_api import ROOT, free_ports

USER, PASSWORD, SUPERUSER = "auralink", "a password with ' and %", "postgres"
UNPRIVILEGED = "nobody"
_CONFIGURATION = """
listen_addresses = '127.0.0.1'
fsync = off
max_connections = 50
password_encryption = 'scram-sha-256'
ssl = on
ssl_cert_file = 'server.crt'
ssl_key_file = 'server.key'
timezone = 'Asia/Kathmandu'  # must not matter, so it is odd
"""
TLS_ONLY = "tls_only"
_ACCESS = f"""
local all all trust
hostnossl {TLS_ONLY} all all reject
host all all 127.0.0.1/32 scram-sha-256
"""


def binaries() -> Path | None:
    """The newest server installed, or None."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None


@dataclass
class PostgresServer:
    folder: Path
    bin: Path
    port: int
    _options: dict[str, Any] = field(default_factory=dict)

    def start(self) -> None:
        """And waits until it takes connections."""
        options = f"-p {self.port} -k {self.folder}"
        self._run("pg_ctl", "start", "-w", "-t", "60", "-D", "data", "-l", "log", "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        """`mode`: "immediate" is a crash, "fast" ends every session first."""
        self._run("pg_ctl", "stop", "-w", "-t", "60", "-m", mode, "-D", "data")

    def target(self, database: str, *, tls: bool = False, password: str = PASSWORD, ca: str | None = None) -> Target:
        context = tls_context(ca or self.ca) if tls else None
        return Target("127.0.0.1", self.port, database, USER, lambda: password, context)

    @property
    def ca(self) -> str:
        return (self.folder / "ca.crt").read_text()

    async def connect(self, database: str = "postgres") -> Any:
        """As the superuser, with asyncpg itself."""
        return await asyncpg.connect(host=str(self.folder), port=self.port, user=SUPERUSER, database=database)

    async def execute(self, sql: str, database: str = "postgres") -> None:
        connection = await self.connect(database)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    async def rows(self, database: str, sql: str, *values: object) -> list[tuple[Any, ...]]:
        connection = await self.connect(database)
        try:
            return [tuple(row) for row in await connection.fetch(sql, *values)]
        finally:
            await connection.close()

    async def create_database(self, name: str, template: str = "template1") -> str:
        await self.execute(f'CREATE DATABASE "{name}" OWNER {USER} TEMPLATE "{template}"')
        return name

    def environment(self, database: str, **changes: str) -> dict[str, str]:
        """Of a process that migrates."""
        own = {
            "DATABASE_ADDRESS": f"127.0.0.1:{self.port}",
            "DATABASE_NAME": database,
            "DATABASE_USER": USER,
            "DB_PASSWORD": PASSWORD,
        }
        paths = os.pathsep.join(str(ROOT / name) for name in ("operator", "dataplane", "protos"))
        python = os.pathsep.join(filter(None, (paths, os.environ.get("PYTHONPATH"))))
        return {**os.environ, "PYTHONPATH": python, **own, **changes}

    def migration(self, database: str, *arguments: str, **changes: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "auralink_dataplane.migrate", *arguments]
        environment: Mapping[str, str] = self.environment(database, **changes)
        return subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def initialise(self) -> None:
        self._run("initdb", "-D", "data", "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        data = self.folder / "data"
        self._certificates(data)
        with (data / "postgresql.conf").open("a") as file:
            file.write(_CONFIGURATION)
        (data / "pg_hba.conf").write_text(_ACCESS)

    def _certificates(self, data: Path) -> None:
        new = ("req", "-newkey", "rsa:2048", "-nodes", "-subj")
        self._openssl(*new, "/CN=authority", "-x509", "-days", "2", "-keyout", "ca.key", "-out", "ca.crt")
        self._openssl(*new, "/CN=postgres", "-keyout", "data/server.key", "-out", "server.csr")
        (self.folder / "names").write_text("subjectAltName=IP:127.0.0.1")
        sign = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
        self._openssl("x509", "-req", "-in", "server.csr", *sign, "-days", "2", "-out", "data/server.crt")
        (data / "server.key").chmod(0o600)

    def _openssl(self, *arguments: str) -> None:
        self._run("/usr/bin/openssl", *arguments)

    def _run(self, tool: str, *arguments: str) -> None:
        """pg_ctl leaves the server behind with our pipes open, so what is said goes to a file."""
        said = self.folder / "said"
        with said.open("w") as output:
            done = subprocess.run(
                [self.bin / tool, *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                timeout=120,
                **self._options,
            )
        if done.returncode != 0:
            log = self.folder / "log"
            raise RuntimeError(f"{tool}: {said.read_text()}{log.read_text()[-2000:] if log.exists() else ''}")


@contextmanager
def a_postgres() -> Iterator[PostgresServer]:
    found = binaries()
    if found is None:
        pytest.skip("PostgreSQL is not installed: make services")
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="auralink-pg-", dir=memory))
    options: dict[str, Any] = {}
    if os.geteuid() == 0:  # which the server refuses to be
        shutil.chown(folder, UNPRIVILEGED)
        options = {"user": UNPRIVILEGED, "extra_groups": [], "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}}
    server = PostgresServer(folder, found, free_ports(1)[0], options)
    try:
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
