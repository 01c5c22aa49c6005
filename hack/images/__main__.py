"""`python3 -m hack.images [NAME...]`: builds what is not in the cache yet and lists everything in build/images.json.

build/images.json maps each name (operator, data-plane, ai-core, media-tools) to the full tag of its present content;
the chart's values, the demo and the tests take the tags from there. `python3 -m hack.cluster load-images` puts them on
the node.
"""

import argparse
import fcntl
import json
import os
import subprocess
import sys

from hack.images import builders, content
from hack.progress import CommandError, say

# Archives kept per image: the present one and those of the branches somebody may switch back to.
_KEEP = 3


def _builder() -> builders.Builder:
    try:
        docker = subprocess.run(["docker", "info"], capture_output=True, timeout=15, check=False).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        docker = False
    if docker:
        return builders.Docker()
    if subprocess.run([builders.ROOT / "hack/apt.sh", "images"], check=False).returncode != 0:
        raise CommandError("the packages that build images could not be installed (see above)")
    return builders.Buildah()


def _build(images: list[content.Image]) -> None:
    folder = builders.cache() / "images"
    folder.mkdir(exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another command is building images; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        builder: builders.Builder | None = None
        listed = builders.ROOT / "build" / "images.json"
        tags: dict[str, str] = json.loads(listed.read_text()) if listed.exists() else {}
        for image in images:
            tag = content.tag(builders.ROOT, image, builders.architecture())
            archive = folder / content.archive_name(tag)
            if archive.exists():
                os.utime(archive)
            else:
                say(f"building image {tag}")
                builder = builder or _builder()
                wheels = builder.make_wheel() if image.wheel else None
                unfinished = archive.with_suffix(".unfinished")
                unfinished.unlink(missing_ok=True)
                with builders.staged(image.inputs, wheels) as context:
                    builder.build(image, tag, context, unfinished)
                unfinished.replace(archive)
            tags[image.name] = tag
            there = [(file.name, file.stat().st_mtime) for file in folder.glob("*.tar")]
            for name in content.outdated(there, image, _KEEP):
                (folder / name).unlink()
        listed.parent.mkdir(exist_ok=True)
        unfinished_list = listed.with_suffix(".tmp")
        unfinished_list.write_text(json.dumps(tags, indent=1) + "\n")
        unfinished_list.replace(listed)
        if builder is not None:
            builder.bound_store(tags.values())
    say("images: " + ", ".join(tags[image.name] for image in images))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m hack.images", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="all by default")
    names = parser.parse_args().names
    known = {image.name: image for image in content.IMAGES}
    if unknown := set(names) - set(known):
        parser.error(f"no such image: {', '.join(sorted(unknown))} (there are {', '.join(known)})")
    try:
        _build([known[name] for name in names] or list(content.IMAGES))
    except CommandError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
