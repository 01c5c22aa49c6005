"""What the two resources say about themselves: pure, from the model, what was observed and the time.

The rules are those that kstatus, Flux and Argo CD read resources by. `Ready` is always there; `Reconciling` (it comes
by itself) and `Stalled` (the user must act) are there only when true, never together, and then `Ready` is False with
the same reason. All conditions of one write carry one observedGeneration. Messages say what to do and hold no counters:
they would make every change of a number a write.

`conditions` holds what both kinds share; `bridge` and `policy` derive a status each, `invalid` that of a spec which
cannot be read. Of a bridge, `readiness` has the checks that decide Ready, `acked` and `exposed` those of ConfigAcked
and ExposureReady, `degraded` what is wrong while it serves, and `pods` what keeps its pods from starting.
"""

from auralink_operator.status.acked import ACK_PATIENCE_S
from auralink_operator.status.bridge import derive, next_look_s
from auralink_operator.status.conditions import Condition, Problem, Status, flips, named, same, settled, warns
from auralink_operator.status.degraded import DEGRADING
from auralink_operator.status.deployment import observed_by_its_controller
from auralink_operator.status.invalid import derive_invalid
from auralink_operator.status.outcome import FAILURES_TO_REPORT, Outcome
from auralink_operator.status.policy import MatchedBridge, derive_policy

__all__ = [
    "ACK_PATIENCE_S",
    "DEGRADING",
    "FAILURES_TO_REPORT",
    "Condition",
    "MatchedBridge",
    "Outcome",
    "Problem",
    "Status",
    "derive",
    "derive_invalid",
    "derive_policy",
    "flips",
    "named",
    "next_look_s",
    "observed_by_its_controller",
    "same",
    "settled",
    "warns",
]
