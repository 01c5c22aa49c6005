"""Images of one static binary, written as docker-archives without any image builder: the pause and the DNS image.

Called by `embedded` before a node exists, when the larger image builds may not even have their tools yet.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path


def _member(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))


def scratch_image(tag: str, binary: bytes, path: str, entrypoint: Sequence[str], architecture: str) -> bytes:
    """A docker-archive (docker save's format) whose only layer holds `binary` at `path`. Same input, same bytes."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        _member(tar, path.lstrip("/"), binary, 0o755)
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint), "User": "65532:65532"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [tag], "Layers": ["layer.tar"]}]).encode()
    image = io.BytesIO()
    with tarfile.open(fileobj=image, mode="w") as tar:
        _member(tar, "layer.tar", layer.getvalue(), 0o644)
        _member(tar, config_name, config, 0o644)
        _member(tar, "manifest.json", manifest, 0o644)
    return image.getvalue()


def write_scratch_image(target: Path, tag: str, binary: Path, entrypoint: Sequence[str], architecture: str) -> None:
    target.write_bytes(scratch_image(tag, binary.read_bytes(), entrypoint[0], entrypoint, architecture))
