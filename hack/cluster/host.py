"""What the cluster changes on the host beside its own folders, and how that is put back. Called by `embedded`.

Everything here may run twice or on half a cluster: what is not there is not an error.
"""

import contextlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from hack.cluster import layout as at
from hack.progress import CommandError

_SYSCTLS = at.RUN / "sysctls.json"
# What the node's components change for good if nobody puts it back.
_CHANGED_SYSCTLS = (
    *("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables", "vm/overcommit_memory", "vm/panic_on_oom"),
    *("kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"),
)


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
    for kind in ("iptables", "ip6tables"):
        saved = subprocess.run([f"{kind}-save"], capture_output=True, text=True, check=False)
        if saved.returncode == 0 and ("KUBE-" in saved.stdout or "CNI-" in saved.stdout):
            kept = without_cluster_rules(saved.stdout)
            subprocess.run([f"{kind}-restore"], input=kept, text=True, capture_output=True, check=False)


def without_cluster_rules(saved: str) -> str:
    """iptables-save output without the chains, and the jumps to them, of kube-proxy (KUBE-), kubelet (KUBE-) and the
    CNI plugins (CNI-)."""
    return "".join(line for line in saved.splitlines(keepends=True) if "KUBE-" not in line and "CNI-" not in line)


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
    (plugins / "kubelet.sock").unlink(missing_ok=True)
    for folder in (plugins, plugins.parent):
        with contextlib.suppress(OSError):  # somebody else's things are in there too
            folder.rmdir()


def _quietly(*argv: str) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
