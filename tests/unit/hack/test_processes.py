"""The embedded cluster's processes are told apart from strangers that got the same pid."""

from pathlib import Path

import pytest

from hack.cluster.processes import Identity, identify, is_alive, load, parse_start, save, working_in

BOOT = "0c1a9b6e-0000-4000-8000-000000000001"


def stat_line(pid: int, command: str, state: str, start: int) -> str:
    before = " ".join(["0"] * 18)
    return f"{pid} ({command}) {state} {before} {start} 0 0"


def add_process(proc: Path, pid: int, start: int, argv: list[str], state: str = "S", command: str = "server") -> None:
    folder = proc / str(pid)
    folder.mkdir(exist_ok=True)
    (folder / "stat").write_text(stat_line(pid, command, state, start))
    (folder / "cmdline").write_bytes(b"".join(argument.encode() + b"\0" for argument in argv))


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    (folder / "sys/kernel/random").mkdir(parents=True)
    (folder / "sys/kernel/random/boot_id").write_text(BOOT + "\n")
    return folder


def test_start_time_is_found_behind_a_command_that_holds_brackets_and_spaces() -> None:
    assert parse_start(stat_line(7, "tricky) S 1 (name", "S", 4711)) == 4711


def test_start_time_of_the_real_process_is_read() -> None:
    assert parse_start(Path("/proc/self/stat").read_text()) > 0


def test_recorded_process_is_alive_while_pid_start_time_and_boot_agree(proc: Path, tmp_path: Path) -> None:
    add_process(proc, 41, 1000, ["etcd"])
    save(Identity(41, 1000, BOOT), tmp_path / "etcd.json")
    assert is_alive(tmp_path / "etcd.json", proc)


@pytest.mark.parametrize(
    "recorded", [Identity(41, 999, BOOT), Identity(41, 1000, "another boot"), Identity(42, 1000, BOOT)]
)
def test_stranger_with_the_recorded_pid_is_not_taken_for_ours(recorded: Identity, proc: Path, tmp_path: Path) -> None:
    add_process(proc, 41, 1000, ["etcd"])
    save(recorded, tmp_path / "etcd.json")
    assert not is_alive(tmp_path / "etcd.json", proc)


def test_zombie_counts_as_gone(proc: Path) -> None:
    add_process(proc, 41, 1000, [], state="Z")
    assert identify(41, proc) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "start": 1, "boot": "b"}', "null"])
def test_damaged_record_names_nobody(text: str, tmp_path: Path) -> None:
    (tmp_path / "etcd.json").write_text(text)
    assert load(tmp_path / "etcd.json") is None


def test_processes_without_a_record_are_found_by_the_folder_they_work_in(proc: Path) -> None:
    ours = Path("/run/cluster")
    add_process(proc, 1, 10, ["/cache/kubelet", "--config=/run/cluster/kubelet.json"])
    add_process(proc, 2, 20, ["/usr/bin/containerd-shim", "-address", "/run/cluster/containerd.sock"])
    add_process(proc, 3, 30, ["kubectl", "--kubeconfig=/run/cluster/admin.conf"])  # a user's, not a server
    add_process(proc, 4, 40, ["/cache/kubelet", "--config=/run/cluster-of-others/kubelet.json"])
    add_process(proc, 5, 50, [])  # kernel threads have no command line
    found = working_in([ours], ["kubelet", "containerd-shim"], proc)
    assert sorted(identity.pid for identity in found) == [1, 2]
