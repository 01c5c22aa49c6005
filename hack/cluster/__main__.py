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
from pathlib import Path

from hack.cluster import embedded, kind
from hack.progress import Failed, say

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
        raise Failed(f"AURALINK_CLUSTER={choice}: must be kind or embedded")
    return choice == "kind"


def _status(as_json: bool) -> int:
    uses_kind = _uses_kind()
    status = kind.status() if uses_kind else embedded.status()
    if as_json:
        print(json.dumps(status, indent=1))
    else:
        healthy = "healthy" if status["healthy"] else f"not healthy: {'; '.join(map(str, status['problems']))}"
        print(f"{status['kind']} cluster, {healthy}")
        if status["healthy"]:
            print(f"export KUBECONFIG={status['kubeconfig']}\nkubectl: {status['kubectl']}")
    return 0 if status["healthy"] else 1


def _load_images() -> None:
    listed = _ROOT / "build" / "images.json"
    if not listed.exists():
        raise Failed("build/images.json is not there: make images")
    images: dict[str, dict[str, str]] = json.loads(listed.read_text())
    for name, image in images.items():
        (kind if _uses_kind() else embedded).load_image(image["tag"], Path(image["archive"]))
        say(f"image {name} is on the node")


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
    except Failed as failed:
        print(f"cluster: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
