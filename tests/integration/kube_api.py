"""A kube-apiserver and its etcd for tests: real API semantics, and nothing that acts on the objects by itself.

No controller manager, scheduler or kubelet runs, so tests play those parts: they set a Deployment's status, make pods,
and delete what garbage collection would. Tests that say `api_server` get one server per session; without the binaries
they are skipped by name.
"""

import asyncio
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
import yaml

from hack.audit import check
from hack.audit.policy import policy as audit_policy

ROOT = Path(__file__).parents[2]
ADMIN_TOKEN, OPERATOR_TOKEN, POD_TOKEN = (f"{name}-of-a-throw-away-server" for name in ("admin", "operator", "pod"))
OPERATOR, POD = "test-operator", "test-pod"
# Twice as much at most; a run of all tests writes a tenth of it, and none of it may be lost before it is judged.
AUDIT_MEGABYTES = 256


T = TypeVar("T")
Obj = dict[str, Any]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def find_tool(name: str, group: str = "kubernetes") -> Path | None:
    """A server's binary: in AURALINK_TOOLS (a folder), else in the tools' cache, else on PATH. Builds nothing."""
    if folder := os.environ.get("AURALINK_TOOLS"):
        path = Path(folder) / name
        return path if path.exists() else None
    if found := shutil.which(name):
        return Path(found)
    asked = subprocess.run([ROOT / "hack/tools.sh", "dir", group], capture_output=True, text=True, check=False)
    path = Path(asked.stdout.strip()) / name
    return path if asked.returncode == 0 and path.is_file() else None


@dataclass
class ApiServer:
    folder: Path
    port: int
    audit_log: Path
    has_crds: bool = False
    etcd: str = ""  # its address

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def operator_kubeconfig(self) -> Path:
        """An identity without any right but those that a test gives it."""
        return self.folder / "operator.kubeconfig"

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
            if agent not in line:
                continue
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue  # half-written last line
            if event["stage"] == "ResponseComplete" and str(event.get("userAgent", "")).startswith(agent):
                found.append(event)
        return found


def _wait_ready(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    context = ssl._create_unverified_context()  # noqa: S323 - its certificate is made as it starts
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"kube-apiserver ended:\n{log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(f"https://127.0.0.1:{port}/readyz", timeout=2, context=context) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.1)
    raise RuntimeError(f"kube-apiserver is not ready after 120 s:\n{log.read_text()[-3000:]}")


def start(folder: Path, flags: Sequence[str] = ()) -> tuple[ApiServer, list[subprocess.Popen[bytes]]]:
    """etcd and API server with further flags; the caller stops the processes."""
    apiserver, etcd = find_tool("kube-apiserver"), find_tool("etcd") or shutil.which("etcd")
    if apiserver is None or etcd is None:
        raise FileNotFoundError("kube-apiserver" if apiserver is None else "etcd")
    client_port, peer_port, port = free_ports(3)
    key = folder / "service-accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    (folder / "tokens.csv").write_text(
        f"{ADMIN_TOKEN},admin,admin,system:masters\n{OPERATOR_TOKEN},{OPERATOR},operator\n{POD_TOKEN},{POD},pod\n"
    )
    (folder / "audit.yaml").write_text(json.dumps(audit_policy()))
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
    server = ApiServer(folder, port, folder / "audit.log", etcd=url)
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
                    f"--audit-log-maxsize={AUDIT_MEGABYTES}",
                    "--audit-log-maxbackup=1",
                    "--event-ttl=10m",
                    *flags,
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
    server.write_kubeconfig("operator.kubeconfig", OPERATOR_TOKEN)
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
    # etcd waits for the disk at each write, and nothing here has to survive.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="auralink-api-", dir=memory) as name:
        server, processes = start(Path(name))
        try:
            yield server
        finally:
            stop(processes)
        _judge(server.audit_log)


def _judge(log: Path) -> None:
    """The last step of a run: every status that was written in it keeps the rules of its readers."""
    report = check(log)
    print(f"\naudit log: {report}")
    if report.violations:
        pytest.fail("statuses that break a rule:\n" + "\n".join(report.violations[:50]), pytrace=False)


