"""One real Kubernetes node out of this machine's own processes, for machines without Docker. Needs Linux and root.

`up` is idempotent: a healthy cluster is left alone, one that lost a process gets it back, one that is beyond that (or
was started by other code, or before the last boot) is removed and started anew. `down` removes whatever `up` and the
pods left on the machine: processes, mounts, devices, firewall chains, cgroups, folders.
"""

import contextlib
import fcntl
import json
import os
import platform
import shutil
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hack.cluster import cgroups, config, containerd, dns, host, pki, processes
from hack.cluster import layout as at
from hack.cluster.status import Status
from hack.progress import CommandError, say, wait

_HERE = Path(__file__).resolve().parent
_STATE = at.RUN / "state.json"
_FOLDERS = (at.RUN, at.PIDS, at.LOGS, at.PKI, at.CNI, at.CONTAINERD_SOCKET.parent, at.DATA, at.DATA / "etcd")
_LOG_LIMIT_BYTES = 64 << 20
_SERVERS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
_PROGRAMS = (*_SERVERS, "etcd", "containerd", "containerd-shim-runc-v2")


# --- state of the machine ------------------------------------------------------------------------------------------
@contextlib.contextmanager
def _locked() -> Iterator[None]:
    with at.LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another command is working on the cluster; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _tools() -> config.Tools:
    def folder(group: str) -> Path:
        done = subprocess.run([_HERE.parent / "tools.sh", "dir", group], capture_output=True, text=True, check=True)
        return Path(done.stdout.strip())

    return config.Tools(folder("kubernetes"), folder("kubectl"), folder("coredns"))


def _machine() -> config.Host:
    filesystem = subprocess.run(
        ["stat", "-f", "-c", "%T", at.DATA.parent], capture_output=True, text=True, check=True
    ).stdout.strip()
    resolv = Path("/etc/resolv.conf")
    servers = [line.split()[1] for line in resolv.read_text().splitlines() if line.startswith("nameserver ")]
    behind_systemd = Path("/run/systemd/resolve/resolv.conf")
    if servers and all(server.startswith(("127.", "::1")) for server in servers) and behind_systemd.exists():
        resolv = behind_systemd
    return config.Host("native" if filesystem == "overlayfs" else "overlayfs", str(resolv))


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _state(tools: config.Tools, machine: config.Host) -> dict[str, str]:
    return {"fingerprint": config.fingerprint(tools, machine), "boot": _boot()}


