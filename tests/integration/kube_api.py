"""A kube-apiserver and its etcd for tests: real API semantics, and nothing that acts on the objects by itself.

No controller manager, scheduler or kubelet runs, so tests play those parts: they set a Deployment's status, make pods,
and delete what garbage collection would. Tests that say `api_server` get one server per session; without the binaries
they are skipped by name.
"""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ADMIN_TOKEN = "admin-of-a-throw-away-server"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def find_tool(name: str) -> Path | None:
    """A server's binary: in AURALINK_TOOLS (a folder), else in the tools' cache, else on PATH. Builds nothing."""
    if folder := os.environ.get("AURALINK_TOOLS"):
        path = Path(folder) / name
        return path if path.exists() else None
    if found := shutil.which(name):
        return Path(found)
    asked = subprocess.run([ROOT / "hack/tools.sh", "dir", "kubernetes"], capture_output=True, text=True, check=False)
    path = Path(asked.stdout.strip()) / name
    return path if asked.returncode == 0 and path.is_file() else None


@dataclass
class ApiServer:
    folder: Path
    port: int
    audit_log: Path

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def write_kubeconfig(self, name: str, token: str) -> Path:
        """A kubeconfig for another identity, beside the administrator's."""
        path = self.folder / name
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [
                        {
                            "name": "test",
                            "cluster": {
                                "server": f"https://127.0.0.1:{self.port}",
                                "certificate-authority": str(self.folder / "certs/apiserver.crt"),
                            },
                        }
                    ],
                    "users": [{"name": "user", "user": {"token": token}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
                    "current-context": "test",
                }
            )
        )
        return path

    def requests(self, agent: str) -> list[dict[str, object]]:
        """Completed requests of clients whose user agent begins so, oldest first."""
        found = []
        for line in self.audit_log.read_text().splitlines():
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue  # half-written last line
            if event["stage"] == "ResponseComplete" and str(event.get("userAgent", "")).startswith(agent):
                found.append(event)
        return found


def _wait_ready(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    import ssl
    import urllib.error
    import urllib.request

    context = ssl._create_unverified_context()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"kube-apiserver ended:\n{log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(f"https://127.0.0.1:{port}/readyz", timeout=2, context=context) as answer:  # noqa: S310
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.1)
    raise RuntimeError(f"kube-apiserver is not ready after 120 s:\n{log.read_text()[-3000:]}")


def start(folder: Path) -> tuple[ApiServer, list[subprocess.Popen[bytes]]]:
    apiserver, etcd = find_tool("kube-apiserver"), find_tool("etcd") or shutil.which("etcd")
    if apiserver is None or etcd is None:
        raise FileNotFoundError("kube-apiserver" if apiserver is None else "etcd")
    client_port, peer_port, port = _free_ports(3)
    key = folder / "service-accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    (folder / "tokens.csv").write_text(f"{ADMIN_TOKEN},admin,admin,system:masters\n")
    (folder / "audit.yaml").write_text(
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"
    )
    etcd_log, server_log = folder / "etcd.log", folder / "apiserver.log"
    url = f"http://127.0.0.1:{client_port}"
    processes: list[subprocess.Popen[bytes]] = []
    with etcd_log.open("wb") as log:
        processes.append(
            subprocess.Popen(
                [
                    etcd,
                    f"--data-dir={folder}/etcd",
                    f"--listen-client-urls={url}",
                    f"--advertise-client-urls={url}",
                    f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
                    "--log-level=error",
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "ETCD_UNSUPPORTED_ARCH": ""},
            )
        )
    server = ApiServer(folder, port, folder / "audit.log")
    with server_log.open("wb") as log:
        processes.append(
            subprocess.Popen(
                [
                    apiserver,
                    f"--etcd-servers={url}",
                    f"--secure-port={port}",
                    "--bind-address=127.0.0.1",
                    f"--cert-dir={folder}/certs",
                    "--service-cluster-ip-range=10.96.0.0/16",
                    f"--token-auth-file={folder}/tokens.csv",
                    f"--service-account-key-file={key}",
                    f"--service-account-signing-key-file={key}",
                    "--service-account-issuer=https://kubernetes.default.svc",
                    "--authorization-mode=RBAC",
                    "--disable-admission-plugins=ServiceAccount",
                    f"--audit-policy-file={folder}/audit.yaml",
                    f"--audit-log-path={server.audit_log}",
                    "--audit-log-mode=blocking",
                    "--event-ttl=10m",
                ],
                stdout=log,
                stderr=log,
            )
        )
    try:
        _wait_ready(port, processes[1], server_log)
    except BaseException:
        stop(processes)
        raise
    server.write_kubeconfig("kubeconfig", ADMIN_TOKEN)
    return server, processes


def stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in reversed(processes):
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    missing = [name for name in ("kube-apiserver", "etcd") if find_tool(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not built: make cluster-tools, or set AURALINK_TOOLS to their folder")
    with tempfile.TemporaryDirectory(prefix="auralink-api-") as name:
        server, processes = start(Path(name))
        try:
            yield server
        finally:
            stop(processes)
