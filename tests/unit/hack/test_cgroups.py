"""The pods' cgroups are the cluster's own; in a tree that kubelets share it finds its own pods and no others."""

from pathlib import Path

import pytest

from hack.cluster import cgroups

V1_AND_V2 = """\
tmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0
cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
cgroup /srv/chroot/sys/fs/cgroup/cpu cgroup rw,cpu 0 0
proc /proc proc rw 0 0
"""
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"


def test_every_hierarchy_of_the_machine_is_found() -> None:
    root = Path("/sys/fs/cgroup")
    found = cgroups.hierarchies(V1_AND_V2)
    assert found == {root / "cpuset": "cgroup", root / "systemd": "cgroup", root / "unified": "cgroup2"}
    assert cgroups.hierarchies(V2) == {root: "cgroup2"}


def test_tree_is_made_in_every_v1_hierarchy_with_the_processors_of_its_parent(tmp_path: Path) -> None:
    cpuset, memory = tmp_path / "cpuset", tmp_path / "memory"
    memory.mkdir()
    cpuset.mkdir()
    (cpuset / "cpuset.cpus").write_text("0-1\n")
    (cpuset / "cpuset.mems").write_text("0\n")
    for _ in range(2):
        cgroups.make_in({cpuset: "cgroup", memory: "cgroup"})
    assert (memory / "auralink").is_dir()
    assert (cpuset / "auralink/cpuset.cpus").read_text() == "0-1\n"
    assert (cpuset / "auralink/cpuset.mems").read_text() == "0\n"


@pytest.mark.parametrize(
    ("available", "passed_on", "written"),
    [
        ("cpu io pids", "cpu", "+pids"),  # a file of its own in the real one: each write adds to what is there
        ("cpu pids", "cpu pids", "cpu pids"),
        ("", "", ""),
    ],
)
def test_controllers_that_the_kubelet_uses_are_passed_on(
    available: str, passed_on: str, written: str, tmp_path: Path
) -> None:
    (tmp_path / "cgroup.controllers").write_text(available)
    (tmp_path / "cgroup.subtree_control").write_text(passed_on)
    cgroups.make_in({tmp_path: "cgroup2"})
    assert (tmp_path / "cgroup.subtree_control").read_text() == written


def pods(tree: Path, *names: str) -> None:
    for name in names:
        (tree / name / "container").mkdir(parents=True)
    for level in ("burstable", "besteffort"):
        (tree / level).mkdir(exist_ok=True)


def test_pods_of_another_kubelet_in_the_common_tree_are_left_alone(tmp_path: Path) -> None:
    tree = tmp_path / "kubepods"
    pods(tree, "burstable/podours", "podguaranteed", "besteffort/podforeign")
    found = cgroups.in_common_tree(tree, {"ours", "guaranteed"})
    assert set(found) == {
        *(tree / "burstable/podours", tree / "burstable/podours/container"),
        *(tree / "podguaranteed", tree / "podguaranteed/container"),
    }
    assert found.index(tree / "podguaranteed/container") < found.index(tree / "podguaranteed")


def test_common_tree_goes_with_its_last_pods_and_stays_where_none_was_ours(tmp_path: Path) -> None:
    tree = tmp_path / "kubepods"
    pods(tree, "burstable/podours")
    assert cgroups.in_common_tree(tree, {"ours"})[-1] == tree
    assert cgroups.in_common_tree(tree, {"other"}) == []
    assert cgroups.in_common_tree(tmp_path / "absent", {"ours"}) == []