def _recorded_state() -> object:
    try:
        return json.loads(_STATE.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _get(path: str) -> object:
    """A GET on the API server as admin. None when it does not answer or refuses."""
    try:
        context = ssl.create_default_context(cafile=str(at.PKI / "ca.crt"))
        context.load_cert_chain(at.PKI / "admin.crt", at.PKI / "admin.key")
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        with opener.open(config.SERVER + path, timeout=3) as answer:
            text = answer.read(4 << 20).decode()
    except (OSError, ssl.SSLError, urllib.error.URLError):
        return None
    return json.loads(text) if text.startswith("{") else text


def _api_ready() -> bool:
    return _get("/readyz") == "ok"


def _kubelet_answers() -> bool:
    """The node's Ready condition is up to 40 s old; this is not."""
    try:
        with socket.create_connection(("127.0.0.1", at.KUBELET_HEALTH_PORT), timeout=2) as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return connection.recv(64).split()[1:2] == [b"200"]
    except OSError:
        return False


def _has_condition(resource: object, kind: str) -> bool:
    if not isinstance(resource, dict):
        return False
    conditions = resource.get("status", {}).get("conditions", [])
    return any(condition["type"] == kind and condition["status"] == "True" for condition in conditions)


def _node_ready() -> bool:
    return _has_condition(_get(f"/api/v1/nodes/{at.NODE_NAME}"), "Ready")


def _dns_ready() -> bool:
    return _has_condition(_get("/apis/apps/v1/namespaces/kube-system/deployments/coredns"), "Available")


def problems(tools: config.Tools) -> list[str]:
    """What keeps the cluster from being usable; empty when it is healthy."""
    if not at.RUN.is_dir():
        return ["not running"]
    found = [
        f"{service.name} is not running"
        for service in config.services(tools)
        if not processes.is_alive(at.PIDS / f"{service.name}.json")
    ]
    checks = (
        ("API server does not answer", _api_ready),
        ("kubelet does not answer", _kubelet_answers),
        ("node is not ready", _node_ready),
        ("DNS is not ready", _dns_ready),
    )
    for text, check in checks:
        if not check():
            return [*found, text]
    return found


# --- up ------------------------------------------------------------------------------------------------------------
def up() -> None:
    if os.geteuid() != 0 or platform.system() != "Linux":
        raise CommandError("the embedded cluster needs Linux and root (elsewhere: start Docker, then kind is used)")
    with _locked():
        tools, machine = _tools(), _machine()
        recorded, wanted = _recorded_state(), _state(tools, machine)
        if recorded == wanted and not problems(tools):
            say("the cluster is up already")
            _trim_logs()
            # It may have been started by somebody with another cache.
            subprocess.run([_HERE.parent / "tools.sh", "build", "kubectl"], check=False)
            return
        left = at.RUN.exists() or at.DATA.exists()
        if not left:
            host.require_no_other_cluster()  # before minutes of building
        _prepare()
        if recorded == wanted and all(folder.is_dir() for folder in _FOLDERS) and _repaired(tools):
            return
        if left:
            say("removing what is left of an earlier cluster")
            _remove()
            host.require_no_other_cluster()
        _create(tools, machine)
        _STATE.write_text(json.dumps(wanted))


def _prepare() -> None:
    """Debian packages and Go builds side by side: one waits for the network, the other for the processor."""
    if subprocess.run([_HERE.parent / "preflight.sh"], check=False).returncode != 0:
        raise CommandError("this machine is not ready (see above)")
    with subprocess.Popen([_HERE.parent / "apt.sh", "cluster"]) as packages:
        tools = subprocess.run([_HERE.parent / "tools.sh", "build", "kubernetes", "kubectl", "coredns"], check=False)
    if packages.returncode or tools.returncode:
        raise CommandError("the cluster's packages or tools could not be installed (see above)")


def _repaired(tools: config.Tools) -> bool:
    say(f"repairing the cluster: {'; '.join(problems(tools))}")
    host.add_address()
    cgroups.make()
    try:
        _start_missing(tools)
    except CommandError as error:
        say(f"it cannot be repaired: {error}")
        return False
    if wait("the cluster to recover", lambda: not problems(tools), timeout_s=60):
        say("the cluster is whole again")
        return True
    say(f"it did not recover: {'; '.join(problems(tools))}")
    return False


def _create(tools: config.Tools, machine: config.Host) -> None:
    say("starting the embedded cluster")
    for folder in _FOLDERS:
        folder.mkdir(parents=True, exist_ok=True)
    for private in (at.RUN, at.PKI, at.DATA, at.DATA / "etcd"):
        private.chmod(0o700)
    for path, text in config.files(machine).items():
        path.write_text(text)
    pki.make_authority(at.PKI, "auralink-cluster")
    pki.make_signing_key(at.PKI)
    for leaf in config.LEAVES:
        pki.make_leaf(at.PKI, leaf)
    for client in config.CLIENTS:
        (at.RUN / f"{client}.conf").write_text(pki.kubeconfig(at.PKI, client, config.SERVER, "auralink"))
    host.keep_sysctls()
    host.keep_chains()
    host.require_bridge_filter()
    host.add_address()
    cgroups.make()
    _start_missing(tools)
    _kubectl(tools, ["apply", "--server-side", "--force-conflicts", "-f", "-"], dns.manifests())
    if not wait("the node", _node_ready, timeout_s=90):
        raise CommandError(f"the node did not become ready; logs: {at.LOGS}")
    say("node ready")
    if not wait("cluster DNS", _dns_ready, timeout_s=60):
        raise CommandError("cluster DNS did not become ready: kubectl -n kube-system describe pods")
    say("cluster DNS ready")


def _start_missing(tools: config.Tools) -> None:
    """Starts what does not run, and waits where the next one would give up without it."""
    inherited = ("PATH", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    environment = {name: os.environ[name] for name in inherited if name in os.environ}
    environment["PATH"] = f"/usr/sbin:/sbin:{environment.get('PATH', '/usr/bin:/bin')}"
    for service in config.services(tools):
        if not processes.is_alive(at.PIDS / f"{service.name}.json"):
            processes.start(service.name, service.argv, environment, at.PIDS, at.LOGS)
        if service.name == "containerd":
            _wait_for("containerd", containerd.answers, timeout_s=30)
            containerd.import_own_images(tools.coredns / "coredns")
        if service.name == "kube-apiserver":
            _wait_for("kube-apiserver", _api_ready, timeout_s=90)


def _wait_for(service: str, ready: Callable[[], bool], timeout_s: float) -> None:
    record, log = at.PIDS / f"{service}.json", at.LOGS / f"{service}.log"

    def ready_or_dead() -> bool:
        return not processes.is_alive(record) or ready()

    if not wait(service, ready_or_dead, timeout_s) or not processes.is_alive(record):
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        raise CommandError(f"{service} did not start; the end of {log}:\n{tail}")


def _kubectl(tools: config.Tools, arguments: Sequence[str], text: str) -> None:
    argv = [str(tools.kubectl / "kubectl"), "--kubeconfig", str(at.KUBECONFIG), *arguments]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")


def _trim_logs() -> None:
    """The processes append, so cutting a file under them is safe."""
    for log in at.LOGS.glob("*.log"):
        if log != at.AUDIT_LOG and log.stat().st_size > _LOG_LIMIT_BYTES:
            os.truncate(log, 0)


# --- down ----------------------------------------------------------------------------------------------------------
def down() -> None:
    if os.geteuid() != 0:
        raise CommandError("removing the embedded cluster needs root")
    with _locked():
        if not at.RUN.exists() and not at.DATA.exists():
            say("no embedded cluster here")
            return
        _remove()
        say("the embedded cluster is gone")


def _remove() -> None:
    # Kubelet first: while it lives it brings back what we stop. Then the containers, while containerd still knows them.
    _stop("kubelet", "kube-proxy", "kube-controller-manager", "kube-scheduler")
    if processes.is_alive(at.PIDS / "containerd.json"):
        containerd.end_containers()
    _stop("kube-apiserver", "etcd", "containerd")
    processes.stop(processes.working_in((at.RUN, at.DATA), _PROGRAMS), grace_s=2)
    cgroups.remove()
    host.unmount()
    host.remove_plugin_results()
    host.remove_network()
    host.restore_sysctls()
    host.remove_kubelet_traces()
    for folder in (at.RUN, at.DATA):
        if folder.exists():
            shutil.rmtree(folder)


def _stop(*names: str) -> None:
    records = [at.PIDS / f"{name}.json" for name in names]
    processes.stop([identity for record in records if (identity := processes.load(record)) is not None], grace_s=3)
    for record in records:
        record.unlink(missing_ok=True)


# --- what others ask -----------------------------------------------------------------------------------------------
def kubeconfig() -> Path:
    return at.KUBECONFIG


def status() -> Status:
    tools = _tools()
    return Status("embedded", problems(tools), str(at.KUBECONFIG), str(tools.kubectl / "kubectl"), str(at.AUDIT_LOG))


load_image = containerd.load_image
drop_images = containerd.drop_images
