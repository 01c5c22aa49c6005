"""The cgroups of the embedded cluster's pods: a tree of their own, made before the kubelet starts and removed with
whoever still runs in it. Called by `embedded`.

The kubelet refuses to start unless its `cgroupRoot` exists in every hierarchy of cgroup v1, or has with v2 the
controllers that it uses (`Validate` in kubernetes/pkg/kubelet/cm).
"""

import contextlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from hack.cluster import layout as at
from hack.cluster import processes
from hack.progress import CommandError

_KUBELET_USES = ("cpu", "cpuset", "memory", "hugetlb", "pids")


def hierarchies(mounts: str) -> dict[Path, str]:
    """Mount points and whether each is "cgroup" (v1) or "cgroup2", out of the text of /proc/self/mounts."""
    fields = [line.split() for line in mounts.splitlines()]
    return {
        Path(point): kind
        for _, point, kind, *_ in fields
        if kind in {"cgroup", "cgroup2"} and f"{point}/".startswith("/sys/fs/cgroup/")
    }


def _hierarchies() -> dict[Path, str]:
    return hierarchies(Path("/proc/self/mounts").read_text())


def make() -> None:
    try:
        make_in(_hierarchies())
    except OSError as error:
        raise CommandError(f"the pods' cgroups cannot be made: {error}") from error


def make_in(found: Mapping[Path, str]) -> None:
    for mount, kind in found.items():
        group = mount / at.CGROUP
        group.mkdir(exist_ok=True)
        if kind == "cgroup2":
            _pass_controllers_on(mount)
        elif (mount / "cpuset.cpus").exists():
            _inherit_cpuset(mount, group)


def _pass_controllers_on(mount: Path) -> None:
    """A hierarchy beside those of v1 has no controllers, and nothing is passed on."""
    available = (mount / "cgroup.controllers").read_text().split()
    passed_on = (mount / "cgroup.subtree_control").read_text().split()
    for controller in _KUBELET_USES:
        if controller in available and controller not in passed_on:
            (mount / "cgroup.subtree_control").write_text(f"+{controller}")


def _inherit_cpuset(mount: Path, group: Path) -> None:
    """A new cpuset of v1 holds no processor, and nothing can run in it or below."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not (group / name).exists() or not (group / name).read_text().strip():
            (group / name).write_text((mount / name).read_text())


def remove() -> None:
    """The pods' cgroups, and whoever still runs in one because containerd was gone before the containers."""
    groups = [
        group
        for mount in _hierarchies()
        for group in (*_below(mount / at.CGROUP), *in_common_tree(mount / "kubepods", _pods()))
    ]
    left = set()
    for group in groups:
        with contextlib.suppress(OSError):
            left |= {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
    processes.stop([identity for pid in left if (identity := processes.identify(pid)) is not None], grace_s=0)
    for group in groups:
        with contextlib.suppress(OSError):
            group.rmdir()


def _below(tree: Path) -> list[Path]:
    """The tree's groups and itself, innermost first."""
    return [Path(folder) for folder, _, _ in os.walk(tree, topdown=False)]


def _pods() -> set[str]:
    """The uids of the pods that our kubelet knew."""
    logs = (folder.name.rpartition("_")[2] for folder in (at.DATA / "pod-logs").glob("*"))
    return {*logs, *(folder.name for folder in (at.DATA / "kubelet/pods").glob("*"))}


def in_common_tree(tree: Path, uids: Collection[str]) -> list[Path]:
    """The groups of these pods in a tree that another kubelet may use as well, innermost first; with the groups of the
    kubelet itself where no other pod is in the tree. Clusters used it before they had a tree of their own."""
    levels = {"kubepods", "burstable", "besteffort"}
    pods = [group for group in _below(tree) if group.parent.name in levels and group.name not in levels]
    ours = [group for group in pods if group.name.removeprefix("pod") in uids]
    if ours and len(ours) == len(pods):
        return _below(tree)
    return [group for pod in ours for group in _below(pod)]
