"""What one video stream does with each frame. Pure: `machine` decides, `decisions` are the words that it decides in.

`standby` is a second session beside the stream's own, `references` whose pictures receivers hold, `unanswered` what is
still owed; `times`, `retries` and `forced` say when. `streams` runs it.
"""

from auralink_dataplane.media.pipeline.decisions import Decision, Failure, Limits, Refusal, State, Takeover
from auralink_dataplane.media.pipeline.machine import Pipeline

__all__ = ["Decision", "Failure", "Limits", "Pipeline", "Refusal", "State", "Takeover"]
