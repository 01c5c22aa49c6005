"""What `reconcile` hands to `derive`: how far it came, and what stood in its way."""

from dataclasses import dataclass

from auralink_operator.status.conditions import Problem

FAILURES_TO_REPORT = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What this reconcile came to: what is left to do, and what keeps it from being done."""

    config_generation: int = 0
    config_hash: str = ""
    selector: str = ""
    stalled: Problem | None = None
    failing: str = ""  # message of errors in a row, once there are FAILURES_TO_REPORT
    waiting: Problem | None = None
    unapplied: tuple[str, ...] = ()  # children that differ still: just written, or not to be while suspended
    exposure: Problem | None = None  # why some room's address is not known
    handled: str = ""  # the request (annotation reconcile.fluxcd.io/requestedAt) that this reconcile has carried out
    paused: bool = False  # the whole operator changes nothing
    template_seen: bool = False  # the Deployment's controller is known to have seen its pod template of now
