"""Runs the image builds: Docker where an engine answers, else buildah without any registry. Called by `__main__`."""

import contextlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from hack.images import content
from hack.progress import CommandError, say

_HACK = Path(__file__).resolve().parents[1]
ROOT = _HACK.parent
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
# buildah keeps the layers of earlier builds, which makes a rebuild take seconds. Beyond this it lets go of them.
_STORE_LIMIT_BYTES = 6 << 30


def architecture() -> str:
    return _ARCHITECTURES[platform.machine()]


def cache() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "auralink"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Builder(Protocol):
    def make_wheel(self) -> Path:
        """The folder that holds the native wheel of the present sources, alone of its kind."""

    def build(self, image: content.Image, tag: str, context: Path, archive: Path) -> None:
        """Builds from the staged context and writes the image as a docker-archive."""

    def bound_store(self, present: Collection[str]) -> None:
        """After the last build: gives up what the builder keeps for these present tags last. Fails no build."""


def _run(argv: Sequence[str | Path], environment: Mapping[str, str] | None = None, log: Path | None = None) -> None:
    """With `log`, output goes there and its end is shown when the command fails."""
    env = {**os.environ, **(environment or {})}
    if log is None:
        done = subprocess.run(argv, env=env, check=False)
    else:
        with log.open("wb") as sink:
            done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, check=False)
    if done.returncode != 0:
        if log is not None:
            say("\n    ".join(["the end of " + str(log), *log.read_text(errors="replace").splitlines()[-25:]]))
        raise CommandError(f"{Path(argv[0]).name} failed with exit code {done.returncode}")


@contextlib.contextmanager
def staged(inputs: Iterable[str], wheels: Path | None) -> Iterator[Path]:
    """A build context: a copy of exactly these inputs, laid out as in the repository, and the wheel in build/wheels."""
    with tempfile.TemporaryDirectory(prefix="auralink-context-") as name:
        context = Path(name)
        if wheels is not None:
            shutil.copytree(wheels, context / "build/wheels")
        for path in content.listed(ROOT, inputs):
            target = context / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, target)
        yield context


class Docker:
    """Not run on the machine this was written on, which has no engine."""

    def make_wheel(self) -> Path:
        # Not build/wheels: there lies the wheel for this host's own interpreter, which may be another system's.
        wheels = ROOT / "build/wheels-linux"
        shutil.rmtree(wheels, ignore_errors=True)
        with staged(("dataplane/native", "constraints.txt"), None) as context:
            dockerfile = context / "dataplane/native/Dockerfile"
            _run(["docker", "build", "--file", dockerfile, "--output", wheels, context], {"DOCKER_BUILDKIT": "1"})
        return wheels

    def build(self, image: content.Image, tag: str, context: Path, archive: Path) -> None:
        _run(["docker", "build", "--tag", tag, "--file", context / image.dockerfile, context], {"DOCKER_BUILDKIT": "1"})
        _run(["docker", "save", "--output", archive, tag])

    def bound_store(self, present: Collection[str]) -> None:
        """Docker's own store is its owner's to bound."""


