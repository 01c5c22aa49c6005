"""The cluster that the demo, the end-to-end tests and the benchmarks talk to, and the release under test.

Reads go straight to the API server over one kept connection: a kubectl process per look would cost more CPU
than the pods that are being measured. What a user would type (apply, exec, helm) is typed.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import kubernetes.config
import yaml

from hack.lab.tools import tool

ROOT = Path(__file__).resolve().parents[2]
SYSTEM_NAMESPACE = "auralink-system"
RELEASE = "auralink"

Obj = dict[str, Any]
T = TypeVar("T")


class KubeError(Exception):
    """A command or request failed; the message is what the server or tool said."""


class NotInTime(Exception):  # noqa: N818 - reads as what happened
    """Something awaited did not come; the message says what, and what was there instead."""


@dataclass(frozen=True, slots=True)
class Access:
    kubectl: Path
    helm: Path
    kubeconfig: Path
    kind: str  # "embedded" or "kind"
    audit_log: Path


def access() -> Access:
    """Where the running cluster is. Raises KubeError if none answers."""
    status = _output([sys.executable, "-m", "hack.cluster", "status", "--json"])
    found = json.loads(status)
    if not found.get("healthy"):
        raise KubeError(
            f"no healthy cluster: {', '.join(found.get('problems') or ['none runs'])}; start it: make cluster"
        )
    try:
        helm = Path(tool("path", "helm"))
    except (subprocess.SubprocessError, OSError) as error:
        raise KubeError(f"helm could not be built: {error}") from error
    return Access(Path(found["kubectl"]), helm, Path(found["kubeconfig"]), found["kind"], Path(found["audit_log"]))


def images() -> Mapping[str, str]:
    """Image references by part, as the last `make images` built them."""
    listing = ROOT / "build" / "images.json"
    if not listing.is_file():
        raise KubeError(f"{listing.relative_to(ROOT)} is missing; build the images: make images")
    return {str(name): str(reference) for name, reference in json.loads(listing.read_text()).items()}


@dataclass(slots=True)
class Kube:
    """One cluster. Not thread-safe."""

    access: Access
    _client: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        load: Any = kubernetes.config.new_client_from_config  # untyped
        self._client = load(config_file=str(self.access.kubeconfig))

    def kubectl(self, *arguments: str, stdin: bytes | None = None, timeout_s: float = 60) -> bytes:
        command = [str(self.access.kubectl), "--kubeconfig", str(self.access.kubeconfig), *arguments]
        return _output(command, stdin=stdin, timeout_s=timeout_s)

    def helm(self, *arguments: str, timeout_s: float = 300) -> bytes:
        command = [str(self.access.helm), "--kubeconfig", str(self.access.kubeconfig), *arguments]
        return _output(command, timeout_s=timeout_s)

    def request(
        self, method: str, path: str, body: Obj | None = None, content_type: str = "application/json"
    ) -> Obj | None:
        """The answer as JSON; None where the object does not exist."""
        answer = self._client.rest_client.pool_manager.request(
            method,
            self._client.configuration.host + path,
            body=None if body is None else json.dumps(body),
            headers={"Content-Type": content_type, "Accept": "application/json"},
            timeout=30,
            retries=False,
        )
        if answer.status == 404:
            return None
        if answer.status >= 400:
            raise KubeError(f"{method} {path}: {answer.status} {_message(answer.data)}")
        return dict(json.loads(answer.data))

    def get(self, path: str) -> Obj | None:
        return self.request("GET", path)

    def items(self, path: str) -> list[Obj]:
        listing = self.get(path)
        return list(listing["items"]) if listing else []

    def merge(self, path: str, body: Obj) -> Obj:
        """Merge patch of an object that exists."""
        patched = self.request("PATCH", path, body, "application/merge-patch+json")
        if patched is None:
            raise KubeError(f"PATCH {path}: it does not exist")
        return patched

    def apply(self, documents: Sequence[Obj] | Path, namespace: str) -> None:
        if isinstance(documents, Path):
            self.kubectl("apply", "-n", namespace, "-f", str(documents))
        else:
            self.kubectl("apply", "-n", namespace, "-f", "-", stdin=yaml.safe_dump_all(documents).encode())

    def namespace(self, name: str) -> None:
        """Creates it, under the strictest pod security standard; one of that name that is going must be gone first."""

        def going() -> bool:
            found = self.get(f"/api/v1/namespaces/{name}")
            return found is not None and "deletionTimestamp" in found["metadata"]

        wait_for(f"the end of the old namespace {name}", lambda: not going(), 120, 0.5)
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}], name)

    def read_file(self, namespace: str, pod: str, container: str, path: str) -> bytes:
        return self.kubectl("exec", "-n", namespace, pod, "-c", container, "--", "cat", path, timeout_s=120)

    def write_file(self, namespace: str, pod: str, container: str, path: str, data: bytes) -> None:
        command = ["sh", "-c", f"cat > {path}.part && mv {path}.part {path}"]
        self.kubectl("exec", "-i", "-n", namespace, pod, "-c", container, "--", *command, stdin=data, timeout_s=120)


def bridge_path(namespace: str, name: str = "") -> str:
    return f"/apis/auralink.io/v1alpha1/namespaces/{namespace}/auralinkbridges" + (f"/{name}" if name else "")


def policy_path(namespace: str, name: str = "") -> str:
    return f"/apis/auralink.io/v1alpha1/namespaces/{namespace}/roompolicies" + (f"/{name}" if name else "")


def pods_path(namespace: str, selector: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/pods" + (f"?labelSelector={selector}" if selector else "")


def deployment_path(namespace: str, name: str = "") -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments" + (f"/{name}" if name else "")


def condition(obj: Obj | None, kind: str) -> Obj | None:
    """A condition of an object's status, if it is there."""
    found = (c for c in ((obj or {}).get("status") or {}).get("conditions") or [] if c["type"] == kind)
    return next(found, None)


def is_true(obj: Obj | None, kind: str) -> bool:
    found = condition(obj, kind)
    return found is not None and found["status"] == "True"


def wait_for(
    what: str, look: Callable[[], T | None], timeout_s: float, every_s: float = 0.25, seen: Callable[[], str] = str
) -> T:
    """The first result of `look` that is neither None nor False. `seen` describes what is there when time is up."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() >= deadline:
            instead = seen()
            raise NotInTime(
                f"{what} did not come within {timeout_s:g} s" + (f"; there is: {instead}" if instead else "")
            )
        time.sleep(every_s)


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data[:300].decode(errors="replace")


def _output(command: Sequence[str], stdin: bytes | None = None, timeout_s: float = 60) -> bytes:
    try:
        done = subprocess.run(
            command, input=stdin if stdin is not None else b"", capture_output=True, timeout=timeout_s, cwd=ROOT
        )
    except subprocess.TimeoutExpired:
        raise KubeError(f"{_short(command)} did not end within {timeout_s:g} s") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip() or done.stdout.decode(errors="replace").strip()
        raise KubeError(f"{_short(command)}: {said[-600:]}")
    return done.stdout


def _short(command: Sequence[str]) -> str:
    words = [Path(command[0]).name, *command[1:]]
    if "--kubeconfig" in words:
        at = words.index("--kubeconfig")
        del words[at : at + 2]
    return " ".join(words)[:160]
