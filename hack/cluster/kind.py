"""The cluster where a Docker engine answers: kind, one node, with the same audit log as the embedded one.

Written against kind's documentation; the machine it was written on has no Docker engine, so it has not been run there.
"""

import json
import os
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path

from hack.audit.policy import MAX_BACKUPS, MAX_MEGABYTES
from hack.cluster.config import audit_policy
from hack.cluster.status import Status
from hack.progress import CommandError, say

NAME = "auralink"
_TOOLS = Path(__file__).resolve().parents[1] / "tools.sh"
_NODE = f"{NAME}-control-plane"


def _state() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "auralink" / "kind"


def kubeconfig() -> Path:
    return _state() / "admin.conf"


def _tool(name: str) -> str:
    done = subprocess.run([_TOOLS, "path", name], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise CommandError(f"{name} could not be built (see above)")
    return done.stdout.strip()


def _run(argv: Sequence[str], text: str | None = None) -> str:
    done = subprocess.run(argv, input=text, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise CommandError(f"{Path(argv[0]).name} {' '.join(argv[1:3])} failed (see above)")
    return done.stdout


def configuration(state: Path) -> str:
    """kind's own configuration file. The audit policy goes into the node and the log comes out by a shared folder."""
    policy, logs = "/etc/auralink/audit-policy.json", "/var/log/auralink"
    volumes = [
        {"name": "audit-policy", "hostPath": policy, "mountPath": policy, "readOnly": True, "pathType": "File"},
        {"name": "audit-log", "hostPath": logs, "mountPath": logs, "pathType": "DirectoryOrCreate"},
    ]
    patch = {
        "kind": "ClusterConfiguration",
        "apiServer": {
            "extraArgs": {
                "audit-policy-file": policy,
                "audit-log-path": f"{logs}/audit.log",
                "audit-log-maxsize": str(MAX_MEGABYTES),
                "audit-log-maxbackup": str(MAX_BACKUPS),
            },
            "extraVolumes": volumes,
        },
    }
    mounts = [
        {"hostPath": str(state / "audit-policy.json"), "containerPath": policy, "readOnly": True},
        {"hostPath": str(state / "logs"), "containerPath": logs},
    ]
    node = {"role": "control-plane", "extraMounts": mounts, "kubeadmConfigPatches": [json.dumps(patch)]}
    return json.dumps({"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": [node]})


def _problems() -> list[str]:
    if NAME not in _run([_tool("kind"), "get", "clusters"]).split():
        return ["not running"]
    argv = [_tool("kubectl"), "--kubeconfig", str(kubeconfig()), "--request-timeout=5s"]
    wait = ["wait", "--for=condition=Ready", "node", "--all", "--timeout=5s"]
    done = subprocess.run([*argv, *wait], capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else [done.stderr.strip() or "node is not ready"]


def up() -> None:
    if not (found := _problems()):
        say("the kind cluster is up already")
        return
    if subprocess.run([_TOOLS.with_name("preflight.sh")], check=False).returncode != 0:
        raise CommandError("this machine is not ready (see above)")
    say(f"starting a kind cluster ({'; '.join(found)})")
    state = _state()
    (state / "logs").mkdir(parents=True, exist_ok=True)
    (state / "audit-policy.json").write_text(audit_policy())
    _run([_tool("kind"), "delete", "cluster", "--name", NAME])
    create = ["create", "cluster", "--name", NAME, "--kubeconfig", str(kubeconfig()), "--wait", "180s"]
    _run([_tool("kind"), *create, "--config", "-"], configuration(state))


def down() -> None:
    _run([_tool("kind"), "delete", "cluster", "--name", NAME, "--kubeconfig", str(kubeconfig())])


def status() -> Status:
    audit_log = _state() / "logs" / "audit.log"
    return Status("kind", _problems(), str(kubeconfig()), _tool("kubectl"), str(audit_log))


def load_image(tag: str, file: Path) -> bool:
    """Whether there was anything to do. The node is asked first: kind's own check covers images, not archives."""
    known = ["docker", "exec", _NODE, "crictl", "inspecti", "-q", tag]
    if subprocess.run(known, capture_output=True, check=False).returncode == 0:
        return False
    _run([_tool("kind"), "load", "image-archive", str(file), "--name", NAME])
    return True


def drop_images(repositories: Collection[str], keep: Collection[str]) -> None:
    """Removes the other tags of these repositories from the node."""
    listed = json.loads(_run(["docker", "exec", _NODE, "crictl", "images", "-o", "json"]))
    tags = [tag for image in listed["images"] for tag in image.get("repoTags", [])]
    if old := [tag for tag in tags if tag.rpartition(":")[0] in repositories and tag not in keep]:
        _run(["docker", "exec", _NODE, "crictl", "rmi", *old])