async def eventually(look: Callable[[], Awaitable[T | None]], what: str, timeout_s: float = 15.0) -> T:
    """The first answer of `look` that is neither None nor False."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = await look()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        await asyncio.sleep(0.02)


_PREFIX = {
    "auralinkbridges": "/apis/auralink.io/v1alpha1",
    "roompolicies": "/apis/auralink.io/v1alpha1",
    "deployments": "/apis/apps/v1",
    "endpointslices": "/apis/discovery.k8s.io/v1",
    "roles": "/apis/rbac.authorization.k8s.io/v1",
    "rolebindings": "/apis/rbac.authorization.k8s.io/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "events": "/apis/events.k8s.io/v1",
}


class Refused(Exception):  # noqa: N818 - what the API server did
    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


class Kube:
    """The tests' own hands: the administrator, in one namespace."""

    def __init__(self, session: aiohttp.ClientSession, base: str, namespace: str) -> None:
        self._session, self._base, self.namespace = session, base, namespace

    async def raw(
        self,
        verb: str,
        path: str,
        body: Obj | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Obj:
        headers = {"Content-Type": content_type, "Authorization": f"Bearer {ADMIN_TOKEN}", "User-Agent": "test"}
        headers["Accept"] = accept
        data = None if body is None else json.dumps(body)
        async with self._session.request(verb, self._base + path, data=data, headers=headers, ssl=False) as answer:
            found: Obj = await answer.json(content_type=None)
            if answer.status >= 300:
                raise Refused(answer.status, str(found.get("message")))
            return found

    def _path(self, plural: str, name: str = "") -> str:
        prefix = _PREFIX.get(plural, "/api/v1")
        return f"{prefix}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    async def get(self, plural: str, name: str) -> Obj | None:
        try:
            return await self.raw("GET", self._path(plural, name))
        except Refused as error:
            if error.status == 404:
                return None
            raise

    async def list(self, plural: str) -> list[Obj]:
        return list((await self.raw("GET", self._path(plural)))["items"])

    async def create(self, plural: str, obj: Obj) -> Obj:
        return await self.raw("POST", self._path(plural), obj)

    async def merge(self, plural: str, name: str, patch: Obj, subresource: str = "") -> Obj:
        path = self._path(plural, name) + (f"/{subresource}" if subresource else "")
        return await self.raw("PATCH", path, patch, "application/merge-patch+json")

    async def apply(self, plural: str, obj: Obj, manager: str, subresource: str = "") -> Obj:
        path = self._path(plural, obj["metadata"]["name"]) + (f"/{subresource}" if subresource else "")
        return await self.raw("PATCH", f"{path}?fieldManager={manager}&force=true", obj, "application/apply-patch+yaml")

    async def delete(self, plural: str, name: str, **options: Any) -> None:
        await self.raw("DELETE", self._path(plural, name), {"kind": "DeleteOptions", "apiVersion": "v1", **options})

    # --- parts that controllers and kubelets play in a whole cluster ---

    async def run_pod(self, bridge: str, name: str, ip: str, *, ready: bool = True) -> Obj:
        """A pod of the bridge's Deployment, as a kubelet would have it."""
        deployment = await self.get("deployments", f"auralink-{bridge}")
        assert deployment is not None
        template = deployment["spec"]["template"]
        spec = {**template["spec"], "automountServiceAccountToken": False, "nodeName": "node-1"}
        metadata = {**template["metadata"], "name": name, "namespace": self.namespace}
        await self.create("pods", {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        return await self.set_ready(name, ip, ready=ready)

    async def set_ready(self, name: str, ip: str, *, ready: bool) -> Obj:
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        state = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": conditions}
        return await self.merge("pods", name, {"status": state}, "status")

    async def remove_pod(self, name: str) -> None:
        await self.delete("pods", name, gracePeriodSeconds=0)

    async def report(self, bridge: str, pod: Obj, generation: int, **more: Any) -> None:
        """What a data-plane pod writes about itself."""
        entry = {
            "name": pod["metadata"]["name"],
            "uid": pod["metadata"]["uid"],
            "phase": "Serving",
            "configGeneration": generation,
            "rooms": 1,
            "sessions": 1,
            "version": "0.1.0",
            **more,
        }
        await self.apply(
            "auralinkbridges", _bridge_status(bridge, pods=[entry]), f"auralink-pod.{entry['name']}", "status"
        )

    async def roll_out(self, bridge: str) -> None:
        """What the Deployment controller writes once all pods are there."""
        deployment = await self.get("deployments", f"auralink-{bridge}")
        assert deployment is not None
        count = deployment["spec"]["replicas"]
        names = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        state = {"observedGeneration": deployment["metadata"]["generation"], **dict.fromkeys(names, count)}
        await self.merge("deployments", f"auralink-{bridge}", {"status": state}, "status")


def _bridge_status(name: str, **status: Any) -> Obj:
    return {
        "apiVersion": "auralink.io/v1alpha1",
        "kind": "AuraLinkBridge",
        "metadata": {"name": name},
        "status": status,
    }


@asynccontextmanager
async def hands(server: ApiServer, namespace: str) -> AsyncIterator[Kube]:
    """The administrator in a new namespace, with the CRDs installed."""
    async with aiohttp.ClientSession() as session:
        kube = Kube(session, f"https://127.0.0.1:{server.port}", namespace)
        if not server.has_crds:
            await install_crds(kube)
            server.has_crds = True
        await kube.raw("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        yield kube


async def install_crds(kube: Kube) -> None:
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        crd = yaml.safe_load(path.read_text())
        url = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
        await kube.raw("PATCH", f"{url}?fieldManager=test&force=true", crd, "application/apply-patch+yaml")

        async def served(url: str = url) -> bool:
            conditions = (await kube.raw("GET", url)).get("status", {}).get("conditions") or []
            return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)

        await eventually(served, f"{crd['metadata']['name']} is served")
