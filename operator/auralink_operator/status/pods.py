"""What pods say, and what keeps them from starting: what kubelet and scheduler say of them, with its remedy.

Kubernetes gives up on a rollout after minutes (progressDeadlineSeconds) and then names no cause. The pods know it at
once. Their words change from second to second (`ErrImagePull` and `ImagePullBackOff` take turns, "0/3 nodes" becomes
"0/4 nodes"), so what is passed on here is what stays the same.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from auralink_operator.index import Obj
from auralink_operator.models import PodView
from auralink_operator.status.conditions import Problem, condition_of

_REFUSED_NAME = "InvalidImageName"
_IMAGE = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", _REFUSED_NAME, "ImageInspectError")
_CREATE = (
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "StartError",
    "PostStartHookError",
)
# Worst first: what no waiting cures before what another Node might.
_RANK = ("ImagePullFailed", "ContainerRefused", "OutOfMemory", "CrashLoop", "Unschedulable")
_EX_CONFIG = 78

# Words of container runtimes and registries, as containerd and CRI-O pass them on.
_WHY_NO_IMAGE = (
    (("not found", "notfound", "manifest unknown", "does not exist"), "there is no such image"),
    (("unauthorized", "denied", "authorization failed", "authentication required", "forbidden"), "access is refused"),
    (("no such host", "dial tcp", "connection refused", "i/o timeout", "deadline exceeded"), "its registry is away"),
)


def trouble(pods: Iterable[Obj]) -> Problem | None:
    """The worst thing that keeps a pod of a bridge from starting; pods on their way out do not count."""
    found = [problem for pod in pods if "deletionTimestamp" not in pod["metadata"] for problem in _of_pod(pod)]
    return min(found, key=lambda problem: (_RANK.index(problem.reason), problem.message), default=None)


def has(pod: PodView, problem: str) -> bool:
    """Whether the pod reports it of itself."""
    return problem in (pod.entry.get("problems") or ())


def words(pods: Sequence[PodView]) -> str:
    """What the first of them, by name, says about itself."""
    return next((str(text) for pod in sorted(pods, key=lambda p: p.name) if (text := pod.entry.get("message"))), "")


def _of_pod(pod: Obj) -> Iterator[Problem]:
    if condition_of(pod, "Ready").get("status") == "True":
        return
    status = pod.get("status") or {}
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        if problem := _of_container(container):
            yield problem
    scheduled = condition_of(pod, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        yield Problem(
            "Unschedulable",
            f"no Node takes the pods ({_unscheduled(str(scheduled.get('message') or ''))}): add Nodes, lower"
            " spec.resources.requests, or change spec.pod.nodeSelector or spec.pod.template",
        )


def _of_container(container: Mapping[str, Any]) -> Problem | None:
    name, image = str(container.get("name")), str(container.get("image"))
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    if reason in _IMAGE:
        return Problem("ImagePullFailed", _no_image(name, image, reason, message))
    if reason in _CREATE:
        return Problem("ContainerRefused", f"container {name} cannot be started: {message or reason}")
    ended = _ended(container)
    if not ended or container.get("ready") or int(ended.get("exitCode") or 0) == 0:
        return None
    if ended.get("reason") == "OOMKilled":
        return Problem(
            "OutOfMemory", f"container {name} needs more memory than it may use: raise spec.resources.limits.memory"
        )
    code = int(ended.get("exitCode") or 0)
    if code == _EX_CONFIG:
        return Problem(
            "CrashLoop", f"container {name} refuses its environment (exit code {code}): its log (kubectl logs) says why"
        )
    return Problem(
        "CrashLoop",
        f"container {name} ends with exit code {code} and is started again: its log (kubectl logs --previous) says why",
    )


def _ended(container: Mapping[str, Any]) -> Mapping[str, Any]:
    """How the container ended last: it may be on its next try at this moment."""
    state, last = container.get("state") or {}, container.get("lastState") or {}
    return state.get("terminated") or last.get("terminated") or {}


def _no_image(container: str, image: str, reason: str, message: str) -> str:
    if reason == _REFUSED_NAME:
        return f"{image} is no name of an image (container {container}): correct spec.image"
    if reason == "ErrImageNeverPull":
        return f"image {image} is not on the Node, and its pull policy is Never: load it, or change the policy"
    said = message.lower()
    why = next((words for marks, words in _WHY_NO_IMAGE if any(mark in said for mark in marks)), "")
    return (
        f"image {image} cannot be pulled{f' ({why})' if why else ''}: correct spec.image (or the operator's default),"
        " or name a Secret that may pull it in spec.pod.imagePullSecrets"
    )


def _unscheduled(message: str) -> str:
    """Why Nodes were refused, without how many: '0/3 nodes are available: 1 Insufficient cpu, .... preemption:'."""
    _, _, reasons = message.partition("available: ")
    reasons = reasons.partition(". preemption")[0] or reasons
    parts = {re.sub(r"^\d+ ", "", part.strip().rstrip(".")) for part in re.split(r", (?=\d)", reasons)}
    return ", ".join(sorted(part for part in parts if part)) or "none is available"