class Buildah:
    """A store of its own, so that nothing of the host's is touched and the whole can be thrown away."""

    def __init__(self) -> None:
        self._store = cache() / "buildah"
        self._store.mkdir(exist_ok=True)
        done = subprocess.run(["stat", "-f", "-c", "%T", self._store], capture_output=True, text=True, check=True)
        # An overlay cannot lie on an overlay: there every layer is a full copy, and caching them would fill the disk.
        self._overlay = done.stdout.strip() != "overlayfs"
        places = ("--root", str(self._store), "--runroot", "/run/auralink-buildah")
        self._argv = ("buildah", *places, "--storage-driver", "overlay" if self._overlay else "vfs")

    def _buildah(self, command: str, *arguments: str | Path, log: Path | None = None) -> None:
        _run([*self._argv, command, *arguments], {"BUILDAH_ISOLATION": "chroot"}, log)

    def make_wheel(self) -> Path:
        _run([_HACK / "native-wheel.sh"])
        return ROOT / "build/wheels"

    def build(self, image: content.Image, tag: str, context: Path, archive: Path) -> None:
        base = self._base()
        options: list[str | Path] = ["--pull-never", "--format", "docker", "--build-arg", f"BASE={base}"]
        if (authority := own_authority(os.environ)) is not None:
            # Where the host has certificates of its own the build must trust them too; only while it builds.
            mounted = "/etc/ssl/auralink-host-ca.crt"
            options += ["--volume", f"{authority}:{mounted}:ro", "--build-arg", f"PIP_CERT={mounted}"]
        options += ["--layers", "--force-rm"] if self._overlay else ["--layers=false"]
        log = cache() / "images" / f"{image.name}.log"
        self._buildah("bud", *options, "--tag", tag, "--file", context / image.dockerfile, context, log=log)
        self._buildah("push", "--quiet", tag, f"docker-archive:{archive}:{tag}")

    def _base(self) -> str:
        """What the Dockerfiles start from: Debian's minimal system, made from its packages, for want of a registry."""
        tag = "localhost/debian:bookworm-slim"
        known = subprocess.run([*self._argv, "inspect", "--type", "image", tag], capture_output=True, check=False)
        if known.returncode == 0:
            return tag
        rootfs = self._rootfs()
        with tempfile.TemporaryDirectory(prefix="base-", dir=cache()) as name:
            context = Path(name)
            os.link(rootfs, context / "rootfs.tar")
            (context / "Dockerfile").write_text('FROM scratch\nADD rootfs.tar /\nCMD ["/bin/bash"]\n')
            log = cache() / "images" / "base.log"
            self._buildah("bud", "--format", "docker", "--tag", tag, context, log=log)
        return tag

    def _rootfs(self) -> Path:
        packages = ",".join(content.BASE_PACKAGES)
        rootfs = cache() / f"{content.BASE_SUITE}-{architecture()}-{packages.replace(',', '-')}.tar"
        if rootfs.exists():
            return rootfs
        say("making the base image with debootstrap (once, about a minute)")
        with tempfile.TemporaryDirectory(prefix="rootfs-", dir=cache()) as name:
            folder = Path(name) / "root"
            log = cache() / "images" / "debootstrap.log"
            _run(
                ["debootstrap", "--variant=minbase", f"--include={packages}", content.BASE_SUITE, folder],
                log=log,
            )
            # What bookworm-slim leaves out as well.
            documents = ("usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*")
            bulk = (*documents, "var/lib/apt/lists/*", "var/cache/apt/*", "var/log/*", "dev/*", "proc/*", "sys/*")
            unfinished = Path(name) / "root.tar"
            leave_out = [f"--exclude=./{pattern}" for pattern in bulk]
            _run(["tar", "--sort=name", "--numeric-owner", *leave_out, "-C", folder, "-cf", unfinished, "."])
            unfinished.replace(rootfs)
        return rootfs

    def bound_store(self, present: Collection[str]) -> None:
        log = cache() / "images" / "store.log"
        try:
            if self._too_large():
                say("the image builder's store has grown too large; keeping only what the present images need")
                self._buildah("rm", "--all", log=log)
                if old := content.superseded(self._tags(), present):
                    self._buildah("rmi", *old, log=log)
                self._buildah("rmi", "--prune", log=log)
            if self._too_large():
                say("it is still too large; starting it over")
                self._buildah("rmi", "--all", "--force", log=log)
        except CommandError as error:
            say(f"the image builder's store could not be reduced: {error}")

    def _too_large(self) -> bool:
        used = subprocess.run(["du", "-sxB1", self._store], capture_output=True, text=True, check=False).stdout.split()
        return bool(used) and int(used[0]) > _STORE_LIMIT_BYTES

    def _tags(self) -> list[str]:
        listing = [*self._argv, "images", "--format", "{{.Name}}:{{.Tag}}"]
        return subprocess.run(listing, capture_output=True, text=True, check=False).stdout.split()


def own_authority(environment: Mapping[str, str]) -> str | None:
    """The CA bundle that this host's tools are told to use, if they are told."""
    for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if (path := environment.get(name)) and Path(path).is_file():
            return path
    return None
