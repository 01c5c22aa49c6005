"""What the cluster changes on the host beside its own folders, and how that is put back. Called by `embedded`.

Everything here may run twice or on half a cluster: what is not there is not an error.
"""

import contextlib
import json
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from hack.cluster import firewall
from hack.cluster import layout as at
from hack.progress import CommandError, say

_SYSCTLS = at.RUN / "sysctls.json"
_CHAINS = at.RUN / "chains.json"
# What the node's components change for good if nobody puts it back.
_CHANGED_SYSCTLS = (
    *("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables", "vm/overcommit_memory", "vm/panic_on_oom"),
    *("kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"),
)
_PORTS_OF_OTHERS = {at.API_PORT: "an API server", at.KUBELET_PORT: "a kubelet", at.KUBELET_HEALTH_PORT: "a kubelet"}


def add_address() -> None:
    _quietly("ip", "address", "replace", f"{at.NODE_IP}/32", "dev", "lo")


def keep_sysctls() -> None:
    values = {}
    for name in _CHANGED_SYSCTLS:
        with contextlib.suppress(OSError):
            values[name] = (Path("/proc/sys") / name).read_text().strip()
    _SYSCTLS.write_text(json.dumps(values))


def require_bridge_filter() -> None:
    """Service addresses work between pods of one bridge only if bridged packets pass the firewall."""
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not switch.exists():
        _quietly("modprobe", "br_netfilter")
    if not switch.exists():
        raise CommandError("the kernel has no br_netfilter; the embedded cluster needs it")
    switch.write_text("1")


def _mounts() -> list[str]:
    """Everything mounted below our folders, innermost first."""
    # Spaces and the like are written as octal escapes there (fstab(5)).
    lines = Path("/proc/self/mounts").read_text().splitlines()
    points = [line.split()[1].encode().decode("unicode_escape") for line in lines]
    below = [point for point in points if point.startswith((f"{at.RUN}/", f"{at.DATA}/"))]
    return sorted(below, key=len, reverse=True)


def unmount() -> None:
    for point in _mounts():
        if not _quietly("umount", point):
            _quietly("umount", "--lazy", point)
    if left := _mounts():
        # A volume may be a folder of the host: nothing is deleted while one is still mounted.
        raise CommandError(f"still mounted: {', '.join(left)}")


def remove_plugin_results() -> None:
    """What the CNI library remembers of our pods, in a folder that belongs to the machine."""
    results = Path("/var/lib/cni/results")
    for pod in (at.DATA / "containerd/io.containerd.grpc.v1.cri/sandboxes").glob("*"):
        for leftover in results.glob(f"*-{pod.name}-*"):
            leftover.unlink()


def remove_network() -> None:
    for link in Path("/sys/class/net").glob("*/master"):
        if link.resolve().name == at.BRIDGE:
            _quietly("ip", "link", "delete", link.parent.name)
    _quietly("ip", "link", "delete", at.BRIDGE)
    _quietly("ip", "address", "delete", f"{at.NODE_IP}/32", "dev", "lo")
    _remove_rules()


def _saved_rules() -> dict[str, str]:
    return {kind: _output(f"{kind}-save") for kind in ("iptables", "ip6tables")}


def _remove_rules() -> None:
    saved, remembered = _saved_rules(), _chains_before()
    whose = firewall.proxy(saved["iptables"])
    left: set[str] = set()
    for kind, text in saved.items():
        before = None if remembered is None else remembered.get(kind, frozenset())
        others, doubtful = firewall.of_others(text, whose, before)
        left |= {chain for _, chain in doubtful}
        if changes := firewall.removal(text, others):
            restore = [f"{kind}-restore", "--noflush", "--wait"]
            done = subprocess.run(restore, input=changes, text=True, capture_output=True, check=False)
            if done.returncode != 0:
                say(f"the cluster's {kind} rules could not be removed: {done.stderr.strip()}")
    if left:
        say(f"left in iptables, for want of proof that they are the cluster's: {', '.join(sorted(left))}")


def keep_chains() -> None:
    """Remembers whose chains are there before the cluster makes its own; what an earlier one left is taken away."""
    _remove_rules()
    chains = {kind: sorted(firewall.known(text)) for kind, text in _saved_rules().items()}
    _CHAINS.write_text(json.dumps(chains))


def _chains_before() -> dict[str, firewall.Chains] | None:
    """None when nobody remembered: the cluster was started by older code, or its folder is gone."""
    try:
        remembered = json.loads(_CHAINS.read_text())
        return {kind: frozenset((table, chain) for table, chain in pairs) for kind, pairs in remembered.items()}
    except (FileNotFoundError, ValueError, AttributeError):
        return None


def require_no_other_cluster() -> None:
    """Two kubelets, or two kube-proxies, take each other's pods and rules for their own."""
    tables = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
    ports = set().union(*(listening(table.read_text()) for table in tables if table.exists()))
    reasons = [f"{what} listens on port {port}" for port, what in _PORTS_OF_OTHERS.items() if port in ports]
    if firewall.proxy(_output("iptables-save")) in {firewall.Proxy.ANOTHER, firewall.Proxy.UNKNOWN}:
        reasons.append("iptables has another kube-proxy's KUBE- chains (`kube-proxy --cleanup` removes stale ones)")
    if reasons:
        raise CommandError(f"another Kubernetes is on this machine and would be harmed: {'; '.join(reasons)}")


def listening(sockets: str) -> set[int]:
    """The ports that somebody listens on, out of the text of /proc/net/tcp or tcp6."""
    fields = [line.split() for line in sockets.splitlines()[1:]]
    return {int(field[1].rpartition(":")[2], 16) for field in fields if field[3] == "0A"}


def restore_sysctls() -> None:
    with contextlib.suppress(FileNotFoundError, ValueError):
        values: Mapping[str, str] = json.loads(_SYSCTLS.read_text())
        for name, value in values.items():
            with contextlib.suppress(OSError):
                (Path("/proc/sys") / name).write_text(value)


def remove_kubelet_traces() -> None:
    """Two places that the kubelet uses whatever its root folder is."""
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and str(link.readlink()).startswith(str(at.DATA)):
            link.unlink()
    plugins = Path("/var/lib/kubelet/device-plugins")
    if not _answers(plugins / "kubelet.sock"):  # else it is another kubelet's
        (plugins / "kubelet.sock").unlink(missing_ok=True)
    for folder in (plugins, plugins.parent):
        with contextlib.suppress(OSError):  # somebody else's things are in there too
            folder.rmdir()


def _answers(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(address))
        except OSError:
            return False
        return True


def _output(*argv: str) -> str:
    """Nothing when the program is not there or fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def _quietly(*argv: str) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
