"""What keeps pods from starting, in words that stay the same while it lasts."""

import pytest
from auralink_operator.status.pods import trouble

from tests.unit.operator.status.scenes import crashed, raw_pod, waiting


def said(*containers: dict[str, object], unschedulable: str = "") -> tuple[str, str]:
    problem = trouble([raw_pod("p1", *containers, unschedulable=unschedulable)])
    assert problem is not None
    return problem.reason, problem.message


def test_pulling_and_backing_off_are_one_problem() -> None:
    """kubelet changes between the two every few seconds."""
    pulling = waiting("ErrImagePull", "rpc error: failed to resolve reference: registry/image:1: not found")
    backing = waiting(
        "ImagePullBackOff", 'Back-off pulling image: ErrImagePull: rpc error: "registry/image:1": not found'
    )
    assert said(pulling) == said(backing)
    reason, message = said(pulling)
    assert reason == "ImagePullFailed"
    assert "registry/image:1 cannot be pulled (there is no such image)" in message


@pytest.mark.parametrize(
    ("reason", "message", "part"),
    [
        ("ErrImagePull", "pull access denied, authorization failed", "(access is refused)"),
        ("ErrImagePull", "dial tcp: lookup registry: no such host", "(its registry is away)"),
        ("ErrImagePull", "what is this", "cannot be pulled: correct"),
        ("InvalidImageName", "couldn't parse", "is no name of an image"),
        ("ErrImageNeverPull", "", "pull policy is Never"),
        ("CreateContainerConfigError", 'secret "x" not found', 'cannot be started: secret "x" not found'),
    ],
)
def test_each_reason_has_its_remedy(reason: str, message: str, part: str) -> None:
    assert part in said(waiting(reason, message))[1]


def test_a_crash_is_told_while_the_next_try_runs_too() -> None:
    assert said(crashed(1)) == said(crashed(1, running=True))
    assert said(crashed(1))[0] == "CrashLoop"
    assert "exit code 1" in said(crashed(1))[1]


def test_the_ends_that_have_a_cause_of_their_own() -> None:
    assert said(crashed(137, "OOMKilled"))[0] == "OutOfMemory"
    assert "spec.resources.limits.memory" in said(crashed(137, "OOMKilled"))[1]
    assert "refuses its environment" in said(crashed(78))[1]


def test_nodes_that_do_not_fit_are_told_without_their_number() -> None:
    one = "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {a: b}. preemption: 0/3 x."
    two = "0/9 nodes are available: 4 node(s) had untolerated taint {a: b}, 5 Insufficient cpu. preemption: 0/9 x."
    assert said(unschedulable=one) == said(unschedulable=two)
    reason, message = said(unschedulable=one)
    assert reason == "Unschedulable"
    assert "(Insufficient cpu, node(s) had untolerated taint {a: b})" in message
    assert "none is available" in said(unschedulable="odd words")[1]


def test_the_worst_pod_is_told() -> None:
    pods = [
        raw_pod("a", unschedulable="0/1 nodes are available: 1 Insufficient cpu."),
        raw_pod("b", waiting("ImagePullBackOff")),
        raw_pod("c", crashed(1)),
    ]
    problem = trouble(pods)
    assert problem is not None
    assert problem.reason == "ImagePullFailed"


def test_pods_that_serve_leave_or_just_start_are_no_trouble() -> None:
    assert trouble([raw_pod("a", crashed(1), ready_s=5)]) is None
    assert trouble([raw_pod("a", waiting("ErrImagePull"), deletionTimestamp="2026-01-01T00:00:00Z")]) is None
    assert trouble([raw_pod("a", waiting("ContainerCreating"))]) is None
    assert trouble([raw_pod("a", crashed(0))]) is None
    assert trouble([{"metadata": {"name": "bare"}}]) is None


def test_an_init_container_counts_like_any_other() -> None:
    pod = raw_pod("a")
    pod["status"]["initContainerStatuses"] = [waiting("ImagePullBackOff", name="wait", image="sidecar:9")]
    problem = trouble([pod])
    assert problem is not None
    assert "sidecar:9" in problem.message
