"""An image's tag changes with what is in the image and with nothing else."""

import os
import subprocess
from pathlib import Path

import pytest

from hack.images import builders
from hack.images.builders import ROOT, Buildah, own_authority
from hack.images.content import IMAGES, Image, archive_name, digest, listed, of_archives, outdated, superseded, tag

IMAGE = Image("operator", "operator/Dockerfile", ("operator", "constraints.txt"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("*.pyc\n")
    (tmp_path / "constraints.txt").write_text("kopf==1\n")
    (tmp_path / "operator").mkdir()
    (tmp_path / "operator/Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "operator/main.py").write_text("pass\n")
    (tmp_path / "README.md").write_text("hello\n")
    subprocess.run(["git", "-C", tmp_path, "add", "operator/main.py"], check=True)
    return tmp_path


def test_tracked_and_new_files_count_ignored_and_foreign_ones_do_not(repository: Path) -> None:
    (repository / "operator/main.pyc").write_bytes(b"\0")
    assert listed(repository, IMAGE.inputs) == ["constraints.txt", "operator/Dockerfile", "operator/main.py"]


def test_deleted_file_that_git_still_knows_is_left_out(repository: Path) -> None:
    (repository / "operator/main.py").unlink()
    assert listed(repository, IMAGE.inputs) == ["constraints.txt", "operator/Dockerfile"]


def test_tag_is_the_same_after_a_fresh_checkout_and_an_unrelated_edit(repository: Path) -> None:
    before = tag(repository, IMAGE, "amd64")
    os.utime(repository / "operator/main.py", (1, 1))
    (repository / "README.md").write_text("bye\n")
    assert tag(repository, IMAGE, "amd64") == before


def test_tag_changes_with_content_name_mode_and_architecture(repository: Path) -> None:
    seen = {tag(repository, IMAGE, "amd64"), tag(repository, IMAGE, "arm64")}
    (repository / "operator/main.py").write_text("print()\n")
    seen.add(tag(repository, IMAGE, "amd64"))
    (repository / "operator/main.py").chmod(0o755)
    seen.add(tag(repository, IMAGE, "amd64"))
    (repository / "operator/main.py").rename(repository / "operator/other.py")
    seen.add(tag(repository, IMAGE, "amd64"))
    assert len(seen) == 5


def test_digest_does_not_depend_on_the_order_of_the_listing(repository: Path) -> None:
    paths = listed(repository, IMAGE.inputs)
    assert digest(repository, paths, "x") == digest(repository, reversed(paths), "x")


def test_archive_name_and_tag_lead_to_each_other() -> None:
    full = "localhost/auralink-data-plane:0123456789ab"
    assert archive_name(full) == "auralink-data-plane-0123456789ab.tar"
    assert of_archives([archive_name(full)]) == [full]


def test_oldest_archives_of_an_image_go_and_those_of_its_namesakes_stay() -> None:
    archives = [(f"auralink-operator-{number:012x}.tar", float(number)) for number in range(5)]
    archives.append((f"auralink-operator-tools-{0:012x}.tar", 0.0))
    assert outdated(archives, IMAGE, keep=3) == [f"auralink-operator-{number:012x}.tar" for number in (1, 0)]


def test_store_gives_up_old_images_and_keeps_the_base_the_present_ones_and_strangers() -> None:
    base, stranger = "localhost/debian:bookworm-slim", "docker.io/library/redis:7"
    old, present = "localhost/auralink-operator:000000000000", "localhost/auralink-operator:111111111111"
    assert superseded([base, old, "<none>:<none>", present, stranger], [present]) == [old]


@pytest.fixture
def buildah(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that writes down what it is told, and prints a line for each image as the real one does."""
    told = tmp_path / "told"
    program = tmp_path / "bin/buildah"
    program.parent.mkdir()
    program.write_text(f"""#!/bin/sh
shift 6
case $1 in images) echo localhost/auralink-operator:000000000000; echo localhost/debian:bookworm-slim ;;
*) echo "$@" >> {told}; echo 5ba9862f7d7b06bc1d77 ;; esac
""")
    program.chmod(0o755)
    (tmp_path / "cache/auralink/images").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return told


def test_store_within_its_bound_is_left_alone(buildah: Path) -> None:
    Buildah().bound_store([])
    assert not buildah.exists()


def test_store_beyond_its_bound_gives_up_old_images_first_and_quietly(
    buildah: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(builders, "_STORE_LIMIT_BYTES", -1)
    Buildah().bound_store([])
    assert buildah.read_text().splitlines() == [
        *("rm --all", "rmi localhost/auralink-operator:000000000000", "rmi --prune"),
        "rmi --all --force",  # it is too large whatever goes
    ]
    assert "5ba9862f7d7b06bc1d77" not in capfd.readouterr().out


def test_every_image_holds_its_own_dockerfile() -> None:
    assert all(image.dockerfile.startswith(image.inputs) for image in IMAGES)


def test_hosts_own_certificates_are_used_only_where_they_exist(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.crt"
    bundle.touch()
    assert own_authority({}) is None
    assert own_authority({"PIP_CERT": str(tmp_path / "absent")}) is None
    assert own_authority({"PIP_CERT": str(tmp_path / "absent"), "SSL_CERT_FILE": str(bundle)}) == str(bundle)


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_an_image_says_its_licence_and_one_with_x264_in_it_says_gpl(image: Image) -> None:
    dockerfile = (ROOT / image.dockerfile).read_text()
    licence = "GPL-3.0-or-later" if "x264" in dockerfile or "ffmpeg" in dockerfile else "Apache-2.0"
    last_stage = dockerfile.rpartition("\nFROM ")[2]
    assert f'LABEL org.opencontainers.image.licenses="{licence}"' in last_stage
    assert "COPY LICENSE NOTICE " in last_stage
    assert {"LICENSE", "NOTICE"} <= set(image.inputs)
