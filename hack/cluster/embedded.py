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
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from hack.cluster import archive, config, pki, processes
from hack.cluster import layout as at
from hack.cluster.status import Status
from hack.progress import CommandError, say, wait

_HERE = Path(__file__).resolve().parent
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_STATE = at.RUN / "state.json"
_SYSCTLS = at.RUN / "sysctls.json"
# What the node's components change for good if nobody puts it back.
_CHANGED_SYSCTLS = (
    *("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables", "vm/overcommit_memory", "vm/panic_on_oom"),
    *("kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"),
)
_LOG_LIMIT_BYTES = 64 << 20


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


def _host() -> config.Host:
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


def _state(tools: config.Tools, host: config.Host) -> dict[str, str]:
    return {"fingerprint": config.fingerprint(tools, host), "boot": _boot()}


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
        tools, host = _tools(), _host()
        recorded, wanted = _recorded_state(), _state(tools, host)
        if recorded == wanted and not problems(tools):
            say("the cluster is up already")
            _trim_logs()
            return
        _prepare()
        if recorded == wanted and _repaired(tools):
            return
        if at.RUN.exists() or at.DATA.exists():
            say("removing what is left of an earlier cluster")
            _remove()
        _create(tools, host)
        _STATE.write_text(json.dumps(wanted))


def _prepare() -> None:
    """Debian packages and Go builds side by side: one waits for the network, the other for the processor."""
    with subprocess.Popen([_HERE.parent / "apt.sh", "cluster"]) as packages:
        tools = subprocess.run([_HERE.parent / "tools.sh", "build", "kubernetes", "kubectl", "coredns"], check=False)
    if packages.returncode or tools.returncode:
        raise CommandError("the cluster's packages or tools could not be installed (see above)")


def _repaired(tools: config.Tools) -> bool:
    say(f"repairing the cluster: {'; '.join(problems(tools))}")
    _add_address()
    _start_missing(tools)
    if wait("the cluster to recover", lambda: not problems(tools), timeout_s=60):
        say("the cluster is whole again")
        return True
    say(f"it did not recover: {'; '.join(problems(tools))}")
    return False


def _create(tools: config.Tools, host: config.Host) -> None:
    say("starting the embedded cluster")
    for folder in (at.RUN, at.PIDS, at.LOGS, at.PKI, at.CNI, at.CONTAINERD_SOCKET.parent, at.DATA, at.DATA / "etcd"):
        folder.mkdir(parents=True, exist_ok=True)
    for private in (at.RUN, at.PKI, at.DATA, at.DATA / "etcd"):
        private.chmod(0o700)
    for path, text in config.files(host).items():
        path.write_text(text)
    pki.make_authority(at.PKI, "auralink-cluster")
    pki.make_signing_key(at.PKI)
    for leaf in config.LEAVES:
        pki.make_leaf(at.PKI, leaf)
    for client in config.CLIENTS:
        (at.RUN / f"{client}.conf").write_text(pki.kubeconfig(at.PKI, client, config.SERVER, "auralink"))
    _keep_sysctls()
    _require_bridge_filter()
    _add_address()
    _start_missing(tools)
    if not wait("the node", _node_ready, timeout_s=90):
        raise CommandError(f"the node did not become ready; logs: {at.LOGS}")
    say("node ready")
    _kubectl(tools, ["apply", "--server-side", "--force-conflicts", "-f", "-"], config.dns_manifests())
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
            _wait_for("containerd", lambda: at.CONTAINERD_SOCKET.exists() and _ctr("version"), timeout_s=30)
            _import_own_images(tools)
        if service.name == "kube-apiserver":
            _wait_for("kube-apiserver", _api_ready, timeout_s=90)


def _wait_for(service: str, ready: Callable[[], bool], timeout_s: float) -> None:
    record, log = at.PIDS / f"{service}.json", at.LOGS / f"{service}.log"

    def ready_or_dead() -> bool:
        return not processes.is_alive(record) or ready()

    if not wait(service, ready_or_dead, timeout_s) or not processes.is_alive(record):
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        raise CommandError(f"{service} did not start; the end of {log}:\n{tail}")


