"""Flux beside a cluster: its real source and kustomize controllers as processes of this machine, and a Git repository.

    repository (smart HTTP) <- source-controller -> artifact (HTTP) <- kustomize-controller -> API server

Everything listens on loopback, lives in one folder and ends with the context. The controllers act with the cluster's
own kubeconfig, as they would with the rights that Flux's installation gives them.
"""

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

from hack.lab.kube import Kube, KubeError, Obj, condition, wait_for
from hack.lab.tools import tool

_GIT = ("git", "-c", "user.name=AuraLink tests", "-c", "user.email=tests@auralink.invalid")
_MAX_BODY_BYTES = 1 << 20
_KINDS = {
    "GitRepository": "/apis/source.toolkit.fluxcd.io/v1/namespaces/{}/gitrepositories/{}",
    "Kustomization": "/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/{}/kustomizations/{}",
}


class Repository:
    """A Git repository with a work tree, served over smart HTTP by `git http-backend` until it is closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._git("init", "--quiet", "--initial-branch=main")
        root = str(folder)

        class Handler(_GitHandler):
            project_root = root

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="git", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/.git"

    def commit(self, message: str) -> str:
        """Commits the whole work tree, removals included; the new revision as Flux writes it."""
        self._git("add", "--all")
        self._git("commit", "--quiet", "--no-gpg-sign", "-m", message)
        return f"main@sha1:{self._git('rev-parse', 'HEAD').strip()}"

    def __enter__(self) -> "Repository":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(timeout=5)
        self._server.server_close()

    def _git(self, *arguments: str) -> str:
        done = subprocess.run([*_GIT, *arguments], cwd=self.folder, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout


class _GitHandler(BaseHTTPRequestHandler):
    """One request handed to `git http-backend` as CGI (RFC 3875)."""

    project_root = ""

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 <= length <= _MAX_BODY_BYTES:
            self.send_error(413)
            return
        self._serve(self.rfile.read(length))

    def _serve(self, body: bytes) -> None:
        url = urlsplit(self.path)
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "GIT_PROJECT_ROOT": self.project_root,
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": url.path,
            "QUERY_STRING": url.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        command = ["git", "-c", "safe.directory=*", "http-backend"]
        answer = subprocess.run(command, input=body, env=environment, stdout=subprocess.PIPE, check=False, timeout=30)
        head, _, content = answer.stdout.partition(b"\r\n\r\n")
        headers = dict(line.decode().split(": ", 1) for line in head.split(b"\r\n") if b": " in line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """A request of Flux is nothing to print."""


class Flux:
    """What a user of Flux sees."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    def look(self, kind: str, namespace: str, name: str) -> Obj | None:
        return self._kube.get(_KINDS[kind].format(namespace, name))

    def ready(self, namespace: str, name: str) -> Obj | None:
        return condition(self.look("Kustomization", namespace, name), "Ready")

    def wait_delivered(self, namespace: str, name: str, revision: str, timeout_s: float = 120) -> None:
        """Until the delivery of this revision is done, health included."""

        def done() -> bool:
            found = self.look("Kustomization", namespace, name) or {}
            ready = condition(found, "Ready")
            applied = (found.get("status") or {}).get("lastAppliedRevision")
            return applied == revision and ready is not None and ready["status"] == "True"

        wait_for(f"delivery of {revision}", done, timeout_s, 0.5, lambda: str(self.ready(namespace, name)))

    def wait_failed(self, namespace: str, name: str, reason: str, timeout_s: float = 120) -> str:
        """The message with which a delivery failed for this reason."""

        def failed() -> str | None:
            ready = self.ready(namespace, name)
            return str(ready["message"]) if ready and ready["status"] == "False" and ready["reason"] == reason else None

        return wait_for(f"failure {reason}", failed, timeout_s, 0.5, lambda: str(self.ready(namespace, name)))

    def forget(self, namespace: str) -> None:
        """Deletes the namespace with all in it; the deliveries first, because their finalizers need the controllers."""
        if self._kube.get(f"/api/v1/namespaces/{namespace}") is None:
            return
        for kind in ("kustomizations.kustomize.toolkit.fluxcd.io", "gitrepositories.source.toolkit.fluxcd.io"):
            self._kube.kubectl("delete", kind, "--all", "-n", namespace, "--timeout=60s", timeout_s=70)
        self._kube.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--timeout=90s", timeout_s=100)

    def pull(self, namespace: str, repository: str) -> None:
        """What `flux reconcile source git` does: looks for a new revision now."""
        stamp = {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": os.urandom(8).hex()}}}
        self._kube.merge(_KINDS["GitRepository"].format(namespace, repository), stamp)


@contextmanager
def running(kube: Kube, folder: Path) -> Iterator[Flux]:
    """Both controllers, with their kinds applied; they end with the context, the kinds stay."""
    tools = Path(tool("dir", "flux"))
    source = tool("path", "source-controller")
    kustomize = tool("path", "kustomize-controller")
    kinds = str(tools / "crds.yaml")
    kube.kubectl("apply", "--server-side", "--force-conflicts", "-f", kinds)
    # A controller whose kinds are not served yet gives up for good.
    kube.kubectl("wait", "--for=condition=established", "--timeout=50s", "-f", kinds)
    storage, *others = _free_ports(5)
    with ExitStack() as stack:
        for command, (health, metrics) in (
            (
                [
                    *(source, f"--storage-path={folder / 'artifacts'}", f"--storage-addr=127.0.0.1:{storage}"),
                    f"--storage-adv-addr=127.0.0.1:{storage}",
                ],
                others[:2],
            ),
            ([kustomize], others[2:]),
        ):
            addresses = [f"--health-addr=127.0.0.1:{health}", f"--metrics-addr=127.0.0.1:{metrics}"]
            stack.enter_context(_process([*command, *addresses], kube, folder, health))
        yield Flux(kube)


@contextmanager
def _process(command: list[str], kube: Kube, folder: Path, health: int) -> Iterator[None]:
    """One controller, from when it says that it is ready."""
    name = Path(command[0]).name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "artifacts").mkdir(exist_ok=True)
    environment = {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PATH": os.defpath,
        "KUBECONFIG": str(kube.access.kubeconfig),
        "RUNTIME_NAMESPACE": "default",
    }
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--events-addr="], env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder
        )
        try:
            wait_for(f"{name} to be ready", lambda: _is_ready(process, health, Path(log.name)), 60)
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            shutil.rmtree(folder / "artifacts", ignore_errors=True)


def _is_ready(process: "subprocess.Popen[bytes]", port: int, log: Path) -> bool:
    if process.poll() is not None:
        raise KubeError(f"{log.stem} ended with {process.returncode}: {log.read_text(errors='replace')[-600:]}")
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
