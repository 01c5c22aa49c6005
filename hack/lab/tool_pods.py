"""Pods of the media tools as the strictest pod security standard allows them. Pure: manifests only."""

from collections.abc import Mapping, Sequence

from hack.lab.kube import Obj

FOLDER = "/data"
"""Where a pod's containers share files; `Kube.read_file` and `write_file` reach it."""


def pod(name: str, containers: Sequence[Obj], labels: Mapping[str, str], grace_s: int = 2) -> Obj:
    """Runs once; everything of it is gone `grace_s` after its deletion."""
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_s,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": list(containers),
        "volumes": [{"name": "data", "emptyDir": {"sizeLimit": "1Gi"}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": dict(labels)}, "spec": spec}


def container(name: str, image: str, script: str, cpu: str = "20m", memory_limit: str = "512Mi") -> Obj:
    """Runs `script` in a shell; may write in FOLDER only."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        "volumeMounts": [{"name": "data", "mountPath": FOLDER}],
        "resources": {"requests": {"cpu": cpu, "memory": "48Mi"}, "limits": {"memory": memory_limit}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
