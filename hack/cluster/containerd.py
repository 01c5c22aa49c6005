"""The node's container runtime, spoken to by its own command-line client: images in, images out, containers ended.

`ctr` and not the CRI: its client is in the same Debian package. Called by `embedded`.
"""

import platform
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

from hack.cluster import archive
from hack.cluster import layout as at
from hack.progress import CommandError, wait

_HERE = Path(__file__).resolve().parent
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_CTR = ("ctr", "--address", str(at.CONTAINERD_SOCKET), "--namespace", "k8s.io")


def _ctr(*arguments: str) -> bool:
    return subprocess.run([*_CTR, *arguments], capture_output=True, check=False).returncode == 0


def _lines(*arguments: str) -> list[str]:
    done = subprocess.run([*_CTR, *arguments], capture_output=True, text=True, check=False)
    return [line for line in done.stdout.splitlines() if line] if done.returncode == 0 else []


def answers() -> bool:
    return at.CONTAINERD_SOCKET.exists() and _ctr("version")


def _images() -> dict[str, str]:
    """Every reference on the node with the digest it stands for."""
    columns = [line.split() for line in _lines("images", "list")[1:]]
    return {column[0]: column[2] for column in columns}


def _import_image(file: Path) -> None:
    if not _ctr("images", "import", "--digests=false", str(file)):
        raise CommandError(f"{file} could not be imported into the node")


def import_own_images(coredns: Path) -> None:
    """The pause image, from a C file, and the DNS image, from a static binary."""
    missing = {at.PAUSE_IMAGE, at.COREDNS_IMAGE} - set(_images())
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    scratch = at.DATA / "scratch"
    scratch.mkdir(exist_ok=True)
    if at.PAUSE_IMAGE in missing:
        binary = scratch / "pause"
        subprocess.run(["gcc", "-static", "-Os", "-s", "-o", binary, _HERE / "pause.c"], check=True)
        archive.write_scratch_image(scratch / "pause.tar", at.PAUSE_IMAGE, binary, ["/pause"], architecture)
        _import_image(scratch / "pause.tar")
    if at.COREDNS_IMAGE in missing:
        archive.write_scratch_image(scratch / "coredns.tar", at.COREDNS_IMAGE, coredns, ["/coredns"], architecture)
        _import_image(scratch / "coredns.tar")
    shutil.rmtree(scratch)


def load_image(tag: str, file: Path) -> bool:
    """Whether there was anything to do."""
    if tag in _images():
        return False
    _import_image(file)
    return True


def drop_images(repositories: Collection[str], keep: Collection[str]) -> None:
    """Removes the other tags of these repositories, but for those in use, and with them the references by digest."""
    present = _images()
    in_use = {line.split()[1] for line in _lines("containers", "list")[1:]}
    kept = {digest for reference, digest in present.items() if reference in keep or reference in in_use}
    dropped = {
        digest
        for reference, digest in present.items()
        if reference.rpartition(":")[0] in repositories and reference not in keep
    }
    if references := [reference for reference, digest in present.items() if digest in dropped - kept]:
        _ctr("images", "remove", *references)


def end_containers() -> None:
    """Kills every container and removes its traces. The kubelet must be gone, or it would start them again."""
    for task in _lines("tasks", "list", "--quiet"):
        _ctr("tasks", "kill", "--all", "--signal", "SIGKILL", task)
    wait("containers to end", lambda: not any(" RUNNING" in line for line in _lines("tasks", "list")), timeout_s=10)
    for task in _lines("tasks", "list", "--quiet"):
        _ctr("tasks", "delete", "--force", task)
