"""How long things may take in the life of a session, and when one comes after another."""

from typing import Final

from auralink_dataplane.media.frames import Frame
from auralink_dataplane.media.pipeline.decisions import Limits

PROBATION_ANSWERS: Final = 30
ANSWER_S: Final = 0.020
KEY_ANSWER_S: Final = 0.033
"""An answer within these counts in probation; they are also the AI Core's deadline, from the frame's completion on."""

OPEN_S: Final = 2.0
WAITING_FRAMES: Final = 8
"""So many wait for the session to open. A sender that starts with a burst would fill the packet core's 16 before the
session has answered at all."""
KEY_PATIENCE_S: Final = 10.0
KEY_REPEAT_S: Final = 1.0
FORCE_KEY_INTERVAL_S: Final = 0.5
FULL_REST_S: Final = 5.0
REOPEN_FIRST_S: Final = 1.0
REOPEN_MAX_S: Final = 60.0
SOUND_RUN_S: Final = 10.0
"""Compressing so long without failure forgets earlier ones."""


def patience_s(limits: Limits, *, key: bool) -> float:
    """How long an answer may take before the session counts as failed."""
    return limits.timeout_s * (2 if key else 1)


def deadline_ms(frame: Frame, now: float) -> int:
    """What is left of the time in which the answer is worth an encoder's work."""
    left_s = (KEY_ANSWER_S if frame.key else ANSWER_S) - (now - frame.t_complete)
    return max(1, round(left_s * 1000))


def prompt(answered_after_s: float, *, key: bool) -> bool:
    """Whether the answer counts in probation."""
    return answered_after_s <= (KEY_ANSWER_S if key else ANSWER_S)
