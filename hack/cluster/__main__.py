"""`python3 -m hack.cluster COMMAND`: what the Makefile's cluster targets, the demo and the tests call.

up             start the cluster, or reuse, repair or replace the one that is there
down           remove it
status         what runs; `--json` for programs: kind, healthy, problems, kubeconfig, kubectl, audit_log
kubeconfig     print the path of the admin kubeconfig
load-images    load the images that `python3 -m hack.images` listed in build/images.json

AURALINK_CLUSTER=kind|embedded overrides the choice (kind where a Docker engine answers).
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from hack.cluster import embedded, kind
from hack.images.builders import cache
from hack.images.content import IMAGES, archive_name, of_archives
from hack.progress import CommandError, say

_ROOT = Path(__file__).resolve().parents[2]


def _docker_answers() -> bool:
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=15, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _uses_kind() -> bool:
    choice = os.environ.get("AURALINK_CLUSTER") or ("kind" if _docker_answers() else "embedded")
    if choice not in {"kind", "embedded"}:
        raise CommandError(f"AURALINK_CLUSTER={choice}: must be kind or embedded")
    return choice == "kind"


def _status(as_json: bool) -> int:
    status = (kind if _uses_kind() else embedded).status()
    if as_json:
        print(json.dumps({**asdict(status), "healthy": status.healthy}, indent=1))
    else:
        print(f"{status.kind} cluster: {'; '.join(status.problems) or 'healthy'}")
        if status.healthy:
            print(f"export KUBECONFIG={status.kubeconfig}\nkubectl: {status.kubectl}")
    return 0 if status.healthy else 1


def _load_images() -> None:
    listed = _ROOT / "build" / "images.json"
    if not listed.exists():
        raise CommandError("build/images.json is not there: make images")
    tags: dict[str, str] = json.loads(listed.read_text())
    cluster = kind if _uses_kind() else embedded
    loaded = [tag for tag in tags.values() if cluster.load_image(tag, cache() / "images" / archive_name(tag))]
    # The node keeps what the cache keeps, so that neither grows for ever.
    archives = {file.name for file in (cache() / "images").glob("*.tar")}
    repositories = {image.repository for image in IMAGES}
    cluster.drop_images(repositories, [*tags.values(), *of_archives(archives)])
    say(f"images on the node: {len(tags)}, of which now loaded: {len(loaded)}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m hack.cluster", description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["up", "down", "status", "kubeconfig", "load-images"])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        match arguments.command:
            case "up":
                (kind if _uses_kind() else embedded).up()
                return _status(arguments.json)
            case "down":
                (kind if _uses_kind() else embedded).down()
            case "status":
                return _status(arguments.json)
            case "kubeconfig":
                print(kind.kubeconfig() if _uses_kind() else embedded.kubeconfig())
            case "load-images":
                _load_images()
    except CommandError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
