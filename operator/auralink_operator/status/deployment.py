"""What a bridge's Deployment says of its pods."""

from auralink_operator.index import Obj, Observed
from auralink_operator.status.conditions import Problem, condition_of, named


def deployment_of(observed: Observed) -> Obj | None:
    return next((obj for key, obj in observed.children.items() if key.kind == "Deployment"), None)


def observed_by_its_controller(deployment: Obj) -> bool:
    seen = int((deployment.get("status") or {}).get("observedGeneration") or 0)
    return seen >= int(deployment["metadata"].get("generation") or 0)


def blocked(deployment: Obj) -> Problem | None:
    """What the Deployment says that only a change of the spec or of the namespace can cure."""
    said = creation_failure(deployment)
    if "violates PodSecurity" in said:
        remedy = (
            "allow it (label pod-security.kubernetes.io/enforce of the namespace), or change spec.exposure or spec.pod"
        )
        return Problem("PodSecurityForbidden", f"pods are forbidden here: {said}; {remedy}")
    if " is invalid: " in said or "no PriorityClass with name" in said:
        return Problem("InvalidSpec", f"pods are refused: {said}; correct spec.pod or spec.resources")
    # A quota may free, and a ServiceAccount that somebody deleted is on its way back.
    if "forbidden" in said and "exceeded quota" not in said and "looking up service account" not in said:
        return Problem("AccessDenied", f"pods are forbidden here: {said}")
    return None


def paused(deployment: Obj) -> str:
    """Who keeps it from rolling, and what ends that; "" if nobody does."""
    if not (deployment.get("spec") or {}).get("paused"):
        return ""
    meta = deployment["metadata"]
    name, by = f"{meta.get('name')} -n {meta.get('namespace')}", named(meta.get("pausedManagers") or ())
    return (
        f"the Deployment is paused (by {by or 'somebody'}), so that no pod is replaced: kubectl rollout resume"
        f" deployment/{name} lets it go on"
    )


def creation_failure(deployment: Obj) -> str:
    failure = condition_of(deployment, "ReplicaFailure")
    return str(failure.get("message") or "") if failure.get("status") == "True" else ""


def given_up(deployment: Obj) -> bool:
    progressing = condition_of(deployment, "Progressing")
    return progressing.get("status") == "False" and progressing.get("reason") == "ProgressDeadlineExceeded"
