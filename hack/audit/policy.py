"""What the API server is told to write down, for the real cluster and for the one that integration tests start."""

from typing import Any

# Bodies for these alone: whole objects in every line would fill the log. Who owns which field is half of each object.
BODIES_OF_STATUSES: dict[str, Any] = {
    "level": "RequestResponse",
    "verbs": ["patch", "update"],
    "resources": [{"group": "auralink.io", "resources": ["auralinkbridges/status", "roompolicies/status"]}],
    "omitManagedFields": True,
}

# Two files at most, so many megabytes each: a whole run of the tests writes a tenth of it.
MAX_MEGABYTES, MAX_BACKUPS = 64, 1


def policy(*silent: dict[str, Any]) -> dict[str, Any]:
    """A line per request, with bodies for statuses. `silent`: rules for what is left out."""
    rules = [BODIES_OF_STATUSES, *silent, {"level": "Metadata"}]
    return {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules}
