"""Redis servers of our own, each a process on a free port: plain, with TLS and users, sentinels, a cluster."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.kube_api import free_ports

START_S = 10.0
MISSING = shutil.which("redis-server") is None
WHY = "redis-server is missing: hack/apt.sh services"


@dataclass
class RedisServer:
    """Keeps nothing on disk: stopped and started again, it has lost its data. `lines`: of its configuration."""

    folder: Path
    port: int
    lines: list[str] = field(default_factory=list)
    sentinel: bool = False
    tls: bool = False
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        config = self.folder / f"{self.port}.conf"
        if not config.exists():  # sentinels write into theirs
            basis = ["bind 127.0.0.1", f"dir {self.folder}", *([] if self.sentinel else ['save ""'])]
            ports = ["port 0", f"tls-port {self.port}"] if self.tls else [f"port {self.port}"]
            config.write_text("\n".join([*basis, *ports, *self.lines]) + "\n")
        mode = ["--sentinel"] if self.sentinel else []
        with (self.folder / f"{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(["redis-server", config, *mode], stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while not self._answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                text = (self.folder / f"{self.port}.log").read_text()
                raise AssertionError(f"redis-server did not start: {text[-2000:]}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(timeout=10)
            self.process = None

    def freeze(self) -> None:
        """Its connections stay open and nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def cli(self, *words: str) -> str:
        done = subprocess.run(
            ["redis-cli", "-p", str(self.port), *words],
            capture_output=True,
            encoding="latin-1",  # DUMP is not text
            check=True,
            timeout=10,
        )
        return done.stdout.strip()


@contextmanager
def redis_server(folder: Path, *lines: str, tls: bool = False) -> Iterator[RedisServer]:
    server = RedisServer(folder, free_ports(1)[0], list(lines), tls=tls)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def with_sentinels(folder: Path, password: str) -> Iterator[tuple[list[RedisServer], list[RedisServer]]]:
    """(a master and its replica with this password, three sentinels without one that know it as "rooms")."""
    ports = free_ports(5)
    guarded = [f"requirepass {password}", f"masterauth {password}"]
    data = [
        RedisServer(folder, ports[0], guarded),
        RedisServer(folder, ports[1], [*guarded, f"replicaof 127.0.0.1 {ports[0]}"]),
    ]
    lines = [
        f"sentinel monitor rooms 127.0.0.1 {ports[0]} 2",
        f"sentinel auth-pass rooms {password}",
        "sentinel down-after-milliseconds rooms 1000",
        "sentinel failover-timeout rooms 5000",
    ]
    sentinels = [RedisServer(folder, port, lines, sentinel=True) for port in ports[2:]]
    with ExitStack() as stack:
        for server in (*data, *sentinels):
            stack.callback(server.kill)
            server.start()
        _wait(lambda: "slaves=1,sentinels=3" in sentinels[0].cli("info", "sentinel"))
        yield data, sentinels


@contextmanager
def redis_cluster(folder: Path) -> Iterator[list[RedisServer]]:
    """Three masters; the second port of each, for the others, is 10000 higher."""
    ports = [port for port in free_ports(40) if port + 10000 < 65536][:3]
    lines = ["cluster-enabled yes", "cluster-node-timeout 2000"]
    servers = [RedisServer(folder, port, [*lines, f"cluster-config-file nodes-{port}.conf"]) for port in ports]
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.kill)
            server.start()
        addresses = [server.address for server in servers]
        subprocess.run(
            ["redis-cli", "--cluster", "create", *addresses, "--cluster-yes"],
            check=True,
            capture_output=True,
            timeout=60,
        )
        _wait(lambda: all("cluster_state:ok" in server.cli("cluster", "info") for server in servers))
        yield servers


def certificates(folder: Path) -> None:
    """ca.crt, and tls.crt with tls.key for 127.0.0.1; other.crt is another authority's."""
    new = ("req", "-newkey", "rsa:2048", "-nodes", "-subj")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, cwd=folder, capture_output=True, timeout=60)

    for name in ("ca", "other"):
        openssl(*new, f"/CN={name}", "-x509", "-days", "2", "-keyout", f"{name}.key", "-out", f"{name}.crt")
    openssl(*new, "/CN=redis", "-keyout", "tls.key", "-out", "tls.csr")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    sign = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    openssl("x509", "-req", "-in", "tls.csr", *sign, "-days", "2", "-out", "tls.crt")


def _wait(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