def _ctr(*arguments: str) -> bool:
    argv = ["ctr", "--address", str(at.CONTAINERD_SOCKET), "--namespace", "k8s.io", *arguments]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def _ctr_lines(*arguments: str) -> list[str]:
    argv = ["ctr", "--address", str(at.CONTAINERD_SOCKET), "--namespace", "k8s.io", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.split("\n") if done.returncode == 0 else []


def images() -> set[str]:
    return set(_ctr_lines("images", "list", "--quiet"))


def import_image(file: Path) -> None:
    if not _ctr("images", "import", "--digests=false", str(file)):
        raise CommandError(f"{file} could not be imported into the node")


def _import_own_images(tools: config.Tools) -> None:
    missing = {at.PAUSE_IMAGE, at.COREDNS_IMAGE} - images()
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    scratch = at.DATA / "scratch"
    scratch.mkdir(exist_ok=True)
    if at.PAUSE_IMAGE in missing:
        binary = scratch / "pause"
        subprocess.run(["gcc", "-static", "-Os", "-s", "-o", binary, _HERE / "pause.c"], check=True)
        archive.write_scratch_image(scratch / "pause.tar", at.PAUSE_IMAGE, binary, ["/pause"], architecture)
        import_image(scratch / "pause.tar")
    if at.COREDNS_IMAGE in missing:
        binary = tools.coredns / "coredns"
        archive.write_scratch_image(scratch / "coredns.tar", at.COREDNS_IMAGE, binary, ["/coredns"], architecture)
        import_image(scratch / "coredns.tar")
    shutil.rmtree(scratch)


def _kubectl(tools: config.Tools, arguments: Sequence[str], text: str) -> None:
    argv = [str(tools.kubectl / "kubectl"), "--kubeconfig", str(at.KUBECONFIG), *arguments]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")


def _add_address() -> None:
    _quietly("ip", "address", "replace", f"{at.NODE_IP}/32", "dev", "lo")


def _keep_sysctls() -> None:
    values = {}
    for name in _CHANGED_SYSCTLS:
        with contextlib.suppress(OSError):
            values[name] = (Path("/proc/sys") / name).read_text().strip()
    _SYSCTLS.write_text(json.dumps(values))


def _require_bridge_filter() -> None:
    """Service addresses work between pods of one bridge only if bridged packets pass the firewall."""
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not switch.exists():
        _quietly("modprobe", "br_netfilter")
    if not switch.exists():
        raise CommandError("the kernel has no br_netfilter; the embedded cluster needs it")
    switch.write_text("1")


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
        for task in _ctr_lines("tasks", "list", "--quiet"):
            if task:
                _ctr("tasks", "kill", "--all", "--signal", "SIGKILL", task)
        wait("containers to end", lambda: not any(" RUNNING" in line for line in _ctr_lines("tasks", "list")), 10)
        for task in _ctr_lines("tasks", "list", "--quiet"):
            if task:
                _ctr("tasks", "delete", "--force", task)
    _stop("kube-apiserver", "etcd", "containerd")
    processes.stop(_shims(), grace_s=1)
    _unmount()
    _remove_network()
    _remove_cgroups()
    _restore_sysctls()
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and str(link.readlink()).startswith(str(at.DATA)):
            link.unlink()
    for folder in (at.RUN, at.DATA):
        if folder.exists():
            shutil.rmtree(folder)


def _stop(*names: str) -> None:
    records = [at.PIDS / f"{name}.json" for name in names]
    processes.stop([identity for record in records if (identity := processes.load(record)) is not None], grace_s=10)
    for record in records:
        record.unlink(missing_ok=True)


def _shims() -> list[processes.Identity]:
    return processes.with_argument(str(at.CONTAINERD_SOCKET))


def _unmount() -> None:
    """Everything mounted below our folders, innermost first."""
    below = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        # Spaces and the like are written as octal escapes there (fstab(5)).
        point = line.split()[1].encode().decode("unicode_escape")
        if point.startswith((f"{at.RUN}/", f"{at.DATA}/")):
            below.append(point)
    for point in sorted(below, key=len, reverse=True):
        if not _quietly("umount", point):
            _quietly("umount", "--lazy", point)


def _remove_network() -> None:
    for link in Path("/sys/class/net").glob("*/master"):
        if link.resolve().name == at.BRIDGE:
            _quietly("ip", "link", "delete", link.parent.name)
    _quietly("ip", "link", "delete", at.BRIDGE)
    _quietly("ip", "address", "delete", f"{at.NODE_IP}/32", "dev", "lo")
    for kind in ("iptables", "ip6tables"):
        saved = subprocess.run([f"{kind}-save"], capture_output=True, text=True, check=False)
        if saved.returncode == 0 and ("KUBE-" in saved.stdout or "CNI-" in saved.stdout):
            kept = without_cluster_rules(saved.stdout)
            subprocess.run([f"{kind}-restore"], input=kept, text=True, capture_output=True, check=False)
    for leftover in Path("/var/lib/cni/results").glob(f"{at.CNI_NETWORK}-*"):
        leftover.unlink()


def without_cluster_rules(saved: str) -> str:
    """iptables-save output without the chains, and the jumps to them, of kube-proxy (KUBE-), kubelet (KUBE-) and the
    CNI plugins (CNI-)."""
    return "".join(line for line in saved.splitlines(keepends=True) if "KUBE-" not in line and "CNI-" not in line)


def _remove_cgroups() -> None:
    roots = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*")]
    for pods in (root / "kubepods" for root in roots):
        if not pods.is_dir():
            continue
        for folder, _, _ in os.walk(pods, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()


def _restore_sysctls() -> None:
    with contextlib.suppress(FileNotFoundError, ValueError):
        values: Mapping[str, str] = json.loads(_SYSCTLS.read_text())
        for name, value in values.items():
            with contextlib.suppress(OSError):
                (Path("/proc/sys") / name).write_text(value)


def _quietly(*argv: str) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


# --- what others ask -----------------------------------------------------------------------------------------------
def kubeconfig() -> Path:
    return at.KUBECONFIG


def status() -> Status:
    tools = _tools()
    return Status("embedded", problems(tools), str(at.KUBECONFIG), str(tools.kubectl / "kubectl"), str(at.AUDIT_LOG))


def load_image(tag: str, file: Path) -> bool:
    """Whether there was anything to do."""
    if tag in images():
        return False
    import_image(file)
    return True
