"""Bridges, pods, children and outcomes of every kind, for tests of what holds whatever comes up."""

from datetime import timedelta
from typing import Any

from auralink_operator.index import Obj
from auralink_operator.models import Compiled, CompiledPolicy, Conflict, PodView, PublicAddress
from auralink_operator.status import DEGRADING, Outcome, Problem, Status
from hypothesis import strategies as st

from tests.unit.operator import samples
from tests.unit.operator.status.scenes import (
    NOW,
    condition,
    crashed,
    deployment,
    hpa,
    pod,
    raw_pod,
    status_of,
    waiting,
)

NAMES = ["p1", "p2", "p3"]

specs: st.SearchStrategy[dict[str, Any]] = st.builds(
    lambda scale, suspend, mode: {**scale, "suspend": suspend, "exposure": {"mode": mode}},
    st.sampled_from(
        [
            {},
            {"replicas": 0},
            {"replicas": 3},
            {"autoscaling": {"minReplicas": 1, "maxReplicas": 3}},
            {"autoscaling": {"maxReplicas": 3, "driver": "Operator"}},
        ]
    ),
    st.booleans(),
    st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "HostPort"]),
)

pods: st.SearchStrategy[tuple[PodView, ...]] = st.lists(
    st.builds(
        pod,
        st.sampled_from(NAMES),
        acked=st.integers(0, 4),
        ready=st.booleans(),
        phase=st.sampled_from(["Starting", "Serving", "Draining"]),
        problems=st.lists(st.sampled_from([*DEGRADING, "CredentialsMissing"]), max_size=3, unique=True),
        sessions=st.integers(0, 50),
        message=st.sampled_from(["", "words of its own"]),
    ),
    max_size=3,
    unique_by=lambda view: view.name,
).map(tuple)

containers = st.sampled_from(
    [
        waiting("ErrImagePull", "not found"),
        waiting("ImagePullBackOff"),
        waiting("CreateContainerConfigError", "secret missing"),
        waiting("ContainerCreating"),
        crashed(1),
        crashed(78),
        crashed(137, "OOMKilled", running=True),
    ]
)
raw_pods: st.SearchStrategy[tuple[Obj, ...]] = st.lists(
    st.builds(
        lambda name, found, ready_s, unschedulable: raw_pod(name, *found, ready_s=ready_s, unschedulable=unschedulable),
        st.sampled_from(NAMES),
        st.lists(containers, max_size=2),
        st.none() | st.floats(-100, 500),
        st.sampled_from(["", "0/1 nodes are available: 1 Insufficient cpu."]),
    ),
    max_size=3,
    unique_by=lambda found: str(found["metadata"]["name"]),
).map(tuple)

_refusals = st.sampled_from(["violates PodSecurity", "is forbidden", "is forbidden: exceeded quota", " is invalid: x"])
_deployment_conditions = st.lists(
    st.builds(lambda said: condition("ReplicaFailure", "True", "FailedCreate", said), _refusals)
    | st.just(condition("Progressing", "False", "ProgressDeadlineExceeded"))
    | st.just(condition("Progressing", "True", "NewReplicaSetAvailable")),
    max_size=2,
    unique_by=lambda found: str(found["type"]),
)
deployments: st.SearchStrategy[Obj | None] = st.none() | st.builds(
    lambda replicas, ready, updated, observed, found, paused: {
        **deployment(replicas, *found, ready=ready, updated=updated, observed=observed),
        "spec": {"paused": paused},
    },
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(1, 2),
    _deployment_conditions,
    st.booleans(),
)
scalers: st.SearchStrategy[Obj | None] = st.none() | st.builds(
    lambda status, reason, since_s: hpa(condition("ScalingActive", status, reason, "", since_s)),
    st.sampled_from(["True", "False"]),
    st.sampled_from(["FailedGetPodsMetric", "ScalingDisabled", "ValidMetricFound"]),
    st.floats(0, 300),
)

_problems = st.none() | st.builds(
    Problem, st.sampled_from(["InvalidSpec", "NameConflict", "AccessDenied"]), st.just("x")
)
_waits = st.none() | st.builds(
    Problem, st.sampled_from(["Progressing", "ProgressingWithRetry", "RolloutQueued"]), st.just("why")
)
outcomes = st.builds(
    Outcome,
    config_generation=st.integers(0, 4),
    stalled=_problems,
    failing=st.sampled_from(["", "the API server does not answer"]),
    waiting=_waits,
    unapplied=st.sampled_from([(), ("Service x (missing)",)]),
    exposure=st.none() | st.builds(Problem, st.sampled_from(["AddressPending", "NoExternalIP"]), st.just("where")),
    handled=st.sampled_from(["", "2026-01-01"]),
    paused=st.booleans(),
)
_clash = Conflict("codecs", "a", "b", 0, "a is older")
compiled = st.sampled_from(
    [
        Compiled(),
        Compiled((CompiledPolicy("p", 0, 1, {}, {}),), ("q",)),
        Compiled(conflicts=(_clash,)),
        Compiled(dropped=("q",), conflicts=(_clash,)),
    ]
)
addresses = st.sampled_from([{}, {"demo/in/video": PublicAddress("203.0.113.1", "", 30000, "p1")}])

worlds: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "child": deployments,
        "scaler": scalers,
        "pods": pods,
        "raw_pods": raw_pods,
        "outcome": outcomes,
        "compiled": compiled,
        "addresses": addresses,
        "held_template": st.sampled_from([None, {"spec": {}}]),
        "draining": st.booleans(),
    }
)


@st.composite
def histories(draw: st.DrawFn, steps: int = 4) -> list[tuple[int, Status]]:
    """Statuses of one bridge that follow one another, each derived from the one before; the spec changes at times."""
    status: Status = {"observedGeneration": -1}
    generation, now, spec, found = draw(st.integers(1, 9)), NOW, draw(specs), []
    for _ in range(steps):
        if draw(st.booleans()):
            generation, spec = generation + 1, draw(specs)
        now += timedelta(seconds=draw(st.sampled_from([0, 1, 40, 3600])))
        status = status_of(samples.bridge(generation=generation, status=status, **spec), now=now, **draw(worlds))
        found.append((generation, status))
    return found
