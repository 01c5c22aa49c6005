"""What goes into which image, and the tag that follows from it. Pure but for reading the files.

An image is built from a copy of exactly the files that its tag was computed from, so an equal tag means an equal image
and a Dockerfile cannot depend on anything that does not change the tag.
"""

import hashlib
import subprocess
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

# The base's own packages are part of every image, and so of every tag.
BASE_PACKAGES = ("python3", "python3-venv", "ca-certificates")
BASE_SUITE = "bookworm"


@dataclass(frozen=True, slots=True)
class Image:
    """`inputs` are files and folders of the repository. `wheel`: the native crate's wheel is put into build/wheels."""

    name: str
    dockerfile: str
    inputs: tuple[str, ...]
    wheel: bool = False

    @property
    def repository(self) -> str:
        return f"localhost/auralink-{self.name}"


_PYTHON = ("pyproject.toml", "constraints.txt")
_TERMS = ("LICENSE", "NOTICE")
IMAGES = (
    Image("operator", "operator/Dockerfile", ("operator", *_PYTHON, *_TERMS)),
    Image("data-plane", "dataplane/Dockerfile", ("dataplane", "protos/auralink_pb", *_PYTHON, *_TERMS), wheel=True),
    Image("ai-core", "aicore/Dockerfile", ("aicore", "protos/auralink_pb", *_PYTHON, *_TERMS)),
    Image(
        "media-tools",
        "hack/media-tools/Dockerfile",
        ("hack/media-tools", "hack/lab/tap.py", "hack/lab/crowd.py", "constraints.txt", *_TERMS),
    ),
)


def listed(root: Path, inputs: Iterable[str]) -> list[str]:
    """Paths of the inputs' files as git sees them: tracked, or new and not ignored; sorted, relative to `root`."""
    argv = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *inputs]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=True)
    return sorted({path for path in done.stdout.split("\0") if path and (root / path).is_file()})


def digest(root: Path, paths: Iterable[str], salt: str) -> str:
    """Twelve hexadecimal digits over names, executable bits and contents. Dates and order do not count."""
    whole = hashlib.sha256(salt.encode())
    for path in sorted(paths):
        file = root / path
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        whole.update(f"\0{path}\0{bool(file.stat().st_mode & 0o111)}\0{content}".encode())
    return whole.hexdigest()[:12]


def tag(root: Path, image: Image, architecture: str) -> str:
    """The full name of the image as it is now, such as localhost/auralink-operator:0123456789ab."""
    salt = " ".join([image.name, architecture, BASE_SUITE, *BASE_PACKAGES])
    return f"{image.repository}:{digest(root, listed(root, image.inputs), salt)}"


def archive_name(full_tag: str) -> str:
    return full_tag.rpartition("/")[2].replace(":", "-") + ".tar"


def of_archives(file_names: Iterable[str]) -> list[str]:
    """The full tags whose archives these are; the inverse of `archive_name`."""
    parts = [file.removesuffix(".tar").rpartition("-") for file in file_names]
    return [f"localhost/{repository}:{tag}" for repository, _, tag in parts]


def outdated(archives: Iterable[tuple[str, float]], image: Image, keep: int) -> list[str]:
    """Of (file name, time of last use) those that are older than the `keep` last used ones of this image."""
    prefix = image.repository.rpartition("/")[2] + "-"
    of_image = [
        (used, name)
        for name, used in archives
        if name.startswith(prefix) and len(name) == len(prefix) + len("0123456789ab.tar")
    ]
    return [name for _, name in sorted(of_image, reverse=True)[keep:]]


def superseded(tags: Iterable[str], present: Collection[str]) -> list[str]:
    """Of these full tags the ones of our images that are not the present ones; not the base's, nor a stranger's."""
    repositories = {image.repository for image in IMAGES}
    return [tag for tag in tags if tag.rpartition(":")[0] in repositories and tag not in present]
