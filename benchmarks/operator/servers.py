"""Starts and stops what the measurement runs on: all of it on loopback, in one folder under /tmp, in known processes.

`limits raised` matters: the controllers' defaults of 20 requests per second would be all that is measured.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import yaml

from hack.progress import CommandError
from tests.integration import kube_api

ROOT = Path(__file__).resolve().parents[2]
_TICKS = os.sysconf("SC_CLK_TCK")
_CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "resourcequota-controller",
    "disruption-controller",
    "serviceaccount-controller",
    "horizontal-pod-autoscaler-controller",
)
_QPS, _BURST, _SYNCS = 2000, 4000, 20
# kwok watches from version 0, which the API server takes for a list by watch; that fails on an etcd that tells no
# progress (Debian's 3.4.23), and kwok would see new pods only by listing them now and then.
_FLAGS = ("--feature-gates=WatchList=false",)
_KWOK_PARALLEL = (
    "podPlayStageParallelism",
    "nodePlayStageParallelism",
    "nodeLeaseParallelism",
    "podsOnNodeSyncParallelism",
)


@dataclass
class Process:
    """One process of ours: what it has used so far, and its end."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def cpu_s(self) -> float:
        """Processor time, user and system; the last known one once it has ended is 0."""
        try:
            fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory_mb(self, of: str = "VmRSS") -> float:
        """Resident memory in MB of 10^6 bytes; `VmHWM` is its highest so far."""
        for line in Path(f"/proc/{self.popen.pid}/status").read_text().splitlines():
            if line.startswith(f"{of}:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise CommandError(f"{self.name} has ended; see {self.log}")

    def stop(self) -> None:
        self.popen.terminate()
        try:
            self.popen.wait(20)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()


@dataclass
class Servers:
    """The control plane, and every process that was started on it."""

    api: kube_api.ApiServer
    folder: Path
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.api.port}"

    def start(self, name: str, argv: list[str], environment: Mapping[str, str] | None = None) -> Process:
        log = self.folder / f"{name}.log"
        with log.open("ab") as out:
            popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
            )
        self.processes[name] = process = Process(name, popen, log)
        return process

    def check(self) -> None:
        """Raises if one of the processes has ended by itself."""
        for process in self.processes.values():
            if not process.running:
                tail = process.log.read_text()[-2000:]
                raise CommandError(f"{process.name} ended with {process.popen.returncode}:\n{tail}")

    def cpu_s(self) -> dict[str, float]:
        return {name: process.cpu_s() for name, process in self.processes.items()}

    def start_pods(self) -> Process:
        """The data plane's share in the API, played (see `pods`)."""
        return self.start("pods", [sys.executable, "-m", "benchmarks.operator.pods", self.url, kube_api.POD_TOKEN])

    def start_operator(self, name: str, tree: Path, flags: list[str]) -> "Operator":
        """`python -m auralink_operator run` of a source tree: for the whole cluster, with no rights but the chart's."""
        port = kube_api.free_ports(1)[0]
        fixed = ("--data-plane-image=localhost/data-plane:bench", "--ai-core-address=ai-core.auralink-system.svc:50051")
        environment = {
            "KUBECONFIG": str(self.api.operator_kubeconfig),
            "PYTHONPATH": os.pathsep.join(str(tree / part) for part in ("operator", "protos")),
            "HOSTNAME": name,
        }
        argv = [sys.executable, "-m", "auralink_operator", "run", *fixed, f"--health-port={port}", *flags]
        return Operator(self.start(name, argv, environment), port)


def _tool(name: str) -> str:
    """A binary of the tools' cache, built if it is missing."""
    if found := kube_api.find_tool(name):
        return str(found)
    done = subprocess.run([ROOT / "hack/tools.sh", "path", name], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise CommandError(f"{name} could not be built")
    return done.stdout.strip()


@contextmanager
def control_plane(keep: bool = False) -> Iterator[Servers]:
    """etcd and API server; `keep` leaves their folder (logs, audit log) for a look afterwards."""
    # etcd waits for the disk at each write, and nothing here has to survive.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="auralink-bench-", dir=memory))
    servers: Servers | None = None
    started: list[subprocess.Popen[bytes]] = []
    try:
        api, started = kube_api.start(folder, _FLAGS)
        servers = Servers(api, folder)
        for name, popen in zip(("etcd", "kube-apiserver"), started, strict=True):
            servers.processes[name] = Process(name, popen, folder / f"{name.removeprefix('kube-')}.log")
        yield servers
    finally:
        for process in reversed(list(servers.processes.values()) if servers else []):
            process.stop()
        if keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def start_controllers(servers: Servers) -> None:
    """After the CRDs: the garbage collector looks for new kinds only every 30 s, and asks per child until it has."""
    kubeconfig = servers.api.kubeconfig
    limits = (f"--kube-api-qps={_QPS}", f"--kube-api-burst={_BURST}")
    syncs = ("deployment", "replicaset", "service-endpoint", "gc", "namespace")
    servers.start(
        "kube-controller-manager",
        [
            _tool("kube-controller-manager"),
            *(f"--kubeconfig={kubeconfig}", "--secure-port=0", "--leader-elect=false", *limits),
            f"--controllers={','.join(_CONTROLLERS)}",
            *(f"--concurrent-{name}-syncs={_SYNCS}" for name in syncs),
        ],
    )
    scheduling = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {"kubeconfig": str(kubeconfig), "qps": _QPS, "burst": _BURST},
    }
    config = servers.folder / "scheduler.yaml"
    config.write_text(yaml.safe_dump(scheduling))
    servers.start("kube-scheduler", [_tool("kube-scheduler"), f"--config={config}", "--secure-port=0"])
    options = {
        "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
        "kind": "KwokConfiguration",
        "metadata": {"name": "kwok"},
        "options": {"manageAllNodes": True, "cidr": "10.0.0.1/8", **dict.fromkeys(_KWOK_PARALLEL, 16)},
    }
    stages = (ROOT / "benchmarks/operator/stages.yaml").read_text()
    config = servers.folder / "kwok.yaml"
    config.write_text(f"{yaml.safe_dump(options)}---\n{stages}")
    servers.start("kwok", [_tool("kwok"), f"--kubeconfig={kubeconfig}", f"--config={config}"])


@dataclass
class Operator:
    """One real operator process."""

    process: Process
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def wait_ready(self, servers: Servers, timeout_s: float = 300.0) -> None:
        """Until its index is full."""
        deadline = time.monotonic() + timeout_s
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < deadline:
                servers.check()
                with suppress(aiohttp.ClientError):
                    async with session.get(f"{self.url}/readyz") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.05)
        raise CommandError(f"{self.process.name} is not ready after {timeout_s:.0f} s; see {self.process.log}")
