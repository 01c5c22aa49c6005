"""What one video stream does with each frame. Pure: `machine` decides, `decisions` are the words that it decides in,
`unanswered` is what it is still owed; `streams` runs it.
"""

from auralink_dataplane.media.pipeline.decisions import Decision, Failure, Limits, Refusal, State
from auralink_dataplane.media.pipeline.machine import Pipeline

__all__ = ["Decision", "Failure", "Limits", "Pipeline", "Refusal", "State"]
